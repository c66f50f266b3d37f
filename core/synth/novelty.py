"""How much of a job's rows is new: word 3-grams and shapes of sentences that came for the first time, over all rows.

Counted in bitmaps of fixed size by linear counting (Whang et al. 1990, doi:10.1145/78922.78925), so memory stays flat. A
sentence's shape is its punctuation and its function words but prepositions; what stands between them counts as one
mark, so "Лень любит яблоню и не любит афишу." and "Река помнит мост и не помнит лодку." have one shape.
"""

import json
import math
import re
import zlib
from functools import lru_cache

import numpy as np

from core import paths
from core.corpus import turns

GRAM_BITS, SHAPE_BITS = 28, 24  # 32 MB and 2 MB
WINDOWS, LEAST_WINDOW, WINDOW = 40, 5_000, 1_000_000  # of the curve: how many at least, tokens of one
LONGEST_SHAPE = 24  # marks
FLAT = 0.1  # share of a window's 3-grams that are new, or of all shapes, below which rows repeat what was said
SHOWN = 100  # points of a card and a plot
LEAST_POINTS = 8  # windows before the shapes are judged
FUNCTION = frozenset(json.loads((paths.assets() / "recipes" / "function-words.json").read_text(encoding="utf-8")))
_SENTENCE = re.compile(r"[^.!?…\n]+[.!?…]*")
_PART = re.compile(r"\w+|[^\w\s]")
_WORD = re.compile(r"\w+")
_MIX = np.uint64(0x9E3779B97F4A7C15)


class Bitmap:
    """Estimates how many different hashes it has seen."""

    def __init__(self, bits: int):
        self.shift, self.size = np.uint64(64 - bits), 1 << bits
        self.seen, self.ones = np.zeros(self.size // 8, np.uint8), 0

    def add(self, hashes: np.ndarray) -> None:
        """Add 64-bit hashes."""
        places = np.unique(hashes * _MIX >> self.shift)
        bytes_, bits = (
            (places >> np.uint64(3)).astype(np.int64),
            np.uint8(1) << (places & np.uint64(7)).astype(np.uint8),
        )
        new = (self.seen[bytes_] & bits) == 0
        np.bitwise_or.at(self.seen, bytes_[new], bits[new])
        self.ones += int(new.sum())

    def count(self) -> float:
        """Different hashes so far; a full bitmap knows no more than a lower bound."""
        return -self.size * math.log(max(1, self.size - self.ones) / self.size)


class Novelty:
    """The curve of a job: after each window {"tokens", "grams", "shapes", "share"}.

    "grams" and "shapes" are new ones for each million tokens, "share" the part of the window's 3-grams that was new.
    """

    def __init__(self, target: int):
        self.window = max(LEAST_WINDOW, min(WINDOW, target // WINDOWS))
        self.grams, self.shapes = Bitmap(GRAM_BITS), Bitmap(SHAPE_BITS)
        self.points: list[dict] = []
        self._tokens = self._said = 0  # of this window: tokens, 3-grams
        self._total, self._before = 0, (0.0, 0.0)

    def add(self, rows: list[dict], tokens: list[int]) -> list[dict]:
        """Take in rows and the tokens of each; the points of the curve that they finish."""
        fresh, start = [], 0
        for at, count in enumerate(tokens):
            self._tokens += count
            self._total += count
            if self._tokens >= self.window:
                self._take(rows[start : at + 1])
                start = at + 1
                fresh.append(self._point())
        self._take(rows[start:])
        return fresh

    def totals(self) -> dict:
        """Different 3-grams and shapes so far."""
        return {"grams": round(self.grams.count()), "shapes": round(self.shapes.count())}

    def summary(self) -> dict:
        """For a progress event and a card: totals, the newest point, and from which token on the rows repeat."""
        return self.totals() | {"last": self.points[-1] if self.points else None, "flat_at": flat_at(self.points)}

    def spaced(self) -> list[dict]:
        """At most SHOWN points of the curve, evenly spaced."""
        return [self.points[at] for at in range(0, len(self.points), math.ceil(len(self.points) / SHOWN) or 1)]

    def _take(self, rows: list[dict]) -> None:
        texts = [turns.learned(row) for row in rows]
        if not texts:
            return
        grams = [_grams(text) for text in texts]
        self._said += sum(map(len, grams))
        self.grams.add(np.concatenate(grams))
        shapes = [zlib.crc32(shape.encode()) for text in texts for shape in sentence_shapes(text)]
        self.shapes.add(np.array(shapes, np.uint64))

    def _point(self) -> dict:
        now = (self.grams.count(), self.shapes.count())
        grams, shapes = (max(0.0, new - old) for new, old in zip(now, self._before, strict=True))
        point = {
            "tokens": self._total,
            "grams": round(grams * 1e6 / self._tokens),
            "shapes": round(shapes * 1e6 / self._tokens),
            "share": round(min(1.0, grams / max(1, self._said)), 3),
        }
        self.points.append(point)
        self._before, self._tokens, self._said = now, 0, 0
        return point


def flat_at(points: list[dict]) -> int | None:
    """Tokens after which the rows only repeat, if they do.

    From there on fewer than FLAT of each window's 3-grams are new; or all but FLAT of the shapes had come by then, and as
    many tokens again brought the rest.
    """
    flat = None
    before = 0
    for point in points:
        flat = None if point["share"] >= FLAT else before if flat is None else flat
        before = point["tokens"]
    ends = [0, *(point["tokens"] for point in points)]
    new = [point["shapes"] * (end - start) for point, start, end in zip(points, ends, ends[1:], strict=False)]
    come = np.cumsum(new)
    if len(points) >= LEAST_POINTS and come[-1]:
        at = points[int(np.argmax(come >= (1 - FLAT) * come[-1]))]["tokens"]
        flat = min(flat or at, at) if 2 * at <= ends[-1] else flat
    return flat


def sentence_shapes(text: str) -> list[str]:
    """The shapes of a text's sentences."""
    return [_shape(sentence) for sentence in _SENTENCE.findall(text) if _WORD.search(sentence)]


def _shape(sentence: str) -> str:
    marks: list[str] = []
    for part in _PART.findall(sentence.lower().replace("ё", "е")):
        mark = part if part in FUNCTION or not part.isalnum() else "w"
        if mark != "w" or marks[-1:] != ["w"]:
            marks.append(mark)
    return " ".join(marks[:LONGEST_SHAPE])


def _grams(text: str) -> np.ndarray:
    """Hashes of a text's word 3-grams."""
    words = np.array([_hash(word) for word in _WORD.findall(text.lower())], np.uint64)
    if len(words) < 3:
        return words[:0]
    with np.errstate(over="ignore"):
        return (words[:-2] * np.uint64(0x100000001B3) + words[1:-1]) * np.uint64(0xD6E8FEB86659FD93) + words[2:]


@lru_cache(1 << 17)
def _hash(word: str) -> int:
    return zlib.crc32(word.encode()) << 32 | zlib.adler32(word.encode())
