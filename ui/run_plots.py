"""Figures of a run and of several, over their whole length: few points, fixed heights, one colour for each thing."""

import json

import numpy as np
import plotly.graph_objects as go

from core import paths
from core.runs import runs
from core.runs.curves import PREFERENCES, outlook
from ui.plots import PALETTE, horizontal_line, layout, smooth
from ui.text import Say

SMALL = {"learning_rate": "ends", "grad_norm": "steep", "tokens_per_second": "ends", "memory_gib": "ends"}
FOUR = tuple({"xaxis": f"x{number}", "yaxis": f"y{number}"} for number in ("", "2", "3", "4"))
FEW_STEPS = 10  # below that every step has its tick
FEW_POINTS = 40  # of a curve, which are marked: a line of one point is not to be seen
SMALL_HEIGHT = 420
LOSS_HEIGHT = 360  # with the rows of its legend on a phone
LEGEND = 24  # letters of a name


def keeper() -> str:
    """JavaScript for a gr.HTML beside plots: frees those that are replaced and hands their zoom on, once a page."""
    return f"({(paths.assets() / 'plots.js').read_text(encoding='utf-8')})()"


def loss(say: Say, row: dict, curves: dict, log: bool = False) -> go.Figure:
    """Training loss, raw and smoothed, and held-out loss with its best step."""
    title = "plot.preference.loss" if any(curves.get("preferences", {}).values()) else "plot.loss"
    figure = go.Figure(layout=layout(say, say("plot.step"), say(title), uirevision=row["id"], height=LOSS_HEIGHT))
    _line(figure, curves["steps"], "loss", say("plot.train_loss"), PALETTE[0], opacity=0.35)
    _line(figure, _smoothed(curves), "loss", say("plot.smoothed"), PALETTE[0])
    evals = curves["evals"]
    _line(figure, evals, "eval_loss", say("plot.eval_loss"), PALETTE[1], mode="lines+markers")
    config = json.loads(row["config"]) if any("by_corpus" in point for point in evals) else {"mix": ()}
    names = [config["corpus"], *(corpus for corpus, _ in config["mix"])] if config["mix"] else ()
    for number, corpus in enumerate(names):
        points = [point | {"own": point["by_corpus"][number]} for point in evals if "by_corpus" in point]
        name = say("plot.eval_loss.of", name=runs.corpus_name(corpus))
        _line(figure, points, "own", name, PALETTE[2 + number % 4], mode="lines+markers", line_dash="dot")
    if row["best_step"] is not None and row["best_eval_loss"] is not None:
        drawn = [point["eval_loss"] for point in evals if point["step"] == row["best_step"]]  # where its point is
        figure.add_scatter(
            x=[row["best_step"]],
            y=drawn[-1:] or [row["best_eval_loss"]],
            name=say("plot.best", step=row["best_step"]),
            mode="markers",
            marker={"symbol": "star", "size": 13, "color": PALETTE[1]},
        )
    if row["state"] in runs.ACTIVE:
        _outlook(say, figure, row, curves)
    if log:
        figure.update_yaxes(type="log")
    if (row["max_steps"] or FEW_STEPS) < FEW_STEPS:
        figure.update_xaxes(dtick=1)
    if not curves["steps"] and not evals:  # else empty axes would begin below 0
        figure.update_xaxes(range=[0, row["max_steps"] or 10])
        figure.update_yaxes(showticklabels=False)
    return figure


def _outlook(say: Say, figure: go.Figure, row: dict, curves: dict) -> None:
    """Where the held-out loss, or until it was measured often enough the training loss, may end, with its band."""
    measured = [("eval_loss", [point for point in curves["evals"] if point["step"]], PALETTE[1])]
    measured.append(("loss", curves["means"], PALETTE[0]))
    for key, points, colour in measured:
        known = [(point["step"], point[key]) for point in points if point[key] is not None]
        if found := outlook(known, row["max_steps"] or 0):
            steps, low, middle, high = found
            edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
            figure.add_scatter(x=steps, y=low, **edge)
            figure.add_scatter(x=steps, y=high, fill="tonexty", fillcolor=_faint(colour), **edge)
            figure.add_scatter(
                x=steps,
                y=middle,
                name=say("plot.outlook"),
                mode="lines",
                line={"color": colour, "dash": "dot"},
                customdata=list(zip(low, high, strict=True)),
                hovertemplate="%{y:.3f} (%{customdata[0]:.3f} – %{customdata[1]:.3f})",
            )
            return


