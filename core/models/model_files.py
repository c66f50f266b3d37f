"""The files of a model's weights: how large they are and how many weights they hold."""

import hashlib
import json
from pathlib import Path

from core import files

DIGEST_BYTES = 4096  # of a tensor


def size(directory: Path) -> int:
    """Bytes of all files of weights in a directory."""
    return sum(file.stat().st_size for file in directory.glob("*.safetensors"))


def width(directory: Path) -> int:
    """Bytes of a weight as the files hold it, by config.json; 2 where it does not say."""
    values = files.read_json(directory / "config.json")
    return 4 if (values.get("dtype") or values.get("torch_dtype")) == "float32" else 2


def count(directory: Path) -> int:
    """How many weights the files hold, headers counted as weights."""
    return size(directory) // width(directory)


def digest(directory: Path) -> str:
    """16 hex digits that tell the weights of a directory from others: names, types, shapes and the first bytes of all
    tensors, however they are shared out among files; a fraction of a second for any model."""
    tensors = []
    for path in directory.glob("*.safetensors"):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
            for name, about in header.items():
                if name != "__metadata__":
                    start, end = about["data_offsets"]
                    file.seek(8 + length + start)
                    shape = json.dumps([name, about["dtype"], about["shape"]]).encode()
                    tensors.append(shape + file.read(min(end - start, DIGEST_BYTES)))
    return hashlib.sha256(b"".join(hashlib.sha256(tensor).digest() for tensor in sorted(tensors))).hexdigest()[:16]
