"""The queue's own process: holds the queue's lock and runs one trainer after another until nothing waits.

Started by core.runs when needed: `python -m core.worker`. It imports nothing heavy and survives the page.
"""

import sys
import time
from pathlib import Path

from filelock import FileLock, Timeout

from core import chat, events, paths, runs, turns

HANDOVER_SECONDS = 5.0  # longer than a worker takes from its last look at the queue to its end


def main() -> None:
    # A second worker waits a moment: were the first one just about to end, a new run would be overlooked.
    try:
        with FileLock(runs.queue_lock(), timeout=HANDOVER_SECONDS):
            work()
    except Timeout:
        return


def work() -> None:
    """Run what is queued, in its order, one at a time; first what a reboot interrupted."""
    turns.come_back()
    tried = set()  # with the length of its events: a run that was resumed meanwhile is another matter
    while waiting := [run for run in map(_marked, runs.queued()) if run not in tried]:
        if any(runs.is_alive(paths.run(run_id)) for run_id in runs.listed()):
            time.sleep(1)  # a trainer that outlived its worker still holds the card
            continue
        tried.add(waiting[0])
        run_trainer(waiting[0][0])


def _marked(run_id: str) -> tuple[str, int]:
    return run_id, events.size(paths.run(run_id))


def run_trainer(run_id: str) -> None:
    """Train one run in a process of its own; a trainer that died before its first word is put on record."""
    run_dir = paths.run(run_id)
    before = events.size(run_dir)
    chat.close()  # by agreement: a starting run gets the memory that a chat holds
    with (run_dir / "log.txt").open("ab") as log:
        command = [sys.executable, "-m", "core.trainer", str(run_dir)]
        code = runs.spawn_detached(command, cwd=Path(__file__).parent.parent, log=log).wait()
    if events.size(run_dir) == before and code and not runs.is_alive(run_dir):
        lines = (run_dir / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"exit code {code}"
        message = f"The trainer did not start: {reason} See log.txt in the run's directory."
        values = {"reason": reason}
        events.append(run_dir, "failed", trouble="TrainerDidNotStart", values=values, message=message)


if __name__ == "__main__":
    main()
