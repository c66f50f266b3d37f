"""Held-out rows that have a near copy among the training rows: their evaluation says too little."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable

from .corpus_rows import mark, plain

ENOUGH = 100  # characters of replies that are compared alone; shorter ones together with what was asked
SHINGLE = 3  # words
ALIKE = 0.6  # share of a held-out row's shingles that one training row has
MOST_ALIKE, SHARE, FEWEST = 50, 4, 3  # one that more held-out rows have, or a quarter of them, belongs to a template
MOST_ROWS = 200_000  # training rows that are looked at, which takes seconds


def count(held_out: list[dict], training: Iterable[dict]) -> int:
    """How many held-out rows have most of what they say in one training row."""
    index, found = _Index(held_out), set()
    for row in itertools.islice(training, MOST_ROWS):
        found |= index.near(row)
    return len(found)


def copies(held_out: list[dict], numbered: Iterable[tuple[int, dict]]) -> set[int]:
    """The numbers of the rows that say what a held-out row says, or most of it."""
    index, marks = _Index(held_out), {mark(row) for row in held_out}
    return {number for number, row in numbered if mark(row) in marks or index.near(row)}


class _Index:
    """The shingles of held-out rows."""

    def __init__(self, held_out: list[dict]):
        having: dict[tuple, list[int]] = defaultdict(list)
        for number, row in enumerate(held_out):
            for shingle in _shingles(row):
                having[shingle].append(number)
        most = min(MOST_ALIKE, max(FEWEST, len(held_out) // SHARE))
        rare = Counter(number for numbers in having.values() if len(numbers) <= most for number in numbers)
        self.having: dict[tuple, list[int]] = {}
        for shingle, numbers in having.items():
            if len(numbers) > most:  # a row that has nothing else is compared by it
                numbers = [number for number in numbers if rare[number] < 2 and len(numbers) <= MOST_ALIKE]
            if numbers:
                self.having[shingle] = numbers
        self.sizes = Counter(number for numbers in self.having.values() for number in numbers)

    def near(self, row: dict) -> set[int]:
        """The numbers of the held-out rows that have most of what they say in a row."""
        shared = Counter(number for shingle in _shingles(row) & self.having.keys() for number in self.having[shingle])
        return {number for number, several in shared.items() if several >= max(2, ALIKE * self.sizes[number])}


def _shingles(row: dict) -> set[tuple]:
    words = plain(_said(row)).split()
    return set(zip(*(words[start:] for start in range(SHINGLE)), strict=False))


def _said(row: dict) -> str:
    if "text" in row:
        return row["text"]
    turns = [(turn["role"], turn["content"]) for turn in row["messages"] if turn["role"] != "system"]
    replies = "\n".join(said for role, said in turns if role == "assistant")
    return replies if len(replies) >= ENOUGH else "\n".join(said for _, said in turns)
