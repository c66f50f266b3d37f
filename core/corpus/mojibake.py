"""Text that was decoded wrongly and saved again, repaired line by line; good text in any language stays as it is."""

import codecs
import re
from collections import Counter
from functools import cache

import ftfy
from ftfy.badness import is_bad

from core.corpus import russian_bigrams

# (what the bytes were taken for, what they are): the commonest first.
WRONG_DECODINGS = (
    ("cp1251", "utf-8"),
    ("mac_roman", "utf-8"),
    ("cp1252", "utf-8"),
    ("latin-1", "utf-8"),
    ("cp866", "utf-8"),
    ("koi8_r", "utf-8"),
    ("mac_cyrillic", "utf-8"),
    ("cp437", "utf-8"),
    ("cp1252", "cp1251"),
    ("latin-1", "cp1251"),
    ("cp1251", "koi8_r"),
    ("koi8_r", "cp1251"),
    ("cp866", "cp1251"),
    ("cp1251", "cp866"),
    ("cp1252", "koi8_r"),
    ("mac_roman", "cp1251"),
)
_TO_UTF8, _TO_EIGHT_BITS = WRONG_DECODINGS[:8], WRONG_DECODINGS[8:]
GAIN = 0.6  # nats a character that a repair must win
READS_WELL = 4.2  # nats a character that the result may cost
STEPS = 3
SAMPLE = 200  # characters of a long line by which it is judged
SIGNS = "«»…„“”’‘№°§•·→←×÷±≈₽€"  # in good text, beside letters, dashes and spaces
_GOOD = f"А-яЁё—–\u00a0\u202f{SIGNS}"
# A text without either of these is left alone at once: a symbol that Russian text lacks; a capital or a dash right
# before what is neither a small letter nor ASCII. Two searches, because each alone is five times faster than both.
_STRANGE = re.compile(rf"[^\x00-\x7f{_GOOD}]")
_CROWDED = re.compile(r"[А-ЯЁ–—][^\x00-\x7fа-яё\s]")
_EAST_ASIAN = re.compile("[\u3000-\u30ff\u4e00-\u9fff\uac00-\ud7af\uff00-\uff60]")
_FOREIGN = re.compile(f"(?:[\x00-\x7f\u00a0\u00c0-\u017f£©®°™{SIGNS}–—]|{_EAST_ASIAN.pattern})+")
_BEYOND = re.compile(r"[^\x00-\x7f\s]")
_LATIN, _OTHER = "a-zA-Z\u00c0-\u024f", "\u0370-\u052f"
_MIXED = re.compile(f"[{_LATIN}][{_OTHER}]|[{_OTHER}][{_LATIN}]")
# In a good line a quoted word is told from its quotes.
_WORD = re.compile(r"(?<=[«„“])[^\x00-\x7f]{4,}?(?=[»“”])|(?![«„“])[^\x00-\x7f]{4,}")
_RUSSIAN_WORD = re.compile("[А-ЯЁа-яё][а-яё]+|[А-ЯЁ]+")
TELLING = 4  # East Asian letters that are no chance
SPOILT = 1 / 50  # least share of such places among the characters beyond ASCII of a spoilt line


def is_suspect(text: str) -> bool:
    """Quick check whether a text may contain mojibake: false positives are possible, false negatives are not."""
    return not text.isascii() and bool(_STRANGE.search(text) or _CROWDED.search(text))


def is_spoilt(line: str) -> bool:
    """Whether so much of a line looks wrong that it may be spoilt as a whole: a name in capitals is not enough."""
    if not is_suspect(line):
        return False
    places = len(_STRANGE.findall(line)) + len(_CROWDED.findall(line))
    return places >= SPOILT * len(_BEYOND.findall(line))


