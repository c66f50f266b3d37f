"""Which texts a job has had: digests of normalised texts, 8 bytes each, so that ten million rows take 80 MB."""

import hashlib

import numpy as np

from core.corpus.normalised import one as normal

RECENT = 65_536


class Seen:
    """A growing set of texts that counts case, punctuation, ё and width as no difference."""

    def __init__(self):
        self._sorted, self._recent = np.empty(0, np.uint64), set()

    def add(self, text: str) -> bool:
        """Whether the text is new; it is not from then on."""
        said = normal(text) or text
        digest = int.from_bytes(hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=8).digest())
        if digest in self._recent or self._is_old(digest):
            return False
        self._recent.add(digest)
        if len(self._recent) >= RECENT:
            fresh = np.fromiter(self._recent, np.uint64, len(self._recent))
            self._sorted = np.sort(np.concatenate((self._sorted, fresh)))
            self._recent.clear()
        return True

    def __len__(self) -> int:
        return len(self._sorted) + len(self._recent)

    def _is_old(self, digest: int) -> bool:
        at = int(np.searchsorted(self._sorted, np.uint64(digest)))
        return at < len(self._sorted) and int(self._sorted[at]) == digest
