"""A newcomer's 25 tasks in a real browser: with the mouse on a desk in Russian, with the keyboard on a phone in English.

`python -m tests.tasks` does all four pairs of language and size and prints the table of clicks.
"""

import pytest

from tests import tasks
from tests.test_browser import CHROMIUM, Server, browser  # noqa: F401

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium here: apt-get install chromium"),
]


@pytest.fixture
def server(home):
    tasks.furnish(home)
    server = Server(home)
    server.start()
    yield server
    server.kill()


@pytest.mark.parametrize(("lang", "size", "keyboard"), [("ru", "desk", False), ("en", "phone", True)])
def test_a_newcomer_does_everything_in_few_clicks(browser, server, lang, size, keyboard):  # noqa: F811
    assert len(tasks.TASKS) == 25
    done = tasks.walk(browser, server.address, lang, size, keyboard=keyboard)
    allowed = {name: most + tasks.MENU * (size == "phone") for name, (most, _) in tasks.TASKS.items()}
    assert {name: clicks for name, (clicks, _) in done.items() if clicks > allowed[name]} == {}
