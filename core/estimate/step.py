"""One micro-step in sizes, embedding to gradients: the walk from which memory, the allocator and the time are read.

All layers of a model are alike, so two of them tell what the rest adds: `walk` steps through with two, `micro_step`
with any.
"""

import functools
from dataclasses import dataclass

from core.estimate.layer import Layer
from core.estimate.loss import Head
from core.estimate.setup import Setup
from core.estimate.shape import ModelShape
from core.estimate.size_autograd import Meter, Tape, Tensor, Weight, counted

LAST_LAYER = ("last_forward", "backward_first")  # stages of the kernels of the last layer, whose backward pass is first


@dataclass(frozen=True)
class Walk:
    """What a walk through a step with two layers shows: peaks, kernels, and what a further layer adds."""

    peaks: dict[str, float]
    saved: float  # through the forward pass
    kept: float  # through the backward pass: without autocast's copies, where checkpoints do not keep them
    gradients: float
    top_gradients: float
    once: tuple  # kernels of a model of one layer
    layer: tuple  # those of each further one


@functools.lru_cache(maxsize=4096)
def walk(shape: ModelShape, setup: Setup) -> Walk:
    """Walk through forward, loss and backward with two layers."""
    tape = Tape(Meter())
    layers = [Layer(shape, setup) for _ in range(2)]
    head, embedding = Head(shape, setup), embedding_weight(shape, setup)
    if setup.gradient_accumulation_steps > 1:
        for weight in [*layers[0].weights, *layers[1].weights, *head.weights, embedding]:
            if weight.trains:
                weight.gradient = tape.new(weight.numel, weight.width)
    (alive, copied), after = micro_step(tape, shape, setup, layers, head, embedding)
    saved = after[0] - alive
    return Walk(
        peaks=dict(tape.meter.peaks),
        saved=saved,
        kept=saved - (after[1] - copied if setup.gradient_checkpointing else 0),
        gradients=sum(w.size for w in layers[1].weights),
        top_gradients=sum(w.size for w in head.weights),
        once=tuple(kernel for stage, *kernel in tape.kernels if stage not in LAST_LAYER),
        layer=tuple(kernel for stage, *kernel in tape.kernels if stage in LAST_LAYER),
    )


def micro_step(tape: Tape, shape: ModelShape, setup: Setup, layers: list, head: Head, embedding: Weight) -> list:
    """Run a micro-step, marking the peak of each phase on the tape's meter.

    Returns for the last two layers (bytes alive, bytes of autocast's copies) once each has run forward.
    """
    meter, borders, states = tape.meter, [], []
    hidden = _embed(tape, shape, setup, embedding)
    borders.append(tape.order)
    for layer in layers:
        tape.stage = "last_forward" if layer is layers[-1] else "forward"
        checkpointed = setup.gradient_checkpointing and type(layer) is Layer
        hidden = tape.checkpoint(layer, tape, hidden) if checkpointed else layer(tape, hidden)
        borders.append(tape.order)
        states = [*states[-1:], (meter.alive, sum(counted(copy.size) for copy in tape.casts.values()))]
    meter.mark("forward")
    tape.stage = "loss"
    loss, kept = head(tape, hidden)
    del hidden
    meter.mark("loss")
    tape.casts.clear()
    stages = {borders[-1]: "loss_backward", borders[-2]: "backward_first", borders[0]: "backward_last"}

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
