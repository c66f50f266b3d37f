"""Runs on the page, handlers called directly: what is shown of a run, the queue, the table, again and vary."""

import inspect
import json
import sqlite3
import subprocess
import sys

import gradio as gr
import pytest

from core import events, jobs, paths
from core.runs import diagnosis, runs, store
from core.training.config import TrainConfig
from tests.conftest import raises
from tests.test_runs import write_steps
from ui import corpora, history, history_details, run_html, run_plots, run_queue, run_view
from ui.text import Say

SAY = Say("en")


@pytest.fixture
def config(tiny_corpus) -> TrainConfig:
    return TrainConfig(base_model="starter", corpus=tiny_corpus, max_steps=300)


def drawn(run_id: str | None, say: Say = SAY, **more) -> dict:
    return dict(zip(run_view.DRAWN, run_view.draw(say, run_id, **more), strict=True))


@pytest.mark.slow
def test_a_capsule_is_packed_where_torch_may_be_imported(trained_run):
    code = "import sys; from ui import history_details as h; from ui.text import Say; "
    code += "print(h.on_pack(Say('en'), sys.argv[1]).value['path']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, trained_run], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(f"{trained_run}.zip")
    assert jobs.listed(paths.exports()) == []


def test_a_run_is_drawn_over_its_whole_length(config, no_worker):
    run_id = runs.create(config)
    events.append(paths.run(run_id), "started", resumed_from=None)
    write_steps(run_id, 1, 300, of=300)
    events.append(paths.run(run_id), "eval", step=150, eval_loss=0.5)
    shown = drawn(run_id)
    raw, smoothed, evaluated, best = shown["loss"].data
    assert (raw.x[0], raw.x[-1], len(smoothed.x)) == (1, 300, 300)
    assert (list(evaluated.x), list(best.x), best.name) == ([150], [150], "best, step 150")
    assert [len(trace.x) for trace in shown["small"].data] == [0, 300, 0, 0]
    assert "The process ended unexpectedly" in shown["status"]


def test_plots_that_are_held_still_are_left_alone(config, no_worker):
    run_id = runs.create(config)
    assert drawn(run_id, live=False)["loss"] == gr.skip()


def test_nothing_is_drawn_of_a_run_that_is_gone():
    assert drawn("nobody")["loss"] is None


def test_where_there_is_no_run_no_table_and_no_plot_stands_empty(config, no_worker):
    def empty(run_id: str | None) -> list[bool]:
        return ["nothing-yet" in text for text in (history.on_load(SAY, None)[-1], drawn(run_id)["status"])]

    assert empty(None) == [True, True]
    assert empty(runs.create(config)) == [False, False]


def test_a_tick_sees_to_it_that_the_queue_is_worked_off(config, monkeypatch):
    started = []
    monkeypatch.setattr(runs, "start_worker", lambda: started.append(1))
    done, waits = runs.create(config, "done"), runs.create(config, "waits")
    events.append(paths.run(done), "finished", steps=3, max_steps=3, eval_loss=None)
    store.sync_all()
    assert (run_view.on_tick(SAY, done)[1], started) == (gr.skip(), [1])
    jobs.ask(paths.run(waits), "hold")
    assert (run_view.on_tick(SAY, done)[1].active, started) == (False, [1])


def test_what_was_asked_is_shown_until_and_after_it_took_effect(config, no_worker):
    run_id = runs.create(config)
    path = paths.run(run_id)
    events.append(path, "started", resumed_from=None)
    write_steps(run_id, 1, 1, of=300)
    jobs.ask(path, "pause")
    row = {**store.sync(run_id), "state": "pausing"}
    asked = run_html.clock(jobs.latest_request(path)["asked"])
    assert list(run_html.requests(SAY, row)) == [f"Pause: asked at {asked}; takes effect after the current step."]
    events.append(path, "request_seen", step=2, request="pause", requested_at=jobs.latest_request(path)["asked"])
    events.append(path, "paused", steps=2)
    row = store.sync(run_id)
    heard = run_html.clock(row["request_seen_at"])
    assert list(run_html.requests(SAY, row)) == [f"Pause: asked at {asked}, took effect at {heard} after step 2."]
    assert "Resume continues after step" in drawn(run_id)["status"]
    runs.resume(run_id)
    asked = run_html.clock(jobs.latest_request(path)["asked"])
    assert list(run_html.requests(SAY, store.sync(run_id))) == [
        f"Resume: asked at {asked}; takes effect when its turn comes."
    ]
    events.append(path, "started", resumed_from="checkpoint-2")
    row = {**store.sync(run_id), "state": "running"}
    began = run_html.clock(row["started_at"])
    assert list(run_html.requests(SAY, row)) == [f"Resume: asked at {asked}, took effect at {began}."]


