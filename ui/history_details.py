"""One run of the Runs tab in full: facts, curves, replies; rename, tag, run again, change one thing, pack, delete."""

import json
from dataclasses import asdict, fields, replace
from functools import partial

import gradio as gr

from core import paths
from core.errors import UserError
from core.export import export
from core.runs import compare, forgetting, metrics, promote_checkpoint, runs, store
from core.runs import diagnosis as runs_diagnosis
from core.training.config import TrainConfig
from ui import run_html, run_plots, temp_files
from ui.errors import Refused
from ui.text import Say

SHOWN = (
    "name",
    "note",
    "tags",
    "facts",
    "resume",
    "treat",
    "config",
    "loss",
    "small",
    "film",
    "checkpoint",
    "forgetting",
    "value",
    "box",
    "file",
    "confirm",
)


class NoSuchValue(UserError):
    template = "{field} cannot be {value}. Write it as in the config of this run."


def build(say: Say) -> dict:
    """What is shown of the chosen run, and what can be done with it."""
    details = {}
    with gr.Column(visible=False) as details["box"]:
        with gr.Row():
            details["name"] = gr.Textbox(label=say("runs.name"))
            details["note"] = gr.Textbox(label=say("runs.note"), scale=2)
            details["tags"] = gr.Textbox(label=say("runs.tags"), info=say("runs.tags.info"))
            details["save"] = gr.Button(say("runs.save"), min_width=120)
        details["facts"] = gr.Markdown()
        with gr.Row():
            details["resume"] = gr.Button(say("training.resume"), size="sm", visible=False)
            details["treat"] = gr.Button(say("doctor.treat"), size="sm", variant="primary", visible=False)
        details["loss"] = gr.Plot(show_label=False)
        with gr.Accordion(say("runs.more_curves"), open=False):
            details["small"] = gr.Plot(show_label=False)
        with gr.Accordion(say("film.title"), open=False):
            details["film"] = gr.HTML(js_on_load=run_plots.keeper())
            details["forgetting"] = gr.Plot(show_label=False, visible=False)
            with gr.Row():
                words = {"label": say("film.checkpoint"), "info": say("film.checkpoint.info")}
                details["checkpoint"] = gr.Dropdown(interactive=True, scale=4, **words)
                details["take"] = gr.Button(say("film.take"), scale=1)
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
        with gr.Row():
            details["pack"] = gr.Button(say("runs.capsule"))
            details["csv"] = gr.Button(say("runs.csv"))
            details["delete"] = gr.Button(say("runs.delete"), variant="stop")
        details["file"] = gr.File(label=say("runs.file"), visible=False, interactive=False)
        with gr.Group(visible=False) as details["confirm"]:
            details["question"] = gr.Markdown()
            with gr.Row():
                details["yes"] = gr.Button(say("runs.delete.yes"), variant="stop")
                details["no"] = gr.Button(say("runs.delete.no"))
    details["shown"] = [details[name] for name in SHOWN]
    return details


def connect(say: Say, details: dict, run: gr.Dropdown) -> list:
    """Tie the buttons to their handlers; returns the events after which the list has changed."""
    details["pack"].click(partial(on_pack, say), run, details["file"])
    details["csv"].click(partial(on_csv, say), run, details["file"])
    details["field"].input(on_field, [run, details["field"]], details["value"], show_progress="hidden")
    details["delete"].click(partial(on_delete, say), run, [details["confirm"], details["question"]])
    details["no"].click(lambda: gr.Group(visible=False), None, details["confirm"])
    named = [run, details["name"], details["note"], details["tags"]]
    return [
        details["save"].click(partial(on_save, say), named, None),
        details["resume"].click(partial(on_go_on, say, runs.resume, "training.resumed"), run, None),
        details["treat"].click(partial(on_go_on, say, runs_diagnosis.treat, "doctor.treated"), run, None),
        details["again"].click(partial(on_again, say), run, run),
        details["vary"].click(partial(on_vary, say), [run, details["field"], details["value"]], run),
        details["take"].click(partial(on_take, say), [run, details["checkpoint"]], None),
        details["yes"].click(partial(on_delete_yes, say), run, run),
    ]


