"""JSON Lines, and JSON that is one value or several: an array of rows, pretty-printed objects, exports of chats.

Of JSON Lines a bad line is set aside and every other one is read.
"""

import ast
import json
import re
from collections.abc import Iterator

import orjson

from core.corpus import encodings, questions
from core.corpus.formats import chat_exports
from core.corpus.sources import Bad, Format, Record, Source

STARTS = re.compile(r"\s*[\[{]")
WHOLE_STARTS = re.compile(r"""\s*(?:\[\s*(?:[\[{"\]]|$)|\{\s*(?:["'}]|$))""")
LONG_LINE = 1 << 20  # bytes in which a second line is looked for
WHOLE_UP_TO = 128 * 1024 * 1024  # bytes that are parsed at once; larger files are read object by object
SURROGATE = re.compile("[\ud800-\udfff]")
BOXES = ("data", "rows", "examples", "train", "items", "records", "conversations", "dialogs", "chats")
LONGEST_LITERAL = 4_000_000  # characters; Python's parser needs a hundred times as much memory
_PYTHON = re.compile(r"\s*(?:\[\s*)*\{\s*'")
_DECODER, _BETWEEN = json.JSONDecoder(strict=False), re.compile(r"[\s,]*")
# What people write by hand, and JSON does not allow: comments, and a comma behind the last one.
_COMMENT = re.compile(r'("(?:[^"\\]|\\.)*+")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_LAST_COMMA = re.compile(r'("(?:[^"\\]|\\.)*+")|,(?=\s*[}\]])', re.DOTALL)
_MARK = re.compile(r'["{}]|\\.', re.DOTALL)


def _is_lines(source: Source, head: str) -> bool:
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


def _parses(line: str) -> bool:
    try:
        return isinstance(orjson.loads(line.strip()), (dict, list))
    except ValueError:
        return _literal(line) is not None


def _is_one_row(source: Source, line: str) -> bool:
    """Whether a single line is a row and not a file of rows; a very long one is left to the reader of whole files."""
    if b"\n" in source.head(LONG_LINE)[:-1]:
        return line.lstrip().startswith("{")
    try:
        value = orjson.loads(line.strip())
    except ValueError:
        return False
    return isinstance(value, dict) and not _is_box(value)


def read_lines(source: Source) -> Iterator[Record | Bad]:
    if source.encoding not in ("utf-8", "utf-8-sig"):
        for line in encodings.lines(source, source.encoding):
            yield from _of_line(line)
        return
    decode = encodings.LineDecoder(source.encoding)
    for number, raw in encodings.raw_lines(source):
        try:
            value = orjson.loads(raw)
        except ValueError:  # empty, too long, not UTF-8, or not quite JSON
            yield from _of_line(decode(number, raw))
            continue
        count = raw.count(b'":')
        plain = count == _plain_keys(value) or count == _keys(value)
        if not plain and _has_twins(_checked(raw.decode(), value)):
            yield Bad(str(number), "keys_twice", raw[:400].decode("utf-8", errors="replace"))
        else:
            yield Record(str(number), value, raw=raw)


def _of_line(line: encodings.Line) -> Iterator[Record | Bad]:
    if line.problem:
        yield Bad(str(line.number), line.problem, line.text[:200])
    elif line.text and not line.text.isspace():
        place, repairs = str(line.number), (line.repair,) if line.repair else ()
        record = parsed(line.text, place, repairs)
        fused = _fused(line.text) if isinstance(record, Bad) else []
        if not fused:
            yield record
        for part, text in enumerate(fused, 1):
            yield parsed(text, f"{place}.{part}", repairs)


def _fused(text: str) -> list[str]:
    """The objects of a line that has several, one after the other; none where anything else stands between them."""
    parts, at = [], 0
    while at < len(text):
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            return []
        if not isinstance(value, dict):
            return []
        parts.append(text[at:end])
        at = _BETWEEN.match(text, end).end()
    return parts