def test_a_stop_before_the_first_step_says_when_it_took_effect(config, no_worker):
    run_id = runs.create(config)
    path = paths.run(run_id)
    events.append(path, "started", resumed_from=None)
    jobs.ask(path, "stop")
    events.append(path, "stopped", steps=0)
    row = store.sync(run_id)
    asked, ended = run_html.clock(jobs.latest_request(path)["asked"]), run_html.clock(row["ended_at"])
    assert list(run_html.requests(SAY, row)) == [f"Stop: asked at {asked}, took effect at {ended}."]


def test_a_failed_run_shows_its_cause_and_a_button_that_mends_it(config, no_worker):
    run_id = runs.create(config)
    values = {"value": "nan", "step": "7", "rows": "3", "good": "5", "suggestion": "2e-05"}
    events.append(paths.run(run_id), "failed", trouble="LossNotFinite", values=values, message="The loss became nan.")
    shown = drawn(run_id)
    assert shown["treat"].visible
    assert shown["remedy"].value == "What helps: **learning_rate → 2e-05**. The run starts again from step 0."
    assert "The loss became nan." in shown["status"]
    assert "Снизьте learning_rate до 2e-05" in drawn(run_id, Say("ru"))["status"]


@pytest.mark.parametrize(
    ("ended", "resumes", "goes_on"),
    [("finished", False, True), ("stopped", True, True), ("paused", True, False), ("failed", True, False)],
)
def test_a_run_is_resumed_or_a_new_one_continues_it(config, no_worker, ended, resumes, goes_on):
    run_id = runs.create(config)
    events.append(paths.run(run_id), "started", resumed_from=None)
    events.append(paths.run(run_id), ended, steps=3, max_steps=300, trouble="OutOfMemory", values={}, message="")
    assert drawn(run_id)["go_on"].visible is False  # there are no weights
    (paths.run(run_id) / "adapter").mkdir()
    opened = dict(zip(history_details.SHOWN, history_details.on_open(SAY, run_id), strict=True))
    for shown in (drawn(run_id), opened):
        assert (shown["resume"].visible, shown["go_on"].visible) == (resumes, goes_on)


def test_nothing_is_shown_of_a_run_that_was_deleted():
    shown = dict(zip(history_details.SHOWN, history_details.on_open(SAY, "gone"), strict=True))
    assert (shown["name"], shown["loss"], shown["box"].visible) == ("", None, False)


def test_a_failed_run_is_mended_from_the_table_too(config, no_worker):
    run_id = runs.create(config)
    values = {"value": "nan", "step": "7", "suggestion": "2e-05"}
    events.append(paths.run(run_id), "failed", trouble="LossNotFinite", values=values, message="The loss became nan.")
    shown = dict(zip(history_details.SHOWN, history_details.on_open(SAY, run_id), strict=True))
    assert (shown["resume"].visible, shown["treat"].visible) == (True, True)
    assert "What helps: **learning_rate → 2e-05**. The run starts again from step 0." in shown["facts"]
    history_details.on_button(SAY, diagnosis.treat, "diagnosis.treated", run_id)
    assert (runs.state(run_id), runs.config(run_id).learning_rate) == ("queued", config.learning_rate / 10)


def test_a_trouble_of_an_older_version_stays_in_english(config, no_worker):
    run_id = runs.create(config)
    events.append(paths.run(run_id), "failed", trouble="OutOfMemory", values={"step": "3"}, message="Memory ran out.")
    assert "Memory ran out." in drawn(run_id, Say("ru"))["status"]


def test_words_that_changed_are_marked():
    replies = ["the old <lamp> burns", "the new <lamp> burns"]
    samples = [{"step": step, "prompt": "Who?", "reply": reply} for step, reply in enumerate(replies)]
    shown = run_html.eval_samples(SAY, samples, [1])
    assert "<b>before training</b><p>the old &lt;lamp&gt; burns</p>" in shown
    assert "<b>step 1 · checkpoint</b><p>the <mark>new</mark> &lt;lamp&gt; burns</p>" in shown


