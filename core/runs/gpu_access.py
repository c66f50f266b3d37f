"""Access to the graphics card: a run that trains has it, every other process frees its memory.

Of several cards, it is the one that replies come from (core.chat.reply_gpu): a run on another one disturbs nobody.

A worker claims the card for a run. The chat's process is asked to free its memory; every other process that holds memory
there (a model that writes rows, a chat of the command line) is a guest: it calls `need()` before it loads a model, keeps
`guest()` open as long as the model is loaded, and leaves as soon as `busy()` names a run.
"""

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from core import jobs, paths
from core.chat import reply_gpu
from core.errors import UserError
from core.process import is_lock_held
from core.runs import runs

LEAVE_SECONDS = 120  # that guests get to leave, a large model may be loading; then the run begins all the same
LOOK_SECONDS = 0.1
LOCK_SECONDS = 10  # without flock, a look at a lock takes it for an instant
_counted = itertools.count()


class CardBusy(UserError):
    template = 'The run "{name}" is training and has the card. Wait for its end, or let the reply come from the CPU.'


def training() -> str | None:
    """The id of the run that is training now."""
    for run_id in runs.listed():
        with suppress(UserError, OSError, ValueError):
            if jobs.is_alive(paths.run(run_id)):
                return run_id
    return None


def owner() -> str | None:
    """The run that is training, or that a worker is about to start."""
    return training() or claimed()


def busy(*, sees_card: bool = False) -> str | None:
    """The run that has the card that replies come from, or is about to get it; None where it is free, or there is none.

    `sees_card`: torch has found a card, whatever the driver lists.
    """
    run_id = owner()
    is_taken = reply_gpu.gives_way_to if sees_card else reply_gpu.is_taken_by
    return run_id if run_id and is_taken(run_id) else None


def need(error: type[CardBusy] = CardBusy, *, sees_card: bool = False) -> None:
    """Raise CardBusy, or the given subclass, when a run has the card."""
    if run_id := busy(sees_card=sees_card):
        raise error(name=runs.label(run_id)["name"])


def claimed() -> str | None:
    """The run that a worker has claimed the card for, until it has ended: its process may take a second longer."""
    if is_lock_held(_place() / "claim.lock"):
        with suppress(UserError, OSError, ValueError):
            run_id = (_place() / "claim.run").read_text(encoding="utf-8")
            return run_id if runs.state(run_id) in runs.ACTIVE else None
    return None


@contextmanager
def claim(run_id: str) -> Iterator[None]:
    """Claim the GPU for a run until the block ends: no other process loads a model there, and guests unload theirs."""
    with FileLock(_place() / "claim.lock", timeout=LOCK_SECONDS):
        (_place() / "claim.run").write_text(run_id, encoding="utf-8")
        yield


@contextmanager
def guest() -> Iterator[None]:
    """Be a guest on the card until the block, or the process, ends."""
    lock = FileLock(_place() / f"guest-{os.getpid()}-{next(_counted)}.lock", timeout=LOCK_SECONDS)
    with lock:
        yield
    with suppress(OSError):
        Path(lock.lock_file).unlink(missing_ok=True)


def wait_for_guests(seconds: float = LEAVE_SECONDS) -> bool:
    """Wait until there is no guest on the card; whether all left in time."""
    end = time.monotonic() + seconds
    while any(is_lock_held(lock) for lock in _place().glob("guest-*.lock")):
        if time.monotonic() > end:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def _place() -> Path:
    place = paths.home() / "card"
    place.mkdir(parents=True, exist_ok=True)
    return place
