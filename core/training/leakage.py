"""Held-out rows that have a near copy among the training rows: their evaluation says too little."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from .corpus_rows import plain

ENOUGH = 100  # characters of replies that are compared alone; shorter ones together with what was asked
SHINGLE = 3  # words
ALIKE = 0.6  # share of a held-out row's shingles that one training row has
MOST_ALIKE = 50  # held-out rows that share a shingle; one that more have belongs to a template
MOST_ROWS = 200_000  # training rows that are looked at, which takes seconds


def count(held_out: list[dict], training: Iterable[dict]) -> int:
    """How many held-out rows have most of what they say in one training row."""
    shingles = [_shingles(row) for row in held_out]
    having: dict[tuple, list[int]] = defaultdict(list)
    for number, of_row in enumerate(shingles):
        for shingle in of_row:
            having[shingle].append(number)
    having = {shingle: numbers for shingle, numbers in having.items() if len(numbers) <= MOST_ALIKE}
    sizes, found = Counter(number for numbers in having.values() for number in numbers), set()
    for looked_at, row in enumerate(training):
        if looked_at == MOST_ROWS:
            break
        shared = Counter(number for shingle in _shingles(row) & having.keys() for number in having[shingle])
        found.update(number for number, several in shared.items() if several >= max(2, ALIKE * sizes[number]))
    return len(found)


def _shingles(row: dict) -> set[tuple]:
    words = plain(_said(row)).split()
    return set(zip(*(words[start:] for start in range(SHINGLE)), strict=False))


def _said(row: dict) -> str:
    if "text" in row:
        return row["text"]
    turns = [(turn["role"], turn["content"]) for turn in row["messages"] if turn["role"] != "system"]
    replies = "\n".join(said for role, said in turns if role == "assistant")
    return replies if len(replies) >= ENOUGH else "\n".join(said for _, said in turns)
