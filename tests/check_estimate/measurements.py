"""A table of measurements as questions to the calculator: each row becomes a setup, or a reason why it cannot be one.

The software path of a row (what was cast, kept, prepared) follows from its own columns and its framework; no number of
a source goes into any coefficient.
"""

import csv
import io
import re
from dataclasses import dataclass, replace
from pathlib import Path

from core.errors import UserError
from core.estimate import cards, catalogue, model_names
from core.estimate.setup import Setup
from core.estimate.shape import ModelShape
from tests.check_estimate import cells, litgpt
from tests.check_estimate.cells import GIB, UNITS, LeftOut, Unanswerable, number_of, whole_of

NEEDED = ("model", "method", "seq_len", "micro_batch")
_NAMES = {"peak_mem_gib": "peak_mem_GiB", "params_b": "params_B"}  # columns whose capitals are part of their name
SIZES = (6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 80, 96, 141)  # GB of common cards
USABLE = 0.975  # of it that torch can allocate: the middle of the catalogue's cards
COARSE = 0.025  # a published figure whose last digit alone is worth more than this cannot tell a good estimate from a bad one


class TableUnreadable(UserError):
    template = "{path} is not a table of measurements: {reason} It needs the columns of assets/vram_measured.csv."


@dataclass(frozen=True)
class Row:
    """One measurement that the calculator can be asked for."""

    number: int
    source: str
    model: str
    shape: ModelShape
    setup: Setup
    stack: str  # hf, soulsmith: the step that the installed libraries run; qwen, litgpt: their own code; factory, trl
    kind: str  # allocated, reserved or process
    measured: float  # bytes; 0: no memory in this row
    reserved: float  # bytes beside an allocated figure; 0: not given
    tokens_per_second: float
    card: cards.Card | None
    why_no_memory: LeftOut | None = None
    why_no_time: LeftOut | None = None
    ran: str = ""  # yes, no, or longest: as long as its length it ran, and no longer
    budget: float = 0.0  # bytes of the card that it ran on, or did not


