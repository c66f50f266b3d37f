"""The guided demo in a process of its own (`python -m core.demo --json`), and how far it is."""

import contextlib
import json
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from core import paths
from core.errors import UserError
from core.runs import runs

ROOT = Path(__file__).parent.parent
STAGES = ("model", "corpus", "training", "chat")
_process: subprocess.Popen | None = None
_stopped = False
_started_at = 0.0  # seconds since the epoch
_lock = threading.Lock()


@dataclass
class Progress:
    """How far the demo is."""

    state: str = "idle"  # idle, going, done, failed
    stage: int = 0
    done: float = 0
    total: float = 0
    unit: str = ""
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    message: str = ""  # the last line of the log, or the result as JSON
    error_name: str = ""  # the class of a UserError
    error_values: dict | None = None


def start() -> None:
    """Start the demo, unless it is running; it outlives the window that started it."""
    global _process, _stopped, _started_at
    with _lock:
        if _process and _process.poll() is None:
            return
        _stopped, _started_at = False, time.time()
        paths.home().mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "core.demo", "--json"]
        with log().open("wb") as errors, result().open("wb") as output:
            _process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=errors, stdin=subprocess.DEVNULL)


def stop() -> None:
    """End the demo and the run that it started."""
    global _stopped
    with _lock:
        if not _process or _process.poll() is not None:
            return
        _stopped = True
        _process.terminate()
        _process.wait(10)
    for run_id in runs.listed():
        with contextlib.suppress(UserError, OSError, ValueError):
            label = runs.label(run_id)
            is_of_demo = label["name"] == "demo" and label["created"] >= _started_at
            if is_of_demo and runs.state(run_id) in runs.ACTIVE:
                runs.stop(run_id)


def progress() -> Progress:
    """How far it is, read from what the process wrote."""
    if _process is None or _stopped:
        return Progress()
    code = _process.poll()
    now = read(log().read_text(encoding="utf-8", errors="replace").splitlines())
    if code is None:
        now.state = "going"
    elif code == 0:
        now.state, now.message = "done", result().read_text(encoding="utf-8").strip().splitlines()[-1]
    else:
        now.state = "failed"
    return now


def read(lines: list[str]) -> Progress:
    """The progress that the lines of the demo's log report."""
    now = Progress()
    for line in lines:
        if line in ("model", "corpus"):
            now.stage, now.done, now.total = STAGES.index(line), 0, 0
        elif match := re.fullmatch(r"download (\d+)/(\d+) MB", line):
            now.done, now.total, now.unit = int(match[1]), int(match[2]), "MB"
        elif line.startswith("convert "):
            now.done, now.total = 0, 0
        elif line.startswith("{"):
            with contextlib.suppress(ValueError):
                _add_event(now, json.loads(line))
        elif line.strip():
            now.message = line.strip()
    return now


def _add_event(now: Progress, event: dict) -> None:
    if "trouble" in event:
        now.error_name, now.error_values, now.message = event["trouble"], event["values"], event["message"]
        return
    now.stage = max(now.stage, STAGES.index("training"))
    if event.get("event") == "step":
        now.done, now.total, now.unit = event["step"], event["max_steps"], "steps"
        now.tokens_per_second, now.seconds_left = event.get("tokens_per_second"), event.get("seconds_left")
    elif event.get("event") == "finished":
        now.stage, now.done, now.total = STAGES.index("chat"), 0, 0


def log() -> Path:
    return paths.home() / "demo.log"


def result() -> Path:
    return paths.home() / "demo.json"
