"""X-ray gauges of a corpus: does it say many things, or one thing in many words? Each with a light.

Limits and formulas: distinct-n is unique over total n-grams; the compression ratio is raw over zstd-19 bytes of all
texts (Shaib et al. 2024, arXiv:2403.00553); Vendi is exp of the entropy of the eigenvalues of the similarity matrix
over n (Friedman and Dieng 2022, arXiv:2210.02410), here of character 3-grams; self-BLEU is Zhu et al. 2018,
arXiv:1802.01886. All depend on the number and the length of the texts: hence the fixed sample, and of each text its
middle WINDOW words. Two natural texts of 200 words nearly always have some four words in common.
"""

import json
import math
import re
import zlib
from collections import Counter
from functools import cache

import numpy as np
import zstandard

from core import paths

SAMPLE = 2000  # texts
VENDI_SAMPLE, BLEU_SAMPLE = 1000, 150
FEWEST = 50  # below that no light is lit
GRAM_COLUMNS = 4096  # of the table of hashed 3-grams
TEXT_CHARACTERS = 4000  # of one text
WINDOW = 24  # words of one text
# name -> (green up to, red from) where more is worse, or (green from, red below) where less is worse.
LIMITS = {
    "compression": (1.25, 2.0),  # times that of natural text: Russian letters take two bytes and shrink more
    "distinct_3": (0.5, 0.3),
    "shared_4grams": (0.3, 0.5),
    "openings": (0.7, 0.5),
    "commonest_opening": (0.03, 0.05),
    "commonest_5gram": (0.02, 0.03),
    "vendi": (0.25, 0.1),
    "self_bleu": (0.2, 0.5),
}
LESS_IS_WORSE = frozenset({"distinct_3", "openings", "vendi"})
_WORD = re.compile(r"\w+")
_CYRILLIC, _LATIN = re.compile("[\u0400-\u04ff]"), re.compile("[a-zA-Z]")


