"""Large JSON Lines files in parts, one helper process a core.

The parts are asked for and taken in order, so the corpus is the same as if one process had read the file. A helper
ends when the reader's end of its pipe closes, however that happens.
"""

import codecs
import io
import json
import os
import pickle
import subprocess
import sys
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from json.encoder import encode_basestring
from pathlib import Path

import orjson

from core.corpus import disk, encodings, formats, mojibake, reading
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
        for number, (start, end, line, too_long) in enumerate(_ranges(source.path)):
            helper = helpers[number % len(helpers)]
            said = {"path": str(source.path), "start": start, "end": end, "line": line, "name": source.name}
            said |= {"options": asdict(options), "too_long": too_long}
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


def _ranges(path: Path) -> Iterator[tuple[int, int, int, bool]]:
    """(start, end, number of the first line, whether it is one line too long to read) of parts of whole lines."""
    start, line = 0, 1
    with path.open("rb") as file:
        while block := file.read(PART):
            whole, count = block.rfind(b"\n") + 1, block.count(b"\n")
            end = start + len(block)
            while not block.endswith(b"\n") and (block := file.readline(PART)):
                end += len(block)
            if end - start - whole > encodings.LONGEST_LINE:
                if whole:
                    yield start, start + whole, line, False
                yield start + whole, end, line + count, True
            else:
                yield start, end, line, False
            start, line = end, line + count + (end - start > whole)


def read_part(asked: dict) -> Part:
    """Read one part: rows that are normal already by the short way, all others by the reader of whole files."""
    options, name = reading.Options(**asked["options"]), asked["name"]
    if asked["too_long"]:
        return Part(set_aside=[reading.SetAside(name, str(asked["line"]), "line_too_long", "", "")])
    with open(asked["path"], "rb") as file:
        file.seek(asked["start"])
        data = file.read(asked["end"] - asked["start"])
    data = data.removeprefix(codecs.BOM_UTF8) if asked["start"] == 0 else data
    quick = options.mapping is None
    # Escapes hide letters from the search over the whole part: then each row is searched.
    looks, spoilt = b"\\u" in data, _may_be_spoilt(data)
    part, lines, ids = Part(), [], []
    repairer = mojibake.Repairer()
    for number, raw in enumerate(data.split(b"\n"), asked["line"]):
        row, content = _quickly(raw) if quick else (None, None)
        if content is not None and not ((looks or spoilt) and mojibake.is_suspect(content)):
            row["source"] = {"file": name, "line": str(number)}
            identity = sha256(content.encode()).hexdigest()[:16]
            _keep(part, row, identity, lines, ids)
            continue
        for found in _carefully(raw, name, options, repairer):
            if isinstance(found, reading.SetAside):
                part.set_aside.append(replace(found, place=str(number)))
                continue
            row = found.row | {"source": {"file": name, "line": str(number)}}
            _keep(part, row, disk.row_id(row), lines, ids)
            if found.repairs:
                shown = {"before": found.before[:2000], "after": found.after[:2000]}
                part.repaired.append(found._replace(row={}, place=str(number), **shown))
    part.lines, part.ids = b"".join(lines), "".join(ids)
    return part


def _keep(part: Part, row: dict, identity: str, lines: list[bytes], ids: list[str]) -> None:
    line = orjson.dumps({"id": identity} | row) + b"\n"
    ids.append(identity)
    lines.append(line)
    part.lengths.append(len(line))
    kind, characters = disk.weight(row)
    part.kinds[kind] += 1
    part.characters += characters


def _may_be_spoilt(data: bytes) -> bool:
    """Whether a line of a part may have been decoded wrongly; a part that is not UTF-8 is looked at line by line."""
    try:
        return mojibake.is_suspect(data.decode())
    except UnicodeDecodeError:
        return True


def _quickly(raw: bytes) -> tuple[dict | None, str | None]:
    try:
        row = orjson.loads(raw)
    except ValueError:
        return None, None
    return row, _normal_content(row)


_ROLES = {"user": '", "role": "user"}', "assistant": '", "role": "assistant"}', "system": '", "role": "system"}'}


def _normal_content(row: object) -> str | None:
    """What row_id hashes, for a row that is normal as it stands; None for any other."""
    if type(row) is not dict or len(row) != 1:
        return None
    if (turns := row.get("messages")) is None:
        text = row.get("text")
        return encode_basestring(text) if type(text) is str and text and not text.isspace() else None
    if type(turns) is not list:
        return None
    wanted, parts = None, []
    for turn in turns:
        if type(turn) is not dict or len(turn) != 2:
            return None
        role, content = turn.get("role"), turn.get("content")
        if type(content) is not str or not content or content.isspace() or type(role) is not str:
            return None
        if role != wanted and not (wanted is None and role in ("system", "user")):
            return None
        wanted = "user" if role in ("system", "assistant") else "assistant"
        parts.append('{"content": ' + encode_basestring(content)[:-1] + _ROLES[role])
    return "[" + ", ".join(parts) + "]" if wanted == "user" and len(parts) > 1 else None


def _carefully(raw: bytes, name: str, options: reading.Options, repairer) -> Iterator[reading.Row | reading.SetAside]:
    """What the reader of whole files makes of one line."""
    source = Source(name, lambda: io.BytesIO(raw), len(raw), encoding="utf-8")
    one = formats.Opened(source, "jsonl", "utf-8", formats.json_lines.read(source))
    return reading.read(one, options, repairer)


def main() -> None:
    for line in sys.stdin.buffer:
        data = pickle.dumps(read_part(json.loads(line)), protocol=5)
        sys.stdout.buffer.write(len(data).to_bytes(8) + data)
        sys.stdout.buffer.flush()
