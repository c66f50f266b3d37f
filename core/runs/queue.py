"""The queue: the order of the runs that wait, hold and release, and runs that a reboot interrupted.

order.json holds the order; runs that are not in it come after those that are, oldest first.
"""

from contextlib import suppress

from filelock import FileLock

from core import events, files, jobs, paths, process
from core.errors import UserError
from core.runs import runs

MOST_STARTS = 3  # a run that takes the machine down each time is not started for ever
WAITING = ("queued", "held")


class NotWaiting(UserError):
    template = 'The run "{name}" does not wait in the queue; it is {state}.'


def waiting() -> list[str]:
    """The runs that wait, held ones too, in their order; a damaged one is passed over."""
    created = {}
    for run_id in runs.listed():
        with suppress(UserError, OSError, ValueError):
            # Cheap questions first: of hundreds of runs few wait.
            path = paths.run(run_id)
            waits = not events.size(path) or jobs.waits(path)
            if waits and runs.state(run_id) in WAITING and runs.config(run_id):
                created[run_id] = runs.label(run_id)["created"]
    known = {run_id: rank for rank, run_id in enumerate(_order())}
    return sorted(created, key=lambda run_id: (known.get(run_id, len(known)), created[run_id]))


def next_ones() -> list[str]:
    """The runs that wait and are not held, in their order."""
    return [run_id for run_id in waiting() if runs.state(run_id) == "queued"]


def move(run_id: str, places: int) -> list[str]:
    """Move a waiting run so many places down, or up where it is negative; the new order."""
    runs.need_state(run_id, WAITING, NotWaiting)
    with FileLock(_file().with_suffix(".lock")):
        order = waiting()
        at = order.index(run_id)
        order.insert(max(0, at + places), order.pop(at))
        files.write_json(_file(), order)
    return order


def hold(run_id: str) -> None:
    """Let a waiting run wait until let_go(); the others pass it."""
    runs.need_state(run_id, WAITING, NotWaiting)
    jobs.ask(paths.run(run_id), "hold")


def let_go(run_id: str) -> None:
    """Let a held run have its turn again."""
    runs.need_state(run_id, WAITING, NotWaiting)
    jobs.ask(paths.run(run_id), "resume")
    runs.start_worker()


def interrupted() -> list[str]:
    """The lost runs whose machine was shut down during training: they resume when the app is opened."""
    lost = []
    for run_id in runs.listed():
        with suppress(UserError, OSError, ValueError):
            last = jobs.last_process(runs.directory(run_id))
            before_boot = last and last.get("boot_id") != process.boot_id()
            if before_boot and last.get("starts", 0) < MOST_STARTS and runs.state(run_id) == "lost":
                lost.append(run_id)
    return lost


def requeue_interrupted() -> None:
    """Queue the interrupted runs again."""
    for run_id in interrupted():
        jobs.ask(paths.run(run_id), "resume")


def _order() -> list[str]:
    return [run_id for run_id in files.read_json(_file(), list) if isinstance(run_id, str)]


def _file():
    return paths.home() / "order.json"


def needs_worker() -> bool:
    """Whether a run waits, or was interrupted by a reboot, and no worker is there to take it."""
    return not runs.has_worker() and bool(next_ones() or interrupted())
