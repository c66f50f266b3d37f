"""Every number's formula with the values put in, and its source: mathematics, so the same in every language."""

from dataclasses import dataclass

from core.estimate import reply, speed
from core.estimate.answer import CACHE, CHECKPOINTS, DRAW, TEXT_BYTES, TOKEN_BYTES, UPPER, Answer
from core.estimate.loss import FUSED_COLUMNS, FUSED_ROWS
from core.estimate.memory import GIB, NF4, copies
from core.estimate.setup import OPTIMIZERS, Setup, for_method, targets
from core.training.config import LOSS_TILE, tile_rows

SLIGHT = 0.005  # of a number; a remainder that is smaller is not written out


@dataclass(frozen=True)
class Line:
    """A number, its formula with values, and the key of its source's sentence."""

    key: str
    value: float
    formula: str
    source: str


def memory(answer: Answer) -> list[Line]:
    """The parts of the peak, in bytes."""
    if answer.setup.method == "prompt":
        return _prompt_memory(answer)
    setup, peak = for_method(answer.setup), answer.memory
    parts, width = peak.components, _trained_width(setup)
    state = OPTIMIZERS[setup.optim][0 if width == 4 else 1]
    every = peak.trainable * width
    some = "" if parts["gradients"] >= 0.99 * every else "≤ "
    foreach = "2 × " if parts["gradients"] > 1.5 * every else ""
    blas = "2 × 8.125 MiB" if answer.card.capability != 9.0 else "2 × 32 MiB"
    spare = f"{peak.reserved / GIB:.3f} − {peak.allocated / GIB:.3f} GiB"
    lines = [
        Line("weights", parts["weights"], _weights(answer), "nf4" if setup.method == "qlora" else "config"),
        Line("adapter", parts["adapter"], _adapter(answer), "lora"),
        Line("gradients", parts["gradients"], f"{some}{foreach}{peak.trainable:,} × {width} B", "gradients"),
        Line("optimizer", parts["optimizer"], f"{peak.trainable:,} × {state:g} B", "optimizer"),
        Line("activations", parts["activations"], _activations(answer), "walk"),
        Line("logits", parts["logits"], _logits(answer), f"loss_{setup.loss}"),
        Line("workspace", parts["workspace"], blas, "cublas"),
        Line("allocator", peak.reserved - peak.allocated, spare, "allocator"),
        Line("context", peak.context, f"{peak.context / GIB:.2f} GiB", "context"),
    ]
    return [line for line in lines if line.value]


def _prompt_memory(answer: Answer) -> list[Line]:
    shape, setup, peak = answer.shape, answer.setup, answer.memory
    cache = f"2 × {shape.layers - shape.linear_layers} × {shape.kv:,} × {setup.half} B × {setup.max_length:,}"
    read = f"{setup.prompt_tokens:,} × {peak.components['activations'] / setup.prompt_tokens:,.0f} B"
    return [
        Line("weights", peak.components["weights"], f"{shape.parameters:,} × {setup.half} B", "config"),
        Line("cache", peak.components["cache"], cache, "cache"),
        Line("activations", peak.components["activations"], read, "reading"),
        Line("context", peak.context, f"{peak.context / GIB:.2f} GiB", "context"),
    ]


def _prompt_time(answer: Answer) -> list[Line]:
    card, pace, tokens = answer.card, answer.pace, answer.setup.prompt_tokens
    rate = f"{card.matmul_tflops:,.4g} TFLOP/s × {speed.MATMUL:g}"
    read = f"2 × {reply.active(answer.shape):,} × {tokens:,} / ({rate})"
    if pace.device_seconds == pace.launch_seconds:
        read = f"{reply.KERNELS} × {answer.shape.layers} × {pace.launch * 1e6:.3g} µs"
    written = f"{pace.device_seconds:.4g} s + {reply.REPLY} / {pace.tokens_per_second:,.4g} s"
    source = "rate" if card.measured else "rate_sheet"
    return [Line("reading", pace.device_seconds, read, source), Line("reply", pace.step_seconds, written, "reply")]


def _trained_width(setup: Setup) -> int:
    """Bytes of a trained number."""
    return setup.adapter_width if setup.adapts else setup.weight_width


def _weights(answer: Answer) -> str:
    shape, setup = answer.shape, for_method(answer.setup)
    if setup.method != "qlora":
        return f"{shape.parameters:,} × {setup.weight_width} B"
    linear = shape.linear_parameters
    packed = f"{linear:,} × {NF4[setup.double_quant]:.4f} B"
    return f"{packed} + {shape.parameters - linear:,} × {setup.weight_width} B"


def _adapter(answer: Answer) -> str:
    shape, setup = answer.shape, for_method(answer.setup)
    ends = shape.lora_parameters(1, targets(setup, shape)) if setup.adapts else 0
    lora = f"{setup.lora_rank} × {ends:,} × {setup.adapter_width} B"
    if not shape.linear_layers:
        lora = f"{setup.lora_rank} × {ends // shape.layers:,} × {shape.layers} × {setup.adapter_width} B"
    saved = copies(shape, setup)
    return f"{lora} + {saved:,} × {setup.saved_width} B" if saved else lora


def _with_rest(product: float, formula: str, value: float) -> str:
    """The formula, and what the value has beyond it."""
    rest = value - product
    if abs(rest) <= SLIGHT * value:
        return formula
    return f"{formula} {'+' if rest > 0 else '−'} {abs(rest) / GIB:.3f} GiB"


