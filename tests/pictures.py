"""Pictures of the README that are made from figures: `python -m tests.pictures`; needs playwright and a chromium.

assets/errors.png: the calculator's errors on published measurements, from assets/check.json.
"""

import json
import shutil
import sys
from pathlib import Path

import plotly.graph_objects as go

from core import paths
from ui import calculator_plots
from ui.text import Say

WIDTH, HEIGHT = 1000, 420
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def errors() -> go.Figure:
    """The plot of errors in English, dark on white and large enough to be read in a README."""
    found = json.loads((paths.assets() / "check.json").read_text(encoding="utf-8"))
    figure = calculator_plots.errors(Say("en"), found)
    figure.update_layout(
        width=WIDTH,
        height=HEIGHT,
        paper_bgcolor="white",
        plot_bgcolor="white",
        font={"family": "IBM Plex Sans, DejaVu Sans, Arial, sans-serif", "size": 16, "color": "#333333"},
        margin={"l": 80, "r": 28, "t": 48, "b": 64},
    )
    figure.update_traces(line_width=3)
    return figure


def draw(figure: go.Figure, file: Path) -> None:
    """Write a figure of WIDTH x HEIGHT as PNG, drawn by the browser of this machine."""
    from playwright.sync_api import sync_playwright

    page = figure.to_html(include_plotlyjs=True, config={"staticPlot": True})
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_browser(), args=["--no-sandbox", "--disable-gpu"])
        sheet = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        sheet.set_content(page)
        sheet.add_style_tag(content="body { margin: 0 }")
        sheet.wait_for_selector(".main-svg .trace")
        sheet.screenshot(path=file)
        browser.close()


def _browser() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)  # None: the one that playwright installed


def main() -> None:
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else paths.assets() / "errors.png"
    draw(errors(), file)
    print(file)


if __name__ == "__main__":
    main()
