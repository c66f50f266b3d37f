"""What many rows begin or end with, a preamble, examples or a signature: by it no row is a copy of another."""

from dataclasses import dataclass
from itertools import takewhile

FEWEST, SHARE = 20, 10  # rows that share a frame: at least so many, and one in so many of those that are looked at
LEAST = 60  # characters of a frame
REST, OWN = 20, 0.04  # characters that a row has beside it at least, and their least share of the row


@dataclass(frozen=True)
class Frames:
    """The beginnings and the ends that many of some normalised texts share, the longest first."""

    starts: tuple[str, ...]
    ends: tuple[str, ...]

    @classmethod
    def of(cls, texts: list[str]) -> "Frames":
        different = sorted(set(texts))  # copies share everything
        return cls(_shared(different), tuple(end[::-1] for end in _shared(sorted(text[::-1] for text in different))))

    def without(self, text: str) -> str:
        """A text without its frame; as it is where hardly anything else would be left."""
        rest = text
        if start := next((start for start in self.starts if rest.startswith(start)), ""):
            rest = rest[len(start) :]
        if end := next((end for end in self.ends if rest.endswith(end)), ""):
            rest = rest[: -len(end)]
        return rest if len(rest) >= max(REST, OWN * len(text)) else text


def _shared(texts: list[str]) -> tuple[str, ...]:
    """The beginnings that many of these sorted texts share, up to the end of a word."""
    count = max(FEWEST, len(texts) // SHARE)
    pairs = zip(texts, texts[count - 1 :], strict=False)  # sorted: what these two share, all between them share
    found = {whole for one, other in pairs if len(whole := _common(one, other)) >= LEAST}
    return tuple(sorted(found, key=len, reverse=True))


def _common(one: str, other: str) -> str:
    """The words with which both texts begin."""
    length = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    return one[: one.rfind(" ", 0, length) + 1]
