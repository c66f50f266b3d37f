"""The Runs tab: a table of all runs with a search, one of them in full, and several side by side."""

import time
from functools import partial

import gradio as gr

from core.models import models
from core.runs import compare, store
from ui import history_details, run_learned, run_plots, run_view, templates
from ui.plots import PALETTE
from ui.text import Say

COLUMNS = (
    "name",
    "state",
    "base_loss",
    "loss",
    "steps",
    "time",
    "memory",
    "disk",
    "model",
    "corpus",
    "method",
    "start",
    "tags",
)
COLUMNS += ("created", "id")


def build(say: Say) -> dict:
    """The tab; returns its load handler, its outputs, and a State that changes when a run was renamed or deleted."""
    gr.Markdown(say("runs.intro"))
    with gr.Row():
        search = gr.Textbox(label=say("runs.search"), info=say("runs.search.info"), scale=4)
        refresh = gr.Button(say("runs.refresh"), scale=1)
    table = gr.Dataframe(
        headers=[say(f"runs.{name}") for name in COLUMNS],
        interactive=False,
        max_height=360,
        show_label=False,
        wrap=False,
    )
    run = gr.Dropdown(label=say("runs.pick"), interactive=True)
    details = history_details.build(say, run)
    compared = build_comparison(say)
    changed = gr.State(0)
    inputs, listing = [run, search], [table, run, compared]
    load = partial(on_load, say)
    show = {"fn": partial(history_details.on_open, say), "inputs": run, "outputs": details["shown"]}
    refresh.click(load, inputs, listing).then(**show)
    search.submit(load, inputs, listing)
    search.change(load, inputs, listing, show_progress="hidden", trigger_mode="always_last")
    table.select(on_select, None, run)
    run.change(**show)
    for done in details["changes"]:
        done.then(load, inputs, listing).then(**show).then(lambda count: count + 1, changed, changed)
    return {
        "load": load,
        "inputs": inputs,
        "outputs": listing,
        "changed": changed,
        "pick": run,
        "go_on": details["go_on"],
    }


def build_comparison(say: Say) -> gr.Dropdown:
    """Several runs side by side; the choice of runs."""
    with gr.Accordion(say("compare.title"), open=False):
        with gr.Row():
            words = {"label": say("compare.runs"), "info": say("compare.info")}
            chosen = gr.Dropdown(multiselect=True, max_choices=len(PALETTE), scale=4, **words)
            log = gr.Checkbox(False, label=say("runs.log_scale"), scale=1)
        outputs = [gr.Plot(show_label=False, visible=False), gr.HTML()]
    for component in (chosen, log):
        component.input(partial(on_compare, say), [chosen, log], outputs)
    return chosen


def on_load(say: Say, chosen: str | None, search: str = "", asked: str = "") -> tuple:
    """The table of the runs that match the search, newest first, and the lists to choose from.

    `asked`: the run that the address names; it is shown.
    """
    rows = store.sync_all()
    asked = run_view.known(say, rows, asked)
    choices = store.choices(rows)
    new = {} if not asked and chosen in [row["id"] for row in rows] else {"value": asked}
    info = "" if rows else say("runs.empty")
    return (
        [cells(say, row) for row in rows if matches(say, row, search or "")],
        gr.Dropdown(choices=choices, info=info, **new),
        gr.Dropdown(choices=choices),
    )


def matches(say: Say, row: dict, search: str) -> bool:
    """Whether every word of a search is somewhere in a run's row."""
    texts = [
        row[name] or ""
        for name in ("name", "note", "tags", "corpus", "base_model", "method", "start_name", "id", "device")
    ]
    everything = " ".join([*texts, say(f"state.{row['state']}"), models.title(row["base_model"])]).lower()
    return all(word in everything for word in search.lower().split())


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
        say.duration(row["duration_seconds"]) if row["duration_seconds"] else "",
        number(row["memory_gib"], f"\u00a0{say('unit.gib')}"),
        number(row["disk_bytes"] and round(row["disk_bytes"] / 1e6, 1), f"\u00a0{say('unit.mb')}"),
        models.title(row["base_model"]),
        row["corpus"],
        row["method"],
        row["start_name"] or "",
        row["tags"] or "",
        time.strftime(say("date.format"), time.localtime(row["created_at"])),
        row["id"],
    ]


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
