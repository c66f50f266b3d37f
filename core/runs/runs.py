"""A run: its directory with config and label, what can be asked of it, and the worker of the queue.

The page or `python -m core.runs` makes the directory, a trainer (core.runs.trainer) fills it; states and requests are those
of core.jobs.
"""

import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from itertools import count
from pathlib import Path

from core import damage, errors, events, files, jobs, paths, process
from core.errors import UserError
from core.hardware import hardware
from core.hardware.gpu import Gpu
from core.jobs import ACTIVE, AT_WORK
from core.runs import assigned_gpu, starts
from core.training import mixing
from core.training.config import TrainConfig
from core.training.corpus_rows import check_task
from core.training.errors import TrainingError

RESUMABLE = ("held", *jobs.RESUMABLE)
LONGEST_NAME = 80
IDLE = ("queued", *RESUMABLE, "finished")  # no trainer works on it
# All that a run's directory can hold that we put there; deleting a run deletes these and nothing else. The large parts
# come first and config.json, which makes a directory a run, almost last: a deletion that was cut short can be repeated.
OURS = (
    "checkpoint-*",
    "*.unfinished",
    "model",
    "adapter",
    "start",
    "*.tmp",
    "log.txt",
    "run.lock",
    "events.jsonl",
    "label.json",
    "card.json",
    "life.json",
    "start.json",
    "process.json",
    "wishes.json",
    "once.json",
    "config.json",
    "control.*",
)


class StillRunning(UserError):
    template = 'The run "{name}" is {state}. Stop it first.'


class RunGone(UserError):
    template = "There is no run {run}. It was deleted: choose another one from the list."


class RunDamaged(UserError):
    template = "The settings of the run {run} cannot be read: {path} is damaged. Put a copy back, or delete the run."


class NotRunning(UserError):
    template = 'The run "{name}" is {state}, so this cannot be asked of it.'


def create(config: TrainConfig, name: str = "", trial: bool = False, gpu: Gpu | None = None) -> str:
    """Make the directory of a new run and return its id; `gpu` is the card that it trains on."""
    label = {"name": own_name(name or default_name(config)), "note": "", "tags": [], "created": time.time()} | (
        {"trial": True} if trial else {}
    )

    def fill(unfinished: Path) -> None:
        config.save(unfinished / "config.json")
        files.write_json(unfinished / "label.json", label)
        assigned_gpu.write(unfinished, gpu)
        if config.start:
            starts.keep(config, unfinished)

    return jobs.make_directory(paths.runs(), name, fill).name


def start(config: TrainConfig, name: str = "", trial: bool = False, *, card: str | None = None) -> str:
    """Queue a new run and see to it that a worker is there; the same settings are not queued twice.

    A trial is there to be looked at, not to be used: by_use() puts it last. `card` is the UUID of the card that it
    trains on; by default the usual one of this machine, and the run keeps to it.

    Raises:
        AlreadyRunning, and what corpus and card have against the config.
    """
    check_corpus(config)
    if config.start:
        starts.check(config)
    gpu = assigned_gpu.choose(card)
    assigned_gpu.check(config, gpu)
    for run_id in listed():
        if state(run_id) in ACTIVE and _config_if_readable(run_id) == config:
            raise errors.named("AlreadyRunning", name=label(run_id)["name"], state=state(run_id))
    run_id = create(config, name, trial, gpu)
    start_worker()
    return run_id


def listed() -> list[str]:
    """The ids of all runs, oldest first."""
    directories = (path.parent for path in paths.runs().glob("[!.]*/config.json"))
    return sorted(path.name for path in directories if not path.is_symlink() and (path / "label.json").exists())


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
    if not (path / "config.json").exists():
        raise RunGone(run=run_id)
    return path


def config(run_id: str) -> TrainConfig:
    """The settings of a run.

    Raises:
        RunGone, RunDamaged, and what TrainConfig has against a value.
    """
    path = directory(run_id) / "config.json"
    if values := damage.read(path, "runs/*/config.json"):
        return TrainConfig.from_dict(values)
    raise RunDamaged(run=run_id, path=path)


def _config_if_readable(run_id: str) -> TrainConfig | None:
    with suppress(UserError, ValueError, TypeError):
        return config(run_id)
    return None


def corpus_path(corpus: str) -> Path:
    """Where a corpus that a config names is.

    Raises:
        CorpusGone.
    """
    path = paths.corpus_of_run(corpus)
    if not path.exists():
        raise TrainingError("CorpusGone", path=corpus)
    return path


def check_corpus(config: TrainConfig) -> None:
    """Refuse at once a corpus that is gone, or whose card says that it holds nothing for this task."""
    for corpus in mixing.corpora(config):
        card = damage.read(corpus_path(corpus) / "card.json", "corpora/*/card.json")
        kind, pairs, judged = card.get("kind"), card.get("pairs", 0), card.get("judged", 0)
        mixing.check_alone(config, card.get("name", corpus), pairs, judged)
        if corpus == config.corpus and (pairs or kind in ("chat", "text", "judged")):
            check_task(config, card["name"], card["rows"], 0 if kind == "text" else card["rows"], pairs, judged)


def label(run_id: str) -> dict:
    """What a person calls the run: {"name", "note", "tags", "created"}."""
    path = directory(run_id) / "label.json"
    fallback = {"name": run_id, "note": "", "tags": [], "created": path.stat().st_mtime}  # by a power cut
    return fallback | damage.read(path, "runs/*/label.json")


