"""Which attention a run takes here and whether it is right: through the functions that training uses."""

import functools
import tempfile
from pathlib import Path

from core.check_card import advice as advices
from core.check_card import stand_in
from core.check_card.results import result
from core.hardware import torch_build
from core.training import attention_kernels, checks, devices, errors, model_loading, packages
from core.training.config import TrainConfig

BOUNDS = {"fp32": 0.002, "bf16": 0.05, "fp16": 0.02}  # of the logits of four layers, norm of the difference
TOKENS = 48


def advice(name: str, error: Exception) -> Exception:
    if isinstance(error, errors.TrainingError):
        return error
    if any(words in str(error).lower() for words in torch_build.NO_KERNELS) and _is_of_flash_attention():
        return advices.FlashAttentionLacksKernels(card=devices.device_name(), command="pip uninstall flash-attn")
    return advices.PackageUnusable(command=advices.pip("--upgrade", "torch", "transformers", "peft", "accelerate"))


def _is_of_flash_attention() -> bool:
    """Whether kernels that are missing are those of FlashAttention: a run takes it, and torch has its own for the card."""
    needed, has = devices.architectures()
    kind = devices.precision(TrainConfig(base_model="", corpus=""))
    return torch_build.covers(has, needed) and attention_kernels.attention(kind) == "flash_attention_2"


@functools.cache
def _base() -> tuple:
    """A tiny model as a run loads it, and its config."""
    folder = tempfile.mkdtemp()  # in the check's own folder (core/check_card/child.py), which goes with it
    stand_in.make(folder)
    model, corpus = str(Path(folder) / "model"), str(Path(folder) / "rows.jsonl")
    config = TrainConfig(base_model=model, corpus=corpus, method="lora", task="text", packing=True, max_length=64)
    return model_loading.load_base(config), config


def attention() -> dict:
    """The kernel that a run takes and why not a faster one, and its logits against the processor's."""
    import torch
    from transformers import AutoModelForCausalLM

    base, config = _base()
    kind = devices.precision(config)
    ids = torch.arange(2, 2 + TOKENS)[None]
    plain = AutoModelForCausalLM.from_pretrained(config.base_model, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        right = plain(input_ids=ids, use_cache=False).logits.double()
        found = base(input_ids=ids.to(base.device), use_cache=False).logits.cpu().double()
    error = float((found - right).norm() / right.norm())
    value = {"attention": base.config._attn_implementation, "precision": kind, "error": error}
    if devices.device_type() != "cpu" and (lacks := attention_kernels.flash_attention_lacks(kind)):
        value["lacks"] = lacks
    if not error <= BOUNDS[kind]:
        wrong = advices.NumbersWrong(package=base.config._attn_implementation, command=advices.torch_for())
        return result("attention", "broken", value, {"error": BOUNDS[kind]}, wrong)
    if value.get("lacks") == "broken":
        value["reason"] = packages.fault("flash-attn")
        mend = advices.FlashAttentionBroken(command=packages.reinstall("flash-attn"))
        return result("attention", "slow", value, {"error": BOUNDS[kind]}, mend)
    return result("attention", "ok", value, {"error": BOUNDS[kind]})


def packing() -> dict:
    """That no document of a packed block sees another one (else PackingUnsupported is raised), and by which way."""
    base, config = _base()
    calls = attention_kernels.attend_by_document()
    checks.check_packing(config, base, calls)
    flash = attention_kernels.uses_flash_attention(base)
    way = "flash" if flash else "by_document" if calls["one_by_one"] else "varlen"
    value, expected = {"documents": "apart", "way": way}, {"documents": "apart"}
    if way == "by_document" and _has_varlen_in_some_torch():
        return result("packing", "slow", value, expected, advices.packed_rows_slow())
    return result("packing", "ok", value, expected)


def _has_varlen_in_some_torch() -> bool:
    """Whether there is a torch whose kernel takes a whole packed row on this card; AMD's have it for few chips."""
    import torch

    return devices.device_type() == "cuda" and not torch.version.hip and torch.cuda.get_device_capability() >= (8, 0)
