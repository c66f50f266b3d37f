"""The queue's own process: holds the queue's lock and runs one trainer after another until nothing waits.

Started by core.runs when needed: `python -m core.runs.worker`. It imports nothing heavy and survives the page.
"""

import sys
import time
import traceback
from pathlib import Path

from filelock import FileLock, Timeout

from core import events, jobs, paths, process
from core.chat import chat, reply_gpu
from core.errors import UserError
from core.runs import disk_space, gpu_access, queue, runs, terminate

KILLED = (-9, 137)  # by the system, or by a person
HANDOVER_SECONDS = 5.0  # longer than a worker takes from its last look at the queue to its end


class KilledForMemory(UserError):
    template = (
        "The system ended the run, because this machine's own memory ran out after step {step}. Close other programs, "
        "lower batch_size or max_length, or choose a smaller model."
    )


def main() -> None:
    # A second worker waits a moment: were the first one just about to end, a new run would be overlooked.
    try:
        with FileLock(runs.queue_lock(), timeout=HANDOVER_SECONDS):
            work()
    except Timeout:
        return


def work() -> None:
    """Run what is queued, in its order, one at a time; first what a reboot interrupted."""
    queue.come_back()
    tried = set()  # with the length of its events: a run that was resumed meanwhile is another matter
    while waiting := [run for run in map(_marked, queue.next_ones()) if run not in tried]:
        if any(jobs.is_alive(paths.run(run_id)) for run_id in runs.listed()) or disk_space.is_full():
            time.sleep(1)  # a trainer that outlived its worker still holds the card; or no trainer could say a word
            continue
        tried.add(waiting[0])
        # A run that was deleted this very moment, a process that the system refused: on with the next.
        try:
            with gpu_access.claim(waiting[0][0]):
                run_trainer(waiting[0][0])
        except Exception:
            traceback.print_exc()


def _marked(run_id: str) -> tuple[str, int]:
    return run_id, events.size(paths.run(run_id))


def run_trainer(run_id: str) -> None:
    """Train one run in a process of its own; what a dead trainer could not say is put on record."""
    run_dir = paths.run(run_id)
    before, killed_before = events.size(run_dir), kills_for_memory()
    if runs.state(run_id) != "queued":  # the trainer of a worker that is gone was about to begin
        return
    if reply_gpu.gives_way_to(run_id):
        try:
            chat.close()  # by agreement: a starting run gets the memory that a chat holds
        except Exception:  # a chat that does not understand is no reason not to train
            traceback.print_exc()
        gpu_access.wait_for_guests()
    with (run_dir / "log.txt").open("ab") as log:
        command = [sys.executable, "-m", "core.trainer", str(run_dir), "--seen", str(before)]
        code = process.spawn_detached(command, log).wait()
    if code in KILLED and kills_for_memory() > killed_before:
        trouble = KilledForMemory(step=(events.last(run_dir) or {}).get("step", 0))
        with FileLock(run_dir / "run.lock", timeout=HANDOVER_SECONDS):
            terminate.put_on_record(run_dir, trouble)
    elif events.size(run_dir) == before and code and not jobs.is_alive(run_dir):
        lines = (run_dir / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"exit code {code}"
        message = f"The trainer did not start: {reason} See log.txt in the run's directory."
        values = {"reason": reason}
        events.append(run_dir, "failed", trouble="TrainerDidNotStart", values=values, message=message)


def kills_for_memory() -> int:
    """How many processes the system has ended for want of memory since it started; 0 where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


if __name__ == "__main__":
    main()
