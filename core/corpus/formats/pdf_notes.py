"""Footnotes of printed pages: recognised by font size and marks, moved to the end of the paragraph."""

import re
from collections.abc import Iterator
from statistics import median

from core.corpus import documents
from core.corpus.formats import markup
from core.corpus.formats.pdf_lines import CODE, REFERENCE, REFERENCE_END, Line

NOTE_SIZE = 0.93  # of the size of the text: notes are set smaller
MOST_NOTES = 0.7  # of the lines of a page: more are no notes at its foot
FOOT = 2  # lines below the notes, as the number of the page
_SIGNS = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_DIGITS = str.maketrans(_SIGNS, "0123456789")
# The third is a number that some fonts set small by themselves: what is told of it are signs, digits or both.
_MARK = re.compile(
    rf"\s*(?:{REFERENCE}(\d+){REFERENCE_END}|(\d{{1,3}})(?=[.)]?\s)|\[\d+\]|[*†‡§]+|"
    rf"([\d{_SIGNS}]{{1,3}})(?=[^\W\d_a-zа-яё]|[«“\"(/])(?!D\b))\s*"
)


def with_notes(page: list[Line], size: float, goes_on: bool) -> tuple[list[str], list[str]]:
    """The lines of a page without the notes at its foot, and these, each with its mark in brackets.

    `goes_on` says that a note of the page before may go on here. One of the notes has a raised number, or the text
    above refers to it.
    """
    start, end = _notes_of(page, size, goes_on)
    notes: list[list[str]] = []
    last = 0
    for line in page[start:end]:
        found = _MARK.match(line.text)
        number = int(_number(found) or 0) if found else 0
        if not notes or (found and (found[1] or not number or not last or number == last + 1)):
            notes.append([])
            last = number or last
        notes[-1].append(line.text)
    marks = [found for lines in notes if (found := _MARK.match(lines[0]))]
    numbers = {_number(found) for found in marks} - {""}
    above = [line.text for line in page[:start]]
    for found in marks:
        above = _referred(above, _number(found)) if found[3] else above
    signs = {f"{REFERENCE}{number}{REFERENCE_END}" for number in numbers}
    signs |= {found[0].strip() for found in marks if not _number(found)}
    sure = goes_on or any(found[1] for found in marks) or any(sign in line for line in above for sign in signs)
    if not sure:
        notes, numbers, above, end = [], set(), [], 0
    texts = [_plain(text, numbers) for text in (*above, *(line.text for line in page[end:]))]
    return texts, ["\n".join(_plain(line, set()) for line in (_headed(lines[0]), *lines[1:])) for lines in notes]


def _number(mark: re.Match) -> str:
    """The number of a note by its mark; "" where that is a sign."""
    return mark[1] or mark[2] or (mark[3] or "").translate(_DIGITS)


def _referred(lines: list[str], number: str) -> list[str]:
    """The lines with a mark around the reference to a note: in small digits, else the only one of its digits alone."""
    digits = "".join(f"[{digit}{_SIGNS[int(digit)]}]" for digit in number)
    # Behind a digit and a point it is a part of a number: 6.2.
    form = re.compile(rf"(?<=[^\W\d_]|[)»”\".,;:!?])(?<!\d[.,:]) ?({digits})(?![\w{_SIGNS}])")
    found = [
        (at, of) for at, line in enumerate(lines) if not line.startswith((CODE, "#")) for of in form.finditer(line)
    ]
    small = [(at, of) for at, of in found if not of[1].isascii()]
    for at, of in reversed(small or found[: len(found) == 1]):
        lines[at] = f"{lines[at][: of.start(1)]}{REFERENCE}{number}{REFERENCE_END}{lines[at][of.end() :]}"
    return lines


def _notes_of(page: list[Line], size: float, goes_on: bool) -> tuple[int, int]:
    """From which line to which the notes of a page go; an empty range where there are none."""
    filled = [at for at, line in enumerate(page) if line.text.strip()]
    small = [0 < page[at].size < NOTE_SIZE * size and not page[at].text.startswith(CODE) for at in filled]
    stop = len(filled)
    while stop > max(0, len(filled) - FOOT) and not (
        small[stop - 1] and re.search(r"[^\W\d_]", page[filled[stop - 1]].text)
    ):
        stop -= 1
    start = stop
    while start and small[start - 1]:
        start -= 1
    while start < stop and not goes_on and not _MARK.match(page[filled[start]].text):
        start += 1
    if start == stop or stop - start > MOST_NOTES * len(filled):
        return 0, 0
    return filled[start], filled[stop - 1] + 1


def _headed(line: str) -> str:
    """The first line of a note with its number in brackets."""
    found = _MARK.match(line)
    number = _number(found) if found else ""
    rest = line[found.end() :].lstrip(".) ") if number else line
    return f"[{number}] {rest}" if number else line


def _plain(text: str, numbers: set[str]) -> str:
    """A line with its raised digits: a reference where a note has the number, else as signs above the line."""

    def shown(found: re.Match) -> str:
        if found[2] not in numbers or text[: found.start()][-1:].isdecimal():  # 10⁶
            return markup.raised("sup", found[2])
        return f"{found[1].rstrip()} [{found[2]}]" + (" " if found[3].isalpha() else "")

    sign = rf"(\s*){REFERENCE}(\d+){REFERENCE_END}(?=(.?))"
    return re.sub(sign, shown, text)


def placed(pages: list[list[str]], notes: list[list[str]], sign: str) -> Iterator[str]:
    """The lines of all pages; a `sign` with the number of a page stands for its notes where a paragraph is over.

    That is before the next heading, behind the next line that ends a sentence and is short, else behind one that ends a
    sentence, else at the end of the next page.
    """
    full = median(len(line) for page in pages for line in page if line.strip()) if any(map(any, pages)) else 0
    waiting: list[int] = []
    for number, page in enumerate(pages):
        ends = [at for at, line in enumerate(page) if line[:1] != CODE and line.rstrip(" )]").endswith(documents.ENDS)]
        whole = next((at for at in ends if len(page[at]) < 0.85 * full), None)
        at = whole if whole is not None else (ends[0] if ends else len(page) - 1)
        for index, line in enumerate(page):
            if waiting and line.startswith("#"):
                yield from _signs(waiting, sign)
            yield line
            if waiting and index == at:
                yield from _signs(waiting, sign)
        waiting += [number] if notes[number] else []
        last = page[-1].rstrip(" )]") if page else ""
        if waiting and last.endswith(documents.ENDS) and len(last) < 0.85 * full:
            yield from _signs(waiting, sign)
    yield from _signs(waiting, sign)


def _signs(waiting: list[int], sign: str) -> list[str]:
    lines = ["", *(f"{sign}{number}" for number in waiting), ""] if waiting else []
    waiting.clear()
    return lines
