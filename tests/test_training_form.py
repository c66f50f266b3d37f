"""The form of the Training tab, as a browser drives it: its handlers called by gradio itself."""

import json
from dataclasses import asdict, fields

import gradio as gr
import pytest

from core import paths
from core.runs import runs
from core.training.config import TrainConfig
from tests.page_session import Session
from tests.test_pages import INPUTS, tabs
from ui import training, training_approach, training_form
from ui.text import Say

SAY = Say("en")


@pytest.fixture(scope="module")
def page():
    with gr.Blocks(analytics_enabled=False) as page, gr.Tab(id="training"):
        part = training.build(SAY)
        page.load(part["load"], part["inputs"], part["outputs"])
        on_go_on, outputs = part["go_on"]
        gr.Button("go on").click(on_go_on, part["pick"], outputs)
    return page


@pytest.fixture
def window(page) -> Session:
    return Session(page)


def value(window: Session, field: str):
    """What stands in a field of the form."""
    return next(part["value"] for part in window.parts.values() if part.get("label") == SAY(f"training.{field}"))


def restored(window: Session, draft) -> None:
    """The draft that a browser has kept is asked for."""
    text = draft if isinstance(draft, str) else json.dumps(draft)
    window.parts[window.find("textbox", elem_id="draft-kept")]["value"] = text
    window.fire(window.find("button", elem_id="draft-restore"), "click")
    assert window.refused == []


def made(kind: str, name: str = "c") -> str:
    (paths.corpora() / name).mkdir()
    (paths.corpora() / name / "card.json").write_text(json.dumps({"name": name, "kind": kind}), encoding="utf-8")
    return name


@pytest.mark.parametrize(
    ("kind", "field", "value", "approach"),
    [("chat", "method", "full", "full"), ("preference", "task", "preference", "preference")],
)
def test_the_approach_follows_the_method_and_the_task(window, kind, field, value, approach):
    fields = {"task": window.find("dropdown", "training", label=SAY("training.task"))}
    fields["method"] = window.find("radio", "training", label=SAY("training.method"))
    made(kind)
    window.open()
    window.put(fields[field], value)
    chosen = window.parts[window.find("radio", "training", label=SAY("approach"))]
    assert (window.refused, chosen["value"]) == ([], approach)
    assert approach in [name for _, name in chosen["choices"]]
    assert SAY(f"approach.{approach}.about") in window.texts()
    shown = {
        window.parts[id]["label"]: window.parts[id]["visible"]
        for id in [*window.ids("dropdown"), *window.ids("number")]
    }
    labels = [SAY(f"training.{name}") for name in training_approach.OF_PREFERENCES]
    assert [shown[label] for label in labels] == [kind == "preference"] * 5


def test_what_a_run_that_goes_on_has_lost_is_said_and_left_empty(window, monkeypatch):
    warned = []
    monkeypatch.setattr(gr, "Warning", lambda words, **_: warned.append(words))
    made("chat", "kept")
    run_id = runs.create(TrainConfig("/gone/model", "gone", mix=(("kept", 0.25), ("lost", 0.1)), lora_rank=4))
    (paths.run(run_id) / "adapter").mkdir()
    window.open()
    window.click("go on")
    values = {part.get("label"): part.get("value") for part in window.parts.values()}
    shown = [values[SAY(f"training.{name}")] for name in ("base_model", "corpus", "mix", "mix.shares")]
    assert (window.refused, shown) == ([], [None, None, ["kept"], "25"])
    assert values[SAY("training.lora_rank")] == 4
    assert warned == [
        SAY("training.gone.corpus", names="“gone”, “lost”"),
        SAY("training.gone.model", name="/gone/model"),
    ]
    window.put(window.find("dropdown", label=SAY("training.task")), "text")  # nothing on the form is refused after it
    assert window.refused == []


def test_a_share_is_read_from_the_form_as_it_stands(window):
    made("chat", "first")
    made("chat", "second")
    window.open()
    window.put(window.find("dropdown", label=SAY("training.corpus")), "first")
    window.put(window.find("dropdown", label=SAY("training.mix")), ["second"])
    window.put(window.find("textbox", label=SAY("training.mix.shares")), "25")
    window.expand()
    config = json.loads(window.parts[window.find("code")]["value"])
    assert (config["corpus"], config["mix"]) == ("first", [["second", 0.25]])


def test_every_setting_stands_in_one_group_or_is_always_in_sight():
    placed = [name for names in training_form.GROUPS.values() for name in names]
    placed += [*training_form.ALWAYS_SEEN, *training_approach.OF_PREFERENCES]
    assert sorted(placed) == sorted([*(field.name for field in fields(TrainConfig)), "name"])


