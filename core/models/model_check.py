"""Whether the files of a model directory can be opened at all: its config, its weights' headers, its chat template.

It is asked in a process with little memory and little time (core/foreign.py), before torch reads them without either.
"""

import json
import struct
from functools import lru_cache
from pathlib import Path

from core import errors, foreign, process
from core.models import tokenizer

SECONDS = 30.0
MOST_LAYERS = 1000
COUNTS = {  # what a model has: {field: how many it can have}
    "num_hidden_layers": MOST_LAYERS,
    "n_layer": MOST_LAYERS,
    **dict.fromkeys(("hidden_size", "vocab_size"), 2**24),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4096),
}
MOST_HEADER = 100_000_000  # bytes of JSON before the tensors, as safetensors has it
LENGTHS = (1, 3, 4, 9, 40)  # turns of the conversations that a template is tried with, the system's among them
# Runs of one kind of letter, which an expression that tries all ways to divide them never ends with.
TEXT = "The keeper lit the lamp, and the sea went dark. " + " ".join(letter * 40 for letter in "aAя1 .!?_-\n")


def ask(directory: Path) -> None:
    """check() in a process of its own, once for files that stay as they are.

    Raises:
        TookTooLong, TookTooMuch, ReaderBroke, or by name what check() raises.
    """
    files = sorted(path for pattern in ("*.json", "*.jinja", "*.safetensors") for path in directory.glob(pattern))
    _asked(directory, tuple((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files))


@lru_cache(maxsize=64)
def _asked(directory: Path, _marks: tuple) -> None:
    foreign.ask("model", directory, file=directory, seconds=SECONDS)


def check(name: str) -> None:
    """Read what is read of a model directory before its weights.

    Raises:
        ModelConfigUnfit, WeightsUnreadable, NoTokenizer, TokenizerUnreadable.
    """
    directory = Path(name)
    if (directory / "config.json").exists():  # a tokenizer alone counts tokens
        _check_config(directory / "config.json")
    for path in sorted(directory.glob("*.safetensors")):
        _check_weights(path)
    if not (directory / "tokenizer.json").is_file():
        return
    process.opening(str(directory / "tokenizer.json"))
    loaded = tokenizer.load(directory)
    _try(loaded, directory)
    process.opening(f"{directory}: chat_template")
    for length in LENGTHS:
        try:
            loaded.apply_chat_template(_talk(length), add_generation_prompt=True)
        except MemoryError:
            raise
        except Exception:  # one that does not take these turns may take those of the corpus
            continue


def _try(loaded: tokenizer.LightTokenizer, directory: Path) -> None:
    """Encode a text: rules that take more time with each letter, or write without an end, do so here first."""
    try:
        loaded(TEXT)
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # which the Rust library raises, and which is no Exception
            raise
        raise errors.named("TokenizerUnreadable", path=directory, reason=str(error)[:200]) from error


def _talk(length: int) -> list[dict]:
    """A conversation of so many turns that ends with the user's, begun by the system where the number is even."""
    talk = [
        {"role": ("user", "assistant")[turn % 2], "content": f"Turn {turn}."} for turn in range(length - 1 + length % 2)
    ]
    return talk if length % 2 else [{"role": "system", "content": "Be kind."}, *talk]


def _check_config(path: Path) -> None:
    process.opening(str(path))
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        raise errors.named("ModelConfigUnfit", path=path, reason="it is no JSON") from None
    if not isinstance(config, dict):
        raise errors.named("ModelConfigUnfit", path=path, reason="it is no object") from None
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        for field, most in COUNTS.items():
            value = part.get(field, 1)
            if value is not None and (type(value) is not int or not 0 <= value <= most):
                raise errors.named("ModelConfigUnfit", path=path, reason=f"{field} is {json.dumps(value)[:40]}")


def _check_weights(path: Path) -> None:
    process.opening(str(path))
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(MOST_HEADER, size - 8):
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        if max(ends, default=0) > size - 8 - length:
            raise ValueError("tensors lie behind its end")
    except struct.error:
        raise errors.named("WeightsUnreadable", path=path, reason="it is too short") from None
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise errors.named("WeightsUnreadable", path=path, reason=str(error)[:200]) from None