class Repairer:
    """Repairs the lines of one file, and counts how its text was decoded wrongly."""

    def __init__(self):
        self.counts: Counter = Counter()

    def text(self, text: str) -> tuple[str, int]:
        """The text with its spoilt lines repaired, and how many there were."""
        if not is_suspect(text):
            return text, 0
        lines = text.split("\n")
        fixed = [self.line(line) for line in lines]
        changed = sum(before != after for before, after in zip(lines, fixed, strict=True))
        return ("\n".join(fixed), changed) if changed else (text, 0)

    def line(self, line: str) -> str:
        """The line as it was before it was decoded wrongly; the same object when nothing is wrong with it."""
        if not is_suspect(line):
            return line
        fixed = line
        for _ in range(STEPS):
            better = (self._step(fixed) if is_spoilt(fixed) else None) or _by_ftfy(fixed) or _by_script(fixed)
            if better is None:
                break
            fixed = better
        fixed = _WORD.sub(_word, line) if fixed is line else fixed
        return line if fixed == line or _MIXED.search(fixed) or is_bad(fixed) else fixed

    def _step(self, line: str) -> str | None:
        now = None
        # Text that decodes as UTF-8 at all is hardly chance; between eight-bit encodings anything decodes.
        for pairs, most in ((_TO_UTF8, 99.0), (_TO_EIGHT_BITS, READS_WELL)):
            decoded = [(pair, text) for pair in pairs if (text := _decoded(line, pair)) is not None]
            twice = [(pair, text) for pair, once in decoded if (text := _decoded(once, pair)) is not None]
            decoded = [(pair, text) for pair, text in decoded + twice if _reads_as_one_language(text, pair)]
            if not decoded:
                continue
            now = russian_bigrams.cost(_beginning(line)) if now is None else now
            cost, pair, text = min((russian_bigrams.cost(_beginning(text)), pair, text) for pair, text in decoded)
            if cost < min(now - GAIN, most):
                self.counts[pair] += 1
                return text
        # What has few letters (an emoji, a dash) proves nothing alone: it was decoded as its file was.
        for pair, _ in self.counts.most_common():
            if pair in _TO_UTF8 and (text := _decoded(line, pair)) is not None:
                return text
        return None


def _word(match: re.Match) -> str:
    """Repair a garbled word inside a good line: letters that form valid UTF-8 as bytes are hardly a coincidence."""
    decoded = (_decoded(match.group(), pair) for pair in _TO_UTF8)
    return next((text for text in decoded if text and _RUSSIAN_WORD.fullmatch(text)), match.group())


def remains(text: str) -> bool:
    """Whether a text has characters that were lost, or is still wrongly decoded."""
    return "\ufffd" in text or (is_suspect(text) and is_bad(text))


def _by_ftfy(line: str) -> str | None:
    """The line repaired by ftfy, which handles garbled parts of good text and languages in Latin script."""
    fixed = ftfy.fix_encoding(line) if is_bad(line) else line
    return fixed if len(fixed) < len(line) else None  # as many characters: control characters, which it guesses


def _by_script(line: str) -> str | None:
    """A line without Russian words that is UTF-8 as a whole and then in Latin or East Asian letters."""
    for pair in _TO_UTF8:
        text = _decoded(line, pair)
        for found in (text, text and _decoded(text, pair)):
            if found and _FOREIGN.fullmatch(found) and not 0 < len(_EAST_ASIAN.findall(found)) < TELLING:
                return found
    return None


def _beginning(line: str) -> str:
    """As much of a line as tells how it reads, from its first character beyond ASCII on."""
    first = _BEYOND.search(line)
    return line[first.start() : first.start() + SAMPLE] if first else ""


def _decoded(line: str, pair: tuple[str, str]) -> str | None:
    """The line, decoded as what its bytes are; None where they cannot be that."""
    taken_for, really = pair
    try:
        data = codecs.charmap_encode(line, "strict", _encoder(taken_for))[0]
        fixed = data.decode(really)
    except UnicodeError:
        return None
    return fixed if fixed != line and not re.search(r"[\x80-\x9f]", fixed) else None


def _reads_as_one_language(text: str, pair: tuple[str, str]) -> bool:
    if russian_bigrams.cyrillic_share(text) < 0.8:
        return False
    if pair[1] == "utf-8":
        return True
    # Between two eight-bit encodings anything decodes: no word may mix alphabets, and there must be a few letters.
    if re.search(r"[a-zA-Z][А-яЁё]|[А-яЁё][a-zA-Z]", text):
        return False
    return len(re.findall("[А-яЁё]", text)) >= 6


@cache
def _encoder(name: str):
    """Character to byte; bytes that the encoding leaves undefined stand for the control characters of their number."""
    table = "".join(_char(byte, name) for byte in range(256))
    return codecs.charmap_build(table)


def _char(byte: int, name: str) -> str:
    try:
        return bytes([byte]).decode(name)
    except UnicodeDecodeError:
        return chr(byte)
