"""Every plot of the page, built from what a machine with cards brings: forecasts, the memory of a card, many runs."""

import inspect
import json
from pathlib import Path

import plotly.graph_objects as go
import plotly.io
import pytest

from core import paths
from core.estimate import answer, cards, catalogue
from core.estimate.setup import Setup
from core.runs import runs, store
from tests.card_page import GIB, MACHINES, furnish
from tests.page_session import UNREADABLE, words_of
from ui import calculator_plots, corpora_plots, run_plots
from ui.text import LANGUAGES, Say

UI = Path(__file__).parent.parent / "ui"
MODULES = (calculator_plots, corpora_plots, run_plots)
PAIRS = [
    {"step": step, "margin": step / 9, "accuracy": 0.7, "chosen_logp": -40.5, "rejected_logp": -40 - step}
    for step in range(49)
] + [{"step": 49, "margin": None, "accuracy": None, "chosen_logp": -40.5, "rejected_logp": None}]
CARDS = {card.name: card for cards in MACHINES.values() for card in cards}


@pytest.fixture(scope="module")
def trained_on_a_card(tmp_path_factory, tiny_corpus):
    """A run with all its curves: (row, curves, scores of the forgetting meter)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOULSMITH_HOME", str(tmp_path_factory.mktemp("figures") / "дом"))
        patch.setattr(runs, "start_worker", lambda: None)
        with furnish(tiny_corpus):
            run_id = next(one for one in runs.listed() if runs.label(one)["name"] == "finished")
            yield store.sync(run_id), store.curves(run_id), store.forgetting(run_id)


def test_every_module_of_plots_is_looked_at():
    found = {path.stem for path in UI.glob("*plots*.py")} - {"plots"}
    assert found == {module.__name__.removeprefix("ui.") for module in MODULES}


def of_a_card(say: Say, card) -> dict[str, go.Figure]:
    """The calculator's plots of a card."""
    known = cards.of_machine(card)
    setup = Setup(precision=answer.best_precision(known))
    asked = answer.ask(catalogue.shape("Qwen/Qwen2.5-7B"), setup, known, tokens=10**8)
    return {
        "calculator_plots.bar": calculator_plots.bar(say, asked),
        "calculator_plots.lengths": calculator_plots.lengths(say, asked),
        "calculator_plots.batches": calculator_plots.batches(say, asked),
    }


def of_a_run(say: Say, run) -> dict[str, go.Figure]:
    """The plots that no card changes: of a run, of a corpus, of the calculator's errors."""
    row, curves, scores = run
    check = json.loads((paths.assets() / "check.json").read_text(encoding="utf-8"))
    nothing = {"steps": [], "means": [], "ends": [], "steep": [], "evals": []}
    return {
        "calculator_plots.errors": calculator_plots.errors(say, check),
        "corpora_plots.lengths": corpora_plots.lengths(say, [[1, 512, 9], [512, 4096, 4]], "tokens", 2048),
        "corpora_plots.parts": corpora_plots.parts(say, {"сказки": 4, "": 1}),
        "run_plots.loss": run_plots.loss(say, row, curves, log=True),
        "run_plots.small": run_plots.small(say, row, curves),
        "run_plots.small of a run that has just begun": run_plots.small(say, row, nothing),
        "run_plots.preferences": run_plots.preferences(say, row, {"train": PAIRS, "eval": PAIRS[::9]}),
        "run_plots.forgetting": run_plots.forgetting(say, scores, scores[0]["score"] - 0.7 if scores else 0),
        "run_plots.overlay": run_plots.overlay(say, [(row["name"], curves)] * 7, log=True),
    }


def unreadable(figures: dict[str, go.Figure]) -> dict[str, list[str]]:
    """The words of figures that cannot be read, as they travel to the browser."""
    words = {name: words_of(json.loads(plotly.io.to_json(figure))) for name, figure in figures.items()}
    return {name: bad for name, texts in words.items() if (bad := [text for text in texts if UNREADABLE.search(text)])}


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("card", CARDS)
def test_every_figure_of_a_card_is_drawn(lang, card):
    assert unreadable(of_a_card(Say(lang), CARDS[card])) == {}


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_figure_is_drawn_of_a_run_on_a_card(lang, trained_on_a_card):
    assert unreadable(of_a_run(Say(lang), trained_on_a_card)) == {}


def test_no_function_that_makes_a_figure_is_left_out(trained_on_a_card):
    made = {
        f"{module.__name__.removeprefix('ui.')}.{name}"
        for module in MODULES
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and inspect.signature(function).return_annotation is go.Figure
    }
    drawn = of_a_run(Say("en"), trained_on_a_card) | of_a_card(Say("en"), next(iter(CARDS.values())))
    assert made - set(drawn) == set()


def test_the_forecast_is_a_line_across_the_plot_of_memory(trained_on_a_card):
    row, curves, _ = trained_on_a_card
    figure = run_plots.small(Say("en"), row, curves)
    (line,), (words,) = figure.layout.shapes, figure.layout.annotations
    assert (line.xref, line.yref, line.x0, line.x1, line.y0, line.y1) == ("x4 domain", "y4", 0, 1, 21.5, 21.5)
    assert (words.xref, words.yref, words.y, words.text) == ("x4 domain", "y4", 21.5, "predicted")
    memory = next(trace for trace in figure.data if trace.yaxis == "y4")
    assert memory.name == "memory, GiB"
    assert max(memory.y) == pytest.approx(19.0)
    on_cpu = run_plots.small(Say("en"), row | {"device": "cpu"}, curves)
    assert on_cpu.layout.shapes == ()


def test_the_red_line_of_forgetting_crosses_the_whole_plot(trained_on_a_card):
    _, _, scores = trained_on_a_card
    figure = run_plots.forgetting(Say("en"), scores, -1.7)
    assert [(line.xref, line.yref, line.y0) for line in figure.layout.shapes] == [("x domain", "y", -1.7)]


def test_a_machine_s_card_is_the_limit_of_the_calculator_s_bar():
    card = CARDS["NVIDIA GeForce RTX 4090"]
    bar = of_a_card(Say("en"), card)["calculator_plots.bar"]
    assert bar.layout.shapes[0].x0 == card.total_bytes / GIB
