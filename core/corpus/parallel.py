"""Large JSON Lines files in parts, one helper process a core.

The parts are asked for and taken in order, so the corpus is the same as if one process had read the file. A helper
ends when the reader's end of its pipe closes, however that happens.
"""

import json
import os
import pickle
import subprocess
import sys
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import orjson

from core.corpus import disk, formats, reading
from core.corpus.sources import Source

SMALLEST = 32 * 2**20  # bytes of a file that is worth the start of helpers
PART = 8 * 2**20  # bytes
AHEAD = 2  # parts that each helper is given in advance
ROOT = Path(__file__).parents[2]


@dataclass
class Part:
    """What one part of a file became: whole lines for the shard, and all that is counted."""

    lines: bytes = b""
    lengths: array = field(default_factory=lambda: array("I"))  # bytes of each line
    ids: str = ""  # 16 hex digits a row
    kinds: Counter = field(default_factory=Counter)
    characters: int = 0
    set_aside: list[reading.SetAside] = field(default_factory=list)
    repaired: list[reading.Row] = field(default_factory=list)


def applies(one: formats.Opened) -> bool:
    """Whether a source is read in parts: a plain and large JSONL file in UTF-8, on a machine with cores for it."""
    source = one.source
    known = one.format == "jsonl" and one.encoding in ("utf-8", "utf-8-sig")
    return known and source.path is not None and source.size >= SMALLEST and _cores() > 1


def parts(source: Source, options: reading.Options) -> Iterator[tuple[Part, int]]:
    """The parts of a file in order, each with how many bytes have been read."""
    # Not with -m: what is pickled must not belong to __main__.
    command = [sys.executable, "-c", "from core.corpus import parallel; parallel.main()"]
    helpers = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(_cores())
    ]
    try:
        asked: list[tuple[subprocess.Popen, int]] = []
        for number, (start, end, line) in enumerate(_ranges(source.path)):
            helper = helpers[number % len(helpers)]
            said = {"path": str(source.path), "start": start, "end": end, "line": line, "name": source.name}
            said |= {"encoding": source.encoding, "options": asdict(options)}
            helper.stdin.write(json.dumps(said).encode() + b"\n")
            helper.stdin.flush()
            asked.append((helper, end))
            if len(asked) >= AHEAD * len(helpers):
                yield _taken(*asked.pop(0))
        for helper, end in asked:
            yield _taken(helper, end)
    finally:
        for helper in helpers:
            helper.kill()
            helper.wait()
            helper.stdin.close()
            helper.stdout.close()


def _cores() -> int:
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _taken(helper: subprocess.Popen, end: int) -> tuple[Part, int]:
    size = helper.stdout.read(8)
    if len(size) < 8:
        raise RuntimeError("A helper of the import ended early.")
    return pickle.loads(helper.stdout.read(int.from_bytes(size))), end


def _ranges(path: Path) -> Iterator[tuple[int, int, int]]:
    """(start, end, number of the first line) of parts that end with whole lines."""
    start, line = 0, 1
    with path.open("rb") as file:
        while block := file.read(PART):
            count, end = block.count(b"\n"), start + len(block)
            while not block.endswith(b"\n") and (block := file.readline(PART)):
                count, end = count + block.endswith(b"\n"), end + len(block)
            yield start, end, line
            start, line = end, line + count


def read_part(asked: dict) -> Part:
    """Read one part with the reader of whole files."""

    def opened():
        file = open(asked["path"], "rb")  # noqa: SIM115
        file.seek(asked["start"])
        return _Until(file, asked["end"] - asked["start"])

    encoding = asked["encoding"] if asked["start"] == 0 else "utf-8"
    source = Source(asked["name"], opened, asked["end"] - asked["start"], encoding=encoding)
    one = formats.Opened(source, "jsonl", encoding, formats.json_lines.read(replace(source, encoding=encoding)))
    part, lines, ids, shift = Part(), [], [], asked["line"] - 1
    for found in reading.read(one, reading.Options(**asked["options"])):
        place = str(int(found.place) + shift)
        if isinstance(found, reading.SetAside):
            part.set_aside.append(replace(found, place=place))
            continue
        identity = disk.row_id(found.row)
        line = orjson.dumps({"id": identity} | found.row | {"source": {"file": found.file, "line": place}}) + b"\n"
        ids.append(identity)
        lines.append(line)
        part.lengths.append(len(line))
        kind, characters = disk.weight(found.row)
        part.kinds[kind] += 1
        part.characters += characters
        if found.repairs:
            shown = found.before[:2000], found.after[:2000]
            part.repaired.append(reading.Row({}, found.file, place, found.repairs, *shown))
    part.lines, part.ids = b"".join(lines), "".join(ids)
    return part


class _Until:
    """A file that ends after so many bytes."""

    def __init__(self, file, left: int):
        self.file, self.left = file, left

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def readline(self, most: int = -1) -> bytes:
        line = self.file.readline(min(most, self.left) if most >= 0 else self.left)
        self.left -= len(line)
        return line

    def read(self, most: int = -1) -> bytes:
        data = self.file.read(min(most, self.left) if most >= 0 else self.left)
        self.left -= len(data)
        return data


def main() -> None:
    for line in sys.stdin.buffer:
        data = pickle.dumps(read_part(json.loads(line)), protocol=5)
        sys.stdout.buffer.write(len(data).to_bytes(8) + data)
        sys.stdout.buffer.flush()
