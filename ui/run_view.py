"""A run as it goes: its state, its buttons, its curves, its replies and the end of its log; the queue below it."""

import sys
from functools import partial

import gradio as gr

from core import paths
from core.chat import reply_gpu
from core.errors import UserError
from core.runs import diagnosis, eval_samples, forgetting, promote_checkpoint, runs, store, terminate
from core.runs import queue as runs_queue
from ui import run_html, run_plots, run_queue
from ui.errors import Refused
from ui.text import Say

TICK_SECONDS = 2
LOG_BYTES = 8_000
BUTTONS = ("stop", "pause", "resume", "save_now", "sample_now", "treat")
HANGING = ("stalled", "unheard")  # alerts of a trainer that may never answer
DRAWN = ("status", *BUTTONS, "end", "remedy", "loss", "small", "film", "forgetting", "log")


def build(say: Say) -> dict:
    """The right-hand side: which run is shown, how it is, its buttons, its plots, and the queue."""
    live = {"run": gr.Dropdown(label=say("training.shown"), interactive=True)}
    live["status"] = gr.HTML(f"<p>{say('training.no_runs')}</p>", js_on_load=run_plots.keeper())
    live["remedy"] = gr.Markdown(visible=False)
    live["treat"] = gr.Button(say("doctor.treat"), variant="primary", size="sm", visible=False)
    live["end"] = gr.Button(say("runs.end"), variant="stop", size="sm", visible=False)
    with gr.Row():
        live["stop"] = gr.Button(say("training.stop"), size="sm", min_width=80, interactive=False)
        live["pause"] = gr.Button(say("runs.pause"), size="sm", min_width=80, interactive=False)
        live["resume"] = gr.Button(say("training.resume"), size="sm", min_width=80, interactive=False)
        live["save_now"] = gr.Button(say("runs.save_now"), size="sm", min_width=80, interactive=False)
        live["sample_now"] = gr.Button(say("runs.sample_now"), size="sm", min_width=80, interactive=False)
    with gr.Row():
        live["live"] = gr.Checkbox(True, label=say("training.live"), info=say("training.live.info"))
        live["log_scale"] = gr.Checkbox(False, label=say("runs.log_scale"), info=say("runs.log_scale.info"))
    live["loss"] = gr.Plot(show_label=False)
    with gr.Accordion(say("runs.more_curves"), open=False):
        live["small"] = gr.Plot(show_label=False)
    with gr.Accordion(say("film.title"), open=False):
        live["film"] = gr.HTML()
        live["forgetting"] = gr.Plot(show_label=False, visible=False)
        live["prompts"] = gr.Textbox(label=say("film.prompts"), info=say("film.prompts.info"), lines=3)
        live["keep_prompts"] = gr.Button(say("film.keep"), size="sm")
    with gr.Accordion(say("training.log"), open=False):
        live["log"] = gr.Code(language=None, show_label=False, interactive=False, max_lines=20)
    live["queue"] = run_queue.build(say)
    live["probe"] = gr.State()  # what is cheap to ask; the plots are drawn anew only when it changes
    live["timer"] = gr.Timer(TICK_SECONDS, active=False)
    return live


def connect(say: Say, live: dict, shown: list) -> None:
    """Tie the buttons to their handlers; `shown` are the run, the probe and the timer."""
    looked = [live["probe"], live["timer"]]
    drawn = [live[name] for name in DRAWN]
    looks = [live["run"], live["live"], live["log_scale"]]
    live["timer"].tick(partial(on_tick, say), live["run"], looked, api_visibility="private")
    live["run"].input(on_choose, live["run"], [*looked, live["live"]], show_progress="hidden")
    live["probe"].change(partial(draw, say), looks, drawn, show_progress="hidden")
    for box in ("live", "log_scale"):
        live[box].input(partial(draw, say), looks, drawn, show_progress="hidden")
    commands = {
        "stop": (runs.stop, "training.stop_asked"),
        "pause": (runs.pause, "runs.pause_asked"),
        "resume": (runs.resume, "training.resumed"),
        "save_now": (partial(runs.wish, what="save"), "runs.save_asked"),
        "sample_now": (partial(runs.wish, what="sample"), "runs.sample_asked"),
        "treat": (diagnosis.treat, "doctor.treated"),
        "end": (terminate.end, "runs.ended"),
    }
    queue = live["queue"]
    for name, (command, said) in commands.items():
        pressed = live[name].click(partial(on_command, say, command, said), live["run"], looked)
        pressed.then(partial(run_queue.on_look, say), queue["run"], queue["shown"], show_progress="hidden")
    live["probe"].change(partial(run_queue.on_look, say), queue["run"], queue["shown"], show_progress="hidden")
    run_queue.connect(say, queue)
    live["keep_prompts"].click(partial(on_prompts, say), live["prompts"], live["prompts"])
    live["run"].change(lambda: "\n".join(eval_samples.prompts()), None, live["prompts"], show_progress="hidden")


# ---------------------------------------------------------------------------------------------------------------------
# Handlers


