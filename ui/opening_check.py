"""The check of this machine on the opening screen: a background job, its results as they come, and a copy for a report."""

import json
from functools import partial
from pathlib import Path

import gradio as gr
from markupsafe import Markup

from core import events, jobs
from core.check_card import jobs as checks
from core.check_card import results
from core.errors import UserError
from core.hardware import hardware
from ui.errors import Refused
from ui.templates import render
from ui.text import Say

TICK_SECONDS = 2
ACTIVE = ("queued", "running", "stopping")
# The clipboard is there on 127.0.0.1 and behind https; elsewhere the text is selected, to be copied by hand.
COPY = """() => {
  const box = document.querySelector('.check-report pre');
  if (!box) return;
  box.closest('details').open = true;
  getSelection().selectAllChildren(box);
  if (navigator.clipboard) navigator.clipboard.writeText(box.textContent);
}"""


def build(say: Say) -> list:
    """The part; returns the components that shown() fills."""
    with gr.Column(elem_classes=["way", "check"]):
        gr.Markdown(f"### {say('check.title')}\n\n{say('check.about')}")
        with gr.Row():
            start = gr.Button(say("check.go.computer"), variant="secondary", scale=0, min_width=260)
            stop = gr.Button(say("check.stop"), visible=False, scale=0, min_width=160)
            copy = gr.Button(say("check.copy"), visible=False, scale=0, min_width=260)
        panel = gr.HTML(elem_id=f"check-{say.lang}")
    probe, timer = gr.State(""), gr.Timer(TICK_SECONDS, active=False)
    drawn = [panel, start, stop, copy, timer, probe]
    quiet = {"show_progress": "hidden"}
    start.click(partial(on_start, say), None, drawn, **quiet)
    stop.click(partial(on_stop, say), None, drawn, **quiet)
    timer.tick(partial(on_tick, say), probe, drawn, **quiet)
    copy.click(None, None, None, js=COPY)
    return drawn


def on_start(say: Say) -> list:
    try:
        checks.start()
    except UserError as error:
        raise Refused(say.trouble(error)) from error
    return shown(say)


def on_stop(say: Say) -> list:
    if directory := checks.latest():
        jobs.ask(directory, "stop")
    return shown(say)


def on_tick(say: Say, probe: str) -> list:
    """Redraw only when the check went on."""
    return [gr.skip()] * 6 if look(checks.latest()) == probe else shown(say)


def shown(say: Say) -> list:
    """Panel, buttons, timer, and what the page looks at to see a change, as the newest check stands now."""
    directory = checks.latest()
    state = jobs.state(directory) if directory else "none"
    active = state in ACTIVE
    return [
        panel(say, directory, state),
        gr.Button(value=say("check.go.card" if hardware.gpus() else "check.go.computer"), visible=not active),
        gr.Button(visible=active, interactive=state == "running"),
        gr.Button(visible=state == "finished"),
        gr.Timer(active=active),
        look(directory),
    ]


def look(directory: Path | None) -> str:
    """What is cheap to ask of a check, as text."""
    return json.dumps([directory.name, jobs.state(directory), events.size(directory)]) if directory else ""


def panel(say: Say, directory: Path | None, state: str) -> str:
    """The verdict, the table, and the object for a report; while it runs, what is there so far."""
    if directory is None:
        return f"<p>{say('check.none')}</p>"
    found, now = checks.results(directory)
    last, report = events.last(directory) or {}, ""
    if state in ACTIVE:
        words = say("check.doing", name=_word(say, "name", now)) if now else say("check.beginning")
    elif state == "finished":
        result, report = last["result"], json.dumps(last["result"], ensure_ascii=False)
        # Of a check that left something out and found nothing broken, that it did.
        whole = result["state"] == "broken" or results.is_whole(result["checks"])
        device = _word(say, "word", "cpu") if result["device"] == "cpu" else result["device"]
        words = say(f"check.verdict.{result['state'] if whole else 'incomplete'}", device=device)
    else:
        words = say(f"check.ended.{state}")
        if state == "failed":
            words += " " + say.worded(last["trouble"], last["values"], last["message"])
    rows = [
        check
        | {"name": _word(say, "name", check["name"]), "advice": _advice(say, check["advice"])}
        | {"value": figures(say, check["value"]), "expected": figures(say, check["expected"], "expected")}
        for check in found
    ]
    parts = {"words": words, "checks": rows, "state": state, "active": state in ACTIVE, "report": report}
    return render(say, "opening_check", **parts)


def _advice(say: Say, advice: dict | None) -> str:
    """What to do, with its command set off."""
    if not advice:
        return ""
    words = say.worded(advice["trouble"], advice["values"], advice["message"])
    command = (advice["values"] or {}).get("command", "")
    return Markup("<code>{}</code>").format(command).join(words.split(command)) if command else words


def _word(say: Say, kind: str, word: str) -> str:
    key = f"check.{kind}.{word}"
    return say(key) if key in say else word


def figures(say: Say, values: dict, kind: str = "figure") -> list[str]:
    """Figures with their units, in the page's language; facts without a word of their own stand as they are.

    Of kind "expected" those that are limits say so.
    """
    parts = []
    for key, value in values.items():
        if isinstance(value, (int, float)):
            text = say.number(value) if value == 0 or abs(value) >= 0.0001 else say.number(value, 1)
        else:
            text = _word(say, "word", str(value))
        words = next((words for words in (f"check.{kind}.{key}", f"check.figure.{key}") if words in say), None)
        parts.append(say(words, value=text) if words else f"{key} {text}")
    return parts
