"""The Runs tab: a table of all runs with a search, one of them in full, and several side by side."""

import re
import time
from functools import partial
from pathlib import Path

import gradio as gr

from core.models import models
from core.runs import compare, runs, store
from ui import history_details, run_html, run_learned, run_plots, run_view, templates
from ui.plots import PALETTE
from ui.text import Say

# Of the table in their order, each with its width; those down to the id until a person chooses others.
COLUMNS = {
    "name": 220,
    "state": 140,
    "curve": 140,
    "base_loss": 140,
    "loss": 165,
    "steps": 100,
    "time": 110,
    "model": 180,
    "corpus": 180,
    "method": 80,
    "created": 140,
    "id": 220,
    "memory": 100,
    "disk": 100,
    "start": 180,
    "tags": 120,
}
USUAL = tuple(COLUMNS)[:12]
ALWAYS = ("name", "id")  # who it is, and by what a row that is clicked is known


def build(say: Say) -> dict:
    """The tab; returns its load handler, its outputs, and a State that changes when a run was renamed or deleted."""
    empty = gr.HTML()
    with gr.Column(elem_classes="filled"):  # hidden by assets/style.css while the line above says that there is no run
        gr.Markdown(say("runs.intro"))
        with gr.Row(elem_classes="actions"):
            search = gr.Textbox(label=say("runs.search"), info=say("runs.search.info"), scale=4)
            refresh = gr.Button(say("runs.refresh"), scale=1)
        table = gr.Dataframe(interactive=False, max_height=360, show_label=False, wrap=False, **head(say, USUAL))
        columns = build_columns(say)
        run = gr.Dropdown(label=say("runs.pick"), interactive=True)
        details = history_details.build(say, run)
        compared = build_comparison(say)
    changed = gr.State(0)
    inputs, listing = [run, search, columns], [table, run, compared, empty]
    load = partial(on_load, say)
    show = {"fn": partial(history_details.on_open, say), "inputs": run, "outputs": details["shown"]}
    show["show_progress_on"] = [details[name] for name in ("name", "learned", "loss")]
    again = show | {"fn": partial(history_details.on_changed, say)}
    refresh.click(load, inputs, listing).then(**again)
    found = {"fn": partial(on_search, say), "inputs": [search, columns], "outputs": table}
    search.submit(**found)
    for event in (search.change, columns.input):
        event(**found, show_progress="hidden")
    table.select(on_select, None, run)
    run.change(**show)
    for done in details["changes"]:
        done.then(load, inputs, listing).then(**again).then(lambda count: count + 1, changed, changed)
    return {
        "load": load,
        "inputs": inputs,
        "outputs": listing,
        "changed": changed,
        "pick": run,
        "go_on": details["go_on"],
    }


def build_columns(say: Say) -> gr.CheckboxGroup:
    """The choice of the table's columns, folded."""
    with gr.Accordion(say("runs.columns"), open=False):
        return gr.CheckboxGroup(
            [(say(f"runs.{name}"), name) for name in COLUMNS if name not in ALWAYS],
            value=[name for name in USUAL if name not in ALWAYS],
            label=say("runs.columns"),
            info=say("runs.columns.info"),
        )


def build_comparison(say: Say) -> gr.Dropdown:
    """Several runs side by side; the choice of runs."""
    with gr.Accordion(say("compare.title"), open=False):
        with gr.Row():
            words = {"label": say("compare.runs"), "info": say("compare.info")}
            chosen = gr.Dropdown(multiselect=True, max_choices=len(PALETTE), scale=4, **words)
            log = gr.Checkbox(False, label=say("runs.log_scale"), scale=1)
        table = gr.HTML()  # what differs comes first
        outputs = [gr.Plot(show_label=False, visible=False), table]
    for component in (chosen, log):
        component.input(partial(on_compare, say), [chosen, log], outputs)
    return chosen


def head(say: Say, columns: tuple[str, ...]) -> dict:
    """The properties of the table with these columns: with fixed widths what is too long ends in an ellipsis."""
    return {
        "headers": [say(f"runs.{name}") for name in columns],
        "datatype": ["html" if name == "curve" else "str" for name in columns],
        "column_widths": [COLUMNS[name] for name in columns],
    }


