"""The page as a whole: help beside every setting, one primary button a tab, the opening screen and its demo."""

import re

import gradio as gr
import pytest

import app
from core import demo, events, jobs, paths
from core.runs import runs
from core.training.config import TrainConfig
from tests.page_session import Session
from ui import opening, opening_demo, opening_road, playground_talk
from ui.text import Say

INPUTS = ("textbox", "number", "slider", "dropdown", "radio", "checkbox", "checkboxgroup", "file")
# Lists of what is there, and fields whose label leaves no question: every other one carries a sentence of help.
PLAIN = {
    "Question column", "Column with the answer, the turns or the text", "Page", "Your corpora",
    "Name of the cleaned corpus", "Name of the corpus", "Tokens", "Your own recipe (YAML)", "Jobs", "Run shown",
    "Waiting run", "First", "Second", "Name of the set", "Run", "Name", "Note",
    "New value", "Log scale", "Export", "Format", "Approach", "Method", "Or a file of personas", "Name of the profile", "Groups of settings", "Columns", "Imported adapters",
}  # fmt: skip
PLAIN_BEGINNINGS = ("Files of any kind", "Repair turns (", "Replace personal data (", "Who replies: ")
MOST_CONTROLS = 16
OURS = ("opening", "calculator", "corpus", "synth", "training", "playground", "runs", "export", "share")


def tabs(config: dict) -> dict[str, list[dict]]:
    """The components of every tab by the tab's id; what is folded away, or in a tab of its own inside, is not counted."""
    kinds = {component["id"]: component for component in config["components"]}

    def below(node: dict) -> list[dict]:
        kind = kinds.get(node["id"], {"type": ""})
        shut = kind["type"] in ("accordion", "tabs") or kind.get("props", {}).get("visible") is False
        inside = [] if shut else node.get("children") or []
        if kind["type"] == "walkthrough":  # one step is in sight
            inside = [child for child in inside if kinds[child["id"]]["props"]["id"] == kind["props"]["selected"]]
        return [kind, *[found for child in inside for found in below(child)]]

    every = [node for node in below_all(config["layout"]) if node["id"] in kinds]
    named = {kinds[node["id"]]["props"].get("id"): node for node in every if kinds[node["id"]]["type"] == "tabitem"}
    return {tab: below(node) for tab, node in named.items() if tab in OURS}


def below_all(node: dict) -> list[dict]:
    return [node, *[found for child in node.get("children") or [] for found in below_all(child)]]


def test_every_input_says_what_it_is(page_config):
    nameless = [
        component["id"]
        for component in page_config["en"]["components"]
        if component["type"] in INPUTS and component["props"].get("visible") is True
        if component["props"].get("interactive") is not False
        if not (component["props"].get("label") or component["props"].get("placeholder"))
    ]
    assert nameless == []


def test_every_setting_carries_a_sentence_of_help_or_a_plain_label(page_config):
    bare = {
        component["props"].get("label") or ""
        for component in page_config["en"]["components"]
        if component["type"] in INPUTS and component["props"].get("visible") is True
        if component["props"].get("interactive") is not False
        if not (component["props"].get("info") or component["props"].get("placeholder"))
    }
    assert {label for label in bare - PLAIN if not label.startswith(PLAIN_BEGINNINGS)} == set()


def test_a_window_that_is_open_for_long_takes_no_more_memory(english_page):
    page = english_page
    window = Session(page)
    window.open()
    held = window.state.blocks_config.blocks
    before = len(held)
    for _ in range(3):
        for tab in app.TABS:
            window.select(tab)
        window.tick()
    assert (len(held), len(window.state.config_values)) == (before, before) == (len(page.blocks), len(page.blocks))


def test_no_choice_is_dropped_while_the_one_before_it_is_answered(page_config):
    dropped = [
        listener["api_name"]
        for listener in page_config["en"]["dependencies"]
        if listener["trigger_mode"] == "once" and {event for _, event in listener["targets"]} & {"input", "select"}
    ]
    assert dropped == []


def test_what_a_click_has_made_is_cleared_in_the_browser_alone(page_config):
    """The answer to a choice may come after that to the click behind it, and take away what was asked for."""
    parts = {part["id"]: (part["type"], part["props"].get("elem_id")) for part in page_config["en"]["components"]}
    listeners = {one["id"]: one for one in page_config["en"]["dependencies"]}

    def begins(one: dict) -> list:
        return one["targets"] if one["trigger_after"] is None else begins(listeners[one["trigger_after"]])

    made = {id for id, (kind, name) in parts.items() if kind == "file" or name == "verdict-en"}
    late = [
        (parts[source], parts[id])
        for one in listeners.values()
        for source, event in begins(one)
        for id in made & set(one["outputs"])
        if one["backend_fn"] and event == "change" and parts[source][0] == "dropdown"
    ]
    assert (len(made) > 1, late) == (True, [])


