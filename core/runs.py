"""Runs: directories that are created by the page, filled by a trainer, and whose state is derived, never stored.

Run it: `python -m core.runs start --config FILE`, `python -m core.runs list`, `show`, `stop`, `resume`, `delete`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from core import events, paths
from core.recipe import CorpusGone, RecipeTrouble, TrainConfig, whole_checkpoint
from core.trouble import Trouble

ACTIVE = ("queued", "running", "stopping")
# All that a run's directory can hold that we put there; deleting a run deletes these and nothing else. The large parts
# come first and config.json, which makes a directory a run, almost last: a deletion that was cut short can be repeated.
OURS = (
    "checkpoint-*",
    "*.unfinished",
    "model",
    "adapter",
    "*.tmp",
    "log.txt",
    "run.lock",
    "events.jsonl",
    "label.json",
)
OURS += ("config.json", "control.json")


class AlreadyRunning(Trouble):
    template = (
        'The run "{name}" with these very settings is {state} already. Wait for it, stop it, or change a setting.'
    )


class StillRunning(Trouble):
    template = 'The run "{name}" is still at work. Stop it first.'


class RunGone(Trouble):
    template = "There is no run {run}. It was deleted: choose another one from the list."


class NothingToResume(Trouble):
    template = 'The run "{name}" is finished already; there is nothing to go on with. Start a new run.'


def create(config: TrainConfig, name: str = "") -> str:
    """Make the directory of a new run, whole or not at all, and return its id."""
    name = name.strip() or default_name(config)
    stem = time.strftime("%Y%m%d-%H%M%S-") + paths.slug(name)
    run_id, count = stem, 1
    while (paths.runs() / run_id).exists():
        count += 1
        run_id = f"{stem}-{count}"
    unfinished = paths.runs() / f".{run_id}"
    unfinished.mkdir()
    config.save(unfinished / "config.json")
    _write(unfinished / "label.json", {"name": name, "note": "", "created": time.time()})
    unfinished.rename(paths.runs() / run_id)
    return run_id


def start(config: TrainConfig, name: str = "") -> str:
    """Queue a new run and see to it that a worker is there; the same settings are not queued twice."""
    corpus_path(config)
    for run_id in listed():
        if state(run_id) in ACTIVE and TrainConfig.load(paths.run(run_id) / "config.json") == config:
            raise AlreadyRunning(name=label(run_id)["name"], state=state(run_id))
    run_id = create(config, name)
    start_worker()
    return run_id


def listed() -> list[str]:
    """The ids of all runs, oldest first."""
    found = (path.parent for path in paths.runs().glob("[!.]*/config.json"))
    return sorted(path.name for path in found if not path.is_symlink() and (path / "label.json").is_file())


def directory(run_id: str) -> Path:
    """The directory of a run that exists."""
    path = paths.run(run_id)
    if not (path / "config.json").is_file():
        raise RunGone(run=run_id)
    return path


def config(run_id: str) -> TrainConfig:
    return TrainConfig.load(directory(run_id) / "config.json")


def corpus_path(config: TrainConfig) -> Path:
    """Where a config's corpus is: it is named by its id among the corpora, or by an absolute path."""
    path = _corpus_place(config)
    if not path.exists():
        raise CorpusGone(path=config.corpus)
    return path


def _corpus_place(config: TrainConfig) -> Path:
    return Path(config.corpus) if Path(config.corpus).is_absolute() else paths.corpus(config.corpus)


def label(run_id: str) -> dict:
    """What a person calls the run: {"name", "note", "created"}."""
    return json.loads((directory(run_id) / "label.json").read_text(encoding="utf-8"))


def rename(run_id: str, name: str, note: str) -> None:
    old = label(run_id)
    _write(directory(run_id) / "label.json", {**old, "name": name.strip() or old["name"], "note": note})


def state(run_id: str) -> str:
    """queued, running, stopping, finished, stopped, failed, or lost: killed, out of memory, power cut."""
    path = directory(run_id)
    # The lock first: a trainer lets go of it after its last event, so a free lock means that all events are there.
    alive = is_alive(path)
    control, last = _control(path), events.last(path)
    if alive:
        return "stopping" if control.get("request") == "stop" else "running"
    if control.get("request") == "resume" and control["after"] == events.size(path):
        return "queued"
    if last is None:
        return "stopped" if control.get("request") == "stop" else "queued"
    if last["event"] in events.FINAL:
        return last["event"]
    # A trainer may have taken the lock after the first look: dead is who is silent at the second look too.
    return "running" if is_alive(path) else "lost"


def is_alive(run_dir: Path) -> bool:
    """Whether a trainer holds the run's lock; the system drops it however the process dies."""
    return _is_held(run_dir / "run.lock")


def stop(run_id: str) -> None:
    """Ask a run to save its adapter and end; a run that waits in the queue leaves it."""
    _write(directory(run_id) / "control.json", {"request": "stop"})


