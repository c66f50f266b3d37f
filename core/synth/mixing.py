"""A mix: corpora and recipes by their share of tokens, with a cap on the rows of one template.

`parts` is a list of {"corpus": id or directory} or {"recipe": name} with a "share"; `cap` is the largest share of rows
that one rule path may have. The part that is furthest behind its share gives the next row, so any length holds them.
"""

from collections import Counter
from collections.abc import Iterator

from core.corpus import storage
from core.corpus.__main__ import where
from core.corpus.token_counter import Scale
from core.errors import UserError
from core.synth import recipes

CHUNK = 200
FREE = 20  # rows of a template before its cap counts


class MixWrong(UserError):
    template = "The shares of the mix do not work: {what}. Correct them in the recipe."


class FromMix:
    """Rows of several sources; the numbers of a mix are its own, and a resumed one walks its sources anew."""

    def __init__(self, recipe, seed: int, target: int, model: str | None):
        self.parts = [_Part(one, seed + at, recipe.lang) for at, one in enumerate(_parts(recipe))]
        total = sum(part.share for part in self.parts)
        for part in self.parts:
            part.share /= total
        self.cap, self.scale = float(recipe.values.get("cap") or 1), Scale(model, recipe.lang)
        self.paths, self.taken, self.number = Counter(), 0, 0

    def batch(self, first: int) -> list[dict]:
        while self.number < first and (skipped := self._next()):  # rows that a former process has written
            del skipped
        found = []
        while len(found) < CHUNK and (one := self._next()):
            found.append(one)
        return found

    def _next(self) -> dict | None:
        while True:
            alive = [part for part in self.parts if not part.done]
            if not alive:
                return None
            part = min(alive, key=lambda one: one.tokens / one.share)
            row = part.next(self.scale)
            if row is None:
                continue
            path = row.get("path")
            if path and self.cap < 1 and self.paths[path] >= max(FREE, self.cap * self.taken):
                part.capped += 1
                part.done = part.capped > 50 * FREE
                continue
            part.capped = 0
            self.paths[path] += 1
            self.taken += 1
            self.number += 1
            origin = {key: row[key] for key in ("id", "recipe") if key in row}
            provenance = {"part": part.name} | ({"from": origin} if origin else {})
            return {"number": self.number - 1, "row": row, "lang": row.get("lang", ""), "provenance": provenance}

    def close(self) -> None:
        pass


class _Part:
    """One source of a mix, its rows weighed a chunk at a time."""

    def __init__(self, values: dict, seed: int, lang: str):
        self.share, self.tokens, self.done, self.capped = float(values["share"]), 0, False, 0
        self.name = str(values.get("corpus") or values.get("recipe"))
        self.rows = _of_corpus(values["corpus"]) if "corpus" in values else _of_recipe(values["recipe"], seed)
        self.ready: list[tuple[dict, int]] = []

    def next(self, scale: Scale) -> dict | None:
        if not self.ready:
            rows = [row for _, row in zip(range(CHUNK), self.rows, strict=False)]
            lengths = [len(ids) for ids in scale.ids(rows)]
            self.ready = list(zip(rows, lengths, strict=True))[::-1]
        if not self.ready:
            self.done = True
            return None
        row, tokens = self.ready.pop()
        self.tokens += tokens
        return row


def _parts(recipe) -> list[dict]:
    parts = recipe.values.get("parts")
    if not isinstance(parts, list) or not parts:
        raise MixWrong(what="there are no parts")
    for at, one in enumerate(parts):
        if not isinstance(one, dict) or ("corpus" in one) == ("recipe" in one):
            raise MixWrong(what=f"part {at + 1} needs a corpus or a recipe")
        try:
            fine = float(one.get("share", 0)) > 0
        except (TypeError, ValueError):
            fine = False
        if not fine:
            raise MixWrong(what=f"part {at + 1} needs a share above 0")
    return parts


def _of_corpus(name: str) -> Iterator[dict]:
    yield from storage.all_rows(where(str(name)))


def _of_recipe(name: str, seed: int) -> Iterator[dict]:
    recipe, number = recipes.load(name), 0
    if recipe.kind != "grammar":
        raise MixWrong(what=f'the recipe "{name}" is no grammar; make a corpus of it first')
    while True:
        yield recipe.make(seed, number) | {"lang": recipe.lang, "recipe": {"name": recipe.name, "row": number}}
        number += 1
