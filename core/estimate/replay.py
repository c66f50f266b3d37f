"""The whole step in sizes through the model of the allocator: loading, every layer, the loss, backward, the optimizer.

Slower than memory.py (some ten milliseconds), and closer: it knows which blocks are split, what stays unused between
them, and hence what is reserved.
"""

import functools
from dataclasses import dataclass

from core.estimate.allocator import Allocator
from core.estimate.layer import Layer
from core.estimate.loss import Head
from core.estimate.memory import _embed, _embedding_weight, _stages
from core.estimate.setup import Setup, for_method
from core.estimate.shape import ModelShape
from core.estimate.size_autograd import Storage, Tape, Tensor, Weight

FIRST, LAST = 1, 2  # checkpointed layers that are walked through; those between them only leave what outlives them


@dataclass(frozen=True)
class Replay:
    """Bytes: peaks of the phases, what is allocated at the highest of them, and what is reserved."""

    phases: dict[str, int]
    allocated: int
    reserved: int
    resident: int


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
def replay(shape: ModelShape, setup: Setup) -> Replay:
    """Two optimizer steps: the first brings the states, the second is the one that lasts."""
    setup = for_method(setup)
    meter = Allocator()
    experts = bool(shape.experts)
    walked = shape.layers if not setup.gradient_checkpointing else min(shape.layers, FIRST + LAST)
    layers = [Layer(shape, setup, expert=experts and i >= shape.dense_layers) for i in range(walked)]
    layers[FIRST:FIRST] = [Between(layers[-1]) for _ in range(shape.layers - walked)]
    head, embedding = Head(shape, setup), _embedding_weight(shape, setup)
    held = load(meter, shape, setup)
    weights = [w for layer in layers for w in layer.weights] + head.weights + [embedding] * embedding.trains
    if setup.adapts or setup.method == "prompt":
        held += [Storage(meter, w.size) for w in weights]
    resident = meter.alive
    for _ in range(2):
        _micro_step(meter, shape, setup, layers, head, embedding)
        held += _optimize(meter, setup, weights, first=not meter.peaks.get("optimizer"))
    phases = {name: peak for name, peak in meter.peaks.items() if name != "load"}
    result = Replay(phases, max(phases.values()), meter.reserved_peak, resident)
    for weight in weights:
        weight.gradient = None
    del held
    return result


def load(meter: Allocator, shape: ModelShape, setup: Setup) -> list[Storage]:
    """Put the base on the card as from_pretrained does: room for all of it at once, then tensor by tensor."""
    packed = setup.method == "qlora"
    width = setup.weight_width
    linears = list(shape.linears().values())
    per_layer = [(a * b, packed) for a, b in linears] + [(shape.small_parameters // shape.layers, False)]
    if shape.expert_parameters:
        per_layer.append((shape.expert_parameters // shape.layers, False))
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
    meter.mark("load")
    meter.peak, meter.reserved_peak = meter.alive, meter.reserved
    return held


def _scales(numel: int, double: bool) -> list[int]:
    blocks = -(-numel // 64)
    if not double:
        return [blocks * 4, 16 * 4]
    return [blocks, 16 * 4, -(-blocks // 256) * 4, 256 * 4, 4]


def _micro_step(meter, shape, setup, layers, head, embedding) -> None:
    tape = Tape(meter)
    hidden = _embed(tape, shape, setup, embedding)
    borders = [tape.order]
    for at, layer in enumerate(layers):
        walked = setup.gradient_checkpointing and type(layer) is Layer
        hidden = tape.checkpoint(layer, tape, hidden) if walked else layer(tape, hidden)
        if at in (0, shape.layers - 2, shape.layers - 1):
            borders.append(tape.order)
    meter.mark("forward")
    loss, kept = head(tape, hidden)
    del hidden
    meter.mark("loss")
    stage = _stages(meter, [borders[0], borders[-2], borders[-1]])
    tape.casts.clear()
    tape.backward(loss, stage)
    del loss, kept
    stage(None)


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
    name = setup.optimizer
    if name in ("adamw_torch", "adamw_torch_fused"):
        return [weight.size, weight.size]
    if name == "adamw_8bit":
        if weight.numel < 4096:
            return [weight.numel * 4] * 2
        return [weight.numel] * 2 + [-(-weight.numel // 256) * 4] * 2
    return []
