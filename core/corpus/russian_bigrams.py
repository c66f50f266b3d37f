"""How much a text looks like Russian: the mean cost of its letter bigrams."""

import json
import re
from functools import cache

from core import paths

ODD = 9.0  # nats for what no Russian text holds: a symbol inside a word, a Latin letter with an accent
OTHER_CYRILLIC = 6.0  # nats for a letter of another Cyrillic alphabet
UNSEEN = 7.5  # nats for a pair of letters that the table lacks
CASE_FLIP = 5.0  # nats more for a capital right after a small letter
TYPOGRAPHY = 3.0
USUAL = frozenset("«»—–…„“”’‘№°§\u00a0\u202f•·→←×÷±≈≠≤≥₽€£©®™✓")
SYMBOLS = frozenset("«€£₽§№©®±×÷≈≠≤≥√°¶¬")  # that never follow a letter
RUSSIAN = frozenset("абвгдеёжзийклмнопрстуфхцчшщъыьэюя")
CYRILLIC = range(0x400, 0x530)
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")
_CYRILLIC_LETTER = re.compile("[\u0400-\u0481\u048a-\u052f]")


@cache
def _table() -> dict[str, float]:
    data = json.loads((paths.assets() / "letters-ru.json").read_text(encoding="utf-8"))
    letters = data["letters"]
    return {
        first + second: (ord(mark) - 48) / 10
        for first, row in zip(letters, data["cost"], strict=True)
        for second, mark in zip(letters, row, strict=True)
    }


def cost(text: str) -> float:
    """Nats a character over the characters beyond ASCII: 2.3 to 3.6 for Russian, above 5 for a wrong decoding."""
    table, total, count, before = _table(), 0.0, 0, " "
    for char in text:
        if char.isascii():
            before = " "
            continue
        count += 1
        small = char.lower()
        if small in RUSSIAN:
            total += table.get(before.lower() + small, UNSEEN)
            if char != small and before != " " and before == before.lower():
                total += CASE_FLIP
            before = char
            continue
        in_word, before = before != " ", " "
        if in_word and char in SYMBOLS:  # "д€д€" is "дядя" in another encoding
            total += ODD
        elif char in USUAL or ord(char) > 0x1F000 or 0x2600 <= ord(char) < 0x2800 or char == "\ufe0f":
            total += TYPOGRAPHY
        elif ord(char) in CYRILLIC and char.isalpha():
            total += OTHER_CYRILLIC
        else:
            total += ODD
    return total / count if count else 0.0


def cyrillic_share(text: str) -> float:
    """The share of Cyrillic letters among the letters beyond ASCII."""
    beyond = "".join(_BEYOND_ASCII.findall(text))
    cyrillic = len(_CYRILLIC_LETTER.findall(beyond))
    # Only what is neither ASCII nor Cyrillic is asked one by one.
    others = sum(map(str.isalpha, _CYRILLIC_LETTER.sub("", beyond)))
    return cyrillic / (cyrillic + others) if cyrillic else 0.0
