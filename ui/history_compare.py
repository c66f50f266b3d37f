"""Several runs of the Runs tab side by side: curves over each other, settings that differ, how each ended."""

import html
from functools import partial

import gradio as gr

from core.runs import compare, store
from ui import run_plots
from ui.text import Say

MOST = 7  # colours of the palette


def build(say: Say) -> dict:
    compared = {}
    with gr.Accordion(say("compare.title"), open=False):
        with gr.Row():
            compared["runs"] = gr.Dropdown(
                label=say("compare.runs"), info=say("compare.info"), multiselect=True, max_choices=MOST, scale=4
            )
            compared["log"] = gr.Checkbox(False, label=say("runs.log_scale"), scale=1)
        compared["plot"] = gr.Plot(show_label=False, visible=False)
        compared["table"] = gr.HTML()
    return compared


def connect(say: Say, compared: dict) -> None:
    for changed in (compared["runs"], compared["log"]):
        changed.input(
            partial(on_compare, say), [compared["runs"], compared["log"]], [compared["plot"], compared["table"]]
        )


def on_compare(say: Say, run_ids: list[str] | None, log: bool) -> tuple:
    """The curves over each other and the table, once two runs are chosen."""
    if not run_ids or len(run_ids) < 2:
        return gr.Plot(visible=False), f'<p class="subdued">{say("compare.few")}</p>'
    found = compare.compare(run_ids)
    curves = [(row["name"], store.curves(row["run"])) for row in found["runs"]]
    return gr.Plot(run_plots.overlay(say, curves, log), visible=True), table(say, found)


def table(say: Say, found: dict) -> str:
    """Settings that differ first, then the corpora and the figures; a column a run."""
    rows = found["runs"]
    lines = [("", [f"<b>{html.escape(row['name'])}</b>" for row in rows])]
    lines += [(name, [html.escape(str(value)) for value in values]) for name, values in found["differ"].items()]
    lines.append((say("runs.corpus_hash"), [f"<code>{(row['corpus_hash'] or '')[:16]}</code>" for row in rows]))
    lines.append((say("runs.state"), [say(f"state.{row['state']}") for row in rows]))
    for key, word in (("loss", "plot.train_loss"), ("eval_loss", "plot.eval_loss"), ("best_eval_loss", "compare.best")):
        values = [row[key] for row in rows]
        lines.append((say(word), [_number(say, value, values) for value in values]))
    lines.append((say("runs.time"), [say.duration(row["seconds"]) if row["seconds"] else "" for row in rows]))
    lines.append((say("runs.arena"), [_votes(say, row["arena"]) for row in rows]))
    body = "".join(
        f"<tr><th>{name}</th>{''.join(f'<td>{value}</td>' for value in values)}</tr>" for name, values in lines
    )
    same = say("compare.same", count=len(found["same"]))
    return f'<table class="compared">{body}</table><p class="subdued">{same}</p>'


def _number(say: Say, value: float | None, values: list) -> str:
    """A figure; the least of all is bold."""
    if value is None:
        return ""
    known = [other for other in values if other is not None]
    return f"<b>{say.number(value)}</b>" if value == min(known) and len(set(known)) > 1 else say.number(value)


def _votes(say: Say, votes: dict | None) -> str:
    return say("runs.votes", share=round(100 * votes["share"]), count=votes["votes"]) if votes else "–"
