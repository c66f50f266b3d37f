"""CSV and TSV: a header and rows of strings; nothing is turned into a number, a date or a null."""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from typing import NamedTuple

from core.corpus import encodings
from core.corpus.formats import discord, table_rows
from core.corpus.sources import Bad, Format, Record, Source

LONGEST_ROW = 4 * 1024 * 1024  # characters after which a quote counts as never closed
SAMPLE = 200  # rows by which the columns are told
NO_DELIMITER = "\x1f"  # of one column, whose lines may have commas
DELIMITERS = ",;\t|"
EXCEL = re.compile(r"sep=([,;\t|])?", re.IGNORECASE)  # the first line tells Excel the delimiter


def claims(source: Source, head: str) -> bool:
    named = source.name.lower().removesuffix(".gz").removesuffix(".zst").endswith((".csv", ".tsv"))
    delimiter, header = _dialect(head)
    known = sum(cell.strip().strip('"').lower() in table_rows.KNOWN for cell in header)
    if len(header) == 1:
        return named and (known == 1 or len(head.split("\n")) > 1)
    if known >= 2 or (known and named) or named:
        return True
    counts = Counter(line.count(delimiter) for line in head.split("\n")[:20] if line.strip())
    return known == 1 and len(counts) == 1 and len(header[0]) < 40


def read(source: Source) -> Iterator[Record | Bad]:
    first = next(records := _records(source), None)
    records = chain([] if first is None else [first], records)
    is_discord = isinstance(first, Record) and first.value.keys() >= discord.COLUMNS
    yield from discord.of_rows(records, source.me) if is_discord else records


def _records(source: Source) -> Iterator[Record | Bad]:
    csv.field_size_limit(encodings.LONGEST_LINE)
    delimiter, _ = _dialect(encodings.read_text(source, source.encoding, most=1 << 18))
    rows = _rows(encodings.lines(source, source.encoding), delimiter)
    first = list(islice(rows, SAMPLE))
    sample = [row.cells for row in first if isinstance(row, _Cells)]
    if sample and EXCEL.fullmatch("".join(sample[0])):
        first.remove(next(row for row in first if isinstance(row, _Cells)))
        del sample[0]
    has_header = not sample or table_rows.is_header(sample[0])
    header = _without_end(sample[0], sample[1:]) if sample else []
    shape = table_rows.shape(header, sample[has_header:], delimiter)
    names = table_rows.named(header if has_header else [""] * len(header), shape.numbers)
    for row in chain(first, rows):
        if isinstance(row, Bad):
            yield row
        elif has_header:
            has_header = False
        elif any(cell.strip() for cell in row.cells):
            yield _record(row, names, shape)


def _without_end(header: list[str], rows: list[list[str]]) -> list[str]:
    """The header without empty cells at its end, below which nothing stands."""
    while header and not header[-1].strip() and not any("".join(cells[len(header) - 1 :]).strip() for cells in rows):
        header = header[:-1]
    return header


def _record(row: "_Cells", names: list[str], shape: table_rows.Shape) -> Record | Bad:
    cells = table_rows.fitted(row.cells, shape, row.quoted)
    if cells is None:
        reason = "too_many_cells" if len(row.cells) > shape.count else "cells_moved"
        return Bad(row.place, reason, shape.delimiter.join(row.cells)[:200])
    value = {name: cell for name, cell in zip(names, cells, strict=False) if name}
    if row.quoted or len(cells) == len(row.cells) or not any(shape.delimiter in cell for cell in cells):
        return Record(row.place, value)
    return Record(row.place, value, ("cells_joined",))


class _Cells(NamedTuple):
    """The cells of a row, its line, and whether there are quotes in it."""

    place: str
    cells: list[str]
    quoted: bool


class _Lines:
    """The lines of a file for csv.reader, which can be read again from any line of the row that is read now."""

    def __init__(self, lines: Iterator[encodings.Line]):
        self.lines, self.held, self.again, self.unreadable = lines, [], [], []

    def __iter__(self) -> Iterator[str]:
        size = 0
        while (line := self.again.pop() if self.again else next(self.lines, None)) is not None:
            if line.problem:
                self.unreadable.append(Bad(str(line.number), line.problem, line.text[:200]))
                continue
            size = size + len(line.text) if self.held else 0
            self.held.append(line)
            if size > LONGEST_ROW:
                raise csv.Error
            yield line.text.replace("\x00", "\ufffd") + "\n"

    def back(self, quoted: bool) -> list[encodings.Line]:
        """Give back the lines of a row that cannot be read, but for its first one and those that cannot begin a row."""
        count = 1
        while quoted and count < len(self.held) and not self.held[count].text.startswith('"'):
            count += 1
        self.again += self.held[: count - 1 : -1]
        return self.held[:count]


def _rows(lines: Iterator[encodings.Line], delimiter: str) -> Iterator[_Cells | Bad]:
    """Each row; one whose quotes do not fit is set aside, and reading goes on at the next line."""
    source, count, rows, quoted = _Lines(lines), 0, 0, 0
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    while True:
        source.held.clear()
        try:
            cells = next(reader, None)
            place = source.held[-1].number if source.held else 0
        except csv.Error:
            left = source.back(2 * quoted > rows)
            cells, place = _loosely_quoted(left[0].text, delimiter, count), left[0].number
            if cells is None:
                yield Bad(str(place), "open_quote", "\n".join(line.text for line in left)[:200])
            reader = csv.reader(source, delimiter=delimiter, strict=True)
        yield from source.unreadable
        source.unreadable.clear()
        if cells is None and not source.held:
            return
        if cells:
            count, rows, quoted = count or len(cells), rows + 1, quoted + source.held[0].text.startswith('"')
            # A row of several lines has quotes around them.
            yield _Cells(str(place), cells, len(source.held) > 1 or '"' in source.held[0].text)


def _loosely_quoted(line: str, delimiter: str, count: int) -> list[str] | None:
    """The cells of a line with quotes inside quotes, or None where a quote stays open."""
    mark = re.escape(delimiter)
    parts = re.findall(rf'(?:^|{mark})(?:"((?:[^"]|"(?!\s*(?:{mark}|$)))*)"\s*(?={mark}|$)|([^{mark}]*))', line)
    cells = [inside.replace('""', '"').replace('\\"', '"') or bare for inside, bare in parts]
    is_open = any(bare.startswith('"') and bare.count('"') % 2 for _, bare in parts)
    return cells if len(cells) == count and not is_open else None


def _dialect(head: str) -> tuple[str, list[str]]:
    lines = [line for line in re.split(r"[\r\n]+", head) if line.strip()]
    if lines and (told := EXCEL.fullmatch(lines[0].strip("\ufeff"))) and told[1]:
        return told[1], next(csv.reader(lines[1:2], delimiter=told[1]), [""])
    line = lines[0] if lines else ""
    outside = re.sub(r'"[^"]*"', "", line)
    delimiter = max(DELIMITERS, key=outside.count)
    if not outside.count(delimiter):
        return NO_DELIMITER, [line.strip()]
    return delimiter, next(csv.reader([line], delimiter=delimiter), [line])


CSV = Format("csv", claims, read)
