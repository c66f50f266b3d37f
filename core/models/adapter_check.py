"""Whether an adapter that somebody published can be loaded: its config, the header of its weights, its ranks.

It is asked in a process with little memory and little time (core/foreign.py), before PEFT makes layers of what it says.
"""

import json
import re
from functools import lru_cache
from pathlib import Path
from re import _constants, _parser  # what a pattern is made of has no public name

from core import errors, foreign, process
from core.models.model_check import MOST_LAYERS, SECONDS

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MOST_BYTES = 2**20  # of the config
PATTERNS = ("target_modules", "exclude_modules", "layers_pattern")  # a list of names, or an expression as text
BY_PATTERN = ("rank_pattern", "alpha_pattern")  # objects whose keys are expressions
LONGEST_PATTERN = 4096


def ask(directory: Path) -> None:
    """check() in a process of its own, once for files that stay as they are.

    Raises:
        TookTooLong, TookTooMuch, ReaderBroke, or by name AdapterUnsound.
    """
    files = [path.stat() for name in (CONFIG, WEIGHTS) if (path := directory / name).exists()]
    _asked(directory, tuple((file.st_size, file.st_mtime_ns) for file in files))


@lru_cache(maxsize=64)
def _asked(directory: Path, _marks: tuple) -> None:
    foreign.ask("adapter", directory, file=directory, seconds=SECONDS)


def check(name: str) -> None:
    """Read the config of an adapter and the header of its weights, and compare them.

    Raises:
        AdapterUnsound.
    """
    config, ranks = _config(Path(name) / CONFIG), _ranks(Path(name) / WEIGHTS)
    path, patterns = Path(name) / CONFIG, config.get("rank_pattern") or {}
    if not isinstance(patterns, dict):
        raise errors.named("AdapterUnsound", path=path, reason="rank_pattern is no object")
    for rank in (config.get("r"), *patterns.values()):  # PEFT makes layers of these sizes before it reads the weights
        if type(rank) is not int or not 1 <= rank <= max(ranks, default=1):
            found = f"r is {json.dumps(rank)[:40]} and its weights have {max(ranks, default=0)}"
            raise errors.named("AdapterUnsound", path=path, reason=found)
    _check_patterns(path, config)
    copied = config.get("layer_replication") or ()
    try:
        layers = sum(end - start for start, end in copied)
    except (TypeError, ValueError):
        raise errors.named("AdapterUnsound", path=path, reason="layer_replication is no list of pairs") from None
    if layers > MOST_LAYERS:
        raise errors.named("AdapterUnsound", path=path, reason=f"layer_replication makes {layers} layers")


def _check_patterns(path: Path, config: dict) -> None:
    """Refuse an expression that may be tried on a module's name without an end: PEFT matches it in the chat's process."""
    found = [text for name in PATTERNS if isinstance(text := config.get(name), str)]
    found += [text for name in BY_PATTERN if isinstance(config.get(name), dict) for text in config[name]]
    for text in found:
        try:
            endless = len(text) > LONGEST_PATTERN or _is_endless(_parser.parse(text))
        except (re.error, RecursionError, OverflowError):
            endless = True
        if endless:
            raise errors.named(
                "AdapterUnsound", path=path, reason=f"{json.dumps(text[:40])} is no expression for names of modules"
            )


def _is_endless(pattern, repeated: bool = False) -> bool:
    """Whether a part that is repeated holds another repetition or a choice: each doubles the ways to match a letter."""
    for kind, value in pattern:
        repeats = kind in (_constants.MAX_REPEAT, _constants.MIN_REPEAT)
        if kind is _constants.GROUPREF or (repeated and (repeats or kind is _constants.BRANCH)):
            return True
        if any(_is_endless(part, repeated or (repeats and value[1] > 1)) for part in _parts(kind, value)):
            return True
    return False


def _parts(kind, value) -> list:
    """The patterns inside an item of a pattern."""
    if kind is _constants.BRANCH:
        return value[1]
    values = value if isinstance(value, tuple) else (value,)
    return [part for part in values if isinstance(part, _parser.SubPattern)]


def shapes(path: Path) -> dict[str, list[int]]:
    """The tensors of an adapter's file with their shapes, read from its header.

    Raises:
        AdapterUnsound.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - the page opens without it

    try:
        with safe_open(path, "np") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise errors.named("AdapterUnsound", path=path, reason=str(error)[:200].rstrip(".")) from error


def _config(path: Path) -> dict:
    process.opening(str(path))
    try:
        if path.stat().st_size > MOST_BYTES:
            raise errors.named("AdapterUnsound", path=path, reason=f"it has more than {MOST_BYTES} bytes")
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        raise errors.named("AdapterUnsound", path=path, reason="it is no JSON") from None
    if not isinstance(config, dict):
        raise errors.named("AdapterUnsound", path=path, reason="it is no object")
    return config


def _ranks(path: Path) -> list[int]:
    """The ranks that the saved matrices have; one without numbers in it has none."""
    process.opening(str(path))
    matrices = (shape for name, shape in shapes(path).items() if "lora_A" in name or "lora_embedding_A" in name)
    return [shape[0] for shape in matrices if len(shape) > 1 and 0 not in shape]