def measure(texts: list[str]) -> dict:
    """{"texts", "lang", "gauges": {name: {"value", "light", "example"}}, "verdict"} of SAMPLE texts, evenly spaced."""
    texts = [text[:TEXT_CHARACTERS].split() for text in spaced(texts, SAMPLE) if text.strip()]
    ends = [(_words(text[:WINDOW]), _words(text[WINDOW:][-WINDOW:])) for text in texts]
    texts = [" ".join(text[max(0, len(text) - WINDOW) // 2 :][:WINDOW]) for text in texts]
    words = [_WORD.findall(text.lower()) for text in texts]
    values, examples, lang = {}, {}, language(texts)
    if texts:
        values["compression"] = compression(texts)
        values["distinct_3"] = distinct(words, 3)
        values["shared_4grams"] = shared(words, 4)
        first = [head or tail for head, tail in ends]
        values["openings"], values["commonest_opening"], examples["commonest_opening"] = openings(first)
        values["commonest_5gram"], examples["commonest_5gram"] = commonest(ends, 5)
        values["vendi"] = vendi(spaced(texts, VENDI_SAMPLE))
        values["self_bleu"] = self_bleu(spaced(words, BLEU_SAMPLE))
    enough = len(texts) >= FEWEST
    shown = {
        name: {
            "value": round(value, 4),
            "light": light(name, value, lang) if enough else "none",
            "example": examples.get(name, ""),
        }
        for name, value in values.items()
    }
    lights = [gauge["light"] for gauge in shown.values()]
    verdict = "none" if not enough else "red" if "red" in lights else "amber" if "amber" in lights else "green"
    return {"texts": len(texts), "lang": lang, "gauges": shown, "verdict": verdict}


@cache
def natural(lang: str = "ru") -> dict[str, float]:
    """The same gauges of natural text, Russian (ru) or English (en): aphorisms and jokes by many hands."""
    return json.loads((paths.assets() / "natural-gauges.json").read_text(encoding="utf-8"))[lang]["gauges"]


def language(texts: list[str]) -> str:
    """The natural text to hold these beside: ru for Cyrillic, else en."""
    text = "".join(texts)
    return "ru" if len(_CYRILLIC.findall(text)) >= len(_LATIN.findall(text)) else "en"


def light(name: str, value: float, lang: str = "ru") -> str:
    """green, amber or red by LIMITS."""
    good, bad = LIMITS[name]
    if name == "compression":
        value /= natural(lang)[name]
    if name in LESS_IS_WORSE:
        return "green" if value >= good else "red" if value < bad else "amber"
    return "green" if value <= good else "red" if value > bad else "amber"


def spaced(items: list, count: int) -> list:
    """At most so many items, evenly spaced over all."""
    return items if len(items) <= count else [items[at * len(items) // count] for at in range(count)]


def compression(texts: list[str]) -> float:
    data = "\n".join(texts).encode("utf-8", "replace")
    return len(data) / len(zstandard.ZstdCompressor(level=19).compress(data))


def _words(text: list[str]) -> list[str]:
    return _WORD.findall(" ".join(text).lower())


def _grams(words: list[str], size: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[at:] for at in range(size)), strict=False))


def distinct(words: list[list[str]], size: int) -> float:
    grams = [gram for of_text in words for gram in _grams(of_text, size)]
    return len(set(grams)) / len(grams) if grams else 1.0


def shared(words: list[list[str]], size: int) -> float:
    """The share of texts that have an n-gram in common with another text."""
    sets = [set(_grams(of_text, size)) for of_text in words]
    count = Counter(gram for grams in sets for gram in grams)
    return sum(any(count[gram] > 1 for gram in grams) for grams in sets) / len(sets)


def openings(words: list[list[str]]) -> tuple[float, float, str]:
    """How many different first three words there are for each text, the share of the commonest, and which it is."""
    first = Counter(" ".join(of_text[:3]) for of_text in words)
    opening, count = first.most_common(1)[0]
    return len(first) / len(words), (count / len(words) if count > 1 else 0.0), opening


def commonest(ends: list[tuple[list[str], list[str]]], size: int) -> tuple[float, str]:
    """The share of texts with the n-gram that most texts have in their first or last words, and which it is."""
    count = Counter(gram for head, tail in ends for gram in {*_grams(head, size), *_grams(tail, size)})
    if not count or max(count.values()) < 2:
        return 0.0, ""
    gram, times = count.most_common(1)[0]
    return times / len(ends), " ".join(gram)


def vendi(texts: list[str]) -> float:
    """Vendi score over n: 1 when all texts differ, 1/n when all are one."""
    counts = np.zeros((len(texts), GRAM_COLUMNS), np.float32)
    for row, text in enumerate(texts):
        plain = " ".join(text.lower().split())
        for gram, times in Counter(plain[at : at + 3] for at in range(max(1, len(plain) - 2))).items():
            counts[row, zlib.crc32(gram.encode("utf-8", "replace")) % GRAM_COLUMNS] += times
    weight = np.log((1 + len(texts)) / (1 + (counts > 0).sum(axis=0))) + 1
    vectors = counts * weight
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    values = np.linalg.eigvalsh((vectors @ vectors.T).astype(np.float64) / len(texts))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()) / len(texts))


def self_bleu(words: list[list[str]]) -> float:
    """The mean BLEU-4 of each text against all others."""
    words = [of_text for of_text in words if len(of_text) >= 4]
    if len(words) < 2:
        return 0.0
    total = np.zeros(len(words))
    for size in range(1, 5):
        counts = [Counter(_grams(of_text, size)) for of_text in words]
        most: dict[tuple, list[int]] = {}  # the two highest counts of an n-gram: what the others have of it
        for count in counts:
            for gram, times in count.items():
                most[gram] = sorted([*most.get(gram, [0, 0]), times], reverse=True)[:2]
        for at, count in enumerate(counts):
            met = sum(
                min(times, most[gram][1] if times == most[gram][0] else most[gram][0]) for gram, times in count.items()
            )
            total[at] += math.log(max(met, 0.1) / sum(count.values()))
    return float(np.exp(total / 4).mean())
