"""Processes of a check: read line by line, killed when they take too long or a run begins; the starter model beside them."""

import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass

from core import process
from core.hardware import hardware
from core.models import models

TAIL_CHARACTERS = 300  # of the last line, for a table
TAIL_LINES = 40  # that go to the log


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


def run(
    request: dict,
    seconds: float,
    on_line: Callable[[dict], bool | None] = lambda values: None,
    look: Callable[[], None] = lambda: None,
) -> Ended:
    """Let a process do what the request says; each JSON object that it prints goes to `on_line`.

    As soon as `on_line` returns True the process is killed (SIGKILL), as a power cut would. `look` is called now and
    then; what it raises ends the process and goes on to the caller.
    """
    command = ["-m", "core.check_card.child", json.dumps({**request, "seconds": seconds})]
    lines = process.json_lines(command, more=environment(), seconds=seconds, look=look, group=True)
    try:
        with closing(lines):
            killed = any(on_line(values) for values in lines)
    except process.CommandFailed as failed:
        print(*failed.lines[-TAIL_LINES:], sep="\n", file=sys.stderr, flush=True)
        words = [line.strip() for line in failed.lines if not line.startswith((" ", "Traceback", "Extension modules"))]
        return Ended(failed.code, failed.cause == "time", (words or [""])[-1][:TAIL_CHARACTERS])
    return Ended(-9 if killed else 0, False, "")


def environment() -> dict[str, str]:
    """Variables of a process that checks: it sees the card that a run takes if nobody chooses."""
    variables = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return hardware.environment(hardware.card()) | variables


class Starter:
    """A process that makes the starter model ready; none where it is ready already, or not wanted."""

    def __init__(self, wanted: bool = True):
        self.wanted, self.reason, self.closed = wanted, "", False
        self.thread = threading.Thread(target=self._prepare, daemon=True)

    def __enter__(self) -> "Starter":
        if self.wanted and not self._ready() and not self.reason:
            self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.closed = True
        if self.thread.ident:
            self.thread.join()

    def wait(self, seconds: float, look: Callable[[], None] = lambda: None) -> str | None:
        """The directory of the starter model, or None; `reason` then says why. What `look` raises ends the wait."""
        end = time.monotonic() + seconds
        while self.thread.is_alive():
            if time.monotonic() > end:
                self.reason = "the download takes longer than this check"
                return None
            self.thread.join(0.2)
            look()
        return self._ready()

    def _ready(self) -> str | None:
        try:
            return models.local(models.STARTER)
        except OSError as error:  # the data directory cannot be written to: the checks go on without it
            self.reason = str(error)
            return None

    def _prepare(self) -> None:
        command, reason = ["-m", "core.models", "prepare", models.STARTER, "--json"], ""
        try:
            for values in process.json_lines(command, more=environment(), look=self._look, group=True):
                reason = (values.get("values") or {}).get("reason", "")
        except process.CommandFailed as failed:
            self.reason = (reason or f"it ended with {failed.code}").rstrip(".")
        except process.Closed:
            return

    def _look(self) -> None:
        if self.closed:
            raise process.Closed
