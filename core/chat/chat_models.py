"""What can reply: bases, runs, checkpoints, adapters from the hub, prompt profiles, merged models; by id, never by path.

Run it: `python -m core.chat --list`.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from core import damage, errors, paths
from core.chat import imported, profiles
from core.chat.types import BASE, TUNED, NoAdapter
from core.errors import UserError
from core.models import models
from core.runs import runs
from core.training.checkpoints import complete, whole_checkpoint
from core.training.config import TrainConfig

_base_directories: dict[str, str] = {}  # of bases in use, by name: a hub is not asked at every message


@dataclass(frozen=True)
class ChatModel:
    """One that can reply."""

    id: str  # kind:name, and /checkpoint-N behind the run of a checkpoint
    kind: str  # base, run, checkpoint, adapter, profile or merged
    title: str
    base_model: str  # a name that models.prepare understands
    weights: Path | None = None  # an adapter's directory, or a whole model's
    whole: bool = False  # the weights are a model of their own
    config: TrainConfig | None = None  # of the run that made it
    profile: profiles.Profile | None = None

    @property
    def is_adapter(self) -> bool:
        return self.weights is not None and not self.whole


def listed() -> list[ChatModel]:
    """All that can reply, runs first, newest first, trials behind them; what is damaged is passed over."""
    trained = [*(model for run_id in runs.by_use() for model in _of_run(run_id)), *_imported()]
    names = dict.fromkeys([model["id"] for model in models.ready()] + [model.base_model for model in trained])
    return [*trained, *map(_base, names), *map(_profile, profiles.listed()), *_merged()]


def find(id: str) -> ChatModel:
    """The chat model of an id.

    Raises:
        ChatModelGone, NoAdapter, and RunGone or ProfileGone when what the id names was deleted.
    """
    kind, _, name = id.partition(":")
    if kind == "run":
        run_id, _, checkpoint = name.partition("/")
        return _checkpoint(run_id, checkpoint) if checkpoint else _run(run_id)
    if kind == "profile":
        return _profile(profiles.load(name))
    if kind == "base" and _is_known_base(name):
        return _base(name)
    for model in {"merged": _merged, "adapter": _imported}.get(kind, tuple)():
        if model.id == id:
            return model
    raise errors.named("ChatModelGone", title=name or id)


def ids_of_run(run_id: str) -> dict[str, str]:
    """The ids of a run's base and of the run itself, by the names of their columns."""
    return {BASE: f"base:{runs.config(run_id).base_model}", TUNED: f"run:{run_id}"}


def base_directory(model: ChatModel) -> str:
    """The directory of the base model that a chat model needs; made ready where it is not."""
    directory = _base_directories.get(model.base_model)
    if directory is None or not Path(directory, "config.json").is_file():
        try:
            directory = _base_directories[model.base_model] = models.prepare(model.base_model)
        except UserError as error:
            raise errors.named("BaseGone", model=model.base_model, name=model.title, reason=error) from error
    return directory


def ready_base_directory(model: ChatModel) -> str | None:
    """The same without downloads and conversions: None where it has to be made ready first."""
    try:
        models.check(model.base_model)
        return _base_directories.get(model.base_model) or models.local(model.base_model)
    except UserError as error:
        raise errors.named("BaseGone", model=model.base_model, name=model.title, reason=error) from error


def _is_known_base(name: str) -> bool:
    """Whether a base is in use, is ready, or is that of a run; asked at every message, so cheap things first."""
    if name in _base_directories or any(name == model["id"] for model in models.ready()):
        return True
    if any(name == model.base_model for model in _imported()):
        return True
    return any(name == model.base_model for run_id in reversed(runs.listed()) for model in _of_run(run_id))


def _of_run(run_id: str) -> Iterator[ChatModel]:
    with suppress(UserError, OSError, ValueError, KeyError):
        yield _run(run_id)
        for path in complete(paths.run(run_id)).values():
            yield _checkpoint(run_id, path.name)


def _run(run_id: str) -> ChatModel:
    run_dir, config, name = runs.directory(run_id), runs.config(run_id), runs.label(run_id)["name"]
    weights = next((path for path in (run_dir / "adapter", run_dir / "model") if path.is_dir()), None)
    if weights is None:
        newest = whole_checkpoint(run_dir)  # reads the checkpoint's files: only before the run has ended
        if newest is None:
            raise NoAdapter(name=name)
        weights = Path(newest)
    return ChatModel(f"run:{run_id}", "run", name, config.base_model, weights, config.method == "full", config)


def _checkpoint(run_id: str, name: str) -> ChatModel:
    run_dir, config = runs.directory(run_id), runs.config(run_id)
    weights = next((path for path in complete(run_dir).values() if path.name == name), None)
    title = f"{runs.label(run_id)['name']} · {name}"
    if weights is None:
        raise errors.named("ChatModelGone", title=title)
    id, whole = f"run:{run_id}/{name}", config.method == "full"
    return ChatModel(id, "checkpoint", title, config.base_model, weights, whole, config)


def _base(name: str) -> ChatModel:
    return ChatModel(f"base:{name}", "base", models.title(name), name)


def _profile(profile: profiles.Profile) -> ChatModel:
    return ChatModel(f"profile:{profile.id}", "profile", profile.name, profile.base_model, profile=profile)


def _imported() -> Iterator[ChatModel]:
    """Adapters that came from the hub."""
    for folder, card in imported.listed():
        yield ChatModel(f"adapter:{folder.name}", "adapter", card["title"], card["base_model"], folder)


def _merged() -> Iterator[ChatModel]:
    """Models that were exported as whole ones and are still where they were written."""
    for card in sorted(paths.exports().glob("[!.]*/merged/soulsmith.json")):
        if values := damage.read(card, "exports/*/merged/soulsmith.json"):
            id, folder = f"merged:{card.parent.parent.name}", card.parent
            yield ChatModel(id, "merged", values["title"], values["base_model"], folder, whole=True)
