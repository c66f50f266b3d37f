"""What a person asks of a run: written by the page into the run's directory, read by its trainer at every step.

control.json holds the one request that decides the run's state: stop, pause, hold, resume. wishes.json holds what a
training does on the way without ending: save, sample. Both say when it was asked; the trainer's event "heard" says
when it was taken up.
"""

import json
import time
from pathlib import Path

from core import events
from core.files import write_json

ENDS = ("stop", "pause")  # requests that a trainer obeys
WAITS = ("resume", "hold")  # requests about a run that waits; bound to the length of its events
WISHES = ("save", "sample")


def ask(run_dir: Path, request: str) -> None:
    """Put a request in the place of the one before. The trainer's next event makes resume and hold a thing of the past."""
    write_json(run_dir / "control.json", {"request": request, "after": events.size(run_dir), "asked": now()})


def asked(run_dir: Path) -> dict:
    """The request as {"request", "after", "asked"}, or {}."""
    return _read(run_dir / "control.json")


def waits(run_dir: Path) -> str:
    """resume or hold, as long as no trainer has said a word since; else nothing."""
    control = asked(run_dir)
    return control["request"] if control.get("request") in WAITS and control["after"] == events.size(run_dir) else ""


def wish(run_dir: Path, what: str) -> None:
    """Ask a running training to save or to sample once."""
    write_json(run_dir / "wishes.json", wishes(run_dir) | {what: now()})


def wishes(run_dir: Path) -> dict[str, float]:
    """When each thing was wished for last."""
    return _read(run_dir / "wishes.json")


def now() -> float:
    return round(time.time(), 3)


def _read(path: Path) -> dict:
    """What a file holds; one that a power cut emptied asks for nothing."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
