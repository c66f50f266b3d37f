"""Runs: directories that are created by the page, filled by a trainer, and whose state is derived, never stored.

Run it: `python -m core.runs list|show|start|queue|pause|resume|stop|compare --json`; the commands are in core.runs.__main__.
"""

import json
import re
import shutil
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from core import events, files, paths, process
from core.errors import UserError
from core.hardware import hardware
from core.hardware.gpu import Gpu
from core.process import is_lock_held
from core.runs import assigned_gpu, disk_space, requests
from core.training.config import TrainConfig
from core.training.corpus_rows import check_task
from core.training.errors import CorpusGone

AT_WORK = ("running", "stopping", "pausing")  # a trainer lives
ACTIVE = ("queued", *AT_WORK)  # something will happen by itself
RESUMABLE = ("held", "paused", "lost", "stopped", "failed")
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
    "card.json",
    "life.json",
    "wishes.json",
)
OURS += ("config.json", "control.json")


class AlreadyRunning(UserError):
    template = (
        'The run "{name}" with these very settings is {state} already. Wait for it, stop it, or change a setting.'
    )


class StillRunning(UserError):
    template = 'The run "{name}" is still at work. Stop it first.'


class RunGone(UserError):
    template = "There is no run {run}. It was deleted: choose another one from the list."


class NotRunning(UserError):
    template = 'The run "{name}" is {state}, so this cannot be asked of it.'


class NothingToResume(UserError):
    template = 'The run "{name}" is finished already; there is nothing to go on with. Start a new run.'


def create(config: TrainConfig, name: str = "", trial: bool = False, gpu: Gpu | None = None) -> str:
    """Make the directory of a new run, whole or not at all, and return its id; `gpu` is the card that it trains on."""
    name = name.strip() or default_name(config)
    stem = time.strftime("%Y%m%d-%H%M%S-") + paths.slug(name)
    run_id, count = stem, 1
    while (paths.runs() / run_id).exists():
        count += 1
        run_id = f"{stem}-{count}"
    unfinished = paths.runs() / f".{run_id}"
    unfinished.mkdir()
    config.save(unfinished / "config.json")
    kept = {"name": name, "note": "", "tags": [], "created": time.time()} | ({"trial": True} if trial else {})
    files.write_json(unfinished / "label.json", kept)
    assigned_gpu.write(unfinished, gpu)
    unfinished.rename(paths.runs() / run_id)
    return run_id


def start(config: TrainConfig, name: str = "", trial: bool = False, *, card: str | None = None) -> str:
    """Queue a new run and see to it that a worker is there; the same settings are not queued twice.

    A trial is there to be looked at, not to be used: by_use() puts it last. `card` is the UUID of the card that it
    trains on; by default the usual one of this machine, and the run keeps to it.

    Raises:
        AlreadyRunning, and what corpus and card have against the config.
    """
    check_corpus(config)
    gpu = assigned_gpu.choose(card)
    assigned_gpu.check(config, gpu)
    for run_id in listed():
        if state(run_id) in ACTIVE and TrainConfig.load(paths.run(run_id) / "config.json") == config:
            raise AlreadyRunning(name=label(run_id)["name"], state=state(run_id))
    run_id = create(config, name, trial, gpu)
    start_worker()
    return run_id


def listed() -> list[str]:
    """The ids of all runs, oldest first."""
    found = (path.parent for path in paths.runs().glob("[!.]*/config.json"))
    return sorted(path.name for path in found if not path.is_symlink() and (path / "label.json").is_file())


def by_use() -> list[str]:
    """The ids of all runs, newest first, trials behind all others."""
    return sorted(reversed(listed()), key=_is_trial)


def _is_trial(run_id: str) -> bool:
    with suppress(RunGone, OSError):  # deleted by somebody else meanwhile
        return label(run_id).get("trial", False)
    return False


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


def check_corpus(config: TrainConfig) -> None:
    """Refuse at once a corpus that is gone, or whose card says that it holds nothing for this task."""
    card = corpus_path(config) / "card.json"
    if card.is_file():
        known = json.loads(card.read_text(encoding="utf-8"))
        rows, kind = known.get("rows"), known.get("kind")
        if kind in ("chat", "text", "preference"):
            pairs = rows if kind == "preference" else 0
            check_task(config, known["name"], rows, 0 if kind == "text" else rows, pairs)


def _corpus_place(config: TrainConfig) -> Path:
    return Path(config.corpus) if Path(config.corpus).is_absolute() else paths.corpus(config.corpus)


def label(run_id: str) -> dict:
    """What a person calls the run: {"name", "note", "tags", "created"}."""
    path = directory(run_id) / "label.json"
    try:
        return {"tags": []} | json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # a power cut
        return {"name": run_id, "note": "", "tags": [], "created": path.stat().st_mtime}


