"""The whole step in sizes through the model of the allocator: loading, every layer, the loss, backward, the optimizer.

Slower than memory.py (some ten milliseconds), and closer: it knows which blocks are split, what stays unused between
them, and hence what is reserved.
"""

import functools

from core.estimate.allocator import Allocator
from core.estimate.layer import Layer
from core.estimate.loss import Head
from core.estimate.setup import Setup, for_method
from core.estimate.shape import ModelShape
from core.estimate.size_autograd import Storage, Tape, Tensor, Weight
from core.estimate.step import embedding_weight, micro_step

FIRST, LAST = 1, 2  # checkpointed layers that are walked through; those between them only leave what outlives them


class Between:
    """A checkpointed layer like its neighbours: its kernels fit where theirs were; its input and gradients stay."""

    def __init__(self, like: Layer):
        self.weights = [Weight(w.numel, w.width, w.trains) for w in like.weights]

    def __call__(self, tape: Tape, x: Tensor) -> Tensor:
        out, numel, width = tape.new(x.numel, x.width), x.numel, x.width

        def rule(g, _):
            gradients = [tape.new(w.numel, w.width) for w in self.weights]
            return tape.new(numel, width), *gradients

        return tape.track(out, (x, *self.weights), (x,), rule)


@functools.lru_cache(maxsize=256)
def unused(shape: ModelShape, setup: Setup) -> int:
    """Bytes that the allocator reserves beyond what is allocated at the peak, over two optimizer steps.

    The first step brings the optimizer's states, the second is the one that lasts.
    """
    setup = for_method(setup)
    meter = Allocator()
    walked = shape.layers if not setup.gradient_checkpointing else min(shape.layers, FIRST + LAST)
    layers = [Layer(shape, setup) for _ in range(walked)]
    layers[FIRST:FIRST] = [Between(layers[-1]) for _ in range(shape.layers - walked)]
    head, embedding = Head(shape, setup), embedding_weight(shape, setup)
    held = load(meter, shape, setup)
    weights = [w for layer in layers for w in layer.weights] + head.weights + [embedding] * embedding.trains
    if setup.adapts:
        held += [Storage(meter, w.size) for w in weights]
    for first in (True, False):
        micro_step(Tape(meter), shape, setup, layers, head, embedding)
        held += _optimize(meter, setup, weights, first=first)
    overhead = meter.reserved_peak - max(meter.peaks.values())
    for weight in weights:
        weight.gradient = None
    del held
    return overhead


def load(meter: Allocator, shape: ModelShape, setup: Setup) -> list[Storage]:
    """Put the base on the card as from_pretrained does: room for all of it at once, then tensor by tensor."""
    packed = setup.method == "qlora"
    width = setup.weight_width
    linears = list(shape.linears().values())
    per_layer = [(a * b, packed) for a, b in linears] + [(shape.small_parameters // shape.layers, False)]
    if shape.expert_parameters:
        per_layer.append((shape.expert_parameters // shape.layers, packed and setup.packed_experts))
    whole = [(shape.embedding, False)] + per_layer * shape.layers + ([] if shape.tied else [(shape.embedding, False)])
    meter.give(meter.take(int(sum(n * (0.5 if quantised else width) for n, quantised in whole))))
    held, halves = [], []
    for numel, quantised in whole:
        if not quantised:
            if setup.kbit_prepare:
                halves.append((numel, Storage(meter, numel * width)))
            else:
                held.append(Storage(meter, numel * width))
            continue
        wide = Storage(meter, numel * width)
        held.append(Storage(meter, -(-numel // 2)))
        held += [Storage(meter, size) for size in _scales(numel, setup.double_quant)]
        del wide
    for numel, half in halves:
        held.append(Storage(meter, numel * 4))
        del half
    halves.clear()
    if setup.kbit_prepare:
        meter.empty_cache()
    meter.peak, meter.reserved_peak = meter.alive, meter.reserved
    return held


def _scales(numel: int, double: bool) -> list[int]:
    blocks = -(-numel // 64)
    if not double:
        return [blocks * 4, 16 * 4]
    return [blocks, 16 * 4, -(-blocks // 256) * 4, 256 * 4, 4]


def _optimize(meter: Allocator, setup: Setup, weights: list[Weight], *, first: bool) -> list[Storage]:
    """The optimizer's step; its states are made at the first one."""
    made = [Storage(meter, size) for w in weights for size in _states(setup, w)] if first else []
    if setup.foreach:
        copies = [Storage(meter, w.size) for w in weights]
        del copies
    meter.mark("optimizer")
    if setup.gradient_accumulation_steps == 1:  # else those of earlier micro-steps are there while the next one runs
        for weight in weights:
            weight.gradient = None
    meter.peak = meter.alive
    return made


def _states(setup: Setup, weight: Weight) -> list[int]:
    name = setup.optim
    if name in ("adamw_torch", "adamw_torch_fused"):
        return [weight.size, weight.size]
    if name == "adamw_8bit":
        if weight.numel < 4096:
            return [weight.numel * 4] * 2
        return [weight.numel] * 2 + [-(-weight.numel // 256) * 4] * 2
    return []
