"""The starter model, fetched in the background while the first checks go on."""

import threading
import time
from collections.abc import Callable

from core import models
from core.check_card import children
from core.process import CommandFailed, json_lines


class _Closed(Exception):
    """Nobody waits for the model any more."""


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
            for values in json_lines(command, more=children.environment(), look=self._look, group=True):
                reason = (values.get("values") or {}).get("reason", "")
        except CommandFailed as failed:
            self.reason = (reason or f"it ended with {failed.code}").rstrip(".")
        except _Closed:
            return

    def _look(self) -> None:
        if self.closed:
            raise _Closed
