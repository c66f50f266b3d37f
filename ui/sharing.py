"""The Share tab: open a link for visitors who chat, see who came, end it."""

from functools import partial

import gradio as gr

from core import errors
from core.errors import UserError
from core.runs import runs, store
from core.sharing.sharing import Limits
from ui import sharing_server as server
from ui import templates
from ui.text import Say

TICK_SECONDS = 3
LIMITS = ("messages", "tokens", "messages_in_all", "tokens_in_all")


def build(say: Say) -> dict:
    """The tab; returns its load handler."""
    gr.Markdown(say("sharing.intro"))
    form = build_form(say)
    with gr.Row():
        start = gr.Button(say("sharing.open"), variant="primary")
        stop = gr.Button(say("sharing.end"), interactive=False)
    panel = gr.HTML(f"<p>{say('sharing.closed')}</p>")
    figures = gr.Markdown()
    timer = gr.Timer(TICK_SECONDS, active=False)
    outputs = [panel, figures, timer, start, stop]
    start.click(
        partial(on_open, say),
        inputs_kwargs=form,
        outputs=outputs,
        concurrency_limit=1,
    )
    stop.click(partial(on_end, say), None, outputs)
    timer.tick(partial(on_tick, say), None, outputs, show_progress="hidden")
    return {"load": partial(on_load, say), "inputs": [form["run_id"]], "outputs": [form["run_id"], *outputs]}


def build_form(say: Say) -> dict:
    """What is shared, how it is reached, how long and how much."""
    default = Limits()
    with gr.Row():
        run = gr.Dropdown(
            label=say("sharing.run"), info=say("sharing.run.info"), interactive=True, scale=2, min_width=260
        )
        reach = gr.Radio(
            [(say(f"sharing.reach.{name}"), name) for name in server.REACHES],
            value="link",
            label=say("sharing.reach"),
            info=say("sharing.reach.info"),
            scale=2,
            min_width=260,
        )
        hours = gr.Slider(
            1, 24, default.hours, step=1, label=say("sharing.hours"), info=say("sharing.hours.info"), scale=1
        )
    with gr.Accordion(say("sharing.limits"), open=False), gr.Row():
        limits = {
            name: gr.Number(
                getattr(default, name),
                precision=0,
                minimum=1,
                label=say(f"sharing.{name}"),
                info=say(f"sharing.{name}.info"),
            )
            for name in LIMITS
        }
    return {"run_id": run, "reach": reach, "hours": hours, **limits}


def on_load(say: Say, chosen: str | None) -> tuple:
    """The runs that have something to chat with, and the link that is open."""
    rows = [row for row in store.sync_all() if row["best_step"] or row["state"] in ("finished", "stopped")]
    rows = [row for row in rows if server.can_talk(row["id"])]
    ids = [row["id"] for row in rows]
    new = {} if chosen in ids else {"value": next((id for id in runs.by_use() if id in ids), None)}
    run = gr.Dropdown(choices=store.choices(rows), info=say("sharing.run.info" if rows else "sharing.no_runs"), **new)
    *seen, start, stop = shown(say)
    return run, *seen, start if rows else gr.Button(interactive=False), stop


def on_open(say: Say, run_id: str | None, reach: str, hours: float, **limits) -> tuple:
    """Open the link, or say why it cannot be opened and what else can be done."""
    try:
        if not run_id:
            raise errors.named("NothingToShare")
        wanted = {name: int(value) for name, value in limits.items() if value}
        server.open_chat(run_id, reach, Limits(hours=float(hours), **wanted))
    except UserError as error:
        return templates.macro("trouble", say.trouble(error)), *shown(say)[1:]
    return shown(say)


def on_end(say: Say) -> tuple:
    server.end()
    return shown(say)


def on_tick(say: Say) -> tuple:
    """New figures; the panel only when the link has ended."""
    panel, *rest = shown(say)
    return (panel if server.current() is None else gr.skip()), *rest


def shown(say: Say) -> tuple:
    """Panel, figures, timer, and the two buttons, as they are to be now."""
    opened = server.current()
    buttons = gr.Button(interactive=opened is None), gr.Button(interactive=opened is not None)
    if opened is None:
        return f"<p>{say('sharing.closed')}</p>", "", gr.Timer(active=False), *buttons
    figures = opened.share.figures()
    left = say.duration(max(60, figures.pop("seconds_left")))
    line = say("sharing.figures", left=left, **{name: say.number(value, 9) for name, value in figures.items()})
    if restarts := getattr(opened.share, "restarts", 0):
        line += "\n\n" + say("sharing.restarted", count=restarts)
    return panel(say, opened), line, gr.Timer(active=True), *buttons


def panel(say: Say, opened: server.Opened) -> str:
    """Address, password and QR code."""
    command = server.tunnel_command(opened.port)
    return templates.render(say, "sharing", opened=opened, command=command, code=server.qr_code(opened))
