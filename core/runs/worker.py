"""The process of the queue, `python -m core.runs.worker`: starts one trainer after another until no run waits.

It holds the queue's lock, imports nothing heavy and outlives the page.
"""

import sys
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from core import errors, events, jobs, paths, process
from core.chat import chat, reply_gpu
from core.runs import disk_space, gpu_access, queue, runs, terminate

KILLED = (-9, 137)  # by the system, or by a person
HANDOVER_SECONDS = 5.0  # longer than a worker takes from its last look at the queue to its end


def main() -> None:
    # A second worker waits a moment: were the first one just about to end, a new run would be overlooked.
    with suppress(Timeout), FileLock(runs.queue_lock(), timeout=HANDOVER_SECONDS):
        work()


def work() -> None:
    """Train the runs that wait, in their order, one at a time; first those that a reboot interrupted."""
    queue.requeue_interrupted()
    tried = set()  # (run, size of its events): a run that was resumed meanwhile is tried again
    while waiting := [run for run in map(_with_size, queue.next_ones()) if run not in tried]:
        if any(jobs.is_alive(paths.run(run_id)) for run_id in runs.listed()) or disk_space.is_full():
            time.sleep(1)  # a trainer that outlived its worker still holds the card; or no event could be written
            continue
        tried.add(waiting[0])
        # A run that was deleted this very moment, a process that the system refused: the next one has its turn.
        try:
            with gpu_access.claim(waiting[0][0]):
                run_trainer(waiting[0][0])
        except Exception:
            errors.log()


def _with_size(run_id: str) -> tuple[str, int]:
    return run_id, events.size(paths.run(run_id))


def run_trainer(run_id: str) -> None:
    """Train one run in a process of its own; record the failure of a trainer that died without a last event."""
    run_dir = paths.run(run_id)
    before, killed_before = events.size(run_dir), kills_for_memory()
    if runs.state(run_id) != "queued":  # the trainer of a worker that is gone has begun
        return
    if reply_gpu.gives_way_to(run_id):
        try:
            chat.close()  # by agreement: a starting run gets the memory that a chat holds
        except Exception:  # whatever is wrong with a chat, the run is trained
            errors.log()
        gpu_access.wait_for_guests()
    with (run_dir / "log.txt").open("ab") as log:
        command = [sys.executable, "-m", "core.trainer", str(run_dir), "--seen", str(before)]
        code = process.spawn_detached(command, log).wait()
    if code in KILLED and kills_for_memory() > killed_before:
        error = errors.named("KilledForMemory", step=(events.last(run_dir) or {}).get("step", 0))
        with jobs.lock(run_dir):
            terminate.record_failure(run_dir, error)
    elif events.size(run_dir) == before and code and not jobs.is_alive(run_dir):
        lines = (run_dir / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        error = errors.named("TrainerDidNotStart", reason=lines[-1] if lines else f"exit code {code}")
        events.append(run_dir, "failed", **errors.to_dict(error))


def kills_for_memory() -> int:
    """How many processes the system has killed for lack of memory since it started; 0 where that is not known."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


if __name__ == "__main__":
    main()
