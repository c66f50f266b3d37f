"""Can a judge tell the voices of a corpus by what they notice? `python -m core.synth.who_speaks CORPUS --endpoint URL …`

Three tasks, each with the cards' own words masked. `card`: which of four cards is a reply by, one that is easily taken for
it among them. `pair`: have two replies to different questions one voice? `badge`: as `card`, with a word of another of the
four put in; who follows it reads badges. CORPUS is a corpus of chats, a recipe that writes them without a model, or a
JSON file {voice: [a reply to each question]}. Without a model the judge counts the marks of assets/recipes/voice-marks.json.
"""

import argparse
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

from core import errors, paths
from core.corpus import corpus, storage
from core.errors import UserError
from core.synth import chain_templates, chain_verdicts, lemmas, prompts, recipes
from core.synth.writers import open_writer

# Voices that are easily taken for each other.
ALIKE = (("weigher", "fitter"), ("gardener", "midwife"), ("stranger", "contrarian"), ("keykeeper", "watchman"))
TASKS = {"card": (0.25, 0.8), "pair": (0.5, 0.75), "badge": (0.25, 0.8)}  # right by chance; wanted
OPTIONS = 4
ITEMS = 120  # of a task: the share is sure to about 7 points
TOKENS = 200  # of a judge's reply


@dataclass(frozen=True)
class Said:
    """A reply whose voice is known."""

    voice: str
    question: str
    text: str


@dataclass(frozen=True)
class Item:
    """One question of a task; the answer is a voice of `options`, or yes or no."""

    task: str
    texts: tuple[str, ...]
    options: tuple[str, ...]
    answer: str


def cards(lang: str) -> dict[str, dict]:
    """The voice cards of a language by their ids."""
    return recipes.load(f"voices-{lang}").values["cards"]["voices"]


def items(said: list[Said], lang: str, seed: int = 0) -> list[Item]:
    """The items of all tasks, at most ITEMS of each; every reply once before any comes again."""
    draw, known = random.Random(seed), cards(lang)
    voices = sorted({one.voice for one in said})
    made = []
    for one in draw.sample(said, min(ITEMS, len(said))):
        options = _options(one.voice, voices, draw)
        plus = [word for id in options for word in known[id]["plus"]]
        text = lemmas.masked(one.text, plus, lang)
        made.append(Item("card", (text,), options, one.voice))
        badge = draw.choice(known[draw.choice([id for id in options if id != one.voice])]["plus"])
        made.append(Item("badge", (f"{text} {badge[0].upper()}{badge[1:]}.",), options, one.voice))
        every = [word for card in known.values() for word in card["plus"]]
        for same in (True, False):
            others = [two for two in said if two.question != one.question and (two.voice == one.voice) == same]
            if others:
                pair = (one.text, draw.choice(others).text)
                pair = tuple(lemmas.masked(text, every, lang) for text in pair)
                made.append(Item("pair", pair, ("yes", "no"), "yes" if same else "no"))
    return made


def _options(voice: str, voices: list[str], draw: random.Random) -> tuple[str, ...]:
    """Four voices in any order: this one, the one that is like it, others."""
    like = [id for pair in ALIKE if voice in pair for id in pair if id != voice and id in voices]
    others = [id for id in voices if id not in (voice, *like)]
    chosen = [voice, *like, *draw.sample(others, min(len(others), OPTIONS - 1 - len(like)))]
    return tuple(draw.sample(chosen, len(chosen)))


def measure(said: list[Said], lang: str, judge: Callable[[Item], str | None], seed: int = 0) -> dict:
    """{"tasks": {task: right, of, share, chance, wanted}, "taken_for": {voice: {other: times}}, "unreadable"}"""
    right, of, taken, unreadable = Counter(), Counter(), {}, 0
    for item in items(said, lang, seed):
        answer = judge(item)
        of[item.task] += 1
        right[item.task] += answer == item.answer
        unreadable += answer is None
        if answer and item.task == "card" and answer != item.answer:
            taken.setdefault(item.answer, Counter())[answer] += 1
    tasks = {
        task: {"right": right[task], "of": of[task], "share": round(right[task] / of[task], 3)}
        | {"chance": chance, "wanted": wanted}
        for task, (chance, wanted) in TASKS.items()
        if of[task]
    }
    return {
        "tasks": tasks,
        "taken_for": {voice: dict(count) for voice, count in taken.items()},
        "unreadable": unreadable,
    }


def by_marks(lang: str) -> Callable[[Item], str]:
    """A judge without a model: the voice most of whose marks a reply has."""

    @cache
    def scores(text: str) -> dict[str, float]:
        found = {voice: sum(bool(mark.search(text)) for mark in marks) for voice, marks in _marks(lang).items()}
        return {voice: count / (sum(found.values()) or 1) for voice, count in found.items()}

    def judge(item: Item) -> str:
        if item.task == "pair":
            first, second = (max(scores(text), key=scores(text).get) for text in item.texts)
            return "yes" if first == second else "no"
        return max(item.options, key=scores(item.texts[0]).get)

    return judge


