"""Near copies while rows are made: MinHash over character 5-grams with bands, in a fixed amount of memory.

One hash a shingle serves all places of the signature: the low bits choose the place, the least hash there stays
(Li, Owen and Zhang 2012, arXiv:1208.1259). The index remembers the last WINDOW kept rows; the tables of the bands are
overwritten as they fill, so it takes about 70 MB for any number of rows. Only kept rows enter it: a job that goes on
after a kill feeds it the kept rows again and finds the same copies.
"""

from array import array

import numpy as np

ALIKE = 0.7  # estimated share of common shingles: the threshold of the report on a corpus
BANDS, WIDE = 12, 5  # candidates above (1/12)^(1/5) = 0.61
PLACES = BANDS * WIDE
WINDOW = 1 << 18  # rows
SLOTS = 1 << 19  # of a band's table
SHINGLE, LEAST = 5, 16  # characters; of shorter texts only equal ones are copies
MOST = 20_000  # characters of a text that are compared
_POWERS = (np.uint64(0x9E3779B97F4A7C15) ** np.arange(1, SHINGLE + 1, dtype=np.uint64)) | np.uint64(1)
_MIX = np.uint64(0xD6E8FEB86659FD93)


def signatures(texts: list[str]) -> np.ndarray:
    """(len(texts), PLACES) of uint16 for normalised texts; zeros for one that is too short."""
    texts = [text[:MOST] if len(text) >= LEAST else "" for text in texts]
    lengths = np.array([max(0, len(text) - SHINGLE + 1) for text in texts])
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    found = np.zeros(len(texts) * PLACES, np.uint16)
    if not len(codes):
        return found.reshape(len(texts), PLACES)
    hashes = np.zeros(len(codes) - SHINGLE + 1, np.uint64)
    for step in range(SHINGLE):
        hashes += codes[step : step + len(hashes)] * _POWERS[step]
    hashes = (hashes ^ (hashes >> np.uint64(32))) * _MIX
    hashes ^= hashes >> np.uint64(29)
    starts = np.concatenate(([0], np.cumsum([len(text) for text in texts])[:-1]))
    row = np.repeat(np.arange(len(texts)), lengths)
    inside = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + np.repeat(starts, lengths)
    hashes = hashes[inside]
    least = np.full(len(texts) * PLACES, 0xFFFF, np.uint16)
    place = row * PLACES + (hashes % np.uint64(PLACES)).astype(np.int64)
    np.minimum.at(least, place, (hashes >> np.uint64(48)).astype(np.uint16))
    least = least.reshape(len(texts), PLACES)
    least[lengths == 0] = 0
    return least


def _keys(marks: np.ndarray) -> list[list[int]]:
    """The slot of each band for each signature."""
    parts = marks.reshape(len(marks), BANDS, WIDE).astype(np.uint64)
    keys = np.zeros((len(marks), BANDS), np.uint64)
    for column in range(WIDE):
        keys = (keys ^ parts[:, :, column]) * _MIX
        keys ^= keys >> np.uint64(31)
    return (keys % np.uint64(SLOTS)).tolist()


class Near:
    """The kept rows that a new one may be a near copy of."""

    def __init__(self):
        self.tables = [array("I", bytes(4 * SLOTS)) for _ in range(BANDS)]  # 1 + the count of the row that is there
        self.marks = np.zeros((WINDOW, PLACES), np.uint16)
        self.numbers = np.zeros(WINDOW, np.uint64)
        self.kept = 0

    def look(self, marks: np.ndarray, keys: list[int]) -> tuple[int, float] | None:
        """The number of a kept row that this one is a near copy of, and how alike they are."""
        if not marks[0] and not marks.any():
            return None
        met = {table[key] for table, key in zip(self.tables, keys, strict=True)}
        for count in sorted(met):
            if not count or count <= self.kept - WINDOW:
                continue
            at = (count - 1) % WINDOW
            alike = self._alike(marks, self.marks[at])
            if alike >= ALIKE:
                return int(self.numbers[at]), alike
        return None

    @staticmethod
    def _alike(one: np.ndarray, other: np.ndarray) -> float:
        filled = (one != 0xFFFF) | (other != 0xFFFF)
        return float(((one == other) & filled).sum() / max(1, filled.sum()))

    def keep(self, number: int, marks: np.ndarray, keys: list[int]) -> None:
        """Remember a row that was kept."""
        at = self.kept % WINDOW
        self.marks[at], self.numbers[at] = marks, number
        self.kept += 1
        if not marks[0] and not marks.any():
            return
        for table, key in zip(self.tables, keys, strict=True):
            table[key] = self.kept


def prepared(texts: list[str]) -> list[tuple[np.ndarray, list[int]]]:
    """(marks, keys) of normalised texts, for look and keep."""
    if not texts:
        return []
    marks = signatures(texts)
    return list(zip(marks, _keys(marks), strict=True))
