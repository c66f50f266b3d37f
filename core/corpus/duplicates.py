"""Copies of rows: exact, equal after normalisation, and near ones by MinHash over shingles.

Exact and normalised copies are equal as a whole. Near ones are alike in what the model is to say: one system prompt, or
one beginning of all questions, makes no copies. A near copy is near to the row that stays; a group is all rows that are
linked by some chain of copies, which must not be torn apart between training and evaluation.
"""

import tempfile
import zlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rensa

from core.corpus import text_normalization, turns
from core.corpus.frames import Frames

KINDS = ("", "exact", "normalised", "near")  # what a row is of the first of its cluster
THRESHOLD = 0.7  # estimated Jaccard similarity of shingles
PERMUTATIONS, BANDS = 128, 16  # candidates above (1/16)^(1/8) = 0.71
SHINGLE = 5  # characters of short texts, words of long ones
LONG = 50  # words
ENOUGH = 100  # characters of replies that are compared alone; shorter ones together with their questions
MOST_LEADERS = 200  # rows that stay of one group, with which the next of it is compared
BATCH, BATCH_CHARACTERS = (
    1000,
    200_000,
)  # rows that are looked at together, and as many characters: they stay in the cache
MOST_CHARACTERS = 200_000  # of one text that are compared
REPLY_MARKS, REPLY_ALIKE = 32, 0.5  # of short replies: a guard, where a few words decide
# Of the words of a short row that fewer of a batch have: rows of one pattern are alike in all others.
OWN_BELOW, OWN_MARKS, OWN_ALIKE = 20, 16, 0.4
PAIRS = 20_000  # whose signatures are in memory at once
_PRIME, _BASE = np.uint64(0x9E3779B97F4A7C15), np.uint64(0x5851F42D4C957F2D)


@dataclass(frozen=True)
class Copies:
    """For each row: the number of the row that stays for it, what copy it is of that one, and its group."""

    first: np.ndarray  # (rows,) int32
    kind: np.ndarray  # (rows,) uint8: an index of KINDS
    similarity: np.ndarray  # (rows,) float32: to the row that stays
    group: np.ndarray  # (rows,) int32: the number of the first row of its group

    def counts(self) -> dict[str, int]:
        return {name: int((self.kind == at).sum()) for at, name in enumerate(KINDS) if name}

    def clusters(self) -> int:
        """How many rows stay for others."""
        return len(np.unique(self.first[self.kind > 0]))

    def grouped(self) -> np.ndarray:
        """Whether each row has others in its group."""
        return np.bincount(self.group, minlength=len(self.group))[self.group] > 1


class Said(NamedTuple):
    """A text by which copies are found: whole, and as what near copies are compared by."""

    whole: str
    compared: str
    reply: str | None = None  # has to be alike too, where `compared` holds more than it


def text_of(row: dict) -> str:
    """The whole text of a row."""
    return "\n".join(turns.texts(row))


def said(row: dict) -> Said:
    """What is compared of a row: of a chat the replies; short ones ("yes") together with what was asked."""
    whole, reply = text_of(row), turns.learned(row)
    if "text" in row or len(reply) >= ENOUGH:
        return Said(whole, reply)
    asked = [turn["content"] for turn in row["messages"] if turn["role"] not in ("system", "assistant")]
    return Said(whole, "\n".join([*asked, reply]), reply)


def find(texts: Iterable[str | Said], *, near: bool = True) -> Copies:
    """The copies among some texts, in one pass. Signatures lie in temporary files: memory grows by 200 bytes a row."""
    whole, plain, short, frames = array("Q"), array("Q"), array("b"), None
    with tempfile.TemporaryDirectory(prefix="soulsmith-") as directory:
        path = Path(directory) / "signatures"
        names = (path, path.with_suffix(".replies"), path.with_suffix(".own"))
        with names[0].open("wb") as file, names[1].open("wb") as replies, names[2].open("wb") as own:
            for batch in _batches(Said(text, text) if isinstance(text, str) else text for text in texts):
                normals = text_normalization.many([text.whole for text in batch])
                whole.extend(_digest(text.whole) for text in batch)
                plain.extend(_digest(normal or text.whole) for normal, text in zip(normals, batch, strict=True))
                short.extend(text.reply is not None for text in batch)
                if near:
                    compared = [
                        normal if text.compared == text.whole else text_normalization.one(text.compared)
                        for normal, text in zip(normals, batch, strict=True)
                    ]
                    frames = frames or Frames.of(compared)
                    file.write(signatures(list(map(frames.without, compared))).tobytes())
                    replies.write(_of_replies([text.reply for text in batch]).tobytes())
                    own.write(_of_own_words(compared).tobytes())
        copies = _equal(np.array(whole, np.uint64), np.array(plain, np.uint64))
        if near and len(whole):
            marks = np.memmap(path, np.uint32, "r").reshape(-1, PERMUTATIONS)
            of_replies = np.memmap(names[1], np.uint32, "r").reshape(-1, REPLY_MARKS)
            of_own = np.memmap(names[2], np.uint32, "r").reshape(-1, OWN_MARKS)
            _join_near(copies, _Marks(marks, of_replies, np.frombuffer(short, bool), of_own))
    return copies


