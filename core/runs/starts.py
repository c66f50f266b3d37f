"""What a run goes on from: a run, one of its checkpoints, an adapter in a folder or on the hub; and its ancestry.

Its weights are kept in the run's own directory (start/), so that a run goes on whatever becomes of the one before it;
those of a whole model as links where the disk allows. start.json says where they come from.
The same adapter is trained on, its optimizer's states begin anew. Merging it first and training a second one would
round the sum into the base's weights (into 4 bits for QLoRA: the loss would not begin where it ended), and leave two
things to carry where there was one.
"""

import os
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from core import damage, errors, events, files, paths
from core.chat import imported
from core.errors import UserError
from core.models import adapter_check, base_identity, model_check, model_files, models
from core.training import start as training_start
from core.training.checkpoints import evals_of, is_whole, whole_checkpoint
from core.training.config import TrainConfig
from core.training.errors import TrainingError

FOLDER, CARD = "start", "start.json"
RUN = "run:"
ADAPTER = ["adapter_config.json", "adapter_model.safetensors"]
NAMED = {"id": str | None, "base_model": str | None}  # in the card of an adapter from the hub
WHOLE = ("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json")


def spelled(text: str) -> str:
    """A start as people write it on a command line, as the config has it: RUN, RUN:STEP or RUN:checkpoint-STEP."""
    run_id, _, step = text.removeprefix(RUN).replace("/checkpoint-", ":").partition(":")
    if text.startswith(RUN) or ("/" not in run_id and _config(run_id)):
        return RUN + run_id + (f"/checkpoint-{step.removeprefix('checkpoint-')}" if step else "")
    return text.strip()


def source(start: str) -> Path | None:
    """The directory whose weights a start names; None for a hub id.

    Raises:
        StartGone, StartHasNoWeights.
    """
    if start.startswith(RUN):
        run_id, checkpoint = _parts(start)
        if not _config(run_id):
            raise errors.named("StartGone", start=run_id)
        run_dir = paths.run(run_id)
        if checkpoint:
            found = run_dir / checkpoint if is_whole(run_dir / checkpoint) else None
        else:
            newest = next((run_dir / name for name in ("adapter", "model") if (run_dir / name).is_dir()), None)
            found = newest or whole_checkpoint(run_dir)
        if found is None:
            raise errors.named("StartHasNoWeights", name=_label(run_id), what=checkpoint or "-")
        return Path(found)
    folder = paths.expanded(start)
    if folder.is_dir():
        return folder
    if not models.is_hub_id(start):
        raise errors.named("StartGone", start=start)
    return None


def has_weights(run_id: str) -> bool:
    """Whether a run has ended with weights that another one can go on from."""
    return any((paths.run(run_id) / name).is_dir() for name in ("adapter", "model"))


def can_go_on(run_id: str, state: str) -> bool:
    """Whether a new run is what continues this one: one that is paused, or has failed, is resumed instead."""
    return state in ("finished", "stopped") and has_weights(run_id)


def fields(start: str) -> dict:
    """The fields of TrainConfig that go with a start: all settings of a run, of an adapter those that it was begun with.

    Of a hub id its config is fetched, which is small.
    """
    run_id = _parts(start)[0] if start.startswith(RUN) else ""
    known = dict(_config(run_id)) if run_id else {}
    folder = source(start) or Path(models.download(start, [ADAPTER[0], base_identity.FILE]))
    if not training_start.is_adapter(folder):
        return known | {"start": start} | ({} if run_id else {"method": "full"})
    adapter = training_start.read_adapter(folder)
    own = training_start.fields_of(adapter)
    if run_id:
        return known | own | {"target_modules": known.get("target_modules", own["target_modules"]), "start": start}
    return own | {"base_model": _base_name(folder), "start": start}


def check(config: TrainConfig) -> None:
    """Refuse at once a start that is gone, or that does not belong to the run's settings or its base.

    A hub id is looked at when it was fetched.
    """
    folder = source(config.start)
    if folder is None:
        return
    if config.start.startswith(RUN):
        base = _config(_parts(config.start)[0])["base_model"]
    else:
        _check_files(folder)
        base = _base_name(folder) if training_start.is_adapter(folder) else ""
    if base and not _same_base(base, config.base_model):
        raise errors.named("StartOtherBase", start=config.start, base=base, model=config.base_model)
    with_folder = replace(config, start=str(folder))
    training_start.check_settings(with_folder)


