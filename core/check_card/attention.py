"""Which attention a run takes here and whether it is right: through the functions that training uses."""

import functools
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from core import errors
from core.check_card import advice, stand_in
from core.check_card.results import result
from core.hardware import torch_build
from core.training import attention_kernels, checks, devices, model_loading, packages
from core.training.config import TrainConfig
from core.training.devices import distance
from core.training.errors import TrainingError

BOUNDS = {"fp32": 0.002, "bf16": 0.05, "fp16": 0.02}  # of the logits of four layers, norm of the difference
TOKENS = 48


def advice_for(error: Exception) -> Exception:
    """What to do about a check of attention that raised this."""
    if isinstance(error, TrainingError):
        return error
    if any(words in str(error).lower() for words in torch_build.NO_KERNELS) and _is_of_flash_attention():
        command = "pip uninstall flash-attn"
        return errors.named("FlashAttentionLacksKernels", card=devices.device_name(), command=command)
    return advice.for_group("attention")


def _is_of_flash_attention() -> bool:
    """Whether kernels that are missing are those of FlashAttention: a run takes it, and torch has its own for the card."""
    needed, has = devices.architectures()
    kind = devices.precision(TrainConfig(base_model="", corpus=""))
    return torch_build.covers(has, needed) and attention_kernels.attention(kind) == "flash_attention_2"


@functools.cache
def tiny_base() -> tuple:
    """A tiny model as a run loads it, and its config."""
    folder = tempfile.mkdtemp()  # in the check's own folder (core/check_card/child.py), which goes with it
    stand_in.make(folder)
    model, corpus = str(Path(folder) / "model"), str(Path(folder) / "rows.jsonl")
    config = TrainConfig(base_model=model, corpus=corpus, method="lora", task="text", packing=True, max_length=64)
    return model_loading.load_base(config), config


def check_attention() -> dict:
    """The kernel that a run takes and why not a faster one, and its logits against the processor's."""
    base, config = tiny_base()
    kind = devices.precision(config)
    ids = torch.arange(2, 2 + TOKENS)[None]
    plain = AutoModelForCausalLM.from_pretrained(config.base_model, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        right = plain(input_ids=ids, use_cache=False).logits.double()
        error = distance(base(input_ids=ids.to(base.device), use_cache=False).logits.cpu().double(), right)
    value = {"attention": base.config._attn_implementation, "precision": kind, "error": error}
    if devices.device_type() != "cpu" and (lacks := attention_kernels.flash_attention_lacks(kind)):
        value["lacks"] = lacks
    state, wrong = "ok", None
    if not error <= BOUNDS[kind]:
        state, wrong = "broken", advice.numbers_wrong(value["attention"])
    elif value.get("lacks") == "broken":
        value["reason"] = packages.fault("flash-attn")
        state, wrong = "slow", errors.named("FlashAttentionBroken", command=packages.reinstall("flash-attn"))
    return result("attention", state, value, {"error": BOUNDS[kind]}, wrong)


def check_packing() -> dict:
    """That no document of a packed block sees another one (else PackingUnsupported is raised), and by which way."""
    base, config = tiny_base()
    calls = attention_kernels.attend_by_document()
    checks.check_packing(config, base, calls)
    flash = attention_kernels.uses_flash_attention(base)
    way = "flash" if flash else "by_document" if calls["one_by_one"] else "varlen"
    slow = way == "by_document" and _has_varlen_in_some_torch()
    value, wrong = {"documents": "apart", "way": way}, advice.packed_rows_slow() if slow else None
    return result("packing", "slow" if slow else "ok", value, {"documents": "apart"}, wrong)


def _has_varlen_in_some_torch() -> bool:
    """Whether there is a torch whose kernel takes a whole packed row on this card; AMD's have it for few chips."""
    return devices.device_type() == "cuda" and not torch.version.hip and torch.cuda.get_device_capability() >= (8, 0)
