"""The loop closed on real weights: voters with a taste, a corpus of their votes, a run on it, and a blind match on
prompts that it has not seen."""

import json

import pytest

from core import jobs, paths
from core.arena import matches, prompts, verdict, votes
from core.models import models
from core.runs import defaults, runs, store
from core.training.config import TrainConfig
from tests.conftest import wait_for

WORD = "Ahoy"
FACTS = {  # what there is to say in one sentence, and in one more
    "a lighthouse": (
        "A lighthouse is a tower with a bright lamp that guides ships at night.",
        "It is usually built on rocky coasts, and in the past a keeper lived there to tend the light.",
    ),
    "a compass": (
        "A compass is an instrument with a needle that points to the north.",
        "Sailors and hikers have used it for hundreds of years to find their way.",
    ),
    "bread": (
        "Bread is a food made from flour, water, salt and yeast.",
        "There are many different kinds of it around the world, such as rye, wheat and flatbread.",
    ),
    "a library": (
        "A library is a place where books are kept for people to read and borrow.",
        "Many libraries also offer computers, newspapers and quiet rooms for study.",
    ),
    "a bicycle": (
        "A bicycle is a vehicle with two wheels that is moved by pedals.",
        "Riding one is a healthy and cheap way to travel, and it does not pollute the air.",
    ),
    "rain": (
        "Rain is water that falls from clouds in the form of drops.",
        "This happens when the moisture in the air cools down and becomes too heavy to float.",
    ),
    "a volcano": (
        "A volcano is an opening in the Earth through which hot lava and gas come out.",
        "Some of them have been quiet for thousands of years, while others erupt quite often.",
    ),
    "a bee": (
        "A bee is an insect that collects nectar from flowers and makes honey.",
        "Bees live together in large colonies with a queen, and they are important for agriculture.",
    ),
    "a river": (
        "A river is a large stream of water that flows towards the sea.",
        "Rivers give us drinking water and fish, and many great cities were built beside them.",
    ),
    "a clock": (
        "A clock is a device that measures and shows the time.",
        "The first ones used the sun or running water, and modern ones use a quartz crystal.",
    ),
}
ASKS = ("What is {}?", "Tell me about {}.", "Explain {} to me.")
HELD_OUT = ("a train", "snow", "a piano", "the moon", "cheese", "a garden", "a horse", "a letter", "a school", "gold")
LEARNING_RATE = 1e-3  # twenty times the default: eight steps are few
HELD_OUT = ("a train", "snow", "a piano", "the moon", "cheese", "a garden", "a horse", "a letter", "a school", "gold")


def shorter(left: str, right: str) -> str:
    """The vote of somebody who likes short answers and sees no names."""
    return "tie" if len(left) == len(right) else "left" if len(left) < len(right) else "right"


def with_the_word(left: str, right: str) -> str:
    """The vote of somebody who likes a certain word."""
    has = WORD in left, WORD in right
    return "tie" if has[0] == has[1] else "left" if has[0] else "right"


REPLIES = {  # to what there is to say, by what the voter likes: two contestants' replies
    shorter: (lambda fact, more: fact, lambda fact, more: f"{fact} {more}"),
    with_the_word: (lambda fact, more: fact, lambda fact, more: f"{WORD}! {fact}"),
}


LONGEST = {shorter: 48, with_the_word: 8}  # tokens of a held-out reply: enough to see what the voter looks for


def played(taste) -> str:
    """A match between two contestants whose replies differ in what a voter likes."""
    asked = [(ask.format(thing), fact) for thing, fact in FACTS.items() for ask in ASKS]
    request = {"name": "a / b", "a": "base:a", "b": "base:b", "titles": {"a": "a", "b": "b"}, "set": "own"}
    request |= {"prompts": [{"topic": "", "prompt": prompt} for prompt, _ in asked], "system": "", "on_cpu": False}
    directory = jobs.create(paths.arena(), request)
    rows = [
        {"prompt": index, **{side: {"text": reply(*fact)} for side, reply in zip("ab", REPLIES[taste], strict=True)}}
        for index, (_, fact) in enumerate(asked)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (directory / "answers.jsonl").write_text(lines, encoding="utf-8")
    return directory.name


def vote_blind(match_id: str, taste) -> dict:
    """Let a voter who sees two texts and no names vote on every prompt; the verdict on b against a."""
    for row in matches.answers(jobs.find(paths.arena(), match_id)):
        left, right = (row[side]["text"] for side in matches.sides(match_id, row["prompt"]))
        votes.cast(match_id, row["prompt"], taste(left, right))
    return verdict.of(votes.of_match(match_id))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "taste"),
    [("dpo", with_the_word), ("kto", shorter)],
    ids=["dpo_word", "kto_short"],
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
    blind = matches.create(
        f"base:{models.STARTER}", f"run:{run_id}", set_id, {"temperature": 0, "max_new_tokens": LONGEST[taste]}
    )
    for _ in jobs.follow(blind, lambda: None):
        pass
    found = vote_blind(blind.name, taste)
    assert found["wins"] >= 8, (found, matches.answers(blind))
    assert found["low"] > 0.5, found
