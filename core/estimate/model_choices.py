"""What can be typed into a model field: the catalogue with sizes and terms, and what of it is on this disk already."""

from dataclasses import dataclass

from core.estimate import config_sources, model_names
from core.models import models


@dataclass(frozen=True)
class Offer:
    """A model that a person can choose."""

    name: str  # what is chosen: a hub id, "starter" or a directory
    title: str
    parameters: int | None = None
    licence: str = ""
    gated: bool = False  # its terms must be accepted on the hub, and HF_TOKEN set
    here: bool = False  # on this disk already: no download
    shaped: bool = True  # the catalogue knows enough of it for an estimate


def listed() -> list[Offer]:
    """The starter, what is on this disk, then the rest of the catalogue in its order."""
    here = on_disk()
    offers = {offer.name: offer for entry in model_names.models().values() for offer in _of_entry(entry, here)}
    for name in here:
        offers.setdefault(name, Offer(name, name, here=True, shaped=False))
    for model in models.ready():
        if model["id"] != models.STARTER:
            offers[model["path"]] = Offer(model["path"], model["title"], here=True)
    return [_starter(), *sorted(offers.values(), key=lambda offer: not offer.here)]


def _starter() -> Offer:
    entry = model_names.find(models.STARTER)
    ready = any(model["id"] == models.STARTER for model in models.ready())
    return Offer(models.STARTER, models.STARTER_TITLE, entry["params_exact"], entry["license"], here=ready)


def _of_entry(entry: dict, here: set[str]) -> list[Offer]:
    """The entry itself and its other hub ids: the same shape, trained to chat."""
    ids = [entry["hub_id"], *(alias for alias in entry["aliases"] if models.is_hub_id(alias))]
    shaped = "config" in entry
    gated = str(entry["gated"] or "").startswith(("yes", "True"))
    terms = entry["license"] or ""
    return [Offer(name, name, entry["params_exact"], terms, gated, name in here, shaped) for name in ids]


def on_disk() -> set[str]:
    """The hub ids whose weights the hub's own cache holds, ids without asking the hub."""
    ids = set()
    for snapshot in config_sources.in_hub_cache("models--*--*/snapshots/*"):
        if (snapshot / "config.json").exists() and any(snapshot.glob("*.safetensors")):
            _, owner, name = snapshot.parent.parent.name.split("--", 2)
            ids.add(f"{owner}/{name}")
    return ids