def _faint(colour: str) -> str:
    """A colour of the palette, nearly transparent."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.12)"


def small(say: Say, row: dict, curves: dict) -> go.Figure:
    """Learning rate, gradient norm, tokens a second and memory, four small plots in one figure."""
    figure = go.Figure(layout=_four(say, row, tuple(SMALL)))
    for name, axes, colour in zip(SMALL, FOUR, PALETTE[2:6], strict=True):
        _line(figure, curves[SMALL[name]], name, say(f"plot.{name}"), colour, **axes)
    if row["predicted_memory_bytes"] and row["device"] not in (None, "cpu"):  # of a card's memory, not of a process's
        line = {"dash": "dash", "color": PALETTE[6]}
        horizontal_line(figure, row["predicted_memory_bytes"] / 2**30, say("live.predicted"), line, axes="4")
    return figure


def preferences(say: Say, row: dict, measured: dict[str, list[dict]]) -> go.Figure:
    """Margin, accuracy and the likelihood of either side over the steps, in training and on the pairs held out."""
    figure = go.Figure(layout=_four(say, row, PREFERENCES))
    for name, axes in zip(PREFERENCES, FOUR, strict=True):
        _line(figure, measured["train"], name, say("plot.preference.train"), PALETTE[0], **axes)
        held_out = {"mode": "lines+markers", **axes}
        _line(figure, measured["eval"], name, say("plot.preference.eval"), PALETTE[1], **held_out)
    return figure


def _four(say: Say, row: dict, names: tuple[str, ...]) -> dict:
    """The layout of four plots in one figure, titled plot.<name>."""
    # Laid out by the browser: plotly's make_subplots takes ten times as long as all else here, at every drawing.
    grid = {"rows": 2, "columns": 2, "pattern": "independent", "xgap": 0.214, "ygap": 0.246}
    words = layout(say, "", "", height=SMALL_HEIGHT, showlegend=False, uirevision=row["id"], grid=grid)
    across, axis = words.pop("xaxis"), words.pop("yaxis")
    for name, number in zip(names, ("", "2", "3", "4"), strict=True):
        title = {"text": say(f"plot.{name}"), "standoff": 6}
        words |= {f"xaxis{number}": across, f"yaxis{number}": axis | {"title": title}}
    return words


def forgetting(say: Say, scores: list[dict], red: float) -> go.Figure:
    """The score of the forgetting meter over the steps, with a red line there, and the share of foreign letters."""
    figure = go.Figure(layout=layout(say, say("plot.step"), say("plot.forgetting")))
    _line(figure, scores, "score", say("plot.forgetting.score"), PALETTE[0], mode="lines+markers")
    if scores:
        line = {"color": "#d62728"}
        horizontal_line(figure, red, say("plot.forgetting.red"), line)
    if any(row["foreign_share"] is not None for row in scores):
        right = {"overlaying": "y", "side": "right", "range": [0, 1], "tickformat": ".0%", "showgrid": False}
        figure.update_layout(yaxis2=right, margin={"r": 48})
        _line(figure, scores, "foreign_share", say("plot.forgetting.foreign"), PALETTE[4], yaxis="y2", line_dash="dot")
    return figure


def overlay(say: Say, runs: list[tuple[str, dict]], log: bool = False) -> go.Figure:
    """Smoothed training loss and held-out loss of several runs, one colour a run."""
    figure = go.Figure(layout=layout(say, say("plot.step"), say("plot.loss"), height=LOSS_HEIGHT))
    for number, (name, curves) in enumerate(runs):
        colour, name = PALETTE[number % len(PALETTE)], _short(name)
        _line(figure, _smoothed(curves), "loss", name, colour, legendgroup=name)
        evals = {"mode": "lines+markers", "line_dash": "dot", "legendgroup": name, "showlegend": False}
        _line(figure, curves["evals"], "eval_loss", f"{name} · eval_loss", colour, **evals)
    if log:
        figure.update_yaxes(type="log")
    return figure


def _short(name: str) -> str:
    """A name for a legend: its beginning and its end, where names of one corpus differ."""
    return name if len(name) <= LEGEND else f"{name[: LEGEND // 2]}…{name[-(LEGEND - LEGEND // 2 - 1) :]}"


def _smoothed(curves: dict) -> list[dict]:
    losses = smooth([mean["loss"] for mean in curves["means"]])
    return [{"step": mean["step"], "loss": loss} for mean, loss in zip(curves["means"], losses, strict=True)]


def _line(figure, rows: list[dict], key: str, name: str, colour: str, *, mode: str = "", line_dash=None, **more):
    points = [(row["step"], row[key]) for row in rows if row[key] is not None]
    figure.add_scatter(
        x=np.array([step for step, _ in points], np.int32),  # arrays travel packed: a quarter of the bytes of lists
        y=np.array([value for _, value in points], np.float32),
        name=name,
        mode=mode or ("lines+markers" if len(points) <= FEW_POINTS else "lines"),
        marker={"size": 5},
        line={"color": colour, "dash": line_dash},
        **more,
    )
