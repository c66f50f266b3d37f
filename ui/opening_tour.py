"""The guided demo in a process of its own (`python -m core.demo --json`), and how far it has come."""

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

STAGES = ("model", "corpus", "training", "chat")
_process: subprocess.Popen | None = None
_stopped = False
_began = 0.0  # when, by the clock
_lock = threading.Lock()


@dataclass
class Now:
    """How far the demo has come."""

    state: str = "idle"  # idle, going, done, failed
    stage: int = 0
    done: float = 0
    total: float = 0
    unit: str = ""
    rate: float | None = None  # tokens per second
    seconds_left: float | None = None
    message: str = ""  # the last words, or the result as JSON
    trouble: str = ""  # the class name of a known trouble, and its values
    values: dict | None = None


def start() -> None:
    """Begin the demo, unless it is going on already; it outlives the window that began it."""
    global _process, _stopped, _began
    with _lock:
        if _process and _process.poll() is None:
            return
        _stopped, _began = False, time.time()
        paths.home().mkdir(parents=True, exist_ok=True)
        with log().open("wb") as output, result().open("wb") as end:
            command = [sys.executable, "-m", "core.demo", "--json"]
            root = Path(__file__).parent.parent
            _process = subprocess.Popen(command, cwd=root, stdout=end, stderr=output, stdin=subprocess.DEVNULL)


def stop() -> None:
    """End the demo and the run that it began."""
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
            its_own = label["name"] == "demo" and label["created"] >= _began
            if its_own and runs.state(run_id) in runs.ACTIVE:
                runs.stop(run_id)


def look() -> Now:
    """How far it is, read from what the process wrote."""
    if _process is None or _stopped:
        return Now()
    code = _process.poll()
    now = read(log().read_text(encoding="utf-8", errors="replace").splitlines())
    if code is None:
        now.state = "going"
    elif code == 0:
        now.state, now.message = "done", result().read_text(encoding="utf-8").strip().splitlines()[-1]
    else:
        now.state = "failed"
    return now


def read(lines: list[str]) -> Now:
    """What the demo's lines amount to."""
    now = Now()
    for line in lines:
        if line in ("model", "corpus"):
            now.stage, now.done, now.total = STAGES.index(line), 0, 0
        elif found := re.fullmatch(r"download (\d+)/(\d+) MB", line):
            now.done, now.total, now.unit = int(found[1]), int(found[2]), "MB"
        elif line.startswith("convert "):
            now.done, now.total = 0, 0
        elif line.startswith("{"):
            with contextlib.suppress(ValueError):
                _fold(now, json.loads(line))
        elif line.strip():
            now.message = line.strip()
    return now


def _fold(now: Now, event: dict) -> None:
    if "trouble" in event:
        now.trouble, now.values, now.message = event["trouble"], event["values"], event["message"]
        return
    now.stage = max(now.stage, STAGES.index("training"))
    if event.get("event") == "step":
        now.done, now.total, now.unit = event["step"], event["max_steps"], "steps"
        now.rate, now.seconds_left = event.get("tokens_per_second"), event.get("seconds_left")
    elif event.get("event") == "finished":
        now.stage, now.done, now.total = STAGES.index("chat"), 0, 0


def log() -> Path:
    return paths.home() / "demo.log"


def result() -> Path:
    return paths.home() / "demo.json"