SCRIPT = "<script>alert('1')</script>"


def test_what_a_model_or_a_person_wrote_is_no_markup(config, no_worker, monkeypatch):
    run_id, other = runs.create(config, SCRIPT), runs.create(TrainConfig(**{**vars(config), "seed": 2}), "other")
    for step, reply in enumerate((SCRIPT, f"so: {SCRIPT}"), 1):
        events.append(paths.run(run_id), "samples", step=step, samples=[{"prompt": SCRIPT, "reply": reply}])
    events.append(paths.run(run_id), "failed", trouble="Unknown", values=None, message=SCRIPT)
    drawn_run, opened = drawn(run_id), history_details.on_open(SAY, run_id)
    shown = [drawn_run["status"], drawn_run["samples"], opened[history_details.SHOWN.index("samples")]]
    shown.append(history.on_compare(SAY, [run_id, other], False)[1])
    assert [text.count("&lt;script&gt;") for text in shown] == [1, 3, 3, 2]  # the table has the name as a tooltip too
    assert [text for text in shown if "<script" in text] == []
    markdown = [opened[history_details.SHOWN.index("facts")], history_details.on_delete(SAY, run_id)[1]]
    assert [text.count(r"\<script\>") for text in markdown] == [1, 1]
    notices = []
    monkeypatch.setattr(gr, "Info", notices.append)
    history_details.on_again(SAY, run_id)
    history_details.on_delete_yes(SAY, run_id)
    assert [notice.count("&lt;script&gt;") for notice in notices] == [1, 1]
    with pytest.raises(gr.Error, match="&lt;b&gt;"):
        history_details.on_again(SAY, other, "packing", "<b>")


@pytest.mark.parametrize("delete", [history_details.on_delete_yes, corpora.on_delete_yes])
def test_yes_deletes_what_was_asked_about(english_page, delete):
    """Whatever is chosen by then: the question's own entry goes to the handler, not the list's."""
    inner = inspect.unwrap(delete)
    taken = [
        [type(part) for part in one.inputs]
        for one in english_page.fns.values()
        if inspect.unwrap(getattr(one.fn, "func", one.fn)) is inner
    ]
    assert taken == [[gr.State]]


def test_prompts_that_are_typed_and_not_kept_stay_when_another_run_is_shown(home):
    kept = run_view.kept_prompts()
    assert run_view.on_other_run(kept, kept) == (kept, kept)
    typed, now = run_view.on_other_run("Where is the lamp?", kept)
    assert (typed, now) == (gr.skip(), kept)
    assert run_view.on_prompts(SAY, "Where is the lamp?") == ("Where is the lamp?",) * 2
    assert run_view.on_other_run(kept, kept) == ("Where is the lamp?",) * 2


def test_the_queue_shows_who_waits_in_which_order(config, no_worker):
    one, two = (runs.start(TrainConfig(**{**vars(config), "seed": seed}), f"run <{seed}>") for seed in (1, 2))
    box, listed, chosen, *_ = run_queue.on_look(SAY, two)
    assert (box.visible, chosen.value, [id for _, id in chosen.choices]) == (True, two, [one, two])
    assert "<li>run &lt;1&gt; <span>queued</span></li><li>run &lt;2&gt; <span>queued</span></li>" in listed
    run_queue.on_command(SAY, runs.stop, "cancel", one)
    assert [id for _, id in run_queue.on_look(SAY, None)[2].choices] == [two]


def test_a_waiting_run_has_only_the_buttons_that_do_something(config, no_worker):
    one, two = (runs.create(config, name) for name in ("one", "two"))
    jobs.ask(paths.run(two), "hold")

    def live(run_id):
        up, down, hold, let_go = run_queue.on_look(SAY, run_id)[4:]
        return up.interactive, down.interactive, hold.visible, let_go.visible

    assert live(one) == (False, True, True, False)
    assert live(two) == (True, False, False, True)


def test_runs_are_found_by_words_and_tags(config, no_worker):
    one, two = runs.create(config, "Poems 1"), runs.create(config, "letters 2")
    store.rename(two, "letters 2", "", ["sea"])

    def found(search):
        return [row[-1] for row in history.on_load(SAY, None, search)[0].value["data"]]

    assert found("") == [two, one] or found("") == [one, two]
    assert (found("poem"), found("SEA let"), found("nothing")) == ([one], [two], [])
    assert (found("letters 1"), found("Letters 2"), found(one)) == ([], [two], [one])  # "1" is part of every id


