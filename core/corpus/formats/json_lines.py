"""JSON Lines: one record a line; a bad line is set aside and every other one is read."""

import json
import re
from collections.abc import Iterator

import orjson

from core.corpus import encodings
from core.corpus.formats import json_shapes
from core.corpus.sources import Bad, Record, Source

NAME = "jsonl"
STARTS = re.compile(r"\s*[\[{]")
LONG_LINE = 1 << 20  # bytes in which a second line is looked for
SURROGATE = re.compile("[\ud800-\udfff]")


def claims(source: Source, head: str) -> bool:
    if not STARTS.match(head):
        return False
    lines = [line for line in head.split("\n") if line.strip()]
    if lines[0].strip() in ("[", "{"):
        return False
    if len(lines) == 1:
        return _is_one_row(source, lines[0])
    if len(head) >= 2000:
        lines.pop()  # it may be cut
    whole = sum(_parses(line) for line in lines[:20])
    return whole > 0 and whole >= min(len(lines), 20) / 3


def read(source: Source) -> Iterator[Record | Bad]:
    if source.encoding not in ("utf-8", "utf-8-sig"):
        for line in encodings.lines(source, source.encoding):
            yield from _of_line(line)
        return
    decode = encodings.LineDecoder(source.encoding)
    for number, raw in encodings.raw_lines(source):
        try:
            yield Record(str(number), orjson.loads(raw), raw=raw)
        except ValueError:  # empty, too long, not UTF-8, or not quite JSON
            yield from _of_line(decode(number, raw))


def _of_line(line: encodings.Line) -> Iterator[Record | Bad]:
    if line.trouble:
        yield Bad(str(line.number), line.trouble, line.text[:200])
    elif line.text and not line.text.isspace():
        repairs = (line.repair,) if line.repair else ()
        try:
            yield Record(str(line.number), orjson.loads(line.text), repairs)
        except ValueError:
            yield parsed(line.text, str(line.number), repairs)


def parsed(text: str, place: str, repairs: tuple[str, ...] = ()) -> Record | Bad:
    """A record out of JSON that the fast parser refuses: NaN, lone surrogates, a byte order mark, a trailing comma."""
    text = text.strip().strip("\ufeff").rstrip(",")
    try:
        value = json.loads(text, strict=False)
    except RecursionError:
        return Bad(place, "nested_too_deep", text[:200])
    except ValueError:
        return Bad(place, "bad_json", text[:200])
    try:
        orjson.dumps(value)
    except TypeError:
        try:
            value = json.loads(SURROGATE.sub("\ufffd", json.dumps(value, ensure_ascii=False)))
        except (ValueError, RecursionError):
            return Bad(place, "bad_json", text[:200])
        repairs = (*repairs, "lone_surrogate")
    return Record(place, value, repairs)


def _parses(line: str) -> bool:
    try:
        return isinstance(orjson.loads(line.strip()), (dict, list))
    except ValueError:
        return False


def _is_one_row(source: Source, line: str) -> bool:
    """Whether a single line is a row and not a file of rows; a very long one is left to the reader of whole files."""
    if b"\n" in source.head(LONG_LINE)[:-1]:
        return line.lstrip().startswith("{")
    try:
        value = orjson.loads(line.strip())
    except ValueError:
        return False
    return isinstance(value, dict) and not json_shapes.is_box(value)
