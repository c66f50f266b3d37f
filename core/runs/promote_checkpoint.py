"""Make the checkpoint that a person chose by reading the result of its run."""

import shutil
import time
from pathlib import Path

from core import errors, paths
from core import files as core_files
from core.models import models
from core.runs import runs
from core.training.checkpoints import complete, is_whole

TRAINING = ("optimizer", "scheduler", "rng_state", "trainer_state", "training_args", "scaler", "whole", "README")


def kept(run_id: str) -> list[int]:
    """The steps of the complete checkpoints that are there, the oldest first."""
    return list(complete(paths.run(run_id)))


def take(run_id: str, step: int) -> Path:
    """Replace the weights that the run ended with by those of a checkpoint; the directory with them.

    Raises:
        StillRunning, CheckpointGone, DiskFull.
    """
    run_dir, name = runs.directory(run_id), runs.label(run_id)["name"]
    runs.need_state(run_id, (*runs.RESUMABLE, "finished"), runs.StillRunning)
    checkpoint = run_dir / f"checkpoint-{step}"
    if not is_whole(checkpoint):
        raise errors.named("CheckpointGone", name=name, step=step, kept=", ".join(map(str, kept(run_id))) or "-")
    target = run_dir / ("model" if runs.config(run_id).method == "full" else "adapter")
    files = {path.name: path for path in target.glob("*") if path.suffix != ".safetensors"}
    files |= {path.name: path for path in checkpoint.iterdir() if path.is_file() and _is_of_the_model(path, files)}
    models.need_disk(run_dir, sum(path.stat().st_size for path in files.values()))
    _put(files, target)
    core_files.write_json(run_dir / "label.json", {**runs.label(run_id), "taken": [step, round(time.time(), 3)]})
    return target


def _is_of_the_model(path: Path, known: dict) -> bool:
    """Weights always; of the other files those that the result does not have, but nothing that only training needs."""
    if path.suffix == ".safetensors":
        return True
    return path.name not in known and not path.name.startswith(TRAINING)


def _put(files: dict[str, Path], target: Path) -> None:
    """Replace a directory by copies of files, so that it is never half of one and half of another."""
    fresh, old = (target.with_name(f"{target.name}{end}") for end in (".unfinished", ".old.unfinished"))
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir()
    for name, path in files.items():
        shutil.copyfile(path, fresh / name)
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)
