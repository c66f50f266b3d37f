"""The exact check in a process of its own: started, cancelled, and kept by config, without torch in the caller."""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from core import errors, files, paths, process
from core.estimate import catalogue
from core.estimate.errors import NeedsTrace, TraceFailed, UnknownArchitecture
from core.estimate.setup import Setup, named_targets

VERSION = 8  # of the trace; a change makes what was kept stale
PATIENCE = 180  # seconds before a trace is given up
MEMORY = 6 * 2**30  # bytes for a trace: a model without weights; a mixture of 60 layers and 128 experts takes 1.5 GiB


class Cancelled(Exception):
    """The person stopped waiting."""


def check(model: str, setup: Setup, capability: float, should_stop: Callable[[], bool] = lambda: False) -> dict:
    """Peaks of the real step in bytes: allocated, reserved, phases, alive; from the cache if it was asked before.

    Raises:
        TraceFailed: with the reason, in words.
        Cancelled: when should_stop() said so.
    """
    if setup.method == "prompt":
        raise errors.named("NothingToTrace")
    with contextlib.suppress(NeedsTrace, UnknownArchitecture):
        setup = named_targets(setup, catalogue.shape(model))
    request = {"config": catalogue.config(model), "setup": dataclasses.asdict(setup), "capability": capability}
    cached = _place(request)
    if kept := files.read_json(cached):
        return kept | {"kept": True}
    answer = _run(request, should_stop)
    if "architecture" in answer:
        raise errors.named("NotInTransformers", name=answer["architecture"], nearest=", ".join(answer["nearest"]))
    if "error" in answer:
        raise TraceFailed(reason=answer["error"])
    cached.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(cached, answer)
    return answer | {"kept": False}


def _place(request: dict) -> Path:
    key = json.dumps([VERSION, request], sort_keys=True)
    return paths.home() / "estimates" / "traces" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"


def _run(request: dict, should_stop: Callable[[], bool]) -> dict:
    def look() -> None:
        if should_stop():
            raise Cancelled

    more = {"PYTHONPATH": str(process.ROOT), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command, answers = ["-m", "core.estimate.trace"], []
    try:
        lines = process.json_lines(
            command, stdin=json.dumps(request), more=more, seconds=PATIENCE, look=look, group=True, memory=MEMORY
        )
        answers.extend(lines)
    except process.CommandFailed as failed:
        if failed.cause == "time":
            raise TraceFailed(reason=f"it took longer than {PATIENCE} seconds") from None
        if failed.cause:
            raise TraceFailed(reason=f"it took more than {MEMORY / 2**30:.0f} GiB of this machine's memory") from None
        reason = str(failed)[:300]
        if failed.code < 0:
            reason = f"its process was ended from outside (signal {-failed.code}); memory may be short here"
        answers = answers or [{"error": reason}]
    return answers[-1]
