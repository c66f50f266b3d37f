"""A long text cut into documents: at separator lines when it has them, else at blank lines, never in mid-sentence."""

import re
from collections.abc import Iterable, Iterator

from core.corpus.sources import Bad, Record

LONGEST = 4000  # characters of a document, about 1,500 tokens of Russian
SHORTEST = 1000  # a new document starts at a heading or a blank line only after so many
SEPARATORS = ("%", "<|endoftext|>", "\f", "<|end of row|>")  # fortune files, token dumps, printed pages, our own export
HEADING = re.compile(r"#{1,6} |(?:Глава|ГЛАВА|Часть|ЧАСТЬ|Chapter|CHAPTER|Part|PART)\s")
FENCE = re.compile(r"\s*(?:```|~{3,4}(?!~))")  # more of these underline a heading
SENTENCE_END = re.compile(r"(?<=[.!?…»\"”])\s+")
ENDS = (".", "!", "?", "…", "»", '"', "”")
CLOSED = (*ENDS, ")", ";", "`", "~")  # of a line that is no term with its meaning below it
MARKS = (re.compile("\n\n"), re.compile(r"(?<=[.!?…»\"”])\n"), SENTENCE_END, re.compile("\n"), re.compile(" "))


def split(lines: Iterable[tuple[int, str]], separator: str | None = None) -> Iterator[tuple[int, str]]:
    """(number of the first line, text) of each document; with a separator the texts between it are kept as they are."""
    if separator:
        yield from _between(lines, separator)
        return
    for number, text in _without_stub(_packed(lines)):
        if len(text) <= 2 * LONGEST:
            yield number, text
        else:
            for part in cut(text, LONGEST):
                yield number, part


def _without_stub(pieces: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """The same pieces; a last one that is short goes to the one before it."""
    waiting: list[tuple[int, str]] = []
    for piece in pieces:
        waiting.append(piece)
        if len(waiting) > 2:
            yield waiting.pop(0)
    if len(waiting) == 2 and len(waiting[1][1]) < SHORTEST and len(waiting[0][1]) <= LONGEST + SHORTEST:
        waiting = [(waiting[0][0], f"{waiting[0][1]}\n\n{waiting[1][1]}")]
    yield from waiting


def records(text: str, repairs: tuple[str, ...] = ()) -> Iterator[Record | Bad]:
    """The documents of a text, numbered from #1; the first one has the repairs."""
    if not text.strip():
        yield Bad("#1", "empty_text")
        return
    for number, (_, part) in enumerate(split(enumerate(text.split("\n"))), 1):
        yield Record(f"#{number}", {"text": part}, repairs if number == 1 else ())


def separator_of(lines: list[str]) -> str | None:
    """The separator line that these first lines of a text use at least twice, or that a text begins with."""
    if lines and lines[0].strip(" \r") in SEPARATORS:
        return lines[0].strip(" \r")
    for mark in SEPARATORS:
        if sum(line.strip(" \r") == mark for line in lines) >= 2:
            return mark
    return None


def cut(text: str, longest: int) -> Iterator[str]:
    """Pieces of at most so many characters and about one length: at paragraphs, else at ends of sentences, else at
    lines, else words, else anywhere.
    """
    while len(text) > longest:
        pieces = -(-len(text) // longest)
        least, most = longest // 2, min(longest, len(text) * 5 // (4 * pieces))
        at = next((at for mark in MARKS if (at := _last(mark, text[:most])) >= least), most)
        if piece := text[:at].strip("\n"):
            yield piece
        text = text[at:].lstrip("\n ")
    if text.strip():
        yield text


def _last(mark: re.Pattern, text: str) -> int:
    return max((found.start() for found in mark.finditer(text)), default=-1)


def _between(lines: Iterable[tuple[int, str]], separator: str) -> Iterator[tuple[int, str]]:
    held: list[str] = []
    start = None
    for number, line in lines:
        if line.strip(" \r") == separator:
            if any(part.strip() for part in held):
                yield start, "\n".join(held)
            held, start = [], None
        else:
            start = number if start is None else start
            held.append(line)
    if any(part.strip() for part in held):
        yield start, "\n".join(held).removesuffix("\n")


def _packed(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Paragraphs gathered into documents of SHORTEST to LONGEST characters; fenced code is not torn apart."""
    held: list[tuple[int, str]] = []
    size, fenced, ended, last = 0, False, False, ""
    for number, line in lines:
        blank, inside = not line.strip(), fenced  # of the fence that closes code nothing may be torn off
        if FENCE.match(line):
            fenced = not fenced
        heading = not inside and HEADING.match(line) is not None
        apart = blank and not inside and not last.endswith(":")  # what such a line announces goes with it
        apart = apart and size >= (LONGEST // 2 if last.endswith(CLOSED) else LONGEST)
        full = size >= SHORTEST and (heading or apart)
        full = full or (size >= LONGEST and ended and not inside)  # paragraphs without blank lines
        ended = line.rstrip().endswith(ENDS)
        last = last if blank else line.rstrip()
        if full or size > 2 * LONGEST:
            at = _without_headings(held)
            yield _whole(held[:at])
            held = held[at:]
            size = sum(len(line) + 1 for _, line in held)
        if held or not blank:
            held.append((number, line))
            size += len(line) + 1
    if held:
        yield _whole(held)


def _without_headings(lines: list[tuple[int, str]]) -> int:
    """Up to which of the lines a document goes: headings at its end belong to what follows."""
    at = end = len(lines)
    while at > 1 and (not lines[at - 1][1].strip() or HEADING.match(lines[at - 1][1])):
        at -= 1
        end = at if HEADING.match(lines[at][1]) else end
    return end


def _whole(lines: list[tuple[int, str]]) -> tuple[int, str]:
    return lines[0][0], "\n".join(line for _, line in lines).strip("\n")
