"""In a browser: the settings of the Training tab are looked for, marked, taken back, and kept over a change of language."""

import pytest

from core.corpus import corpus
from tests.test_browser import CHROMIUM, Server, browser, open_tab, opened  # noqa: F401
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


def test_what_differs_is_marked_and_kept_and_taken_back(browser, server, tiny_corpus, request):  # noqa: F811
    from playwright.sync_api import expect

    corpus.create([tiny_corpus], "строки")
    page, say, folder = opened(browser, server, "en-US"), Say("en"), request.config.getoption("--screenshots")
    open_tab(page, say, "training")
    expect(page.get_by_label(say("training.corpus"), exact=True)).to_have_value("строки")
    train, told = page.get_by_role("button", name=say("training.train"), exact=True), page.locator("#changes-told")
    page.get_by_text(say("training.more"), exact=True).click()
    expect(train).to_be_in_viewport()  # however long the form is
    page.get_by_label(say("training.lora_rank"), exact=True).fill("32")
    page.get_by_label(say("training.use_dora"), exact=True).check()
    expect(told).to_have_text(f"{say('training.changed')} 2")
    page.get_by_label(say("training.find"), exact=True).fill("lora_rank embeddings")
    expect(page.get_by_text(say("training.find.none"))).to_be_visible()
    page.get_by_label(say("training.find"), exact=True).fill("lora_rank size")
    expect(page.get_by_label(say("training.lora_rank"), exact=True)).to_be_visible()
    expect(page.get_by_label(say("training.max_steps"), exact=True)).to_be_hidden()
    if folder:
        page.screenshot(path=f"{folder}/training-form-en.png")
    page.wait_for_function("localStorage['soulsmith-training']?.includes('use_dora')")

    page.get_by_role("link", name="Русский").click()
    say = Say("ru")
    open_tab(page, say, "training")
    expect(told).to_have_text(f"{say('training.changed.draft')} 2")
    page.get_by_text(say("training.more"), exact=True).click()
    expect(page.get_by_label(say("training.lora_rank"), exact=True)).to_have_value("32")
    if folder:
        page.screenshot(path=f"{folder}/training-draft-ru.png")
    page.locator("#setting-lora_rank .setting-reset").click()
    expect(page.get_by_label(say("training.lora_rank"), exact=True)).to_have_value("16")
    expect(told).to_have_text(f"{say('training.changed')} 1")
    page.get_by_role("button", name=say("training.discard"), exact=True).click()
    expect(page.get_by_label(say("training.use_dora"), exact=True)).not_to_be_checked()
    expect(told).to_have_text("")
    assert page.foreign == []
    page.context.close()
