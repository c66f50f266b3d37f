"""One run of the Runs tab in full: facts, curves, replies; rename, tag, run again, change one thing, pack, delete."""

import json
import shutil
from dataclasses import fields
from functools import partial

import gradio as gr

from core import errors, jobs, paths
from core.errors import UserError
from core.export import export
from core.runs import compare, diagnosis, metrics, promote_checkpoint, runs, starts, store
from core.training.config import TrainConfig
from ui import run_html, run_learned, run_view, temp_files
from ui.errors import Refused, inform, show_errors
from ui.text import Say, in_markdown

BUTTONS = {"resume": (runs.resume, "training.resumed"), "treat": (diagnosis.treat, "diagnosis.treated")}
TYPED = ("name", "note", "tags")
TEXTS = (*TYPED, "learned", "facts", "config", "latest", "samples", "value")
SHOWN = (
    *TEXTS,
    "field",
    *BUTTONS,
    "save",
    "go_on",
    "loss",
    "preferences",
    "small",
    "checkpoint",
    "take",
    "forgetting",
    "box",
)
ASKED = ("confirm", "question", "asked")
LOCK = f"() => Array({len(TYPED) + 1}).fill({{__type__: 'update', interactive: false}})"
HIDE = "() => Array(2).fill({__type__: 'update', visible: false})"


def build(say: Say, run: gr.Dropdown) -> dict:
    """What is shown of the chosen run and what can be done with it; "changes": events after which the list differs."""
    details = {}
    with gr.Column(visible=False) as details["box"]:
        with gr.Row():
            details["name"] = gr.Textbox(label=say("runs.name"), max_length=runs.LONGEST_NAME)
            details["note"] = gr.Textbox(label=say("runs.note"), scale=2)
            details["tags"] = gr.Textbox(label=say("runs.tags"), info=say("runs.tags.info"))
            details["save"] = gr.Button(say("runs.save"), min_width=120)
        details["learned"] = gr.HTML(js_on_load=f"({run_learned.SAVE})()")
        details["facts"] = gr.Markdown()
        with gr.Row():
            details["resume"] = gr.Button(say("training.resume"), size="sm", visible=False)
            details["treat"] = gr.Button(say("diagnosis.treat"), size="sm", variant="primary", visible=False)
        with run_view.build_figures(say, details), gr.Row():
            words = {"label": say("eval_samples.checkpoint"), "info": say("eval_samples.checkpoint.info")}
            details["checkpoint"] = gr.Dropdown(interactive=True, scale=4, **words)
            details["take"] = gr.Button(say("eval_samples.take"), scale=1)
        with gr.Accordion(say("runs.config"), open=False):
            details["config"] = gr.Code(language="json", show_label=False, interactive=False)
        with gr.Row():
            details["field"] = gr.Dropdown(
                [field.name for field in fields(TrainConfig)],
                value="learning_rate",
                label=say("runs.one_thing"),
                info=say("runs.one_thing.info"),
            )
            details["value"] = gr.Textbox(label=say("runs.new_value"))
            details["vary"] = gr.Button(say("runs.vary"))
            details["again"] = gr.Button(say("runs.again"))
            details["go_on"] = gr.Button(say("training.go_on"))
        with gr.Row():
            details["pack"] = gr.Button(say("runs.capsule"))
            details["csv"] = gr.Button(say("runs.csv"))
            details["delete"] = gr.Button(say("runs.delete"), variant="stop")
        details["file"] = gr.File(label=say("runs.file"), visible=False, interactive=False)
        with gr.Group(visible=False) as details["confirm"]:
            details["question"], details["asked"] = gr.Markdown(), gr.State()
            with gr.Row():
                details["yes"] = gr.Button(say("runs.delete.yes"), variant="stop")
                details["no"] = gr.Button(say("runs.delete.no"))
    details["shown"] = [details[name] for name in SHOWN]
    # What is typed before another run is shown would be written over, or saved with the texts of the run before it.
    run.change(None, None, [details[name] for name in (*TYPED, "save")], js=LOCK)
    # At once: a late answer would hide the file or the question that was asked for after the choice.
    run.change(None, None, [details["file"], details["confirm"]], js=HIDE)
    details["changes"] = connect(say, details, run)
    return details