def disambiguate(titles: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """[(title, id)], each title that occurs twice with the time of creation: runs of one corpus have one name."""
    counts = Counter(title for title, _ in titles)
    return [(f"{title} · {created_at(id)}" if counts[title] > 1 else title, id) for title, id in titles]


def created_at(id: str) -> str:
    """When a run or an export was created, from its id; of other ids the name."""
    name = id.partition(":")[2] or id
    digits = re.match(r"(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)", name)
    return "{}-{}-{} {}:{}:{}".format(*digits.groups()) if digits else name


def own_name(name: str, run_id: str = "") -> str:
    """The name on one line, of at most LONGEST_NAME characters, numbered where another run has it."""
    name = " ".join(name.split())
    taken = {label(other)["name"] for other in listed() if other != run_id}
    for number in count(1):
        ending = f" {number}" if number > 1 else ""
        own = name[: LONGEST_NAME - len(ending)].rstrip() + ending
        if own not in taken:
            return own


def rename(run_id: str, name: str, note: str, tags: list[str] | None = None) -> None:
    old = label(run_id)
    new = {
        "name": own_name(name, run_id) if name.strip() and name.strip() != old["name"] else old["name"],
        "note": note,
    }
    if tags is not None:
        new["tags"] = sorted({tag.strip().lower() for tag in tags} - {""})
    files.write_json(directory(run_id) / "label.json", old | new)


def change(run_id: str, **fields) -> None:
    """Change the config of a run that is not at work; label.json records what it was before."""
    need_state(run_id, IDLE, StillRunning)
    before = config(run_id)
    after = TrainConfig.from_dict(vars(before) | fields)
    old = label(run_id)
    changed = {name: [getattr(before, name), value] for name, value in fields.items()}
    record = [*old.get("changes", []), {"time": round(time.time(), 3), "changed": changed}]
    files.write_json(directory(run_id) / "label.json", {**old, "changes": record})
    files.write_json(directory(run_id) / "config.json", vars(after), indent=2)


def put_on(run_id: str, card: str) -> None:
    """Let a run that is not at work train on another card from now on, named by its UUID."""
    need_state(run_id, IDLE, StillRunning)
    gpu = assigned_gpu.choose(card)
    assigned_gpu.check(config(run_id), gpu)
    assigned_gpu.write(directory(run_id), gpu)


def state(run_id: str) -> str:
    """The state of a run, as core.jobs.state derives it."""
    return jobs.state(directory(run_id))


def need_state(run_id: str, states: Collection[str], error: type[UserError]) -> str:
    """The state of a run; raises the error, with its name and state, where that is none of these."""
    now = state(run_id)
    if now not in states:
        raise error(name=label(run_id)["name"], state=now)
    return now


def stop(run_id: str) -> None:
    """Ask a run to save its adapter and end; a run that waits in the queue leaves it."""
    need_state(run_id, (*ACTIVE, "held"), NotRunning)
    jobs.ask(directory(run_id), "stop")


def pause(run_id: str) -> None:
    """Ask a run to save a checkpoint and give the card back; a run that waits in the queue is held there."""
    now = need_state(run_id, ACTIVE, NotRunning)
    jobs.ask(directory(run_id), "hold" if now == "queued" else "pause")


def ask_once(run_id: str, what: str) -> None:
    """Ask a running training to save a checkpoint ("save") or to reply to the evaluation prompts ("sample") now."""
    need_state(run_id, AT_WORK, NotRunning)
    jobs.ask(directory(run_id), what)


def resume(run_id: str) -> None:
    """Queue a run again that was paused, held, lost, stopped or failed; it goes on from its newest whole checkpoint."""
    now = need_state(run_id, (*RESUMABLE, "finished"), StillRunning)
    if now == "finished":
        raise errors.named("NothingToResume", name=label(run_id)["name"])
    if (events.last(directory(run_id)) or {}).get("trouble") == "CardTakenOut":  # the person has read so
        assigned_gpu.write(directory(run_id), hardware.card())
    jobs.ask(paths.run(run_id), "resume")
    start_worker()


def delete(run_id: str) -> None:
    """Delete what Soulsmith put into the run's directory; files of the person's own stay, and so does the directory."""
    path = directory(run_id)
    if jobs.is_alive(path):
        raise StillRunning(name=label(run_id)["name"], state=state(run_id))
    jobs.ask(path, "stop")  # without its events the run would count as queued
    for pattern in OURS:
        for part in path.glob(pattern):
            if part.is_dir() and not part.is_symlink():
                shutil.rmtree(part)
            else:
                part.unlink()
    if not any(path.iterdir()):
        path.rmdir()


def disk_bytes(run_id: str) -> int:
    return files.size(directory(run_id))


def queue_lock() -> Path:
    return paths.runs().parent / "queue.lock"


def start_worker() -> None:
    """Start a worker of the queue, detached from this process; where there is one already, the new one ends by itself."""
    with (paths.runs().parent / "worker.log").open("ab") as log:
        process.spawn_detached([sys.executable, "-m", "core.runs.worker"], log)


def has_worker() -> bool:
    """Whether the queue is being worked off."""
    return process.is_lock_held(queue_lock())


def default_name(config: TrainConfig) -> str:
    """What a run is called when nobody says: after its corpora and method."""
    return f"{' + '.join(map(corpus_name, mixing.corpora(config)))} · {config.method}"


def corpus_name(corpus: str) -> str:
    """What a person calls a corpus that a config names."""
    return (
        damage.read(paths.corpus_of_run(corpus) / "card.json", "corpora/*/card.json").get("name") or Path(corpus).stem
    )
