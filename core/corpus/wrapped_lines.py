"""Hard-wrapped text, as of printed books: whether its lines are broken at a width, and its paragraphs whole again."""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from core.corpus import documents

SAMPLE = 2000  # lines
FEWEST = 4  # lines that go on in the next one, to tell
DOUBLE = 12  # filled lines, to tell
TOLERANCE = 8  # characters by which the next word may have fitted: not every program fills its lines


class Wrapping(NamedTuple):
    """What the lines of wrapped text are like."""

    widths: range  # characters of the widest lines
    full: float  # of the width: as long a line that goes on in the next one is, but for few
    share: float  # least share of such lines among neighbours


TYPED = Wrapping(range(40, 121), 0.75, 0.4)
PRINTED = Wrapping(range(25, 200), 0.5, 0.25)  # in several sizes, with lists and captions
_ENDS = re.compile(r"[.!?…:;][\"»”’)\]]*$")
_GOES_ON = re.compile(r"\s*[a-zа-яё]")
_BEGINS = re.compile(
    r"\s*(?:[—–•>|]|[*+#-]+\s|\d{1,3}[.)]\s|\d{1,3}(?:\.\d{1,3})+\.?\s|```|~~~|[A-ZА-ЯЁ]{1,3}[.)]\s|\w[)]\s|\(\w{1,3}\)\s)"
)
_CODE = re.compile(r"[{}\\=<>$]|;\s*$|\(\)|^\s*--?\w")
MANUAL_WIDTHS, MANUAL_FULL, MANUAL_LINES = range(60, 200), 0.8, 30  # of a book of paragraphs and code
CODE_SHARE = 0.4  # least share of lines with marks of code
CODE_INDENT = 4  # spaces from which on lines may be code
_TABLE = re.compile(r"\S(?: {3,}|\t)\S|\|.*\||^(?:[-=_*~.]\s?){3,}$")
_DIVIDED = re.compile(r"([^\W\d_]+)-$")
# An address that goes on in the next line: behind its beginning, behind a mark inside it, or before a slash.
_ADDRESS = re.compile(
    r"https?: //\S|^/ (?=\w[\w.-]*/\w)|(?:https?|ftp)://[^\s)>»\"]*"
    r"(?:[-_=&?#] (?=\w)|\. (?=[a-z\d-]+(?:\.[a-z]{2,})*[/)»])|[^\s)>»\",;.] (?=/[\w~]))"
)
# Words that keep their hyphen: кое-кто, по-русски, из-за, кто-нибудь, всё-таки.
_HYPHENED = re.compile(
    r"(?:кое|кой)-\w+|по-\w+(?:[сц]ки|[ое]му)|во-\w+ых|из-(?:за|под)|вс[её]-таки|"
    r"(?:кто|кого|кому|кем|ком|что|чего|чему|чем|где|когда|куда|откуда|как\w*|чей|чь\w+|почему|отчего|зачем|сколько)"
    r"-(?:то|либо|нибудь)",
    re.IGNORECASE,
)


def width(lines: Iterable[str], kind: Wrapping = TYPED) -> int:
    """The width at which the lines of a text are wrapped; 0 where they are lines of their own: verse, code, a list."""
    rows = [line.rstrip() for line in lines]
    lengths = sorted(map(len, filter(None, rows)))
    if not lengths:
        return 0
    widest = lengths[int(0.97 * (len(lengths) - 1))]
    pairs = [(one, other) for one, other in pairwise(rows) if one and other and not _apart(one, other)]
    going_on = [one for one, other in pairs if _GOES_ON.match(other) and not _ENDS.search(one)]
    if widest not in kind.widths or len(going_on) < max(FEWEST, kind.share * len(pairs)):
        return 0
    return widest if sum(len(one) >= kind.full * widest for one in going_on) >= 0.8 * len(going_on) else 0


def is_double_spaced(lines: list[str]) -> bool:
    """Whether an empty line stands behind each line of wrapped text, as some programs write it."""
    rows = [line.strip() for line in lines]
    filled = [row for row in rows if row]
    together = sum(bool(one and other) for one, other in pairwise(rows))
    return len(filled) >= DOUBLE and together <= len(filled) / 50 and width(filled) > 0


