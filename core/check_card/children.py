"""Starts the processes that check, reads what they print line by line, and ends those that take too long."""

import json
import signal
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass

from core import process
from core.hardware import hardware

TAIL_CHARACTERS = 300  # of the last line, for a table
TAIL_LINES = 40  # that go to the log


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
        told = [line.strip() for line in failed.lines if not line.startswith((" ", "Traceback", "Extension modules"))]
        return Ended(failed.code, failed.timed_out, (told or [""])[-1][:TAIL_CHARACTERS])
    return Ended(-9 if killed else 0, False, "")


def environment() -> dict[str, str]:
    """Variables of a process that checks: it sees the card that a run takes if nobody chooses."""
    variables = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return hardware.environment(hardware.card()) | variables
