"""A run as it goes: its state, its buttons, its plots and the end of its log; part of the Training tab."""

import html
import json
import sys
from functools import partial

import gradio as gr

from core import paths, runs, store
from core.trouble import Trouble
from ui import plots
from ui.text import Say

TICK_SECONDS = 2
LOG_BYTES = 8_000


def build(say: Say) -> dict:
    """The right-hand side: which run is shown, how it is, its buttons and its plots."""
    live = {"run": gr.Dropdown(label=say("training.shown"), interactive=True)}
    live["status"] = gr.HTML(f"<p>{say('training.no_runs')}</p>")
    with gr.Row():
        live["stop"] = gr.Button(say("training.stop"), size="sm", interactive=False)
        live["resume"] = gr.Button(say("training.resume"), size="sm", interactive=False)
        live["live"] = gr.Checkbox(True, label=say("training.live"), info=say("training.live.info"))
    live["loss"] = gr.Plot(show_label=False)
    with gr.Row():
        live["learning_rate"] = gr.Plot(show_label=False, min_width=260)
        live["tokens_per_second"] = gr.Plot(show_label=False, min_width=260)
    with gr.Accordion(say("training.log"), open=False):
        live["log"] = gr.Code(language=None, show_label=False, interactive=False, max_lines=20)
    live["probe"] = gr.State()  # what is cheap to ask; the plots are drawn anew only when it changes
    live["timer"] = gr.Timer(TICK_SECONDS, active=False)
    return live


def connect(say: Say, live: dict, shown: list) -> None:
    live["timer"].tick(
        partial(on_tick, say), [live["run"], live["live"]], [live["probe"], live["timer"]], api_visibility="private"
    )
    live["run"].input(on_choose, live["run"], [live["probe"], live["timer"]], show_progress="hidden")
    names = ["status", "stop", "resume", "loss", "learning_rate", "tokens_per_second", "log"]
    live["probe"].change(partial(draw, say), live["run"], [live[name] for name in names], show_progress="hidden")
    live["stop"].click(partial(on_stop, say), live["run"], [live["probe"], live["timer"]])
    live["resume"].click(partial(on_resume, say), live["run"], [live["probe"], live["timer"]])


def on_tick(say: Say, run_id: str | None, live: bool) -> tuple:
    """Look at the shown run: a few bytes of its events, no drawing."""
    if not run_id or not live:
        return gr.skip(), gr.skip()
    try:
        row = store.sync(run_id)
    except Trouble:  # deleted in another window
        return None, gr.Timer(active=False)
    if row["state"] == "queued" and runs.needs_worker():
        runs.start_worker()
    if row["state"] == "running" and row["stage"] == "starting":  # its turn came: the card is its own
        let_chat_go(say)
    if row["state"] in runs.ACTIVE or any(runs.state(other) in runs.ACTIVE for other in runs.listed()):
        return probe(row), gr.skip()
    return probe(row), gr.Timer(active=False)


def on_choose(run_id: str | None) -> tuple:
    row = store.sync(run_id) if run_id else None
    return probe(row), gr.Timer(active=bool(row and row["state"] in runs.ACTIVE))


def on_stop(say: Say, run_id: str) -> tuple:
    _command(say, runs.stop, run_id)
    gr.Info(say("training.stop_asked"))
    return probe(store.sync(run_id)), gr.Timer(active=True)


def on_resume(say: Say, run_id: str) -> tuple:
    _command(say, runs.resume, run_id)
    let_chat_go(say)
    gr.Info(say("training.resumed"))
    return probe(store.sync(run_id)), gr.Timer(active=True)


def draw(say: Say, run_id: str | None) -> tuple:
    """Everything that is shown of a run."""
    if not run_id or run_id not in runs.listed():
        empty = (gr.Button(interactive=False),) * 2
        return (f"<p>{say('training.no_runs')}</p>", *empty, None, None, None, "")
    row, curves = store.sync(run_id), store.curves(run_id)
    steps = curves["steps"]
    return (
        status_html(say, row),
        gr.Button(interactive=row["state"] in ("queued", "running")),
        gr.Button(interactive=row["state"] in ("lost", "stopped", "failed")),
        plots.loss(say, steps, curves["evals"]),
        plots.series(say, steps, "learning_rate", plots.PALETTE[2]),
        plots.series(say, steps, "tokens_per_second", plots.PALETTE[3]),
        log_tail(run_id),
    )


