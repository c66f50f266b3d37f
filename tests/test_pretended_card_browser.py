"""The page in a real browser on a pretended card, in Russian: a run is trained there, and base and run reply side by side.

`--screenshots DIR` keeps the pictures.
"""

import json
import os
import re
import signal
from contextlib import suppress

import pytest

from core import paths
from core.corpus import corpus
from core.runs import store
from tests import pretended_card
from tests.pretended_card import A100
from tests.test_browser import (  # noqa: F401 (fixtures)
    CHROMIUM,
    Server,
    browser,
    open_playground,
    open_tab,
    opened,
    picture,
    wait_until,
)
from ui.text import Say

SAY = Say("ru")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium here: apt-get install chromium"),
    pytest.mark.skipif(bool(pretended_card.missing()), reason=pretended_card.missing() or "there is a compiler"),
]


@pytest.fixture
def server(home):
    home.mkdir()
    server = Server(home, pretended_card.environment(cards=[A100 | {"capability": (8, 0)}]))
    server.start()
    yield server
    server.kill()
    with suppress(OSError, ValueError):
        os.kill(json.loads((paths.home() / "chat.json").read_text())["pid"], signal.SIGKILL)


def test_a_run_is_trained_and_talked_to_in_a_browser_on_a_pretended_card(
    browser,  # noqa: F811
    server,
    picture,  # noqa: F811
    tiny_model,
    tiny_corpus,
):
    corpus.create([tiny_corpus], "строки")
    page = opened(browser, server, "ru-RU")
    trained(page, tiny_model)
    row = store.sync_all()[0]
    assert (row["state"], row["device"], row["precision"]) == ("finished", A100["name"], "bf16")
    seen_in_training(page)
    picture(page, "card-training-ru")
    seen_among_runs(page, row)
    picture(page, "card-runs-ru")
    talked_to(page)
    picture(page, "card-playground-ru")
    for tab in ("opening", "calculator"):
        open_tab(page, SAY, tab)
        page.wait_for_timeout(1500)
        picture(page, f"card-{tab}-ru")
    assert page.foreign == []
    page.context.close()


def trained(page, model: str) -> None:
    """Fill the form, press Train, and wait until the run has ended."""
    from playwright.sync_api import expect

    open_tab(page, SAY, "training")
    expect(page.get_by_label(SAY("training.corpus"), exact=True)).to_have_value("строки")
    page.get_by_label(SAY("training.base_model"), exact=True).fill(model)
    page.keyboard.press("Enter")
    page.get_by_text(SAY("training.more"), exact=True).click()
    for name in ("eval_samples", "forgetting_meter"):
        page.get_by_label(SAY(f"training.{name}"), exact=True).check()
    for name, value in {"max_steps": 12, "eval_steps": 4, "max_length": 128}.items():
        page.get_by_label(SAY(f"training.{name}"), exact=True).fill(str(value))
    page.get_by_text(SAY("training.more"), exact=True).click()
    page.get_by_role("button", name=SAY("training.train"), exact=True).click()
    wait_until(lambda: store.sync_all() and (store.sync_all()[0]["step"] or 0) >= 4)
    # In mid-run: the plots are drawn of what there is.
    page.locator(".js-plotly-plot .scatterlayer path.js-line").first.wait_for()
    wait_until(lambda: store.sync_all()[0]["ended_at"])


def seen_in_training(page) -> None:
    """State, memory beside its forecast, and the four small plots with the forecast's line."""
    page.get_by_text(re.compile(r"12 / 12")).first.wait_for()
    page.get_by_text(re.compile(r"ГиБ \(по расчёту")).first.wait_for()
    page.get_by_text(SAY("runs.more_curves"), exact=True).first.click()
    page.locator(".js-plotly-plot .shapelayer path").first.wait_for(state="attached")
    page.get_by_text(SAY("eval_samples.title"), exact=True).first.click()
    page.get_by_text(SAY("eval_samples.base"), exact=True).first.wait_for()


def seen_among_runs(page, row: dict) -> None:
    open_tab(page, SAY, "runs")
    page.get_by_label(SAY("runs.pick"), exact=True).first.click()
    page.get_by_role("option", name=row["name"]).click()
    page.get_by_text(f"{A100['name']} bf16").wait_for()


def talked_to(page) -> None:
    """Both columns reply; the weights are random, so that only the figures under them can be looked at."""
    open_playground(page, SAY)
    page.get_by_label(SAY("playground.prompt"), exact=True).fill("Море и лампа?")
    page.get_by_role("button", name=SAY("playground.send"), exact=True).click()
    ended = re.compile("|".join(re.escape(SAY(f"finish.{reason}")) for reason in ("stop", "length")))
    page.get_by_text(ended).nth(1).wait_for(timeout=300_000)