def on_load(
    say: Say, chosen: str | None, search: str = "", columns: list[str] | tuple = USUAL, asked: str = ""
) -> tuple:
    """The table of the runs that match the search, newest first, the lists to choose from, and whether there are any.

    `asked`: the run that the address names; it is shown. Where nothing was chosen, nothing is sent: it may be by now.
    """
    rows = store.sync_all()
    asked = run_view.known(say, rows, asked)
    choices = store.choices(rows)
    new = {"value": asked} if asked or (chosen and chosen not in [row["id"] for row in rows]) else {}
    empty = "" if rows else templates.macro("empty", say("runs.empty"), "training", say("runs.begin"))
    lists = gr.Dropdown(choices=choices, **new), gr.Dropdown(choices=choices)
    return on_search(say, search, columns, rows), *lists, empty


def on_search(
    say: Say, search: str, columns: list[str] | tuple = USUAL, rows: list[dict] | None = None
) -> gr.Dataframe:
    """The table of the runs that match the search, newest first."""
    sparks = store.sparks()
    shown = (*(name for name in COLUMNS if name in (*columns, *ALWAYS) and name != "id"), "id")
    rows = store.sync_all() if rows is None else rows
    found = [cells(say, row, sparks.get(row["id"], [])) for row in rows if matches(say, row, search or "")]
    return gr.Dataframe([[row[name] for name in shown] for row in found], **head(say, shown))


def matches(say: Say, row: dict, search: str) -> bool:
    """Whether a search is part of a run's id, or each of its words begins a word of the run's row.

    A number is a whole word: "2" is no beginning of "27B".
    """
    base = row["base_model"]
    texts = [row[name] or "" for name in ("name", "note", "tags", "method", "start_name", "device")]
    texts += [models.title(base), runs.corpus_name(row["corpus"]), say(f"state.{row['state']}")]
    texts.append("" if Path(base).is_absolute() else base)
    everything = " ".join(texts).lower()
    wanted = search.lower().strip()
    begins = [rf"(?<!\w){re.escape(word)}" + (r"(?!\w)" if word.isdigit() else "") for word in wanted.split()]
    return wanted in row["id"] or all(re.search(word, everything) for word in begins)


def cells(say: Say, row: dict, losses: list[float]) -> dict[str, str]:
    """One row of the table by COLUMNS; `losses` are drawn."""

    def number(value: float | None, unit: str = "") -> str:
        return "" if value is None else say.number(value) + unit

    return {
        "name": row["name"],
        "state": say(f"state.{row['state']}"),
        "curve": run_html.spark(losses),
        "base_loss": number(row["base_eval_loss"]),
        "loss": number(row["eval_loss"]),
        "steps": f"{row['step'] or 0} / {row['max_steps'] or '?'}",
        "time": say.duration(row["duration_seconds"]) if row["duration_seconds"] else "",
        "model": models.title(row["base_model"]),
        "corpus": runs.corpus_name(row["corpus"]),
        "method": row["method"],
        "created": time.strftime(say("date.format"), time.localtime(row["created_at"])),
        "id": row["id"],
        "memory": number(row["memory_gib"], f"\u00a0{say('unit.gib')}"),
        "disk": number(row["disk_bytes"] and round(row["disk_bytes"] / 1e6, 1), f"\u00a0{say('unit.mb')}"),
        "start": row["start_name"] or "",
        "tags": row["tags"] or "",
    }


def on_select(event: gr.SelectData) -> str:
    # The id column, not the index: a table that the browser sorted counts its rows in another order.
    return event.row_value[-1]


def on_compare(say: Say, run_ids: list[str] | None, log: bool) -> tuple:
    """The curves over each other and the table, once two runs are chosen."""
    if not run_ids or len(run_ids) < 2:
        return gr.Plot(visible=False), templates.macro("paragraph", say("compare.few"), css="subdued")
    found = compare.compare(run_ids)
    curves = [(row["name"], store.curves(row["run"])) for row in found["runs"]]
    return gr.Plot(run_plots.overlay(say, curves, log), visible=True), templates.render(
        say, "history", **found, shares=run_learned.shares
    )
