"""The engine of background work: a directory that is made whole, a process that holds its lock, requests, events.

Runs, synthesis, arena, exports and the check of the card are jobs. The state of a job is derived: while a process holds
run.lock it is at work, afterwards its last event says how it ended; a page that is closed changes nothing.

control.json holds the latest request: "stop" and "pause" are for the process at work, "resume" and "hold" for a job that
waits, and they expire with its next event. once.json holds what a training run does once and goes on, "save" and
"sample"; as a file of its own it can never replace a stop of the same moment.
"""

import argparse
import itertools
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from core import damage, errors, events, files, paths, process
from core.errors import UserError

AT_WORK = ("running", "stopping", "pausing")  # a process works on it
ACTIVE = ("queued", *AT_WORK)  # its state will change without a person's doing
RESUMABLE = ("paused", "stopped", "failed", "lost")  # states that a job can go on from
ENDS = ("stop", "pause")
WAITS = ("resume", "hold")
ONCE = ("save", "sample")
REQUEST = "synth/*/job.json"  # the pattern of a request: those of all jobs have one shape
STARTING_SECONDS = 30  # that a new process gets to take its lock
# A process that is killed deep in a driver dies late; without flock a look takes the lock for an instant.
LOCK_SECONDS = 20
POLL_SECONDS = 0.5


class AlreadyAtWork(UserError):
    template = "The job {job} is worked on by another process already."


class Stopped(BaseException):
    """Raised when a stop or pause was requested; its argument is the request. No error handler may swallow it."""


# Directories


def create(home: Path, request: dict, directory: Path | None = None) -> Path:
    """Make the directory of a job, whole or not at all: a new one in `home`, or this one.

    `request` has a "name" and whatever the work needs.
    """

    def fill(unfinished: Path) -> None:
        files.write_json(unfinished / "job.json", request | {"created": time.time()})

    return make_directory(home, request["name"], fill, directory)


def make_directory(home: Path, name: str, fill: Callable[[Path], None], directory: Path | None = None) -> Path:
    """A new directory in `home`, or this one, that appears after `fill(path)` has written its files.

    Its name is the time and the words of `name`, with a number where two are made within a second.
    """
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{paths.slug(name)}"
    target = directory or home / stem
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    unfinished.mkdir()
    try:
        fill(unfinished)
        for number in itertools.count(2):
            try:
                return unfinished.rename(target)
            except OSError:
                if directory or not target.exists():
                    raise
            target = home / f"{stem}-{number}"
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def listed(home: Path) -> list[Path]:
    """The directories of all jobs, newest first; one whose request is damaged is passed over (core/damage.py names it)."""
    requests = (path for path in home.glob("[!.]*/job.json") if damage.read(path, REQUEST))
    return sorted((path.parent for path in requests), reverse=True)


def find(home: Path, job_id: str) -> Path:
    """The directory of the job with this id, which is the name of a directory in `home` and nothing else."""
    path = home / Path(job_id or ".").name
    if Path(job_id or ".").name != job_id or path.is_symlink() or not (path / "job.json").is_file():
        raise errors.named("JobGone", job=job_id)
    return path


def request(directory: Path) -> dict:
    """What a job was asked for.

    Raises:
        JobDamaged.
    """
    if values := damage.read(directory / "job.json", REQUEST):
        return values
    raise errors.named("JobDamaged", job=directory.name, path=directory / "job.json")


def delete(directory: Path) -> None:
    """Delete a job with all that it made."""
    if is_alive(directory):
        raise errors.named("JobStillAtWork", name=request(directory)["name"])
    shutil.rmtree(directory)


# States