def read(path: str | Path) -> list[dict]:
    """The rows of a CSV table, with commas, semicolons or tabs between its cells.

    Raises:
        TableUnreadable: if it is not one, or lacks the columns that say what was trained.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        first = text.partition("\n")[0]
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
        rows = [{_column(key): (value or "").strip() for key, value in row.items() if _cell(value)} for row in reader]
    except UnicodeDecodeError as error:
        raise TableUnreadable(path=path, reason="it is not text in UTF-8.") from error
    except (OSError, csv.Error) as error:
        raise TableUnreadable(path=path, reason=f"{getattr(error, 'strerror', None) or error}.") from error
    missing = [name for name in NEEDED if not rows or name not in rows[0]]
    if missing:
        raise TableUnreadable(path=path, reason=f"it has no rows with {', '.join(missing)}.")
    return rows


def _column(name: str | None) -> str:
    plain = re.sub(r"[\s-]+", "_", (name or "").strip().lower())
    return _NAMES.get(plain, plain)


def _cell(value) -> bool:
    return value is None or isinstance(value, str)


def understand(raw: dict, number: int = 0) -> Row:
    """The row as a setup.

    Raises:
        LeftOut: with the reason.
    """
    _check_answerable(raw)
    if _has_several_cards(raw):
        raise LeftOut("several GPUs")
    stack = _stack(raw)
    method = cells.method_of(raw)
    cells.check_packing(raw, method)
    shape = _shape(raw["model"], stack)
    setup = Setup(**_sizes(raw, method, stack) | _path(raw, method, stack) | _targets(raw, method, shape))
    kind, measured, why_no_memory = _memory(raw)
    if stack == "litgpt":
        longest_first = "longest alpaca sample" in raw.get("note", "").lower()
        litgpt.check(shape, setup, measured, longest_first=longest_first)
    speed, why_no_time = _speed(raw, setup)
    try:
        card = cards.card(raw.get("gpu", "").replace("A800", "A100"))
    except UserError:
        card = None
    if stack == "litgpt":
        why_no_time = why_no_time or LeftOut("the time of litgpt's step is not modelled")
    if card is None or card.is_guess:
        card, why_no_time = None, why_no_time or LeftOut("the card is not in the catalogue")
    ran = cells.ran_of(raw.get("fits", ""))
    reserved = cells.reserved_of(raw.get("note", "")) if kind == "allocated" else measured if kind == "reserved" else 0
    if card and card.capability < 8 and setup.attention != "eager":
        setup = setup.changed(memory_efficient=True)
    source = raw.get("source", "") or "(no source)"
    rest = kind, measured, reserved, speed, card, why_no_memory, why_no_time, ran, _budget(raw, card, measured)
    return Row(number, source, raw["model"], shape, setup, stack, *rest)


def _has_several_cards(raw: dict) -> bool:
    if "all runs are single-gpu" in raw.get("note", "").lower():
        return False
    return number_of(raw, "n_gpus", 1) != 1 or bool(
        re.match(r"\s*([2-9]|\d\d)\s*[x×*]\s*\D", raw.get("gpu", "").lower())
    )


def silences(raw: dict) -> tuple[LeftOut | None, LeftOut | None]:
    """Why a row has no memory, and why it has no time, to compare with; None where it has."""
    return _memory(raw)[2], _speed(raw)[1]


def _budget(raw: dict, card: cards.Card | None, measured: float) -> float:
    """Bytes of the row's card: the catalogue's, the size in its name, or the least common size that held the peak."""
    if card:
        return card.memory_bytes
    named = re.search(r"(\d+) ?GB", raw.get("gpu", ""))
    sizes = [int(named[1])] if named else [size for size in SIZES if measured and size * USABLE * GIB >= measured]
    return sizes[0] * USABLE * GIB if sizes else 0


def _check_answerable(raw: dict) -> None:
    """Leave out what no calculator could answer, whatever it models.

    Raises:
        Unanswerable: with the reason.
    """
    kind = raw.get("kind", "").lower()
    if kind and kind != "measured":
        raise Unanswerable({"estimate": "an estimate, not a measurement"}.get(kind, "a single kernel, not a step"))
    note, framework = raw.get("note", "").lower(), raw.get("framework", "").lower()
    if "not separable" in note:
        raise Unanswerable("the settings of two tables are mixed up in the source")
    if "implausible" in note:
        raise Unanswerable("a figure that cannot be true, kept as a warning")
    if "peft bench" in framework:
        raise Unanswerable("the length of the longest batch is not published")
    if "swift" in framework and "reserved" in raw.get("mem_kind", "").lower():
        # The allocator keeps what batches of other lengths left behind: Qwen-7B of 2,048 tokens reserved 27.7 GiB with
        # flash attention and without, whatever its rank, where a step of that length takes 20.
        raise Unanswerable("reserved over batches of lengths that vary and are not published")
    for field in ("seq_len", "micro_batch"):
        whole_of(raw, field)
    if not raw.get("grad_checkpointing"):
        raise Unanswerable("grad_checkpointing is not given")
    why_no_memory, why_no_time = silences(raw)
    if why_no_memory and why_no_time and not cells.ran_of(raw.get("fits", "")):
        raise why_no_memory


_STRANGE = (
    ("unsloth", "Unsloth's own kernels"),
    ("compile", "torch.compile fuses activations away"),
    ("deepspeed", "DeepSpeed's buckets are not modelled"),
    ("fsdp", "FSDP shards the model"),
    ("offload", "offloading is not modelled"),
    ("dpo", "preference training is not modelled"),
)
_STACKS = {"qwen": "qwen", "factory": "factory", "soulsmith": "soulsmith", "core/recipe": "soulsmith"}


def _stack(raw: dict) -> str:
    """hf, soulsmith, qwen, factory, trl or litgpt: whose step it was."""
    _check_path(raw)
    framework = raw.get("framework", "").lower()
    if re.search("lit-?gpt", framework):
        return "litgpt"
    for sign, stack in _STACKS.items():
        if sign in framework:
            return stack
    old = re.search(r"\btrl\D{0,3}(\d+)\.", framework)
    # Before 1.0 it took the stock loss, and fp32 adapters.
    if "trl" in framework and not (old and old[1] == "0") and not _loss_is_stock(raw):
        return "trl"
    known = ("transformers", "hf", "peft", "trl", "hugging", "accelerate", "bitsandbytes", "axolotl")
    if not framework or any(sign in framework for sign in known):
        return "hf"
    raise LeftOut(f"the software path of {framework.split()[0]} is not known")


def _loss_is_stock(raw: dict) -> bool:
    return raw.get("loss_impl", "").lower().startswith("hf")


def _check_path(raw: dict) -> None:
    """Leave out what is not modelled, wherever the row says so."""
    columns = ("framework", "method", "loss_impl", "optimizer", "dtype", "grad_checkpointing")
    text = " ".join(raw.get(key, "") for key in columns).lower()
    text = re.sub(r"no (torch\.)?compile|without (torch\.)?compile", "", text)
    for sign, reason in _STRANGE:
        if sign in text:
            raise LeftOut(reason)
    if "galore" in raw.get("target_modules", "").lower() or "dora=true" in raw.get("note", "").lower():
        raise LeftOut("GaLore and DoRA are not modelled")


def _shape(name: str, stack: str) -> ModelShape:
    if stack == "litgpt":
        return litgpt.SHAPES.get(name.lower()) or replace(_shape(name, ""), fused=False)
    plain = re.sub(r"[-_](int4|int8|awq|gptq|bnb-4bit|4bit|bf16|fp16)$", "", name.strip(), flags=re.IGNORECASE)
    plain = re.sub(r"-unsloth$", "", plain, flags=re.IGNORECASE)
    short = re.sub(r"[-_ ](chat|instruct|it|base|hf)$", "", plain, flags=re.IGNORECASE)
    for form in (plain, short, plain.replace(" ", "-"), plain.replace("_", "-"), plain.replace("_", ".")):
        for tail in ("", "-hf", "-Instruct", "-v0.1"):
            if model_names.find(form + tail):
                try:
                    return catalogue.shape(form + tail)
                except UserError as error:
                    raise LeftOut(f"{type(error).__name__}: shape of {name}") from error
    try:
        return catalogue.shape(plain)
    except UserError as error:
        raise LeftOut("the model is not in the catalogue") from error


def _sizes(raw: dict, method: str, stack: str) -> dict:
    return {
        "max_length": whole_of(raw, "seq_len"),
        "batch_size": whole_of(raw, "micro_batch"),
        "gradient_accumulation_steps": whole_of(raw, "grad_accum", 1),
        "gradient_checkpointing": cells.truth_of(raw, "grad_checkpointing"),
        "lora_rank": whole_of(raw, "lora_rank") if method in ("lora", "qlora") else 16,
        "lora_dropout": cells.dropout_of(raw, 0.05 if stack in ("qwen", "soulsmith") else 0.0),  # their own defaults
    }


_OLD_BITSANDBYTES = r"transformers 4|trl 0\.|fms|foak|bitsandbytes 0\.(3|4[0-7])"


def _path(raw: dict, method: str, stack: str) -> dict:
    dtype, scheme = raw.get("dtype", "").lower(), raw.get("quant_scheme", "").lower()
    text = f"{raw.get('framework', '')} {raw.get('note', '')}".lower()
    optimizer, loss = raw.get("optimizer", "").lower(), raw.get("loss_impl", "").lower()
    if method == "full" and not optimizer and stack != "soulsmith":
        raise Unanswerable("the optimizer of a full fine-tuning is not given")
    trainer = stack in ("factory", "trl", "soulsmith") or "trainer" in raw.get("framework", "").lower()
    autocast = cells.autocast_of(dtype) or (trainer and not re.search(r"no[ -](amp|autocast)", dtype))
    width = 4 if re.search(r"(fp32|float32) (base )?weights|weights (in )?(fp32|float32)", dtype) else 2
    narrow = method == "qlora" and stack == "trl"  # TRL casts the adapters of a quantised base to bf16
    prepared = "kbit" in dtype or "prepare_model" in dtype
    if not dtype and method == "qlora" and "trl" in raw.get("framework", "").lower():
        prepared = _loss_is_stock(raw)  # as TRL did before 1.0
    # What is not said of double quantisation is the framework's default; that of bitsandbytes' config is none.
    double = bool(re.search(r"dq|double|nested", scheme)) or stack in ("factory", "soulsmith")
    return cells.attention_of(raw.get("attn", "").lower()) | {
        "method": method,
        "precision": cells.precision_of(dtype),
        "autocast": autocast and not (method == "full" and width == 2),  # pure 16 bit: no masters
        "adapter_width": 2 if narrow or re.search(r"adapters? (bf16|fp16|in 16)|-true|pure", dtype) else 4,
        "weight_width": width,
        "optim": cells.optimizer_of(optimizer),
        "loss": cells.loss_of(loss, stack, raw),
        "double_quant": double and not re.search(r"no (double|nested|dq)", scheme),
        "packed_experts": bool(re.search(r"experts in 4 bit|quantize_moe", raw.get("note", "").lower())),
        "kbit_prepare": prepared,
        "old_bitsandbytes": stack == "factory" or bool(re.search(_OLD_BITSANDBYTES, text)),
        # Qwen's own code takes the norms and rotary positions of flash-attn, fms-acceleration those of Unsloth.
        "use_liger_kernel": stack == "qwen" or bool(re.search("liger|foak", loss + text)),
        "fused_mlp": stack != "qwen" and "foak" not in text,
        "train_embeddings": "modules_to_save" in raw.get("target_modules", "").lower(),
        "saved_width": 4 if prepared or stack == "soulsmith" else 2,  # peft copies the base's own
    }


def _targets(raw: dict, method: str, shape: ModelShape) -> dict:
    if method not in ("lora", "qlora"):
        return {}
    return {"target_modules": cells.targets_of(raw.get("target_modules", ""), shape.linears())}


def _memory(raw: dict) -> tuple[str, float, LeftOut | None]:
    text = raw.get("mem_kind", "").lower()
    if "sum over" in text:
        return "process", 0, LeftOut("a total over several cards")
    size = _bytes(raw)
    if isinstance(size, Unanswerable):
        return "process", 0, size
    kind = "process"
    if "allocated" in text or "active" in text:
        kind = "allocated"
    elif "reserved" in text:
        kind = "reserved"
    if "capacity" in text:
        return kind, 0, Unanswerable("the size of a card, not a measured peak")
    if "about" in text or "rule" in text or "vendor" in text or "header" in text:
        return kind, 0, Unanswerable("an approximate figure of a README")
    published = raw.get("peak_mem_raw", "").replace(",", ".")
    digits = len(published.partition(".")[2].rstrip("0")) if "whole" not in text else 0
    step = 10.0**-digits * UNITS.get(raw.get("raw_unit", "").lower(), GIB)
    if published and "e" not in published.lower() and step / 2 > COARSE * size:
        return kind, 0, Unanswerable("rounded too coarsely to compare")
    return kind, size, None


def _bytes(raw: dict) -> float | Unanswerable:
    """The measured peak in bytes, whichever column has it, or why there is none."""
    unit = UNITS.get(raw.get("raw_unit", "").lower())
    sizes = []
    for field, factor in (("peak_mem_GiB", GIB), ("peak_mem_raw", unit)):
        value = _amount(raw, field)
        if factor and value:
            sizes.append(value * factor)
    if not sizes:
        return Unanswerable("no peak memory in the row")
    if max(sizes) > 1.02 * min(sizes):
        return Unanswerable("the two memory columns disagree: the unit is not clear")
    return sizes[0]


def _speed(raw: dict, setup: Setup | None = None) -> tuple[float, LeftOut | None]:
    """Tokens a second; of a step's seconds only with the setup that says how many it has."""
    note = raw.get("note", "").lower()
    if any(
        sign in note for sign in ("variable length", "mean over 1k", "samples/s", "runtime", "truncated", "wall time")
    ):
        return 0, Unanswerable("lengths vary, and their mean is not published")
    steps = _amount(raw, "s_per_step")
    speed = _amount(raw, "tokens_per_s")
    if not speed and steps:
        speed = setup.tokens / steps * setup.gradient_accumulation_steps if setup else steps
    return (speed, None) if speed else (0, Unanswerable("no throughput in the row"))


def _amount(raw: dict, field: str) -> float:
    """A positive number in a cell; 0 if there is none."""
    try:
        return number_of(raw, field, 0)
    except LeftOut:
        return 0.0
