"""The starter model, fetched in the background while the first checks go on."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from core import models, process
from core.check_card import children

LOOK_SECONDS = 0.2


class Starter:
    """A process that makes the starter model ready; none where it is ready already, or not wanted."""

    def __init__(self, wanted: bool = True):
        self.process, self.said, self.reason, self.wanted = None, [], "", wanted

    def __enter__(self) -> "Starter":
        if self.wanted and not self._ready() and not self.reason:
            command = [sys.executable, "-m", "core.models", "prepare", models.STARTER, "--json"]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
            self.process = subprocess.Popen(
                command,
                cwd=process.ROOT,
                env=children.environment(),
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
                **pipes,
            )
            threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        if self.process:
            children.kill(self.process)

    def wait(self, seconds: float, look: Callable[[], None] = lambda: None) -> str | None:
        """The directory of the starter model, or None; `reason` then says why. What `look` raises ends the wait."""
        end = time.monotonic() + seconds
        while self.process and self.process.poll() is None:
            if time.monotonic() > end:
                self.reason = "the download takes longer than this check"
                return None
            time.sleep(LOOK_SECONDS)
            look()
        found = self._ready()
        if not found and self.process:
            values = next((said["values"] for said in reversed(self.said) if "trouble" in said), {})
            self.reason = str(values.get("reason") or f"it ended with {self.process.returncode}").rstrip(".")
        return found

    def _ready(self) -> str | None:
        try:
            return models.local(models.STARTER)
        except OSError as error:  # the data directory cannot be written to: the checks go on without it
            self.reason = str(error)
            return None

    def _read(self) -> None:
        with suppress(ValueError, OSError):
            for text in self.process.stdout:
                with suppress(ValueError):
                    self.said.append(json.loads(text))
