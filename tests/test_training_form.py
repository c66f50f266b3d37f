"""The form of the Training tab, as a browser drives it: its handlers called by gradio itself."""

import json

import gradio as gr
import pytest

from core import paths
from core.runs import runs
from core.training.config import TrainConfig
from tests.page_session import Session
from ui import training, training_approach
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
