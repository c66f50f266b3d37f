"""The Start tab: the road with what goes on and what comes next, the guided demo, and a check of this machine."""

import re
from functools import partial

import gradio as gr
from markupsafe import Markup

from core import demo
from core.runs import runs, store
from ui import cards, opening_demo, opening_road, run_learned, templates
from ui import opening_check as check
from ui.text import Say

TICK_SECONDS = 2


def build(say: Say) -> dict:
    """The tab; returns its load handler, the button that leads to the model of the demo, and what rests when it is left."""
    warning = gr.HTML(visible=False)
    road, timer = gr.HTML(js_on_load=f"({run_learned.SAVE})()"), gr.Timer(TICK_SECONDS, active=False)
    with gr.Accordion(say("opening.tour"), open=True) as tour:
        demo, talk = build_demo(say)
    with gr.Accordion(say("check.title"), open=False):
        checked = check.build(say)
    outputs = [road, timer, tour, *demo, warning, *checked]
    timer.tick(partial(on_tick, say), None, [road, timer], show_progress="hidden")
    return {"load": partial(on_load, say), "inputs": [], "outputs": outputs, "talk": talk, "left": [road, timer]}


def build_demo(say: Say) -> tuple[list, gr.Button]:
    """What the guided demo fills, and the button that leads to the model that it trained."""
    gr.Markdown(say("opening.tour.about"))
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
    """What is there already, what goes on, and what can be done next."""
    folded = opening_demo.progress().state == "idle" and bool(store.sync_all())
    return (
        *on_tick(say),
        gr.Accordion(open=not folded),
        *demo_outputs(say),
        card_warning(say),
        *check.shown(say),
    )


def on_tick(say: Say) -> tuple:
    """The road as it is now; looked at again while a run is at work."""
    return opening_road.draw(say), gr.Timer(active=any(row["state"] in runs.ACTIVE for row in store.sync_all()))


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
