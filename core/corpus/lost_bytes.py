"""Text in an old encoding of two bytes a character, decoded around bytes that were lost.

Behind a lost byte the bytes pair up wrongly, and such pairs are characters too. So the bytes around it are divided anew
into characters and strays, each with its cost in nats; a character that stands in not nearly all likely divisions
becomes U+FFFD.
"""

import math
import re
import unicodedata
from collections import Counter
from functools import cache
from typing import NamedTuple

from core.corpus import east_asian

STRAY, STRAY_AGAIN = 14.0, 10.0  # nats for a byte that is left of a character, and in a file where one is known
# The least share of the likely divisions in which a character, or an ASCII letter, must stand.
CERTAIN, LETTER_CERTAIN = 0.999, 0.5
# Nats for a character: for the commonest ones by their rank, for others by what they are.
FIRST, BY_RANK = 3.2, 0.75
KANA, MARK, TAUGHT, ALPHABET, SYMBOL, SELDOM, NONE = 5.0, 5.0, 9.5, 8.5, 10.0, 13.0, 16.0
QUOTED, QUOTES = 6.0, re.compile("[“‘「『（《【][!-~][”’」』）》】]")  # a letter that stands for itself
OFTEN = 0.002  # share of the characters of a file that may stand alone
# Letters and katakana of one byte come in runs: nats for one, for the beginning of a run, and for a run of one alone.
LETTER_COST, HALF_COST, BEGINS, ALONE, HALF_ALONE = 3.0, 5.0, 3.0, 4.0, 8.0
LATEST = 11.0  # nats for the beginning of letters in a file that has hardly any among its characters
LONGEST, MOST_KNOWN = 5, 100_000  # bytes of a character or a quoted letter, and how many of them are kept in mind
MOST_BYTES = 16_384  # that are divided together
MARKS = frozenset("，。、；：？！“”‘’（）《》〈〉「」『』【】—…·・ー～％\u3000")
# Lead bytes of the characters that are taught at school; the others of each standard are for names and old books.
TAUGHT_IN = {
    "chinese": (("gb2312", range(0xB0, 0xD8)), ("big5", range(0xA4, 0xC7))),
    "japanese": (("euc_jp", range(0xB0, 0xD0)),),
    "korean": (("euc_kr", range(0xB0, 0xC9)),),
}
# Encodings of which hardly a character has a low second byte, as a rule; and the nats more for one that has.
HIGH_SECOND, FEW_LOW, RARER = ("gb18030", "cp949"), 0.01, 4.0
_PIECE = re.compile(rb"[0-9\x40-\xff]*[\x80-\xff][0-9\x40-\xff]*")  # others are no part of a character
_AMONG = re.compile("(?<=[^\x00-\x7f])[@-~]+(?=[^\x00-\x7f])")
_LOST = re.compile("(?<![!-~])[@-~]?\ufffd+(?:[@-~](?![!-~])|\ufffd)*")  # and a letter alone beside it
_PIECE_HIGH = re.compile(
    rb"(?:(?!\\[\"\\nrtu])[0-9\x40-\xff])*[\x80-\xff](?:(?!\\[\"\\nrtu])[0-9\x40-\xff])*"
)  # nor are escapes
# Where wrong pairs end without an error: at a letter or a katakana alone, or a character with a low second byte.
_ALONE = re.compile(
    '(?<![ !#-;=?-~“‘「『（《【])[@-\\[\\]-~](?=[^\x00-\x7f])|(?<=[^\x00-\x7f])[@-\\[\\]-~](?=["<]|$)|'
    "(?<![\uff61-\uff9f])[\uff61-\uff9f](?![\uff61-\uff9f])"
)
_LOW_SECOND = re.compile(rb"[\x81-\xfe]([\x40-\xa0])|[\x80-\xff]{2}")
_HIGH = re.compile(rb"(?:[\x00-\x7f]++|(?:[\xa1-\xfe][\xa1-\xfe])++|[\x81-\xfe][0-9][\x81-\xfe][0-9])*+")
# Letters of other alphabets, one alone between Chinese characters: of two bytes that are lost in a row of them.
_AMONG_HAN = re.compile("[一-鿿][Α-я\u01cd-\u01dc\u3041-\u3129\uff21-\uff5a\ue000-\uf8ff][一-鿿]")