def _plain_keys(value: object) -> int:
    """How many keys the commonest rows have, quickly: a text, or turns of two fields."""
    if type(value) is not dict:
        return 0
    turns = value.get("messages")
    return len(value) + (2 * len(turns) if type(turns) is list else 0)


def _keys(value: object, deep: int = 4) -> int:
    """How many keys the objects of a row have, those of its turns among them."""
    if not deep or not isinstance(value, (dict, list)):
        return 0
    inside = value.values() if isinstance(value, dict) else value
    return len(value) * isinstance(value, dict) + sum(
        _keys(item, deep - 1) for item in inside if isinstance(item, (dict, list))
    )


def _checked(text: str, value: object) -> object:
    """The value of a JSON text, with its objects marked that have a key twice, where there are such."""
    try:
        marked = _with_twins(text)
    except (ValueError, RecursionError):
        return value
    return marked if _has_twins(marked) else value


class _Twins(dict):
    """An object that has a key twice: what stood under the first one is lost to every parser."""


def _with_twins(text: str) -> object:
    """The value of a JSON text, its objects with a key twice marked so."""

    def made(pairs: list[tuple[str, object]]) -> dict:
        value = dict(pairs)
        return value if len(value) == len(pairs) else _Twins(value)

    return json.loads(text, object_pairs_hook=made, strict=False)


def _has_twins(value: object) -> bool:
    if isinstance(value, dict):
        return isinstance(value, _Twins) or any(map(_has_twins, value.values()))
    return isinstance(value, list) and any(map(_has_twins, value))


