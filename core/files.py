"""Small JSON files replaced in one step, and files of lines, as a kill or a power cut may leave them."""

import errno
import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from core.errors import UserError

BLOCK_BYTES = 65_536


class NothingWritten(UserError):
    template = "The disk of {path} is full, so nothing could be written. Free some space, then try again."


def read_json(path: Path, kind: type = dict):
    """What a file holds if it is of this kind (dict or list), else an empty one: there is no file, or it is damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return kind()
    return values if isinstance(values, kind) else kind()


def write_json(path: Path, values: dict | list) -> None:
    """Replace a small file in one step, so that nobody reads half of it, even after a power cut.

    Raises:
        NothingWritten: where the disk is full; the file is as it was.
    """
    scratch = path.with_name(f"{path.stem}.{secrets.token_hex(4)}.tmp")  # two processes may write at one moment
    try:
        with scratch.open("w", encoding="utf-8") as file:
            json.dump(values, file, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())  # else the new name may outlive the new contents
    except OSError as error:
        scratch.unlink(missing_ok=True)
        if error.errno != errno.ENOSPC:
            raise
        raise NothingWritten(path=path.parent) from error
    for attempt in range(20):
        try:
            scratch.replace(path)
            return
        except PermissionError:  # Windows, while somebody reads the file
            if attempt == 19:
                raise
            time.sleep(0.05)


def cut_partial_line(path: Path) -> None:
    """Cut off a line at the end of a file that a dead process left half-written, however long it is."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - BLOCK_BYTES)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                file.truncate(start + newline + 1)
                return
            end = start
        file.truncate(0)


def last_lines(path: Path) -> Iterator[bytes]:
    """The whole lines of a file from the last one to the first, without their newlines; read backwards in blocks."""
    with path.open("rb") as file:
        start, rest, whole = file.seek(0, os.SEEK_END), b"", False
        while start:
            end, start = start, max(0, start - BLOCK_BYTES)
            file.seek(start)
            first, *lines = (file.read(end - start) + rest).split(b"\n")
            for line in reversed(lines):
                if whole:
                    yield line
                whole = True  # what follows the last newline is half a line
            rest = first
        if whole:
            yield rest
