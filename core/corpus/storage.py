"""A corpus on disk: shards of rows, a card, what was set aside; it appears only when whole."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import orjson
from filelock import FileLock, Timeout

from core import damage, files, paths
from core.corpus import turns
from core.errors import UserError
from core.training import corpus_rows

SHARD_BYTES = 256 * 2**20
MOST_ASIDE = 1_000_000  # records that are listed: a file of a gigabyte can have 100 million that are too short
EVERY = 500  # rows between two marks of the index
_ROLES = {role: b', "role": "%b"}' % role.encode() for role in turns.ROLES}
KEPT_FREE = 50 * 2**20  # bytes that are left on the disk


class CorpusDiskFull(UserError):
    template = "The disk of {path} is full: {free} MB are left. Free some space and import again."


class CorpusDamaged(UserError):
    template = 'The corpus "{name}" cannot be read: {reason}. Delete it and import its files again.'


def _digest(row: dict) -> bytes:
    """The id as corpus_rows.row_id makes it, which takes several times as long: its encoder has to sort keys."""
    if "text" in row:
        content = orjson.dumps(row["text"])
    elif "chosen" in row or sum(map(len, row["messages"])) > 2 * len(row["messages"]):
        return bytes.fromhex(corpus_rows.row_id(row))
    else:
        parts = [
            b'{"content": %b%b' % (orjson.dumps(turn["content"]), _ROLES[turn["role"]]) for turn in row["messages"]
        ]
        content = b"[%b]" % b", ".join(parts)
    return hashlib.sha256(content).digest()[:8]


class Writer:
    """Writes the rows of a corpus into an unfinished directory."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.rows = self.texts = self.pairs = self.judged = self.disliked = self.bytes = self.characters = 0
        self._ids, self._marks = bytearray(), []
        self._shard, self._offset, self._file = -1, 0, None
        self._aside, self._listed = (directory / "set_aside.jsonl").open("wb"), 0

    def row(self, row: dict, source: dict | None = None, raw: bytes = b"") -> None:
        """Write a row that has no id yet, its id first; `raw` is the same row as JSON, when it is at hand."""
        digest = _digest(row)
        if raw[:1] == b"{" and raw[-1:] == b"}":
            line = b'{"id":"%b",%b,"source":%b}\n' % (digest.hex().encode(), raw[1:-1], orjson.dumps(source))
        else:
            line = orjson.dumps({"id": digest.hex()} | row | ({"source": source} if source else {})) + b"\n"
        size = len(line)
        if self._file is None or (self._offset + size > SHARD_BYTES and self._offset):
            self._next_shard()
        if self.rows % EVERY == 0:
            self._marks.append([self._shard, self._offset])
            check_space(self.directory)
        self._file.write(line)
        self._ids += digest
        self._offset += size
        self.rows += 1
        self.bytes += size
        if "text" in row:
            self.texts += 1
            self.characters += len(row["text"])
        else:
            self.pairs += "chosen" in row
            self.judged += "label" in row
            self.disliked += row.get("label") is False
            for turn in row["messages"] if "chosen" not in row else turns.all_turns(row):
                self.characters += len(turn["content"])

    def set_aside(self, values: dict) -> None:
        """List what became no row; of more than MOST_ASIDE the card has the number and the reasons alone."""
        self._listed += 1
        if self._listed > MOST_ASIDE:
            return
        self._aside.write(orjson.dumps(values) + b"\n")

    def finish(self, card: dict) -> dict:
        """Write the index and the card; the corpus is whole after this."""
        self.close()
        (self.directory / "index.json").write_text(json.dumps({"every": EVERY, "marks": self._marks}), "utf-8")
        card = card | {
            "content_hash": hashlib.sha256(self._ids.hex().encode()).hexdigest(),
            "kind": self._kind(),
            "pairs": self.pairs,
            "judged": self.judged,
            "rows": self.rows,
            "bytes": self.bytes,
            "characters": self.characters,
            "duplicates": self.rows - _different(self._ids),
        }
        text = json.dumps(card, ensure_ascii=False, indent=2)
        (self.directory / "card.json").write_text(text + "\n", encoding="utf-8")
        return card

    def _kind(self) -> str:
        kinds = {"text": self.texts, "preference": self.pairs, "chat": self.rows - self.texts - self.pairs}
        kind = next((kind for kind, rows in kinds.items() if rows == self.rows), "mixed")
        return "judged" if self.disliked and self.judged == self.rows else kind

    def close(self) -> None:
        self._close_shard()
        if not self._aside.closed:
            self._aside.close()

    def _close_shard(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None

    def _next_shard(self) -> None:
        self._close_shard()
        self._shard, self._offset = self._shard + 1, 0
        self._file = self._path().open("wb", buffering=1 << 20)

    def _path(self) -> Path:
        return self.directory / f"rows-{self._shard:05d}.jsonl"


def check_space(directory: Path) -> None:
    """Refuse to fill the disk of a directory to its last bytes.

    Raises:
        CorpusDiskFull: when hardly anything is free.
    """
    if shutil.disk_usage(directory).free < KEPT_FREE:
        raise _full(directory)


def _full(directory: Path) -> CorpusDiskFull:
    return CorpusDiskFull(path=directory.parent, free=shutil.disk_usage(directory).free // 2**20)


@contextmanager
def unfinished(parent: Path) -> Iterator[Path]:
    """A hidden directory to write in, gone afterwards unless it was renamed; leftovers of killed imports go too."""
    for old in parent.glob(".unfinished-*[0-9]"):
        _remove_if_left(old)
    directory = parent / f".unfinished-{os.getpid()}-{time.time_ns()}"
    # Beside the directory, not in it: Windows renames none with an open file inside.
    lock = _lock_of(directory)
    try:
        with lock:
            directory.mkdir(parents=True)
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        Path(lock.lock_file).unlink(missing_ok=True)


def _lock_of(directory: Path) -> FileLock:
    return FileLock(directory.with_name(directory.name + ".lock"), timeout=0)


def _different(ids: bytearray) -> int:
    ordered = np.sort(np.frombuffer(ids, np.uint64))  # several times as fast as np.unique, which hashes
    return int(np.count_nonzero(ordered[1:] != ordered[:-1])) + 1 if ids else 0


def _remove_if_left(directory: Path) -> None:
    lock = _lock_of(directory)
    try:
        with lock:
            shutil.rmtree(directory, ignore_errors=True)
    except (Timeout, OSError):
        return
    Path(lock.lock_file).unlink(missing_ok=True)


def free_name(parent: Path, name: str) -> str:
    """A directory name made of a person's words that is not taken."""
    slug, number = paths.slug(name), 1
    while (parent / (slug if number == 1 else f"{slug}-{number}")).exists():
        number += 1
    return slug if number == 1 else f"{slug}-{number}"


def read_card(directory: Path) -> dict:
    if card := damage.read(directory / "card.json", "corpora/*/card.json"):
        return card
    raise CorpusDamaged(name=directory.name, reason=directory / "card.json")


def cards(parent: Path) -> Iterator[dict]:
    """The cards of the corpora in a directory; a directory without a readable card is none."""
    for path in parent.iterdir():
        if path.name.startswith(".") or path.is_symlink() or not (path / "card.json").is_file():
            continue
        try:
            yield read_card(path) | {"id": path.name}
        except CorpusDamaged:
            continue


def shards(directory: Path) -> list[Path]:
    return sorted(directory.glob("rows-*.jsonl"))


def all_rows(directory: Path) -> Iterator[dict]:
    """All rows in their order, copies too.

    Raises:
        CorpusDamaged: at a line that is no row.
    """
    try:
        for shard in shards(directory):
            yield from files.lines(shard, damage.ROW)
    except (OSError, files.LineDamaged) as error:
        raise CorpusDamaged(name=directory.name, reason=error) from error


def rows(directory: Path, start: int, count: int) -> list[dict]:
    """Some rows by their number, through the index, without reading what stands before.

    Raises:
        CorpusDamaged: where a line is no row.
    """
    try:
        return _rows(directory, start, count)
    except (OSError, ValueError) as error:
        raise CorpusDamaged(name=directory.name, reason=error) from error


def _rows(directory: Path, start: int, count: int) -> list[dict]:
    parts, shard, offset, skip = shards(directory), 0, 0, max(0, start)
    index = damage.read(directory / "index.json", "corpora/*/index.json")
    if index and index["marks"]:
        number = min(skip // index["every"], len(index["marks"]) - 1)
        mark = index["marks"][number]
        if _begins_a_row(parts, mark):  # else the rows before are read too
            (shard, offset), skip = mark, skip - number * index["every"]
    read: list[dict] = []
    for file in parts[shard:]:
        with file.open("rb") as lines:
            lines.seek(offset)
            for line in lines:
                if skip:
                    skip -= 1
                elif len(read) < count:
                    read.append(_row(line))
                else:
                    return read
        offset = 0
    return read


def _row(line: bytes) -> dict:
    if files.fits(row := orjson.loads(line), damage.ROW):
        return row
    raise ValueError("a line is no row")


def _begins_a_row(parts: list[Path], mark) -> bool:
    """Whether a mark of the index, [shard, offset], names the beginning of a line."""
    if not files.fits(mark, [range(1 << 62)]) or len(mark) != 2 or mark[0] >= len(parts):
        return False
    shard, offset = mark
    with parts[shard].open("rb") as file:
        file.seek(max(0, offset - 1))
        before = file.read(2)
    return offset < parts[shard].stat().st_size and (not offset or before.startswith(b"\n"))
