"""Every number's formula with the values put in, and where it comes from: mathematics, so the same in every language."""

from dataclasses import dataclass

from core.estimate import speed
from core.estimate.answer import UPPER, Answer
from core.estimate.memory import GIB, NF4
from core.estimate.setup import OPTIMIZERS, for_method, targets
from core.estimate.space import KEPT, TEXT_BYTES, TOKEN_BYTES


@dataclass(frozen=True)
class Line:
    """A number, its formula with values, and the key of its source's sentence."""

    key: str
    value: float
    formula: str
    source: str


def memory(answer: Answer) -> list[Line]:
    """The parts of the peak, in bytes."""
    shape, setup, found = answer.shape, for_method(answer.setup), answer.memory
    parts, trainable = found.components, found.trainable
    linear, rest = shape.linear_parameters, shape.parameters - shape.linear_parameters
    width = setup.weight_width
    if setup.method == "qlora":
        weights = f"{linear:,} × {NF4[setup.double_quant]:.4f} B + {rest:,} × {width} B"
    else:
        weights = f"{shape.parameters:,} × {width} B"
    lines = [Line("weights", parts["weights"], weights, "nf4" if setup.method == "qlora" else "config")]
    if setup.adapts:
        ends = sum(sum(e) for n, e in shape.linears().items() if n in targets(setup, shape))
        formula = f"{setup.lora_rank} × {ends:,} × {shape.layers} × {setup.adapter_width} B"
        lines.append(Line("adapter", parts["adapter"], formula, "lora"))
    grad = width if not setup.adapts else setup.adapter_width
    state = OPTIMIZERS[setup.optimizer][0 if grad == 4 else 1]
    lines += [
        Line("gradients", parts["gradients"], f"≤ {trainable:,} × {grad} B", "gradients"),
        Line("optimizer", parts["optimizer"], f"{trainable:,} × {state:g} B", "optimizer"),
        Line("activations", parts["activations"], _activations(answer), "walk"),
        Line("logits", parts["logits"], _logits(answer), f"loss_{setup.loss}"),
        Line(
            "workspace",
            parts["workspace"],
            "2 × 8.125 MiB" if answer.card.capability != 9.0 else "2 × 32 MiB",
            "cublas",
        ),
        Line("allocator", found.reserved - found.allocated, "reserved − allocated", "allocator"),
        Line("context", found.context, f"{found.context / GIB:.2f} GiB", "context"),
    ]
    return [line for line in lines if line.value]


def _activations(answer: Answer) -> str:
    setup, saved = answer.setup, answer.memory.per_layer["saved"]
    tokens = setup.tokens
    return f"{answer.shape.layers} × {tokens:,} × {saved / tokens:,.0f} B + max(…)"


def _logits(answer: Answer) -> str:
    setup, vocabulary = answer.setup, answer.shape.vocabulary
    if setup.loss == "tiled" and not answer.shape.softcap:
        return f"12 B × min({setup.tokens:,}, 1,024) × {vocabulary:,}"
    if setup.loss == "fused":
        return f"2 B × min({setup.tokens:,}, 4,096) × min({vocabulary:,}, 32,768) + 8 B × {setup.tokens:,} × {answer.shape.hidden:,}"
    width = {"held": 14, "half": 6}.get(setup.loss, 12)
    return f"{width} B × {setup.tokens:,} × {vocabulary:,}"


def other(answer: Answer) -> list[Line]:
    """Time, energy, host memory, disk."""
    pace, card = answer.pace, answer.card
    rate = f"{pace.flops / 1e12:,.1f} TFLOP, {card.matmul_tflops:,.0f} TFLOP/s × {speed.MATMUL:g}, {card.bandwidth / 1e9:,.0f} GB/s × {speed.MEMORY:g}"
    checkpoint = answer.disk["checkpoints"] / (KEPT + 1)
    return [
        Line("rate", pace.tokens_per_second, rate, "rate" if card.measured else "rate_sheet"),
        Line("epoch", answer.epoch_seconds, f"{answer.tokens:,} / {pace.tokens_per_second:,.0f}", "time"),
        Line("range", answer.total_seconds, f"÷ {speed.SPREAD:g} … × {speed.SPREAD:g}", "spread"),
        Line(
            "energy", answer.kilowatt_hours, f"{answer.total_seconds / 3600:,.1f} h × {card.watts} W × 0.85", "energy"
        ),
        Line(
            "upper",
            answer.upper,
            f"{answer.memory.reserved / GIB:.1f} GiB × {UPPER:g} + {answer.memory.context / GIB:.2f} GiB",
            "upper",
        ),
        Line(
            "host",
            sum(answer.host.values()),
            " + ".join(f"{v / GIB:.1f}" for v in answer.host.values() if v) + " GiB",
            "host",
        ),
        Line("disk_weights", answer.disk["weights"], f"{answer.shape.parameters:,} × 2 B", "disk_weights"),
        Line(
            "disk_checkpoints",
            answer.disk["checkpoints"],
            f"({KEPT} + 1) × {checkpoint / GIB:.2f} GiB",
            "disk_checkpoints",
        ),
        Line(
            "disk_corpus",
            answer.disk["corpus"],
            f"{answer.tokens:,} × ({TEXT_BYTES:g} + {TOKEN_BYTES}) B",
            "disk_corpus",
        ),
        Line("disk_cache", answer.disk["cache"], "2 GiB", "disk_cache"),
    ]
