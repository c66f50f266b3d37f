"""The weights of a base model by their hash: whether a capsule trains on those that its run was trained on."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

CARD = "base.json"  # beside the config of a capsule: what its run was trained on


def weights_hash(directory: Path) -> str:
    """SHA-256 of what `sha256sum *.safetensors` prints in a directory; "" where there are no such files.

    Files of the hub's cache are named by their hash, so that they need not be read.
    """
    lines = []
    for file in sorted(directory.glob("*.safetensors")):
        blob = file.resolve().name
        if not re.fullmatch("[0-9a-f]{64}", blob):
            with file.open("rb") as content:
                blob = hashlib.file_digest(content, "sha256").hexdigest()
        lines.append(f"{blob}  {file.name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest() if lines else ""


def compared(base_model: str, folder: Path) -> dict | None:
    """{"same", "recorded", "here"}: the hash that a capsule names and that of the base, which is on this disk by now.

    None where either is not known.
    """
    try:
        recorded = json.loads((folder / CARD).read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    directory = Path(base_model) if Path(base_model).is_dir() else in_cache(base_model)
    here = weights_hash(directory) if directory else ""
    return {"same": here == recorded, "recorded": recorded, "here": here} if recorded and here else None


def in_cache(hub_id: str) -> Path | None:
    """The directory of a hub model in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - it takes a while, and not all need it

    found = try_to_load_from_cache(hub_id, "config.json")
    return Path(found).parent if isinstance(found, str) else None