def state(directory: Path) -> str:
    """queued, held, running, pausing, stopping, finished, stopped, paused or failed.

    Or lost: its process was killed, by a person, for memory or by a power cut.
    """
    # The lock first: a process releases it after its last event, so a free lock means that all events are there.
    alive = is_alive(directory)
    control, last = latest_request(directory), events.last(directory)
    if alive:
        return {"stop": "stopping", "pause": "pausing"}.get(control.get("request"), "running")
    if waiting := waits(directory):
        return {"resume": "queued", "hold": "held"}[waiting]
    if last is None and not (directory / "job.json").exists():  # a run: it waits for its turn, however long
        if not last_process(directory):  # else a trainer had it and its events are gone
            return "stopped" if control.get("request") == "stop" else "queued"
    elif last is None and time.time() - (directory / "job.json").stat().st_mtime < STARTING_SECONDS:
        return "queued"
    if last and last["event"] in events.FINAL:
        return last["event"]
    # A process may have taken the lock after the first look: a dead one is silent at the second look too.
    return "running" if is_alive(directory) else "lost"


def is_alive(directory: Path) -> bool:
    """Whether a process holds the job's lock; the system releases it however the process dies."""
    return process.is_lock_held(directory / "run.lock")


def progress(directory: Path) -> dict:
    """The latest event of each kind, by its name."""
    return {event["event"]: event for event in events.read(directory)[0]}


def follow(directory: Path, look: Callable[[], None] = lambda: None) -> Iterator[dict]:
    """The events of a job as they are written, until it has ended; what `look()` raises, called at each poll, ends it."""
    offset, now = 0, "queued"
    while now in ACTIVE:
        look()
        now = state(directory)  # before the events, so that the last ones are not missed
        fresh, offset = events.read(directory, offset)
        yield from fresh
        if now in ACTIVE:
            time.sleep(POLL_SECONDS)


# Requests


def ask(directory: Path, request: str) -> None:
    """Put a request (of ENDS, WAITS or ONCE) in the place of the one before.

    Raises:
        NothingWritten: where the disk is full; but to stop and to pause can be asked even then.
    """
    now = round(time.time(), 3)
    if request in ONCE:
        files.write_json(directory / "once.json", once_requests(directory) | {request: now})
        return
    control, full = {"request": request, "after": events.size(directory), "asked": now}, False
    try:
        files.write_json(directory / "control.json", control)
    except files.NothingWritten:
        if request not in ENDS:
            raise
        full = True
        (directory / f"control.{request}").touch()  # an empty file needs no room
    for name in ENDS:
        if not (full and name == request):
            (directory / f"control.{name}").unlink(missing_ok=True)


def latest_request(directory: Path) -> dict:
    """The latest request as {"request", "after": bytes of the events then, "asked": when}, or {}."""
    for name in ENDS:
        with suppress(FileNotFoundError):
            when = (directory / f"control.{name}").stat().st_mtime
            return {"request": name, "after": -1, "asked": round(when, 3)}
    control = damage.read(directory / "control.json", "runs/*/control.json")
    if control and "asked" not in control:  # of a job of an older version
        control = {"after": -1, "asked": round((directory / "control.json").stat().st_mtime, 3)} | control
    return control


def end_request(directory: Path) -> str:
    """stop or pause, if one of them is the latest request; else nothing."""
    request = latest_request(directory).get("request", "")
    return request if request in ENDS else ""


def end_if_requested(directory: Path) -> None:
    """Raise Stopped if a stop or pause was requested."""
    if request := end_request(directory):
        raise Stopped(request)


def waits(directory: Path) -> str:
    """resume or hold, if no event was written since; else nothing."""
    control = latest_request(directory)
    return (
        control["request"] if control.get("request") in WAITS and control.get("after") == events.size(directory) else ""
    )


def once_requests(directory: Path) -> dict[str, float]:
    """When a save and a sample were asked for last."""
    # Up to 0.9.0 the file had another name.
    return damage.read(directory / "wishes.json", "runs/*/wishes.json") | damage.read(
        directory / "once.json", "runs/*/once.json"
    )


# Processes


