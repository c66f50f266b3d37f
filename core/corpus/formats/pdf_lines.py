"""The lines of a printed page by the places of their characters: code and its steps, raised digits, notes at its foot."""

import ctypes
import re
from itertools import groupby
from statistics import median
from typing import NamedTuple

from core.corpus.formats import markup

MOST_STEPS = 80  # spaces before a line of code
CODE = "\ue0f9"  # before a line of code until the paragraphs are known
REFERENCE, REFERENCE_END = "\ue0fa", "\ue0fb"  # around raised digits until it is known whether a note has them
GONE = "\ue0fd"  # in place of a line that belongs to the one before
FIXED_WIDTH = 1  # flag of a font: ISO 32000, table 121
TYPEWRITER = re.compile(r"mono|courier|consol|menlo|typewriter|cmtt|lucidaconsole|sourcecode", re.IGNORECASE)
TYPED_SAMPLE, TYPED = 8, 0.5  # characters of a line of code, and the share of them that is in such a font
SMALL = 0.85  # of the size of its line: a digit that is smaller stands above or below it
RAISED = 0.04  # of the size: how far it stands from the foot of the line, at least
SAMPLE = 3  # characters of a line by which its size is known
_CONTROLS = re.compile(r"[\x00\x01\x03-\x08\x0b\x0e-\x1f]")
_CLOSING = re.compile(r"[.,;:!?)»”]+(?:\s|$)")


class Line(NamedTuple):
    """A line as it is printed, with the size of its font and the place of its foot.

    `left` and `step`, the width of a character, where its font has one width.
    """

    text: str
    left: float = 0.0
    step: float = 0.0
    size: float = 0.0
    foot: float = 0.0


def places(text_page) -> dict[str, list[Line]]:
    """The lines of a page by their words, raised digits in them marked; none where pdfium counts otherwise.

    A line that pdfium broke at a raised digit is whole again: its other parts are GONE.
    """
    text, at = text_page.get_text_range(), 0
    found: dict[str, list[Line]] = {}
    if len(text) != text_page.count_chars():
        return found
    kept: list[tuple[str, Line]] = []
    wholes: dict[int, str] = {}
    parts: list[str] = []  # of the line that is whole again; pdfium gives it whole elsewhere
    for words in text.split("\r\n"):
        if key := cleaned(words).strip():
            above = kept[-len(parts)][1] if parts else Line("")
            line = _line(text_page, words, at, above)
            if _is_broken(above, line):
                parts.append(words)
                space = " " * (words[0] == " ")
                kept[1 - len(parts)] = (kept[1 - len(parts)][0], above._replace(text=above.text + space + line.text))
                line = line._replace(text=GONE)
            else:
                parts = [words]
            kept.append((key, line))
            if len(parts) > 1:
                wholes[len(kept) - len(parts)] = cleaned("".join(parts)).strip()
        at += len(words) + 2
    for index, (words, line) in enumerate(kept):
        for key in {words, wholes.get(index, words)}:
            found.setdefault(key, []).append(line)
    return found