def _equal(whole: np.ndarray, plain: np.ndarray) -> Copies:
    """Clusters of rows that are equal, as they are or after normalisation."""
    _, at, group = np.unique(whole, return_index=True, return_inverse=True)
    first_whole = at[group]
    _, at, group = np.unique(plain, return_index=True, return_inverse=True)
    first_plain = at[group]
    number = np.arange(len(whole))
    kind = np.where(first_whole != number, 1, np.where(first_plain != number, 2, 0)).astype(np.uint8)
    first = first_plain.astype(np.int32)
    return Copies(first, kind, np.ones(len(whole), np.float32), first.copy())


def _batches(texts: Iterable[Said]) -> Iterator[list[Said]]:
    batch, size = [], 0
    for text in texts:
        batch.append(text)
        size += len(text.whole)
        if len(batch) == BATCH or size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _digest(text: str) -> int:
    """A 64-bit mark that is good within this process."""
    return hash(text) & 0xFFFFFFFFFFFFFFFF


def signatures(texts: list[str], long: int = LONG) -> np.ndarray:
    """MinHash signatures of normalised texts, (len(texts), PERMUTATIONS) of uint32; zeros for one without a shingle.

    Texts of at least `long` words are shingled by words.
    """
    hashes, ends = _shingles(texts, long)
    rows = _digests(hashes, ends, PERMUTATIONS)
    rows[np.diff(ends) == 0] = 0
    return rows


def _digests(hashes: np.ndarray, ends: list[int], count: int) -> np.ndarray:
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(hashes, ends, count, 42)
    return np.array(matrix.to_rows(), np.uint32).reshape(-1, count)


def _shingles(texts: list[str], long: int = LONG, whole: bool = False) -> tuple[np.ndarray, list[int]]:
    """Hashes of the shingles of texts, uint64 in a row, and where those of each text end, behind a 0.

    Shingles are of characters in a short text, of words in a long one. With `whole`, one without any is one itself.
    """
    texts = [text[:MOST_CHARACTERS] for text in texts]
    codes = np.frombuffer("\n".join(texts).encode("utf-32-le", errors="surrogatepass"), np.uint32)
    spaces = np.flatnonzero(codes == ord(" "))
    begins, ends, counts, at = [], [], [0], 0
    for text in texts:
        first, last = at, at + len(text)
        at = last + 1
        if text.count(" ") < long - 1:
            begin = np.arange(first, last - SHINGLE + 1)
            end = begin + SHINGLE
        else:
            inside = spaces[np.searchsorted(spaces, first) : np.searchsorted(spaces, last)]
            begin = np.append(first, inside + 1)[: -(SHINGLE - 1)]
            end = np.append(inside, last)[SHINGLE - 1 :]
        if whole and not len(begin):
            begin, end = np.array([first]), np.array([last])
        begins.append(begin)
        ends.append(end)
        counts.append(counts[-1] + len(begin))
    return _hashes(codes, np.concatenate(begins), np.concatenate(ends)), counts


