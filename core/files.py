"""Small JSON files: replaced in one step, and read even when a power cut has left them in pieces."""

import errno
import json
import os
import time
from pathlib import Path

from core.errors import UserError


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
    scratch = path.with_suffix(".tmp")
    try:
        with scratch.open("w", encoding="utf-8") as file:
            json.dump(values, file, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())  # else the new name may outlive the new contents
    except OSError as error:
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
