"""The Playground and the exports in a real browser, on a tiny model: a chat, ten votes by keyboard, an export.

In English and in Russian; `--screenshots DIR` keeps the pictures.
"""

import json
import os
import re
import shutil
import signal
from contextlib import suppress

import pytest

from core import jobs, paths
from core.arena import votes
from core.chat import chats
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

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium here: apt-get install chromium"),
]
PROMPTS = "# море\n" + "".join(f"sea lamp {word}?\n" for word in ("oil", "rope", "gull", "tide", "fog"))
PROMPTS += "# хлеб\n" + "".join(f"bread {word}?\n" for word in ("oil", "rope", "gull", "tide", "fog"))
KEYS = ("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "1", "2", "3", "4", "ArrowLeft", "ArrowRight")


@pytest.fixture
def server(home, trained):
    shutil.copytree(trained[0], home)  # each test finds one finished run and nothing of another test
    server = Server(home)
    server.start()
    yield server
    server.kill()
    with suppress(OSError, ValueError):
        os.kill(json.loads((paths.home() / "chat.json").read_text())["pid"], signal.SIGKILL)


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_a_chat_an_arena_and_an_export(browser, server, picture, lang):  # noqa: F811 (fixtures)
    say = Say(lang)
    page = opened(browser, server, {"en": "en-US", "ru": "ru-RU"}[lang])
    open_playground(page, say)
    talked(page, say, lang)
    picture(page, f"chat-{lang}")
    page.get_by_role("tab", name=say("playground.arena"), exact=True).click()
    match = voted(page, say, lang)
    counted = [row["verdict"] for row in votes.of_match(match)]
    assert (len(counted), counted.count("tie"), counted.count("bad")) == (10, 2, 2)
    page.get_by_role("button", name=say("arena.show"), exact=True).click()
    page.get_by_role("cell", name=say("arena.held_out_loss"), exact=True).wait_for()
    picture(page, f"verdict-{lang}")
    open_tab(page, say, "export")
    page.get_by_label(say("export.adapter"), exact=True).check()
    page.get_by_role("button", name=say("export.start"), exact=True).click()
    page.get_by_text(say("export.lines")).wait_for()
    picture(page, f"export-{lang}")
    assert jobs.state(jobs.listed(paths.exports())[0]) == "finished"
    assert page.foreign == []
    page.context.close()


def talked(page, say: Say, lang: str) -> None:
    """Send, edit an earlier message, and find both branches after a reload."""
    from playwright.sync_api import expect

    column = page.locator(f"#column-0-{lang}")
    typed = "Море & <b>лампа</b> <|im_end|>?"
    page.get_by_label(say("playground.prompt"), exact=True).fill(typed)
    page.get_by_role("button", name=say("playground.send"), exact=True).click()
    ended = re.compile("|".join(re.escape(say(f"finish.{reason}")) for reason in ("stop", "length")))
    expect(page.get_by_text(ended)).to_have_count(2, timeout=240_000)  # the engine starts, on a machine that is busy
    assert column.locator(".user.message").inner_text().replace("\u200b", "").strip() == typed
    column.locator(".user button, .message-buttons-right button").nth(1).click()
    column.locator("textarea").fill("туман?")
    column.get_by_label({"en": "Submit", "ru": "Отправить"}[lang]).click()
    expect(page.get_by_text(ended)).to_have_count(2)
    expect(column.locator(".user.message")).to_have_text(re.compile("туман"))
    # The lines above may still be those of the first replies.
    wait_until(lambda: newest_turn()["prompt"] == "туман?" and len(newest_turn()["replies"]) == 2)
    field = page.get_by_label(say("playground.prompt"), exact=True)
    page.locator(".chip").first.click()  # a prompt of a held-out row
    expect(field).not_to_have_value("")
    chosen = field.input_value()
    box = field.bounding_box()
    assert box["y"] + box["height"] <= page.viewport_size["height"]
    page.locator(".fold").first.click()
    expect(page.locator(".bubble-wrap:visible")).to_have_count(1)
    page.reload()  # what was said is there again, both branches of it, and what has not been sent
    expect(column.locator(".user.message")).to_have_text(re.compile("туман"))
    expect(field).to_have_value(chosen)
    expect(page.locator(".chat-list button")).to_have_count(1)
    page.get_by_text(say("playground.more"), exact=True).click()
    branch = page.get_by_label(say("playground.branch"), exact=True)
    expect(branch).to_have_value(re.compile(r"^2 · 1 · туман"))


def newest_turn() -> dict:
    """The last turn of the conversation that was kept last."""
    history = chats.find(chats.listed(most=1)[0][0]["id"])["history"]
    return history["branches"][history["current"]][-1]


def voted(page, say: Say, lang: str) -> str:
    """Ten votes by keyboard on ten prompts of one's own; the id of the match."""
    from playwright.sync_api import expect

    page.get_by_text(say("arena.own"), exact=True).click()
    page.get_by_label(say("arena.own.name"), exact=True).fill(f"море и хлеб {lang}")
    page.get_by_label(say("arena.own.text")).fill(PROMPTS)
    page.get_by_role("button", name=say("arena.own.save"), exact=True).click()
    expect(page.get_by_label(say("arena.set"), exact=True)).to_have_value(f"море и хлеб {lang} · 10")
    page.get_by_role("button", name=say("arena.start"), exact=True).click()
    wait_until(lambda: jobs.listed(paths.arena()) and jobs.state(jobs.listed(paths.arena())[0]) == "finished")
    match = jobs.listed(paths.arena())[0].name
    for index, key in enumerate(KEYS):
        expect(page.get_by_text(re.compile(rf"(Voted|Голосов): {index}\."))).to_be_visible()
        expect(page.locator("#vote-left")).to_be_enabled()
        page.keyboard.press(key)
        wait_until(lambda wanted=index + 1: len(votes.of_match(match)) == wanted)
    return match
