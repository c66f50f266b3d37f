"""Where rows come from: a grammar, or a mix of corpora and recipes; core.synth.writers has those of a model.

A mix takes its parts by their share of tokens: `parts` is a list of {"corpus": id or directory} or {"recipe": name} with
a "share"; `cap` is the largest share of rows that one rule path may have. The part that is furthest behind its share,
counting what was kept, gives the next row, so any length has the shares. When it has no more, the mix ends.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import count, islice

from core import errors
from core.corpus import corpus, storage, token_counter
from core.corpus.token_counter import Scale
from core.synth import recipes

GRAMMAR_BATCH, MIX_BATCH = 500, 100  # rows
FREE, MOST_CAPPED = 20, 1000  # rows of a template before its cap counts; capped rows in a row that end a part
ALLOWED = 1.2  # for an estimate of a corpus' tokens


def shard_of(text: str | None) -> tuple[int, int]:
    """(which, of how many), counted from 0, of a shard such as "2/4"; without one (0, 1).

    Raises:
        ShardWrong.
    """
    found = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text or "1/1")
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise errors.named("ShardWrong", shard=text)
    return int(found[1]) - 1, int(found[2])


def place(number: int, shard: tuple[int, int], parts: int = 1) -> int:
    """The number in the whole job of a row of a shard; `parts` rows that belong together are in one shard."""
    group, part = divmod(number, parts)
    return (group * shard[1] + shard[0]) * parts + part


def local(place: int, shard: tuple[int, int], parts: int = 1) -> int:
    """The number in its shard of a row of the whole job."""
    group, part = divmod(place, parts)
    return group // shard[1] * parts + part


def check_mix(recipe, model: str | None, tokens: int) -> None:
    """Refuse a volume for which a corpus of the mix is too small to hold its share.

    Raises:
        MixTooShort.
    """
    parts = recipe.values["parts"]
    total = sum(float(part["share"]) for part in parts)
    for part in parts:
        share = float(part["share"]) / total
        has = token_counter.of_corpus(corpus.locate(str(part["corpus"])), model)[0] if "corpus" in part else math.inf
        if ALLOWED * has < share * tokens:
            raise errors.named(
                "MixTooShort",
                part=part["corpus"],
                has=round(has),
                tokens=tokens,
                share=f"{100 * share:g}",
                needs=round(share * tokens),
                most=math.floor(has / share),
            )


class Source:
    """Rows of a recipe; of a shard (which, of how many) every so many-th. A number is that of the row in its shard."""

    short: dict = {}  # noqa: RUF012 - of a mix: the part that ended it, and how far it went
    unmeasured: tuple[str, ...] = ()  # checks of a chain for which no model of this machine is there

    def batch(self, first: int) -> list[dict]:
        """The next rows from a number on, {"number", "row" | "reason", …} in the order of numbers; none at the end."""
        raise NotImplementedError

    def drain(self) -> list[dict]:
        """The rows that are on their way when the job ends."""
        return []

    def drop(self, number: int) -> None:
        """Learn that the row of this number was a copy and was not kept."""

    def close(self) -> None:
        """Give back what the source holds open."""


class FromGrammar(Source):
    """Rows of a grammar: number n is the same row whenever it is asked for."""

    def __init__(self, recipe, seed: int, shard: tuple[int, int] = (0, 1)):
        self.recipe, self.seed, self.shard = recipe, seed, shard

    def batch(self, first: int) -> list[dict]:
        make, seed, (which, of) = self.recipe.make, self.seed, self.shard
        numbers = range(first, first + GRAMMAR_BATCH)
        return [{"number": number, "row": make(seed, number * of + which)} for number in numbers]


class FromMix(Source):
    """Rows of several sources; the numbers of a mix are its own, and a resumed one walks its sources anew.

    `dropped` are the numbers that a former process did not keep.
    """

    def __init__(self, recipe, seed: int, model: str | None, shard: tuple[int, int] = (0, 1), dropped=()):
        parts = recipe.values["parts"]
        total = sum(float(part["share"]) for part in parts)
        self.parts = [_Part(one, seed + at, total, shard) for at, one in enumerate(parts)]
        self.cap, self.scale = float(recipe.values.get("cap") or 1), Scale(model, recipe.lang)
        self.paths, self.number, self.dropped = Counter(), 0, set(dropped)
        self.open: list[tuple[int, _Part, int]] = []  # (number, part, tokens) of the batch that is being judged

    def batch(self, first: int) -> list[dict]:
        while rows := self._made():
            if rows := [row for row in rows if row["number"] >= first]:
                return rows
        return []

    def drop(self, number: int) -> None:
        self.dropped.add(number)

    def _made(self) -> list[dict]:
        """The next MIX_BATCH rows; their parts are chosen by what was kept before and is likely to be."""
        for number, part, tokens in self.open:
            part.settle(tokens, kept=number not in self.dropped)
            self.dropped.discard(number)
        self.open, rows = [], []
        while len(rows) < MIX_BATCH and not self.short:
            part = min(self.parts, key=_Part.behind)
            if (row := self._next(part)) is None:
                self.short = {"part": part.name, "tokens": sum(one.tokens for one in self.parts)}
            else:
                rows.append(row)
        return rows

    def _next(self, part: "_Part") -> dict | None:
        """The next row of a part whose path is not capped; None where there is none."""
        for _ in range(MOST_CAPPED):
            if (found := part.next(self.scale)) is None:
                return None
            row, tokens = found
            path = row.get("path")
            if path and self.cap < 1 and self.paths[path] >= max(FREE, self.cap * self.number):
                continue
            self.paths[path] += 1
            self.open.append((self.number, part, tokens))
            part.expected += tokens * part.kept_share()
            self.number += 1
            origin = {key: row[key] for key in ("id", "recipe") if key in row}
            provenance = {"part": part.name} | ({"from": origin} if origin else {})
            return {"number": self.number - 1, "row": row, "lang": row.get("lang", ""), "provenance": provenance}
        return None


class _Part:
    """One source of a mix, the tokens of its rows counted a batch at a time."""

    def __init__(self, values: dict, seed: int, total: float, shard: tuple[int, int]):
        self.share, self.name = float(values["share"]) / total, str(values.get("corpus") or values.get("recipe"))
        self.tokens = self.made = 0  # kept, and judged
        self.expected = 0.0  # of the batch that is being judged
        rows = _of_corpus(values["corpus"]) if "corpus" in values else _of_recipe(values["recipe"], seed)
        self.rows = islice(rows, shard[0], None, shard[1])
        self.ready: list[tuple[dict, int]] = []

    def behind(self) -> float:
        """How much of its share it has; the least is next."""
        return (self.tokens + self.expected) / self.share

    def kept_share(self) -> float:
        return self.tokens / self.made if self.made and self.tokens else 1.0

    def settle(self, tokens: int, *, kept: bool) -> None:
        self.expected, self.made = 0.0, self.made + tokens
        self.tokens += tokens * kept

    def next(self, scale: Scale) -> tuple[dict, int] | None:
        """The next row and its tokens."""
        if not self.ready:
            rows = list(islice(self.rows, MIX_BATCH))
            self.ready = list(zip(rows, map(len, scale.ids(rows)), strict=True))[::-1]
        return self.ready.pop() if self.ready else None


def _of_corpus(name: str) -> Iterator[dict]:
    yield from storage.all_rows(corpus.locate(str(name)))


def _of_recipe(name: str, seed: int) -> Iterator[dict]:
    recipe = recipes.load(name)
    if recipe.kind != "grammar":
        raise errors.named("PartNoGrammar", file=name)
    for number in count():
        yield recipe.make(seed, number) | {"lang": recipe.lang, "recipe": {"name": recipe.name, "row": number}}
