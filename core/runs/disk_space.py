"""Disk space: checked before a run starts and before each save; a run that finds too little waits for more."""

import shutil
import time
from contextlib import suppress
from pathlib import Path

from core import files, paths

RUN_BYTES = 300_000_000  # of the log, checkpoints and adapter of a small run
SPARE_BYTES = 50_000_000  # beyond a checkpoint: the log, the database, other programs
LAST_BYTES = 5_000_000  # with less no run is started
ADAM_BYTES = 12  # of a trained weight in a checkpoint: itself and two states of AdamW, 4 bytes each
LOOK_SECONDS = 2.0


def need(run_dir: Path, needed: int, report, should_stop=lambda: "") -> None:
    """Return when so many bytes are free beside the run, or when it was asked to end; report the wait once."""
    reported = False
    while (free := free_bytes(run_dir)) < needed and not should_stop():
        if not reported:
            with suppress(OSError):  # not even a line can be written: it is tried again
                report("waiting", needed=needed, free=free)
                reported = True
        time.sleep(LOOK_SECONDS)
    if reported:
        report("disk_free", free=free_bytes(run_dir))


def free_bytes(path: Path) -> int:
    return shutil.disk_usage(path).free


def is_full() -> bool:
    """Whether there is so little space that a run could not even write the event that it waits for more."""
    return free_bytes(paths.runs()) < LAST_BYTES


def checkpoint_bytes(run_dir: Path, trained: int = 0) -> int:
    """What the next checkpoint will take: as much as the largest that is there, or as so many trained parameters."""
    sizes = [files.size(path) for path in run_dir.glob("checkpoint-*")]
    return SPARE_BYTES + int(1.1 * max(sizes, default=ADAM_BYTES * trained))


def clear(run_dir: Path) -> None:
    """Delete what a full disk cut short: half a checkpoint, half an adapter."""
    cut = [path for path in run_dir.glob("checkpoint-*") if not (path / "whole.json").exists()]
    for path in [*cut, *run_dir.glob("*.unfinished")]:
        shutil.rmtree(path, ignore_errors=True)


def taken(run_id: str) -> dict:
    """{"bytes": of the whole run, "checkpoints": {step: bytes}, and those of "adapter" or "model" if it is there}."""
    run_dir = paths.run(run_id)
    steps = {int(path.name.split("-")[1]): files.size(path) for path in run_dir.glob("checkpoint-*")}
    parts = {name: files.size(run_dir / name) for name in ("adapter", "model") if (run_dir / name).is_dir()}
    return {"bytes": files.size(run_dir), "checkpoints": dict(sorted(steps.items())), **parts}