def disambiguate(titles: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """(title, id) with the time of its making behind each title that stands there twice: runs of one corpus are named
    alike."""
    counts = Counter(title for title, _ in titles)
    return [(f"{title} · {created_at(id)}" if counts[title] > 1 else title, id) for title, id in titles]


def created_at(id: str) -> str:
    """When a run or an export was made, as its id says it; of other ids the name."""
    name = id.partition(":")[2] or id
    found = re.match(r"(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)", name)
    return "{}-{}-{} {}:{}:{}".format(*found.groups()) if found else name


def rename(run_id: str, name: str, note: str, tags: list[str] | None = None) -> None:
    old = label(run_id)
    kept = old["tags"] if tags is None else sorted({tag.strip().lower() for tag in tags} - {""})
    files.write_json(
        directory(run_id) / "label.json", {**old, "name": name.strip() or old["name"], "note": note, "tags": kept}
    )


def change(run_id: str, **fields) -> None:
    """Change the config of a run that is not at work; what it was before stays on record in label.json."""
    if state(run_id) in AT_WORK:
        raise StillRunning(name=label(run_id)["name"])
    before = config(run_id)
    after = TrainConfig.from_dict(vars(before) | fields)
    old = label(run_id)
    changed = {name: [getattr(before, name), value] for name, value in fields.items()}
    record = [*old.get("changes", []), {"time": requests.now(), "changed": changed}]
    files.write_json(directory(run_id) / "label.json", {**old, "changes": record})
    scratch = directory(run_id) / "config.tmp"
    after.save(scratch)
    scratch.replace(directory(run_id) / "config.json")


def put_on(run_id: str, card: str) -> None:
    """Let a run that is not at work train on another card from now on, named by its UUID."""
    if state(run_id) in AT_WORK:
        raise StillRunning(name=label(run_id)["name"])
    gpu = assigned_gpu.choose(card)
    assigned_gpu.check(config(run_id), gpu)
    assigned_gpu.write(directory(run_id), gpu)


def state(run_id: str) -> str:
    """queued, held, running, stopping, pausing, paused, finished, stopped, failed, or lost: killed, out of memory, power cut."""
    path = directory(run_id)
    # The lock first: a trainer lets go of it after its last event, so a free lock means that all events are there.
    alive = is_alive(path)
    request, last = requests.asked(path).get("request"), events.last(path)
    if alive:
        return {"stop": "stopping", "pause": "pausing"}.get(request, "running")
    if waits := requests.waits(path):
        return {"resume": "queued", "hold": "held"}[waits]
    if last is None:
        return "stopped" if request == "stop" else "queued"
    if last["event"] in events.FINAL:
        return last["event"]
    # A trainer may have taken the lock after the first look: dead is who is silent at the second look too.
    return "running" if is_alive(path) else "lost"


def is_alive(run_dir: Path) -> bool:
    """Whether a trainer holds the run's lock; the system drops it however the process dies."""
    return is_lock_held(run_dir / "run.lock")


def stop(run_id: str) -> None:
    """Ask a run to save its adapter and end; a run that waits in the queue leaves it."""
    now = state(run_id)
    if now not in (*ACTIVE, "held"):
        raise NotRunning(name=label(run_id)["name"], state=now)
    requests.ask(directory(run_id), "stop")


def pause(run_id: str) -> None:
    """Ask a run to save a checkpoint and give the card back; a run that waits in the queue is held there."""
    now = state(run_id)
    if now not in ACTIVE:
        raise NotRunning(name=label(run_id)["name"], state=now)
    requests.ask(directory(run_id), "hold" if now == "queued" else "pause")


def wish(run_id: str, what: str) -> None:
    """Ask a running training to save a checkpoint or to answer the prompts of the film strip now."""
    now = state(run_id)
    if now not in AT_WORK:
        raise NotRunning(name=label(run_id)["name"], state=now)
    requests.wish(directory(run_id), what)


def resume(run_id: str) -> None:
    """Queue a run again that was paused, held, lost, stopped or failed; it goes on from its newest whole checkpoint."""
    now = state(run_id)
    if now in ACTIVE:
        raise StillRunning(name=label(run_id)["name"])
    if now == "finished":
        raise NothingToResume(name=label(run_id)["name"])
    if (events.last(directory(run_id)) or {}).get("trouble") == "CardTakenOut":  # whoever resumes it has read so
        assigned_gpu.write(directory(run_id), hardware.card())
    requests.ask(paths.run(run_id), "resume")
    start_worker()


def delete(run_id: str) -> None:
    """Delete what Soulsmith put into the run's directory; files of the person's own stay, and so does the directory."""
    path = directory(run_id)
    if is_alive(path):
        raise StillRunning(name=label(run_id)["name"])
    with suppress(files.NothingWritten):  # deleting is what helps a full disk
        requests.ask(path, "stop")  # without its events the run would count as queued
    for pattern in OURS:
        for found in path.glob(pattern):
            if found.is_dir() and not found.is_symlink():
                shutil.rmtree(found)
            else:
                found.unlink()
    if not any(path.iterdir()):
        path.rmdir()


def disk_bytes(run_id: str) -> int:
    return disk_space.size(directory(run_id))


def queue_lock() -> Path:
    return paths.runs().parent / "queue.lock"


def start_worker() -> None:
    """Start a queue worker, detached from this process; where one is at work already, the new one ends by itself."""
    with (paths.runs().parent / "worker.log").open("ab") as log:
        process.spawn_detached([sys.executable, "-m", "core.runs.worker"], log)


def has_worker() -> bool:
    """Whether the queue is being worked off."""
    return is_lock_held(queue_lock())


def last_life(run_id: str) -> dict:
    """The last process that trained a run: {"boot", "pid", "starts": how often since it got anywhere}, or {}."""
    try:
        return json.loads((directory(run_id) / "life.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def default_name(config: TrainConfig) -> str:
    """What a run is called when nobody says: after its corpus and method."""
    card = _corpus_place(config) / "card.json"
    corpus = json.loads(card.read_text(encoding="utf-8"))["name"] if card.is_file() else Path(config.corpus).stem
    return f"{corpus} · {config.method}"
