"""Who can speak: base models, runs and their checkpoints, prompt profiles, merged models; found by id, never by path.

Run it: `python -m core.chat --list`.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from core import models, paths
from core.chat import profiles
from core.chat.types import BaseGone, ContestantGone, NoAdapter
from core.errors import UserError
from core.runs import runs
from core.training.checkpoints import whole_checkpoint
from core.training.config import TrainConfig

KINDS = ("base", "run", "checkpoint", "profile", "merged")
_places: dict[str, str] = {}  # of bases that were asked for: a hub is not asked at every message


@dataclass(frozen=True)
class Contestant:
    """One that can speak."""

    id: str  # kind:name, and /checkpoint-N behind the run of a checkpoint
    kind: str
    title: str
    base_model: str  # a name that models.prepare understands
    weights: Path | None = None  # an adapter's directory, or a whole model's
    whole: bool = False  # the weights are a model of their own
    config: TrainConfig | None = None  # of the run that made it
    profile: profiles.Profile | None = None


def listed() -> list[Contestant]:
    """All that can speak, runs first, newest first, trials behind them; what is damaged is passed over."""
    found = [one for run_id in runs.by_use() for one in _of_run(run_id)]
    names = [model["id"] for model in models.ready()]
    for one in found:
        if one.base_model not in names:
            names.append(one.base_model)
    bases = [_base(name) for name in names]
    spoken = [Contestant(f"profile:{p.id}", "profile", p.name, p.base_model, profile=p) for p in profiles.listed()]
    return [*found, *bases, *spoken, *_merged()]


def find(id: str) -> Contestant:
    """The contestant of an id.

    Raises:
        ContestantGone, NoAdapter, and RunGone or ProfileGone when what the id names was deleted.
    """
    kind, _, name = id.partition(":")
    if kind == "run":
        run_id, _, checkpoint = name.partition("/")
        return _checkpoint(run_id, checkpoint) if checkpoint else _run(run_id)
    if kind == "profile":
        profile = profiles.load(name)
        return Contestant(id, kind, profile.name, profile.base_model, profile=profile)
    if kind == "base" and _is_known_base(name):
        return _base(name)
    for one in _merged() if kind == "merged" else ():
        if one.id == id:
            return one
    raise ContestantGone(contestant=name or id)


def _is_known_base(name: str) -> bool:
    """Whether a base was spoken to before, is ready, or is that of a run; asked at every message, so cheap things first."""
    if name in _places or any(name == model["id"] for model in models.ready()):
        return True
    return any(name == one.base_model for run_id in reversed(runs.listed()) for one in _of_run(run_id))


def base_of(one: Contestant) -> str:
    """The directory of the base model that a contestant speaks through; made ready where it is not."""
    place = _places.get(one.base_model)
    if place is None or not Path(place, "config.json").is_file():
        try:
            place = _places[one.base_model] = models.prepare(one.base_model)
        except UserError as error:
            raise BaseGone(model=one.base_model, name=one.title, reason=error) from error
    return place


def base_here(one: Contestant) -> str | None:
    """The same without downloads and conversions: None where it has to be made ready first."""
    try:
        models.check(one.base_model)
        return _places.get(one.base_model) or models.local(one.base_model)
    except UserError as error:
        raise BaseGone(model=one.base_model, name=one.title, reason=error) from error


def _of_run(run_id: str) -> Iterator[Contestant]:
    with suppress(UserError, OSError, ValueError, KeyError):
        yield _run(run_id)
        for path in _checkpoints(paths.run(run_id)):
            yield _checkpoint(run_id, path.name)


def _checkpoints(run_dir: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    whole = [path.parent for path in run_dir.glob("checkpoint-*/whole.json")]
    return sorted(whole, key=lambda path: int(path.name.split("-")[1]))


def _run(run_id: str) -> Contestant:
    run_dir, config, name = runs.directory(run_id), runs.config(run_id), runs.label(run_id)["name"]
    weights = next((path for path in (run_dir / "adapter", run_dir / "model") if path.is_dir()), None)
    if weights is None:
        newest = whole_checkpoint(run_dir)  # reads the checkpoint's files: not where the run ended
        if newest is None:
            raise NoAdapter(name=name)
        weights = Path(newest)
    return Contestant(f"run:{run_id}", "run", name, config.base_model, weights, config.method == "full", config)


def _checkpoint(run_id: str, name: str) -> Contestant:
    run_dir, config = runs.directory(run_id), runs.config(run_id)
    weights = next((path for path in _checkpoints(run_dir) if path.name == name), None)
    title = f"{runs.label(run_id)['name']} · {name}"
    if weights is None:
        raise ContestantGone(contestant=title)
    id, whole = f"run:{run_id}/{name}", config.method == "full"
    return Contestant(id, "checkpoint", title, config.base_model, weights, whole, config)


def _base(name: str) -> Contestant:
    return Contestant(f"base:{name}", "base", models.title(name), name)


def _merged() -> list[Contestant]:
    """Models that were exported as whole ones and still lie where they were written."""
    found = []
    for card in sorted(paths.exports().glob("[!.]*/merged/soulsmith.json")):
        with suppress(OSError, ValueError, KeyError):
            values = json.loads(card.read_text(encoding="utf-8"))
            id, folder = f"merged:{card.parent.parent.name}", card.parent
            found.append(Contestant(id, "merged", values["title"], values["base_model"], folder, whole=True))
    return found