def resume(run_id: str) -> None:
    """Queue a run again that was lost, stopped or failed; it goes on from its newest whole checkpoint."""
    now = state(run_id)
    if now in ACTIVE:
        raise StillRunning(name=label(run_id)["name"])
    if now == "finished":
        raise NothingToResume(name=label(run_id)["name"])
    path = directory(run_id)
    # Bound to the length of the events: the first new event of the trainer makes this request a thing of the past.
    _write(path / "control.json", {"request": "resume", "after": events.size(path)})
    start_worker()


def stop_requested(run_dir: Path) -> bool:
    return _control(run_dir).get("request") == "stop"


def delete(run_id: str) -> None:
    """Delete what Soulsmith put into the run's directory; files of the person's own stay, and so does the directory."""
    path = directory(run_id)
    if is_alive(path):
        raise StillRunning(name=label(run_id)["name"])
    stop(run_id)  # without its events the run would count as queued
    for pattern in OURS:
        for found in path.glob(pattern):
            if found.is_dir() and not found.is_symlink():
                shutil.rmtree(found)
            else:
                found.unlink()
    if not any(path.iterdir()):
        path.rmdir()


def disk_bytes(run_id: str) -> int:
    return sum(file.stat().st_size for file in directory(run_id).rglob("*") if file.is_file())


def queue_lock() -> Path:
    return paths.runs().parent / "queue.lock"


def start_worker() -> None:
    """Start a queue worker, detached from this process; where one is at work already, the new one ends by itself."""
    root = Path(__file__).parent.parent
    with (paths.runs().parent / "worker.log").open("ab") as log:
        spawn_detached([sys.executable, "-m", "core.worker"], cwd=root, log=log)


def spawn_detached(command: list[str], cwd: Path, log) -> subprocess.Popen:
    """A process that outlives this one, with its output in a file."""
    detached = {"start_new_session": True}
    if sys.platform == "win32":
        detached = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS}
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", "TOKENIZERS_PARALLELISM": "false"}
    # Threads that sleep at a barrier instead of spinning: beside another busy program, training on two cores was
    # 1.4 times as fast; alone on them, no slower.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return subprocess.Popen(
        command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, **detached
    )


def needs_worker() -> bool:
    """Whether a run waits and no worker is there to take it."""
    return not _is_held(queue_lock()) and bool(queued())


def queued() -> list[str]:
    """The runs that wait, oldest first; one that was deleted or damaged meanwhile does not hold up the others."""
    waiting = []
    for run_id in listed():
        with suppress(Trouble, OSError, ValueError):
            if state(run_id) == "queued":
                waiting.append(run_id)
    return waiting


def _is_held(path: Path) -> bool:
    """Whether some process holds a lock file. Those who only look share it, so that they never see each other."""
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        import fcntl
    except ImportError:  # Windows
        os.close(file)
        return _is_held_exclusively(path)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _is_held_exclusively(path: Path) -> bool:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0.05, poll_interval=0.01)
    except Timeout:
        return True
    lock.release()
    return False


def _control(run_dir: Path) -> dict:
    try:
        return json.loads((run_dir / "control.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def _write(path: Path, values: dict) -> None:
    """Replace a small file in one step, so that nobody reads half of it."""
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
    for attempt in range(20):
        try:
            scratch.replace(path)
            return
        except PermissionError:  # Windows, while somebody reads the file
            if attempt == 19:
                raise
            time.sleep(0.05)


def default_name(config: TrainConfig) -> str:
    """What a run is called when nobody says: after its corpus and method."""
    card = _corpus_place(config) / "card.json"
    corpus = json.loads(card.read_text(encoding="utf-8"))["name"] if card.is_file() else Path(config.corpus).stem
    return f"{corpus} · {config.method}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m core.runs", description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=["start", "list", "show", "stop", "resume", "delete"])
    parser.add_argument("run", nargs="?", help="id of a run, as printed by list")
    parser.add_argument("--config", help="for start: a JSON file with the fields of TrainConfig")
    parser.add_argument("--name", default="", help="for start: what to call the run")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    try:
        result = _command(args, parser)
    except (Trouble, RecipeTrouble, OSError, json.JSONDecodeError) as error:
        sys.exit(str(error))
    if args.json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        for row in result if isinstance(result, list) else [result]:
            print("  ".join(str(value) for value in row.values()))


def _command(args, parser) -> dict | list[dict]:
    if args.command == "start":
        if not args.config:
            parser.error("start needs --config FILE")
        args.run = start(TrainConfig.load(args.config), args.name)
    elif args.command == "list":
        return [{"run": run_id, "state": state(run_id), "name": label(run_id)["name"]} for run_id in listed()]
    elif not args.run:
        parser.error(f"{args.command} needs the id of a run")
    elif args.command == "show":
        shown = {"run": args.run, "state": state(args.run), **label(args.run), "last": events.last(paths.run(args.run))}
        return shown | {"checkpoint": whole_checkpoint(paths.run(args.run)), "config": vars(config(args.run))}
    else:
        {"stop": stop, "resume": resume, "delete": delete}[args.command](args.run)
        if args.command == "delete":
            return {"run": args.run, "state": "deleted"}
    return {"run": args.run, "state": state(args.run)}


if __name__ == "__main__":
    main()
