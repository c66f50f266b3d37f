"""Copies of rows: exact, equal after normalisation, and near ones by MinHash over shingles, as clusters."""

import tempfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rensa

from core.corpus import text_normalization

KINDS = ("", "exact", "normalised", "near")  # what a row is of the first of its cluster
THRESHOLD = 0.7  # estimated Jaccard similarity of shingles
PERMUTATIONS, BANDS = 128, 16  # candidates above (1/16)^(1/8) = 0.71
SHINGLE = 5  # characters of short texts, words of long ones
LONG = 50  # words
BATCH, BATCH_CHARACTERS = 1000, 1_000_000  # rows that are looked at together, and as many characters
MOST_CHARACTERS = 200_000  # of one text that are compared
PAIRS = 20_000  # whose signatures are in memory at once
_PRIME = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Copies:
    """For each row: the number of the first row of its cluster, and what copy it is of one before it."""

    first: np.ndarray  # (rows,) int32
    kind: np.ndarray  # (rows,) uint8: an index of KINDS
    similarity: np.ndarray  # (rows,) float32: to the first row of its cluster

    def counts(self) -> dict[str, int]:
        return {name: int((self.kind == at).sum()) for at, name in enumerate(KINDS) if name}

    def clusters(self) -> int:
        """How many clusters have more than one row."""
        return len(np.unique(self.first[self.kind > 0]))


def text_of(row: dict) -> str:
    """The whole text of a row."""
    return row["text"] if "text" in row else "\n".join(turn["content"] for turn in row["messages"])


def find(texts: Iterable[str], *, near: bool = True, threshold: float = THRESHOLD) -> Copies:
    """The clusters of some texts, in one pass. Signatures lie in a temporary file: memory grows by 200 bytes a row."""
    whole, plain = array("Q"), array("Q")
    with tempfile.TemporaryDirectory(prefix="soulsmith-") as directory:
        path = Path(directory) / "signatures"
        with path.open("wb") as file:
            for batch in _batches(texts):
                normals = text_normalization.many(batch)
                whole.extend(_digest(text) for text in batch)
                plain.extend(_digest(normal or text) for normal, text in zip(normals, batch, strict=True))
                if near:
                    file.write(signatures(normals).tobytes())
        copies = _equal(np.array(whole, np.uint64), np.array(plain, np.uint64))
        if near and len(whole):
            _join_near(copies, np.memmap(path, np.uint32, "r").reshape(-1, PERMUTATIONS), threshold)
    return copies


def _equal(whole: np.ndarray, plain: np.ndarray) -> Copies:
    """Clusters of rows that are equal, as they are or after normalisation."""
    _, at, group = np.unique(whole, return_index=True, return_inverse=True)
    first_whole = at[group]
    _, at, group = np.unique(plain, return_index=True, return_inverse=True)
    first_plain = at[group]
    number = np.arange(len(whole))
    kind = np.where(first_whole != number, 1, np.where(first_plain != number, 2, 0)).astype(np.uint8)
    return Copies(first_plain.astype(np.int32), kind, np.ones(len(whole), np.float32))


def exact(texts: Iterable[str]) -> int:
    """How many texts are equal to an earlier one, to the letter."""
    marks = np.array(array("Q", map(_digest, texts)), np.uint64)
    return len(marks) - len(np.unique(marks))


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch, size = [], 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if len(batch) == BATCH or size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _digest(text: str) -> int:
    """A 64-bit mark that is good within this process."""
    return hash(text) & 0xFFFFFFFFFFFFFFFF


def signatures(texts: list[str]) -> np.ndarray:
    """MinHash signatures of normalised texts, (len(texts), PERMUTATIONS) of uint32; zeros for one without a shingle."""
    shingles = [_shingles(text) for text in texts]
    matrix = rensa.RMinHash.digest_matrix_from_token_sets(shingles, PERMUTATIONS, 42)
    rows = np.array([array("I", row) for row in matrix.to_rows()], np.uint32)  # by half faster than of the lists
    rows[[not of_text for of_text in shingles]] = 0
    return rows


def _shingles(text: str) -> list[str]:
    """The shingles of a text: of characters in a short one, of words in a long one."""
    if text.count(" ") < LONG - 1:
        return [text[at : at + SHINGLE] for at in range(len(text) - SHINGLE + 1)]
    words = text[:MOST_CHARACTERS].split(" ")
    return [" ".join(words[at : at + SHINGLE]) for at in range(len(words) - SHINGLE + 1)]


def _join_near(copies: Copies, marks: np.ndarray, threshold: float) -> None:
    """Join the rows whose signatures share a band and agree enough; a row without shingles is like no other."""
    width, parent = PERMUTATIONS // BANDS, array("i", range(len(marks)))
    parents = np.frombuffer(parent, np.int32)

    def root(at: int) -> int:
        while (above := parent[at]) != at:
            at = above
        return at

    empty = ~marks.any(axis=1)
    for start in range(0, PERMUTATIONS, width):
        keys = np.zeros(len(marks), np.uint64)  # a number for each row's part of a band
        for column in range(start, start + width):
            keys = (keys ^ marks[:, column]) * _PRIME
        numbers = np.flatnonzero((copies.kind == 0) & ~empty).astype(np.int32)
        order = np.argsort(keys[numbers], kind="stable")
        pairs = _candidates(numbers[order], keys[numbers[order]])
        _shorten(parents)
        pairs = pairs[parents[pairs[:, 0]] != parents[pairs[:, 1]]]
        for start in range(0, len(pairs), PAIRS):
            some = pairs[start : start + PAIRS]
            for here, other in some[_alike(marks, some) >= threshold].tolist():
                first, second = root(here), root(other)
                parent[max(first, second)] = min(first, second)
    copies.kind[parents != np.arange(len(parents))] = 3
    _shorten(parents)
    moved = np.flatnonzero(parents[copies.first] != copies.first)
    copies.first[:] = parents[copies.first]  # copies follow the row that they are copies of
    for start in range(0, len(moved), PAIRS):
        some = moved[start : start + PAIRS]
        copies.similarity[some] = _alike(marks, np.stack([copies.first[some], some], 1))


def _shorten(parents: np.ndarray) -> None:
    """Let every row point at the root of its tree."""
    while len(far := np.flatnonzero(parents[parents] != parents)):
        parents[far] = parents[parents[far]]


def _alike(marks: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The estimated similarity of each of (pairs, 2)."""
    return (marks[pairs[:, 0]] == marks[pairs[:, 1]]).mean(axis=1)


def _candidates(rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Pairs of rows with equal keys, (pairs, 2), of rows sorted by them: with the first such row and the last."""
    begins = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])
    later = np.ones(len(keys), bool)
    later[begins] = False
    first = np.repeat(rows[begins], np.diff(np.append(begins, len(keys))))[later]
    before, here = rows[:-1][later[1:]], rows[later]
    neighbours = before != first
    return np.concatenate([np.stack([first, here], 1), np.stack([before, here], 1)[neighbours]])
