"""The opening screen: what do you want to do? Four tabs to go to, what is there already, a check and a guided demo."""

import re
from functools import partial

import gradio as gr
from markupsafe import Markup

from core import demo
from core.corpus import corpus
from core.hardware import hardware
from core.runs import runs, store
from ui import cards, opening_demo, templates
from ui import opening_check as check
from ui.text import Say

CARDS = ("calculator", "corpus", "training", "playground")  # each leads to the tab of its name
TICK_SECONDS = 2


def build(say: Say) -> dict:
    """The tab; returns its load handler and the buttons by the tab that each leads to."""
    gr.Markdown(f"## {say('opening.question')}")
    warning = gr.HTML(visible=False)
    notes, buttons = {}, {}
    with gr.Row(equal_height=True):
        for name in CARDS:
            with gr.Column(elem_classes=["way"], min_width=220):
                gr.Markdown(f"### {say(f'opening.{name}')}\n\n{say(f'opening.{name}.about')}")
                notes[name] = gr.Markdown(elem_classes=["subdued"])
                buttons[name] = gr.Button(say(f"opening.{name}.go"))
    checked = check.build(say)
    demo, talk = build_demo(say)
    outputs = [*notes.values(), *demo, warning, *checked]
    return {"load": partial(on_load, say), "inputs": [], "outputs": outputs, "buttons": buttons, "talk": talk}


def build_demo(say: Say) -> tuple[list, gr.Button]:
    """What the guided demo fills, and the button that leads to the model that it trained."""
    with gr.Column(elem_classes=["way", "tour"]):
        gr.Markdown(f"### {say('opening.tour')}\n\n{say('opening.tour.about')}")
        with gr.Row():
            start = gr.Button(say("opening.tour.go"), variant="primary", scale=0, min_width=260)
            stop = gr.Button(say("opening.tour.stop"), visible=False, scale=0, min_width=160)
        panel = gr.HTML()
        talk = gr.Button(say("opening.tour.talk"), visible=False, scale=0, min_width=260)
    timer = gr.Timer(TICK_SECONDS, active=False)
    outputs = [panel, timer, start, stop, talk]
    start.click(partial(on_demo, say, demo.start), None, outputs)
    stop.click(partial(on_demo, say, opening_demo.stop), None, outputs)
    timer.tick(partial(demo_outputs, say), None, outputs, show_progress="hidden")
    return outputs, talk


def on_load(say: Say) -> tuple:
    """What is there already, for each card."""
    gpu, corpora, rows = hardware.card(), corpus.listed(), store.sync_all()
    trained = sum(row["state"] == "finished" or (row["state"] == "stopped" and bool(row["step"])) for row in rows)
    active = sum(row["state"] in runs.ACTIVE for row in rows)
    training = "now" if active else "none" if corpora else "first"
    return (
        say("opening.calculator.now", card=gpu.name if gpu else say("opening.no_card")),
        say("opening.corpus.now" if corpora else "opening.corpus.none", count=len(corpora)),
        say(f"opening.training.{training}", count=active),
        say("opening.playground.now" if trained else "opening.playground.none", count=trained),
        *demo_outputs(say),
        card_warning(say),
        *check.shown(say),
    )


def card_warning(say: Say) -> gr.HTML:
    """What keeps this machine's card from computing, with the command that repairs it; hidden if nothing does."""
    warnings = [re.fullmatch(r"(.*?)(pip (?:un)?install .*)?", line, re.DOTALL) for line in cards.warnings(say)]
    shown = Markup().join(templates.macro("trouble", *warning.groups("")) for warning in warnings)
    return gr.HTML(shown, visible=bool(shown))


def on_demo(say: Say, command) -> tuple:
    """Start or stop the demo."""
    command()
    return demo_outputs(say)


def demo_outputs(say: Say) -> tuple:
    """Panel, timer, and the three buttons, as the demo is now."""
    now = opening_demo.progress()
    going = now.state == "going"
    return (
        panel(say, now),
        gr.Timer(active=going),
        gr.Button(visible=not going),
        gr.Button(visible=going),
        gr.Button(visible=now.state == "done"),
    )


def panel(say: Say, now: opening_demo.Progress) -> str:
    """The four stages and what came of them; nothing before the demo is started."""
    if now.state == "idle":
        return ""
    result, error = now.last if now.state == "done" else None, ""
    if now.state == "failed":
        error = say.worded(now.last["trouble"], now.last["values"], now.last["message"])
    elif now.state == "lost":
        error = say("opening.failed", why=say("state.lost"))
    return templates.render(say, "opening", demo=now, stages=demo.STAGES, result=result, error=error)