def _check_files(folder: Path) -> None:
    """Refuse what was not made here and would take more memory or time than it is worth to read.

    Raises:
        what adapter_check.ask() and model_check.ask() raise.
    """
    if not training_start.is_adapter(folder):
        model_check.ask(folder)
    elif (folder / adapter_check.WEIGHTS).is_file():  # what is missing is named where the files are taken
        adapter_check.ask(folder)


def repeated(config: TrainConfig, run_id: str) -> TrainConfig:
    """The config of a run that is trained again, from the weights that it has kept of what it went on from.

    Those that its start names may be others by now: the run before went on, a checkpoint or a folder is gone.
    """
    kept = paths.run(run_id) / FOLDER
    return replace(config, start=str(kept)) if config.start and any(kept.glob("*.safetensors")) else config


def keep(config: TrainConfig, run_dir: Path) -> None:
    """Put the weights of a config's start and the ancestry into the directory of a run; a hub id's come later."""
    if (folder := source(config.start)) is not None:
        of_copy = (
            damage.read(folder.parent / CARD, "runs/*/start.json").get("ancestry") if folder.name == FOLDER else None
        )
        ancestry = of_copy or [_entry(config.start), *_ancestry_of(config.start)]
        files.write_json(run_dir / CARD, {"ancestry": ancestry})
        _link(folder, run_dir / FOLDER)


def ready(config: TrainConfig, run_dir: Path, report) -> TrainConfig:
    """The config with its start as a directory in that of the run, fetched and put there where it is not yet.

    `config.base_model` is a directory already.

    Raises:
        StartOtherWeights, StartUnreadable, and what check() raises.
    """
    if not config.start:
        return config
    if not any((run_dir / FOLDER).glob("*.safetensors")):
        shutil.rmtree(run_dir / FOLDER, ignore_errors=True)  # a whole one always has weights
        if source(config.start) is None:
            wanted = [*WHOLE, ADAPTER[0]] if config.method == "full" else [*ADAPTER, base_identity.FILE]
            folder = models.download(config.start, wanted, report)
            _check_files(Path(folder))
            training_start.check_settings(replace(config, start=folder))
            files.write_json(run_dir / CARD, {"ancestry": [_entry(config.start)]})
            _link(Path(folder), run_dir / FOLDER)
        else:
            keep(config, run_dir)
    parent = next(iter(ancestry(run_dir.name)), {})
    found, expected = model_files.digest(Path(config.base_model)), parent.get("base_hash")
    if expected and found != expected:
        raise errors.named(
            "StartOtherWeights", model=config.base_model, start=config.start, found=found, expected=expected
        )
    if others := base_identity.other_weights(config.base_model, run_dir / FOLDER):
        found, expected = (one[:16] for one in others)
        raise errors.named(
            "StartOtherWeights", model=config.base_model, start=config.start, found=found, expected=expected
        )
    return replace(config, start=str(run_dir / FOLDER))


def ancestry(run_id: str) -> list[dict]:
    """What a run goes on from, its parent first, then what that went on from; [] for a run that begins at its base.

    {"start": as the config has it, "run": id or "", "name", "step", "eval_loss": of the weights, "task", "corpus",
    "base_hash", "base_forgetting": {"score", "foreign"} that the forgetting meter read of the base, "gone": whether that
    run was deleted}; what is not known is None.
    """
    listed = damage.read(paths.run(run_id) / CARD, "runs/*/start.json").get("ancestry", [])
    return [
        entry
        | {"gone": bool(entry["run"]) and not _config(entry["run"])}
        | ({"name": _name_of(entry["start"])} if entry["name"] == entry["start"] else {})  # runs of before 0.9
        for entry in listed
    ]


def _entry(start: str) -> dict:
    """What there is to know of a start now."""
    nothing = dict.fromkeys(("step", "eval_loss", "task", "corpus", "base_hash", "base_forgetting"))
    if not start.startswith(RUN):
        return {"start": start, "run": "", "name": _name_of(start)} | nothing
    run_id, checkpoint = _parts(start)
    config, run_dir = _config(run_id), paths.run(run_id)
    step, loss = _result(run_dir)
    if checkpoint:
        step = int(checkpoint.rpartition("-")[2])
        loss = dict(evals_of(str(run_dir / checkpoint))).get(step)
    corpus = (
        damage.read(paths.corpus_of_run(config["corpus"]) / "card.json", "corpora/*/card.json").get("name")
        or Path(config["corpus"]).stem
    )
    known = {"task": config.get("task", "chat"), "corpus": corpus, "step": step, "eval_loss": loss}
    logged = events.read(run_dir)[0]
    hashes = [event["base_hash"] for event in logged if "base_hash" in event]
    known |= {"base_hash": hashes[-1] if hashes else None, "base_forgetting": _base_forgetting(start, logged)}
    return {"start": start, "run": run_id, "name": _label(run_id)} | known


