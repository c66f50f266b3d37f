"""The files of a model's weights: how large they are and how many weights they hold."""

import json
from pathlib import Path


def size(directory: Path) -> int:
    """Bytes of all files of weights in a directory."""
    return sum(file.stat().st_size for file in directory.glob("*.safetensors"))


def width(directory: Path) -> int:
    """Bytes of a weight as the files hold it, by config.json; 2 where it does not say."""
    try:
        values = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 2
    return 4 if (values.get("dtype") or values.get("torch_dtype")) == "float32" else 2


def count(directory: Path) -> int:
    """How many weights the files hold, headers counted as weights."""
    return size(directory) // width(directory)
