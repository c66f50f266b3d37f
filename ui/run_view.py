"""A run live: its state, its buttons, its curves, its replies and the end of its log; the queue below it."""

from functools import partial

import gradio as gr

from core import paths
from core.chat import chat, reply_gpu
from core.errors import UserError
from core.runs import (
    alerts,
    database,
    diagnosis,
    eval_samples,
    forgetting,
    learned,
    promote_checkpoint,
    runs,
    starts,
    store,
    terminate,
)
from core.runs import queue as runs_queue
from ui import run_html, run_learned, run_plots, run_queue, templates
from ui.errors import inform, show_errors
from ui.text import Say

TICK_SECONDS = 2
LOG_BYTES = 8_000
# Buttons: the label, what it does with the run that is shown, and the sentence that says so.
COMMANDS = {
    "stop": ("training.stop", runs.stop, "training.stop_asked"),
    "pause": ("runs.pause", runs.pause, "runs.pause_asked"),
    "resume": ("training.resume", runs.resume, "training.resumed"),
    "save_now": ("runs.save_now", partial(runs.ask_once, what="save"), "runs.save_asked"),
    "sample_now": ("runs.sample_now", partial(runs.ask_once, what="sample"), "runs.sample_asked"),
    "treat": ("diagnosis.treat", diagnosis.treat, "diagnosis.treated"),
    "end": ("runs.end", terminate.end, "runs.ended"),
}
HANGING = ("stalled", "unanswered")  # alerts of a trainer that may never answer
DRAWN = (
    "status",
    "learned",
    *COMMANDS,
    "go_on",
    "remedy",
    "loss",
    "preferences",
    "small",
    "latest",
    "samples",
    "forgetting",
    "log",
)
# A run is drawn anew when one of these columns changes.
PROBED = ("id", "name", "state", "step", "stage", "stage_done", "eval_loss", "seconds_left")
PROBED += ("request_seen_at", "disk_shortage", "events_offset")


def build(say: Say) -> dict:
    """The right-hand side: which run is shown, how it is, its buttons, its plots, and the queue."""
    live = {"run": gr.Dropdown(label=say("training.shown"), interactive=True, visible="hidden")}  # until there is one
    live["status"] = gr.HTML(nothing(say), js_on_load=run_plots.keeper())
    live["learned"] = gr.HTML(js_on_load=f"({run_learned.SAVE})()")
    live["remedy"] = gr.Markdown(visible=False)
    for name, variant in (("treat", "primary"), ("end", "stop")):
        live[name] = gr.Button(say(COMMANDS[name][0]), variant=variant, size="sm", visible=False)
    with gr.Row():
        for name in ("stop", "pause", "resume", "save_now", "sample_now"):
            live[name] = gr.Button(say(COMMANDS[name][0]), size="sm", min_width=80, visible=False)
        live["go_on"] = gr.Button(say("training.go_on"), size="sm", min_width=190, visible=False)
    figures_part = build_figures(say, live)
    with live.pop("more_curves"), gr.Row():
        live["live"] = gr.Checkbox(True, label=say("training.live"), info=say("training.live.info"))
        live["log_scale"] = gr.Checkbox(False, label=say("runs.log_scale"), info=say("runs.log_scale.info"))
    with figures_part:
        words = {"label": say("eval_samples.prompts"), "info": say("eval_samples.prompts.info")}
        live["prompts"], live["kept_prompts"] = gr.Textbox(kept_prompts(), lines=3, **words), gr.State(kept_prompts())
        live["keep_prompts"] = gr.Button(say("eval_samples.keep"), size="sm")
    with gr.Accordion(say("training.log"), open=False, elem_classes="filled"):
        live["log"] = gr.Code(language=None, show_label=False, interactive=False, max_lines=20)
    live["queue"] = run_queue.build(say)
    live["probe"] = gr.State()  # what is cheap to ask; the plots are drawn anew only when it changes
    live["timer"] = gr.Timer(TICK_SECONDS, active=False)
    connect(say, live)
    return live


