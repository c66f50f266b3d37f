"""Lines of JSON that are normal rows as they stand: told, given their ids and written many at a time.

A block of lines is matched against the few shapes in which programs write chats and texts. A line that matches needs
no parsing: its bytes go into the corpus between its id and its place. Every other line is the careful reader's.
"""

from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from core.corpus import mojibake

# What stands in a JSON string. Escapes other than these are written in another way by row_id, so they are parsed.
_ASCII, _ESCAPED = r"!#-\[\]-\x7f", r"\\[\"\\b]"
_SPACE = "(?:[ \u00a0\u202f]|\\\\[nrtf])"
_SMALL, _LARGE = "а-яё", "А-ЯЁ–—"
_SURE_AFTER = f"(?:[{_ASCII}{_SMALL}]|{_ESCAPED})"  # and spaces: what may follow a capital or a dash, see mojibake
_FIRST = f"(?:[{_LARGE}]?{_SURE_AFTER}|[{_LARGE}]{_SPACE}|[{mojibake.SIGNS}])"
_SURE = f"{_SPACE}*(?:{_FIRST}(?:[{_LARGE}]?(?:{_SURE_AFTER}|{_SPACE})|[{mojibake.SIGNS}])*[{_LARGE}]?|[{_LARGE}])"
_BLANK = "\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_LOOSE = rf"{_SPACE}*(?:[^\"\\\x00-\x20{_BLANK}]|{_ESCAPED})(?:[^\"\\\x00-\x1f]|\\[\"\\bnrtf])*"
# Between the contents of two turns, as row_id has them.
_USER, _ASSISTANT, _SYSTEM = (
    f'", "role": "{role}"}}, {{"content": "'.encode() for role in ("user", "assistant", "system")
)


@dataclass(frozen=True)
class Shape:
    """How a program writes rows: with or without spaces after its colons and commas."""

    colon: str
    comma: str
    kind: str = "chat"

    def turn(self, role: str) -> bytes:
        """What stands before the content of a turn."""
        return f'{{"role"{self.colon}"{role}"{self.comma}"content"{self.colon}"'.encode()

    def start(self, role: str = "user") -> bytes:
        """What stands before the first content of a row."""
        if self.kind == "text":
            return f'{{"text"{self.colon}"'.encode()
        return f'{{"messages"{self.colon}['.encode() + self.turn(role)

    def pattern(self, content: str) -> str:
        """A whole line of this shape whose texts match `content`."""
        if self.kind == "text":
            return rf'^\{{"text"{self.colon}"{content}"\}}\n$'
        said = {
            role: rf'\{{"role"{self.colon}"{role}"{self.comma}"content"{self.colon}"{content}"\}}'
            for role in ("system", "user", "assistant")
        }
        pair = said["user"] + self.comma + said["assistant"]
        start = rf'^\{{"messages"{self.colon}\[(?:{said["system"]}{self.comma})?'
        return rf"{start}{pair}(?:{self.comma}{pair})*\]\}}\n$"


SHAPES = [Shape(colon, comma, kind) for colon, comma in ((": ", ", "), (":", ",")) for kind in ("chat", "text")]


class Taken(NamedTuple):
    """The lines of a block that are rows: their numbers in it, their ids (8 bytes each) and what is to be written."""

    numbers: np.ndarray
    ids: bytes = b""
    lines: pa.BinaryArray | None = None
    kind: str = ""
    characters: int = 0


def take(data: bytes, name: str, first: int, *, repair: bool = True) -> Taken:
    """Those rows of a block of whole lines that need nothing; `first` is the number of its first line in the file.

    With `repair` a line that may have been decoded wrongly is left to the careful reader.
    """
    shape = next((one for one in SHAPES if data.startswith(one.start()) or b"\n" + one.start() in data), None)
    shape = shape or next((one for one in SHAPES if one.kind == "chat" and one.start("system") in data), None)
    if shape is None:
        return Taken(np.zeros(0, int))
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == 10).astype(np.int32) + 1
    offsets = np.concatenate((np.zeros(1, np.int32), ends))
    matched = _matching(data, offsets, shape, repair)
    numbers = np.flatnonzero(matched)
    if len(numbers) == 0:
        return Taken(numbers)
    rows = _array(pa.binary(), offsets, data)
    rows = rows if len(numbers) == len(rows) else rows.filter(pa.array(matched))
    contents, frames = _texts(rows, shape) if shape.kind == "text" else _chats(rows, shape)
    ids = b"".join([sha256(content).digest()[:8] for content in pieces(contents)])
    codes = _array(pa.binary(), np.arange(0, 2 * len(ids) + 1, 16, dtype=np.int32), ids.hex().encode())
    places = pc.cast(pc.cast(pa.array(numbers + first), pa.string()), pa.binary())
    source = b',"source":{"file":' + orjson.dumps(name) + b',"line":"'
    lines = _joined(b'{"id":"', codes, b'",', pc.binary_slice(rows, 1, -2), source, places, b'"}}\n')
    return Taken(numbers, ids, lines, shape.kind, _characters(rows) - frames)


def pieces(array: pa.BinaryArray) -> list[memoryview]:
    """The bytes of each element, not copied."""
    offsets, data = _offsets(array).tolist(), memoryview(array.buffers()[2])
    return [data[start:end] for start, end in pairwise(offsets)]


def lengths(array: pa.BinaryArray) -> np.ndarray:
    return np.diff(_offsets(array))


def _offsets(array: pa.BinaryArray) -> np.ndarray:
    return np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]


