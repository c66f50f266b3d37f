"""Figures of the Calculator tab: the stacked bar, two sweeps, the distribution of errors."""

import plotly.graph_objects as go

from core.estimate import answer as answers
from core.estimate.answer import Answer
from core.estimate.memory import GIB
from ui.plots import PALETTE, layout
from ui.text import Say

PARTS = (
    "weights",
    "adapter",
    "gradients",
    "optimizer",
    "cache",
    "activations",
    "logits",
    "workspace",
    "allocator",
    "context",
)
COLOURS = (*PALETTE, "#4D4D4D", "#8C8C8C", "#B0B0B0")
LENGTHS = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
BATCHES = (1, 2, 4, 8, 16, 32)


def bar(say: Say, answer: Answer) -> go.Figure:
    """The peak by what it is made of, against the card."""
    memory = answer.memory
    sizes = memory.components | {"allocator": memory.reserved - memory.allocated, "context": memory.context}
    style = layout(say, "", "")
    style |= {
        "height": 190,
        "barmode": "stack",
        "hovermode": "closest",
        "legend": {"orientation": "h", "y": -0.3, "x": 0, "traceorder": "normal"},
    }
    style["margin"] = {"l": 8, "r": 16, "t": 26, "b": 40}
    figure = go.Figure(layout=style)
    for part, colour in zip(PARTS, COLOURS, strict=True):
        size = sizes.get(part, 0) / GIB
        if size > 0.005:
            name = f"{say(f'calculator.part.{part}')}: {say.number(size)}"
            figure.add_bar(y=[""], x=[size], name=name, orientation="h", marker_color=colour, hoverinfo="name")
    limit = answer.budget / GIB
    figure.add_vline(x=limit, line={"color": PALETTE[1], "width": 2})
    note = f"{say('calculator.card_line')} {say.number(limit)} {say('calculator.plot.gib')}"
    figure.add_annotation(x=limit, y=1.22, yref="paper", text=note, showarrow=False, xanchor="right")
    gib = f" {say('calculator.plot.gib')}"
    figure.update_xaxes(range=[0, 1.06 * max(limit, answer.process / GIB)], ticksuffix=gib)
    figure.update_yaxes(visible=False)
    return figure


def lengths(say: Say, answer: Answer) -> go.Figure:
    """Memory of the process against the sequence length, with the card's line."""
    longest = answer.shape.longest or LENGTHS[-1]
    x = [n for n in LENGTHS if n <= longest]
    y = [_process(answer, max_length=n) / GIB for n in x]
    figure = go.Figure(layout=layout(say, say("calculator.plot.length"), say("calculator.plot.gib")))
    figure.add_scatter(x=x, y=y, mode="lines+markers", name=say("calculator.plot.memory"), line={"color": PALETTE[0]})
    figure.add_hline(y=answer.budget / GIB, line={"color": PALETTE[1], "width": 2})
    figure.update_xaxes(type="log", tickvals=x, ticktext=[say.number(n, 6) for n in x])
    figure.update_layout(showlegend=False)
    return figure


def batches(say: Say, answer: Answer) -> go.Figure | None:
    """Hours of an epoch against the batch; batches that do not fit are hollow. Nothing where nothing is trained."""
    if answer.setup.method == "prompt":
        return None
    x, y, full = [], [], []
    for size in BATCHES:
        setup = answer.setup.changed(batch_size=size)
        rate = answers.pace(answer.shape, setup, answer.card).tokens_per_second
        x.append(size)
        y.append(answer.tokens / rate / 3600 * answer.correction.seconds)
        full.append(answers.judge(answer.shape, setup, answer.card, answer.budget)[1] != "no")
    figure = go.Figure(layout=layout(say, say("calculator.plot.batch"), say("calculator.plot.hours")))
    symbols = ["circle" if ok else "circle-open" for ok in full]
    marks = [say("calculator.mark.fits" if ok else "calculator.mark.no") for ok in full]
    figure.add_scatter(
        x=x, y=y, mode="lines+markers", line={"color": PALETTE[2]}, marker={"symbol": symbols, "size": 9}, text=marks
    )
    figure.update_xaxes(type="log", tickvals=x, ticktext=[str(n) for n in x])
    figure.update_yaxes(rangemode="tozero")
    return figure


def _process(answer: Answer, **fields) -> float:
    return answers.peak(answer.shape, answer.setup.changed(**fields), answer.card).process


def errors(say: Say, check: dict) -> go.Figure:
    """How many rows lie within how large an error, for the three ways of knowing."""
    style = layout(say, say("calculator.plot.error"), say("calculator.plot.share")) | {"hovermode": "closest"}
    figure = go.Figure(layout=style)
    curves = {name: check[name] for name in ("trace", "instant", "time")} | {
        "rival": next(iter(check["rivals"].values()))
    }
    colours = (PALETTE[2], PALETTE[0], PALETTE[4], PALETTE[1])
    for (name, summary), colour in zip(curves.items(), colours, strict=True):
        sizes = sorted(abs(error) * 100 for error in summary.get("errors", []))
        share = [100 * (i + 1) / len(sizes) for i in range(len(sizes))]
        figure.add_scatter(
            x=[max(size, 0.01) for size in sizes],
            y=share,
            mode="lines",
            line={"color": colour, "shape": "hv"},
            name=say(f"calculator.errors.{name}"),
        )
    figure.update_xaxes(
        type="log", tickvals=[0.01, 0.1, 1, 10, 100], ticktext=[say.number(v) for v in (0.01, 0.1, 1, 10, 100)]
    )
    return figure