def build_figures(say: Say, parts: dict) -> gr.Accordion:
    """Add the curves and the replies over the steps to `parts`; the accordion of the replies, for more."""
    parts["loss"] = gr.Plot(show_label=False, elem_classes="filled")
    parts["preferences"] = gr.Plot(show_label=False, visible=False)
    parts["latest"] = gr.HTML()
    with gr.Accordion(say("runs.more_curves"), open=False, elem_classes="filled") as parts["more_curves"]:
        parts["small"] = gr.Plot(show_label=False)
    with gr.Accordion(say("eval_samples.title"), open=False) as replies:
        parts["samples"] = gr.HTML(js_on_load=run_plots.keeper())
        parts["forgetting"] = gr.Plot(show_label=False, visible=False)
    return replies


def figures(say: Say, row: dict, curves: dict, scores: list[dict], *, log: bool = False, live: bool = True) -> dict:
    """What these parts show of a run; `scores` are those of the forgetting meter. Not live, the plots stay as they are."""
    samples = store.samples(row["id"])
    shown = {"samples": run_html.eval_samples(say, samples, promote_checkpoint.kept(row["id"]))}
    shown["latest"] = run_html.latest_replies(say, samples) if row["state"] in runs.ACTIVE else ""
    measured = curves["preferences"]
    compares = any(measured.values())
    if not live:
        shown |= {"loss": gr.skip(), "small": gr.skip(), "preferences": gr.Plot(visible=compares)}
        return shown | {"forgetting": gr.Plot(visible=bool(scores))}
    compared = run_plots.preferences(say, row, measured) if compares else None
    shown["preferences"] = gr.Plot(compared, visible=compares)
    read = learned.since_base(row["id"], scores)
    forgotten = run_plots.forgetting(say, scores, read[0]["score"] - forgetting.RED_LINE) if scores else None
    shown["forgetting"] = gr.Plot(forgotten, visible=bool(scores))
    return shown | {"loss": run_plots.loss(say, row, curves, log), "small": run_plots.small(say, row, curves)}


def connect(say: Say, live: dict) -> None:
    """Tie the parts to their handlers."""
    run, probed, drawn = live["run"], [live["probe"], live["timer"]], [live[name] for name in DRAWN]
    live["timer"].tick(partial(on_tick, say), run, probed)
    run.change(on_choose, run, [*probed, live["live"]], show_progress="hidden")
    prompts = [live["prompts"], live["kept_prompts"]]
    run.change(on_other_run, prompts, prompts, show_progress="hidden")
    for seen in (live["probe"].change, live["live"].input, live["log_scale"].input):
        seen(partial(draw, say), [run, live["live"], live["log_scale"]], drawn, show_progress="hidden")
    queue = live["queue"]
    look = {"fn": partial(run_queue.on_look, say), "inputs": queue["run"], "outputs": queue["shown"]}
    for name, (_, command, sentence) in COMMANDS.items():
        pressed = live[name].click(partial(on_command, say, command, sentence), run, probed)
        pressed.then(**look, show_progress="hidden")
    live["probe"].change(**look, show_progress="hidden")
    run_queue.connect(say, queue)
    live["keep_prompts"].click(partial(on_prompts, say), live["prompts"], prompts)


# ---------------------------------------------------------------------------------------------------------------------
# Handlers


def on_tick(say: Say, run_id: str | None) -> tuple:
    """Look at the shown run: a few bytes of its events, no drawing."""
    if not run_id:
        return gr.skip(), gr.skip()
    try:
        row = store.sync(run_id)
    except database.DatabaseStuck:  # a full disk: looked at again with the next tick
        return gr.skip(), gr.skip()
    except UserError:  # deleted in another window
        return None, gr.Timer(active=False)
    at_work = row["state"] in runs.AT_WORK
    if not at_work and store.some_wait() and runs_queue.needs_worker():  # the worker of any run may have been killed
        runs.start_worker()
        return probe(row), gr.skip()
    if row["state"] == "running" and row["stage"] == "starting":  # its turn came: the card is its own
        close_chat(say, run_id)
    may_change = row["state"] in runs.ACTIVE or runs.has_worker() or _is_behind(row)
    return probe(row), gr.skip() if may_change else gr.Timer(active=False)


def on_choose(run_id: str | None) -> tuple:
    """Show another run; its plots are drawn even where they were paused."""
    row = store.sync(run_id) if run_id else None
    return probe(row), gr.Timer(active=bool(row and (row["state"] in runs.ACTIVE or _is_behind(row)))), True