def test_a_run_is_queued_again_with_one_thing_changed(config, no_worker):
    run_id = runs.create(config, "poems")
    varied = history_details.again(run_id, "learning_rate", " 0,0001 ")
    before, after = vars(config), vars(runs.config(varied))
    assert {name: value for name, value in after.items() if value != before[name]} == {"learning_rate": 0.0001}
    assert runs.label(varied)["name"] == "poems · learning_rate 0,0001"
    with raises("NoSuchValue", match="packing cannot be perhaps"):
        history_details.again(run_id, "packing", "perhaps")


def test_the_chosen_run_is_shown_in_full(trained_run):
    shown = dict(zip(history_details.SHOWN, history_details.on_open(SAY, trained_run), strict=True))
    assert json.loads(shown["config"])["max_steps"] == 6
    assert shown["value"] == "0.01"
    assert "checkpoint 6" in shown["facts"]
    assert "Kept: the 2 newest checkpoints and the one with the lowest held-out loss." in shown["facts"]
    assert "Step on the longest rows: " in shown["facts"]


def test_two_runs_side_by_side(config, no_worker):
    pair = [runs.create(TrainConfig(**{**vars(config), "seed": seed}), f"run {seed}") for seed in (1, 2)]
    plot, table = history.on_compare(SAY, pair, False)
    assert plot.visible
    assert "<tr><th>seed</th><td>1</td><td>2</td></tr>" in table
    assert history.on_compare(SAY, pair[:1], False)[0].visible is False


def test_the_database_opens_read_only_for_others(config, no_worker):
    run_id = runs.create(config)
    write_steps(run_id, 1, 3, of=3)
    store.sync(run_id)
    other = sqlite3.connect(f"{paths.database().as_uri()}?mode=ro", uri=True)
    assert other.execute("select count(*) from steps").fetchone() == (3,)
    other.close()


def test_a_name_is_short_and_of_one_run_alone(config, no_worker):
    first, second, long = runs.create(config, "sea"), runs.create(config, " sea "), runs.create(config, "x" * 500)
    assert [runs.label(one)["name"] for one in (first, second)] == ["sea", "sea 2"]
    assert runs.label(long)["name"] == "x" * runs.LONGEST_NAME
    runs.rename(second, "sea", "")
    assert runs.label(second)["name"] == "sea 2"
    runs.rename(first, "sea", "kept")
    assert runs.label(first)["name"] == "sea"
    runs.rename(second, "x" * 500, "")
    assert runs.label(second)["name"] == "x" * (runs.LONGEST_NAME - 2) + " 2"


def test_the_table_has_the_columns_that_were_chosen_in_its_own_order(config, no_worker):
    run_id = runs.create(config, "<i>sea</i>")
    events.append(paths.run(run_id), "started", resumed_from=None)
    write_steps(run_id, 1, 300, of=300)
    table, *_ = history.on_load(SAY, None, "", ["tags", "curve", "state"])
    assert table.headers == [SAY(f"runs.{name}") for name in ("name", "state", "curve", "tags", "id")]
    assert table.datatype == ["str", "str", "html", "str", "str"]  # a name is no markup
    ((name, _, curve, _, last),) = table.value["data"]
    assert (name, last) == ("<i>sea</i>", run_id)
    assert curve.count("<svg") == 1
    assert len(store.sparks()[run_id]) == store.SPARK_POINTS


def test_runs_side_by_side_have_short_names_in_the_legend(config, no_worker):
    long = [
        runs.create(TrainConfig(**{**vars(config), "seed": seed}), "a long name " * 5 + str(seed)) for seed in (1, 2)
    ]
    for run_id in long:
        write_steps(run_id, 1, 9, of=9)
        events.append(paths.run(run_id), "eval", step=9, eval_loss=0.5)
    plot, table = history.on_compare(SAY, long, False)
    shown = [trace["name"] for trace in json.loads(plot.value["plot"])["data"] if trace.get("showlegend", True)]
    assert len(shown) == len(set(shown)) == 2
    assert max(map(len, shown)) <= run_plots.LEGEND
    assert table.index("seed") < table.index(SAY("compare.lines"))
