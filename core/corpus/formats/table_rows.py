"""Rejoin cells of a table's row that unquoted commas have split."""

import re
from typing import NamedTuple

from core.corpus import schema

SPACED = 0.25  # share of a column's cells with a space before them, from which on it stands for nothing
NUMERIC = 0.9  # least share of numbers among the cells of a column of numbers
FEWEST = 2  # rows by which a column is told
KINDS = ("ask", "input", "answer", "text", "system", "messages", "role")
KNOWN = {name for kind in KINDS for name in schema.NAMES[kind]} | {*schema.OURS, "history", "rejected"} - {"q", "a"}
_NUMBER = re.compile(r"\s*[-+]?[\d\s]*[.,]?\d+(?:e[-+]?\d+)?\s*%?", re.IGNORECASE)
_SENTENCE = re.compile(r"\S+\s+\S+\s+\S.*[.!…]\s*|.{120,}", re.DOTALL)


class Shape(NamedTuple):
    """What the whole rows of a table are like."""

    count: int  # of its columns
    delimiter: str
    spaced: bool  # whether spaces stand behind its delimiters
    numbers: frozenset[int]  # columns of numbers


def shape(header: list[str], rows: list[list[str]], delimiter: str) -> Shape:
    """The shape of a table by its header and its first rows."""
    count = len(header)
    whole = [cells for cells in rows if len(cells) == count]
    columns = list(zip(*whole, strict=True))[1:]
    often = [sum(cell[:1] == " " for cell in column) for column in columns]
    spaced = any(name[:1] == " " for name in header[1:]) or max(often, default=0) > max(1, SPACED * len(whole))
    sure = [cells for cells in whole if spaced or not any(cell[:1] == " " for cell in cells[1:])]
    filled = ([cell for cell in column if cell.strip()] for column in zip(*sure, strict=True))
    numbers = frozenset(at for at, column in enumerate(filled) if _is_of_numbers(column))
    return Shape(count, delimiter, spaced, numbers)


def is_header(cells: list[str]) -> bool:
    """Whether the first row of a table may name its columns: one has a name that is known, or no cell is a sentence."""
    return any(cell.strip().lower() in KNOWN for cell in cells) or not any(map(_SENTENCE.fullmatch, cells))


def named(header: list[str], numbers: frozenset[int]) -> list[str]:
    """The name of each column, "" for numbers of rows that have none; a name that is there already gets a number."""
    names: list[str] = []
    for at, cell in enumerate(header):
        name = cell.strip().strip("\ufeff") or ("" if at in numbers else f"column {at + 1}")
        count = sum(re.fullmatch(rf"{re.escape(name)}(?: \d+)?", other) is not None for other in names)
        names.append(f"{name} {count + 1}" if name and name in names else name)
    return names


def fitted(cells: list[str], shape: Shape, quoted: bool) -> list[str] | None:
    """The cells of a row, those joined that were one text; None where nobody can tell which ones were.

    A text goes on behind a comma with a space, as delimiters have none, or is the only column that is no number.
    """
    if len(cells) <= shape.count and (quoted or not shape.numbers):  # most rows
        return cells
    short = _trimmed(cells, shape.count)
    moved = not quoted and any(_is_words(cell) for at in shape.numbers for cell in short[at : at + 1])
    if len(short) <= shape.count and not moved and (quoted or len(cells) <= shape.count or not _goes_on(cells, shape)):
        return short
    if quoted:
        return None
    joined = _trimmed(_joined(cells, shape), shape.count)
    if len(joined) == shape.count or (moved and len(joined) < len(short)):
        return joined if _fits(joined, shape) else None
    free = [at for at in range(shape.count) if at not in shape.numbers]
    if len(free) == 1 and len(short) > shape.count:
        end = free[0] + 1 + len(short) - shape.count
        joined = [*short[: free[0]], shape.delimiter.join(short[free[0] : end]), *short[end:]]
        return joined if _fits(joined, shape) else None
    return None


def _trimmed(cells: list[str], count: int) -> list[str]:
    """The cells without empty ones behind a delimiter at the end of the line."""
    while len(cells) > count and not cells[-1].strip():
        cells = cells[:-1]
    return cells


def _goes_on(cells: list[str], shape: Shape) -> bool:
    return not shape.spaced and any(cell[:1] == " " and cell.strip() for cell in cells[1:])


def _joined(cells: list[str], shape: Shape) -> list[str]:
    joined = cells[:1]
    for cell in cells[1:]:
        if not shape.spaced and cell[:1] == " " and cell.strip():
            joined[-1] += shape.delimiter + cell
        else:
            joined.append(cell)
    return joined


def _fits(cells: list[str], shape: Shape) -> bool:
    return all(not cell.strip() or _NUMBER.fullmatch(cell) for at, cell in enumerate(cells) if at in shape.numbers)


def _is_words(cell: str) -> bool:
    """Whether a cell in the place of a number looks like a part of a text, and not like "unknown"."""
    return bool(cell.strip()) and not _NUMBER.fullmatch(cell) and (cell[:1] == " " or len(cell.split()) > 1)


def _is_of_numbers(cells: list[str]) -> bool:
    return len(cells) >= FEWEST and sum(map(bool, map(_NUMBER.fullmatch, cells))) >= NUMERIC * len(cells)
