"""Synth jobs: directories like runs. The page writes the request, a detached process writes rows and events.

The state is derived, never stored: who holds the lock is at work, else the last event says how it ended.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path

from core import events, jobs, paths, process
from core.chat import reply_gpu
from core.corpus import importer
from core.errors import UserError
from core.runs import runs
from core.synth import packing, personas, recipes

FINAL = ("finished", "stopped", "paused", "failed")
SMALLEST, MOST = 1_000, 20_000_000_000  # tokens


class JobAtWork(UserError):
    template = 'The job "{name}" is at work. Pause or stop it first.'


class NothingToGoOnWith(UserError):
    template = 'The job "{name}" has ended; there is nothing to go on with. Start a new one.'


class VolumeWrong(UserError):
    template = "The volume is {tokens} tokens; it has to be between {least} and {most}."


def home() -> Path:
    path = paths.home() / "synth"
    path.mkdir(parents=True, exist_ok=True)
    return path


def create(request: dict, directory: Path | None = None) -> Path:
    """Make the directory of a job, whole or not at all. `request` is what core.synth.worker.run reads back.

    Raises:
        the troubles of core.synth.recipes, VolumeWrong.
    """
    recipe = recipes.load(request["recipe"])
    personas.check(recipe, request.get("personas") or [])
    packing.check(request)
    if not SMALLEST <= int(request["tokens"]) <= MOST:
        raise VolumeWrong(tokens=request["tokens"], least=SMALLEST, most=MOST)
    name = str(request.get("name") or "").strip() or recipe.name
    if directory is None:
        directory = home() / f"{time.strftime('%Y%m%d-%H%M%S')}-{paths.slug(name)}"
        while directory.exists():
            directory = directory.with_name(directory.name + "-2")
    importer.make_place(directory.parent)
    unfinished = directory.with_name(f".{directory.name}.{os.getpid()}")
    unfinished.mkdir()
    kept = {"text": recipe.text, "file": f"{recipe.name}.yaml", "hash": recipe.hash, "name": name, "lang": recipe.lang}
    write(unfinished / "job.json", request | {"recipe": recipe.name} | kept)
    unfinished.rename(directory)
    return directory


def start(directory: Path) -> None:
    """Start the process of a job, detached from this one."""
    (directory / "control.json").unlink(missing_ok=True)
    with (directory / "log.txt").open("ab") as log:
        command = [sys.executable, "-m", "core.synth", "--job", str(directory)]
        seen = reply_gpu.environment()  # a local writer is on the card that the chat is on
        process.spawn_detached(command, log, seen)


def listed() -> list[Path]:
    """The directories of all jobs, newest first."""
    return sorted((path.parent for path in home().glob("[!.]*/job.json")), reverse=True)


def find(job_id: str) -> Path:
    """The directory of a job that exists, whatever the id says."""
    path = home() / Path(job_id).name
    if Path(job_id).name != job_id or not (path / "job.json").is_file() or path.is_symlink():
        raise jobs.JobGone(job=job_id)
    return path


def request(directory: Path) -> dict:
    return json.loads((directory / "job.json").read_text(encoding="utf-8"))


def state(directory: Path) -> str:
    """starting, running, pausing, stopping, finished, stopped, paused, failed, or lost: killed or power cut."""
    alive = is_alive(directory)
    wanted, last = asked(directory), events.last(directory)
    if alive:
        return {"pause": "pausing", "stop": "stopping"}.get(wanted, "running")
    if last is None:
        began = (directory / "job.json").stat().st_mtime
        return "starting" if time.time() - began < 20 else "lost"
    return last["event"] if last["event"] in FINAL else "lost"


def is_alive(directory: Path) -> bool:
    return runs.is_alive(directory)


def asked(directory: Path) -> str:
    """What the page asked of the process: pause, stop or nothing."""
    try:
        return json.loads((directory / "control.json").read_text(encoding="utf-8")).get("request", "")
    except (OSError, ValueError):
        return ""


def pause(directory: Path) -> None:
    """Ask the job to end after its rows in flight; resume() goes on with the very next row."""
    write(directory / "control.json", {"request": "pause"})


def stop(directory: Path) -> None:
    """Ask the job to end and make a corpus of what there is; one that is paused or lost is woken for it."""
    if not is_alive(directory):
        if state(directory) in ("finished", "stopped"):
            raise NothingToGoOnWith(name=request(directory)["name"])
        start(directory)
    write(directory / "control.json", {"request": "stop"})


def resume(directory: Path) -> None:
    if is_alive(directory):
        raise JobAtWork(name=request(directory)["name"])
    if state(directory) in ("finished", "stopped"):
        raise NothingToGoOnWith(name=request(directory)["name"])
    start(directory)


def delete(directory: Path) -> None:
    """Delete a job and the rows that did not become a corpus."""
    if is_alive(directory):
        raise JobAtWork(name=request(directory)["name"])
    shutil.rmtree(directory)


def progress(directory: Path) -> dict:
    """The job at a glance: its request, state, the run that it waits for, the last report of progress, the last x-ray and
    the ending."""
    last: dict = {}
    for event in events.read(directory)[0]:
        last[event["event"]] = event
        if event["event"] in ("going_on", "started"):
            last.pop("waiting", None)
    ending = events.last(directory) or {}
    now = state(directory)
    return {
        "id": directory.name,
        "request": request(directory),
        "state": now,
        "progress": last.get("progress", {}),
        "waits_for": last["waiting"]["run"] if "waiting" in last and now == "running" else None,
        "xray": (last.get("xray") or {}).get("xray"),
        "ending": ending if ending.get("event") in FINAL and now in FINAL else {},
    }


def write(path: Path, values: dict) -> None:
    """Replace a small file in one step."""
    scratch = path.with_suffix(f".{os.getpid()}.tmp")
    scratch.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
    scratch.replace(path)
