"""Where rows come from: a grammar, or a mix of corpora and recipes; core.synth.writers has those of a model.

A mix takes its parts by their share of tokens: `parts` is a list of {"corpus": id or directory} or {"recipe": name} with
a "share"; `cap` is the largest share of rows that one rule path may have. The part that is furthest behind its share
gives the next row, so any length has the shares.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import count, islice

from core.corpus import corpus, storage
from core.corpus.token_counter import Scale
from core.synth import recipes

GRAMMAR_BATCH, MIX_BATCH = 500, 200  # rows
FREE = 20  # rows of a template before its cap counts


class Source:
    """Rows of a recipe."""

    def batch(self, first: int) -> list[dict]:
        """The next rows from a number on, {"number", "row" | "reason", …} in the order of numbers; none at the end."""
        raise NotImplementedError

    def drain(self) -> list[dict]:
        """The rows that are on their way when the job ends."""
        return []

    def close(self) -> None:
        """Give back what the source holds open."""


class FromGrammar(Source):
    """Rows of a grammar: number n is the same row whenever it is asked for."""

    def __init__(self, recipe, seed: int):
        self.recipe, self.seed = recipe, seed

    def batch(self, first: int) -> list[dict]:
        make, seed = self.recipe.make, self.seed
        return [{"number": number, "row": make(seed, number)} for number in range(first, first + GRAMMAR_BATCH)]


class FromMix(Source):
    """Rows of several sources; the numbers of a mix are its own, and a resumed one walks its sources anew."""

    def __init__(self, recipe, seed: int, model: str | None):
        parts = recipe.values["parts"]
        total = sum(float(part["share"]) for part in parts)
        self.parts = [_Part(one, seed + at, total) for at, one in enumerate(parts)]
        self.cap, self.scale = float(recipe.values.get("cap") or 1), Scale(model, recipe.lang)
        self.paths, self.rows, self.number = Counter(), self._rows(), 0

    def batch(self, first: int) -> list[dict]:
        skipped = max(0, first - self.number)  # rows that a former process has written
        return list(islice(self.rows, skipped, skipped + MIX_BATCH))

    def _rows(self) -> Iterator[dict]:
        while alive := [part for part in self.parts if not part.done]:
            part = min(alive, key=lambda one: one.tokens / one.share)
            row = part.next(self.scale)
            if row is None:
                continue
            path = row.get("path")
            if path and self.cap < 1 and self.paths[path] >= max(FREE, self.cap * self.number):
                part.capped += 1
                part.done = part.capped > 50 * FREE
                continue
            part.capped = 0
            self.paths[path] += 1
            self.number += 1
            origin = {key: row[key] for key in ("id", "recipe") if key in row}
            provenance = {"part": part.name} | ({"from": origin} if origin else {})
            yield {"number": self.number - 1, "row": row, "lang": row.get("lang", ""), "provenance": provenance}


class _Part:
    """One source of a mix, the tokens of its rows counted a batch at a time."""

    def __init__(self, values: dict, seed: int, total: float):
        self.share, self.tokens, self.done, self.capped = float(values["share"]) / total, 0, False, 0
        self.name = str(values.get("corpus") or values.get("recipe"))
        self.rows = _of_corpus(values["corpus"]) if "corpus" in values else _of_recipe(values["recipe"], seed)
        self.ready: list[tuple[dict, int]] = []

    def next(self, scale: Scale) -> dict | None:
        if not self.ready:
            rows = list(islice(self.rows, MIX_BATCH))
            self.ready = list(zip(rows, map(len, scale.ids(rows)), strict=True))[::-1]
        if not self.ready:
            self.done = True
            return None
        row, tokens = self.ready.pop()
        self.tokens += tokens
        return row


def _of_corpus(name: str) -> Iterator[dict]:
    yield from storage.all_rows(corpus.locate(str(name)))


def _of_recipe(name: str, seed: int) -> Iterator[dict]:
    recipe = recipes.load(name)
    if recipe.kind != "grammar":
        raise recipes.RecipeWrong(file=name, what="it is a part of a mix but no grammar; make a corpus of it first")
    for number in count():
        yield recipe.make(seed, number) | {"lang": recipe.lang, "recipe": {"name": recipe.name, "row": number}}
