"""Buttons that look live have a job: on an empty page none of them is there only to refuse."""

import pytest

from core import jobs
from core.arena import prompts
from tests.page_session import Session
from ui import playground_arena, synth_reading
from ui.text import Say

# These set to work with what stands on the page; the tests of their tabs press them.
AT_WORK = ("opening.tour.go", "check.go.computer", "check.go.card", "calculator.exact.button", "calculator.probe")
AT_WORK += ("synth.show", "synth.start", "corpora.take_sample")
SAYS_WHY = ("playground.send",)  # what stands beside Send says who is missing; Enter sends as well


def live(window: Session) -> list[int]:
    """The buttons that can be seen, once everything is unfolded, and pressed."""
    return [id for id in window.ids("button") if window.parts[id].get("interactive") is not False and seen(window, id)]


def seen(window: Session, id: int) -> bool:
    block = window.page.blocks[id]
    while block:
        if window.parts.get(block._id, {}).get("visible", True) not in (True, None):
            return False
        block = block.parent
    return True


@pytest.fixture
def window(english_page, home, monkeypatch):
    home.mkdir(exist_ok=True)
    monkeypatch.setattr(jobs, "start", lambda *_: None)
    window = Session(english_page)
    window.open()
    window.expand()
    window.refused.clear()
    return window


def test_no_button_of_an_empty_page_looks_live_and_only_refuses(window):
    say, refusing = Say("en"), {}
    passed_over = [say(key, title="|").split("|")[0] for key in (*AT_WORK, *SAYS_WHY)]
    for id in live(window):
        words = window.parts[id].get("value") or ""
        if words.startswith(tuple(passed_over)):
            continue
        window.fire(id, "click")
        if window.refused:
            refusing[words] = window.refused[:]
            window.refused.clear()
    assert refusing == {}


def test_buttons_wait_for_what_they_work_with(window):
    say = Say("en")
    words = {window.parts[id].get("value") for id in live(window)}
    waiting = (
        "corpora.read", "corpora.hub.fetch", "training.train", "training.try", "arena.start", "arena.own.save",
        "arena.own.delete", "arena.go_on", "arena.show", "arena.judge.start", "arena.learn.make", "arena.pairs",
        "chats.export.all", "synth.reading.save", "export.start", "hub.push", "hub.import", "hub.delete",
    )  # fmt: skip
    assert {key for key in waiting if say(key) in words} == set()


def test_a_set_that_comes_with_the_program_cannot_be_deleted():
    assert set(playground_arena.BUNDLED) == {one["id"] for one in prompts.listed()}


def test_a_corpus_of_votes_waits_for_both_kinds():
    reading = {"at": 1, "rows": [{"text": "a"}, {"text": "b"}]}
    votes = {"one": {"kept": True}}
    assert [button.interactive for button in synth_reading.useful(reading, votes)] == [True, True, True, False]
    assert synth_reading.useful(reading, votes | {"other": {"kept": False}})[-1].interactive
    assert [button.interactive for button in synth_reading.useful(None, {})] == [False] * 4
