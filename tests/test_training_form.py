"""The form of the Training tab, as a browser drives it: its handlers called by gradio itself."""

import json

import gradio as gr
import pytest

from core import paths
from tests.page_session import Session
from ui import training, training_approach
from ui.text import Say

SAY = Say("en")


@pytest.fixture(scope="module")
def page():
    with gr.Blocks(analytics_enabled=False) as page, gr.Tab(id="training"):
        part = training.build(SAY)
        page.load(part["load"], part["inputs"], part["outputs"])
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
