"""Which encoding the bytes of a text are in, and its lines one by one."""

import codecs
import re
import unicodedata
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from charset_normalizer import from_bytes

from core.corpus import east_asian, latin_letters, lost_bytes, russian_bigrams
from core.corpus.sources import Source

RUSSIAN = ("cp1251", "koi8-r", "cp866", "mac-cyrillic")
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
WIDE = ("utf-16", "utf-32")
SAMPLE_BYTES = 64 * 1024  # of lines that are not ASCII, to tell the old encodings apart
PROOF = 100_000  # bytes of sound UTF-8 beyond ASCII: no other encoding has that
BLOCK = 4 * 1024 * 1024
LONGEST_LINE = 64 * 1024 * 1024  # bytes; a longer line is set aside
READS_AS_RUSSIAN = 4.2  # nats a character: text in its own encoding costs 2.3 to 3.6
PASSES = 2  # characters of UTF-8 beyond ASCII for each broken place of a file: other encodings reach a seventh of one
SOUND = 4  # such characters for each broken place of a line that is kept
LATIN = ["cp1252", "cp1250", "cp1254", "cp1257"]  # of languages whose letters beyond ASCII stand inside Latin words
NOT_BY_GUESS = ["utf_7", "utf_16", "utf_16_le", "utf_16_be", "utf_32", "utf_32_le", "utf_32_be"]  # found otherwise
SURE, GAIN = 10, 0.8  # letters of a line that is in another encoding than its file, and nats that it wins by that
PROVES = 6  # letters by which a line tells its old encoding
FEW = 40  # bytes of a line for each broken place, where it has hardly a character beyond ASCII
# ASCII with a character of UTF-8 that lacks one of its bytes: two in a row of those that old encodings use seldom.
_TORN = re.compile(rb"[\x00-\x7f]*(?:[\xe0-\xef][\x80-\xbf]|[\x80-\xbf]{2})[\x00-\x7f]*")
_BEYOND_ASCII = bytes(range(128, 256))
# Cyrillic or Latin letters of UTF-16 that are read one byte too late: U+0430 and U+0043 as U+3004 and U+4300.
_SHIFTED = re.compile("[" + "".join(chr(high << 8 | low) for high in range(5, 216) for low in (0, 4)) + "]{3}")
_RUN = re.compile(rb"[\x80-\xff]+")
# A run is tried from its first byte alone: from each of them, a long run without a letter takes minutes.
_IN_LATIN = re.compile(rb"[A-Za-z][\x80-\xff]++|(?<![\x80-\xff])[\x80-\xff]++[A-Za-z]")
_ODD = re.compile("[а-яё][А-ЯЁ]|[^\x00-\x7fА-яЁё—–«»…„“”№’\u00a0]")  # hardly in a Russian line, in a wrong one always
_UTF8_OF_THREE = re.compile(rb"(?:[\x00-\x7f]*+[\xe2-\xef][\x80-\xbf][\x80-\xbf]){2,}+[\x00-\x7f]*+")
_OLD_WORD = re.compile(rb"[\x80-\xff]{3}")


class Line(NamedTuple):
    """A line without its end, or the reason why it cannot be had."""

    number: int
    text: str
    problem: str = ""
    repair: str = ""


def detect(source: Source) -> str:
    """The name of the encoding: a BOM says it, UTF-8 proves itself over the whole file, the others are guessed."""
    with source.open() as stream:
        head = stream.read(4096)
    for mark, name in BOMS:
        if head.startswith(mark):
            return name
    if name := _utf16_without_bom(head) or east_asian.of_seven_bits(head):
        return name
    broken = _broken_lines(source)
    if broken is None:
        return "utf-8"
    whole, sample = broken
    sound, lost = _utf8_places(b"\n".join(sample))
    if (sound and sound >= PASSES * lost) or _TORN.fullmatch(b"\n".join(sample)):  # a few bytes of it are lost
        return "utf-8"
    if declared := _declared(head):
        return declared
    # In a file of an old encoding hardly any line with letters passes for UTF-8.
    if whole and whole >= 0.2 * len(sample):
        return "utf-8"
    return guess(b"\n".join(sample))


