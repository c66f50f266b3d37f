"""What every plot of the page has in common: colours, layout, and how a noisy curve is smoothed."""

from ui.text import Say

# Distinguishable with all kinds of colour vision: Okabe and Ito, https://jfly.uni-koeln.de/color/, the blue a little
# lighter, so that it keeps a contrast of 3 on the dark ground too.
PALETTE = ("#1F7FC1", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
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
        "separators": say("number.decimal") + say("number.thousands"),
        "xaxis": {"title": {"text": x, "standoff": 4}, **axis},
        "yaxis": {"title": {"text": y, "standoff": 12}, "automargin": True, "hoverformat": ".4~g", **axis},
        "legend": {"orientation": "h", "y": -0.3, "yanchor": "top", "x": 0},  # below the plot, never over it
        "hovermode": "x unified",
        **more,
    }


def horizontal_line(figure, y: float, words: str, line: dict, axes: str = "") -> None:
    """A line across one plot of a figure, with words above its right end; `axes` is "4" for the plot of x4 and y4.

    Not plotly's add_hline: with the axes of a plot of many it raises in plotly 7 and puts the words on the first plot.
    """
    across = {"xref": f"x{axes} domain", "yref": f"y{axes}"}
    figure.add_shape(type="line", x0=0, x1=1, y0=y, y1=y, line=line, **across)
    figure.add_annotation(x=1, y=y, text=words, showarrow=False, xanchor="right", yanchor="bottom", **across)


def smooth(values: list[float | None]) -> list[float | None]:
    """Exponential moving average without the pull towards zero at the start; gaps stay gaps."""
    mean, mass, smoothed = 0.0, 0.0, []
    for value in values:
        if value is None:
            smoothed.append(None)
            continue
        mean, mass = SMOOTHING * mean + (1 - SMOOTHING) * value, SMOOTHING * mass + (1 - SMOOTHING)
        smoothed.append(mean / mass)
    return smoothed
