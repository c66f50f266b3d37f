"""Figures of the Corpus tab: lengths, sources, copies."""

import plotly.graph_objects as go

from ui.plots import PALETTE, layout
from ui.text import Say


def lengths(say: Say, histogram: list[list[int]], unit: str, limit: int | None = None) -> go.Figure:
    """How many rows have which length; a line stands at max_length."""
    figure = go.Figure(layout=layout(say, say(f"corpora.plot.{unit}"), say("corpora.plot.rows"), bargap=0.05))
    figure.add_bar(
        x=[(low + high) / 2 for low, high, _ in histogram],
        y=[count for _, _, count in histogram],
        width=[max(0.5, high - low) for low, high, _ in histogram],
        customdata=[f"{low}–{high - 1}" for low, high, _ in histogram],
        hovertemplate="%{customdata}: %{y}<extra></extra>",
        marker={"color": PALETTE[0]},
    )
    figure.update_xaxes(type="log")
    if limit and histogram and histogram[0][0] < limit < 4 * histogram[-1][1]:
        figure.add_vline(x=limit, line={"color": PALETTE[1], "dash": "dash"}, annotation_text="max_length")
    return figure


def parts(say: Say, counts: dict[str, int]) -> go.Figure:
    """Bars of named parts of a corpus, the largest on top."""
    items = sorted(counts.items(), key=lambda item: item[1])[-12:]
    figure = go.Figure(layout=layout(say, say("corpora.plot.rows"), "", hovermode="closest"))
    figure.add_bar(
        y=[name[-40:] or "—" for name, _ in items],
        x=[count for _, count in items],
        orientation="h",
        marker={"color": PALETTE[2]},
        hovertemplate="%{y}: %{x}<extra></extra>",
    )
    return figure