def cleaned(text: str) -> str:
    """The text of a page without control characters, but for the one that stands for a hyphen at the end of a line."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufffe", "\x02")
    text = re.sub(rf"^(\s*)[{markup.BULLETS}]\s*", r"\1• ", text, flags=re.MULTILINE)
    # A dash between words has spaces; pdfium loses the one behind it in some fonts.
    return re.sub(r"(?<=\s)—(?=[^\W\d_])", "— ", _CONTROLS.sub("", text))


def _line(text_page, words: str, at: int, above: Line) -> Line:
    foot, size = _foot(text_page, words, at)
    alone = words.strip("[]() ").isdecimal() or words.strip() in ("*", "**", "***", "†", "‡")
    if alone and 0 < size < SMALL * above.size and abs(foot - above.foot) < size:
        foot, size = above.foot, above.size  # raised digits alone
    left, step = _typed(text_page, [at + index for index, char in enumerate(words) if not char.isspace()])
    return Line(cleaned(_marked(text_page, words, at, foot, size)).strip(), left, step, size, foot)


def _is_broken(above: Line, line: Line) -> bool:
    """Whether a line that begins with raised digits, or with what stands behind them, is the end of the one before."""
    same = abs(above.foot - line.foot) < 0.1 * line.size
    begins = line.text.startswith((REFERENCE, *"*†‡")) or _CLOSING.match(line.text) is not None
    return same and (begins or above.text.endswith(REFERENCE_END))


def _foot(text_page, line: str, at: int) -> tuple[float, float]:
    """(foot, size) of a line, by some of its letters."""
    letters = [at + index for index, char in enumerate(line) if char.isalpha()] or [
        at + index for index, char in enumerate(line) if not char.isspace()
    ]
    some = {letters[len(letters) * part // (SAMPLE + 1)] for part in range(1, SAMPLE + 1)} if letters else ()
    if not some:
        return 0.0, 0.0
    feet, sizes = (sorted(of(text_page, index) for index in some) for of in (_foot_of, _size_of))
    return feet[len(feet) // 2], sizes[len(sizes) // 2]


def _foot_of(text_page, index: int) -> float:
    """How high the line is on which a character stands."""
    from pypdfium2 import raw  # noqa: PLC0415 - a library of 8 MB for one format

    x, y = ctypes.c_double(), ctypes.c_double()
    raw.FPDFText_GetCharOrigin(text_page, index, x, y)
    return y.value


def _size_of(text_page, index: int) -> float:
    """The size of a character in points. The box around it says less: in some fonts it is that of the letter alone."""
    from pypdfium2 import raw  # noqa: PLC0415 - a library of 8 MB for one format

    matrix = raw.FS_MATRIX()
    raw.FPDFText_GetMatrix(text_page, index, matrix)
    return raw.FPDFText_GetFontSize(text_page, index) * (matrix.b**2 + matrix.d**2) ** 0.5


def _marked(text_page, line: str, at: int, foot: float, size: float) -> str:
    """The line with its raised digits marked, and others and signs that stand above or below it as such."""
    if not any(_level(text_page, at + digit.start(), foot, size) for digit in re.finditer(r"\d", line)):
        return line
    signs = ["" if char.isspace() else _level(text_page, at + index, foot, size) for index, char in enumerate(line)]
    parts, index = [], 0
    for level, group in groupby(signs):
        size = len(list(group))
        words = line[index : index + size]
        if level and not _is_smaller(text_page, line, at, range(index, index + size)):
            level = ""
        number = level == "sup" and words.strip("[]()").isdecimal()
        shown = _shown(level, words) if level else words
        if shown != words and parts:  # pdfium sees a space before what stands lower
            parts[-1] = parts[-1].rstrip(" ")
        parts.append(f"{REFERENCE}{words.strip('[]()')}{REFERENCE_END}" if number else shown)
        index += size
    return "".join(parts)


def _is_smaller(text_page, line: str, at: int, run: range) -> bool:
    """Whether some characters are smaller than the one beside them: those of another font may be so in its height alone."""
    beside = next(
        (place for place in (run.start - 1, run.stop) if line[place : place + 1].strip() and place >= 0), None
    )
    if beside is None:
        return True
    return _size_of(text_page, at + run.start) < SMALL * _size_of(text_page, at + beside)


def _shown(level: str, words: str) -> str:
    """Small words as signs above or below the line, where all of them have one; numbers in a row keep their commas."""
    return (
        re.sub(r"\d+", lambda found: markup.raised(level, found[0]), words)
        if "," in words
        else markup.raised(level, words)
    )


def _level(text_page, index: int, foot: float, size: float) -> str:
    """ "sup" or "sub" for a small character that stands above or below the foot of its line."""
    apart = _foot_of(text_page, index) - foot
    if abs(apart) < RAISED * size or not 0 < _size_of(text_page, index) < SMALL * size:
        return ""
    return "sup" if apart > 0 else "sub"


def _typed(text_page, places: list[int]) -> tuple[float, float]:
    """(left edge, width of a character) of a line in a font of one width; zeros for others."""
    if not _is_typed(text_page, places[0]):
        return 0.0, 0.0
    some = {places[len(places) * part // TYPED_SAMPLE] for part in range(TYPED_SAMPLE)}
    if sum(_is_typed(text_page, place) for place in some) < TYPED * len(some):
        return 0.0, 0.0
    left, _, right, _ = text_page.get_charbox(places[0], loose=True)
    return left, right - left


def _is_typed(text_page, place: int) -> bool:
    """Whether a character is in a font of one width."""
    from pypdfium2 import raw  # noqa: PLC0415 - a library of 8 MB for one format

    name, flags = ctypes.create_string_buffer(64), ctypes.c_int()
    raw.FPDFText_GetFontInfo(text_page, place, name, len(name), flags)
    return bool(flags.value & FIXED_WIDTH or TYPEWRITER.search(name.value.decode(errors="replace")))


def printed(lines: list[str], found: dict[str, list[Line]]) -> list[Line]:
    """The lines of a page with their places; those of code marked and with the spaces before them that these say."""
    known = [of.pop(0) if (of := found.get(line.strip())) else Line(line) for line in lines]
    known = [line for line in known if line.text != GONE]
    kept: list[Line] = []
    for is_code, group in groupby(known, lambda line: line.step > 0):
        block = list(group)
        least = min(line.left for line in block)
        for line in block:
            steps = min(round((line.left - least) / line.step), MOST_STEPS) if is_code else 0
            kept.append(line._replace(text=f"{CODE}{' ' * steps}{line.text}") if is_code else line)
    return kept


def text_size(pages: list[list[Line]]) -> float:
    """The size of the lines of the text, by all of them that are long."""
    sizes = [line.size for page in pages for line in page if line.size and len(line.text) > 20]
    return median(sizes) if sizes else 0.0