def base_forgetting(run_id: str) -> dict | None:
    """{"score", "foreign"} of the base that a run descends from; None where that is not known, or the run began with it."""
    return next((entry.get("base_forgetting") for entry in ancestry(run_id)), None)


def _base_forgetting(start: str, logged: list[dict]) -> dict | None:
    """What the forgetting meter read of the base of a run, before the first of the runs that it descends from."""
    if before := _ancestry_of(start):
        return before[0].get("base_forgetting")
    readings = [event for event in logged if event["event"] == "forgetting" and event["step"] == 0]
    return {name: readings[0][name] for name in ("score", "foreign")} if readings else None


def _name_of(start: str) -> str:
    """What to call a start that is no run; not by a path, which would tell other people about this disk."""
    folder = paths.expanded(start)
    if models.is_hub_id(start) and not folder.is_dir():
        return start
    return files.read_json(folder / imported.CARD, NAMED).get("id") or folder.name


def _result(run_dir: Path) -> tuple[int | None, float | None]:
    """The step of the weights that a run ended with, and their loss on held-out rows."""
    last, label = events.last(run_dir) or {}, damage.read(run_dir / "label.json", "runs/*/label.json")
    step, taken_at = label.get("taken", (None, 0))
    if taken_at > last.get("time", 0):
        checkpoint = run_dir / f"checkpoint-{step}"
        return step, dict(evals_of(str(checkpoint))).get(step) if is_whole(checkpoint) else None
    if "steps" in last:
        return last.get("kept_step") or last["steps"], last.get("eval_loss")
    newest = whole_checkpoint(run_dir)
    step = int(newest.rpartition("-")[2]) if newest else None
    return step, dict(evals_of(newest)).get(step)


def _ancestry_of(start: str) -> list[dict]:
    """The ancestry of the run that a start names; that of a folder is none."""
    if not start.startswith(RUN):
        return []
    return damage.read(paths.run(_parts(start)[0]) / CARD, "runs/*/start.json").get("ancestry", [])


def _parts(start: str) -> tuple[str, str]:
    run_id, _, checkpoint = start.removeprefix(RUN).partition("/")
    return run_id, checkpoint


def _config(run_id: str) -> dict:
    """The settings of a run as they are on the disk; {} where there is no such run."""
    with suppress(paths.NotOurs):
        return damage.read(paths.run(run_id) / "config.json", "runs/*/config.json")
    return {}


def _label(run_id: str) -> str:
    return damage.read(paths.run(run_id) / "label.json", "runs/*/label.json").get("name") or run_id


def _base_name(folder: Path) -> str:
    """The base model of an adapter as a run names it: a model that is ready by its id, one of the hub by its hub id."""
    if of_import := files.read_json(folder / imported.CARD, NAMED).get("base_model"):
        return of_import
    name = str(training_start.read_adapter(folder).get("base_model_name_or_path") or "")
    ready = {model["path"]: model["id"] for model in models.ready()}
    if cached := next((part for part in Path(name).parts if part.startswith("models--")), None):
        return cached.removeprefix("models--").replace("--", "/")
    return ready.get(name) or base_identity.name_here(name, folder)


def _same_base(one: str, other: str) -> bool:
    """Whether two names can be of one model: a path of another machine counts by its last part."""
    return one == other or bool(_last_parts(one) & _last_parts(other))


def _last_parts(name: str) -> set[str]:
    place = name
    with suppress(UserError):  # a directory that is no model
        place = models.local(name) or name
    return {Path(spelling.rstrip("/\\").replace("\\", "/")).name.lower() for spelling in (name, place)}


def _link(folder: Path, target: Path) -> None:
    """Put what a start consists of into a directory that appears when it is whole.

    Raises:
        StartUnreadable: if there is a file that it lacks.
    """
    adapts = training_start.is_adapter(folder)
    for needed in ADAPTER if adapts else ("config.json", "*.safetensors"):
        if not any(folder.glob(needed)):
            raise TrainingError("StartUnreadable", start=folder, missing=needed)
    with files.new_directory(target) as unfinished:
        wanted = [*ADAPTER, base_identity.FILE] if adapts else WHOLE
        for file in (path for pattern in wanted for path in folder.glob(pattern)):
            linked = False
            if not adapts and not folder.name.startswith("checkpoint-"):  # its run may write it anew, in place
                with suppress(OSError):  # another disk, or one that knows no links
                    os.link(file.resolve(), unfinished / file.name)
                    linked = True
            if not linked:
                shutil.copyfile(file, unfinished / file.name)
