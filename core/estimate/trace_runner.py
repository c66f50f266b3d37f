"""The exact check in a process of its own: started, cancelled, and kept by config, without torch in the caller."""

import contextlib
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from core import paths, process
from core.estimate import catalogue
from core.estimate.errors import NeedsTrace, NotInTransformers, TraceFailed, UnknownArchitecture
from core.estimate.setup import Setup, named_targets

VERSION = 6  # of the trace; a change makes what was kept stale
PATIENCE = 180  # seconds before a trace is given up
BEAT = 0.3  # seconds between two looks at whether it was cancelled


class Cancelled(Exception):
    """The person stopped waiting."""


def check(model: str, setup: Setup, capability: float, should_stop: Callable[[], bool] = lambda: False) -> dict:
    """Peaks of the real step in bytes: allocated, reserved, phases, alive; from the cache if it was asked before.

    Raises:
        TraceFailed: with the reason, in words.
        Cancelled: when should_stop() said so.
    """
    with contextlib.suppress(NeedsTrace, UnknownArchitecture):
        setup = named_targets(setup, catalogue.shape(model))
    request = {"config": catalogue.config(model), "setup": dataclasses.asdict(setup), "capability": capability}
    cached = _place(request)
    if cached.exists():
        return json.loads(cached.read_text(encoding="utf-8")) | {"kept": True}
    answer = _run(request, should_stop)
    if "architecture" in answer:
        raise NotInTransformers(name=answer["architecture"], nearest=", ".join(answer["nearest"]))
    if "error" in answer:
        raise TraceFailed(reason=answer["error"])
    cached.parent.mkdir(parents=True, exist_ok=True)
    partial = cached.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(answer), encoding="utf-8")
    partial.replace(cached)
    return answer | {"kept": False}


def _place(request: dict) -> Path:
    key = json.dumps([VERSION, request], sort_keys=True)
    return paths.home() / "estimates" / "traces" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"


def _run(request: dict, should_stop: Callable[[], bool]) -> dict:
    environment = os.environ | {
        "PYTHONPATH": str(process.ROOT),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "core.estimate.trace"],
        **dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE),
        encoding="utf-8",
        errors="replace",
        cwd=process.ROOT,
        env=environment,
    )
    waited, sent = 0.0, json.dumps(request)
    try:
        while True:
            try:
                out, errors = child.communicate(sent, timeout=BEAT)
                break
            except subprocess.TimeoutExpired:
                waited, sent = waited + BEAT, None
                if should_stop():
                    raise Cancelled from None
                if waited > PATIENCE:
                    raise TraceFailed(reason=f"it took longer than {PATIENCE} seconds") from None
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate()
    try:
        return json.loads(out.strip().splitlines()[-1])
    except (IndexError, ValueError):
        if child.returncode < 0:
            return {
                "error": f"its process was ended from outside (signal {-child.returncode}); memory may be short here"
            }
        return {"error": (errors.strip().splitlines() or ["no answer"])[-1][:300]}