def connect(say: Say, details: dict, run: gr.Dropdown) -> list:
    """Tie the buttons to their handlers; the events after which the list has changed."""
    details["pack"].click(partial(on_pack, say), run, details["file"])
    details["csv"].click(partial(on_csv, say), run, details["file"])
    details["field"].input(on_field, [run, details["field"]], details["value"], show_progress="hidden")
    details["delete"].click(partial(on_delete, say), run, [details[name] for name in ASKED])
    details["no"].click(lambda: gr.Group(visible=False), None, details["confirm"])
    typed = [details[name] for name in TYPED]
    saves = [details["save"].click, details["name"].submit, details["tags"].submit]
    return [
        gr.on(saves, partial(on_save, say), [run, *typed], typed, show_progress="hidden"),
        *(details[name].click(partial(on_button, say, *does), run, None) for name, does in BUTTONS.items()),
        details["again"].click(partial(on_again, say), run, run),
        details["vary"].click(partial(on_again, say), [run, details["field"], details["value"]], run),
        details["take"].click(partial(on_take, say), [run, details["checkpoint"]], None),
        details["yes"].click(partial(on_delete_yes, say), details["asked"], run),
    ]


def on_open(say: Say, run_id: str | None) -> tuple:
    """The chosen run in full, in the order of SHOWN; nothing of one that is gone."""
    shown = {}
    if not run_id or run_id not in runs.listed():
        shown |= dict.fromkeys(TEXTS, "") | {"loss": None, "small": None, "checkpoint": gr.Dropdown([])}
        shown |= {name: gr.Button(visible=False) for name in (*BUTTONS, "go_on")}
        shown |= dict.fromkeys(("save", "take", "field"), gr.skip())
        shown |= {name: gr.Plot(visible=False) for name in ("preferences", "forgetting")}
        shown |= {"box": gr.Column(visible=False)}
        return tuple(shown[name] for name in SHOWN)
    row, curves = store.sync(run_id), store.curves(run_id)
    found = diagnosis.diagnose(run_id)
    shown |= {name: gr.Textbox(row[name] or "", interactive=True) for name in TYPED}
    shown |= {
        "save": gr.Button(interactive=True),
        "learned": run_learned.card(say, row),
        "facts": facts(say, row, found),
        "resume": gr.Button(visible=row["state"] in runs.RESUMABLE),
        "treat": gr.Button(visible=bool(found and found["changes"])),
        "config": (paths.run(run_id) / "config.json").read_text(encoding="utf-8"),
        **run_view.figures(say, row, curves, store.forgetting(run_id)),
        "checkpoint": checkpoints(say, run_id, curves["evals"]),
        "take": gr.Button(interactive=bool(promote_checkpoint.kept(run_id))),
        "field": "learning_rate",
        "value": on_field(run_id, "learning_rate"),
        "go_on": gr.Button(visible=starts.can_go_on(run_id, row["state"])),
        "box": gr.Column(visible=True),
    }
    return tuple(shown[name] for name in SHOWN)


def on_changed(say: Say, run_id: str | None) -> tuple:
    """The chosen run after something was done with it; what is typed into its fields meanwhile stays."""
    shown = dict(zip(SHOWN, on_open(say, run_id), strict=True)) | dict.fromkeys((*TYPED, "field", "value"), gr.skip())
    return tuple(shown.values())


def facts(say: Say, row: dict, found: dict | None) -> str:
    """What is known of a run in Markdown, a line each; with what diagnosis.diagnose() found in one that failed."""
    known = {
        "runs.state": say(f"state.{row['state']}"),
        "runs.corpus_hash": row["corpus_hash"] and f"`{row['corpus_hash']}`",
        "runs.start": " ← ".join(in_markdown(ancestor(say, entry)) for entry in starts.ancestry(row["id"])),
        "runs.device": row["device"] and f"{row['device']} {row['precision'] or ''}",
        "runs.directory": f"`{paths.run(row['id'])}`",
        "runs.occupies": run_html.disk(say, row["id"]),
    }
    if row["state"] == "failed" and row["error_message"]:
        known["runs.state"] += ": " + in_markdown(run_html.error_of(say, row))
    if found:
        known["runs.state"] += " " + run_html.remedy(say, found)
    estimate = compare.measured(row)
    for kind, name, unit in (("memory", "gib", "unit.gib"), ("time", "seconds", "runs.seconds")):
        if measured := estimate[f"measured_{name}"]:
            known[f"runs.predicted_{kind}"] = pair(say, estimate[f"predicted_{name}"], measured, f"\u00a0{say(unit)}")
    if votes := store.arena(row["id"]):
        known["runs.arena"] = in_markdown(say("runs.votes", **run_learned.shares(votes)))
    if changes := json.loads(row["config_changes"] or "[]"):
        fields_changed = [item for change in changes for item in change["changed"].items()]
        known["runs.changed"] = ", ".join(f"{name}: {old} → {new}" for name, (old, new) in fields_changed)
    step, taken_at = runs.label(row["id"]).get("taken", (0, 0))
    if taken_at > (row["ended_at"] or 0):  # a run that went on has made other weights since
        known["runs.result"] = say("runs.kept_step", step=step)
    return "  \n".join(f"{say(key)}: {value}" for key, value in known.items() if value)


