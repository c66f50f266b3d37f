"""Background jobs: a directory with a request, a detached process that writes events, a state that is derived.

Who holds the directory's lock is at work; else the last event says how it ended. Nothing hangs on a page.
"""

import argparse
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from core import errors, events, files, paths, process
from core.chat import reply_gpu
from core.errors import UserError

STARTING_SECONDS = 30  # that a new process gets to take its lock


class JobGone(UserError):
    template = "There is no job {job}. It was deleted: choose another one."


class JobStillAtWork(UserError):
    template = 'The job "{name}" is still at work. Stop it first.'


class JobFailed(UserError):
    template = "{kind}: {reason} The details are in log.txt in {path}."


class Stopped(Exception):
    """Somebody pressed Stop."""


def create(home: Path, request: dict, directory: Path | None = None) -> Path:
    """Make the directory of a job, whole or not at all: a new one in `home`, or this one.

    `request` has a "name" and whatever the work needs.
    """
    stem, count = f"{time.strftime('%Y%m%d-%H%M%S')}-{paths.slug(request['name'])}", 1
    directory, new = directory or home / stem, directory is None
    while new and directory.exists():
        count += 1
        directory = home / f"{stem}-{count}"
    unfinished = directory.with_name(f".{directory.name}.{os.getpid()}")
    unfinished.mkdir()
    files.write_json(unfinished / "job.json", request | {"created": time.time()})
    unfinished.rename(directory)
    return directory


def start(directory: Path, module: str, environment: dict[str, str] | None = None) -> None:
    """Run `python -m module --job DIRECTORY`, detached from this process.

    `environment` holds variables that are set for it; by default it computes on the card that replies come from.
    """
    (directory / "control.json").unlink(missing_ok=True)
    with (directory / "log.txt").open("ab") as log:
        command = [sys.executable, "-m", module, "--job", str(directory)]
        seen = reply_gpu.environment() if environment is None else environment
        process.spawn_detached(command, log, seen)


def listed(home: Path) -> list[Path]:
    """The directories of all jobs, newest first."""
    return sorted((path.parent for path in home.glob("[!.]*/job.json")), reverse=True)


def find(home: Path, job_id: str) -> Path:
    """The directory of a job that exists, whatever the id says."""
    path = home / Path(job_id or ".").name
    if Path(job_id or ".").name != job_id or path.is_symlink() or not (path / "job.json").is_file():
        raise JobGone(job=job_id)
    return path


def request(directory: Path) -> dict:
    return json.loads((directory / "job.json").read_text(encoding="utf-8"))


def state(directory: Path) -> str:
    """queued, running, pausing, stopping, finished, stopped, paused, failed, or lost: killed, out of memory, power cut."""
    if is_alive(directory):
        return {"pause": "pausing", "stop": "stopping"}.get(asked(directory), "running")
    last = events.last(directory)
    if last and last["event"] in events.FINAL:
        return last["event"]
    began = (directory / "job.json").stat().st_mtime
    return "queued" if last is None and time.time() - began < STARTING_SECONDS else "lost"


def is_alive(directory: Path) -> bool:
    """Whether a process works on the job."""
    return process.is_lock_held(directory / "run.lock")


def progress(directory: Path) -> dict:
    """The latest event of each kind, by its name."""
    return {event["event"]: event for event in events.read(directory)[0]}


def stop(directory: Path) -> None:
    """Ask the job's process to end."""
    files.write_json(directory / "control.json", {"request": "stop"})


def pause(directory: Path) -> None:
    """Ask the job's process to end so that it can go on later; for work that can."""
    files.write_json(directory / "control.json", {"request": "pause"})


def asked(directory: Path) -> str:
    """What was asked of the job's process since it started: stop, pause or nothing."""
    try:
        return json.loads((directory / "control.json").read_text(encoding="utf-8")).get("request", "")
    except (OSError, ValueError):
        return ""


def delete(directory: Path) -> None:
    """Delete a job with all that it made."""
    if is_alive(directory):
        raise JobStillAtWork(name=request(directory)["name"])
    shutil.rmtree(directory)


def run(directory: Path, work: Callable[[Path, dict, Callable], dict]) -> str:
    """Do a job's work between two events that say how it began and ended; the name of its last event.

    `work(directory, request, report)` reports with `report(event, **values)`, which raises Stopped once asked to.
    """
    try:
        lock = FileLock(directory / "run.lock").acquire(timeout=5)
    except Timeout:
        raise JobStillAtWork(name=request(directory)["name"]) from None

    def report(event: str, **values) -> None:
        events.append(directory, event, **values)
        if asked(directory) == "stop":
            raise Stopped

    with lock:
        events.mend(directory)
        events.append(directory, "started", pid=os.getpid())
        try:
            ending = {"event": "finished", **work(directory, request(directory), report)}
        except Stopped:
            ending = {"event": "stopped"}
        except Exception as error:  # what cannot be worded better keeps its traceback in the log
            traceback.print_exc()
            ending = {"event": "failed", **_told(error, directory)}
        events.append(directory, **ending)
        return ending["event"]


def _told(error: Exception, directory: Path) -> dict:
    """A trouble as an event's values: its name, values and English."""
    if not isinstance(error, UserError):
        reason = (str(error).strip().split("\n")[0] or "no message").rstrip(".") + "."
        error = JobFailed(kind=type(error).__name__, reason=reason, path=directory)
    return errors.to_dict(error)


def main(parser: argparse.ArgumentParser, directory: str, work) -> None:
    """The end of a `--job DIRECTORY` command."""
    path = Path(directory).absolute()
    if not (path / "job.json").is_file():
        parser.error(f"there is no job.json in {directory}")
    with suppress(KeyboardInterrupt):
        sys.exit(1 if run(path, work) == "failed" else 0)