def _literal(text: str) -> object:
    """The value of a row as Python prints it; None where it is none."""
    if not _PYTHON.match(text) or len(text) > LONGEST_LITERAL:
        return None
    try:
        value = ast.literal_eval(text.strip())
        orjson.dumps(value)
    except (TypeError, ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return value


def parsed(text: str, place: str, repairs: tuple[str, ...] = ()) -> Record | Bad:
    """A record out of JSON that the fast parser refuses: NaN, lone surrogates, a byte order mark, a trailing comma.

    Also one that Python printed, and not a JSON library.
    """
    text = text.strip().strip("\ufeff").rstrip(",")
    try:
        value = _with_twins(text)
    except RecursionError:
        return Bad(place, "nested_too_deep", text[:200])
    except ValueError:
        if (value := _by_hand(text)) is not None:
            return parsed(orjson.dumps(value).decode(), place, repairs)
        if (value := _literal(text)) is None:
            return Bad(place, "python_literal" if _PYTHON.match(text) else "bad_json", text[:200])
        return Record(place, value, (*repairs, "python_literal"))
    if _has_twins(value):
        return Bad(place, "keys_twice", text[:200])
    try:
        orjson.dumps(value)
    except TypeError:
        try:
            value = json.loads(SURROGATE.sub("\ufffd", json.dumps(value, ensure_ascii=False)))
        except (ValueError, RecursionError):
            return Bad(place, "bad_json", text[:200])
        repairs = (*repairs, "lone_surrogate")
    return Record(place, value, repairs)


def _by_hand(text: str) -> list | dict | None:
    """The value of a JSON text with comments and commas too many; None where it is none, or has a key twice."""
    if len(text) > LONGEST_LITERAL or not re.search(r",\s*[}\]]|//|/\*", text):
        return None
    for sign in (_COMMENT, _LAST_COMMA):
        text = sign.sub(lambda found: found[1] or "", text)
    try:
        value = orjson.loads(text)
        return None if _has_twins(_with_twins(text)) else value
    except (ValueError, RecursionError):
        return None


def read_whole(source: Source) -> Iterator[Record | Bad]:
    if source.size <= WHOLE_UP_TO:
        text = encodings.read_text(source, source.encoding)
        try:
            value = orjson.loads(text)
            value = value if text.count('":') == _keys(value) else _checked(text, value)
        except ValueError:
            whole = parsed(text, "#1")
            value = whole.value if isinstance(whole, Record) else None
        if isinstance(value, (list, dict)):
            yield from _of_value(value, source.me)
            return
        yield from _objects(line + "\n" for line in text.split("\n"))
        return
    yield from _objects(line.text + "\n" for line in encodings.lines(source, source.encoding))


def _of_value(value: object, me: str = "") -> Iterator[Record | Bad]:
    """The records of a parsed file; `me` is the speaker who is the assistant in a messenger's chats."""
    if (export := chat_exports.of(value)) is not None:
        yield from export(value, me)
        return
    if questions.is_squad(value):
        yield from questions.of_squad(value)
        return
    if isinstance(value, dict) and (rows := _boxed_rows(value)) is not None:
        yield from _of_value(rows)
        return
    if isinstance(value, dict):
        value = (
            [dict(zip(value, cells, strict=True)) for cells in zip(*value.values(), strict=True)]
            if _is_table(value)
            else [value]
        )
    elif isinstance(value, list) and value and all(isinstance(turn, dict) and _is_turn(turn) for turn in value[:50]):
        value = [value]
    if not isinstance(value, list):
        yield Bad("#1", "no_records", str(value)[:200])
        return
    if not value:
        yield Bad("", "empty_file")
    for number, record in enumerate(value, 1):
        twice = _has_twins(record)
        yield Bad(f"#{number}", "keys_twice", str(record)[:200]) if twice else Record(f"#{number}", record)


def _is_box(value: dict) -> bool:
    """Whether an object holds rows rather than being one."""
    return (
        chat_exports.of(value) is not None
        or questions.is_squad(value)
        or _boxed_rows(value) is not None
        or _is_table(value)
    )


def _boxed_rows(value: dict) -> list | None:
    for box in BOXES:
        rows = value.get(box)
        if isinstance(rows, list) and rows and isinstance(rows[0], dict) and not _is_turn(rows[0]):
            return rows
    return None


def _is_table(value: dict) -> bool:
    """Columns instead of rows: lists of one length under two names or more."""
    lists = [cells for cells in value.values() if isinstance(cells, list)]
    turns = any(cells and isinstance(cells[0], dict) and _is_turn(cells[0]) for cells in lists)
    same = len(value) == len(lists) > 1 and len({len(cells) for cells in lists}) == 1
    return same and not turns and "role" not in value


def _is_turn(value: dict) -> bool:
    return ("role" in value and "content" in value) or ("from" in value and "value" in value)


def _objects(lines: Iterator[str]) -> Iterator[Record | Bad]:
    """Every top-level `{...}` of damaged or huge JSON; after one that never ends, reading goes on at the next line.

    The lines are kept only while an object is open.
    """
    number, depth, in_string, held = 0, 0, False, []
    for line in lines:
        # A line that opens an object where the held one opened: that one never ends.
        if depth and len(held) == 1 and line[:1] == "{" and len(line.strip()) > 2:
            number += 1
            yield Bad(f"#{number}", "bad_json", "".join(held)[:200])
            depth, in_string, held = 0, False, []
        start = 0
        for mark in _MARK.finditer(line):
            sign = mark.group()
            if sign == '"':
                in_string = bool(depth) and not in_string
            elif sign == "{" and not in_string:
                start = start if depth else mark.start()
                depth += 1
            elif sign == "}" and depth and not in_string:
                depth -= 1
                if depth == 0:
                    number += 1
                    yield parsed("".join([*held, line[start : mark.end()]]), f"#{number}")
                    held = []
        if depth:
            held.append(line[start:])
    if depth or number == 0:
        yield Bad(f"#{number + 1}", "bad_json", "".join(held)[:200])


JSONL = Format("jsonl", _is_lines, read_lines)
JSON = Format("json", lambda source, head: WHOLE_STARTS.match(head) is not None, read_whole)