def on_tick(say: Say, run_id: str | None) -> tuple:
    """Look at the shown run: a few bytes of its events, no drawing."""
    if not run_id:
        return gr.skip(), gr.skip()
    try:
        row = store.sync(run_id)
    except store.DatabaseStuck:  # a full disk: looked at again with the next tick
        return gr.skip(), gr.skip()
    except UserError:  # deleted in another window
        return None, gr.Timer(active=False)
    if (
        row["state"] not in runs.AT_WORK and store.some_wait() and runs_queue.needs_worker()
    ):  # whichever run waits: its worker may have been killed
        runs.start_worker()
        return probe(row), gr.skip()
    if row["state"] == "running" and row["stage"] == "starting":  # its turn came: the card is its own
        let_chat_go(say, run_id)
    if row["state"] in runs.ACTIVE or runs.has_worker() or _behind(row):
        return probe(row), gr.skip()
    return probe(row), gr.Timer(active=False)


def on_choose(run_id: str | None) -> tuple:
    """Show another run; its plots are drawn even where they were held still."""
    row = store.sync(run_id) if run_id else None
    return probe(row), gr.Timer(active=bool(row and (row["state"] in runs.ACTIVE or _behind(row)))), True


def on_command(say: Say, command, said: str, run_id: str | None) -> tuple:
    """Ask something of the shown run, and say what will happen."""
    if not run_id:
        return gr.skip(), gr.skip()
    try:
        command(run_id)
    except UserError as error:
        raise Refused(say.trouble(error)) from error
    if runs.state(run_id) == "queued":
        let_chat_go(say, run_id)
    gr.Info(say(said))
    return probe(store.sync(run_id)), gr.Timer(active=True)


def on_prompts(say: Say, lines: str) -> str:
    kept = eval_samples.keep(lines.splitlines())
    gr.Info(say("film.kept", count=len(kept)))
    return "\n".join(kept or eval_samples.prompts())


def draw(say: Say, run_id: str | None, live: bool = True, log: bool = False) -> tuple:
    """Everything that is shown of a run; the plots stay as they are where they are held still."""
    if not run_id or run_id not in runs.listed():
        hidden = (gr.Button(visible=False), gr.Button(visible=False), gr.Markdown(visible=False))
        none = (gr.Button(interactive=False),) * (len(BUTTONS) - 1)
        return (f"<p>{say('training.no_runs')}</p>", *none, *hidden, None, None, "", gr.Plot(visible=False), "")
    row, curves, scores = store.sync(run_id), store.curves(run_id), store.forgetting(run_id)
    state, found = row["state"], run_html.diagnosis(run_id)
    figures = (gr.skip(), gr.skip())
    if live:
        figures = run_plots.loss(say, row, curves, log), run_plots.small(say, row, curves)
    remedy, warnings = run_html.remedy(say, found), run_html.warnings_of(row, curves, scores)
    return (
        run_html.status(say, row, warnings),
        gr.Button(interactive=state in ("queued", "held", "running")),
        gr.Button(interactive=state in ("queued", "running")),
        gr.Button(interactive=state in runs.RESUMABLE),
        gr.Button(interactive=state == "running" and row["stage"] == "training"),
        gr.Button(interactive=state == "running" and row["stage"] == "training"),
        gr.Button(visible=bool(found and found["changes"])),
        gr.Button(visible=any(name in HANGING for name, _ in warnings)),
        gr.Markdown(remedy, visible=bool(remedy)),
        *figures,
        run_html.film(say, store.film(run_id), promote_checkpoint.kept(run_id)),
        gr.Plot(run_plots.forgetting(say, scores, forgetting.RED_LINE), visible=True)
        if scores and live
        else gr.Plot(visible=bool(scores)),
        log_tail(run_id),
    )


# ---------------------------------------------------------------------------------------------------------------------
# What the handlers are made of


def probe(row: dict | None) -> list | None:
    """The values whose change is worth a new drawing."""
    keys = (
        "id",
        "state",
        "step",
        "stage",
        "stage_done",
        "eval_loss",
        "seconds_left",
        "name",
        "request_seen_at",
        "disk_shortage",
        "events_offset",
    )
    if not row:
        return None
    silent = [name for name, _ in run_html.warnings_of(row, {"steps": [], "means": [], "evals": []}, [])]
    return [*(row[key] for key in keys), *silent]


def _behind(row: dict) -> bool:
    """Whether a long log has not been read to its end yet."""
    return row["files_fingerprint"] is None and row["state"] not in runs.ACTIVE


def let_chat_go(say: Say, run_id: str) -> None:
    """Ask an open chat for the memory that a run needs; core.chat is not even imported where nobody chatted."""
    if (chat := sys.modules.get("core.chat.chat")) and chat.is_open() and reply_gpu.gives_way_to(run_id):
        chat.close()
        gr.Info(say("training.chat_closed"))


def log_tail(run_id: str) -> str:
    """The end of the trainer's output."""
    log = paths.run(run_id) / "log.txt"
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - LOG_BYTES))
        return file.read().decode(errors="replace").replace("\r", "\n")
