"""Texts without what hides a copy: case, ё, width, punctuation, white space."""

import re
import unicodedata

_HIDDEN = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff")) | {
    0x130: "i"
}  # İ becomes two characters else
_ANY_HIDDEN = re.compile("[" + "".join(map(chr, _HIDDEN)) + "]")
_APART = re.compile(r"[\W_]+")


def one(text: str) -> str:
    """A text in small letters, its words apart by one space."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
        # A translation takes twenty times as long as a search, and hardly any text has these.
        text = text.translate(_HIDDEN) if _ANY_HIDDEN.search(text) else text
    return _APART.sub(" ", text.lower()).replace("ё", "е").strip()


def many(texts: list[str]) -> list[str]:
    """Some texts so."""
    return list(map(one, texts))