def probe(row: dict | None) -> list | None:
    """The values whose change is worth a new drawing."""
    keys = ("id", "state", "step", "stage", "stage_done", "eval_loss", "seconds_left", "name")
    return row and [row[key] for key in keys]


def let_chat_go(say: Say) -> None:
    """Ask an open chat for its memory; core.chat is not even imported where nobody chatted."""
    if (chat := sys.modules.get("core.chat")) and chat.is_open():
        chat.close()
        gr.Info(say("training.chat_closed"))


def status_html(say: Say, row: dict) -> str:
    """State, bar and figures of a run, or why it ended."""
    state, parts = say(f"state.{row['state']}"), []
    share = row["step"] / row["max_steps"] if row["max_steps"] else 0
    if row["state"] == "running" and row["stage"] in ("download", "convert"):
        share = (row["stage_done"] or 0) / row["stage_total"] if row["stage_total"] else 0
        parts.append(f"{say.number((row['stage_done'] or 0) / 1e6)}\u00a0{say('unit.mb')}")
    if row["state"] == "running" and row["stage"]:
        state += f": {say('stage.' + row['stage'])}"
    if row["max_steps"]:
        parts.append(f"<span>{say('live.step')}</span> {row['step'] or 0} / {row['max_steps']}")
    if row["seconds_left"] and row["state"] in runs.ACTIVE:
        parts.append(f"<span>{say('live.left')}</span> {say.duration(row['seconds_left'])}")
    if row["seconds"]:
        parts.append(f"<span>{say('live.took')}</span> {say.duration(row['seconds'])}")
    if row["loss"] is not None:
        parts.append(f"<span>{say('live.loss')}</span> {say.number(row['loss'])}")
    if row["base_eval_loss"] is not None:
        change = f"{say.number(row['base_eval_loss'])} → {say.number(row['eval_loss'])}"
        parts.append(f"<span>{say('live.eval')}</span> {change}")
    if row["tokens_per_second"]:
        parts.append(f"<span>{say('live.speed')}</span> {say.number(row['tokens_per_second'])}")
    if row["memory_gib"]:
        memory = f"{say.number(row['memory_gib'])}\u00a0{say('unit.gib')}"
        if row["predicted_bytes"] and row["device"] != "cpu":  # a forecast is of a card's memory, not of a process's
            memory += f" ({say('live.predicted')} {say.number(row['predicted_bytes'] / 2**30)})"
        parts.append(f"<span>{say('live.memory')}</span> {memory}")
    facts = "".join(f"<div>{part}</div>" for part in parts)
    bar = f'<div class="meter"><div style="width:{100 * share:.1f}%"></div></div>'
    return f'<div class="state">{state}</div>{bar}<div class="facts">{facts}</div>{_remarks(say, row)}'


def _remarks(say: Say, row: dict) -> str:
    remarks = []
    if row["message"] and row["state"] == "failed":
        remarks.append(say.worded(row["trouble"], json.loads(row["trouble_values"] or "null"), row["message"]))
    if row["state"] == "lost":
        remarks.append(say("state.lost.help"))
    left_out = json.loads(row["rows_left_out"] or "{}")
    if left_out:
        reasons = ", ".join(f"{say('reason.' + reason)}: {count}" for reason, count in left_out.items())
        remarks.append(say("live.left_out", count=sum(left_out.values()), reasons=reasons))
    return "".join(f'<p class="trouble">{html.escape(remark)}</p>' for remark in remarks)


def log_tail(run_id: str) -> str:
    """The end of the trainer's output."""
    log = paths.run(run_id) / "log.txt"
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - LOG_BYTES))
        return file.read().decode(errors="replace").replace("\r", "\n")


def _command(say: Say, command, run_id: str) -> None:
    try:
        command(run_id)
    except Trouble as error:
        raise gr.Error(say.trouble(error)) from error
