"""The end of a trainer that does not listen: its process is killed, what it did is put on record, it can be resumed.

Stop and Pause are asked of a trainer, which obeys after its step. One that hangs in a driver never does.
"""

from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from core import errors, events, paths
from core import process as core_process
from core.errors import UserError
from core.runs import requests, runs

PATIENCE_SECONDS = 60.0  # for which a request may go unheard before the page offers to end the process
DEATH_SECONDS = 20.0  # a process that is deep in a driver dies late


class EndedByForce(UserError):
    template = (
        "The trainer did not answer, and its process was ended. What came after the last checkpoint is done again."
    )


class DoesNotDie(UserError):
    template = (
        'The process {pid} of the run "{name}" cannot be ended: the system or a driver holds it. Restart the machine; '
        "the run goes on from its last checkpoint."
    )


def unheard(row: dict, now: float) -> float:
    """For how many seconds a run's trainer has not taken up that it should stop or pause; 0 where it has, or need not."""
    if row["state"] not in ("stopping", "pausing"):
        return 0.0
    asked = requests.asked(paths.run(row["id"]))
    heard = row["request"] == asked.get("request") and row["requested_at"] == asked.get("asked")
    return 0.0 if heard or "asked" not in asked else max(0.0, now - asked["asked"])


def end(run_id: str) -> None:
    """Kill the process of a run at work, without its checkpoint; it can be resumed from the newest one that is there.

    Raises:
        NotRunning, DoesNotDie.
    """
    run_dir, name = runs.directory(run_id), runs.label(run_id)["name"]
    process = trainer_of(run_id)
    if not process:
        raise runs.NotRunning(name=name, state=runs.state(run_id))
    for one in [*_children(process), process]:
        _kill(one)
    try:
        with FileLock(run_dir / "run.lock", timeout=DEATH_SECONDS):  # dead: the system has dropped it
            put_on_record(run_dir, EndedByForce())
    except Timeout:
        raise DoesNotDie(pid=process.pid, name=name) from None


def trainer_of(run_id: str) -> psutil.Process | None:
    """The process that trains a run. A number alone proves nothing: the lock must be held and the command be ours."""
    run_dir, life = runs.directory(run_id), runs.last_life(run_id)
    if not runs.is_alive(run_dir) or life.get("boot") != core_process.boot_id() or "pid" not in life:
        return None
    try:
        process = psutil.Process(life["pid"])
        words = process.cmdline()
    except psutil.Error:
        return None
    return process if "core.trainer" in words and str(run_dir) in words else None


def put_on_record(run_dir: Path, trouble: UserError) -> None:
    """Write the last word that a dead trainer could not say; one that ended by itself meanwhile has said it.

    Whoever calls holds the run's lock: the trainer is dead.
    """
    events.mend(run_dir)
    last = events.last(run_dir) or {}
    if last.get("event") not in events.FINAL:
        events.append(run_dir, "failed", **errors.to_dict(trouble))


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return