def _array(kind: pa.DataType, offsets: np.ndarray, data: bytes) -> pa.Array:
    return pa.Array.from_buffers(kind, len(offsets) - 1, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def _joined(*parts: pa.Array | bytes) -> pa.BinaryArray:
    """Elements put together, what is one and the same in all of them given once."""
    return pc.binary_join_element_wise(
        *[pa.scalar(part, pa.binary()) if isinstance(part, bytes) else part for part in parts],
        pa.scalar(b"", pa.binary()),
    )


def _matching(data: bytes, offsets: np.ndarray, shape: Shape, repair: bool) -> np.ndarray:
    """Whether each line has this shape and looks well."""
    lines = _array(pa.string(), offsets, data)
    matched = pc.match_substring_regex(lines, shape.pattern(_SURE)).to_numpy(zero_copy_only=False)
    if matched.all():
        return matched
    rest = np.flatnonzero(~matched)
    loose = pc.match_substring_regex(lines.take(pa.array(rest)), shape.pattern(_LOOSE)).to_numpy(zero_copy_only=False)
    for number in rest[loose]:
        try:
            text = data[offsets[number] : offsets[number + 1]].decode()
        except UnicodeDecodeError:
            continue
        if not (repair and mojibake.is_suspect(text) and _is_spoilt(orjson.loads(text), shape)):
            matched[number] = True
    return matched


def _is_spoilt(row: dict, shape: Shape) -> bool:
    texts = [row["text"]] if shape.kind == "text" else [turn["content"] for turn in row["messages"]]
    return any(mojibake.is_spoilt(line) for text in texts for line in text.split("\n"))


def _texts(rows: pa.BinaryArray, shape: Shape) -> tuple[pa.BinaryArray, int]:
    """What row_id hashes for each row, and how many characters are not of the texts."""
    before = len(shape.start()) - 1
    return pc.binary_slice(rows, before, -2), len(rows) * (before + 4)


def _chats(rows: pa.BinaryArray, shape: Shape) -> tuple[pa.BinaryArray, int]:
    """What row_id hashes for each row, and how many characters are not of the turns."""
    begins = pc.starts_with(rows, shape.start("system"))
    if not (systems := begins.true_count):
        return _of_role(rows, shape, "user")
    if systems == len(rows):
        return _of_role(rows, shape, "system")
    parts = [_of_role(rows.filter(pc.invert(begins)), shape, "user"), _of_role(rows.filter(begins), shape, "system")]
    order = np.argsort(np.argsort(begins.to_numpy(zero_copy_only=False), kind="stable"))
    return pa.concat_arrays([part for part, _ in parts]).take(pa.array(order)), sum(frames for _, frames in parts)


def _of_role(rows: pa.BinaryArray, shape: Shape, role: str) -> tuple[pa.BinaryArray, int]:
    """The same for chats that all begin with a turn of one role."""
    before_reply, before_question = (b'"}' + shape.comma.encode() + shape.turn(name) for name in ("assistant", "user"))
    given = pc.binary_slice(rows, len(shape.start(role)), -5)
    said = pc.replace_substring(given, before_reply, _USER)
    # The length is not the same before and after, so the difference tells how many replies there are.
    replies = int(lengths(said).sum() - lengths(given).sum()) // (len(_USER) - len(before_reply))
    questions = replies - len(rows) if role == "user" else replies
    if questions:
        said = pc.replace_substring(said, before_question, _ASSISTANT)
    if role == "system":
        said = pc.replace_substring(said, _ASSISTANT, _SYSTEM, max_replacements=1)
    frames = len(rows) * (len(shape.start(role)) + 5) + replies * len(before_reply) + questions * len(before_question)
    return _joined(b'[{"content": "', said, b'", "role": "assistant"}]'), frames


def _characters(rows: pa.BinaryArray) -> int:
    """Characters of JSON lines, an escape counted as the one that it stands for."""
    offsets = _offsets(rows)
    data = memoryview(rows.buffers()[2])[offsets[0] : offsets[-1]]
    codes = np.frombuffer(data, np.uint8)
    inside = int(np.count_nonzero(codes.view(np.int8) < -64))  # bytes that go on with a character of several bytes
    escapes = int(np.count_nonzero(codes == 92))
    if escapes and np.count_nonzero((codes[1:] == 92) & (codes[:-1] == 92)):
        escapes -= bytes(data).count(b"\\\\")
    return len(data) - inside - escapes