class Way(NamedTuple):
    """How some bytes may go on: the place behind it, its nats, the kind of its text, and the text."""

    end: int
    cost: float
    kind: int
    text: str


OTHER, LETTER, LETTERS, HALF, HALVES = range(STATES := 5)  # what was last: of a run the first sign, or a later one
LEAVING = (0.0, ALONE, 0.0, HALF_ALONE, 0.0)  # nats to go on to another kind, or to end


def _step(state: int, kind: int, begins: float) -> tuple[float, int]:
    """The nats more for a sign of a kind behind a state, and the state then."""
    first, later = (LETTER, LETTERS) if kind in (LETTER, LETTERS) else (HALF, HALVES)
    if kind == OTHER:
        return LEAVING[state], OTHER
    if kind == LETTERS or state in (first, later):
        return (0.0 if state in (first, later) else LEAVING[state]), later
    return LEAVING[state] + (begins if kind == LETTER else BEGINS), first


class Decoder:
    """Decodes the lines of one file; `head` is its beginning, by which is known what stands alone in it often."""

    def __init__(self, encoding: str, head: bytes):
        self.encoding, self.costs = encoding, _Costs(encoding)
        text = head.decode(encoding, errors="replace")
        among = max(len(_AMONG.findall(text)) - 1, 0.05) / (1 + sum(not char.isascii() for char in text))
        begins = min(max(-math.log(among), BEGINS), LATEST)
        kinds = (OTHER, LETTER, LETTERS, HALF)
        self.steps = {(state, kind): _step(state, kind, begins) for state in range(STATES) for kind in kinds}
        alone = Counter(_ALONE.findall(text))
        self.stray = STRAY_AGAIN if "\ufffd" in text[:-2] else STRAY
        self.usual = {sign for sign, count in alone.items() if count >= max(2, OFTEN * len(text))}
        seconds = _LOW_SECOND.findall(head)
        self.high = encoding.startswith("euc") or (
            encoding in HIGH_SECOND and sum(map(bool, seconds)) <= FEW_LOW * len(seconds)
        )

    def __call__(self, raw: bytes) -> str:
        """The text of a line, with U+FFFD for what was lost."""
        try:
            text = raw.decode(self.encoding)
        except UnicodeDecodeError:
            text = ""
        if text and (self._is_sound(raw, text) if self.high else self.usual.issuperset(_ALONE.findall(text))):
            return text
        pieces = _PIECE_HIGH if self.high else _PIECE
        return pieces.sub(lambda found: self._parts(found.group()).encode(), raw).decode("utf-8", errors="replace")

    def _parts(self, raw: bytes) -> str:
        """The text of some bytes, of very many in parts: a kilobyte takes a megabyte."""
        parts = (raw[at : at + MOST_BYTES] for at in range(0, len(raw), MOST_BYTES))
        return "".join(map(self._divided, parts))

    def _is_sound(self, raw: bytes, text: str) -> bool:
        """Whether a line has no sign of a wrong division; of an odd run of bytes EUC tells itself."""
        return self.encoding.startswith("euc") or (_HIGH.fullmatch(raw) is not None and not _AMONG_HAN.search(text))

    def _divided(self, raw: bytes) -> str:
        """The text of some bytes in their likeliest division."""
        ways = [self._ways(raw, at) for at in range(len(raw))]
        steps = self.steps
        before = [[math.inf] * STATES for _ in range(len(raw) + 1)]  # nats of all divisions up to a byte together
        best, step = [row.copy() for row in before], [[(0, 0, "")] * STATES for _ in before]
        before[0][OTHER] = best[0][OTHER] = 0.0
        for at, found in enumerate(ways):
            for state in [state for state in range(STATES) if before[at][state] < math.inf]:
                for end, cost, kind, text in found:
                    more, then = steps[state, kind]
                    before[end][then] = _either(before[end][then], before[at][state] + cost + more)
                    if (total := best[at][state] + cost + more) < best[end][then]:
                        best[end][then], step[end][then] = total, (at, state, text)
        after = _after(ways, before, steps)
        texts, end = [], len(raw)
        state = min(range(STATES), key=lambda state: best[end][state] + LEAVING[state])
        while end:
            at, earlier, text = step[end][state]
            share = self._share(ways[at], before[at], after, end, text) if text != "\ufffd" else 0.0
            texts.append(text if share > (LETTER_CERTAIN if text.isascii() else CERTAIN) else "\ufffd")
            end, state = at, earlier
        return _LOST.sub("\ufffd", "".join(reversed(texts)))

    def _share(
        self, ways: list[Way], before: list[float], after: list[tuple[float, ...]], end: int, text: str
    ) -> float:
        """The share of all divisions in which a text stands at its place."""
        cost, kind = next((way.cost, way.kind) for way in ways if (way.end, way.text) == (end, text))
        total, share = after[0][OTHER], 0.0
        for state in range(STATES):
            more, then = self.steps[state, kind]
            share += math.exp(total - before[state] - cost - more - after[end][then])
        return share

    def _ways(self, raw: bytes, at: int) -> list[Way]:
        """What may begin at a byte: characters, and a stray, which is U+FFFD."""
        stray = Way(at + 1, self.stray, OTHER, "\ufffd")
        if raw[at] < 0x80:
            usual = raw[at] < 0x40 or raw[at] == 0x5C or chr(raw[at]) in self.usual  # a backslash escapes what follows
            char = Way(at + 1, LETTER_COST, LETTERS if usual else LETTER, chr(raw[at]))
            return [char] if self.high or raw[at] < 0x40 else [char, stray]
        found = [stray]
        for size in range(1, min(LONGEST, len(raw) - at) + 1):
            cost, text = self.costs[raw[at : at + size]]
            half = "\uff61" <= text <= "\uff9f" and size == 1 and text not in self.usual
            if text:
                cost += RARER if self.high and size == 2 and raw[at + 1] < 0xA1 else 0.0
                found.append(Way(at + size, cost, HALF if half else OTHER, text))
        return found


