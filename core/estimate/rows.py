"""A table of measurements as questions to the calculator: each row becomes a setup, or a reason why it cannot be one.

The software path of a row (what was cast, kept, prepared) follows from its own columns and its framework; no number of
a source goes into any coefficient.
"""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from core.estimate import catalogue, troubles
from core.estimate.setup import Setup
from core.estimate.shape import ModelShape
from core.trouble import Trouble

GIB = 2**30
UNITS = {"gib": GIB, "gb": 1e9, "mib": 2**20, "mb": 1e6, "bytes": 1, "b": 1}
NEEDED = ("model", "method", "seq_len", "micro_batch")
COARSE = 0.025  # a published figure whose last digit alone is worth more than this cannot tell a good estimate from a bad one


@dataclass(frozen=True)
class Row:
    """One measurement that the calculator can be asked for."""

    number: int
    source: str
    model: str
    shape: ModelShape
    setup: Setup
    stack: str  # hf: the step that the installed libraries run; qwen: HF Trainer with remote code; litgpt
    kind: str  # allocated, reserved or process
    measured: float  # bytes; 0: no memory in this row
    reserved: float  # bytes beside an allocated figure; 0: not given
    tokens_per_second: float
    card: catalogue.Card | None
    why_no_memory: str = ""
    why_no_time: str = ""


class LeftOut(Exception):
    """Why a row is not used."""