def on_open(say: Say, run_id: str | None) -> tuple:
    """The chosen run in full."""
    hidden = gr.File(visible=False), gr.Group(visible=False)
    if not run_id or run_id not in runs.listed():
        empty = dict.fromkeys(SHOWN, "") | {"loss": None, "small": None, "checkpoint": gr.Dropdown([])}
        empty |= {name: gr.Button(visible=False) for name in ("resume", "treat")}
        empty |= {"forgetting": gr.Plot(visible=False), "box": gr.Column(visible=False)}
        return tuple(empty.values())[: -len(hidden)] + hidden
    row, curves, scores = store.sync(run_id), store.curves(run_id), store.forgetting(run_id)
    found = run_html.diagnosis(run_id)
    figure = run_plots.forgetting(say, scores, forgetting.RED_LINE) if scores else None
    return (
        row["name"],
        row["note"],
        row["tags"],
        facts(say, row, found),
        gr.Button(visible=row["state"] in runs.RESUMABLE),
        gr.Button(visible=bool(found and found["changes"])),
        (paths.run(run_id) / "config.json").read_text(encoding="utf-8"),
        run_plots.loss(say, row, curves),
        run_plots.small(say, row, curves),
        run_html.film(say, store.film(run_id), promote_checkpoint.kept(run_id)),
        checkpoints(say, run_id, curves["evals"]),
        gr.Plot(figure, visible=bool(scores)),
        on_field(run_id, "learning_rate"),
        gr.Column(visible=True),
        *hidden,
    )


def facts(say: Say, row: dict, diagnosis: dict | None) -> str:
    """What is known of a run, a line each; what the doctor says of one that is ill."""
    found = {
        "runs.state": say(f"state.{row['state']}"),
        "runs.corpus_hash": row["corpus_hash"] and f"`{row['corpus_hash']}`",
        "runs.device": row["device"] and f"{row['device']} {row['precision'] or ''}",
        "runs.directory": f"`{paths.run(row['id'])}`",
        "runs.occupies": run_html.disk(say, row["id"]),
    }
    if row["state"] == "failed" and row["error_message"]:
        found["runs.state"] += ": " + run_html.trouble(say, row)
    if diagnosis:
        found["runs.state"] += " " + run_html.remedy(say, diagnosis)
    beside, unit = compare.measured(row), f"\u00a0{say('unit.gib')}"
    if beside["measured_gib"]:
        found["runs.predicted_memory"] = pair(say, beside["predicted_gib"], beside["measured_gib"], unit)
    if beside["measured_seconds"]:
        found["runs.predicted_time"] = pair(
            say, beside["predicted_seconds"], beside["measured_seconds"], f"\u00a0{say('runs.seconds')}"
        )
    if votes := store.arena(row["id"]):
        found["runs.arena"] = say("runs.votes", share=round(100 * votes["share"]), count=votes["votes"])
    changes = [change["changed"].items() for change in json.loads(row["config_changes"] or "[]")]
    if changes:
        found["runs.changed"] = ", ".join(f"{name}: {old} → {new}" for one in changes for name, (old, new) in one)
    step, when = runs.label(row["id"]).get("taken", (0, 0))
    if when > (row["ended_at"] or 0):  # a run that went on has made other weights since
        found["runs.result"] = say("runs.kept_step", step=step)
    return "  \n".join(f"{say(key)}: {value}" for key, value in found.items() if value)


def pair(say: Say, predicted: float, measured: float, unit: str) -> str:
    off = f"{100 * (predicted / measured - 1):+.0f}\u00a0%"
    return say("runs.pair", predicted=say.number(predicted) + unit, measured=say.number(measured) + unit, off=off)


