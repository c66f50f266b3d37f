"""The queue on the page: who waits in which order, and the buttons that move, hold, let go and take out."""

import html
from functools import partial

import gradio as gr

from core import paths
from core.errors import UserError
from core.hardware import hardware
from core.runs import assigned_gpu, runs
from core.runs import queue as runs_queue
from ui import cards
from ui.errors import Refused
from ui.text import Say

BUTTONS = ("up", "down", "hold", "let_go", "cancel")


def build(say: Say) -> dict:
    """A list of those that wait, one of them chosen, and what can be done with it; hidden while nobody waits."""
    queue = {}
    with gr.Column(visible=False) as queue["box"]:
        queue["list"] = gr.HTML()
        queue["run"] = gr.Dropdown(label=say("queue.run"), interactive=True)
        queue["card"] = cards.build(say, "queue")
        with gr.Row():
            for name in BUTTONS:
                queue[name] = gr.Button(say(f"queue.{name}"), size="sm", min_width=60)
    queue["shown"] = [queue["box"], queue["list"], queue["run"], queue["card"]]
    return queue


def connect(say: Say, queue: dict) -> None:
    commands = {
        "up": partial(runs_queue.move, places=-1),
        "down": partial(runs_queue.move, places=1),
        "hold": runs_queue.hold,
        "let_go": runs_queue.let_go,
        "cancel": runs.stop,
    }
    for name, command in commands.items():
        queue[name].click(partial(on_command, say, command, name), queue["run"], queue["shown"], show_progress="hidden")
    both = [queue["run"], queue["card"]]
    queue["card"].input(partial(on_card, say), both, queue["shown"], show_progress="hidden")
    queue["run"].input(partial(on_look, say), queue["run"], queue["shown"], show_progress="hidden")


def on_card(say: Say, run_id: str | None, uuid: str) -> tuple:
    """Let the chosen run train on another card."""
    if run_id:
        try:
            runs.put_on(run_id, uuid)
        except UserError as error:
            raise Refused(say.trouble(error)) from error
        gr.Info(
            say("cards.queue.done", name=runs.label(run_id)["name"], card=assigned_gpu.read(paths.run(run_id))["name"])
        )
    return on_look(say, run_id)


def on_command(say: Say, command, name: str, run_id: str | None) -> tuple:
    """Change the order or one run's part in it; it takes effect at once, and the page says so."""
    if run_id:
        try:
            command(run_id)
        except UserError as error:
            raise Refused(say.trouble(error)) from error
        gr.Info(say(f"queue.{name}.done", name=runs.label(run_id)["name"]))
    return on_look(say, run_id)


def on_look(say: Say, run_id: str | None) -> tuple:
    """The queue as it is now."""
    waiting = runs_queue.waiting()
    told = runs.disambiguate([(runs.label(one)["name"], one) for one in waiting])
    names = [(f"{number}. {name}", one) for number, (name, one) in enumerate(told, 1)]
    chosen = run_id if run_id in waiting else waiting[0] if waiting else None
    card = cards.choice(assigned_gpu.read(paths.run(chosen)).get("uuid") if chosen else None)
    return gr.Column(visible=bool(waiting)), listed(say, waiting), gr.Dropdown(choices=names, value=chosen), card


def listed(say: Say, waiting: list[str]) -> str:
    several = len(hardware.gpus()) > 1
    lines = []
    for run_id in waiting:
        facts = [say("state." + runs.state(run_id))]
        if several and (kept := assigned_gpu.read(paths.run(run_id))):
            facts.append(html.escape(kept["name"]))
        lines.append(f"<li>{html.escape(runs.label(run_id)['name'])} <span>{' · '.join(facts)}</span></li>")
    return f'<b>{say("queue.title")}</b><ol class="queue">{"".join(lines)}</ol>'
