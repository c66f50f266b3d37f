"""The Runs tab: every run with its figures; open, rename, note, pack, delete."""

import json
import tempfile
import time
from functools import partial
from pathlib import Path

import gradio as gr

from core import export, models, paths, runs, store
from core.recipe import RecipeTrouble
from core.trouble import Trouble
from ui.text import Say

COLUMNS = (
    "name",
    "state",
    "base_loss",
    "loss",
    "steps",
    "time",
    "memory",
    "model",
    "corpus",
    "method",
    "created",
    "id",
)


def build(say: Say) -> dict:
    """The tab; returns its load handler, its outputs, and a State that changes when a run was renamed or deleted."""
    gr.Markdown(say("runs.intro"))
    table = gr.Dataframe(
        headers=[say(f"runs.{name}") for name in COLUMNS],
        interactive=False,
        max_height=360,
        show_label=False,
        wrap=False,
    )
    with gr.Row():
        run = gr.Dropdown(label=say("runs.pick"), interactive=True, scale=4)
        refresh = gr.Button(say("runs.refresh"), scale=1)
    details = build_details(say)
    changed = gr.State(0)
    listing = [table, run]
    opened = [details[name] for name in ("name", "note", "facts", "config", "box", "file", "confirm")]
    refresh.click(partial(on_load, say), run, listing).then(partial(on_open, say), run, opened)
    table.select(on_select, None, run, api_visibility="private").then(partial(on_open, say), run, opened)
    run.input(partial(on_open, say), run, opened)
    details["save"].click(partial(on_save, say), [run, details["name"], details["note"]], None).then(
        partial(on_load, say), run, listing
    ).then(_next, changed, changed)
    details["pack"].click(partial(on_pack, say), run, details["file"])
    details["delete"].click(partial(on_delete, say), run, [details["confirm"], details["question"]])
    details["no"].click(lambda: gr.Group(visible=False), None, details["confirm"])
    details["yes"].click(partial(on_delete_yes, say), run, run).then(partial(on_load, say), run, listing).then(
        partial(on_open, say), run, opened
    ).then(_next, changed, changed)
    return {"load": partial(on_load, say), "inputs": run, "outputs": listing, "changed": changed}


def build_details(say: Say) -> dict:
    """What is shown of the chosen run, and what can be done with it."""
    details = {}
    with gr.Column(visible=False) as details["box"]:
        with gr.Row():
            details["name"] = gr.Textbox(label=say("runs.name"))
            details["note"] = gr.Textbox(label=say("runs.note"), scale=2)
        details["facts"] = gr.Markdown()
        with gr.Accordion(say("runs.config"), open=False):
            details["config"] = gr.Code(language="json", show_label=False, interactive=False)
        with gr.Row():
            details["save"] = gr.Button(say("runs.save"))
            details["pack"] = gr.Button(say("runs.capsule"))
            details["delete"] = gr.Button(say("runs.delete"), variant="stop")
        details["file"] = gr.File(label=say("runs.capsule.file"), visible=False, interactive=False)
        with gr.Group(visible=False) as details["confirm"]:
            details["question"] = gr.Markdown()
            with gr.Row():
                details["yes"] = gr.Button(say("runs.delete.yes"), variant="stop")
                details["no"] = gr.Button(say("runs.delete.no"))
    return details


def on_load(say: Say, chosen: str | None) -> tuple:
    """The table, newest run first, and the list to choose from."""
    rows = store.sync_all()
    ids = [row["id"] for row in rows]
    choices = [(row["name"], row["id"]) for row in rows]
    info = "" if rows else say("runs.empty")
    return [cells(say, row) for row in rows], gr.Dropdown(
        choices=choices, value=chosen if chosen in ids else None, info=info
    )


def cells(say: Say, row: dict) -> list[str]:
    """One row of the table, in the order of COLUMNS."""

    def number(value: float | None, unit: str = "") -> str:
        return "" if value is None else say.number(value) + unit

    return [
        row["name"],
        say(f"state.{row['state']}"),
        number(row["base_eval_loss"]),
        number(row["eval_loss"]),
        f"{row['step'] or 0} / {row['max_steps'] or '?'}",
        say.duration(row["seconds"]) if row["seconds"] else "",
        number(row["memory_gib"], f"\u00a0{say('unit.gib')}"),
        models.title(row["base_model"]),
        row["corpus"],
        row["method"],
        time.strftime("%d.%m.%Y %H:%M" if say.lang == "ru" else "%Y-%m-%d %H:%M", time.localtime(row["created"])),
        row["id"],
    ]


def on_select(event: gr.SelectData) -> str:
    # The id column, not the index: a table that the browser sorted counts its rows in another order.
    return event.row_value[-1]


def on_open(say: Say, run_id: str | None) -> tuple:
    """The chosen run in full."""
    if not run_id or run_id not in runs.listed():
        return "", "", "", "", gr.Column(visible=False), gr.File(visible=False), gr.Group(visible=False)
    row = store.sync(run_id)
    facts = {
        "runs.state": say(f"state.{row['state']}"),
        "runs.corpus_hash": f"`{row['corpus_hash'] or ''}`",
        "runs.device": f"{row['device'] or ''} {row['precision'] or ''}",
        "runs.directory": f"`{paths.run(run_id)}` ({_size(say, run_id)})",
    }
    if row["state"] == "failed" and row["message"]:
        facts["runs.state"] += ": " + trouble_of(say, row)
    lines = "  \n".join(f"{say(key)}: {value}" for key, value in facts.items())
    config = (paths.run(run_id) / "config.json").read_text(encoding="utf-8")
    hidden = gr.File(visible=False), gr.Group(visible=False)
    return row["name"], row["note"], lines, config, gr.Column(visible=True), *hidden


def trouble_of(say: Say, row: dict) -> str:
    return say.worded(row["trouble"], json.loads(row["trouble_values"] or "null"), row["message"])


def on_save(say: Say, run_id: str, name: str, note: str) -> None:
    _command(say, store.rename, run_id, name, note)
    gr.Info(say("runs.saved"))


def on_pack(say: Say, run_id: str) -> dict:
    """Write the capsule into a temporary directory and offer it."""
    out = Path(tempfile.mkdtemp(prefix="soulsmith-")) / f"{run_id}.zip"
    return gr.File(value=str(_command(say, export.capsule, run_id, out)), visible=True)


def on_delete(say: Say, run_id: str) -> tuple:
    question = say("runs.delete.ask", name=runs.label(run_id)["name"], size=_size(say, run_id))
    return gr.Group(visible=True), question


def on_delete_yes(say: Say, run_id: str) -> None:
    name = runs.label(run_id)["name"]
    _command(say, store.delete, run_id)
    gr.Info(say("runs.deleted", name=name))


def _size(say: Say, run_id: str) -> str:
    return f"{say.number(runs.disk_bytes(run_id) / 1e6)}\u00a0{say('unit.mb')}"


def _command(say: Say, command, *args):
    try:
        return command(*args)
    except (Trouble, RecipeTrouble) as error:
        raise gr.Error(say.trouble(error)) from error


def _next(count: int) -> int:
    return count + 1
