"""The Synthesis tab in a real browser: a recipe, ten rows and the price, the job, its corpus, a run on it; in Russian."""

import re
import time

import pytest

from core import jobs, paths
from core.corpus import corpus, storage
from core.runs import runs, store
from core.synth import synth_jobs
from tests.test_browser import (  # noqa: F401
    CHROMIUM,
    browser,
    latest_run,
    open_tab,
    opened,
    picture,
    server,
    wait_until,
)
from ui import synth
from ui.text import Say

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium here: apt-get install chromium"),
]
TOKENS = 20_000


def choose(page, label: str, option: str) -> None:
    page.get_by_label(label, exact=True).first.click()
    page.get_by_role("option", name=re.compile(re.escape(option))).first.click()


def show(page, say: Say, recipe: str, verdict: str = "amber") -> None:
    """Ten rows of a recipe, with the price of the volume that was typed, in tokens of the starter."""
    from playwright.sync_api import expect

    open_tab(page, say, "synth")
    choose(page, say("synth.recipe"), recipe)
    page.get_by_label(say("synth.volume.other"), exact=True).click()
    page.get_by_label(say("synth.tokens"), exact=True).fill(str(TOKENS))
    page.get_by_text(say("synth.more"), exact=True).click()
    choose(page, say("synth.model"), "SmolLM2")
    expect(page.locator(".synth-row")).to_have_count(5)  # of the recipe, before anything was pressed
    page.get_by_role("button", name=say("synth.show"), exact=True).click()
    expect(page.locator(".synth-row")).to_have_count(10)
    price = page.locator(".synth-costs").inner_text()
    for shown in (say.number(TOKENS, 12), say.number(10**9, 12), say("synth.cost.epoch"), say("synth.good.touch")):
        assert shown in price
    page.get_by_text(say(f"synth.verdict.{verdict}")).wait_for()


def test_a_recipe_becomes_a_corpus_that_is_looked_at_and_trained_on(browser, server, picture):  # noqa: F811
    say = Say("en")
    page = opened(browser, server, "en-US")
    show(page, say, "Style transfer")
    picture(page, "synth-preview-en")
    page.get_by_role("button", name=say("synth.start"), exact=True).click()
    page.get_by_text(say("synth.state.finished")).wait_for()
    picture(page, "synth-job-en")
    ending = synth_jobs.progress(jobs.listed(paths.synth())[0])["ending"]
    assert ending["tokens"] >= TOKENS

    open_tab(page, say, "corpus")
    choose(page, say("corpora.yours"), "Style transfer")
    first = next(storage.all_rows(corpus.directory(ending["corpus"])))
    page.get_by_text(first["messages"][-1]["content"].split("\n")[0][:30]).first.wait_for()
    picture(page, "synth-corpus-en")

    open_tab(page, say, "training")
    choose(page, say("training.corpus"), "Style transfer")
    page.get_by_text(say("training.more"), exact=True).click()
    page.get_by_label(say("training.max_steps")).fill("2")
    before = len(store.sync_all())
    page.get_by_role("button", name=say("training.train"), exact=True).click()
    wait_until(lambda: len(store.sync_all()) > before and latest_run()["state"] == "finished")
    assert runs.config(latest_run()["id"]).corpus == ending["corpus"]
    assert page.foreign == []
    page.context.close()


def test_the_tab_in_russian_with_personas_from_a_file(browser, server, tmp_path, picture):  # noqa: F811
    say = Say("ru")
    page = opened(browser, server, "ru-RU")
    show(page, say, "Фракталы · без модели", "red")
    picture(page, "synth-preview-ru")
    page.get_by_text(say("synth.writer"), exact=True).click()
    file = tmp_path / "персоны.txt"
    file.write_text("капитан парома\n", encoding="utf-8")
    page.locator("#synth-personas-ru input[type=file]").set_input_files(file)
    box = page.get_by_label(say("synth.personas"))
    while box.input_value().strip() != "капитан парома":
        time.sleep(0.1)
    page.get_by_role("button", name=say("synth.start"), exact=True).click()
    page.get_by_text("Персона всего одна").first.wait_for()
    picture(page, "synth-personas-ru")
    assert page.foreign == []
    page.context.close()


@pytest.mark.parametrize(("lang", "locale"), [("ru", "ru-RU"), ("en", "en-US")])
def test_rows_are_kept_by_the_arrows_and_a_recipe_is_checked_while_it_is_typed(browser, server, lang, locale, picture):  # noqa: F811
    say = Say(lang)
    page = opened(browser, server, locale)
    open_tab(page, say, "synth")
    for name in synth.ASKED:
        assert not page.get_by_role("button", name=say(f"synth.{name}"), exact=True).is_visible()
    choose(page, say("synth.recipe"), {"ru": "Фракталы · без модели", "en": "Fractals · without a model"}[lang])
    page.get_by_text(say("synth.reading"), exact=True).click()
    page.get_by_text(say("synth.reading.at", number=1, of=50, kept=0, rejected=0)).wait_for()
    for key, number, kept, rejected in (("Right", 2, 1, 0), ("Left", 3, 1, 1), ("Up", 2, 1, 0), ("Right", 3, 2, 0)):
        page.keyboard.press(f"Arrow{key}")
        page.get_by_text(say("synth.reading.at", number=number, of=50, kept=kept, rejected=rejected)).wait_for()
    picture(page, f"synth-reading-{lang}")
    page.get_by_text(say("synth.text"), exact=True).click()
    page.get_by_role("button", name=say("synth.text.new"), exact=True).click()
    page.get_by_text(say("synth.text.reads")).wait_for()
    page.locator(".cm-content").first.click()
    page.keyboard.press("Control+End")
    page.keyboard.type("oops: 1")
    page.get_by_text(say("synth.text.reads")).wait_for(state="hidden")
    picture(page, f"synth-recipe-{lang}")
    assert page.foreign == []
    page.context.close()