def test_a_tab_shows_one_primary_button(page_config):
    primary = {
        tab: [
            part["props"]["value"]
            for part in parts
            if part["type"] == "button" and part["props"]["variant"] == "primary"
            if part["props"]["visible"] is not False
        ]
        for tab, parts in tabs(page_config["en"]).items()
    }
    assert {tab: found for tab, found in primary.items() if len(found) > 1} == {}


def test_at_most_sixteen_controls_are_in_sight_on_opening(page_config):
    """A group of choices is one control; what opens is one as well, and what stands in it none."""
    kinds = (*INPUTS, "button", "accordion", "multimodaltextbox", "uploadbutton", "downloadbutton")
    counted = {
        tab: [
            part["props"].get("label") or part["props"].get("value")
            for part in parts
            if part["type"] in kinds and part["props"].get("visible") is True
        ]
        for tab, parts in tabs(page_config["en"]).items()
    }
    assert {tab: (len(found), found) for tab, found in counted.items() if len(found) > MOST_CONTROLS} == {}


def test_an_event_without_progress_is_followed_by_no_component_but_a_chatbot_that_is_filled(page_config):
    kinds = {one["id"]: one["type"] for one in page_config["en"]["components"]}
    quiet = [event for event in page_config["en"]["dependencies"] if event["show_progress"] == "hidden"]
    assert {kinds[id] for event in quiet for id in event["show_progress_on"]} == {"chatbot"}


def test_the_tabs_stand_in_the_order_of_the_work(page_config):
    assert tuple(tabs(page_config["ru"])) == OURS


def test_the_exact_config_says_what_is_missing_until_a_corpus_is_chosen(page_config):
    shown = [part["props"].get("value") for part in page_config["en"]["components"] if part["type"] == "code"]
    assert "No corpus is chosen. Make one on the Corpus tab, or choose one from the list." in shown


def test_an_empty_house_says_what_to_do_first(home):
    road = opening.on_load(Say("en"))[0]
    assert Say("en")("opening.empty") in road
    assert re.findall(r'class="step (\w+)" href="#(\w+)"', road) == [
        ("next", "corpus"),
        ("later", "training"),
        ("later", "playground"),
        ("later", "export"),
    ]
    assert 'href="#calculator"' in road


def test_the_road_says_how_far_a_training_is(home, tiny_corpus, no_worker):
    run_id = runs.create(TrainConfig(base_model="starter", corpus=tiny_corpus), "<b>one</b>")
    with jobs.lock(paths.run(run_id)):
        events.append(paths.run(run_id), "started")
        events.append(paths.run(run_id), "step", step=4, max_steps=10, loss=2.0, tokens=9, seconds_left=90)
        road = opening_road.draw(Say("en"))
    assert Say("en")("opening.step.training", percent=40, left=Say("en").duration(90)) in road
    assert f'class="step now" href="#training/{run_id}"' in road
    assert f'class="button primary" href="#training/{run_id}"' in road
    assert "<b>one" not in road


def test_the_road_shows_the_run_at_work_and_no_time_before_there_is_a_rate(home, tiny_corpus, no_worker):
    first, second = (runs.create(TrainConfig(base_model="starter", corpus=tiny_corpus), name) for name in ("a", "b"))
    say, step = Say("en"), '<b><span aria-hidden="true">◐</span> Training</b>\n<small>{}</small>'
    assert step.format(say("state.queued")) in opening_road.draw(say)
    with jobs.lock(paths.run(first)):
        events.append(paths.run(first), "started")
        road = opening_road.draw(say)
    assert step.format(say("state.running")) in road
    assert f'class="button primary" href="#training/{first}"' in road
    assert second in road  # among the latest


def test_there_is_nobody_to_talk_to_where_a_run_left_no_weights(home, tiny_corpus, no_worker):
    run_id = runs.create(TrainConfig(base_model="starter", corpus=tiny_corpus))
    events.append(paths.run(run_id), "started")
    events.append(paths.run(run_id), "finished", steps=3, max_steps=3)
    assert 'class="step later" href="#playground"' in opening_road.draw(Say("en"))
    (paths.run(run_id) / "adapter").mkdir()
    assert 'class="step done" href="#playground"' in opening_road.draw(Say("en"))


def test_the_road_names_the_remedy_of_a_run_that_failed(home, tiny_corpus, no_worker):
    run_id = runs.create(TrainConfig(base_model="starter", corpus=tiny_corpus))
    events.append(paths.run(run_id), "started")
    events.append(paths.run(run_id), "failed", trouble="", values={}, message="it broke")
    road = opening_road.draw(Say("ru"))
    assert "it broke" in road
    assert f'href="#training/{run_id}"' in road


