"""Which texts a job has had: equal ones by digests of 8 bytes, so that ten million rows take 80 MB, and near ones."""

import hashlib

import numpy as np

from core.corpus import text_normalization
from core.synth import near_duplicates

RECENT = 65_536


class Seen:
    """A growing set of texts that counts case, punctuation, ё and width as no difference."""

    def __init__(self):
        self._sorted, self._recent = np.empty(0, np.uint64), set()

    def add(self, text: str) -> bool:
        """Whether the text is new; it is not from then on."""
        return self.add_digest(digest(text_normalization.one(text) or text))

    def add_digest(self, mark: int) -> bool:
        if mark in self._recent or self._is_old(mark):
            return False
        self._recent.add(mark)
        if len(self._recent) >= RECENT:
            fresh = np.fromiter(self._recent, np.uint64, len(self._recent))
            self._sorted = np.sort(np.concatenate((self._sorted, fresh)))
            self._recent.clear()
        return True

    def __len__(self) -> int:
        return len(self._sorted) + len(self._recent)

    def _is_old(self, mark: int) -> bool:
        at = int(np.searchsorted(self._sorted, np.uint64(mark)))
        return at < len(self._sorted) and int(self._sorted[at]) == mark


class Copies:
    """What is a copy of what a job has kept: the same words in other clothes, or nearly the same words."""

    def __init__(self):
        self.seen, self.near = Seen(), near_duplicates.Near()

    def judge(self, numbers: list[int], texts: list[str]) -> list[dict | None]:
        """For each text None where it is new, else why it is dropped: {"why": "equal" | "near", "of", "alike", "mark"}."""
        plain = _plain(texts)
        found = []
        for number, said, (marks, keys) in zip(numbers, plain, near_duplicates.prepared(plain), strict=True):
            mark = digest(said)
            if not self.seen.add_digest(mark):
                found.append({"why": "equal", "mark": mark})
            elif like := self.near.look(marks, keys):
                found.append({"why": "near", "of": like[0], "alike": round(like[1], 2), "mark": mark})
            else:
                self.near.keep(number, marks, keys)
                found.append(None)
        return found

    def kept(self, numbers: list[int], texts: list[str]) -> None:
        """Remember rows that a former process kept."""
        plain = _plain(texts)
        for number, said, (marks, keys) in zip(numbers, plain, near_duplicates.prepared(plain), strict=True):
            self.seen.add_digest(digest(said))
            self.near.keep(number, marks, keys)


def digest(said: str) -> int:
    return int.from_bytes(hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def _plain(texts: list[str]) -> list[str]:
    if not texts:
        return []
    return [said or text for said, text in zip(text_normalization.many(texts), texts, strict=True)]
