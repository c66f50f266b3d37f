"""Where a loss may end, drawn while a run goes on: what really comes lies in the band."""

import math
import random

import pytest

from core import events, jobs, paths
from core.runs import runs, store
from core.runs.curves import outlook
from core.training.config import TrainConfig
from tests.test_runs import write_steps
from ui import run_html, run_plots
from ui.text import Say

CURVES = {
    "falls like the logarithm": lambda step: 4 - 0.3 * math.log(step),
    "levels off": lambda step: 2 + 2 / math.sqrt(step),
    "has levelled off": lambda step: 2 + 2 * math.exp(-step / 50),
    "rises again": lambda step: 2 + abs(math.log(step / 150)) / 4,
}


@pytest.mark.parametrize("noise", [0.001, 0.05, 0.12])
@pytest.mark.parametrize("shape", CURVES)
def test_the_end_of_a_curve_lies_in_its_band(shape, noise):
    caught, tried = 0, 100
    for seed in range(tried):
        draw = random.Random(seed)
        known = [(step, CURVES[shape](step) + draw.gauss(0, noise)) for step in range(10, 400, 10)]
        _, low, _, high = outlook(known, 1000)
        caught += low[-1] <= CURVES[shape](1000) + draw.gauss(0, noise) <= high[-1]
    assert caught >= 0.9 * tried


def test_the_band_begins_at_the_last_point_and_widens():
    steps, low, middle, high = outlook([(step, 3 - 0.2 * math.log(step)) for step in (10, 20, 30, 40)], 100)
    assert (steps[0], steps[-1]) == (40, 100)
    assert middle[-1] == pytest.approx(3 - 0.2 * math.log(100))
    widths = [above - below for below, above in zip(low, high, strict=True)]
    assert widths == sorted(widths)


@pytest.mark.parametrize(
    "points",
    [
        [],
        [(10, 3.0), (20, 2.9), (30, 2.8)],
        [(10, 3.0), (20, 2.9), (30, 2.8), (96, 2.7)],
        [(10, 9.0), (20, 0.1), (30, 8.0), (40, 0.2)],
        [(10, math.nan)] * 9,
    ],
)
def test_nothing_is_forecast_from_too_little(points):
    assert outlook(points, 100) is None


@pytest.fixture
def going(home, tiny_corpus, no_worker, monkeypatch):
    """The loss plot of a run at step 60 of 300, whose process is at work, with so many evaluations."""

    def drawn(evaluations: int):
        run_id = runs.create(TrainConfig(base_model="starter", corpus=tiny_corpus, max_steps=300))
        events.append(paths.run(run_id), "started", resumed_from=None)
        write_steps(run_id, 1, 60, of=300)
        for at in range(evaluations):
            events.append(paths.run(run_id), "eval", step=10 * at, eval_loss=3 - 0.1 * at)
        monkeypatch.setattr(jobs, "is_alive", lambda directory: True)
        return run_plots.loss(Say("en"), store.sync(run_id), store.curves(run_id))

    return drawn


def test_the_held_out_loss_is_forecast_once_it_was_measured_often_enough(going):
    of = {count: going(count).data[-1] for count in (2, 6)}
    assert {trace.name for trace in of.values()} == {Say("en")("plot.outlook")}
    assert {count: trace.x[-1] for count, trace in of.items()} == {2: 300, 6: 300}
    assert [trace.line.color for trace in of.values()] == list(run_plots.PALETTE[:2])


def test_a_curve_of_few_points_is_marked(going):
    raw, *_ = going(0).data
    assert raw.mode == "lines"
    figure = run_plots.overlay(Say("en"), [("a", {"means": [{"step": 1, "loss": 2.0}], "evals": []})])
    assert figure.data[0].mode == "lines+markers"


def test_the_time_of_the_end_names_the_day_only_where_it_is_another():
    say, noon = Say("en"), 1_700_000_000 // 86400 * 86400 + 12 * 3600
    assert len(run_html.ends(say, 60, noon)) == len("12:01")
    assert len(run_html.ends(say, 3 * 86400, noon)) == len("2023-11-17 12:00")


def test_the_latest_replies_are_those_of_the_last_step_with_replies():
    said = [{"step": step, "prompt": "Who?", "reply": f"<b>{step}"} for step in (0, 10, 20)]
    shown = run_html.latest_replies(Say("en"), said)
    assert "&lt;b&gt;20" in shown
    assert "&lt;b&gt;10" not in shown
    assert run_html.latest_replies(Say("en"), []) == ""