def single_spaced(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """The same lines without one empty line behind each that is filled."""
    filled = False
    for number, line in lines:
        if line.strip() or not filled:
            yield number, line
        filled = bool(line.strip())


def width_of_manual(lines: Iterable[str]) -> int:
    """The width of the paragraphs between much code; 0 where few long lines continue on the next one or their lengths differ."""
    rows = [line.rstrip() for line in lines]
    lengths = sorted(map(len, filter(None, rows)))
    widest = lengths[int(0.97 * (len(lengths) - 1))] if lengths else 0
    pairs = [(one, other) for one, other in pairwise(rows) if len(one) >= 0.6 * widest and not _CODE.search(one)]
    going_on = [one for one, other in pairs if _GOES_ON.match(other) and not _ENDS.search(one)]
    full = sum(len(one) >= MANUAL_FULL * widest for one in going_on)
    return widest if widest in MANUAL_WIDTHS and full >= max(MANUAL_LINES, 0.7 * len(going_on)) else 0


def is_code(lines: list[str]) -> bool:
    """Whether so many of some lines have marks of code that all are code."""
    filled = [line for line in lines if line.strip()]
    return sum(_CODE.search(line) is not None for line in filled) >= CODE_SHARE * len(filled)


def joined(
    lines: Iterable[tuple[int, str]], widest: int, tolerance: int = TOLERANCE, least: float = 0.5
) -> Iterator[tuple[int, str]]:
    """(number of the first line, text) of each paragraph; what is no running text stays line by line.

    A line of less than `least` of the width never goes on. The indent of first lines goes, that of code stays.
    """
    number, held, last, indents, fenced, whole = 0, "", "", set(), False, False
    for at, line in lines:
        line = line.rstrip()
        fence = documents.FENCE.match(line) is not None
        if number and held and not fenced and not fence and line and _goes_on(last, line, widest, tolerance, least):
            if _indent(held) > _indent(line):
                indents.add(_indent(held))
            held, whole = join(held, line.strip()), True
        else:
            if number:
                yield number, held.lstrip() if whole or _indent(held) in indents else held
            number, held, whole = at, line, False
        fenced ^= fence
        last = line
    if number:
        yield number, held.lstrip() if whole or _indent(held) in indents else held


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def join(text: str, line: str) -> str:
    """A line and the next one; a word that was divided at the end of the line is whole again."""
    if text.endswith("\u00ad"):
        return text[:-1] + line
    last, first = text.rpartition(" ")[2], line.partition(" ")[0]
    if (text.endswith("/") and text[-2:-1].strip()) or _ADDRESS.search(f"{last} {first}"):  # one/other, or an address
        return text + line
    divided = _DIVIDED.search(text) if text.endswith("-") else None  # the text grows: its end is looked at first
    if not divided or not _GOES_ON.match(line):
        return f"{text} {line}"
    keeps = keeps_hyphen(divided[1], re.match(r"\w+", line)[0])
    return (text if keeps else text[:-1]) + line


def keeps_hyphen(one: str, other: str) -> bool:
    """Whether a hyphen at the end of a line belongs to its word, as in "кто-то"."""
    return _HYPHENED.fullmatch(f"{one}-{other}") is not None


def _goes_on(line: str, other: str, widest: int, tolerance: int, least: float) -> bool:
    """Whether the next line belongs to the paragraph of this one: its first word had no room here."""
    if not line or _apart(line, other):
        return False
    room = widest - len(line) - 1 - len(other.split(maxsplit=1)[0])
    if _GOES_ON.match(other) and not _ENDS.search(line):
        return len(line) >= least * widest
    return room < tolerance


def _apart(line: str, other: str) -> bool:
    """Whether two lines are surely no running text: a list, a table, a heading, a line that is indented."""
    indent, next_indent = _indent(line), _indent(other)
    runs = not _CODE.search(line) and not _CODE.search(other)
    if next_indent > indent and not (_BEGINS.match(line) and runs):
        return True
    if next_indent == indent >= CODE_INDENT and not runs:
        return True
    return bool(_BEGINS.match(other) or _TABLE.search(line) or _TABLE.search(other)) or line.lstrip().startswith("#")
