"""CSV and TSV: a header and rows of strings; nothing is turned into a number, a date or a null."""

import csv
import re
from collections import Counter
from collections.abc import Iterator

from core.corpus import encodings, schema
from core.corpus.sources import Bad, Format, Record, Source

DELIMITERS = ",;\t|"
KINDS = ("ask", "input", "answer", "text", "system", "messages", "role")
KNOWN = {name for kind in KINDS for name in schema.NAMES[kind]} | {*schema.OURS, "history", "rejected"}


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
    csv.field_size_limit(encodings.LONGEST_LINE)
    first = encodings.read_text(source, source.encoding, most=1 << 18)
    delimiter, _ = _dialect(first)
    unreadable: list[Bad] = []

    def texts() -> Iterator[str]:
        for line in encodings.lines(source, source.encoding):
            if line.problem:
                unreadable.append(Bad(str(line.number), line.problem, line.text[:200]))
            else:
                yield line.text.replace("\x00", "\ufffd") + "\n"

    reader = csv.reader(texts(), delimiter=delimiter)
    header = [name.strip().strip("\ufeff") for name in next(reader, [])]
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield Bad(str(reader.line_num), "bad_csv", str(error))
            continue
        yield from unreadable
        unreadable.clear()
        if cells is None:
            return
        if not any(cell.strip() for cell in cells):
            continue
        place = str(reader.line_num)
        if len(cells) > len(header):
            yield Bad(place, "too_many_cells", delimiter.join(cells)[:200])
            continue
        yield Record(place, {name: cell for name, cell in zip(header, cells, strict=False) if name})


def _dialect(head: str) -> tuple[str, list[str]]:
    line = next((line for line in re.split(r"[\r\n]+", head) if line.strip()), "")
    outside = re.sub(r'"[^"]*"', "", line)
    delimiter = max(DELIMITERS, key=outside.count)
    if not outside.count(delimiter):
        return ",", [line.strip()]
    return delimiter, next(csv.reader([line], delimiter=delimiter), [line])


CSV = Format("csv", claims, read)