def test_at_most_sixteen_controls_are_in_sight_on_opening(page):
    parts = tabs(page.get_config_file())["training"]
    counted = [part for part in parts if part["type"] in (*INPUTS, "button", "accordion")]
    hidden = (SAY("training.discard"), "go on")  # by its style until something differs; of this test
    shown = [part for part in counted if part["props"].get("visible") is True]
    shown = [part for part in shown if part["props"].get("value") not in hidden]
    assert len(shown) + 4 <= 16  # and the four buttons of a run that trains


def test_what_was_left_in_the_form_is_there_again(window):
    made("text", "poems")
    made("chat", "newest")
    window.open()
    draft = {"corpus": "poems", "base_model": "Qwen/Qwen2.5-7B", "method": "lora", "task": "text", "packing": False}
    draft |= {"lora_rank": 64, "eval_samples": True, "name": "проба", "mix": ["newest", "gone"], "shares": "30"}
    restored(window, draft)
    shares = {"mix": ["newest"], "mix.shares": draft.pop("shares"), "learning_rate": 0.0002}
    expected = draft | shares
    assert {field: value(window, field) for field in expected} == expected
    assert window.parts[window.find("radio", label=SAY("approach"))]["value"] == "text"


@pytest.mark.parametrize("draft", ["", "{", "[1]", "null", '"x"', "7", "{" * 200_000])
def test_a_damaged_draft_leaves_the_form_as_it_is(window, draft):
    before = {id: part.get("value") for id, part in window.parts.items()}
    restored(window, draft)
    kept = window.find("textbox", elem_id="draft-kept")
    assert {id: part.get("value") for id, part in window.parts.items() if id != kept} == {
        id: known for id, known in before.items() if id != kept
    }


def test_an_older_draft_keeps_what_still_means_something():
    made("chat", "c")
    draft = {"film_strip": True, "gone_setting": 1, "lora_rank": "many", "batch_size": True, "learning_rate": 5}
    draft |= {"optim": "lion", "lora_alpha": 8, "warmup_ratio": float("nan"), "corpus": "gone", "start": "run:gone"}
    draft |= {"base_model": "/gone", "task": "text", "method": "lora", "mix": 7, "precision": "fp8", "seed": 11}
    assert training_form.read_draft(json.dumps(draft), "c") == {
        "eval_samples": True,
        "lora_alpha": 8,
        "seed": 11,
        "corpus": "c",
        "base_model": "starter",
        "method": "qlora",
        "task": "chat",
    }


def test_a_draft_whose_model_was_gone_keeps_its_settings():
    kept = training_form.read_draft('{"base_model": null, "lora_rank": 32}', None)
    assert (kept["base_model"], kept["lora_rank"]) == ("starter", 32)


def test_defaults_follow_the_method_where_nothing_else_was_chosen(window):
    window.open()
    model, method = (
        window.find("dropdown", label=SAY("training.base_model")),
        window.find("radio", label=SAY("approach")),
    )
    window.put(model, "Qwen/Qwen2.5-7B")
    assert value(window, "learning_rate") == 0.0002
    window.put(method, "full")
    assert value(window, "learning_rate") == pytest.approx(0.00002)
    window.put(window.find("number", label=SAY("training.learning_rate")), 0.0005)
    window.put(method, "lora")
    assert value(window, "learning_rate") == 0.0005


def test_the_settings_of_preferences_have_a_default_for_preferences_alone():
    of = {task: training_form.usual("starter", "lora", None, None, task) for task in ("chat", "text", "preference")}
    assert {name for name in of["preference"] if name not in of["chat"]} == set(training_approach.OF_PREFERENCES)
    assert [known["packing"] for known in of.values()] == [False, True, False]
    assert of["chat"].keys() <= asdict(TrainConfig("", "")).keys() | {"shares"}


def test_a_plan_of_the_calculator_brings_its_defaults_along():
    plan = {"base_model": "Qwen/Qwen2.5-7B", "method": "full", "lora_rank": 8}
    model, rank, epochs, usual = training.on_plan(["base_model", "lora_rank", "epochs"], plan, None, None)
    assert (model, rank, epochs) == ("Qwen/Qwen2.5-7B", 8, gr.skip())
    assert json.loads(usual)["learning_rate"] == pytest.approx(0.00002)
    assert training.on_plan(["base_model"], {}, None, None) == [gr.skip()] * 2
