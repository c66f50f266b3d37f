"""Adapters that came from the hub: a directory each in adapters/, PEFT's own files and a card (soulsmith.json).

They are chatted with as adapter:NAME, and a run can go on from their directory.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from core import damage, files, jobs, paths
from core.models import base_identity

ADAPTER_FILES = ["adapter_*.json", "adapter_*.safetensors", "token*", "special_tokens*", "added_tokens*", "vocab*"]
ADAPTER_FILES += ["merges*", "chat_template*", base_identity.FILE]
CARD = "soulsmith.json"  # {"id": on the hub, "title", "base_model", "revision", "created"}


def listed() -> Iterator[tuple[Path, dict]]:
    """The directory and the card of each, newest first; one whose card is damaged is passed over."""
    for file in sorted(paths.adapters().glob(f"[!.]*/{CARD}"), reverse=True):
        if card := damage.read(file, "adapters/*/soulsmith.json"):
            yield file.parent, card


def write(source: Path, card: dict) -> Path:
    """Copy an adapter's files into a directory of its own; one of the same hub id, revision and base is there once."""
    for directory, known in listed():
        if all(known.get(key) == card[key] for key in ("id", "revision", "base_model")):
            return directory

    def fill(unfinished: Path) -> None:
        for file in sorted(source.iterdir()):
            if file.is_file() and any(map(file.match, ADAPTER_FILES)):  # the hub sends whole folders by such patterns
                shutil.copyfile(file.resolve(), unfinished / file.name)
        files.write_json(unfinished / CARD, card)

    return jobs.make_directory(paths.adapters(), card["title"], fill)


def delete(name: str) -> None:
    """Delete one, by the name of its directory."""
    for directory, _ in listed():
        if directory.name == name:
            shutil.rmtree(directory)
