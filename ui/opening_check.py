"""The check of this machine on the opening screen: a background job, its results as they come, and a copy for a report."""

import json
from functools import partial
from html import escape
from pathlib import Path

import gradio as gr

from core import events, jobs
from core.check_card import jobs as checks
from core.check_card import results
from core.errors import UserError
from core.hardware import hardware
from ui.errors import Refused
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
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
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
    table = _table(say, found)
    if state in ACTIVE:
        doing = say("check.doing", name=_name(say, now)) if now else say("check.beginning")
        return f'<p role="status">{escape(doing)}</p>{table}'
    last = events.last(directory) or {}
    if state == "finished":
        report = json.dumps(last["result"], ensure_ascii=False)
        verdict = say(f"check.verdict.{_verdict(last['result'])}", device=_device(say, last["result"]["device"]))
        more = f'<details class="check-report"><summary>{say("check.report")}</summary><pre tabindex="0">{escape(report)}</pre></details>'
        return f"<p><b>{escape(verdict)}</b></p>{table}{more}"
    words = say(f"check.ended.{state}")
    if state == "failed":
        words = f"{words} {say.worded(last['trouble'], last['values'], last['message'])}"
    return f'<div class="trouble" role="alert">{escape(words)}</div>{table}'


def _verdict(result: dict) -> str:
    """The worst state; of a check that left something out and found nothing broken, that it did."""
    return result["state"] if result["state"] == "broken" or results.is_whole(result["checks"]) else "incomplete"


def _table(say: Say, found: list[dict]) -> str:
    if not found:
        return ""
    head = "".join(f"<th>{say(f'check.head.{name}')}</th>" for name in ("name", "state", "value", "expected", "advice"))
    return f'<div class="checks"><table><tr>{head}</tr>{"".join(_row(say, one) for one in found)}</table></div>'


def _row(say: Say, one: dict) -> str:
    state = f'<span class="check-{one["state"]}">{say("check.state." + one["state"])}</span>'
    value, expected = figures(say, one["value"]), figures(say, one["expected"], "expected")
    label = escape(say("check.head.expected"), quote=True)  # for a phone, where the head is hidden
    return (
        f"<tr><td>{escape(_name(say, one['name']))}</td><td>{state}</td><td>{value}</td>"
        f'<td data-label="{label}">{expected}</td><td>{_advice(say, one["advice"])}</td></tr>'
    )


def _advice(say: Say, advice: dict | None) -> str:
    """What to do, with its command set off."""
    if not advice:
        return ""
    words = escape(say.worded(advice["trouble"], advice["values"], advice["message"]))
    command = escape((advice["values"] or {}).get("command", ""))
    return words.replace(command, f"<code>{command}</code>") if command else words


def _name(say: Say, name: str) -> str:
    key = f"check.name.{name}"
    return say(key) if key in say else name


def _device(say: Say, device: str) -> str:
    return say("check.word.cpu") if device == "cpu" else device


def figures(say: Say, values: dict, kind: str = "figure") -> str:
    """Figures with their units, in the page's language; facts without a word of their own stand as they are.

    Of kind "expected" those that are limits say so.
    """
    parts = []
    for key, value in values.items():
        if isinstance(value, (int, float)):
            text = say.number(value) if value == 0 or abs(value) >= 0.0001 else say.number(value, 1)
        else:
            text = say(f"check.word.{value}") if f"check.word.{value}" in say else str(value)
        words = next((words for words in (f"check.{kind}.{key}", f"check.figure.{key}") if words in say), None)
        parts.append(say(words, value=text) if words else f"{key} {text}")
    return "<br>".join(escape(part) for part in parts)
