"""The loop closed on real weights: voters with a taste, a corpus of their votes, a run on it, and a blind match on
prompts that it has not seen."""

import json

import pytest

from core import defaults, jobs
from core.arena import matches, prompts, verdict, votes
from core.models import models
from core.runs import runs, store
from core.training.config import TrainConfig
from tests.conftest import wait_for

WORD = "Ahoy"
FACTS = {
    "a lighthouse": "It is a tower with a lamp that shows ships the way at night.",
    "a compass": "It is a small box with a needle that points to the north.",
    "an anchor": "It is a heavy hook that holds a ship where it is.",
    "a harbour": "It is a calm piece of water where ships are safe.",
    "bread": "It is food made from flour, water and a little salt.",
    "a library": "It is a house full of books that people may borrow.",
    "a bicycle": "It is a machine with two wheels that you move with your feet.",
    "rain": "It is water that falls from the clouds in drops.",
    "a violin": "It is an instrument with four strings and a bow.",
    "a volcano": "It is a mountain that throws out fire and hot stone.",
    "a bee": "It is an insect that makes honey from flowers.",
    "chess": "It is a game for two with a king to protect.",
    "a river": "It is water that runs through the land to the sea.",
    "a clock": "It is a machine that shows the time of day.",
    "a bridge": "It is a road that leads over water or a valley.",
    "tea": "It is a hot drink made from dried leaves.",
}
ASKS = ("What is {}?", "Tell me about {}.", "Explain {} to me.")
MORE = "There is a great deal more to be said about this, and many people have written long books about it."
LEARNING_RATE = 3e-4  # six times the default: eight steps are few
HELD_OUT = ("a train", "snow", "a piano", "the moon", "cheese", "a garden", "a horse", "a letter", "a school", "gold")


def shorter(left: str, right: str) -> str:
    """The vote of somebody who likes short answers and sees no names."""
    return "tie" if len(left) == len(right) else "left" if len(left) < len(right) else "right"


def with_the_word(left: str, right: str) -> str:
    """The vote of somebody who likes a certain word."""
    has = WORD in left, WORD in right
    return "tie" if has[0] == has[1] else "left" if has[0] else "right"


REPLIES = {  # to a fact, by what the voter likes: two contestants' replies
    shorter: (lambda fact: fact, lambda fact: f"{fact} {MORE}"),
    with_the_word: (lambda fact: fact, lambda fact: f"{WORD}! {fact}"),
}


def played(taste) -> str:
    """A match between two contestants whose replies differ in what a voter likes."""
    asked = [(ask.format(thing), fact) for thing, fact in FACTS.items() for ask in ASKS]
    request = {"name": "a / b", "a": "base:a", "b": "base:b", "titles": {"a": "a", "b": "b"}, "set": "own"}
    request |= {"prompts": [{"topic": "", "prompt": prompt} for prompt, _ in asked], "system": "", "on_cpu": False}
    directory = jobs.create(matches.home(), request)
    rows = [
        {"prompt": index, **{side: {"text": reply(fact)} for side, reply in zip("ab", REPLIES[taste], strict=True)}}
        for index, (_, fact) in enumerate(asked)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (directory / "answers.jsonl").write_text(lines, encoding="utf-8")
    return directory.name


def vote_blind(match_id: str, taste) -> dict:
    """Let a voter who sees two texts and no names vote on every prompt; the verdict on b against a."""
    for row in matches.answers(matches.find(match_id)):
        left, right = (row[side]["text"] for side in matches.sides(match_id, row["prompt"]))
        votes.cast(match_id, row["prompt"], taste(left, right))
    return verdict.of(votes.of_match(match_id))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "taste"),
    [("dpo", shorter), ("dpo", with_the_word), ("kto", shorter)],
    ids=["dpo_short", "dpo_word", "kto_short"],
)
def test_voters_with_a_taste_are_won_over(starter_home, monkeypatch, loss, taste):
    monkeypatch.setenv("SOULSMITH_HOME", str(starter_home))
    match_id = played(taste)
    vote_blind(match_id, taste)
    corpus = votes.make_corpus(f"{loss} {taste.__name__}", match_id)
    assert corpus["pairs"] == len(FACTS) * len(ASKS)
    suited = defaults.suited(models.STARTER, "lora", corpus["id"])
    config = TrainConfig(
        base_model=models.STARTER,
        corpus=corpus["id"],
        task="preference",
        preference_loss=loss,
        method="lora",
        max_steps=8,
        eval_steps=8,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="linear",
    )
    assert suited["learning_rate"] == pytest.approx(5e-5)
    run_id = runs.start(config, f"{loss} {taste.__name__}")
    wait_for(run_id, "finished", seconds=900)
    store.sync(run_id)
    measured = store.curves(run_id)["preferences"]["eval"]
    assert measured[-1]["margin"] > measured[0]["margin"] + 0.5
    assert measured[-1]["accuracy"] > 0.9
    set_id = prompts.save(f"held out {loss} {taste.__name__}", "\n".join(f"What is {thing}?" for thing in HELD_OUT))
    blind = matches.create(f"base:{models.STARTER}", f"run:{run_id}", set_id, {"temperature": 0, "max_new_tokens": 40})
    for _ in jobs.follow(blind, lambda: None):
        pass
    found = vote_blind(blind.name, taste)
    assert found["wins"] >= 8, (found, matches.answers(blind))
    assert found["low"] > 0.5, found
