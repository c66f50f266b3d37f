"""Continue training from an adapter or a whole model: check that it fits, and load its weights."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

from .config import TrainConfig
from .errors import TrainingError

ADAPTER = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
MOST_BYTES = 2**20  # of an adapter_config.json
OTHERS = (  # fields of an adapter's config that TrainConfig has no words for: they have to be empty
    *("rank_pattern", "alpha_pattern", "layers_to_transform", "layer_replication", "trainable_token_indices"),
    *("lora_bias", "alora_invocation_tokens", "megatron_config"),
)


def is_adapter(directory: str | Path) -> bool:
    """Whether a directory holds an adapter and not a whole model."""
    return (Path(directory) / ADAPTER).is_file()


def read_adapter(directory: str | Path) -> dict:
    """The adapter_config.json of a directory.

    Raises:
        StartUnreadable.
    """
    path = Path(directory) / ADAPTER
    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            raise ValueError(f"{path} is no file of an adapter")
        values = json.loads(path.read_text(encoding="utf-8"))
        values |= {"peft_type": str(values["peft_type"])}
        if values["peft_type"] == "LORA" and not _is_sound(values):
            raise ValueError(f"{path} has values of another type")
        return values
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise TrainingError("StartUnreadable", start=directory, missing=ADAPTER) from error


def _is_sound(adapter: dict) -> bool:
    """Whether the values that fields_of() reads are of their types."""
    targets, alpha = adapter.get("target_modules") or [], adapter.get("lora_alpha")
    named = isinstance(targets, str) or (isinstance(targets, list) and all(isinstance(one, str) for one in targets))
    return named and type(adapter.get("r")) is int and type(alpha) in (int, float) and math.isfinite(alpha)


def fields_of(adapter: dict) -> dict:
    """The fields of TrainConfig that a run must have to go on with an adapter, from its adapter_config.json.

    Raises:
        StartNotPlainLora: for what this program cannot train on.
    """
    odd = [name for name in OTHERS if adapter.get(name)] + (["bias"] if adapter.get("bias", "none") != "none" else [])
    if adapter["peft_type"] != "LORA" or odd:
        raise TrainingError("StartNotPlainLora", kind=", ".join([adapter["peft_type"], *odd]))
    targets = adapter.get("target_modules") or ()
    # Bare parameters of experts have no name in target_modules: they come with all-linear.
    named = "all-linear" if adapter.get("target_parameters") or isinstance(targets, str) else _names(targets)
    return {
        "lora_rank": adapter["r"],
        "lora_alpha": adapter["lora_alpha"],
        "target_modules": named,
        "use_rslora": bool(adapter.get("use_rslora")),
        "use_dora": bool(adapter.get("use_dora")),
        "train_embeddings": bool(adapter.get("modules_to_save")),
        "init_lora_weights": "default",  # it begins as it is
    }


def _names(targets: list[str]) -> str:
    """Layers as target_modules names them: by the last part alone where every numbered block has the same ones."""
    blocks: dict[str, set[str]] = {}
    for target in targets:
        block, _, name = target.rpartition(".")
        blocks.setdefault(re.sub(r"\D+", " ", block), set()).add(name)
    alike = len({frozenset(names) for names in blocks.values()}) == 1
    return ",".join(sorted(next(iter(blocks.values())) if alike else targets))


def check_settings(config: TrainConfig) -> None:
    """Refuse a start of another kind or with other settings than the run has; the start's small files are enough.

    Raises:
        StartUnreadable, StartNotPlainLora, StartIsWhole, StartIsAdapter, StartSetting.
    """
    start = Path(config.start)
    if config.method == "full":
        if is_adapter(start):
            raise TrainingError("StartIsAdapter", start=start)
        if not (start / "config.json").is_file():
            raise TrainingError("StartUnreadable", start=start, missing="config.json")
        return
    if (start / "config.json").is_file() and not is_adapter(start):
        raise TrainingError("StartIsWhole", start=start, method=config.method)
    for field, theirs in fields_of(read_adapter(start)).items():
        ours = getattr(config, field)
        if field != "target_modules" and ours != theirs:  # whether these are the same layers, their tensors say
            raise TrainingError("StartSetting", start=start, field=field, theirs=theirs, ours=ours)


def check(config: TrainConfig, model) -> None:
    """Refuse a start that the model of a run, which may be without weights, cannot go on from.

    Raises:
        StartForeign, and what check_settings() raises.
    """
    check_settings(config)
    if config.method == "full":
        _check_whole(config, Path(config.start))
    else:
        _check_tensors(config, read_adapter(config.start), model)


def _check_whole(config: TrainConfig, start: Path) -> None:
    """Refuse a whole model of other shapes than base_model's."""
    from . import model_loading  # noqa: PLC0415 - the page opens without torch

    theirs, ours = (
        {name: tuple(weight.shape) for name, weight in model_loading.skeleton(shape).named_parameters()}
        for shape in map(model_loading.model_config, (start, config.base_model))
    )
    if theirs != ours:
        raise _foreign(config, theirs, ours, start.name, "-")


def load(config: TrainConfig, model) -> None:
    """Put the weights of a run's start into the adapter around its base, exactly as they are on the disk."""
    from peft import set_peft_model_state_dict  # noqa: PLC0415 - it imports bitsandbytes
    from safetensors.torch import load_file  # noqa: PLC0415 - a capsule's --help comes without it

    check(config, model)
    set_peft_model_state_dict(model, load_file(Path(config.start) / WEIGHTS))


def base_of(config: TrainConfig) -> TrainConfig:
    """The config whose base_model is what weights are read from: with all weights trained, those of the start."""
    return replace(config, base_model=config.start) if config.start and config.method == "full" else config


def _check_tensors(config: TrainConfig, adapter: dict, model) -> None:
    """Raise StartForeign unless every tensor has its place of its shape, and no place stays empty."""
    from peft import get_peft_model_state_dict  # noqa: PLC0415 - it imports bitsandbytes

    saved = _shapes(Path(config.start))
    wanted = {
        name: list(weight.shape)
        for name, weight in get_peft_model_state_dict(model, save_embedding_layers=False).items()
    }
    if saved != wanted:
        base, targets = adapter.get("base_model_name_or_path") or "-", fields_of(adapter)["target_modules"]
        raise _foreign(config, saved, wanted, base, targets)


def _foreign(config: TrainConfig, theirs: dict, wanted: dict, base: str, targets: str) -> TrainingError:
    """The error for shapes of tensors that do not fit those wanted, both by their names."""
    return TrainingError(
        "StartForeign",
        start=config.start,
        model=Path(config.base_model).name,
        base=base,
        targets=targets,
        tensors=len(theirs),
        matched=sum(wanted.get(name) == shape for name, shape in theirs.items()),
        wanted=len(wanted),
    )


def _shapes(start: Path) -> dict[str, list[int]]:
    """The shapes of an adapter's tensors by name, from the header of their file."""
    try:
        with (start / WEIGHTS).open("rb") as content:
            header = json.loads(content.read(int.from_bytes(content.read(8), "little")))
        return {name: about["shape"] for name, about in header.items() if name != "__metadata__"}
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        MemoryError,
        RecursionError,
    ) as error:
        raise TrainingError("StartUnreadable", start=start, missing=WEIGHTS) from error
