"""Rows to figures: one layout and one colour-blind safe palette (Okabe and Ito) for every plot of the page."""

import plotly.graph_objects as go

from ui.text import Say
from ui.theme import PALETTE

HEIGHT = 300  # fixed: a plot that is replaced while it runs must not change the page's height
SMOOTHING = 0.9  # weight of the past in the smoothed loss


def layout(say: Say, x: str, y: str, **more) -> dict:
    """The shared layout: transparent, so that light and dark themes both shine through."""
    axis = {"gridcolor": "rgba(128,128,128,0.2)", "zeroline": False, "linecolor": "rgba(128,128,128,0.4)"}
    return {
        "template": "none",
        "height": HEIGHT,
        "margin": {"l": 64, "r": 16, "t": 16, "b": 44},
        "font": {"family": "IBM Plex Sans, sans-serif", "size": 12, "color": "#808890"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "separators": ",\u00a0" if say.lang == "ru" else ".,",
        "xaxis": {"title": {"text": x}, **axis},
        "yaxis": {"title": {"text": y, "standoff": 12}, "automargin": True, **axis},
        "legend": {"orientation": "h", "y": 1.12, "x": 0},
        "hovermode": "x unified",
        **more,
    }


def loss(say: Say, steps: list[dict], evals: list[dict]) -> go.Figure:
    """Training loss, raw and smoothed, and held-out loss over the steps."""
    x, raw = [row["step"] for row in steps], [row["loss"] for row in steps]
    figure = go.Figure(layout=layout(say, say("plot.step"), say("plot.loss")))
    figure.add_scatter(x=x, y=raw, name=say("plot.train_loss"), mode="lines", opacity=0.35, line={"color": PALETTE[0]})
    figure.add_scatter(x=x, y=smooth(raw), name=say("plot.smoothed"), mode="lines", line={"color": PALETTE[0]})
    figure.add_scatter(
        x=[row["step"] for row in evals],
        y=[row["eval_loss"] for row in evals],
        name=say("plot.eval_loss"),
        mode="lines+markers",
        line={"color": PALETTE[1]},
    )
    return figure


def series(say: Say, steps: list[dict], key: str, colour: str) -> go.Figure:
    """One logged value over the steps, such as learning_rate."""
    figure = go.Figure(layout=layout(say, say("plot.step"), say(f"plot.{key}")))
    x, y = [row["step"] for row in steps], [row[key] for row in steps]
    figure.add_scatter(x=x, y=y, name=say(f"plot.{key}"), mode="lines", line={"color": colour})
    return figure


def smooth(values: list[float | None], weight: float = SMOOTHING) -> list[float | None]:
    """Exponential moving average without the pull towards zero at the start; gaps stay gaps."""
    mean, mass, smoothed = 0.0, 0.0, []
    for value in values:
        if value is None:
            smoothed.append(None)
            continue
        mean, mass = weight * mean + (1 - weight) * value, weight * mass + (1 - weight)
        smoothed.append(mean / mass)
    return smoothed