def read(path: str | Path) -> list[dict]:
    """The rows of a CSV table.

    Raises:
        TableUnreadable: if it is not one, or lacks the columns that say what was trained.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise troubles.TableUnreadable(path=path, reason=f"{error}.") from error
    missing = [name for name in NEEDED if not rows or name not in rows[0]]
    if missing:
        raise troubles.TableUnreadable(path=path, reason=f"it has no rows with {', '.join(missing)}.")
    return [{key: (value or "").strip() for key, value in row.items() if isinstance(key, str)} for row in rows]


def understand(raw: dict, number: int = 0) -> Row:
    """The row as a setup.

    Raises:
        LeftOut: with the reason.
    """
    if raw.get("kind") and raw["kind"] != "measured":
        raise LeftOut({"estimate": "an estimate, not a measurement"}.get(raw["kind"], "a single kernel, not a step"))
    if number_of(raw, "n_gpus", 1) != 1:
        raise LeftOut("several GPUs")
    stack = _stack(raw)
    shape = _shape(raw["model"])
    fields = _sizes(raw) | _path(raw, stack) | _targets(raw, stack, shape)
    setup = Setup(**fields)
    kind, measured, why_no_memory = _memory(raw, stack)
    speed, why_no_time = _speed(raw, setup)
    if why_no_memory and why_no_time:
        raise LeftOut(why_no_memory)
    try:
        card = catalogue.card(raw.get("gpu", "").replace("A800", "A100"))
    except Trouble:
        card, why_no_time = None, why_no_time or "the card is not in the catalogue"
    note = re.search(r"reserved ([\d.]+) MiB", raw.get("note", ""))
    reserved = float(note[1]) * 2**20 if note and kind == "allocated" else measured if kind == "reserved" else 0
    if setup.memory_efficient is None or (card and card.capability < 8 and setup.attention != "eager"):
        setup = setup.changed(memory_efficient=True)
    return Row(
        number,
        raw.get("source", "") or "(no source)",
        raw["model"],
        shape,
        setup,
        stack,
        kind,
        measured,
        reserved,
        speed,
        card,
        why_no_memory,
        why_no_time,
    )


def number_of(raw: dict, field: str, default: float | None = None) -> float:
    """The number in a cell; a cell that is empty or holds words gives the default, or leaves the row out."""
    text = raw.get(field, "")
    plain = text.replace(" ", "").replace("\u00a0", "")
    if re.fullmatch(r"\d{1,3}(,\d{3})+", plain):
        plain = plain.replace(",", "")
    try:
        value = float(plain)
    except ValueError:
        value = None
    if value is None or not 0 < value < 1e15:
        if default is None or text:
            raise LeftOut(f"{field} is not given" if not text else f'{field} is "{text}"')
        return default
    return value


def _stack(raw: dict) -> str:
    text = " ".join(raw.get(key, "") for key in ("framework", "method", "loss_impl", "optimizer", "dtype")).lower()
    for sign, reason in (
        ("unsloth", "Unsloth's own kernels"),
        ("compile", "torch.compile fuses activations away"),
        ("deepspeed", "DeepSpeed's buckets are not modelled"),
        ("fsdp", "FSDP shards the model"),
        ("offload", "offloading is not modelled"),
        ("swift", "trainer of that version keeps logits for an accuracy metric"),
        ("dpo", "preference training is not modelled"),
        ("peft bench", "the length of the longest batch is not published"),
    ):
        if sign in text:
            raise LeftOut(reason)
    if "not separable" in raw.get("note", "").lower():
        raise LeftOut("the settings of two tables are mixed up in the source")
    if "variable length" in raw.get("note", "").lower():
        raise LeftOut("the length of the longest batch is not published")
    if raw["method"].lower() not in ("lora", "qlora", "full", "cpt"):
        raise LeftOut(f"method {raw['method'].split(':')[0] or '(none)'} is not modelled")
    scheme = raw.get("quant_scheme", "").lower()
    if any(sign in scheme for sign in ("gptq", "awq", "nvfp4", "int8", "torchao")):
        raise LeftOut(f"{scheme.split()[0]} weights are not modelled")
    if "galore" in raw.get("target_modules", "").lower() or "dora=true" in raw.get("note", "").lower():
        raise LeftOut("GaLore and DoRA are not modelled")
    framework = raw.get("framework", "").lower()
    if "qwen" in framework:
        return "qwen"
    if "litgpt" in framework or "lit-gpt" in framework:
        raise LeftOut("litgpt has its own model code, which is not modelled")
    if "llama-factory" in framework:
        return "factory"
    if "trl" in framework:
        return "trl"
    if not framework or any(sign in framework for sign in ("transformers", "hf", "peft", "soulsmith")):
        return "hf"
    raise LeftOut(f"the software path of {framework.split()[0]} is not known")


def _shape(name: str) -> ModelShape:
    plain = name.strip()
    plain = re.sub(r"-(int4|int8|awq|gptq)$", "", plain, flags=re.IGNORECASE)
    for form in (plain, re.sub(r"[-_ ]chat$", "", plain, flags=re.IGNORECASE), plain.replace(" ", "-")):
        for tail in ("", "-hf", "-Instruct", "-v0.1"):
            if catalogue.find(form + tail):
                try:
                    return catalogue.shape(form + tail)
                except Trouble as error:
                    raise LeftOut(f"{type(error).__name__}: shape of {name}") from error
    try:
        return catalogue.shape(plain)
    except Trouble as error:
        raise LeftOut("the model is not in the catalogue") from error


def _sizes(raw: dict) -> dict:
    return {
        "sequence_length": int(number_of(raw, "seq_len")),
        "batch_size": int(number_of(raw, "micro_batch")),
        "gradient_accumulation_steps": int(number_of(raw, "grad_accum", 1)),
        "gradient_checkpointing": _truth(raw.get("grad_checkpointing", "")),
        "lora_rank": int(number_of(raw, "lora_rank")) if raw["method"].lower() in ("lora", "qlora") else 16,
        "lora_dropout": 0.05 if "qwen" in raw.get("framework", "").lower() else 0.0,
    }


def _truth(text: str) -> bool:
    if text.lower() in ("true", "1", "yes", "on"):
        return True
    if text.lower() in ("false", "0", "no", "off"):
        return False
    raise LeftOut(f'grad_checkpointing is "{text}"' if text else "grad_checkpointing is not given")


def _path(raw: dict, stack: str) -> dict:
    method, dtype = raw["method"].lower(), raw.get("dtype", "").lower()
    optimizer, attention = raw.get("optimizer", "").lower(), raw.get("attn", "").lower()
    if method in ("full", "cpt") and not optimizer:
        raise LeftOut("the optimizer of a full fine-tuning is not given")
    if "sdpa/eager" in attention or ("eager" in attention and "qwen" in attention):
        raise LeftOut("the attention kernel is not clear")
    amp = "amp" in dtype and "no amp" not in dtype
    if stack in ("factory", "trl") or ("trainer" in raw.get("framework", "").lower() and "no amp" not in dtype):
        amp = True
    narrow = method == "qlora" and stack == "trl"  # TRL casts the adapters of a quantised base to bf16
    return {
        "method": "full" if method == "cpt" else method,
        "precision": "fp16" if "fp16" in dtype else "bf16",
        "autocast": amp,
        "adapter_width": 2 if narrow or "adapters bf16" in dtype or "true" in dtype else 4,
        "weight_width": 4 if "fp32 weights" in dtype or "weights fp32" in dtype else 2,
        "optimizer": _optimizer(optimizer),
        "attention": "eager" if "eager" in attention else "sdpa",
        "memory_efficient": "mem" in attention,
        "padded_mask": "mask" in attention,
        "loss": _loss(raw.get("loss_impl", "").lower(), stack),
        "double_quant": "no double" not in raw.get("quant_scheme", "").lower(),
        "kbit_prepare": "kbit" in dtype or "prepare_model" in dtype,
        "save_embeddings": "modules_to_save" in raw.get("target_modules", "").lower(),
        "saved_width": 4 if "kbit" in dtype or "prepare_model" in dtype else 2,  # peft copies the base's own
        "released": "held" not in raw.get("loss_impl", "").lower(),
    }


def _optimizer(text: str) -> str:
    if "paged" in text:
        return "paged_adamw_8bit" if "8" in text else "paged_adamw_32bit"
    if "8bit" in text or "8-bit" in text:
        return "adamw_8bit"
    if "fused" in text:
        return "adamw_torch_fused"
    if not text or "adamw" in text or text == "adam":
        return "adamw_torch"
    if "sgd" in text:
        return "sgd"
    if "adafactor" in text:
        return "adafactor"
    raise LeftOut(f"optimizer {text} is not modelled")


def _loss(text: str, stack: str) -> str:
    if "held" in text:
        return "held"
    if "litgpt" in text or (stack == "litgpt" and not text):
        return "half"
    if any(sign in text for sign in ("cut-cross", "cce", "liger", "fused", "trl")) or (stack == "trl" and not text):
        return "fused"
    if "tiled" in text or "soulsmith" in text:
        return "tiled"
    if not text or "hf" in text or "fp32 logits" in text:
        return "logits"
    raise LeftOut(f"the loss kernel ({text}) is not modelled")


_OTHER_NAMES = {
    "c_attn": ("q_proj", "k_proj", "v_proj"), "c_proj": ("o_proj", "down_proj"), "w1": ("up_proj",), "w2": ("gate_proj",),
    "query": ("q_proj",), "key": ("k_proj",), "value": ("v_proj",), "projection": ("o_proj",),
    "mlp": ("gate_proj", "up_proj", "down_proj"), "q": ("q_proj",), "k": ("k_proj",), "v": ("v_proj",), "o": ("o_proj",),
    "gate": ("gate_proj",), "up": ("up_proj",), "down": ("down_proj",), "head": (),
}  # fmt: skip


def _targets(raw: dict, stack: str, shape: ModelShape) -> dict:
    if raw["method"].lower() not in ("lora", "qlora"):
        return {}
    text = raw.get("target_modules", "")
    if not text:
        raise LeftOut("the target modules are not given")
    if re.search(r"\ball[- _]?linear|all layers", text, re.IGNORECASE):
        return {"target_modules": "all-linear"}
    known, found = shape.linears(), []
    for name in re.split(r"[,\s/+]+", text):
        plain = name.strip("[]'\"").lower().removeprefix("self_attn.").removeprefix("mlp.")
        names = (plain,) if plain in known else _OTHER_NAMES.get(plain)
        if names is None or any(n not in known for n in names):
            raise LeftOut(f"target modules {text}")
        found += names
    return {"target_modules": ",".join(dict.fromkeys(found))}


def _memory(raw: dict, stack: str) -> tuple[str, float, str]:
    text = raw.get("mem_kind", "").lower()
    size = _bytes(raw)
    if isinstance(size, str):
        return "process", 0, size
    kind = "process"
    if "allocated" in text or "active" in text:
        kind = "allocated"
    elif "reserved" in text:
        kind = "reserved"
    if "capacity" in text:
        return kind, 0, "the size of a card, not a measured peak"
    if "about" in text or "rule" in text or "vendor" in text or "header" in text:
        return kind, 0, "an approximate figure of a README"
    published = raw.get("peak_mem_raw", "")
    digits = len(published.partition(".")[2].rstrip("0")) if "whole" not in text else 0
    step = 10.0**-digits * UNITS.get(raw.get("raw_unit", "").lower(), GIB)
    if published and "e" not in published.lower() and step / 2 > COARSE * size:
        return kind, 0, "rounded too coarsely to compare"
    return kind, size, ""


def _bytes(raw: dict) -> float | str:
    """The measured peak in bytes, whichever column has it, or why there is none."""
    unit = UNITS.get(raw.get("raw_unit", "").lower())
    sizes = []
    for field, factor in (("peak_mem_GiB", GIB), ("peak_mem_raw", unit)):
        try:
            value = float(raw.get(field, ""))
        except ValueError:
            continue
        if factor and value > 0:
            sizes.append(value * factor)
    if not sizes:
        return "no peak memory in the row"
    if max(sizes) > 1.02 * min(sizes):
        return "the two memory columns disagree: the unit is not clear"
    return sizes[0]


def _speed(raw: dict, setup: Setup) -> tuple[float, str]:
    note = raw.get("note", "").lower()
    if any(
        sign in note for sign in ("variable length", "mean over 1k", "samples/s", "runtime", "truncated", "wall time")
    ):
        return 0, "lengths vary, and their mean is not published"
    try:
        speed = float(raw.get("tokens_per_s", ""))
    except ValueError:
        try:
            speed = setup.tokens / float(raw.get("s_per_step", "")) * setup.gradient_accumulation_steps
        except (ValueError, ZeroDivisionError):
            return 0, "no throughput in the row"
    return (speed, "") if speed > 0 else (0, "no throughput in the row")