def known(say: Say, rows: list[dict], asked: str) -> str | None:
    """The run that an address asks for, if it is among these; a warning if it was deleted."""
    if asked and asked not in [row["id"] for row in rows]:
        inform(say("runs.gone", run=asked))
        return None
    return asked or None


@show_errors
def on_command(say: Say, command, sentence: str, run_id: str | None) -> tuple:
    """Request something of the shown run, and say what will happen."""
    if not run_id:
        return gr.skip(), gr.skip()
    command(run_id)
    if runs.state(run_id) == "queued":
        close_chat(say, run_id)
    inform(say(sentence))
    return probe(store.sync(run_id)), gr.Timer(active=True)


def kept_prompts() -> str:
    """The prompts of the sample replies, a line each."""
    return "\n".join(eval_samples.prompts())


def on_other_run(lines: str, kept: str) -> tuple:
    """The prompts as they are kept now, also by another window; what is typed and not kept stays."""
    now = kept_prompts()
    return (now if lines == kept else gr.skip()), now


def on_prompts(say: Say, lines: str) -> tuple:
    """Keep the prompts of the sample replies, a line each."""
    kept = eval_samples.keep(lines.splitlines())
    inform(say("eval_samples.kept", count=len(kept)))
    return (kept_prompts(),) * 2


def draw(say: Say, run_id: str | None, live: bool = True, log: bool = False) -> tuple:
    """Everything that is shown of a run, in the order of DRAWN; the plots stay as they are where they are paused."""
    if not run_id or run_id not in runs.listed():
        shown = {
            "status": nothing(say),
            "learned": "",
            "latest": "",
            "samples": "",
            "log": "",
        }
        shown |= {"loss": None, "small": None}
        shown |= {name: gr.Button(visible=False) for name in (*COMMANDS, "go_on")}
        shown |= {name: gr.Plot(visible=False) for name in ("preferences", "forgetting")}
        shown |= {"remedy": gr.Markdown(visible=False)}
        return tuple(shown[name] for name in DRAWN)
    row, curves, scores = store.sync(run_id), store.curves(run_id), store.forgetting(run_id)
    state, found = row["state"], diagnosis.diagnose(run_id)
    remedy, warnings = run_html.remedy(say, found), alerts.found(row, curves, learned.since_base(run_id, scores))
    trains = state == "running" and row["stage"] == "training"
    shown = {
        "status": run_html.status(say, row, warnings),
        "learned": run_learned.card(say, row),
        "stop": gr.Button(visible=state in ("queued", "held", "running")),
        "pause": gr.Button(visible=state in ("queued", "running")),
        "resume": gr.Button(visible=state in runs.RESUMABLE),
        "save_now": gr.Button(visible=trains),
        "sample_now": gr.Button(visible=trains),
        "treat": gr.Button(visible=bool(found and found["changes"])),
        "end": gr.Button(visible=any(name in HANGING for name, _ in warnings)),
        "go_on": gr.Button(visible=starts.can_go_on(run_id, state)),
        "remedy": gr.Markdown(remedy, visible=bool(remedy)),
        **figures(say, row, curves, scores, log=log, live=live),
        "log": log_tail(run_id),
    }
    return tuple(shown[name] for name in DRAWN)


# ---------------------------------------------------------------------------------------------------------------------
# What the handlers are made of


def nothing(say: Say) -> str:
    """What stands in the place of a run while there is none; assets/style.css hides the empty plots below it."""
    return templates.macro("paragraph", say("training.no_runs"), "nothing-yet")


def probe(row: dict | None) -> list | None:
    """The values whose change is worth a new drawing."""
    if not row:
        return None
    nothing = {"steps": [], "means": [], "evals": []}
    return [*(row[name] for name in PROBED), *(name for name, _ in alerts.found(row, nothing, []))]


def _is_behind(row: dict) -> bool:
    """Whether a long log has not been read to its end yet."""
    return row["files_fingerprint"] is None and row["state"] not in runs.ACTIVE


def close_chat(say: Say, run_id: str) -> None:
    """Ask an open chat for the memory that a run needs."""
    if chat.is_open() and reply_gpu.gives_way_to(run_id):
        chat.close()
        inform(say("training.chat_closed"))


def log_tail(run_id: str) -> str:
    """The end of the trainer's output."""
    log = paths.run(run_id) / "log.txt"
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - LOG_BYTES))
        return file.read().decode(errors="replace").replace("\r", "\n")
