"""What may stand before a chat: no prompt, the person's own, templates, prompts that the model proposes, examples."""

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from core import paths
from core.corpus import languages, turns
from core.synth import cleaning

PAIR_CHARACTERS = 1500  # of a question with its reply that becomes an example
SHOWN_PAIRS = 4  # that the model sees when it proposes
SIZES = (2, 4, 8)  # examples of a set
LONGEST_PROPOSAL = 1200  # characters; a longer one is a reply to the rows
LOOKED_AT = 200  # rows whose language and length are measured
ATTEMPTS = 3  # of the model for each proposal that is wanted


@dataclass(frozen=True)
class Candidate:
    """The messages before a chat, as core.chat.profiles takes them; `kind` says where they come from."""

    kind: str  # none, own, template, proposed or examples
    system_prompt: str = ""
    examples: tuple[tuple[str, str], ...] = ()


NONE = Candidate("none")


def own(system_prompt: str, examples: list) -> Candidate | None:
    """The person's own prompt, if there is one."""
    return Candidate("own", system_prompt, tuple(map(tuple, examples))) if system_prompt or examples else None


def from_dict(values: dict) -> Candidate:
    """A candidate as an event has it."""
    return Candidate(**{**values, "examples": tuple(map(tuple, values["examples"]))})


def instructions(
    own: Candidate | None, rows: list[dict], count: int, ask: Callable[[list[str]], list[str]], seed: int
) -> list[Candidate]:
    """Up to `count` candidates, first the one without a prompt and the person's own; of the model's at least one.

    `ask(questions)` gives the model's replies.
    """
    made = [NONE, *([own] if own else [])]
    made += [Candidate("template", text) for text in templates(rows)][: max(0, count - len(made) - 1)]
    made += [Candidate("proposed", text) for text in proposals(rows, max(1, count - len(made)), ask, seed)]
    found: dict[tuple, Candidate] = {}
    for one in made:
        found.setdefault((one.system_prompt, one.examples), one)
    return list(found.values())


def templates(rows: list[dict]) -> list[str]:
    """The prompts of assets/system_prompts.json, the rows' own language first."""
    texts, words = _texts(), round(median(len(turns.learned(row).split()) for row in rows[:LOOKED_AT]))
    first = language(rows)
    return [
        text.format(words=max(1, words))
        for lang in sorted(("en", "ru"), key=lambda lang: lang != first)
        for text in texts[lang]
    ]


def proposals(rows: list[dict], count: int, ask: Callable[[list[str]], list[str]], seed: int) -> list[str]:
    """Different prompts that the model reads out of a few rows; fewer than asked for where it writes none."""
    question, pairs, found = _texts()["ask"][language(rows)], _pairs(rows), []
    for attempt in range(ATTEMPTS if pairs else 0):
        draw = random.Random(f"{seed} {attempt}")
        some = [draw.sample(pairs, min(SHOWN_PAIRS, len(pairs))) for _ in range(count - len(found))]
        replies = ask([question.format(pairs=_written(one)) for one in some])
        found = list(dict.fromkeys([*found, *filter(None, map(_cleaned, replies))]))
        if len(found) >= count:
            break
    return found[:count]


def with_examples(instruction: Candidate, rows: list[dict], count: int, seed: int) -> list[Candidate]:
    """Up to `count` candidates that follow an instruction with examples drawn from rows."""
    pairs, draw, made = _pairs(rows), random.Random(seed), []
    for number in range(count):
        examples = draw.sample(pairs, min(SIZES[number % len(SIZES)], len(pairs)))
        made.append(Candidate("examples", instruction.system_prompt, tuple(examples)))
    return [one for one in dict.fromkeys(made) if one.examples]


def language(rows: list[dict]) -> str:
    """ru for rows whose replies are mostly Russian, else en."""
    counts = Counter(languages.of(turns.learned(row)) for row in rows[:LOOKED_AT])
    return "ru" if counts["ru"] > sum(counts.values()) / 2 else "en"


def _pairs(rows: list[dict]) -> list[tuple[str, str]]:
    """The first question of each row with its reply, where both are there and short."""
    found = []
    for row in rows:
        said = [turn for turn in row["messages"] if turn["role"] != "system"][:2]
        if [turn["role"] for turn in said] != ["user", "assistant"] or not turns.is_learned(said[1]):
            continue
        pair = (said[0]["content"], said[1]["content"])
        if all(text.strip() for text in pair) and sum(map(len, pair)) <= PAIR_CHARACTERS:
            found.append(pair)
    return list(dict.fromkeys(found))


def _written(pairs: list[tuple[str, str]]) -> str:
    return "\n\n".join(f"<message>\n{question}\n</message>\n<reply>\n{reply}\n</reply>" for question, reply in pairs)


def _cleaned(reply: str) -> str:
    """A proposal without what the model says around it; empty where it is none."""
    text, only_thinking = cleaning.without_thinking(reply)
    text = cleaning.answer_alone(text.strip())
    return "" if only_thinking or len(text) > LONGEST_PROPOSAL or cleaning.is_loop(text) else text


def _texts() -> dict:
    return json.loads((paths.assets() / "system_prompts.json").read_text(encoding="utf-8"))
