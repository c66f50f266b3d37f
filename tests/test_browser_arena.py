"""The arena in a real browser where answers come late: what a person asked for stays, of the match that is chosen."""

import re
import shutil

import pytest

from core import paths
from tests.test_arena import match, vote  # noqa: F401 (a fixture)
from tests.test_browser import CHROMIUM, Server, browser, open_tab, opened, wait_until  # noqa: F401 (a fixture)
from ui.text import Say

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium here: apt-get install chromium"),
]


@pytest.fixture
def server(match):  # noqa: F811 (a fixture)
    vote(match, "bb")
    shutil.copytree(paths.arena() / match, paths.arena() / "20200101-000000-older")
    server = Server(paths.home())
    server.start()
    yield server
    server.kill()


def test_a_verdict_is_not_cleared_when_its_match_is_drawn_later(browser, server):  # noqa: F811 (a fixture)
    from playwright.sync_api import expect

    say = Say("en")
    page = opened(browser, server, "en-US")
    held = hold(page, say("arena.match"), "change")
    open_arena(page, say)
    page.get_by_role("button", name=say("arena.show"), exact=True).click()
    verdict = page.locator("#verdict-en .interval")
    verdict.wait_for()
    held.pop().continue_()
    page.get_by_text(re.compile(r"Voted: \d")).wait_for()
    page.wait_for_timeout(1500)
    expect(verdict).to_be_visible()
    page.context.close()


def test_a_late_verdict_is_not_shown_under_another_match(browser, server):  # noqa: F811 (a fixture)
    from playwright.sync_api import expect

    say = Say("en")
    page = opened(browser, server, "en-US")
    held = hold(page, say("arena.show"), "click")
    open_arena(page, say)
    page.get_by_text(re.compile(r"Voted: \d")).wait_for()
    page.get_by_role("button", name=say("arena.show"), exact=True).click()
    wait_until(lambda: page.wait_for_timeout(100) or held)
    page.get_by_label(say("arena.match"), exact=True).click()
    page.get_by_role("option").nth(1).click()
    page.wait_for_timeout(1500)
    held.pop().continue_()
    page.wait_for_timeout(1500)
    expect(page.locator("#verdict-en .interval")).to_have_count(0)
    page.context.close()


def open_arena(page, say: Say) -> None:
    open_tab(page, say, "playground")
    page.get_by_role("tab", name=say("playground.arena"), exact=True).click()


def hold(page, words: str, event: str) -> list:
    """The requests that an event of the component with these words makes; none is sent before it is let on."""
    known, held = page.evaluate("window.gradio_config"), []
    props = {part["id"]: part["props"] for part in known["components"]}
    id = next(id for id, shown in props.items() if words in (shown.get("label"), shown.get("value")))
    asked = {one["id"] for one in known["dependencies"] if [id, event] in one["targets"] and one["backend_fn"]}

    def on_request(route) -> None:
        held.append(route) if route.request.post_data_json["fn_index"] in asked else route.continue_()

    page.route("**/queue/join*", on_request)
    return held
