"""The shapes of models, by what they are called or where they lie."""

from core import errors, paths
from core.estimate import config_sources
from core.estimate.model_names import find, is_exact, nearest, resolve
from core.estimate.shape import ModelShape, from_config
from core.models.models import STARTER, is_hub_id


def shape(name: str) -> ModelShape:
    """The shape of a model: a name of the catalogue, a hub id in the cache, a folder, a GGUF file, a pasted config.json.

    Raises:
        UnknownModel, AmbiguousModel, NoSuchModel, ShapeUnknown, UnknownArchitecture, NeedsTrace, NoConfig, NotJson,
        NotAnObject, IncompleteConfig, WrongInConfig.
    """
    known, config = _known(name)
    return from_config(config, known)


def config(name: str) -> dict:
    """The config.json of a model, of a GGUF file the one that it amounts to.

    Raises:
        those of shape() that name or read a model.
    """
    return _known(name)[1]


def fetch(name: str) -> None:
    """Bring the config of a model of the hub that the catalogue does not know into the hub's cache, if it can be had.

    Raises:
        ConfigGated, ConfigUnreachable.
    """
    name = str(name).strip()
    entry = find(name)
    if is_pasted(name) or (entry and "config" in entry) or _exists(name):
        return
    config_sources.fetch(entry["hub_id"] if entry else name)


def hub_name(name: str) -> str:
    """What a training run calls the model that a person named: its hub id or place; "" for a pasted config.json."""
    name = str(name).strip()
    if is_pasted(name):
        return ""
    if name.lower() == STARTER or _exists(name) or is_hub_id(name):
        return name
    return resolve(name)[0]


def is_pasted(name: str) -> bool:
    """Whether it is the text of a config.json."""
    return name.lstrip().startswith("{")


def _exists(name: str) -> bool:
    try:
        return bool(name) and paths.expanded(name).exists()
    except (OSError, ValueError):  # too long, or with a NUL
        return False


def _known(name: str) -> tuple[str, dict]:
    """What the answer calls a model, and its config."""
    name = str(name).strip()
    if is_pasted(name):
        config = config_sources.pasted(name)
        return str(config.get("_name_or_path") or "config.json"), config
    if _exists(name):
        place = paths.expanded(name)
        base = config_sources.base_of_adapter(place)
        return (name, _known(base)[1]) if base else (name, config_sources.from_disk(place))
    if not is_exact(name) and is_hub_id(name) and (config := config_sources.cached(name)):
        return name, config
    entry = resolve(name)[1]
    return entry["hub_id"], config_of(entry)


def config_of(entry: dict) -> dict:
    """A catalogue entry as the config.json that it was read from, or the one in the hub's cache."""
    config = entry.get("config") or config_sources.cached(entry["hub_id"])
    if not config:
        raise errors.named("ShapeUnknown", name=entry["hub_id"], nearest=", ".join(nearest(entry["family"])[:2]))
    return config