def _utf8_places(raw: bytes) -> tuple[int, int]:
    """How many characters beyond ASCII these bytes hold as UTF-8, and how many places that are none."""
    text = raw.decode("utf-8", errors="replace")
    lost = text.count("\ufffd") - raw.count(b"\xef\xbf\xbd")
    return sum(not char.isascii() for char in text) - lost, lost


def guess(sample: bytes) -> str:
    """The old eight-bit encoding in which these bytes read best."""
    beyond_ascii = len(sample) - len(sample.translate(None, _BEYOND_ASCII))
    runs = _RUN.findall(sample)
    # Second bytes of Chinese and Japanese characters may be ASCII as well, but hardly anything else is.
    inside = 2 * len(_IN_LATIN.findall(sample)) > len(runs) or 3 * sum(len(run) == 1 for run in runs) > 2 * len(runs)
    latin = inside and beyond_ascii < 0.4 * len(sample)
    if found := east_asian.of(sample) or (not latin and _russian(sample)):
        return found
    if latin and (beyond_ascii >= PROVES or _IN_LATIN.search(sample)) and (found := latin_letters.encoding_of(sample)):
        return found
    if beyond_ascii < PROVES:  # a stray byte or two
        return "utf-8"
    # A second opinion for other languages.
    best = from_bytes(sample[:SAMPLE_BYTES], cp_isolation=LATIN if latin else None, cp_exclusion=NOT_BY_GUESS).best()
    return best.encoding if best and best.encoding not in ("utf_8", "ascii") else "cp1252"


def _russian(data: bytes) -> str:
    """The encoding in which bytes read as Russian, "" where they do in none."""
    if len(_IN_LATIN.findall(data)) * 2 > len(_RUN.findall(data)):
        return ""
    costs = {name: russian_bigrams.cost(data.decode(name, errors="replace")) for name in RUSSIAN}
    best = min(RUSSIAN, key=costs.get)
    return best if costs[best] <= READS_AS_RUSSIAN else ""


def lines(source: Source, encoding: str) -> Iterator[Line]:
    """All lines of a text; a line that cannot be decoded or is too long comes with its problem instead."""
    if encoding.startswith(WIDE):
        yield from _wide_lines(source, encoding)
        return
    decode = LineDecoder(encoding, source.head(SAMPLE_BYTES) if encoding in east_asian.ENCODINGS else b"")
    for number, raw in raw_lines(source):
        yield decode(number, raw)


