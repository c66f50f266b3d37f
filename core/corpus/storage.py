"""A corpus on disk: shards of rows, a card, what was set aside; it appears only when whole."""

import hashlib
import json
import os
import shutil
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from json.encoder import encode_basestring
from pathlib import Path

import orjson
from filelock import FileLock, Timeout

from core import paths
from core.errors import UserError
from core.training import corpus_rows

SHARD_BYTES = 256 * 2**20
EVERY = 500  # rows between two marks of the index
KEPT_FREE = 50 * 2**20  # bytes that are left on the disk


class CorpusDiskFull(UserError):
    template = "The disk of {path} is full: {free} MB are left. Free some space and import again."


class CorpusDamaged(UserError):
    template = 'The corpus "{name}" cannot be read: {reason}. Delete it and import its files again.'


_ROLES = {role: f'", "role": "{role}"}}' for role in ("system", "user", "assistant", "tool")}


def row_id(row: dict) -> str:
    """The same as recipe.row_id, without the costly general encoder: rows of plain turns are put together by hand."""
    if "text" in row:
        content = encode_basestring(row["text"])
    else:
        turns = []
        for turn in row["messages"]:
            if len(turn) != 2 or turn["role"] not in _ROLES:
                return corpus_rows.row_id(row)
            turns.append('{"content": ' + encode_basestring(turn["content"])[:-1] + _ROLES[turn["role"]])
        content = "[" + ", ".join(turns) + "]"
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def weight(row: dict) -> tuple[str, int]:
    """Whether a row is a chat or a text, and how many characters it has."""
    if "text" in row:
        return "text", len(row["text"])
    return "chat", sum(len(turn["content"]) for turn in row["messages"])


class Writer:
    """Writes the rows of a corpus into an unfinished directory."""

    def __init__(self, directory: Path, shard_bytes: int = SHARD_BYTES):
        self.directory, self.shard_bytes = directory, shard_bytes
        self.rows = self.bytes = self.characters = 0
        self.kinds: Counter = Counter()
        self._hash, self._ids, self._marks = hashlib.sha256(), array("Q"), []
        self._shard, self._offset, self._file = -1, 0, None
        self._aside = (directory / "set_aside.jsonl").open("wb")

    def row(self, row: dict) -> None:
        """Write a row that has no id yet, its id first."""
        identity = row_id(row)
        line = orjson.dumps({"id": identity} | row) + b"\n"
        if self._file is None or (self._offset + len(line) > self.shard_bytes and self._offset):
            self._next_shard()
        if self.rows % EVERY == 0:
            self._marks.append([self._shard, self._offset])
        self._file.write(line)
        self._offset += len(line)
        self.rows += 1
        self.bytes += len(line)
        self._hash.update(identity.encode())
        self._ids.append(int(identity, 16))
        kind, characters = weight(row)
        self.kinds[kind] += 1
        self.characters += characters
        if self.rows % 2000 == 0:
            check_space(self.directory)

    def adopt(self, part) -> None:
        """Make the rows of a parallel.Part a shard of this corpus."""
        import numpy as np

        if part.disk_full:
            raise _full(self.directory)
        if not part.lengths:
            Path(part.path).unlink()
            return
        self._close_shard()
        self._shard += 1
        Path(part.path).rename(self._path())
        starts = np.cumsum(np.array([0, *part.lengths], np.int64))
        next_mark = -self.rows % EVERY
        self._marks += [[self._shard, int(start)] for start in starts[next_mark:-1:EVERY]]
        self.rows += len(part.lengths)
        self.bytes += int(starts[-1])
        self._hash.update(part.ids.hex().encode())
        self._ids.frombytes(np.frombuffer(part.ids, ">u8").astype("u8").tobytes())
        self.kinds.update(part.kinds)
        self.characters += part.characters
        check_space(self.directory)

    def set_aside(self, values: dict) -> None:
        self._aside.write(orjson.dumps(values) + b"\n")

    def finish(self, card: dict) -> dict:
        """Write the index and the card; the corpus is whole after this."""
        self.close()
        (self.directory / "index.json").write_text(json.dumps({"every": EVERY, "marks": self._marks}), "utf-8")
        kinds = [kind for kind, count in self.kinds.items() if count]
        card = card | {
            "content_hash": self._hash.hexdigest(),
            "kind": kinds[0] if len(kinds) == 1 else "mixed" if kinds else "",
            "rows": self.rows,
            "bytes": self.bytes,
            "characters": self.characters,
            "duplicates": self.rows - _different(self._ids),
        }
        text = json.dumps(card, ensure_ascii=False, indent=2)
        (self.directory / "card.json").write_text(text + "\n", encoding="utf-8")
        return card

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


def _different(ids: array) -> int:
    import numpy as np

    ordered = np.sort(np.frombuffer(ids, np.uint64))  # several times as fast as np.unique, which hashes
    return int(np.count_nonzero(ordered[1:] != ordered[:-1])) + 1 if ids else 0


def publish(directory: Path, wanted: Path) -> None:
    """Let a finished directory appear under its name."""
    directory.rename(wanted)


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
    try:
        return json.loads((directory / "card.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorpusDamaged(name=directory.name, reason=type(error).__name__) from error


def shards(directory: Path) -> list[Path]:
    return sorted(directory.glob("rows-*.jsonl"))


def all_rows(directory: Path) -> Iterator[dict]:
    """All rows in their order, copies too."""
    for shard in shards(directory):
        with shard.open("rb", buffering=1 << 20) as lines:
            for line in lines:
                yield orjson.loads(line)


def rows(directory: Path, start: int, count: int) -> list[dict]:
    """Some rows by their number, found through the index without reading what stands before."""
    files, shard, offset, skip = shards(directory), 0, 0, max(0, start)
    if (directory / "index.json").is_file():
        index = json.loads((directory / "index.json").read_text(encoding="utf-8"))
        mark = min(skip // index["every"], len(index["marks"]) - 1)
        if mark >= 0:
            shard, offset = index["marks"][mark]
            skip -= mark * index["every"]
    found: list[dict] = []
    for file in files[shard:]:
        with file.open("rb") as lines:
            lines.seek(offset)
            for line in lines:
                if skip:
                    skip -= 1
                elif len(found) < count:
                    found.append(orjson.loads(line))
                else:
                    return found
        offset = 0
    return found
