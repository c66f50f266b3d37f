"""The opening screen: what do you want to do? Five ways in, what is there already, a check and a guided demo."""

import html
import json
import re
from functools import partial

import gradio as gr

from core.corpus import corpus
from core.hardware import hardware
from core.runs import runs, store
from ui import cards
from ui import opening_check as check
from ui import opening_tour as tour
from ui.text import Say

WAYS = ("calculator", "corpus", "training", "playground")  # the tabs that the first four cards lead to
TICK_SECONDS = 2


def build(say: Say) -> dict:
    """The tab; returns its load handler and the buttons by the tab that each leads to."""
    gr.Markdown(f"## {say('opening.question')}")
    warning = gr.HTML(visible=False)
    notes, buttons = {}, {}
    with gr.Row(equal_height=True):
        for way in WAYS:
            with gr.Column(elem_classes=["way"], min_width=220):
                gr.Markdown(f"### {say(f'opening.{way}')}\n\n{say(f'opening.{way}.about')}")
                notes[way] = gr.Markdown(elem_classes=["subdued"])
                buttons[way] = gr.Button(say(f"opening.{way}.go"))
    checked = check.build(say)
    shown = build_tour(say, buttons)
    return {
        "load": partial(on_load, say),
        "outputs": [*notes.values(), *shown, warning, *checked],
        "buttons": buttons,
    }


def build_tour(say: Say, buttons: dict) -> list:
    """The guided demo: one button, what it is doing, and what came of it."""
    with gr.Column(elem_classes=["way", "tour"]):
        gr.Markdown(f"### {say('opening.tour')}\n\n{say('opening.tour.about')}")
        with gr.Row():
            start = gr.Button(say("opening.tour.go"), variant="primary", scale=0, min_width=260)
            stop = gr.Button(say("opening.tour.stop"), visible=False, scale=0, min_width=160)
        panel = gr.HTML()
        buttons["playground_after"] = gr.Button(say("opening.tour.talk"), visible=False, scale=0, min_width=260)
    timer = gr.Timer(TICK_SECONDS, active=False)
    shown = [panel, timer, start, stop, buttons["playground_after"]]
    start.click(partial(on_start, say), None, shown, api_visibility="private")
    stop.click(partial(on_stop, say), None, shown, api_visibility="private")
    timer.tick(partial(tour_shown, say), None, shown, show_progress="hidden", api_visibility="private")
    return shown


def on_load(say: Say) -> tuple:
    """What is there already, for each card."""
    gpu, corpora, rows = hardware.card(), corpus.listed(), store.sync_all()
    finished = sum(row["state"] == "finished" or (row["state"] == "stopped" and bool(row["step"])) for row in rows)
    active = sum(row["state"] in runs.ACTIVE for row in rows)
    training = "now" if active else "none" if corpora else "first"
    card = gpu.name if gpu else say("opening.no_card")
    return (
        say("opening.calculator.now", card=card),
        say("opening.corpus.now" if corpora else "opening.corpus.none", count=len(corpora)),
        say(f"opening.training.{training}", count=active),
        say("opening.playground.now" if finished else "opening.playground.none", count=finished),
        *tour_shown(say),
        card_warning(say),
        *check.shown(say),
    )


def card_warning(say: Say) -> gr.HTML:
    """What keeps this machine's card from computing, with the command that mends it; hidden if nothing does."""
    lines = [_with_command(html.escape(words)) for words in cards.warnings(say)]
    found = "".join(f'<div class="trouble" role="alert">{line}</div>' for line in lines)
    return gr.HTML(found, visible=bool(found))


def _with_command(line: str) -> str:
    """A warning whose command, which ends it, can be told from the words and copied."""
    found = re.search(r"pip (un)?install .*", line)
    return f"{line[: found.start()]}<code>{found[0]}</code>" if found else line


def on_start(say: Say) -> tuple:
    tour.start()
    return tour_shown(say)


def on_stop(say: Say) -> tuple:
    tour.stop()
    return tour_shown(say)


def tour_shown(say: Say) -> tuple:
    """Panel, timer, and the three buttons, as the demo stands now."""
    now = tour.look()
    going = now.state == "going"
    return (
        panel(say, now),
        gr.Timer(active=going),
        gr.Button(visible=not going),
        gr.Button(visible=going),
        gr.Button(visible=now.state == "done"),
    )


def panel(say: Say, now: tour.Now) -> str:
    """The four steps with what each has come to."""
    if now.state == "idle":
        return ""
    lines = []
    for index, stage in enumerate(tour.STAGES):
        mark = "done" if now.state == "done" or index < now.stage else "now" if index == now.stage else "later"
        words = say(f"opening.stage.{stage}")
        note = step_note(say, now) if index == now.stage and now.state == "going" else ""
        lines.append(f'<li class="{mark}"><span>{words}</span>{note}</li>')
    result = {"done": reply_pair, "failed": failure}.get(now.state, lambda *_: "")(say, now)
    return f'<ol class="stages">{"".join(lines)}</ol>{result}'


def step_note(say: Say, now: tour.Now) -> str:
    if not now.total:
        return f" <small>{say('opening.working')}</small>"
    unit = say("opening.mb") if now.unit == "MB" else say("opening.steps")
    parts = [f"{say.number(now.done)} / {say.number(now.total)} {unit}"]
    if now.rate is not None:
        parts.append(say("opening.rate", rate=say.number(now.rate)))
    if now.seconds_left is not None:
        parts.append(say("opening.left", left=say.duration(now.seconds_left)))
    bar = f'<div class="meter"><div style="width:{100 * now.done / now.total:.0f}%"></div></div>'
    return f" <small>{', '.join(parts)}</small>{bar}"


def failure(say: Say, now: tour.Now) -> str:
    words = say.worded(now.trouble, now.values, now.message) if now.trouble else say("opening.failed", why=now.message)
    return f'<div class="trouble" role="alert">{html.escape(words)}</div>'


def reply_pair(say: Say, now: tour.Now) -> str:
    """Both replies to the demo's prompt, and the loss before and after."""
    result = json.loads(now.message)
    losses = say(
        "opening.losses",
        before=say.number(result["base_eval_loss"]),
        after=say.number(result["tuned_eval_loss"]),
    )
    columns = "".join(
        f"<div><h4>{say(f'opening.reply.{name}')}</h4><p lang='en'>{html.escape(result[f'{name}_reply'])}</p></div>"
        for name in ("base", "tuned")
    )
    return (
        f"<p>{losses}</p><p>{say('opening.asked')} <q lang='en'>{html.escape(result['prompt'])}</q></p>"
        f'<div class="replies">{columns}</div>'
    )
