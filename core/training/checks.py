"""What is checked before a step is taken: the machine, the model, the task, causality and packing."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import utils

from . import adapters, attention_kernels, devices, model_loading, packages, packing, start
from .config import TrainConfig
from .errors import TrainingError

BEFORE = ([3, 1, 4, 1, 5, 9, 2, 6], [5, 2, 9, 4, 3, 6, 1, 7])  # token ids of documents that a probe puts in front


def check_machine(config: TrainConfig) -> None:
    """Refuse what this machine cannot compute, before anything is read."""
    kind = devices.device_type()
    _check_precision(config, kind)
    if config.use_liger_kernel:
        _check_liger(kind)
    if config.method == "qlora":
        packages.need("bitsandbytes", "QLoRA")
    elif "8bit" in config.optim or config.optim.startswith("paged"):
        packages.need("bitsandbytes", config.optim)


def _check_precision(config: TrainConfig, kind: str) -> None:
    if config.precision == "fp16" and kind == "cpu":
        raise TrainingError("Fp16NeedsCard")
    if config.precision == "fp16" and kind == "mps":
        raise TrainingError("Fp16NotOnApple", instead=devices.precision(replace(config, precision="auto")))
    if config.precision != "bf16" or kind == "cpu" or devices.has_bf16():
        return
    if kind == "mps":
        raise TrainingError("Bf16NeedsNewerMacOS")
    raise TrainingError("NoBf16" if kind == "cuda" else "NoBf16TakesFp32", card=devices.device_name())


def _check_liger(kind: str) -> None:
    if kind not in ("cuda", "xpu"):
        raise TrainingError("LigerNeedsCard")
    if not utils.is_liger_kernel_available():
        raise TrainingError("LigerMissing", missing="liger-kernel")
    packages.need("liger-kernel", "use_liger_kernel")


def check_model(config: TrainConfig, tokenizer) -> None:
    """Refuse a model that cannot be trained as asked, before a weight is read: its skeleton has none.

    base_model may be a directory without weights: config.json and the tokenizer's files are enough.
    """
    name, shape = Path(config.base_model).name, model_loading.model_config(config.base_model)
    limit = model_loading.context_length(shape)
    if limit and config.max_length > limit:
        raise TrainingError("LongerThanTheModel", value=config.max_length, model=name, limit=limit)
    base = model_loading.skeleton(shape)
    model_loading.quantization(config, base)
    rows = base.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise TrainingError("VocabularyTooLarge", model=name, tokens=len(tokenizer), rows=rows)
    if config.packing and leaks(base, attention_kernels.attention(devices.precision(config), base)):
        raise TrainingError("PackingUnsupported", model=name)
    if config.method != "full" and adapters.adapter_targets(base, config.target_modules.strip())[1]:
        adapters.check_experts(config, name)
    model = adapters.add_adapter(base, replace(config, init_lora_weights="default"))
    if config.start:
        start.check(config, model)


def leaks(base, attention: str) -> bool:
    """Whether documents of a block would surely leak into each other; else check_packing() asks the loaded model.

    Layers do that carry something from token to token besides attention (all such families convolve over time) where
    no kernels are that can begin anew; and a model does that makes its masks without the positions (gpt-oss in 5.24).
    """
    if any(isinstance(module, torch.nn.Conv1d) for module in base.modules()):
        return devices.device_type() not in ("cuda", "xpu") or find_spec("fla") is None
    if "flash" in attention or {"flat": True} in layouts(base):  # they go by the positions, whatever the mask says
        return False
    mask_call = re.search(
        r"(?:mask_kwargs = \{|create_causal_mask\()(.*?)[})]", inspect.getsource(type(base.get_decoder())), re.S
    )
    return mask_call is not None and "position_ids" not in mask_call[1] and "**" not in mask_call[1]


def check_causal(config: TrainConfig, base) -> None:
    """Refuse a model whose tokens see what comes after them: logits of equal beginnings must be equal."""
    ids = torch.tensor([[2, 7, 1, 8], [2, 7, 5, 3]], device=base.device)
    with torch.no_grad(), model_loading.autocast(base):
        first, second = base(input_ids=ids, use_cache=False).logits[:, :2].float()
    if not (first.isfinite().all() and second.isfinite().all()):
        raise TrainingError(
            "NotFinite", model=Path(config.base_model).name, precision=getattr(base, "computes_in", "fp32")
        )
    if devices.distance(first, second) > _rounding(base):
        raise TrainingError("SeesAhead", model=Path(config.base_model).name)


def check_packing(config: TrainConfig, base, calls: Counter | None = None) -> dict:
    """How collate() lays packed rows so that this model keeps their documents apart: its arguments besides the rows.

    Refuses a model whose layers carry something from one document of a block into the next, whichever way it is.
    Recurrent layers do, whatever the positions say. The model is asked, not looked up: a document must have the same
    logits whichever one stands before it. Both blocks are of one shape, so rounding is the same in both. `calls` are
    those that attend_by_document() counts: of the layout that is returned alone.
    """
    if not config.packing:
        return {"alone": attention_kernels.uses_flash_attention(base) and _passes_on(base)}
    for layout in layouts(base):
        if calls:
            calls.clear()
        if devices.distance(*(_after(base, before, layout) for before in BEFORE)) <= _rounding(base):
            return layout
    raise TrainingError("PackingUnsupported", model=Path(config.base_model).name)


def layouts(base) -> list[dict]:
    """The ways of laying packed rows that a model might take, the fastest first."""
    passes_on, kind = _passes_on(base), base.config.get_text_config()._attn_implementation
    if attention_kernels.uses_flash_attention(base):
        return [{"flat": True}, {"flat": True, "lengths": False}] if passes_on else [{"flat": True, "lengths": False}]
    # What a model passes to FlashAttention (a window) it passes to _Documents as well; else only the mask has it all.
    flat = kind == "sdpa" and passes_on and base._supports_flash_attn
    return [{"flat": True}, {}] if flat else [{}]


def _passes_on(base) -> bool:
    """Whether a model passes unknown arguments on to its attention, such as the lengths of documents."""
    kinds = {parameter.kind for parameter in inspect.signature(base.get_decoder().forward).parameters.values()}
    return inspect.Parameter.VAR_KEYWORD in kinds


def _after(base, before: list[int], layout: dict):
    """The logits of a document that stands behind another one in a block."""
    rows = [{"input_ids": ids, "labels": ids, "id": str(ids)} for ids in (before, [2, 7, 1, 8, 2, 8])]
    block = packing.collate(packing.pack(rows, 16), **layout)
    block = {name: value.to(base.device) if hasattr(value, "to") else value for name, value in block.items()}
    block.pop("labels")
    with torch.no_grad(), model_loading.autocast(base), packing.documents_known(block):
        return base(**block, use_cache=False).logits[0, 8:14].float()


def _rounding(base) -> float:
    """How far logits may differ that are equal but for rounding: experts compute in groups of other sizes each time."""
    return 0.001 if getattr(base, "computes_in", "fp32") == "fp32" else 0.02
