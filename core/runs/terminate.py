"""Kill the process of a trainer that ignores stop and pause, and record the failure; the run can be resumed.

A trainer obeys after its step; one that hangs in a driver never does.
"""

from pathlib import Path

import psutil

from core import errors, events, jobs, paths, process
from core.errors import UserError
from core.runs import runs

PATIENCE_SECONDS = 60.0  # that a request may go unanswered before the page offers to end the process


def unanswered(row: dict, now: float) -> float:
    """For how many seconds a run's trainer has ignored a stop or pause; 0 where it has not."""
    if row["state"] not in ("stopping", "pausing"):
        return 0.0
    asked = jobs.latest_request(paths.run(row["id"]))
    heard = row["request"] == asked.get("request") and row["requested_at"] == asked.get("asked")
    return 0.0 if heard or "asked" not in asked else max(0.0, now - asked["asked"])


def end(run_id: str) -> None:
    """Kill the trainer of a run without a checkpoint; the run can be resumed from the newest one that is there.

    Raises:
        NotRunning, DoesNotDie.
    """
    run_dir, name = runs.directory(run_id), runs.label(run_id)["name"]
    trainer = trainer_of(run_id)
    if not trainer:
        raise runs.NotRunning(name=name, state=runs.state(run_id))
    process.kill(trainer)
    try:
        with jobs.lock(run_dir):  # the system releases it when the process is dead
            record_failure(run_dir, errors.named("EndedByForce"))
    except jobs.AlreadyAtWork:
        raise errors.named("DoesNotDie", pid=trainer.pid, name=name) from None


def trainer_of(run_id: str) -> psutil.Process | None:
    """The process that trains a run: its pid may be another's by now, so the lock must be held and the command ours."""
    run_dir = runs.directory(run_id)
    last = jobs.last_process(run_dir)
    if not jobs.is_alive(run_dir) or last.get("boot_id") != process.boot_id() or "pid" not in last:
        return None
    try:
        trainer = psutil.Process(last["pid"])
        words = trainer.cmdline()
    except psutil.Error:
        return None
    return trainer if "core.trainer" in words and str(run_dir) in words else None


def record_failure(run_dir: Path, error: UserError) -> None:
    """Append a failed event for a trainer that was killed, unless it has ended by itself; call it while holding the run's lock."""
    events.cut_partial_line(run_dir)
    last = events.last(run_dir) or {}
    if last.get("event") not in events.FINAL:
        events.append(run_dir, "failed", **errors.to_dict(error))