def _activations(answer: Answer) -> str:
    """What every layer keeps and what the one at work holds besides; at the end that of the first layer alone."""
    value, saved = answer.memory.components["activations"], answer.memory.saved_per_layer
    tokens, layers = answer.setup.tokens, answer.shape.layers
    if answer.memory.peak_phase in ("backward_last", "optimizer"):
        return f"{tokens:,} × {value / tokens:,.0f} B"
    return _with_rest(layers * saved, f"{layers} × {tokens:,} × {saved / tokens:,.1f} B", value)


def _logits(answer: Answer) -> str:
    setup, vocabulary = answer.setup, answer.shape.vocabulary
    value = answer.memory.components["logits"]
    learned = setup.learned
    if setup.loss == "fused":
        rows, columns = min(learned, FUSED_ROWS), min(vocabulary, FUSED_COLUMNS)
        return _with_rest(2 * rows * columns, f"2 B × {rows:,} × {columns:,}", value)
    tiled = setup.loss == "tiled" and not answer.shape.softcap
    rows, width = setup.tokens, {"held": 14, "half": 6}.get(setup.loss, 12)
    if tiled:
        frozen = setup.adapts and not setup.saves
        rows = min(learned, tile_rows(vocabulary) if frozen else LOSS_TILE)
        width = 4 if setup.precision == "fp32" else 6
    return _with_rest(width * rows * vocabulary, f"{width} B × {rows:,} × {vocabulary:,}", value)


def other(answer: Answer) -> list[Line]:
    """Time, energy, host memory, disk."""
    card, shape, disk = answer.card, answer.shape, answer.disk
    hours = f"{answer.total_seconds / 3600:,.3f} h × {card.watts} W × {DRAW:g}"
    trained = answer.memory.trainable
    each = disk["checkpoints"] / CHECKPOINTS / max(1, trained)  # bytes of a trained number and its states
    host = " + ".join(f"{v / GIB:.2f}" for v in answer.host.values() if v) + " GiB"
    return [
        *_time(answer),
        Line("energy", answer.kilowatt_hours, hours, "energy"),
        Line("upper", answer.upper, _upper(answer), "upper"),
        Line("host", sum(answer.host.values()), host, "host"),
        Line("disk_weights", disk["weights"], f"{shape.parameters:,} × 2 B", "disk_weights"),
        Line(
            "disk_checkpoints", disk["checkpoints"], f"{CHECKPOINTS} × {trained:,} × {each:.4g} B", "disk_checkpoints"
        ),
        Line("disk_corpus", disk["corpus"], f"{answer.tokens:,} × ({TEXT_BYTES:g} + {TOKEN_BYTES}) B", "disk_corpus"),
        Line("disk_cache", disk["cache"], f"{CACHE / GIB:g} GiB", "disk_cache"),
    ]


def _upper(answer: Answer) -> str:
    memory, factor = answer.memory, UPPER - 1 + answer.correction.memory
    return f"{memory.reserved / GIB:.2f} GiB × {factor:g} + {memory.context / GIB:.2f} GiB"


def _reference(answer: Answer) -> list[Line]:
    if not (share := speed.reference_share(answer.setup)):
        return []
    return [Line("reference", answer.reference_seconds, f"{answer.epoch_seconds:,.1f} s × {share:.3g}", "reference")]


def _time(answer: Answer) -> list[Line]:
    if answer.setup.method == "prompt":
        return _prompt_time(answer)
    pace, card, setup = answer.pace, answer.card, answer.setup
    launches = round(pace.launch_seconds / pace.launch)
    steps, learned = setup.gradient_accumulation_steps, answer.correction.seconds
    kernels = (
        f"Σ max(FLOP / ({card.matmul_tflops:,.3g} TFLOP/s × {speed.MATMUL:g}), "
        f"B / ({card.bandwidth / 1e9:,.0f} GB/s × {speed.MEMORY:g})); {pace.flops / 1e12:,.3g} TFLOP"
    )
    if card.kind == "cpu":
        micro = f"({pace.device_seconds:.3g} + {pace.launch_seconds:.3g}) s"
    else:
        micro = f"({pace.device_seconds:.4g}³ + {pace.launch_seconds:.4g}³)^(1/3) s"
    if pace.fed:
        micro = f"{setup.tokens / speed.PIPELINE:.4g} s"
    if extra := speed.mismatched_share(setup):
        micro += f" × {1 + extra:.4g}"
    rate = f"{steps} × {setup.tokens:,} / ({steps} × {micro} + {pace.optimizer_seconds:.4g} s)"
    corrected = f" × {learned:.3g}" if learned != 1 else ""
    return [
        Line("device", pace.device_seconds, kernels, "rate" if card.measured else "rate_sheet"),
        Line("launch", pace.launch_seconds, f"{launches:,} × {pace.launch * 1e6:.3g} µs", "launch"),
        Line("rate", pace.tokens_per_second, rate, "fed" if pace.fed else "step"),
        Line("epoch", answer.epoch_seconds, f"{answer.tokens:,} / {pace.tokens_per_second:,.1f}{corrected} s", "time"),
        *_reference(answer),
        Line("range", answer.total_seconds, f"÷ {speed.SPREAD:g} … × {speed.SPREAD:g}", "spread"),
    ]
