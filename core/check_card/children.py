"""Processes of a check: started here, read line by line, and killed when they take too long or a run begins."""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from core import models
from core.hardware import hardware
from core.process import ROOT

TAIL_CHARACTERS = 300  # of the last line, for a table
TAIL_LINES = 40  # that go to the log
LOOK_SECONDS = 1.0  # between two looks whether the process may go on


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (negative: a signal), whether its time was over, its last line on stderr."""

    code: int
    timed_out: bool
    last_line: str

    @property
    def reason(self) -> str:
        """Why it did not do all that it was asked for."""
        if self.timed_out:
            return "it took too long and was ended"
        if self.code < 0:
            with suppress(ValueError):
                return f"the process was ended by {signal.Signals(-self.code).name}"
        return self.last_line or f"the process ended with {self.code}"


class Child:
    """A module of ours that runs in a process of its own; leaving the block kills it with all that it started."""

    def __init__(self, module: str, *arguments: str):
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as this object
        self.lines: queue.Queue = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_) -> None:
        if self.process.poll() is None:
            if hasattr(os, "killpg"):
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def objects(self, seconds: float, look: Callable[[], None]) -> Iterator[dict]:
        """The JSON objects that it prints, a line each, until it ends. What `look` raises, every second, goes on.

        Raises:
            TimeoutError: when the time is over.
        """
        end, looked = time.monotonic() + seconds, time.monotonic()
        while (left := end - time.monotonic()) > 0:
            if time.monotonic() - looked >= LOOK_SECONDS:
                look()
                looked = time.monotonic()
            try:
                text = self.lines.get(timeout=min(left, LOOK_SECONDS))
            except queue.Empty:
                continue
            if text is None:
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(max(1.0, end - time.monotonic()))
                return
            with suppress(ValueError):
                if isinstance(line := json.loads(text), dict):
                    yield line
        raise TimeoutError

    def stderr(self) -> list[str]:
        """The lines that it wrote to its stderr."""
        self.errors.seek(0)
        return [line for line in self.errors.read().decode("utf-8", "replace").splitlines() if line.strip()]

    def _read(self) -> None:
        with suppress(ValueError, OSError):  # it was closed after the process was killed
            for text in self.process.stdout:
                self.lines.put(text)
        self.lines.put(None)


def run(
    request: dict,
    seconds: float,
    on_line: Callable[[dict], bool | None] = lambda line: None,
    look: Callable[[], None] = lambda: None,
) -> Ended:
    """Let a process do what the request says; each JSON object that it prints goes to `on_line`.

    As soon as `on_line` returns True the process is killed (SIGKILL), as a power cut would. What `look` raises ends
    the process as well.
    """
    timed_out = killed = False
    with Child("core.check_card.child", json.dumps({**request, "seconds": seconds})) as child:
        try:
            killed = any(map(on_line, child.objects(seconds, look)))
        except TimeoutError:
            timed_out = True
    lines, code = child.stderr(), child.process.returncode
    if code and not killed:
        print(*lines[-TAIL_LINES:], sep="\n", file=sys.stderr, flush=True)
    words = [line.strip() for line in lines if not line.startswith((" ", "Traceback", "Extension modules"))]
    return Ended(code, timed_out, (words or [""])[-1][:TAIL_CHARACTERS])


def environment() -> dict[str, str]:
    """Variables of a process that checks: it sees the card that a run takes if nobody chooses, and its threads wait as
    those of a training do (core/process.py, spawn_detached)."""
    defaults = {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    fixed = {"PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {**defaults, **os.environ, **hardware.environment(hardware.card()), **fixed}


class Starter:
    """The starter model, fetched by a process in the background while the first checks go on, where it is wanted."""

    def __init__(self, wanted: bool = True):
        self.child, self.reason = None, ""
        if wanted and not self._ready() and not self.reason:
            self.child = Child("core.models", "prepare", models.STARTER, "--json")

    def __enter__(self) -> "Starter":
        return self

    def __exit__(self, *_) -> None:
        if self.child:
            self.child.__exit__()

    def wait(self, seconds: float, look: Callable[[], None] = lambda: None) -> str | None:
        """The directory of the starter model, or None; `reason` then says why. What `look` raises ends the wait."""
        values = {}
        try:
            for line in self.child.objects(seconds, look) if self.child else ():
                values = line.get("values") or {} if "trouble" in line else values
        except TimeoutError:
            self.reason = "the download takes longer than this check"
            return None
        directory = self._ready()
        if not directory and self.child:
            self.reason = str(values.get("reason") or f"it ended with {self.child.process.returncode}").rstrip(".")
        return directory

    def _ready(self) -> str | None:
        try:
            return models.local(models.STARTER)
        except OSError as error:  # the data directory cannot be written to: the checks go on without it
            self.reason = str(error)
            return None
