"""Large JSON Lines files in parts, one helper process a core.

The parts are asked for and taken in order, so the corpus is the same as if one process had read the file. A helper
writes the rows of a part as a shard of the corpus and tells what it counted. It ends when the reader's end of its pipe
closes, however that happens.
"""

import codecs
import errno
import gc
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
from pathlib import Path
from typing import BinaryIO

import orjson

from core.corpus import encodings, mojibake, reading, storage
from core.corpus.formats import detection
from core.corpus.sources import Bad, Record, Source
from core.process import ROOT

SMALLEST = 32 * 2**20  # bytes of a file that is worth the start of helpers
PART = 8 * 2**20, 32 * 2**20  # bytes, at least and at most
BLOCK = 2 * 2**20  # bytes that a helper holds at once: what is made of them stays in the processor's cache
KEEP_MEMORY = {"MIMALLOC_PURGE_DELAY": "-1"}  # Arrow's allocator would give back what the next block needs again
AHEAD = 2  # parts that each helper is given in advance
EXAMPLES = 20  # repaired rows of a part that are told in full


@dataclass
class Part:
    """What one part of a file became: a shard of the corpus and all that is counted."""

    path: str
    lengths: array = field(default_factory=lambda: array("I"))  # bytes of each row's line
    ids: bytearray = field(default_factory=bytearray)  # 8 bytes a row
    kinds: Counter = field(default_factory=Counter)
    characters: int = 0
    set_aside: list[reading.SetAside] = field(default_factory=list)
    repairs: Counter = field(default_factory=Counter)
    repaired: list[reading.Row] = field(default_factory=list)  # the first few
    disk_full: bool = False


def applies(one: detection.Opened) -> bool:
    """Whether a source is read in parts: a plain and large JSONL file in UTF-8, on a machine with cores for it."""
    source = one.source
    known = one.format == "jsonl" and one.encoding in ("utf-8", "utf-8-sig")
    return known and source.path is not None and source.size >= SMALLEST and _cores() > 1


