"""One micro-step in sizes, embedding to gradients: the walk from which memory, the allocator and the time are read.

All layers of a kind are alike, so two of each tell what the rest adds: `walk` steps through with those, `micro_step`
with any.
"""

import functools
from dataclasses import dataclass

from core.estimate.layer import Layer
from core.estimate.loss import Head
from core.estimate.setup import Setup
from core.estimate.shape import ModelShape
from core.estimate.size_autograd import Meter, Tape, Tensor, Weight, counted

LAST_LAYERS = ("last_forward", "backward_first")  # stages of the last layers' kernels; their backward pass is first


@dataclass(frozen=True)
class Walk:
    """What a walk through a step with two layers of each kind shows: peaks, kernels, and what the other layers add."""

    peaks: dict[str, float]
    saved: float  # through the forward pass
    kept: float  # through the backward pass: without autocast's copies, where checkpoints do not keep them
    gradients: float
    saved_by_all: float  # what all layers keep of activations, by the same two moments
    kept_by_all: float
    top_gradients: float
    once: tuple  # kernels of a model of one layer of each kind
    layers: dict[str, tuple]  # those of each further one, by its kind


@functools.lru_cache(maxsize=4096)
def walk(shape: ModelShape, setup: Setup) -> Walk:
    """Walk through forward, loss and backward with two layers."""
    tape = Tape(Meter())
    kinds = [*shape.kinds] * 2
    layers = [Layer(shape, setup, kind) for kind in kinds]
    head, embedding = Head(shape, setup), embedding_weight(shape, setup)
    if setup.gradient_accumulation_steps > 1:
        for weight in [*(w for layer in layers for w in layer.weights), *head.weights, embedding]:
            if weight.trains:
                weight.gradient = tape.new(weight.numel, weight.width)
    states = micro_step(tape, shape, setup, layers, head, embedding)
    saved, kept, gradients = {}, {}, {}
    for at in range(len(kinds) // 2, len(kinds)):
        (alive, copied), after = states[at - 1], states[at]
        saved[kinds[at]] = after[0] - alive
        kept[kinds[at]] = after[0] - alive - (after[1] - copied if setup.gradient_checkpointing else 0)
        gradients[kinds[at]] = sum(w.size for w in layers[at].weights)

    def total(sizes: dict[str, float], without: int) -> float:
        return sum((number - without) * sizes[kind] for kind, number in shape.kinds.items())

    last = {kind: f"{kind}:" for kind in kinds}
    return Walk(
        peaks=_merged(tape.meter.peaks),
        saved=total(saved, 2),
        kept=total(kept, 2),
        gradients=total(gradients, 2),
        saved_by_all=total(saved, 0),
        kept_by_all=total(kept, 0),
        top_gradients=sum(w.size for w in head.weights),
        once=tuple(kernel for stage, *kernel in tape.kernels if not stage.endswith(LAST_LAYERS)),
        layers={
            kind: tuple(k for stage, *k in tape.kernels if stage.startswith(last[kind]) and stage.endswith(LAST_LAYERS))
            for kind in shape.kinds
        },
    )


def _merged(peaks: dict[str, float]) -> dict[str, float]:
    """The peak of each phase, whatever kind of layer it is of."""
    merged: dict[str, float] = {}
    for phase, peak in peaks.items():
        name = phase.rpartition(":")[2]
        merged[name] = max(peak, merged.get(name, 0))
    return merged


def micro_step(tape: Tape, shape: ModelShape, setup: Setup, layers: list, head: Head, embedding: Weight) -> list:
    """Run a micro-step, marking the peak of each phase on the tape's meter.

    Returns for each layer (bytes alive, bytes of autocast's copies) once it has run forward.
    """
    meter, borders, states = tape.meter, [], []
    top = max(1, len(layers) // 2)
    hidden = _embed(tape, shape, setup, embedding)
    borders.append(tape.order)
    for at, layer in enumerate(layers):
        tape.stage = f"{layer.kind}:last_forward" if at >= top else "forward"
        checkpointed = setup.gradient_checkpointing and type(layer) is Layer
        hidden = tape.checkpoint(layer, tape, hidden) if checkpointed else layer(tape, hidden)
        borders.append(tape.order)
        states.append((meter.alive, sum(counted(copy.size) for copy in tape.casts.values())))
    meter.mark("forward")
    tape.stage = "loss"
    loss, kept = head(tape, hidden)
    del hidden
    meter.mark("loss")
    tape.casts.clear()
    stages = {borders[-1]: "loss_backward"}
    for at in reversed(range(len(layers))):
        stages[borders[at]] = f"{layers[at].kind}:backward_first" if at >= top else "backward_last"

    def on_node(order: int) -> None:
        """Close a phase when the engine passes from one layer to the next."""
        stage = next((name for border, name in stages.items() if order > border), "embedding")
        if stage != tape.stage:
            meter.mark(tape.stage)
            tape.stage = stage

    tape.stage = "loss_backward"
    tape.backward(loss, on_node)
    del loss, kept
    meter.mark(tape.stage)
    return states


def embedding_weight(shape: ModelShape, setup: Setup) -> Weight:
    """The embedding; of tied ones that are trained, nothing."""
    trains = setup.method == "full" or setup.saves
    width = setup.saved_width if setup.saves else 4 if setup.kbit_prepare else setup.weight_width
    if shape.tied and trains:
        return Weight(0, width, False)  # its gradient is the head's
    return Weight(shape.embedding, width, trains)


def _embed(tape: Tape, shape: ModelShape, setup: Setup, weight: Weight) -> Tensor:
    out = tape.new(setup.tokens * shape.hidden, weight.width)
    tape.work(moved=2 * out.size)
    if setup.attention == "eager" or shape.attention_softcap:  # the causal mask, for as long as the layers run
        tape.mask = tape.new(setup.sequences * setup.max_length**2, weight.width)
    differentiable = setup.gradient_checkpointing or not setup.adapts or setup.saves
    if not differentiable:
        return out
    made = weight.numel, weight.width
    return tape.track(out, (weight,), (), lambda g, _: (tape.new(*made) if weight.trains else None,))