def ancestor(say: Say, entry: dict) -> str:
    """What a run goes on from in words: its name, the step and the loss of its weights, and whether it was deleted."""
    words = entry["name"] if entry["step"] is None else say("runs.start.one", name=entry["name"], step=entry["step"])
    loss = entry["eval_loss"] is not None and say("runs.start.loss", loss=say.number(entry["eval_loss"]))
    more = ", ".join(filter(None, [loss, entry["gone"] and say("runs.start.gone")]))
    return f"{words} ({more})" if more else words


def pair(say: Say, predicted: float, measured: float, unit: str) -> str:
    off = f"{100 * (predicted / measured - 1):+.0f}\u00a0%"
    return say("runs.pair", predicted=say.number(predicted) + unit, measured=say.number(measured) + unit, off=off)


def checkpoints(say: Say, run_id: str, evals: list[dict]) -> gr.Dropdown:
    """The checkpoints to choose from with their loss on held-out rows, and the newest of them."""
    steps, losses = promote_checkpoint.kept(run_id), {row["step"]: row["eval_loss"] for row in evals}

    def words(step: int) -> str:
        title = say("eval_samples.step", step=step)
        return title if losses.get(step) is None else f"{title} · eval_loss {say.number(losses[step])}"

    return gr.Dropdown(choices=[(words(step), step) for step in steps], value=steps[-1] if steps else None)


@show_errors
def on_take(say: Say, run_id: str, step: int | None) -> None:
    """Make a checkpoint the result of the run."""
    if step is None:
        raise Refused(say("eval_samples.no_checkpoint"))
    promote_checkpoint.take(run_id, step)
    inform(say("eval_samples.taken", step=step))


def on_field(run_id: str | None, field: str) -> str:
    """The value that a field has in the chosen run, as it would be typed."""
    try:
        return str(getattr(runs.config(run_id), field)) if run_id else ""
    except UserError:  # deleted in another window
        return ""


@show_errors
def on_save(say: Say, run_id: str, name: str, note: str, tags: str) -> list:
    """Rename a run; the fields are filled only with what was kept otherwise than typed."""
    store.rename(run_id, name, note, tags.replace(",", " ").split())
    inform(say("runs.saved"))
    row = store.sync(run_id)
    typed = dict(zip(TYPED, (name, note, tags), strict=True))
    return [gr.skip() if (row[field] or "") == text else row[field] or "" for field, text in typed.items()]


@show_errors
def on_button(say: Say, command, sentence: str, run_id: str) -> None:
    """Queue a run again, as it is or with what helps."""
    command(run_id)
    inform(say(sentence))


@show_errors
def on_again(say: Say, run_id: str, field: str | None = None, value: str = "") -> gr.Dropdown:
    """Queue a run with the same settings, or with all but one."""
    new = again(run_id, field, value)
    inform(say("training.queued", name=runs.label(new)["name"]))
    return gr.Dropdown(choices=store.choices(store.sync_all()), value=new)


def again(run_id: str, field: str | None = None, value: str = "") -> str:
    """A new run with the settings of another one, all of them or all but one; its id."""
    config, name = starts.repeated(runs.config(run_id), run_id), runs.label(run_id)["name"]
    if field:
        config, name = config.with_typed(field, value), f"{name} · {field} {value.strip()}"
    return runs.start(config, name)


@show_errors
def on_pack(say: Say, run_id: str) -> gr.File:
    """Make a capsule in an export's process, as torch has a part in it, and offer it from a temporary directory."""
    directory = export.start(run_id, "capsule")
    *_, last = {}, *jobs.follow(directory)
    if "trouble" in last:
        raise errors.from_dict(last)
    if (state := jobs.state(directory)) != "finished":  # stopped, or killed
        raise Refused(say(f"export.state.{state}"))
    out = shutil.move(last["path"], temp_files.folder() / f"{run_id}.zip")
    jobs.delete(directory)
    return gr.File(value=str(out), visible=True)


@show_errors
def on_csv(say: Say, run_id: str) -> gr.File:
    """Write all steps as a table and offer it."""
    return gr.File(value=metrics.write(run_id, str(temp_files.folder() / f"{run_id}.csv"))["csv"], visible=True)


@show_errors
def on_delete(say: Say, run_id: str) -> tuple:
    """Ask whether to delete a run, with its size: yes is for this one, whichever is chosen by then."""
    name, size = in_markdown(runs.label(run_id)["name"]), say.size(runs.disk_bytes(run_id), "mb")
    return gr.Group(visible=True), say("runs.delete.ask", name=name, size=size), run_id


@show_errors
def on_delete_yes(say: Say, run_id: str) -> None:
    """Delete a run; the choice is empty then."""
    name = runs.label(run_id)["name"]
    store.delete(run_id)
    inform(say("runs.deleted", name=name))
