"""JSON that is one value or several: an array of rows, pretty-printed objects, and the exports of chat services."""

import re
from collections.abc import Iterator

import orjson

from core.corpus import encodings
from core.corpus.formats import json_lines, json_shapes, telegram
from core.corpus.sources import Bad, Record, Source

NAME = "json"
WHOLE_UP_TO = 128 * 1024 * 1024  # bytes that are parsed at once; larger files are read object by object
STARTS = re.compile(r'\s*(?:\[\s*(?:[\[{"\]]|$)|\{\s*(?:["}]|$))')


def claims(source: Source, head: str) -> bool:
    return STARTS.match(head) is not None


def read(source: Source) -> Iterator[Record | Bad]:
    if source.size <= WHOLE_UP_TO:
        text = encodings.read_text(source, source.encoding)
        try:
            yield from _of_value(orjson.loads(text), source.me)
            return
        except ValueError:
            whole = json_lines.parsed(text, "#1")
            if isinstance(whole, Record) and isinstance(whole.value, (list, dict)):
                yield from _of_value(whole.value, source.me)
                return
        yield from _objects(line + "\n" for line in text.split("\n"))
        return
    yield from _objects(line.text + "\n" for line in encodings.lines(source, source.encoding))


def _of_value(value: object, me: str = "") -> Iterator[Record | Bad]:
    for export in json_shapes.EXPORTS:
        if export.is_export(value):
            yield from export.chats(value, me) if export is telegram else export.chats(value)
            return
    if isinstance(value, dict):
        if (rows := json_shapes.boxed_rows(value)) is not None:
            yield from _of_value(rows)
            return
        if json_shapes.is_table(value):
            for number, cells in enumerate(zip(*value.values(), strict=True), 1):
                yield Record(f"#{number}", dict(zip(value, cells, strict=True)))
            return
        value = [value]
    if (
        isinstance(value, list)
        and value
        and all(isinstance(turn, dict) and json_shapes.is_turn(turn) for turn in value[:50])
    ):
        value = [value]
    if not isinstance(value, list):
        yield Bad("#1", "no_records", str(value)[:200])
        return
    if not value:
        yield Bad("", "empty_file")
    for number, record in enumerate(value, 1):
        yield Record(f"#{number}", record)


_MARK = re.compile(r'["{}]|\\.', re.DOTALL)


def _objects(lines: Iterator[str]) -> Iterator[Record | Bad]:
    """Every top-level `{...}` of damaged or huge JSON; after one that never ends, reading goes on at the next line.

    The lines are kept only while an object is open.
    """
    number, depth, in_string, held = 0, 0, False, []
    for line in lines:
        restart = depth and line.lstrip()[:1] == "{" and len(held) > 0 and _is_new_row(line, held)
        if restart:
            number += 1
            yield Bad(f"#{number}", "bad_json", "".join(held)[:200])
            depth, in_string, held = 0, False, []
        start = 0
        for mark in _MARK.finditer(line):
            sign = mark.group()
            if sign == '"':
                in_string = not in_string if depth else False
            elif in_string or sign[0] == "\\":
                continue
            elif sign == "{":
                if depth == 0:
                    start = mark.start()
                depth += 1
            elif sign == "}" and depth:
                depth -= 1
                if depth == 0:
                    number += 1
                    held.append(line[start : mark.end()])
                    yield json_lines.parsed("".join(held), f"#{number}")
                    held = []
        if depth:
            held.append(line[start:])
    if depth or number == 0:
        yield Bad(f"#{number + 1}", "bad_json", "".join(held)[:200])


def _is_new_row(line: str, held: list[str]) -> bool:
    """Whether a line opens an object at the depth where the held one opened."""
    return len(line) - len(line.lstrip()) == 0 if len(held) == 1 and len(line.strip()) > 2 else False
