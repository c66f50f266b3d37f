"""The events of a job or run: one JSON line each in events.jsonl, written by its process alone, read by everybody."""

import json
import math
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from core import files
from core.errors import without_keys

EARLIER_NAMES = {"heard": "request_seen", "room": "disk_free", "going_on": "resumed"}  # of events, up to 0.9.0
FINAL = ("finished", "stopped", "paused", "failed")  # the last event of a process is one of these


def file(run_dir: Path) -> Path:
    return run_dir / "events.jsonl"


def append(run_dir: Path, event: str, **values: Any) -> None:
    """Write one event. NaN and infinities, which JSON does not have, become null."""
    line = json.dumps(_finite({"event": event, "time": round(time.time(), 3), **values}), ensure_ascii=False)
    with file(run_dir).open("ab") as output:  # one write of a whole line: a reader sees all of it or none
        output.write(without_keys(line).encode() + b"\n")
        if event == "checkpoint":  # after a power cut the log must not end before the checkpoint that is resumed
            output.flush()
            os.fsync(output.fileno())


def echo(event: str, **values: Any) -> None:
    """Print an event on stderr: what a command line shows of work that has no directory."""
    print(json.dumps({"event": event, **values}, ensure_ascii=False), file=sys.stderr, flush=True)


def cut_partial_line(run_dir: Path) -> None:
    """Truncate a partial last line left by a killed process; call it while holding the job's lock."""
    files.cut_partial_line(file(run_dir))


def read(run_dir: Path, offset: int = 0, most_bytes: int = -1) -> tuple[list[dict], int]:
    """The events after a byte offset, and the next offset; a half-written line is left for later."""
    try:
        with file(run_dir).open("rb") as lines:
            lines.seek(offset)
            fresh = lines.read(most_bytes)
    except OSError:  # there is none, or it cannot be read: core/damage.py says so
        return [], 0
    whole = fresh[: fresh.rfind(b"\n") + 1]
    return _parsed(whole), offset + len(whole)


def last(run_dir: Path) -> dict | None:
    """The newest whole event, found from the end of the file."""
    with suppress(OSError):
        for line in files.last_lines(file(run_dir)):
            if parsed := _parsed(line):
                return parsed[0]
    return None


def size(run_dir: Path) -> int:
    return file(run_dir).stat().st_size if file(run_dir).is_file() else 0


def _parsed(lines: bytes) -> list[dict]:
    """The events of whole lines, under today's names."""
    found = [event for event in files.parsed(lines) if "event" in event]
    return [_renamed(event) if event["event"] in EARLIER_NAMES else event for event in found]


def _renamed(event: dict) -> dict:
    names = {"asked": "requested_at"} if event["event"] == "heard" else {}
    return {names.get(key, key): value for key, value in event.items()} | {"event": EARLIER_NAMES[event["event"]]}


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