def checkpoints(say: Say, run_id: str, evals: list[dict]) -> gr.Dropdown:
    """The checkpoints to choose from with their loss on held-out rows, and the newest of them."""
    steps, losses = promote_checkpoint.kept(run_id), {row["step"]: row["eval_loss"] for row in evals}

    def words(step: int) -> str:
        title = say("film.step", step=step)
        return title if losses.get(step) is None else f"{title} · eval_loss {say.number(losses[step])}"

    return gr.Dropdown(choices=[(words(step), step) for step in steps], value=steps[-1] if steps else None)


def on_take(say: Say, run_id: str, step: int | None) -> None:
    """Make a checkpoint the result of the run."""
    if step is None:
        raise Refused(say("film.no_checkpoint"))
    _command(say, promote_checkpoint.take, run_id, step)
    gr.Info(say("film.taken", step=step))


def on_field(run_id: str | None, field: str) -> str:
    """The value that a field has in the chosen run, as it would be typed."""
    try:
        return str(getattr(runs.config(run_id), field)) if run_id else ""
    except UserError:  # deleted in another window
        return ""


def on_save(say: Say, run_id: str, name: str, note: str, tags: str) -> None:
    _command(say, store.rename, run_id, name, note, tags.replace(",", " ").split())
    gr.Info(say("runs.saved"))


def on_go_on(say: Say, command, said: str, run_id: str) -> None:
    """Queue a run again, as it is or with what helps."""
    _command(say, command, run_id)
    gr.Info(say(said))


def on_again(say: Say, run_id: str) -> dict:
    """Queue a run with the same settings."""
    return _started(say, _command(say, again, run_id))


def on_vary(say: Say, run_id: str, field: str, value: str) -> dict:
    """Queue a run that differs in one setting."""
    return _started(say, _command(say, again, run_id, field, value))


def again(run_id: str, field: str | None = None, value: str = "") -> str:
    """A new run with the settings of another one, all of them or all but one; its id."""
    config, name = runs.config(run_id), runs.label(run_id)["name"]
    if field:
        config, name = replace(config, **{field: typed(config, field, value)}), f"{name} · {field} {value.strip()}"
    return runs.start(config, name)


def typed(config: TrainConfig, field: str, value: str):
    """What a person typed, as the field's own kind of value."""
    before = asdict(config)[field]
    words = {"true": True, "false": False}
    try:
        return (
            words[value.strip().lower()] if isinstance(before, bool) else type(before)(value.strip().replace(",", "."))
        )
    except (KeyError, ValueError):
        raise NoSuchValue(field=field, value=value) from None


def _started(say: Say, run_id: str) -> dict:
    gr.Info(say("training.queued", name=runs.label(run_id)["name"]))
    return gr.Dropdown(choices=store.choices(store.sync_all()), value=run_id)


def on_pack(say: Say, run_id: str) -> dict:
    """Write the capsule into a temporary directory and offer it."""
    out = temp_files.folder() / f"{run_id}.zip"
    return gr.File(value=str(_command(say, export.capsule, run_id, out)), visible=True)


def on_csv(say: Say, run_id: str) -> dict:
    """Write all steps as a table and offer it."""
    out = temp_files.folder() / f"{run_id}.csv"
    return gr.File(value=_command(say, metrics.write, run_id, str(out))["csv"], visible=True)


def on_delete(say: Say, run_id: str) -> tuple:
    size = f"{say.number(_command(say, runs.disk_bytes, run_id) / 1e6)}\u00a0{say('unit.mb')}"
    return gr.Group(visible=True), say("runs.delete.ask", name=runs.label(run_id)["name"], size=size)


def on_delete_yes(say: Say, run_id: str) -> None:
    name = runs.label(run_id)["name"]
    _command(say, store.delete, run_id)
    gr.Info(say("runs.deleted", name=name))


def _command(say: Say, command, *args):
    try:
        return command(*args)
    except UserError as error:
        raise Refused(say.trouble(error)) from error