def last_process(directory: Path) -> dict:
    """The last process of a run: {"boot_id", "pid", "starts": in a row without a new checkpoint}, or {}."""
    earlier = damage.read(directory / "life.json", "runs/*/life.json")  # its name before process.json
    if "boot" in earlier:
        earlier["boot_id"] = earlier.pop("boot")
    return earlier | damage.read(directory / "process.json", "runs/*/process.json")


def start(directory: Path, module: str, environment: dict[str, str]) -> None:
    """Run `python -m module --job DIRECTORY`, detached from this process; earlier requests are forgotten.

    `environment` holds variables that are set for it, such as those that choose its card.
    """
    forget_requests(directory)
    with (directory / "log.txt").open("ab") as log:
        command = [sys.executable, "-m", module, "--job", str(directory)]
        process.spawn_detached(command, log, environment)


def forget_requests(directory: Path) -> None:
    for path in directory.glob("control.*"):
        path.unlink(missing_ok=True)


@contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Be the one process that works on a job.

    Raises:
        AlreadyAtWork: when another one is.
    """
    held = FileLock(directory / "run.lock", timeout=LOCK_SECONDS)
    try:
        held.acquire()
    except Timeout:
        raise AlreadyAtWork(job=directory.name) from None
    try:
        yield
    finally:
        held.release()


def run(directory: Path, work: Callable[[Path, dict, Callable], dict]) -> str:
    """Lock a job, do its work and record how it began and ended; the name of its last event.

    `work(directory, request, report)` reports with `report(event, **values)`, which raises Stopped once asked to. It
    returns the values of the last event.
    """

    def report(event: str, **values) -> None:
        events.append(directory, event, **values)
        end_if_requested(directory)

    with lock(directory):
        return record(directory, lambda: work(directory, request(directory), report))


def record(directory: Path, work: Callable[[], dict], describe=None, **started) -> str:
    """Do the work of a job that is locked between its first and its last event; the name of the last one.

    `work()` returns the values of the last event, which is "finished" unless they hold an "event". `describe(error)` makes
    a UserError of whatever it raises; `started` are values of the first event.
    """
    events.cut_partial_line(directory)
    events.append(directory, "started", pid=os.getpid(), **started)
    try:
        ending = {"event": "finished", **work()}
    except Stopped as stopped:
        ending = {"event": "paused" if str(stopped) == "pause" else "stopped"}
    except Exception as error:  # what cannot be worded better keeps its traceback in the log
        with suppress(OSError):  # of a full disk
            errors.log()
        error = describe(error) if describe else described(error, directory)
        ending = {"event": "failed", **errors.to_dict(error)}
        events.cut_partial_line(directory)  # a full disk may have cut the last line short
    events.append(directory, **ending)
    return ending["event"]


def described(error: Exception, directory: Path) -> UserError:
    """The error itself if it is a sentence for a person, else its class and its first line."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError):
        return files.worded(error, directory)
    return errors.named("JobFailed", kind=type(error).__name__, reason=errors.first_line(error) + ".", path=directory)


def command(parser: argparse.ArgumentParser, run: Callable, work: Callable | None = None) -> None:
    """Parse a command line and print what `run(args, parser)` returns; with --job do the `work` of a job instead."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    if work:
        parser.add_argument("--job", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if work and args.job:
        main(parser, args.job, work)
    try:
        result = run(args, parser)
    except (UserError, OSError) as error:
        sys.exit(errors.tell(error, args.json))
    print(json.dumps(result, ensure_ascii=False, indent=None if args.json else 2))


def main(parser: argparse.ArgumentParser, directory: str, work) -> None:
    """The end of a `--job DIRECTORY` command."""
    path = Path(directory).absolute()
    if not (path / "job.json").is_file():
        parser.error(f"there is no job.json in {directory}")
    with suppress(KeyboardInterrupt):
        sys.exit(1 if run(path, work) == "failed" else 0)
