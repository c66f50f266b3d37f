"""A newcomer's tasks in a real browser, with the clicks that they take: `python -m tests.tasks` does all of them in all ways."""

import re

import pytest

from core.runs import runs, store
from tests import tasks
from tests.screenshots import DESK, to_tab
from tests.test_browser import CHROMIUM, Server, browser  # noqa: F401
from ui.text import Say

expect = pytest.importorskip("playwright.sync_api").expect

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


def at_the_runs(browser, server, say: Say):  # noqa: F811
    page = browser.new_context(locale="en-US", viewport=DESK).new_page()
    page.set_default_timeout(60_000)
    page.goto(server.address)
    to_tab(page, say, "runs")
    return page


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


def test_a_list_that_is_refilled_keeps_what_was_typed_and_marked(browser, server):  # noqa: F811
    """gradio shows all of it again, and marks whatever stands at the marked place by then, or nothing."""
    say = Say("en")
    page = at_the_runs(browser, server, say)
    who = tasks.Newcomer(page, say)
    who.fold("compare.title")
    older = next(id for id in runs.listed() if runs.label(id)["name"] == "lamp 1")
    new = [f"lamp 0{number}" for number in range(2)]

    def refilled() -> None:
        page.get_by_role("button", name=say("runs.refresh"), exact=True).evaluate("(button) => button.click()")

    for at, field in enumerate((who.field("runs.pick"), who.field("compare.runs"))):
        who.type(field, "lamp 1")
        marked = page.locator("[role=option].active")
        expect(marked).to_have_text(re.compile("lamp 1"))
        runs.create(runs.config(older), new[at])  # the newest, at the top of the list
        refilled()
        page.wait_for_timeout(3000)
        shown = page.get_by_role("option").evaluate_all("(all) => all.map((one) => one.ariaLabel)")
        assert shown == ["lamp 1"]
        expect(marked).to_have_text(re.compile("lamp 1"))
        page.keyboard.press("Escape")
        who.type(field, f"zebra {at}")
        expect(page.get_by_role("option")).to_have_count(0)
        store.rename(older, f"zebra {at}", "", [])
        refilled()
        expect(marked).to_have_text(re.compile(f"zebra {at}"))
        store.rename(older, "lamp 1", "", [])
        page.mouse.click(5, 5)
        refilled()
        page.wait_for_timeout(1500)
    page.context.close()


def test_what_is_typed_for_a_run_is_never_kept_with_the_texts_of_another(browser, server):  # noqa: F811
    """Its fields are off until they are the run's; what is typed after Save stays when the answer comes."""
    say = Say("en")
    page = at_the_runs(browser, server, say)
    who, held = tasks.Newcomer(page, say), []
    who.choose(who.field("runs.pick"), "lamp 1")
    name, note = who.field("runs.name"), who.field("runs.note")
    expect(name).to_have_value("lamp 1")
    page.wait_for_timeout(1500)
    page.route("**/queue/join*", lambda route: held.append(route) if held is not None else route.continue_())
    who.choose(who.field("runs.pick"), "lamp 2")
    expect(name).to_be_disabled()
    expect(page.get_by_role("button", name=say("runs.save"), exact=True)).to_be_disabled()
    calls, held = held, None
    for call in calls:
        call.continue_()
    expect(name).to_be_enabled()
    expect(name).to_have_value("lamp 2")
    who.type(name, "best lamp")
    page.keyboard.press("Enter")
    who.type(note, "to keep")
    who.text(say("runs.saved")).wait_for()
    page.wait_for_timeout(3000)
    assert (name.input_value(), note.input_value()) == ("best lamp", "to keep")
    page.context.close()
