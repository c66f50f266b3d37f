"""Headings of a printed book: lines in larger type than the text, marked as those of a page are."""

import re

from core.corpus.formats.pdf_lines import CODE, Line

LARGER = 1.15  # of the size of the text: a heading is as large at least
SAME = 0.05  # of a size: two sizes of one level differ by less
APART = 2.2  # of its size: a heading goes on in a line that is nearer
MOST_LINES, LONGEST = 3, 250  # of a heading, in characters: more is a text in large type
MOST = 0.25  # of the lines of a book: where more are large, they are no headings
DEEPEST = 4  # levels
_WORD = re.compile(r"[^\W\d_]{3}")
_NUMBERED = re.compile(r"\s*(?:\d+|[A-ZА-Я])(?:\.\d+)*\.?\s")


def marked(pages: list[list[Line]], size: float) -> list[list[Line]]:
    """The lines of each page, each heading in one line with as many number signs before it as its level has."""
    filled = sum(bool(line.text.strip()) for page in pages for line in page)
    large = [line.size for page in pages for line in page if _is_large(line, size)]
    if not large or len(large) > MOST * filled:
        return pages
    levels = _levels(large)
    return [_of_page(page, size, levels) for page in pages]


def _is_large(line: Line, size: float) -> bool:
    return size > 0 and line.size >= LARGER * size and not line.text.startswith((CODE, "#")) and bool(line.text)


def _levels(sizes: list[float]) -> dict[float, int]:
    """The level of each size, 1 for the largest."""
    levels: dict[float, int] = {}
    level, last = 0, float("inf")
    for size in sorted(set(sizes), reverse=True):
        if size < (1 - SAME) * last:
            level, last = min(level + 1, DEEPEST), size
        levels[size] = level
    return levels


def _of_page(page: list[Line], size: float, levels: dict[float, int]) -> list[Line]:
    kept: list[Line] = []
    at = 0
    while at < len(page):
        block = [page[at]]
        while _is_large(block[0], size) and at + len(block) < len(page) and _goes_on(block[-1], page[at + len(block)]):
            block.append(page[at + len(block)])
        words = " ".join(line.text.strip() for line in block)
        title = _is_large(block[0], size) and len(block) <= MOST_LINES and len(words) <= LONGEST
        if title and _WORD.search(words):
            kept.append(block[0]._replace(text=f"{'#' * levels[block[0].size]} {words}"))
        else:
            kept += block
        at += len(block)
    return kept


def _goes_on(line: Line, other: Line) -> bool:
    """Whether the second line belongs to the heading of the first one."""
    same = abs(line.size - other.size) < SAME * line.size
    return same and 0 < line.foot - other.foot < APART * line.size and not _NUMBERED.match(other.text)
