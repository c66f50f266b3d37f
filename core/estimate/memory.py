"""The instant answer: peak memory of a training step, worked out from the sizes of two layers, the head and the loss.

All layers of a model are alike, so the step is walked through in sizes (layer.py, loss.py) with two of them; every
further layer adds what it keeps for the backward pass, its weights, its gradients and its optimizer states.
"""

import functools
from dataclasses import dataclass, field

from core.estimate.layer import Layer
from core.estimate.loss import Head
from core.estimate.setup import OPTIMIZERS, Setup, for_method, targets
from core.estimate.shape import ModelShape
from core.estimate.size_autograd import Meter, Tape, Tensor, Weight

MIB, GIB = 2**20, 2**30
# NF4: half a byte, and a scale for every 64 weights; double quantisation packs the scales into bytes. arXiv:2305.14314.
NF4 = {False: 0.5 + 4 / 64, True: 0.5 + 1 / 64 + 4 / (64 * 256)}
CUBLAS = (
    2 * 8.125 * MIB
)  # one workspace for the forward thread and one for the backward thread; ATen/cuda/CublasHandlePool
CUBLAS_HOPPER = 2 * 32 * MIB
CONTEXT = 0.45 * GIB  # CUDA context with torch's kernels: 0.4 to 0.6 GiB on cards since Ampere
CONTEXT_OLD = 0.14 * GIB  # measured on a T4, 140.875 MiB
PHASES = ("forward", "loss", "loss_backward", "backward_first", "backward_last", "optimizer")


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak, by what they are for; and each phase's own peak."""

    components: dict[str, float]
    phases: dict[str, float]
    peak_phase: str
    allocated: float
    reserved: float
    context: float
    parameters: int
    trainable: int
    per_layer: dict[str, float] = field(default_factory=dict)

    @property
    def process(self) -> float:
        """What nvidia-smi shows."""
        return self.reserved + self.context


@dataclass(frozen=True)
class Walk:
    """What one walk through the step found: peaks with two layers, and what a further layer adds."""

    peaks: dict[str, float]
    saved: float  # through the forward pass
    kept: float  # through the backward pass: without autocast's copies, where checkpoints do not keep them
    gradients: float
    top_gradients: float
    trained_layer: int
    trained_head: int
    trained_embedding: int


@functools.lru_cache(maxsize=4096)
def walk(shape: ModelShape, setup: Setup, expert: bool = False) -> Walk:
    """Walk through forward, loss and backward in sizes, with two layers."""
    meter = Meter()
    tape = Tape(meter)
    layers = [Layer(shape, setup, expert=expert) for _ in range(2)]
    head, embedding = Head(shape, setup), _embedding_weight(shape, setup)
    if setup.gradient_accumulation_steps > 1:
        for weight in [*layers[0].weights, *layers[1].weights, *head.weights, embedding]:
            if weight.trains:
                weight.gradient = tape.new(weight.numel, weight.width)
    hidden = _embed(tape, shape, setup, embedding)
    borders, alive, copied = [tape.order], [meter.alive], [0]
    for layer in layers:
        hidden = tape.checkpoint(layer, tape, hidden) if setup.gradient_checkpointing else layer(tape, hidden)
        borders.append(tape.order)
        alive.append(meter.alive)
        copied.append(sum(copy.storage.block for copy in tape.casts.values()))
        meter.mark("forward")
    loss, kept = head(tape, hidden)
    del hidden
    if not setup.released:
        kept = kept or []
    meter.mark("loss")
    stage = _stages(meter, borders)
    tape.casts.clear()
    tape.backward(loss, stage)
    del loss, kept
    stage(None)
    per_layer = sum(w.size for w in layers[1].weights)
    return Walk(
        peaks=dict(meter.peaks),
        saved=alive[2] - alive[1],
        kept=alive[2] - alive[1] - (copied[2] - copied[1] if setup.gradient_checkpointing else 0),
        gradients=per_layer,
        top_gradients=sum(w.size for w in head.weights),
        trained_layer=sum(w.numel for w in layers[1].weights),
        trained_head=sum(w.numel for w in head.weights),
        trained_embedding=embedding.numel if embedding.trains else 0,
    )


def _embedding_weight(shape: ModelShape, setup: Setup) -> Weight:
    if setup.method == "prompt":
        return Weight(setup.virtual_tokens * shape.hidden, 4, True)
    trains = setup.method in ("full", "cpt") or setup.saves
    width = setup.saved_width if setup.saves else 4 if setup.kbit_prepare else setup.weight_width
    if shape.tied and trains:
        return Weight(0, width, False)  # its gradient is the head's
    return Weight(shape.embedding, width, trains)


def _embed(tape: Tape, shape: ModelShape, setup: Setup, weight: Weight) -> Tensor:
    width = weight.width if setup.method != "prompt" else setup.weight_width
    out = tape.new(setup.tokens * shape.hidden, width)
    tape.work(moved=2 * out.size)
    if setup.attention == "eager" or shape.attention_softcap:  # the causal mask, for as long as the layers run
        tape.mask = tape.new(setup.batch_size * setup.sequence_length**2, width)
    differentiable = setup.gradient_checkpointing or setup.method not in ("lora", "qlora") or setup.saves
    if not differentiable:
        return out
    made = weight.numel, weight.width
    return tape.track(out, (weight,), (), lambda g, _: (tape.new(*made) if weight.trains else None,))


