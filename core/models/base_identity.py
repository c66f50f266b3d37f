"""What a base model is called where this disk is not: its id on the hub, and a hash of its weights.

Everything that is taken away (adapters, capsules, model cards) names the base by these, never by a path.
"""

import json
import re
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from core import files, paths
from core.models import models
from core.training import base_weights

STARTER_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"  # of the starter model, in the catalogue too
IN_CACHE = re.compile(r"models--([\w.-]+?)--([\w.-]+)$")  # how the hub's cache calls the directory of a model
FILE = base_weights.CARD
WRITTEN = {"name": str, "on_hub": bool, **dict.fromkeys(("revision", "sha256", "source"), str | None)}


@dataclass(frozen=True)
class Identity:
    """A base model."""

    name: str  # its id on the hub; where that is not known, what it is called here
    on_hub: bool
    revision: str = ""  # of the hub's repository, where it is known
    sha256: str = ""  # of its files of weights: see weights_hash(); empty where it is not on this disk
    source: str = ""  # the file that these weights were made from, where they are not the hub's own

    def write(self, directory: Path) -> None:
        files.write_json(directory / FILE, asdict(self))


def of(name: str) -> Identity:
    """The identity of a base model, named as in a run's config; nothing is downloaded."""
    path = paths.expanded(models.local(name) or name)
    card = files.read_json(path / "soulsmith.json") if path.is_dir() else {}
    cached = _in_cache(path)
    hub_id = STARTER_HUB_ID if models.STARTER in (name, card.get("id")) else cached[0] or card.get("hub_id", "")
    if not hub_id and models.is_hub_id(name) and not Path(name).exists():
        hub_id, path = name, base_weights.in_cache(name) or path
        cached = _in_cache(path)
    sha256 = weights_hash(path, _stamp(path)) if path.is_dir() else ""
    return Identity(hub_id or models.title(name), bool(hub_id), cached[1], sha256, card.get("source", ""))


def named_in(folder: Path) -> Identity | None:
    """The base that a directory names which was taken away; None where it doesn't say."""
    known = files.read_json(folder / FILE, WRITTEN)
    named = {key: known[key] for key in Identity.__dataclass_fields__ if known.get(key) is not None}
    return Identity(**named) if known else None


def name_here(name: str, folder: Path) -> str:
    """What the base of an adapter in a directory is called here: the starter, where its own rounded weights were."""
    known = named_in(folder)
    return models.STARTER if name == STARTER_HUB_ID and known and known.source else name


def other_weights(base: str, folder: Path) -> tuple[str, str] | None:
    """Two hashes where a base has other weights than those that a directory was made with: those here, those named there.

    Weights that were made from the same file are the same, however they were written; what is not known passes.
    """
    known = named_in(folder)
    if not known or not known.sha256:
        return None
    here = of(base)
    same = here.sha256 in ("", known.sha256) or (known.source and known.source == here.source)
    return None if same else (here.sha256, known.sha256)


@cache
def weights_hash(directory: Path, stamp: tuple) -> str:
    """base_weights.weights_hash() of a directory, once; `stamp` tells whether its files have changed."""
    return base_weights.weights_hash(directory)


def clean(directory: Path, identity: Identity) -> None:
    """Name the base in the JSON files of a directory that is taken away, wherever libraries wrote a path of this disk."""
    for file in sorted(directory.glob("*.json")):
        file.write_text(cleaned(file, identity), encoding="utf-8")


def cleaned(file: Path, identity: Identity) -> str:
    """A JSON file of a library's in which the base has its name."""
    text = file.read_text(encoding="utf-8")
    values = json.loads(text)
    names = [key for key in ("base_model_name_or_path", "_name_or_path", "name_or_path") if key in values]
    if not names:
        return text
    values |= dict.fromkeys(names, identity.name)
    if "base_model_name_or_path" in values and "revision" in values:
        values["revision"] = identity.revision or None
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _stamp(directory: Path) -> tuple:
    if not directory.is_dir():
        return ()
    return tuple((file.name, file.stat().st_mtime_ns) for file in sorted(directory.glob("*.safetensors")))


def _in_cache(path: Path) -> tuple[str, str]:
    """(hub id, revision) of a snapshot in the hub's cache; of other directories neither."""
    if path.parent.name != "snapshots" or not (found := IN_CACHE.match(path.parent.parent.name)):
        return "", ""
    return f"{found[1]}/{found[2]}", path.name
