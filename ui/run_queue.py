"""The queue on the page: the runs that wait in their order, and buttons to move, hold, let go and cancel them."""

from functools import partial

import gradio as gr

from core import paths
from core.errors import UserError
from core.hardware import hardware
from core.runs import assigned_gpu, runs
from core.runs import queue as runs_queue
from ui import cards, templates
from ui.errors import Refused, inform
from ui.text import Say

COMMANDS = {
    "up": partial(runs_queue.move, places=-1),
    "down": partial(runs_queue.move, places=1),
    "hold": runs_queue.hold,
    "let_go": runs_queue.let_go,
    "cancel": runs.stop,
}
USEFUL = ("up", "down", "hold", "let_go")  # not for every run that waits: see useful()


def build(say: Say) -> dict:
    """The list of the runs that wait and buttons for the chosen one; hidden while none waits."""
    queue = {}
    with gr.Column(visible=False) as queue["box"]:
        queue["list"] = gr.HTML()
        queue["run"] = gr.Dropdown(label=say("queue.run"), interactive=True)
        queue["card"] = cards.build(say, "queue")
        with gr.Row():
            for name in COMMANDS:
                queue[name] = gr.Button(say(f"queue.{name}"), size="sm", min_width=60)
    queue["shown"] = [queue[name] for name in ("box", "list", "run", "card", *USEFUL)]
    return queue


def connect(say: Say, queue: dict) -> None:
    for name, command in COMMANDS.items():
        queue[name].click(partial(on_command, say, command, name), queue["run"], queue["shown"], show_progress="hidden")
    both = [queue["run"], queue["card"]]
    queue["card"].input(partial(on_card, say), both, queue["shown"], show_progress="hidden")
    queue["run"].input(partial(on_look, say), queue["run"], queue["shown"], show_progress="hidden")


def on_card(say: Say, run_id: str | None, uuid: str) -> tuple:
    """Let the chosen run train on another card."""
    if run_id:
        _ask(say, runs.put_on, run_id, uuid)
        card = assigned_gpu.read(paths.run(run_id))["name"]
        inform(say("cards.queue.done", name=runs.label(run_id)["name"], card=card))
    return on_look(say, run_id)


def on_command(say: Say, command, name: str, run_id: str | None) -> tuple:
    """Change the order or one run's part in it; it takes effect at once, and the page says so."""
    if run_id:
        _ask(say, command, run_id)
        inform(say(f"queue.{name}.done", name=runs.label(run_id)["name"]))
    return on_look(say, run_id)


def _ask(say: Say, command, *arguments) -> None:
    try:
        command(*arguments)
    except UserError as error:
        raise Refused(say.trouble(error)) from error


def on_look(say: Say, run_id: str | None) -> tuple:
    """The queue as it is now."""
    waiting = runs_queue.waiting()
    titles = runs.disambiguate([(runs.label(id)["name"], id) for id in waiting])
    choices = [(f"{number}. {title}", id) for number, (title, id) in enumerate(titles, 1)]
    chosen = run_id if run_id in waiting else waiting[0] if waiting else None
    card = cards.choice(assigned_gpu.read(paths.run(chosen)).get("uuid") if chosen else None)
    run, buttons = gr.Dropdown(choices=choices, value=chosen), useful(waiting, chosen)
    return gr.Column(visible=bool(waiting)), listed(say, waiting), run, card, *buttons


def useful(waiting: list[str], chosen: str | None) -> tuple:
    """The buttons of USEFUL: off at the ends of the queue, and only one of hold and let go."""
    held, ends = chosen and runs.state(chosen) == "held", (waiting[:1], waiting[-1:])
    up, down = (gr.Button(interactive=[chosen] != end) for end in ends)
    return up, down, gr.Button(visible=not held), gr.Button(visible=bool(held))


def listed(say: Say, waiting: list[str]) -> str:
    rows, several_cards = [], len(hardware.gpus()) > 1
    for run_id in waiting:
        card = assigned_gpu.read(paths.run(run_id)).get("name") if several_cards else None
        facts = [say("state." + runs.state(run_id)), *([card] if card else [])]
        rows.append({"name": runs.label(run_id)["name"], "facts": facts})
    return templates.render(say, "queue", runs=rows)
