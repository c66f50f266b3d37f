"""Capital letters and full stops of what a grammar wrote, put right after the pieces are joined."""

import re

_POINT_IN_QUOTE, _SPOKEN = re.compile(r"\.»\.?"), re.compile(r"\. — (?=[а-яё])")
_WITH = re.compile(r"\b([Сс]) (?=[сзшжщ][бвгджзклмнпрстфхцчшщ]|мно)|\b([Вв]) (?=[вф][бвгджзклмнпрстфхцчшщ])")
_DOUBLE = re.compile(r",(?=\s*[.,:;!?)])")
_START = re.compile(r"(^|[.!?]\s+|\n\s*)([«“\"(]?)([a-zа-яё])")


def sentence_case(text: str) -> str:
    """Capital letters where sentences and lines begin."""
    return _START.sub(lambda found: found[1] + found[2] + found[3].upper(), text)


def russian(text: str) -> str:
    """Points as Russian has them: none doubled, a comma before the words of who spoke, and "со снегом", "во втором"."""
    text = _DOUBLE.sub("", text)
    text = _WITH.sub(lambda found: f"{found[1] or found[2]}о ", text)
    if ".»" in text:
        text = _POINT_IN_QUOTE.sub("».", text)
    return _SPOKEN.sub(", — ", text) if ". — " in text else text
