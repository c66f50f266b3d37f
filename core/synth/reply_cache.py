"""Rows as their replies come in, before their turn: a job that ends or dies meanwhile does not ask for them again."""

import threading
from pathlib import Path

import orjson

from core.synth import resuming


class Received:
    """received.jsonl of a job: what has come in out of turn. Without a directory nothing is kept."""

    def __init__(self, directory: Path | None, first: int = 0):
        self.lock, self.file, self.rows = threading.Lock(), None, {}
        if directory is None:
            return
        path = directory / "received.jsonl"
        resuming.mend(path)
        self.rows = {row["number"]: row for row in resuming.read(path) if row["number"] >= first}
        self.file = path.open("wb")
        for row in list(self.rows.values()):
            self.keep(row)

    def take(self, number: int) -> dict | None:
        """The row of this number, if a former process received it."""
        return self.rows.pop(number, None)

    def keep(self, row: dict) -> None:
        if self.file is None:
            return
        with self.lock:
            self.file.write(orjson.dumps(row) + b"\n")
            self.file.flush()

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
