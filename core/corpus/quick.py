"""Lines of JSON that are normal rows as they stand: told, given their ids and written many at a time.

A block of lines is matched against the few shapes in which programs write chats and texts. A line that matches needs
no parsing: its bytes go into the corpus between its id and its place. Every other line is the careful reader's.
"""

from dataclasses import dataclass, field
from hashlib import sha256

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
TOGETHER = 400  # rows whose copies stay in the processor's cache
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


@dataclass
class Taken:
    """The lines of a block that are rows: their numbers in it, their ids (8 bytes each) and what is to be written."""

    numbers: list[int] = field(default_factory=list)
    ids: list[bytes] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    kind: str = ""
    characters: int = 0


def take(data: bytes, lines: list[bytes], name: str, first: int, *, repair: bool = True) -> Taken:
    """Those rows of a block of whole lines that need nothing; `first` is the number of its first line in the file.

    With `repair` a line that may have been decoded wrongly is left to the careful reader.
    """
    shape = next((one for one in SHAPES if data.startswith(one.start()) or b"\n" + one.start() in data), None)
    shape = shape or next((one for one in SHAPES if one.kind == "chat" and one.start("system") in data), None)
    if shape is None:
        return Taken()
    numbers = _matching(data, lines, shape, repair)
    if len(numbers) == 0:
        return Taken()
    if len(numbers) < len(lines):
        lines = [lines[number] for number in numbers]
        data = b"\n".join(lines) + b"\n"
    taken, name = Taken(numbers, kind=shape.kind, characters=_characters(data)), orjson.dumps(name).decode()
    for start in range(0, len(lines), TOGETHER):
        some = lines[start : start + TOGETHER]
        contents, frames = (_texts if shape.kind == "text" else _chats)(some, shape)
        ids = [sha256(content).digest()[:8] for content in contents]
        codes, end = b"".join(ids).hex().encode(), f',"source":{{"file":{name},"line":"'.encode()
        places = (first + number for number in numbers[start : start + TOGETHER])
        taken.lines += [
            b'{"id":"%b",%b%b%d"}}\n' % (codes[16 * at : 16 * at + 16], line[1:-1], end, place)
            for at, (line, place) in enumerate(zip(some, places, strict=True))
        ]
        taken.ids += ids
        taken.characters -= frames
    return taken


def _matching(data: bytes, lines: list[bytes], shape: Shape, repair: bool) -> list[int]:
    """The numbers of the lines that have this shape and look well."""
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == 10).astype(np.int32) + 1
    offsets = pa.py_buffer(np.concatenate((np.zeros(1, np.int32), ends)))
    array = pa.StringArray.from_buffers(len(ends), offsets, pa.py_buffer(data))
    matched = pc.match_substring_regex(array, shape.pattern(_SURE)).to_numpy(zero_copy_only=False)
    if matched.all():
        return range(len(lines))
    rest = np.flatnonzero(~matched)
    loose = pc.match_substring_regex(array.take(pa.array(rest)), shape.pattern(_LOOSE)).to_numpy(zero_copy_only=False)
    for number in rest[loose]:
        try:
            text = lines[number].decode()
        except UnicodeDecodeError:
            continue
        if not (repair and mojibake.is_suspect(text) and _is_spoilt(orjson.loads(text), shape)):
            matched[number] = True
    return np.flatnonzero(matched).tolist()


def _is_spoilt(row: dict, shape: Shape) -> bool:
    texts = [row["text"]] if shape.kind == "text" else [turn["content"] for turn in row["messages"]]
    return any(mojibake.is_spoilt(line) for text in texts for line in text.split("\n"))


def _texts(lines: list[bytes], shape: Shape) -> tuple[list[bytes], int]:
    """What row_id hashes for each row, and how many characters are not of the texts."""
    before = len(shape.start()) - 1
    return [line[before:-1] for line in lines], len(lines) * (before + 4)


def _chats(lines: list[bytes], shape: Shape) -> tuple[list[bytes], int]:
    """What row_id hashes for each row, and how many characters are not of the turns."""
    before_reply, before_question = (b'"}' + shape.comma.encode() + shape.turn(role) for role in ("assistant", "user"))
    start = shape.start("system")
    user, system = len(shape.start()), len(start)
    systems = [at for at, line in enumerate(lines) if line.startswith(start)]
    asked = [line[user:-4] for line in lines]
    for at in systems:
        asked[at] = lines[at][system:-4]
    replied = [said.replace(before_reply, _USER) for said in asked]
    # Neither length is the same before and after, so the difference tells how many there were.
    replies = (sum(map(len, replied)) - sum(map(len, asked))) // (len(_USER) - len(before_reply))
    questions = replies - len(lines) + len(systems)
    contents = [
        b'[{"content": "%b", "role": "assistant"}]' % said.replace(before_question, _ASSISTANT) for said in replied
    ]
    for at in systems:
        contents[at] = contents[at].replace(_ASSISTANT, _SYSTEM, 1)
    frames = len(lines) * (user + 5) + len(systems) * (system - user)
    frames += replies * len(before_reply) + questions * len(before_question)
    return contents, frames


def _characters(data: bytes) -> int:
    """Characters of JSON texts, an escape counted as the one that it stands for."""
    codes = np.frombuffer(data, np.uint8)
    inside = int(np.count_nonzero(codes.view(np.int8) < -64))  # bytes that go on with a character of several bytes
    escapes = int(np.count_nonzero(codes == 92))
    if escapes and np.count_nonzero((codes[1:] == 92) & (codes[:-1] == 92)):
        escapes -= data.count(b"\\\\")
    return len(data) - inside - escapes