def parts(source: Source, options: reading.Options, folder: Path) -> Iterator[tuple[Part, int]]:
    """The parts of a file in order, each with how many bytes have been read; their rows are files in `folder`."""
    # Not with -m: what is pickled must not belong to __main__.
    command = [sys.executable, "-c", "from core.corpus import parallel; parallel.main()"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    helpers = [subprocess.Popen(command, cwd=ROOT, env=os.environ | KEEP_MEMORY, **pipes) for _ in range(_cores())]
    try:
        asked: list[tuple[subprocess.Popen, int]] = []
        for number, (start, end, line) in enumerate(_ranges(source.path)):
            helper = helpers[number % len(helpers)]
            said = {"path": str(source.path), "start": start, "end": end, "line": line, "name": source.name}
            said |= {"options": asdict(options), "to": str(folder / f"part-{number}")}
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
    """(start, end, number of the first line) of parts of whole lines."""
    import numpy as np

    least, most = PART
    wanted = min(most, max(least, path.stat().st_size // (4 * _cores())))
    buffer = bytearray(1 << 20)  # it stays in the processor's cache
    start, line, codes = 0, 1, np.frombuffer(buffer, np.uint8)
    with path.open("rb", buffering=0) as file:
        while True:
            end, count = start, 0
            while got := file.readinto(buffer):
                at = buffer.find(b"\n", max(0, start + wanted - 1 - end), got) + 1
                count += int(np.count_nonzero(codes[: at or got] == 10))
                end += at or got
                if at:
                    break
            if end == start:
                return
            yield start, end, line
            start, line = end, line + count
            file.seek(end)


def _blocks(file: BinaryIO, start: int, end: int) -> Iterator[bytes | None]:
    """Whole lines between two places of a file; None for one line that is too long to be held."""
    longest = encodings.LONGEST_LINE
    file.seek(start)
    while (left := end - file.tell()) > 0 and (block := file.read(min(BLOCK, left))):
        if block.endswith(b"\n"):
            yield block
            continue
        whole = block.rfind(b"\n") + 1
        rest = file.readline(longest + 1 - len(block) + whole)
        if len(block) - whole + len(rest) <= longest or rest.endswith(b"\n"):
            yield block + rest
            continue
        if whole:
            yield block[:whole]
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(BLOCK)
        yield None


def read_part(asked: dict) -> Part:
    """Read one part and write its rows."""
    part = Part(asked["to"])
    try:
        _read_blocks(asked, part)
    except (storage.CorpusDiskFull, OSError) as error:
        if getattr(error, "errno", errno.ENOSPC) != errno.ENOSPC:
            raise
        part.disk_full = True
    return part


def _read_blocks(asked: dict, part: Part) -> None:
    import numpy as np

    options, number, repairer = reading.Options(**asked["options"]), asked["line"], mojibake.Repairer()
    with open(asked["path"], "rb") as file, open(asked["to"], "wb") as out:
        for block in _blocks(file, asked["start"], asked["end"]):
            if block is None:
                part.set_aside.append(reading.SetAside(asked["name"], str(number), "line_too_long", "", ""))
                number += 1
                continue
            if number == 1:
                block = block.removeprefix(codecs.BOM_UTF8)
            block = block.replace(b"\r\n", b"\n") if b"\r" in block else block
            block = block if block.endswith(b"\n") else block + b"\n"
            storage.check_space(Path(asked["to"]).parent)
            count = int(np.count_nonzero(np.frombuffer(block, np.uint8) == 10))  # many times as fast as bytes.count
            out.writelines(_read(block, count, number, part, asked["name"], options, repairer))
            number += count


def _read(block: bytes, count: int, first: int, part: Part, name: str, options, repairer) -> list[bytes | memoryview]:
    """The rows of so many lines: those that are normal already by the short way, all others one by one."""
    from core.corpus import fast_jsonl

    known: dict[int, tuple[bytes, memoryview]] = {}
    if options.mapping is None and not options.replace_personal:
        taken = fast_jsonl.take(block, name, first, repair=options.repair_text)
        part.kinds[taken.kind] += len(taken.numbers)
        part.characters += taken.characters
        if len(taken.numbers) and len(taken.numbers) == count:
            part.ids += taken.ids
            part.lengths.frombytes(fast_jsonl.lengths(taken.lines).astype("u4").tobytes())
            return [memoryview(taken.lines.buffers()[2])[: int(fast_jsonl.lengths(taken.lines).sum())]]
        if len(taken.numbers):
            ids = [taken.ids[at : at + 8] for at in range(0, len(taken.ids), 8)]
            known = dict(
                zip(taken.numbers.tolist(), zip(ids, fast_jsonl.pieces(taken.lines), strict=True), strict=True)
            )
    written = []
    for number, raw in enumerate(block.split(b"\n")[:-1]):
        rows = [known[number]] if number in known else _carefully(raw, first + number, part, name, options, repairer)
        for identity, line in rows:
            part.ids += identity
            part.lengths.append(len(line))
            written.append(line)
    return written


def _carefully(raw: bytes, number: int, part: Part, name: str, options, repairer) -> Iterator[tuple[bytes, bytes]]:
    """What the reader of whole files makes of one line: ids and lines; the rest is counted."""
    for record in _records(raw, name):
        record = (
            record._replace(place=str(number)) if isinstance(record, Record) else replace(record, place=str(number))
        )
        found = reading.row_of(record, name, options, repairer)
        if isinstance(found, reading.SetAside):
            part.set_aside.append(found)
            continue
        row = found.row | {"source": {"file": name, "line": str(number)}}
        identity = storage.row_id(row)
        kind, characters = storage.weight(row)
        part.kinds[kind] += 1
        part.characters += characters
        part.repairs.update(found.repairs)
        if found.before and len(part.repaired) < EXAMPLES:
            shown = {"before": found.before[:2000], "after": found.after[:2000]}
            part.repaired.append(found._replace(row={}, **shown))
        yield bytes.fromhex(identity), orjson.dumps({"id": identity} | row) + b"\n"


def _records(raw: bytes, name: str) -> Iterator[Record | Bad]:
    if b"\r" not in raw:
        try:
            return iter([Record("", orjson.loads(raw))])
        except ValueError:
            pass
    source = Source(name, lambda: io.BytesIO(raw), len(raw), encoding="utf-8")
    return detection.json_lines.read(source)


class WithoutPandas:
    """pyarrow loads it only to see that nothing here comes from it, which takes as long as reading 30 MB of rows."""

    @staticmethod
    def find_spec(name: str, path=None, target=None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def main() -> None:
    gc.disable()  # nothing here makes cycles
    sys.meta_path.insert(0, WithoutPandas)
    for line in sys.stdin.buffer:
        data = pickle.dumps(read_part(json.loads(line)), protocol=5)
        sys.stdout.buffer.write(len(data).to_bytes(8) + data)
        sys.stdout.buffer.flush()