class LineDecoder:
    """Decodes the lines of a file, of which `head` is the beginning; bytes that were lost leave U+FFFD.

    In a file of UTF-8 a line may be in old Russian, and in others one may be in UTF-8.
    """

    def __init__(self, encoding: str, head: bytes = b""):
        self.encoding, self.fallback = encoding, ""
        self.divided = lost_bytes.Decoder(encoding, head) if encoding in east_asian.ENCODINGS else None

    def __call__(self, number: int, raw: bytes | None) -> Line:
        if raw is None:
            return Line(number, "", "line_too_long")
        if number == 1 and self.encoding == "utf-8-sig":
            raw = raw.removeprefix(codecs.BOM_UTF8)
        if self.divided:
            return self._of_two_bytes(number, raw)
        try:
            line = Line(number, str(raw, "utf-8" if self.encoding == "utf-8-sig" else self.encoding))
            return line if self.encoding not in RUSSIAN or raw.isascii() else self._of_another(line, raw)
        except UnicodeDecodeError:
            pass
        if not self.encoding.startswith("utf-8"):
            text = raw.decode(self.encoding, errors="replace")
            return Line(number, text, "bad_bytes")
        sound, lost = _utf8_places(raw)
        if sound < lost and (old := self._old(raw)):
            return Line(number, old, repair=f"line in {self.fallback}")
        text = raw.decode("utf-8", errors="replace")
        return Line(number, text, "" if _is_few(lost, sound, raw) else "bad_bytes")

    def _of_two_bytes(self, number: int, raw: bytes) -> Line:
        """A line of a file in an old encoding of East Asia, or in UTF-8, where three bytes in a row are hardly chance."""
        if _UTF8_OF_THREE.fullmatch(raw):
            text = raw.decode("utf-8", errors="replace")
            return Line(number, text, repair="line in utf-8")
        text = self.divided(raw)
        lost = text.count("\ufffd")
        sound = sum(not char.isascii() for char in text) - lost if lost else 0
        return Line(number, text, "" if _is_few(lost, sound, raw) else "bad_bytes")

    def _of_another(self, line: Line, raw: bytes) -> Line:
        """A line of a file in old Russian; one that is none there may be in another encoding."""
        if not _ODD.search(line.text) or len(raw) - len(raw.translate(None, _BEYOND_ASCII)) < SURE:
            return line
        costs = {name: russian_bigrams.cost(raw.decode(name, errors="replace")) for name in RUSSIAN}
        other = min(RUSSIAN, key=costs.get)
        if costs[other] > min(READS_AS_RUSSIAN, costs[self.encoding] - GAIN):
            return line
        return Line(line.number, raw.decode(other, errors="replace"), repair=f"line in {other}")

    def _old(self, raw: bytes) -> str:
        """The line in an old Russian encoding; one that a longer line has proved is enough for a word."""
        if not _OLD_WORD.search(raw):
            return ""
        if not self.fallback and len(re.findall(rb"[\x80-\xff]", raw)) >= PROVES:
            self.fallback = _russian(raw)
        text = raw.decode(self.fallback, errors="replace") if self.fallback else "\ufffd"
        return text if "\ufffd" not in text and russian_bigrams.cost(text) <= READS_AS_RUSSIAN else ""


def _is_few(lost: int, sound: int, raw: bytes) -> bool:
    """Whether a line with so many broken places among its sound characters beyond ASCII is kept."""
    return sound >= SOUND * lost or lost * FEW <= len(raw)


def read_text(source: Source, encoding: str, most: int = 256 * 1024 * 1024) -> str:
    """The whole text with `\\n` line ends; what cannot be decoded becomes U+FFFD."""
    with source.open() as stream:
        data = stream.read(most)
    try:
        text = "" if encoding in east_asian.ENCODINGS else data.decode(encoding)
    except UnicodeDecodeError:
        text = ""
    if not text and encoding.startswith(WIDE):
        text = "\n".join("\ufffd" if line.problem else line.text for line in lines(source, encoding))
    elif not text:
        decode = LineDecoder(encoding, data[:SAMPLE_BYTES])
        text = "\n".join(decode(number, raw).text for number, raw in enumerate(data.split(b"\n"), 1))
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def raw_lines(source: Source) -> Iterator[tuple[int, bytes | None]]:
    """Number and bytes of each line without its end; None stands for a line that is longer than can be held."""
    number = 0
    with source.open() as stream:
        while raw := stream.readline(LONGEST_LINE + 1):
            number += 1
            if len(raw) > LONGEST_LINE and not raw.endswith(b"\n"):
                while raw and not raw.endswith(b"\n"):
                    raw = stream.readline(BLOCK)
                yield number, None
                continue
            ended = raw.removesuffix(b"\n").removesuffix(b"\r")
            if b"\r" not in ended:
                yield number, ended
                continue
            for part in ended.split(b"\r"):  # the line ends of old Macs
                yield number, part
                number += 1
            number -= 1


def _wide_lines(source: Source, encoding: str) -> Iterator[Line]:
    """The lines of UTF-16 or UTF-32. After a lost byte all others would read as foreign letters: each line is
    looked for by itself, and one whose bytes do not come out even is set aside.
    """
    width = 4 if "32" in encoding else 2
    with source.open() as stream:
        mark = next((mark for mark, name in BOMS if name == encoding and source.head(4).startswith(mark)), b"")
        stream.read(len(mark))
        order = {"\xff": "-le", "\xfe": "-be", "\x00": "-be"}.get(mark[:1].decode("latin-1"), "")
        for number, raw in enumerate(_wide_raw(stream, "\n".encode(encoding + order), width), 1):
            if raw is None:
                yield Line(number, "", "line_too_long")
                continue
            text = raw.decode(encoding + order, errors="replace").removesuffix("\r")
            torn = len(raw) % width or "\ufffd" in text or _SHIFTED.search(text)
            yield Line(number, text, "bad_bytes" if torn else "")


