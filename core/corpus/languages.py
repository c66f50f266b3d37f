"""The language of a text: by its script and letters first, and by py3langid where these leave several."""

import re
from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

CJK = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]")
LEAST = 20  # letters of a text whose language is guessed: of a word or two nobody can tell
SURE = 0.9
LATIN_CODES = "cs da de en es et fi fr hr hu id it lt lv nb nl nn no pl pt ro sk sl sv tr vi"
CYRILLIC_CODES = "be bg kk ky mk mn ru sr uk"
OTHER_CODES = "ar el fa he hi hy ka th"
_RUSSIAN_ONLY = re.compile("[ыэёЫЭЁ]")  # letters of Russian that its neighbours in doubt lack
_NOT_RUSSIAN = re.compile("[\u0400\u0402-\u040f\u0450\u0452-\u04ff]")


def of(text: str) -> str:
    """A code such as ru, en or de; latin or other where only the script is sure; mixed, or none without letters."""
    text = re.sub(r"<[^<>]{1,40}>", " ", text[:20_000])
    cyrillic = len(re.findall("[\u0400-\u04ff]", text))
    latin = len(re.findall("[a-zA-Z\u00c0-\u024f]", text))
    cjk = len(CJK.findall(text))
    letters = sum(map(str.isalpha, text)) if not text.isascii() else latin
    if not letters:
        return "none"
    if cyrillic >= 0.6 * letters:
        return _cyrillic(text, cyrillic)
    if cjk >= 0.5 * letters:
        return _asian(text)
    if latin >= 0.6 * letters:
        words = re.findall(r"[a-z']+", text.lower())
        common = sum(word in ENGLISH for word in words)
        return "en" if common >= max(1, len(words) / 12) else _guess(text, LATIN_CODES, latin) or "latin"
    if cyrillic + latin + cjk > 0.6 * letters:
        return "mixed"
    return _guess(text, OTHER_CODES, letters) or "other"


def _cyrillic(text: str, letters: int) -> str:
    # Russian has its own three letters in nearly every sentence: without them, or with foreign ones, it may be another.
    doubtful = _NOT_RUSSIAN.search(text) or (letters >= 3 * LEAST and not _RUSSIAN_ONLY.search(text))
    if doubtful and (code := _guess(text, CYRILLIC_CODES, letters)):
        return code
    if re.search("[їєґЇЄҐ]|(?:^|[^а-яё])і(?:[^а-яё]|$)", text):
        return "uk"
    return "be" if re.search("[ўЎ]", text) else "ru"


def _asian(text: str) -> str:
    if re.search("[\u3040-\u30ff]", text):
        return "ja"
    return "ko" if re.search("[\uac00-\ud7af]", text) else "zh"


def _guess(text: str, wanted: str, letters: int) -> str:
    """The language if it is one of these and hardly another; "" else."""
    if letters < LEAST:
        return ""
    code, probability = _identifier().classify(text[:2000])
    return code if code in wanted.split() and probability >= SURE else ""


@cache
def _identifier():
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


ENGLISH_WORDS = (
    "the of and to a in is it you that he was for on are with as i his they be at one have this from or had by not "
    "but what all were we when your can said there an which do how if will"
)
ENGLISH = frozenset(ENGLISH_WORDS.split())