def _after(ways: list[list[Way]], before: list[list[float]], steps: dict) -> list[tuple[float, ...]]:
    """For each byte and state that is reached, the nats of all divisions from there on together."""
    after = [(math.inf,) * STATES] * len(ways) + [LEAVING]
    for at in reversed(range(len(ways))):
        row = [math.inf] * STATES
        for state in [state for state in range(STATES) if before[at][state] < math.inf]:
            for end, cost, kind, _ in ways[at]:
                more, then = steps[state, kind]
                row[state] = _either(row[state], cost + more + after[end][then])
        after[at] = tuple(row)
    return after


class _Costs(dict):
    """(nats, text) of the bytes of a character, or of a letter in quotes; no text for others."""

    def __init__(self, encoding: str):
        self.encoding = encoding
        self.language = east_asian.ENCODINGS[encoding]

    def __missing__(self, piece: bytes) -> tuple[float, str]:
        try:
            text = piece.decode(self.encoding)
        except UnicodeDecodeError:
            text = ""
        if len(self) > MOST_KNOWN:
            self.clear()
        self[piece] = found = self._of(piece, text)
        return found

    def _of(self, piece: bytes, text: str) -> tuple[float, str]:
        if len(text) == 1 and "\uff61" <= text <= "\uff9f" and len(piece) == 1:
            return HALF_COST, text
        if len(text) == 3 and QUOTES.fullmatch(text):
            return QUOTED, text
        return (_cost(text, self.language), text) if len(text) == 1 else (math.inf, "")


@cache
def _cost(char: str, language: str) -> float:
    """The nats of a character in texts of a language."""
    if char in MARKS:
        return MARK
    if (rank := east_asian.ranks(language).get(char)) is not None:
        return FIRST + BY_RANK * math.log(1 + rank)
    if "\u3040" <= char <= "\u30ff":
        return KANA if language == "japanese" else SYMBOL
    if char in _taught(language):
        return TAUGHT
    category = unicodedata.category(char)
    if category == "Lo" or "ａ" <= char <= "ｚ":
        return SELDOM
    return ALPHABET if category in ("Lu", "Ll", "Lm") else NONE if category[0] == "C" else SYMBOL


@cache
def _taught(language: str) -> frozenset[str]:
    seconds = [*range(0x40, 0x7F), *range(0xA1, 0xFF)]
    pairs = [
        (bytes([lead, second]), name) for name, leads in TAUGHT_IN[language] for lead in leads for second in seconds
    ]
    return frozenset(pair.decode(name, errors="ignore") for pair, name in pairs)


def _either(one: float, other: float) -> float:
    """Nats of one or the other of two."""
    low, high = (one, other) if one < other else (other, one)
    return low - math.log1p(math.exp(low - high)) if high < low + 30 else low