def _wide_raw(stream: BinaryIO, newline: bytes, width: int) -> Iterator[bytes | None]:
    """The bytes of each line without its end; None stands for a line that is longer than can be held."""
    held, too_long, after = bytearray(), False, width - 1 - newline.index(b"\n")
    while part := stream.readline(BLOCK):
        held += part + (stream.read(after) if part.endswith(b"\n") else b"")
        too_long |= len(held) > LONGEST_LINE
        if held.endswith(newline):
            yield None if too_long else bytes(held[:-width])
            held, too_long = bytearray(), False
        elif too_long:
            del held[:-width]
    if held:
        yield None if too_long else bytes(held)


def _declared(head: bytes) -> str | None:
    """The encoding that the prolog of XML or the head of HTML names, if there is one of that name."""
    declared = re.search(rb"<\?xml[^>]*encoding=[\"']([\w-]+)|<meta[^>]*charset=[\"']?([\w-]+)", head[:2048], re.I)
    try:
        return codecs.lookup((declared[1] or declared[2]).decode()).name if declared else None
    except LookupError:
        return None


def _utf16_without_bom(head: bytes) -> str | None:
    """The name of the encoding, when the bytes alternate as in UTF-16 and read as text: tables of numbers do not.

    Where they do not, the first of them may: behind a lost byte the others are shifted.
    """
    return _alternates(head) or (_alternates(head[: len(head) // 4]) if len(head) >= 64 else None)


def _alternates(head: bytes) -> str | None:
    zeros = len(head) >= 8 and head.count(0) >= len(head) / 20
    for name, high in (("utf-16-le", head[1::2]), ("utf-16-be", head[0::2])):
        if zeros:
            alternates = high.count(0) + high.count(4) > 0.7 * len(high)
        else:  # Cyrillic without spaces has no zero bytes, but every other byte is 04
            alternates = len(head) >= 16 and high.count(4) > 0.6 * len(high)
        if alternates:
            text = head[: len(head) // 2 * 2].decode(name, errors="replace")
            odd = sum(unicodedata.category(c) in ("Cc", "Cn", "Co", "Cs") and c not in "\t\n\r\f" for c in text)
            return name if odd <= len(text) / 50 else None
    return None


def _broken_lines(source: Source) -> tuple[int, list[bytes]] | None:
    """None for sound UTF-8; else how many lines with letters beyond ASCII are sound, and those that are not."""
    decoder, beyond_ascii = codecs.getincrementaldecoder("utf-8")(), 0
    try:
        with source.open() as stream:
            while block := stream.read(BLOCK):
                text = decoder.decode(block)
                beyond_ascii += len(block) - len(text)
                if beyond_ascii > PROOF:  # a later line that is broken is met on its own
                    return None
            decoder.decode(b"", final=True)
        return None
    except UnicodeDecodeError:
        pass
    sound, broken, size = 0, [], 0
    for _, raw in raw_lines(source):
        if raw is None or raw.isascii():
            continue
        try:
            raw.decode("utf-8")
            sound += 1
        except UnicodeDecodeError:
            if size < SAMPLE_BYTES:
                broken.append(raw[:SAMPLE_BYTES])
                size += len(raw)
    return sound, broken


def is_binary(head: bytes) -> bool:
    """Whether these first bytes of a file are no text in any encoding that is known here."""
    if any(head.startswith(mark) for mark, _ in BOMS) or _utf16_without_bom(head):
        return False
    # A power cut leaves zeros at the end of a text, a damaged disk a few odd bytes in it: its other lines can be read.
    whole = head.rstrip(b"\x00")
    odd = len(re.findall(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", whole))
    return not whole or odd > len(whole) / 50
