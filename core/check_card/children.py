"""Starts the processes that check, reads what they say line by line, and ends those that take too long."""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from core.hardware import hardware
from core.process import ROOT

TAIL_CHARACTERS = 300  # of the last line, for a table
TAIL_LINES = 40  # that go to the log
LOOK_SECONDS = 1.0  # between two looks whether the process may go on


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (negative: a signal), or that its time was over, and its last words."""

    code: int
    timed_out: bool
    last_words: str

    @property
    def reason(self) -> str:
        """Why it did not do all that it was asked for."""
        if self.timed_out:
            return "it took too long and was ended"
        if self.code < 0:
            with suppress(ValueError):
                return f"the process was ended by {signal.Signals(-self.code).name}"
        return self.last_words or f"the process ended with {self.code}"


def run(
    request: dict,
    seconds: float,
    on_line: Callable[[dict], bool | None] = lambda said: None,
    look: Callable[[], None] = lambda: None,
) -> Ended:
    """Let a process do what the request says; each JSON object that it prints goes to `on_line`.

    As soon as `on_line` returns True the process is killed (SIGKILL), as a power cut would. `look` is called every
    second; what it raises ends the process and goes on to the caller.
    """
    command = [sys.executable, "-m", "core.check_card.child", json.dumps({**request, "seconds": seconds})]
    with tempfile.TemporaryFile() as wrong:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=wrong,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        try:
            followed = _follow(process, time.monotonic() + seconds, on_line, look)
        finally:
            kill(process)
        words = _words(wrong)
    if process.returncode and followed != "killed":
        print(*words[-TAIL_LINES:], sep="\n", file=sys.stderr, flush=True)
    told = [line.strip() for line in words if not line.startswith((" ", "Traceback", "Extension modules"))]
    return Ended(process.returncode, followed == "timed out", (told or [""])[-1][:TAIL_CHARACTERS])


def environment() -> dict[str, str]:
    """Variables of a process that checks: it sees the card that a run takes if nobody chooses, and its threads wait as
    those of a training do (core/runs.py, spawn_detached)."""
    found = {
        **os.environ,
        **hardware.environment(hardware.card()),
        "PYTHONUTF8": "1",
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    found.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    found.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    return found


def kill(process: subprocess.Popen) -> None:
    """End a process and what it started, at once."""
    if process.poll() is None:
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()


def _follow(process: subprocess.Popen, end: float, on_line: Callable, look: Callable) -> str:
    """Read until the process has ended, is to be killed, or its time is over: "ended", "killed" or "timed out"."""
    lines: queue.Queue = queue.Queue()
    threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    looked = time.monotonic()
    while (left := end - time.monotonic()) > 0:
        if time.monotonic() - looked >= LOOK_SECONDS:
            look()
            looked = time.monotonic()
        try:
            text = lines.get(timeout=min(left, LOOK_SECONDS))
        except queue.Empty:
            continue
        if text is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(1.0, end - time.monotonic()))
            return "ended"
        try:
            said = json.loads(text)
        except ValueError:
            continue
        if isinstance(said, dict) and on_line(said):
            return "killed"
    return "timed out"


def _read(stream, lines: queue.Queue) -> None:
    with suppress(ValueError, OSError):  # it was closed after the process was killed
        for text in stream:
            lines.put(text)
    lines.put(None)


def _words(wrong) -> list[str]:
    """The lines that a process wrote to its stderr."""
    wrong.seek(0)
    return [line for line in wrong.read().decode("utf-8", "replace").splitlines() if line.strip()]
