"""A newcomer's tasks in a real browser, with the clicks that they take: `python -m tests.tasks` does all of them in all ways."""

import pytest

from tests import tasks
from tests.test_browser import CHROMIUM, Server, browser  # noqa: F401

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium here: apt-get install chromium"),
]

# From the start to a plan and a changed setting: links, tiles, folds, fields and a term.
ROAD = list(tasks.TASKS)[: list(tasks.TASKS).index("see the exact config") + 1]


@pytest.fixture
def server(home):
    tasks.furnish(home)
    server = Server(home)
    server.start()
    yield server
    server.kill()


def over(done: dict[str, tuple[int, float]], more: int = 0) -> dict[str, int]:
    """The tasks that took more clicks than they may."""
    return {name: clicks for name, (clicks, _) in done.items() if clicks > tasks.TASKS[name][0] + more}


def test_every_task_is_done_on_a_phone_in_few_clicks(browser, server):  # noqa: F811
    done = tasks.walk(browser, server.address, "ru", "phone")
    assert list(done) == list(tasks.TASKS)
    assert over(done, tasks.MENU) == {}


def test_the_road_to_a_plan_is_gone_by_keyboard_alone(browser, server):  # noqa: F811
    done = tasks.walk(browser, server.address, "en", "desk", keyboard=True, tasks=ROAD)
    assert list(done) == ROAD
    assert over(done) == {}