@cache
def _marks(lang: str) -> dict[str, list[re.Pattern]]:
    known = json.loads((paths.assets() / "recipes" / "voice-marks.json").read_text(encoding="utf-8"))[lang]
    return {
        voice: [re.compile(rf"(?<!\w)(?:{mark})(?!\w)" if mark[0].isalpha() else mark, re.IGNORECASE) for mark in marks]
        for voice, marks in known.items()
    }


def by_model(writer, lang: str) -> Callable[[Item], str | None]:
    """A judge that is a model: an endpoint or a local one."""
    known = cards(lang)

    def judge(item: Item) -> str | None:
        template = prompts.in_language(prompts.WORDS["same_voice" if item.task == "pair" else "who_speaks"], lang)
        values = {"texts": item.texts, "options": [{"id": id} | known[id] for id in item.options if id in known]}
        asked = [{"role": "user", "content": chain_templates.text(template, values)}]
        reply = writer.ask(asked, seed=0, temperature=0.0, max_tokens=TOKENS)
        verdict = chain_verdicts.read(reply.text, {}, item.answer)
        return verdict and verdict.why.strip().lower()

    return judge


def of_rows(rows: Iterable[dict], lang: str) -> list[Said]:
    """The first replies of chats whose system message, or whose part of a group, names a voice."""
    known, said = cards(lang), []
    titles = {title: id for id, card in known.items() for title in lemmas.of(card["title"], lang)}
    for row in rows:
        turns = row.get("messages") or []
        told = {turn["role"]: turn["content"] for turn in reversed(turns)}
        part = (row.get("recipe") or {}).get("part")
        named = {
            titles[lemma]
            for token in lemmas.tokens(told.get("system", ""))
            for lemma in _lemmas(token, lang) & titles.keys()
        }
        voice = part if part in known else named.pop() if len(named) == 1 else None
        if voice and {"user", "assistant"} <= told.keys():
            said.append(Said(voice, told["user"], told["assistant"]))
    return said


def _lemmas(token: str, lang: str) -> set[str]:
    return {token, *lemmas.of(token, lang)}


def read(name: str, lang: str, most: int = 10 * ITEMS) -> tuple[list[Said], str]:
    """The replies of a corpus, a recipe or a JSON file, and their language.

    Raises:
        NobodyKnown, and what reading a corpus or a recipe raises.
    """
    path = Path(name)
    if path.is_file() and path.suffix == ".json":
        known = json.loads(recipes.read_text(path))
        said = [Said(voice, str(at), text) for voice, texts in known.items() for at, text in enumerate(texts)]
    elif path.suffix == ".yaml" or (recipes.folder() / f"{name}.yaml").is_file():
        recipe = recipes.load(name)
        lang = recipe.lang
        said = of_rows((recipe.make(0, number) for number in range(most)), lang) if recipe.kind == "grammar" else []
    else:
        rows = list(islice(storage.all_rows(corpus.directory(name)), most))
        lang = rows[0].get("lang", lang) if rows else lang
        said = of_rows(rows, lang)
    if not said:
        raise errors.named("NobodyKnown", name=name)
    return said, lang


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    try:
        said, lang = read(options.replies, options.lang)
        judge, writer = by_marks(lang), None
        if options.endpoint or options.writer:
            names = ("endpoint", "endpoint_model", "writer")
            writer = open_writer(recipes.load(f"voices-{lang}"), {name: getattr(options, name) for name in names})
            judge = by_model(writer, lang)
        measured = {"judge": options.endpoint_model or options.writer or "marks", "lang": lang, "replies": len(said)}
        try:
            measured |= measure(said, lang, judge, options.seed)
        finally:
            if writer:
                writer.close()
    except UserError as error:
        return errors.tell(error, options.json)
    if options.json:
        print(json.dumps(measured, ensure_ascii=False))
        return 0
    for task, found in measured["tasks"].items():
        print(
            f"{task:6} {found['share']:.0%} of {found['of']} (by chance {found['chance']:.0%}, wanted {found['wanted']:.0%})"
        )
    for voice, others in measured["taken_for"].items():
        print(f"{voice} taken for {', '.join(f'{other} ({times})' for other, times in others.items())}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m core.synth.who_speaks", description=__doc__)
    add = parser.add_argument
    add("replies", help="a corpus, a recipe of voices that needs no model, or a JSON file {voice: [replies]}")
    add("--lang", default="ru", choices=("ru", "en"), help="of a JSON file (default ru)")
    add("--endpoint", help="the judge's server: its OpenAI-compatible address")
    add("--endpoint-model", help="the name of the model there")
    add("--writer", help="a local model that judges: its directory or id")
    add("--seed", type=int, default=0)
    add("--json", action="store_true", help="print one JSON object")
    return parser


if __name__ == "__main__":
    sys.exit(main())