def _stages(meter: Meter, borders: list[int]):
    """Close a phase of the backward pass when the engine passes from one layer to the next."""
    names = ["embedding", "backward_last", "backward_first", "loss_backward"]
    now = ["loss_backward"]

    def on_node(node):
        here = None if node is None else names[sum(node.order > border for border in borders)]
        if here != now[0]:
            meter.mark(now[0])
            now[0] = here

    return on_node


def estimate(shape: ModelShape, setup: Setup, capability: float = 8.0) -> Memory:
    """The peak of a step in steady state: the optimizer has its states, gradients are kept as accumulation needs."""
    setup = for_method(setup)
    setup_walk = walk(shape, setup, bool(shape.experts) and shape.dense_layers < shape.layers)
    resident = residents(shape, setup, setup_walk)
    more = shape.layers - 2
    kept_gradients = setup.gradient_accumulation_steps > 1
    lifted = {}
    for phase, peak in setup_walk.peaks.items():
        extra = more * setup_walk.gradients if kept_gradients or phase in ("backward_last", "embedding") else 0
        extra += more * setup_walk.saved if phase in ("forward", "loss") else 0
        extra += more * setup_walk.kept if phase in ("loss_backward", "backward_first") else 0
        lifted[phase] = peak + extra
    gradients = resident.pop("gradients")
    lifted["optimizer"] = gradients * (2 if setup.foreach else 1)
    lifted["backward_last"] = max(lifted["backward_last"], lifted.pop("embedding", 0))
    blas = (CUBLAS_HOPPER if capability == 9.0 else CUBLAS) if capability else 0
    base = sum(resident.values()) + blas + setup.world_overhead
    phase = max(lifted, key=lifted.get)
    components = resident | _at_peak(setup_walk, setup, phase, lifted[phase], more, gradients)
    components["workspace"] = components.get("workspace", 0) + blas + setup.world_overhead
    allocated = base + lifted[phase]
    context = 0 if not capability else CONTEXT if capability >= 8.0 else CONTEXT_OLD
    return Memory(
        components=components,
        phases={name: base + size for name, size in lifted.items()},
        peak_phase=phase,
        allocated=allocated,
        reserved=allocated * 1.05,
        context=context,
        parameters=shape.parameters,
        trainable=trainable(shape, setup, setup_walk),
        per_layer={
            "saved": setup_walk.saved if phase in ("forward", "loss") else setup_walk.kept,
            "gradients": setup_walk.gradients,
        },
    )


def _at_peak(found: Walk, setup: Setup, phase: str, height: float, more: int, gradients: float) -> dict[str, float]:
    """Share out the peak of a phase: gradients, activations, logits."""
    saved = (more + 2) * (found.saved if phase in ("forward", "loss") else found.kept)
    if phase == "optimizer":
        return {"gradients": height, "activations": 0, "logits": 0}
    alive = gradients if setup.gradient_accumulation_steps > 1 or phase == "backward_last" else 0
    if phase == "backward_first" and not alive:
        alive = found.top_gradients
    alive = min(alive, height)
    if phase in ("loss", "loss_backward"):
        activations = min(saved, height - alive)
        return {"gradients": alive, "activations": activations, "logits": height - alive - activations}
    return {"gradients": alive, "activations": height - alive, "logits": 0}


def trainable(shape: ModelShape, setup: Setup, found: Walk) -> int:
    """How many parameters are trained."""
    if setup.method in ("full", "cpt"):
        return shape.parameters
    if setup.method == "prompt":
        return setup.virtual_tokens * shape.hidden
    return copies(shape, setup) + shape.lora_parameters(setup.lora_rank, targets(setup, shape))


def copies(shape: ModelShape, setup: Setup) -> int:
    """Elements of the copies of embedding and head that are trained; tied ones stay one."""
    return (shape.embedding if shape.tied else 2 * shape.embedding) if setup.saves else 0


def residents(shape: ModelShape, setup: Setup, found: Walk) -> dict[str, float]:
    """What lies on the card all the time, and the gradients at their fullest."""
    linear, rest = shape.linear_parameters, shape.parameters - shape.linear_parameters
    full = setup.method in ("full", "cpt")
    side = 4 if setup.kbit_prepare else setup.weight_width
    packed = NF4[setup.double_quant] if setup.method == "qlora" else setup.weight_width
    experts = shape.expert_parameters
    weights = linear * packed + (rest - experts) * side + experts * setup.weight_width
    adapter = gradients = states = 0.0
    if full:
        gradients = shape.parameters * setup.weight_width
        states = shape.parameters * _state(setup, setup.weight_width)
    elif setup.method == "prompt":
        adapter, gradients, states = (setup.virtual_tokens * shape.hidden * n for n in (4, 4, _state(setup, 4)))
    else:
        lora = shape.lora_parameters(setup.lora_rank, targets(setup, shape))
        saved = copies(shape, setup)
        adapter = lora * setup.adapter_width + saved * setup.saved_width
        gradients = adapter
        states = lora * _state(setup, setup.adapter_width) + saved * _state(setup, setup.saved_width)
    return {"weights": weights, "adapter": adapter, "optimizer": states, "gradients": gradients}


def _state(setup: Setup, width: int) -> float:
    return OPTIMIZERS[setup.optimizer][0 if width == 4 else 1]
