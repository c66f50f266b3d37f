"""Which rows a job has kept: equal ones by digests of 8 bytes (80 MB for ten million rows), near ones by MinHash.

Signatures, bands and threshold are those of the report on a corpus, core.corpus.duplicates, but long texts too are
compared by their characters: rows of one recipe differ by a word in a sentence, which changes most shingles of five words.
The index is another one:
the report makes clusters of a whole corpus; a job judges each row when it is made, in bounded memory, and after a kill it
feeds in the kept rows and finds the same copies. The last WINDOW kept rows are compared; the tables of the bands are
overwritten as they fill, so near copies take about 100 MB for any number of rows.
"""

import hashlib

import numpy as np

from core.corpus import duplicates, text_normalization
from core.corpus.duplicates import BANDS, PERMUTATIONS, THRESHOLD

WINDOW = 1 << 18  # kept rows that are compared
SLOTS = 1 << 19  # of a band's table
LEAST, MOST = 16, 20_000  # characters: of shorter texts only equal ones are copies; of longer ones so many are compared
RECENT = 65_536  # digests that wait to be sorted in
_MIX = np.uint64(0xD6E8FEB86659FD93)
_BAND = np.arange(BANDS)


class Copies:
    """The rows that a job has kept, as normalised texts: case, punctuation, ё and width make no difference."""

    def __init__(self):
        self._digests, self._recent = np.empty(0, np.uint64), set()
        self._tables = np.zeros((BANDS, SLOTS), np.uint32)  # the count of the row that is there
        self._signatures = np.zeros((WINDOW, PERMUTATIONS), np.uint16)  # the low bits are enough to compare
        self._numbers = np.zeros(WINDOW, np.uint64)
        self._kept = 0

    def judge(self, numbers: list[int], texts: list[str]) -> list[dict | None]:
        """For each row None where it is new and kept, else {"why": "equal" | "near", "of", "alike", "mark"}."""
        verdicts = []
        for number, mark, signature, slots in _prepared(numbers, texts):
            if not self.add_digest(mark):
                verdicts.append({"why": "equal", "mark": mark})
            elif near := self._near(signature, slots):
                verdicts.append({"why": "near", **near, "mark": mark})
            else:
                self._keep(number, signature, slots)
                verdicts.append(None)
        return verdicts

    def keep(self, numbers: list[int], texts: list[str]) -> None:
        """Remember rows that a former process kept."""
        for number, mark, signature, slots in _prepared(numbers, texts):
            self.add_digest(mark)
            self._keep(number, signature, slots)

    def add_digest(self, mark: int) -> bool:
        """Remember the "mark" of a row; whether it is new."""
        at = int(np.searchsorted(self._digests, np.uint64(mark)))
        if mark in self._recent or (at < len(self._digests) and int(self._digests[at]) == mark):
            return False
        self._recent.add(mark)
        if len(self._recent) >= RECENT:
            fresh = np.fromiter(self._recent, np.uint64, len(self._recent))
            self._digests = np.sort(np.concatenate((self._digests, fresh)))
            self._recent.clear()
        return True

    def _near(self, signature: np.ndarray, slots: np.ndarray) -> dict | None:
        """The number of a kept row that this one is a near copy of, and how alike they are."""
        counts = self._tables[_BAND, slots]
        counts = np.unique(counts[counts > max(0, self._kept - WINDOW)])
        if not signature.any() or not len(counts):
            return None
        places = (counts - 1) % WINDOW
        alike = (self._signatures[places] == signature).mean(axis=1)
        near = np.flatnonzero(alike >= THRESHOLD)
        return (
            {"of": int(self._numbers[places[near[0]]]), "alike": round(float(alike[near[0]]), 2)} if len(near) else None
        )

    def _keep(self, number: int, signature: np.ndarray, slots: np.ndarray) -> None:
        if signature.any():
            place = self._kept % WINDOW
            self._signatures[place], self._numbers[place] = signature, number
            self._kept += 1
            self._tables[_BAND, slots] = self._kept


def _prepared(numbers: list[int], texts: list[str]):
    """(number, digest, signature, slots of the bands) of each text."""
    if not texts:
        return []
    plain = [normal or text for normal, text in zip(text_normalization.many(texts), texts, strict=True)]
    signatures = duplicates.signatures([text[:MOST] if len(text) >= LEAST else "" for text in plain], long=MOST)
    slots = np.zeros((len(texts), BANDS), np.uint64)
    for column in np.split(signatures.reshape(len(texts), BANDS, -1), PERMUTATIONS // BANDS, axis=2):
        slots = (slots ^ column[:, :, 0]) * _MIX
        slots ^= slots >> np.uint64(31)
    slots = (slots % np.uint64(SLOTS)).astype(np.int64)
    return zip(numbers, map(_digest, plain), signatures.astype(np.uint16), slots, strict=True)


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())