def _hashes(codes: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """A number for each piece codes[begin:end]: the difference of a polynomial's sums before its ends, brought to one
    power (Rabin and Karp), everything modulo 2**64.
    """
    powers = np.full(len(codes) + 1, _BASE)
    powers[0] = 1
    powers = np.cumprod(powers)
    sums = np.append(np.uint64(0), np.cumsum((codes.astype(np.uint64) + np.uint64(1)) * powers[:-1]))
    inverses = np.full(len(codes) + 1, np.uint64(pow(int(_BASE), -1, 2**64)))
    inverses[0] = 1
    hashes = (sums[ends] - sums[begins]) * np.cumprod(inverses)[begins]
    hashes ^= hashes >> np.uint64(32)  # the low bits of a product are those of its factors
    return hashes * _PRIME


def _of_replies(replies: list[str | None]) -> np.ndarray:
    """Short signatures of some replies, (len(replies), REPLY_MARKS): zeros for None, else of one shingle at least."""
    rows = np.zeros((len(replies), REPLY_MARKS), np.uint32)
    if given := [at for at, reply in enumerate(replies) if reply is not None]:
        normals = text_normalization.many([replies[at] for at in given])
        rows[given] = _digests(*_shingles(normals, whole=True), REPLY_MARKS)
    return rows


def _of_own_words(texts: list[str]) -> np.ndarray:
    """Short signatures of the words of short normalised texts that few of them have, (len(texts), OWN_MARKS).

    Zeros for a text without such words, and for a long one.
    """
    rows = np.zeros((len(texts), OWN_MARKS), np.uint32)
    words = {text: set(text.split()) for text in texts if text.count(" ") < LONG - 1}
    shared = Counter(chain.from_iterable(words.values()))
    # Not hash(): the same corpus would lose other rows in another process.
    marks = {
        word: zlib.crc32(word.encode(errors="surrogatepass")) for word, count in shared.items() if count < OWN_BELOW
    }
    own = [[marks[word] for word in words.get(text, ()) if word in marks] for text in texts]
    if given := [at for at, hashes in enumerate(own) if hashes]:
        ends = np.cumsum([0, *(len(own[at]) for at in given)]).tolist()
        rows[given] = _digests(np.array(list(chain.from_iterable(own)), np.uint64) * _PRIME, ends, OWN_MARKS)
    return rows


class _Marks(NamedTuple):
    """The signatures of rows, of the replies of those that are compared together with their questions, and of own words."""

    whole: np.ndarray  # (rows, PERMUTATIONS)
    replies: np.ndarray  # (rows, REPLY_MARKS)
    short: np.ndarray  # (rows,) bool
    own: np.ndarray  # (rows, OWN_MARKS)

    def alike(self, pairs: np.ndarray) -> np.ndarray:
        """The estimated similarity of each of (pairs, 2); 0 where short replies differ, or the own words of short rows."""
        here, other = pairs[:, 0], pairs[:, 1]
        alike = (self.whole[here] == self.whole[other]).mean(axis=1)
        both = np.flatnonzero(self.short[here] & self.short[other])
        replies = (self.replies[here[both]] == self.replies[other[both]]).mean(axis=1)
        alike[both[replies < REPLY_ALIKE]] = 0
        both = np.flatnonzero(self.own[here].any(axis=1) & self.own[other].any(axis=1))
        own = (self.own[here[both]] == self.own[other[both]]).mean(axis=1)
        alike[both[own < OWN_ALIKE]] = 0
        return alike


def _join_near(copies: Copies, marks: _Marks) -> None:
    """Group the rows whose signatures share a band and agree enough; a row without shingles is like no other.

    In each group the rows that are near to its first one are copies of it; of the others the next one stays.
    """
    width, parent = PERMUTATIONS // BANDS, array("i", range(len(marks.short)))
    parents = np.frombuffer(parent, np.int32)

    def root(at: int) -> int:
        while (above := parent[at]) != at:
            at = above
        return at

    empty = ~marks.whole.any(axis=1)
    for start in range(0, PERMUTATIONS, width):
        keys = np.zeros(len(empty), np.uint64)  # a number for each row's part of a band
        for column in range(start, start + width):
            keys = (keys ^ marks.whole[:, column]) * _PRIME
        numbers = np.flatnonzero((copies.kind == 0) & ~empty).astype(np.int32)
        order = np.argsort(keys[numbers], kind="stable")
        pairs = _candidates(numbers[order], keys[numbers[order]])
        _shorten(parents)
        pairs = pairs[parents[pairs[:, 0]] != parents[pairs[:, 1]]]
        for start in range(0, len(pairs), PAIRS):
            some = pairs[start : start + PAIRS]
            for here, other in some[marks.alike(some) >= THRESHOLD].tolist():
                first, second = root(here), root(other)
                parent[max(first, second)] = min(first, second)
    _shorten(parents)
    _leaders(copies, parents, marks)
    copies.group[:] = parents[copies.group]


def _leaders(copies: Copies, parents: np.ndarray, marks: _Marks) -> None:
    """Which row stays for each row of a group: the first to which it is near itself."""
    first = np.arange(len(parents), dtype=np.int32)
    similarity = np.ones(len(parents), np.float32)
    members = np.flatnonzero(parents != first).astype(np.int32)
    far: dict[int, list[int]] = {}
    for start in range(0, len(members), PAIRS):
        some = members[start : start + PAIRS]
        alike = marks.alike(np.stack([parents[some], some], 1))
        near = alike >= THRESHOLD
        first[some[near]], similarity[some[near]] = parents[some[near]], alike[near]
        for member in some[~near].tolist():
            far.setdefault(int(parents[member]), []).append(member)
    for rows in far.values():
        stay: list[int] = []
        for row in rows:
            pairs = np.array([(leader, row) for leader in stay[-MOST_LEADERS:]], np.int32).reshape(-1, 2)
            near = np.flatnonzero((alike := marks.alike(pairs)) >= THRESHOLD)
            if len(near):
                first[row], similarity[row] = pairs[near[0], 0], alike[near[0]]
            else:
                stay.append(row)
    copies.kind[first != np.arange(len(first))] = 3
    moved = first[copies.first] != copies.first  # equal copies follow the row that they are copies of
    copies.similarity[moved] = similarity[copies.first[moved]]
    copies.first[:] = first[copies.first]


def _shorten(parents: np.ndarray) -> None:
    """Let every row point at the root of its tree."""
    while len(far := np.flatnonzero(parents[parents] != parents)):
        parents[far] = parents[parents[far]]


def _candidates(rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Pairs of rows with equal keys, (pairs, 2), of rows sorted by them: with the first such row and the last."""
    begins = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])
    later = np.ones(len(keys), bool)
    later[begins] = False
    first = np.repeat(rows[begins], np.diff(np.append(begins, len(keys))))[later]
    before, here = rows[:-1][later[1:]], rows[later]
    neighbours = before != first
    return np.concatenate([np.stack([first, here], 1), np.stack([before, here], 1)[neighbours]])
