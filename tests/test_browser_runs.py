"""Runs that outlive their page: two are queued in a browser, the browser is closed and the server killed."""

import re

import pytest

from core import paths
from core.corpus import corpus
from core.runs import store
from tests.test_browser import CHROMIUM, Server, browser, open_tab, opened, wait_until  # noqa: F401
from ui.text import Say

STEPS = 250

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium here: apt-get install chromium"),
]


@pytest.fixture
def server(home):
    home.mkdir(exist_ok=True)
    server = Server(home)
    server.start()
    yield server
    server.kill()


def test_queued_runs_finish_with_the_browser_closed_and_the_server_killed(browser, server, tiny_model, tiny_corpus):  # noqa: F811
    from playwright.sync_api import expect

    say = Say("en")
    corpus.create([tiny_corpus], "tiny")
    page = opened(browser, server, "en-US")
    open_tab(page, say, "training")
    expect(page.get_by_label(say("training.corpus"), exact=True)).to_have_value("tiny")
    page.get_by_label(say("training.base_model"), exact=True).fill(tiny_model)
    page.keyboard.press("Enter")
    page.get_by_text(say("training.more"), exact=True).click()
    page.get_by_label(say("training.max_steps"), exact=True).fill(str(STEPS))
    page.get_by_label(say("training.max_length"), exact=True).fill("64")
    for name, seed in (("first", 1), ("second", 2)):
        page.get_by_label(say("training.seed"), exact=True).fill(str(seed))
        page.get_by_label(say("training.name")).fill(name)
        page.get_by_role("button", name=say("training.train"), exact=True).click()
        wait_until(lambda name=name: name in [row["name"] for row in store.sync_all()])
    page.get_by_text(say("queue.title"), exact=True).wait_for()
    page.context.close()

    first, second = (row["id"] for row in reversed(store.sync_all()))
    wait_until(lambda: (store.sync(first)["step"] or 0) >= 5)
    server.kill()
    assert store.sync(first)["state"] == "running"
    wait_until(lambda: (store.sync(second)["step"] or 0) >= 5)
    server.start()
    page = opened(browser, server, "en-US")
    open_tab(page, say, "training")
    wait_until(lambda: store.sync(second)["state"] == "finished")
    page.get_by_text("finished", exact=True).filter(visible=True).first.wait_for()
    for run_id in (first, second):
        assert store.sync(run_id)["state"] == "finished"
        assert [row["step"] for row in store.curves(run_id)["steps"]] == list(range(1, STEPS + 1))
        assert (paths.run(run_id) / "adapter" / "adapter_model.safetensors").is_file()
    page.locator(".js-plotly-plot .scatterlayer path.js-line").first.wait_for()
    assert page.get_by_text(re.compile(rf"step\s*{STEPS} / {STEPS}")).count() == 1
    assert page.foreign == []
    page.context.close()
