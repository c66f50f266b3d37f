"""CSV and TSV: a header and rows of strings; nothing is turned into a number, a date or a null."""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain

from core.corpus import encodings, schema
from core.corpus.formats import discord
from core.corpus.sources import Bad, Format, Record, Source

LONGEST_ROW = 4 * 1024 * 1024  # characters after which a quote counts as never closed
NO_DELIMITER = "\x1f"  # of one column, whose lines may have commas
DELIMITERS = ",;\t|"
EXCEL = re.compile(r"sep=([,;\t|])?", re.IGNORECASE)  # the first line tells Excel the delimiter
KINDS = ("ask", "input", "answer", "text", "system", "messages", "role")
KNOWN = {name for kind in KINDS for name in schema.NAMES[kind]} | {*schema.OURS, "history", "rejected"} - {"q", "a"}


def claims(source: Source, head: str) -> bool:
    named = source.name.lower().removesuffix(".gz").removesuffix(".zst").endswith((".csv", ".tsv"))
    delimiter, header = _dialect(head)
    known = sum(cell.strip().strip('"').lower() in KNOWN for cell in header)
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
    header: list[str] = []
    for row in _rows(encodings.lines(source, source.encoding), delimiter):
        if isinstance(row, Bad):
            yield row
            continue
        place, cells = row
        while len(cells) > len(header) > 0 and not cells[-1].strip():  # behind a delimiter at the end of the line
            cells = cells[:-1]
        if not header and place == "1" and EXCEL.fullmatch("".join(cells)):
            continue
        if not header:
            header = [name.strip().strip("\ufeff") for name in cells]
        elif len(cells) > len(header):
            yield Bad(place, "too_many_cells", delimiter.join(cells)[:200])
        elif any(cell.strip() for cell in cells):
            yield Record(place, {name: cell for name, cell in zip(header, cells, strict=False) if name})


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


def _rows(lines: Iterator[encodings.Line], delimiter: str) -> Iterator[tuple[str, list[str]] | Bad]:
    """(line, cells) of each row; one whose quotes do not fit is set aside, and reading goes on at the next line."""
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
            yield str(place), cells


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
