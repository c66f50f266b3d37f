"""Amounts as people write them: 100M, 2.5B, 10 млн, «сто миллионов», "1 million 500 thousand"."""

import functools
import json
import re

from core import paths


@functools.cache
def _words() -> dict:
    return json.loads((paths.assets() / "amounts.json").read_text(encoding="utf-8"))


def read(text: str) -> float | None:
    """The amount that a text means in figures or in words; None if it means none."""
    plain = re.sub(r"(?<=\d)[\s_\u00a0\u202f](?=\d{3}(?!\d))", "", text.strip().lower().replace("ё", "е"))
    plain = re.sub(r"(?<![\d.,])([+-]?\d{1,3})((?:,\d{3})+)(?![\d,])", lambda m: m[0].replace(",", ""), plain)
    plain = re.sub(r"(?<![\d.,])\d{1,3}(?:\.\d{3}){2,}(?![\d.])", lambda m: m[0].replace(".", ""), plain)
    plain = re.sub(r"(\d+(?:[.,]\d+)?)[eе]\+?(1[0-5]|\d)(?!\w)", _power, plain.replace("½", "0.5"))
    plain = re.sub(r"(?<!\d)(1)0\s*(?:\^|\*\*)\s*(1[0-5]|\d)(?!\w)", _power, plain)
    plain = re.sub(r"(?<=\d)(\s*[kmbкмбв])(?=to?k)", r"\1 ", re.sub(r"(?<=\d)(\s*)(?:kk|кк)\b", r"\1m", plain))
    parts = re.findall(r"[+-]?\d+(?:[.,]\d+)?|[^\W\d_]+|[^\s\w]|_", plain)
    total, number = 0.0, None
    for part in parts:
        if part in _words()["left_out"] or (part in "-." and total + (number or 0)):
            continue
        if re.match(r"[+-]?\d", part):
            if number is not None:
                return None
            number = float(part.replace(",", "."))
        elif part == "hundred" and number:
            number *= 100
        elif part in _words()["numbers"]:
            number = (number or 0) + _words()["numbers"][part]
        elif (unit := _unit(part, number is not None)) is not None:
            total, number = (
                (total * unit if number is None and total else total + (1 if number is None else number) * unit),
                None,
            )
        else:
            return None
    return total + (number or 0) if parts else None


def _power(found: re.Match) -> str:
    """1e8 and 10^8 written out."""
    return f"{float(found[1].replace(',', '.')) * 10 ** int(found[2]):.0f}"


def _unit(word: str, has_number: bool) -> float | None:
    """What a word multiplies by: a letter behind a number, or the word; «полмиллиона» is half of one."""
    if len(word) == 1:
        return _words()["letters"].get(word) if has_number else None
    half, rest = (0.5, word[3:]) if word.startswith("пол") and not word.startswith("полт") else (1, word)
    return next((half * value for start, value in _words()["units"].items() if rest.startswith(start)), None)
