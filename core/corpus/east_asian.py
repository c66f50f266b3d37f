"""Which old encoding of Chinese, Japanese or Korean some bytes are in, by the characters that these languages use most."""

import json
import unicodedata
from functools import cache

from core import paths

ENCODINGS = {  # the widest variant of each, and whose characters it should give
    **{"gb18030": "chinese", "cp950": "chinese", "big5hkscs": "chinese", "cp932": "japanese", "euc_jp": "japanese"},
    **{"euc_jis_2004": "japanese", "cp949": "korean"},
}
SEVEN_BIT = {"iso2022_jp": b"\x1b$B", "iso2022_kr": b"\x1b$)C"}  # by what begins a run of characters
FEWEST = 4  # letters by which an encoding is told
COMMON = 0.3  # least share of common ones: texts have 0.45 and more, wrong decodings 0.15 at most
LOST = 0.01  # share of characters that may be damaged


def of(sample: bytes) -> str:
    """The encoding in which these bytes read as one of these languages; "" where they do in none."""
    shares = {name: _share(sample, name, language) for name, language in ENCODINGS.items()}
    best = max(shares, key=shares.get)
    return best if shares[best] >= COMMON else ""


def of_seven_bits(head: bytes) -> str:
    """The encoding of bytes that are ASCII and change to other characters by escapes; "" for others."""
    return next((name for name, sign in SEVEN_BIT.items() if sign in head and head.isascii()), "")


def _share(sample: bytes, encoding: str, language: str) -> float:
    """The share of a language's common characters among the letters that these bytes give; 0 where they give none."""
    text = sample.decode(encoding, errors="replace")
    beyond = [char for char in text if not char.isascii()]
    letters = [char for char in beyond if unicodedata.category(char) in ("Lo", "Lm", "Lu", "Ll", "Co", "Cn")]
    if len(letters) < FEWEST or text.count("\ufffd") > 1 + LOST * len(beyond):
        return 0.0
    known = _common(language)
    return sum(char in known for char in letters) / len(letters)


@cache
def ranks(language: str) -> dict[str, int]:
    """The commonest characters of a language with their ranks, from 0 on."""
    letters = json.loads((paths.assets() / "letters-east-asia.json").read_text(encoding="utf-8"))[language]
    return {letter: rank for rank, letter in enumerate(letters)}


@cache
def _common(language: str) -> frozenset[str]:
    syllables = (*range(0x3041, 0x3097), *range(0x30A1, 0x30FB), 0x30FC) if language == "japanese" else ()
    return frozenset((*ranks(language), *map(chr, syllables)))
