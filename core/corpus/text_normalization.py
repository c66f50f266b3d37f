"""Texts without what hides a copy: case, ё, width, punctuation, white space."""

import re
import sys
import unicodedata
from functools import cache

import numpy as np

SPACE, GONE = 32, 0
IDEOGRAPHS = 0x20000, 0x40000  # beyond them there are no letters
_UNSEEN = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"


def one(text: str) -> str:
    """One text so."""
    return many([text])[0]


def many(texts: list[str]) -> list[str]:
    """The texts in small letters, words apart by one space; all at once, which is several times as fast."""
    texts = [unicodedata.normalize("NFKC", text) for text in texts]
    joined = "\n".join(text.replace("\n", " ") for text in texts).encode("utf-32-le", "surrogatepass")
    given = np.frombuffer(joined, np.uint32)
    codes = _table()[given]
    ends = given == 10
    codes[ends] = 10
    codes = codes[codes != GONE] if (codes == GONE).any() else codes
    apart = (codes == SPACE) | (codes == 10)
    # Of neighbours that set words apart one space stays, and none at the beginning and the end of a text.
    keep = np.ones(len(codes), bool)
    keep[:1] = codes[:1] != SPACE
    keep[1:] = ~((codes[1:] == SPACE) & apart[:-1])
    codes = codes[keep]
    last = np.zeros(len(codes), bool)
    last[:-1] = (codes[:-1] == SPACE) & (codes[1:] == 10)
    last[-1:] = codes[-1:] == SPACE
    return codes[~last].tobytes().decode("utf-32-le", "surrogatepass").split("\n")


@cache
def _table() -> np.ndarray:
    """For each character its small letter, SPACE for what is no letter and no digit, GONE for what is unseen."""
    every = "".join(map(chr, range(IDEOGRAPHS[0]))).replace("\u0130", "i")  # the one that becomes two
    small = re.sub(r"[\W_]+", lambda run: " " * len(run.group()), every.lower()).replace("ё", "е")
    table = np.full(sys.maxunicode + 1, SPACE, np.uint32)
    table[: IDEOGRAPHS[0]] = np.frombuffer(small.encode("utf-32-le", "surrogatepass"), np.uint32)
    table[slice(*IDEOGRAPHS)] = np.arange(*IDEOGRAPHS)
    table[list(map(ord, _UNSEEN))] = GONE
    return table