def test_the_playground_says_that_nobody_is_there_until_somebody_is(home, trained, monkeypatch):
    def notice(*chosen):
        return playground_talk.on_load(Say("en"), None, *chosen)[4]

    nobody = (None,) * 4
    assert notice(*nobody) == Say("en")("playground.empty")
    monkeypatch.setenv("SOULSMITH_HOME", str(trained[0]))
    assert notice(*nobody) == ""
    assert notice(f"run:{trained[1]}", None, None, None) == gr.skip()


def test_a_house_with_a_run_says_what_it_learned_and_what_comes_next(trained_run):
    say, (road, timer, tour, *_) = Say("ru"), opening.on_load(Say("ru"))
    assert say("opening.step.trained", count=1) in road
    assert say("learned.title") in road
    assert 'class="step done" href="#playground"' in road
    assert f'class="button primary" href="#playground/run:{trained_run}"' in road
    assert (timer.active, tour.open) == (False, False)


STEP = {"step": 12, "max_steps": 48, "loss": 3.0, "tokens_per_second": 216.4, "seconds_left": 90.0}
DOWNLOAD = {"stage": "model", "done": 12.3e6, "total": 93e6}


@pytest.fixture
def demo_job(tmp_path, monkeypatch):
    """A demo's directory with these events, and whoever asks for its state is told that it is at work."""
    monkeypatch.setenv("SOULSMITH_HOME", str(tmp_path))

    def write(*happened, alive=True):
        job = jobs.create(paths.demos(), {"name": "demo"})
        for name, values in happened:
            events.append(job, name, **values)
        monkeypatch.setattr(jobs, "is_alive", lambda directory: alive and directory == job)
        return job

    return write


@pytest.mark.parametrize(
    ("happened", "stage", "done", "total", "unit"),
    [
        ([], 0, 0, 0, ""),
        ([("stage", DOWNLOAD)], 0, 12, 93, "MB"),
        ([("stage", DOWNLOAD), ("stage", {"stage": "corpus"})], 1, 0, 0, ""),
        ([("stage", {"stage": "training"})], 2, 0, 0, ""),
        ([("stage", {"stage": "training"}), ("step", STEP)], 2, 12, 48, "steps"),
        ([("step", STEP), ("stage", {"stage": "chat"})], 3, 0, 0, ""),
    ],
)
def test_the_demo_tells_how_far_it_is(demo_job, happened, stage, done, total, unit):
    demo_job(*happened)
    now = opening_demo.progress()
    assert (now.state, now.stage, now.done, now.total, now.unit) == ("going", stage, done, total, unit)


def test_the_demo_s_steps_are_shown_with_the_time_left(demo_job):
    demo_job(("stage", {"stage": "training"}), ("step", STEP))
    shown = opening.panel(Say("ru"), opening_demo.progress())
    assert "12 / 48 шагов, токенов в секунду: 216, осталось примерно 1\u00a0мин 30\u00a0с" in shown
    assert shown.count('class="done"') == 2


def test_a_demo_that_failed_says_why_in_the_page_s_language(demo_job):
    demo_job(
        ("failed", {"trouble": "StarterUnreachable", "values": {"reason": "x"}, "message": "english"}), alive=False
    )
    assert "Не удалось скачать стартовую модель: x." in opening.panel(Say("ru"), opening_demo.progress())


def test_a_demo_that_was_killed_says_so_and_one_that_was_stopped_is_as_if_never_started(demo_job):
    job = demo_job(("started", {}), ("stage", {"stage": "training"}), alive=False)
    assert "The demo stopped: lost" in opening.panel(Say("en"), opening_demo.progress())
    events.append(job, "stopped")
    assert opening_demo.progress() == opening_demo.Progress()
    assert opening.panel(Say("en"), opening_demo.progress()) == ""


def test_a_demo_that_is_stopped_takes_its_run_with_it(demo_job, monkeypatch):
    stopped = []
    job = demo_job(("started", {}))
    for name, value in (("start", lambda *_: "run-1"), ("stop", stopped.append)):
        monkeypatch.setattr(demo.runs, name, value)
    for name in ("prepare", "suggested"):
        monkeypatch.setattr(demo.models, name, lambda *_: {})
    monkeypatch.setattr(demo, "sample_corpus", lambda: "corpus")
    opening_demo.stop()
    assert jobs.record(job, lambda: demo.work(job, {}, lambda *_, **__: None)) == "stopped"
    assert stopped == ["run-1"]


def test_what_the_models_said_is_shown_as_text():
    result = {
        "base_eval_loss": 3.1,
        "tuned_eval_loss": 2.04,
        "prompt": "Why?",
        "base_reply": "<b>",
        "tuned_reply": "Lamp.",
    }
    now = opening_demo.Progress("done", last=result)
    shown = opening.panel(Say("en"), now)
    assert "Held-out loss: 3.1 before, 2.04 after" in shown
    assert "&lt;b&gt;" in shown
