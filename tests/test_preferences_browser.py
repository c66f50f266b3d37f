"""From votes to a run in a real browser, on a tiny model: votes in the arena, a corpus of them, DPO on it, its curves.

In English and in Russian; `--screenshots DIR` keeps the pictures.
"""

import json

import pytest

from core import jobs, paths
from core.arena import matches, votes
from core.corpus import corpus
from core.runs import store
from tests.test_browser import CHROMIUM, browser, open_tab, opened, picture, wait_until  # noqa: F401 (fixtures)
from tests.test_browser_runs import server  # noqa: F401
from tests.test_preferences import pair_rows
from ui.text import Say

VOTED = 2  # in the page; the rest was voted on before

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium here: apt-get install chromium"),
]


def play(rows: list[dict]) -> str:
    """A match whose answers are there already: a says the chosen replies, b the rejected ones."""
    asked = [{"topic": "", "prompt": row["messages"][0]["content"]} for row in rows]
    request = {
        "name": "short / long",
        "a": "base:a",
        "b": "base:b",
        "titles": {"a": "short", "b": "long"},
        "set": "own",
    }
    directory = jobs.create(paths.arena(), request | {"prompts": asked, "system": "", "on_cpu": False})
    replies = [{"prompt": at, "a": reply(row["chosen"]), "b": reply(row["rejected"])} for at, row in enumerate(rows)]
    text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in replies)
    (directory / "answers.jsonl").write_text(text, encoding="utf-8")
    return directory.name


def reply(turns: list[dict]) -> dict:
    return {"text": turns[0]["content"], "tokens": 9, "finish_reason": "stop"}


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_votes_become_a_corpus_and_a_run_of_dpo(browser, server, picture, tiny_model, lang):  # noqa: F811
    from playwright.sync_api import expect

    say, rows = Say(lang), pair_rows(30)
    match_id = play(rows)
    for prompt in range(VOTED, len(rows)):
        votes.cast(
            match_id, prompt, "tie" if prompt == 9 else ("left", "right")[matches.sides(match_id, prompt)[0] == "b"]
        )
    page = opened(browser, server, {"en": "en-US", "ru": "ru-RU"}[lang])
    open_tab(page, say, "playground")
    page.get_by_role("tab", name=say("playground.arena"), exact=True).click()
    for prompt in range(VOTED):
        side = ("left", "right")[matches.sides(match_id, prompt)[0] == "b"]
        page.locator(f"#vote-{side}:enabled").click()
        wait_until(lambda prompt=prompt: prompt in [vote["prompt_index"] for vote in votes.of_match(match_id)])
    page.get_by_text(say("arena.learn"), exact=True).click()
    page.get_by_label(say("arena.learn.name"), exact=True).fill("taste")
    page.get_by_role("button", name=say("arena.learn.make"), exact=True).click()
    wait_until(lambda: [(card["name"], card["pairs"]) for card in corpus.listed()] == [("taste", 29)])
    page.get_by_text(f"{say('corpora.reason.vote_tie')} (1)").wait_for()
    picture(page, f"votes-{lang}")

    open_tab(page, say, "training")
    expect(page.get_by_label(say("training.corpus"), exact=True)).to_have_value("taste")
    expect(page.get_by_label(say("approach.preference"), exact=True)).to_be_checked()
    expect(page.get_by_label(say("training.beta"), exact=True)).to_be_visible()
    page.get_by_label(say("training.base_model"), exact=True).fill(tiny_model)
    page.keyboard.press("Enter")
    picture(page, f"preferences-form-{lang}")
    page.get_by_text(say("training.more"), exact=True).click()
    page.get_by_label(say("training.learning_rate"), exact=True).fill("0.003")
    page.get_by_role("button", name=say("training.train"), exact=True).click()
    wait_until(lambda: store.sync_all() and store.sync_all()[0]["state"] == "finished")
    row = store.sync_all()[0]
    config = json.loads((paths.run(row["id"]) / "config.json").read_text(encoding="utf-8"))
    assert (config["task"], config["preference_loss"], config["method"]) == ("preference", "dpo", "lora")
    measured = store.curves(row["id"])["preferences"]["eval"]
    assert measured[-1]["margin"] > measured[0]["margin"]
    page.get_by_text(say("plot.margin"), exact=True).first.wait_for()
    page.mouse.wheel(0, 300)
    picture(page, f"preferences-{lang}")
    assert page.foreign == []
