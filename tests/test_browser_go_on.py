"""In a browser, in both languages: a finished run is gone on from, and a second corpus is read beside the first."""

import json
from dataclasses import asdict, replace

import pytest

from core import paths
from core.corpus import corpus
from core.runs import runs, starts, store
from core.runs import trainer as run_trainer
from core.training.config import TrainConfig
from tests.test_browser import CHROMIUM, Server, browser, open_tab, opened, wait_until  # noqa: F401
from tests.test_shares import text_rows, write
from ui.text import Say

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


@pytest.mark.parametrize(("lang", "locale"), [("en", "en-US"), ("ru", "ru-RU")])
def test_go_on_and_shares_in_a_browser(browser, server, tiny_model, tiny_corpus, tmp_path, lang, locale, request):  # noqa: F811
    from playwright.sync_api import expect

    say, folder = Say(lang), request.config.getoption("--screenshots")
    chats = corpus.create([tiny_corpus], "чаты")["id"]
    texts = corpus.create([write(tmp_path / "texts.jsonl", text_rows(60))], "тексты")["id"]
    settings = {"max_steps": 4, "eval_steps": 2, "lora_rank": 4, "lora_alpha": 8, "precision": "fp32", "max_length": 64}
    parent = runs.create(TrainConfig(base_model=tiny_model, corpus=chats, method="lora", **settings), "отец")
    run_trainer.run(paths.run(parent))

    page = opened(browser, server, locale)
    open_tab(page, say, "runs")
    page.get_by_role("gridcell", name="отец").first.click()
    page.get_by_role("button", name=say("training.go_on"), exact=True).locator("visible=true").click()
    page.get_by_text(say("training.more"), exact=True).click()
    start = page.get_by_label(say("training.start"), exact=True)
    expect(start).to_have_value("отец")
    page.get_by_label(say("training.mix"), exact=True).click()
    page.get_by_role("option", name="тексты").click()
    page.keyboard.press("Escape")
    page.get_by_label(say("training.mix.shares")).fill("25")  # a text field's label holds its help too
    page.get_by_text("тексты: 25").wait_for()
    if folder:
        page.screenshot(path=f"{folder}/go-on-form-{lang}.png", full_page=True)
    page.get_by_role("button", name=say("training.train"), exact=True).click()
    wait_until(lambda: len(store.sync_all()) == 2)
    child = next(row["id"] for row in store.sync_all() if row["id"] != parent)
    config = runs.config(child)
    kept = replace(runs.config(parent), start=f"run:{parent}", mix=((texts, 0.25),))
    assert {name: value for name, value in asdict(config).items() if value != getattr(kept, name)} == {}
    wait_until(lambda: store.sync(child)["state"] == "finished")
    before, after = store.curves(parent)["evals"], store.curves(child)["evals"]
    assert after[0]["by_corpus"][0] == before[-1]["eval_loss"]
    page.get_by_text(say("data.goes_on", name="отец")).wait_for()
    page.get_by_text(say("plot.eval_loss.of", name="тексты")).first.wait_for()
    if folder:
        page.screenshot(path=f"{folder}/go-on-run-{lang}.png", full_page=True)

    open_tab(page, say, "runs")
    page.get_by_role("gridcell", name=f"чаты + тексты · {config.method}").first.click()
    page.get_by_text(say("runs.start.one", name="отец", step=4)).wait_for()
    if folder:
        page.screenshot(path=f"{folder}/go-on-details-{lang}.png", full_page=True)
    assert json.loads((paths.run(child) / starts.CARD).read_text(encoding="utf-8"))["ancestry"][0]["run"] == parent
    assert page.foreign == []
    page.context.close()
