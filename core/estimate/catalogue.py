"""Models and cards that the calculator knows, and how to read the ones that it meets: a folder, a GGUF file."""

import difflib
import functools
import json
import os
import re
import struct
from pathlib import Path
from typing import BinaryIO

from core.estimate import errors
from core.estimate.cards import CPU, DEFAULT_CARD, MINE, Card, card, cards, chosen, of_machine, processor
from core.estimate.shape import TEXT_MODELS, ModelShape, from_config, read_models

__all__ = [
    "CPU",
    "DEFAULT_CARD",
    "MINE",
    "Card",
    "card",
    "cards",
    "chosen",
    "of_machine",
    "processor",
]  # the half in cards.py
GGUF_FORMS = ("B", "b", "H", "h", "I", "i", "f", "?", "string", "array", "Q", "q", "d")  # by the number of a type
GGUF_KEYS = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "intermediate_size": "feed_forward_length",
    "max_position_embeddings": "context_length",
    "vocab_size": "vocab_size",
}


@functools.cache
def models() -> dict[str, dict]:
    """The catalogue's entries by hub id, in its order."""
    return {entry["hub_id"]: entry for entry in read_models()["models"]}


def shape(name: str) -> ModelShape:
    """The shape of a model: a hub id or alias of the catalogue, a folder, a config.json, a GGUF file.

    Raises:
        UnknownModel, NoSuchModel, ShapeUnknown, UnknownArchitecture, NeedsTrace, IncompleteConfig.
    """
    name = str(name).strip()
    path = Path(name).expanduser()
    if name and path.exists():
        return from_config(_from_disk(path), name)
    entry = _entry(name)
    return from_config(config_of(entry), entry["hub_id"])


def config(model: str) -> dict:
    """The config.json of a model of the catalogue or a folder, of a GGUF file the one that it amounts to.

    Raises:
        UnknownModel, NoSuchModel, ShapeUnknown, NoConfig, IncompleteConfig.
    """
    path = Path(model).expanduser()
    return _from_disk(path) if path.exists() else config_of(_entry(model))


def config_of(entry: dict) -> dict:
    """A catalogue entry as the config.json that it was read from."""
    if "config" not in entry:
        raise errors.ShapeUnknown(name=entry["hub_id"], nearest=", ".join(nearest(entry["family"])[:2]))
    return entry["config"]


def find(name: str) -> dict | None:
    """The catalogue's entry of a hub id, an alias, or the last part of either, whatever the capitals."""
    names = _names()
    return names.get(name.lower()) or names.get(name.lower().rpartition("/")[2])


@functools.cache
def _names() -> dict[str, dict]:
    entries: dict[str, dict] = {"starter": models()["HuggingFaceTB/SmolLM2-135M"]}
    for entry in models().values():
        for alias in (entry["hub_id"], *entry["aliases"]):
            for form in (alias.lower(), alias.lower().rpartition("/")[2]):
                entries.setdefault(form, entry)
    return entries


def nearest(name: str, n: int = 3) -> list[str]:
    """Hub ids of the catalogue that are spelt most like a name, of models whose shape is known."""
    ids = {form: entry["hub_id"] for form, entry in _names().items() if "config" in entry}
    close = difflib.get_close_matches(name.lower().rpartition("/")[2], ids, n * 2, 0.4)
    return list(dict.fromkeys(ids[form] for form in close))[:n] or ["Qwen/Qwen2.5-7B", "Qwen/Qwen3-8B"]


def _entry(name: str) -> dict:
    if entry := find(name):
        return entry
    plain = _letters(name.lower().rpartition("/")[2])
    for entry in read_models()["absent"]:
        if plain in map(_letters, entry["names"]):
            raise errors.NoSuchModel(name=name, nearest=", ".join(entry["nearest"]))
    raise errors.UnknownModel(name=name, nearest=", ".join(nearest(name)))


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9.]", "", name)


def _from_disk(path: Path) -> dict:
    if path.suffix.lower() == ".gguf":
        return gguf_config(path)
    file = path / "config.json" if path.is_dir() else path
    if not file.exists():
        raise errors.NoConfig(path=file)
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = None
    if not isinstance(config, dict):
        raise errors.IncompleteConfig(path=file, field="model_type")
    return config


def gguf_config(path: Path) -> dict:
    """The config of transformers that the header of a GGUF file amounts to."""
    try:
        with path.open("rb") as file:
            facts = _gguf_facts(file)
    except (OSError, struct.error, ValueError, KeyError, UnicodeDecodeError) as error:
        raise errors.IncompleteConfig(path=path, field="general.architecture") from error
    kind = facts.get("general.architecture", "")
    config = {name: facts.get(f"{kind}.{key}") for name, key in GGUF_KEYS.items()}
    config["vocab_size"] = config["vocab_size"] or facts.get("tokenizer.ggml.tokens")
    known = {name: value for name, value in config.items() if value is not None}
    tied = "output.weight" not in facts["tensors"]
    return {"model_type": TEXT_MODELS.get(kind, kind), "tie_word_embeddings": tied, **known}


def _gguf_facts(file: BinaryIO) -> dict:
    """The key-value pairs of a GGUF header and the names of its tensors; of an array only its length."""

    def read(form: str):
        return struct.unpack("<" + form, file.read(struct.calcsize("<" + form)))[0]

    def text() -> str:
        return file.read(read("Q")).decode("utf-8")

    def value(kind: int):
        form = GGUF_FORMS[kind]
        if form == "array":
            inner, length = read("I"), read("Q")
            for _ in range(length):
                value(inner)
            return length
        return text() if form == "string" else read(form)

    magic, _version, tensors, pairs = file.read(4), read("I"), read("Q"), read("Q")
    if magic != b"GGUF" or pairs > 10_000 or tensors > 100_000:
        raise ValueError("not a GGUF file")
    facts: dict = {text(): value(read("I")) for _ in range(pairs)}
    facts["tensors"] = set()
    for _ in range(tensors):
        facts["tensors"].add(text())
        file.seek(8 * read("I") + 12, os.SEEK_CUR)  # its sizes, type and offset
    return facts
