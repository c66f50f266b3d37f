"""Room on the disk: looked for before a run starts and before each save; a run that finds too little waits for it."""

import shutil
import time
from pathlib import Path

from core import paths

RUN_BYTES = 300_000_000  # room for log, checkpoints and adapter of a small run
SPARE_BYTES = 50_000_000  # beyond a checkpoint: the log, the database, other programs
LOOK_SECONDS = 2.0


def need(run_dir: Path, needed: int, report, should_stop=lambda: "") -> None:
    """Return when so many bytes are free beside the run, or when it was asked to end; say once that it waits."""
    waited = False
    while (free := free_bytes(run_dir)) < needed and not should_stop():
        if not waited:
            report("waiting", needed=needed, free=free)
        waited = True
        time.sleep(LOOK_SECONDS)
    if waited:
        report("room", free=free_bytes(run_dir))


def free_bytes(path: Path) -> int:
    return shutil.disk_usage(path).free


def checkpoint_bytes(run_dir: Path) -> int:
    """What the next checkpoint will take: as much as the largest that is there."""
    sizes = [size(path) for path in run_dir.glob("checkpoint-*")]
    return SPARE_BYTES + int(1.1 * max(sizes, default=0))


def taken(run_id: str) -> dict:
    """What a run occupies, in bytes: all of it, its checkpoints by step, what was trained, the log of events."""
    run_dir = paths.run(run_id)
    steps = {int(path.name.split("-")[1]): size(path) for path in run_dir.glob("checkpoint-*")}
    parts = {name: size(run_dir / name) for name in ("adapter", "model") if (run_dir / name).is_dir()}
    return {"bytes": size(run_dir), "checkpoints": dict(sorted(steps.items())), **parts}


def size(path: Path) -> int:
    """Bytes of the files under a directory; what vanishes meanwhile counts nothing."""
    total = 0
    for file in path.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except OSError:
            continue
    return total
