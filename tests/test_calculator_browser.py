"""The Calculator in a real browser: what is typed is what is answered, and each cell of the picture is a question."""

import re

import pytest

from tests.screenshots import to_tab
from tests.test_browser import CHROMIUM, Server
from tests.test_pages_browser import browser, window  # noqa: F401 - a fixture
from ui.text import Say

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium here: apt-get install chromium"),
]
PATIENCE = 60_000  # milliseconds, on a busy machine


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("empty"))
    server.start()
    yield server
    server.kill()


@pytest.mark.parametrize("lang", ["ru", "en"])
def test_what_is_typed_is_answered_and_a_cell_is_a_question(browser, server, lang, tmp_path):  # noqa: F811
    say = Say(lang)
    page = window(browser, server.address, lang)
    page.set_default_timeout(PATIENCE)
    to_tab(page, say, "calculator")
    page.locator(".state:visible").first.wait_for()

    def type_into(field: str, text: str) -> None:
        box = page.get_by_label(say(f"calculator.{field}"), exact=True).first
        box.fill(text)
        box.press("Enter")
        box.blur()

    def shows(words: str) -> None:
        page.locator("p:visible, caption:visible, div.state:visible").filter(
            has_text=re.compile(words)
        ).first.wait_for()

    type_into("card", "8x H100")
    shows("H100 80GB SXM")
    type_into("card", "РТХ 3060 12 ГБ")
    shows("3060 12GB")
    type_into("model", "сайга 13")
    shows("saiga2_13b|13b")
    type_into("tokens", "сто миллионов")
    shows("3060 12GB")
    type_into("card", "RTX 4060 Ti")  # is sold with two memories: no verdict beside it
    page.get_by_text("4060 Ti 16GB").first.wait_for()
    page.wait_for_timeout(3000)  # what hangs on the answer follows it
    assert page.locator(".state:visible, .mosaic:visible").count() == 0
    page.screenshot(path=tmp_path / f"asked-{lang}.png")
    type_into("card", "4060 Ti 16GB")
    shows("4060 Ti 16GB")
    tile = page.locator(".mosaic .tile:visible").first
    tile.wait_for()
    tile.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    chosen = page.evaluate("JSON.parse(document.activeElement.dataset.fields)")
    page.keyboard.press("Enter")
    page.wait_for_function(
        "name => [...document.querySelectorAll('input')].some(box => box.value.includes(name))",
        arg=chosen["model"].rpartition("/")[2],
    )
    shows("4060 Ti 16GB")
    page.screenshot(path=tmp_path / f"calculator-{lang}.png")
    page.context.close()
