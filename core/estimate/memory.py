"""The instant answer: peak memory of a training step, worked out from the sizes of a few layers, the head and the loss.

The step is walked through in sizes with two layers of each kind (step.py); every further layer adds what it keeps for the backward
pass, its weights, its gradients and its optimizer states.
"""

from dataclasses import dataclass

from core.estimate.setup import OPTIMIZERS, Setup, for_method, targets
from core.estimate.shape import ModelShape
from core.estimate.step import Walk, walk

MIB, GIB = 2**20, 2**30
# NF4: half a byte, and a scale for every 64 weights; double quantisation packs the scales into bytes. arXiv:2305.14314.
NF4 = {False: 0.5 + 4 / 64, True: 0.5 + 1 / 64 + 4 / (64 * 256)}
CUBLAS = (
    2 * 8.125 * MIB
)  # one workspace for the forward thread and one for the backward thread; ATen/cuda/CublasHandlePool
CUBLAS_HOPPER = 2 * 32 * MIB
CONTEXT = 0.45 * GIB  # CUDA context with torch's kernels: 0.4 to 0.6 GiB on cards since Ampere
CONTEXT_OLD = 0.14 * GIB  # measured on a T4, 140.875 MiB


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
    saved_per_layer: float  # of activations, at the peak

    @property
    def process(self) -> float:
        """What nvidia-smi shows."""
        return self.reserved + self.context


def estimate(shape: ModelShape, setup: Setup, capability: float = 8.0) -> Memory:
    """The peak of a step in steady state: the optimizer has its states, gradients are kept as accumulation needs."""
    setup = for_method(setup)
    setup_walk = walk(shape, setup)
    resident = residents(shape, setup)
    kept_gradients = setup.gradient_accumulation_steps > 1
    lifted = {}
    for phase, peak in setup_walk.peaks.items():
        extra = setup_walk.gradients if kept_gradients or phase in ("backward_last", "embedding") else 0
        extra += setup_walk.saved if phase in ("forward", "loss") else 0
        extra += setup_walk.kept if phase in ("loss_backward", "backward_first") else 0
        lifted[phase] = peak + extra
    gradients = resident.pop("gradients")
    lifted["optimizer"] = gradients * (2 if setup.foreach else 1)
    lifted["backward_last"] = max(lifted["backward_last"], lifted.pop("embedding", 0))
    blas = (CUBLAS_HOPPER if capability == 9.0 else CUBLAS) if capability else 0
    base = sum(resident.values()) + blas
    phase = max(lifted, key=lifted.get)
    components = resident | _at_peak(setup_walk, setup, phase, lifted[phase], gradients)
    components["workspace"] = blas
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
        trainable=trainable(shape, setup),
        saved_per_layer=_saved(setup_walk, phase) / shape.layers,
    )


def _saved(step: Walk, phase: str) -> float:
    return step.saved_by_all if phase in ("forward", "loss") else step.kept_by_all


def _at_peak(step: Walk, setup: Setup, phase: str, height: float, gradients: float) -> dict[str, float]:
    """Share out the peak of a phase: gradients, activations, logits."""
    saved = _saved(step, phase)
    if phase == "optimizer":
        return {"gradients": height, "activations": 0, "logits": 0}
    alive = gradients if setup.gradient_accumulation_steps > 1 or phase == "backward_last" else 0
    if phase == "backward_first" and not alive:
        alive = step.top_gradients
    alive = min(alive, height)
    if phase in ("loss", "loss_backward"):
        activations = min(saved, height - alive)
        return {"gradients": alive, "activations": activations, "logits": height - alive - activations}
    return {"gradients": alive, "activations": height - alive, "logits": 0}


def trainable(shape: ModelShape, setup: Setup) -> int:
    """How many parameters are trained."""
    if setup.method == "full":
        return shape.parameters
    return copies(shape, setup) + shape.lora_parameters(setup.lora_rank, targets(setup, shape))


def copies(shape: ModelShape, setup: Setup) -> int:
    """Elements of the copies of embedding and head that are trained; tied ones stay one."""
    return (shape.embedding if shape.tied else 2 * shape.embedding) if setup.saves else 0


def residents(shape: ModelShape, setup: Setup) -> dict[str, float]:
    """What lies on the card all the time, and the gradients at their fullest."""
    linear, rest = shape.linear_parameters, shape.parameters - shape.linear_parameters
    full = setup.method == "full"
    side = 4 if setup.kbit_prepare else setup.weight_width
    packed = NF4[setup.double_quant] if setup.method == "qlora" else setup.weight_width
    experts = shape.expert_parameters
    expert = packed if setup.packed_experts else setup.weight_width
    weights = linear * packed + (rest - experts) * side + experts * expert
    adapter = gradients = states = 0.0
    if full:
        gradients = shape.parameters * setup.weight_width
        states = shape.parameters * _state(setup, setup.weight_width)
    else:
        lora = shape.lora_parameters(setup.lora_rank, targets(setup, shape))
        saved = copies(shape, setup)
        adapter = lora * setup.adapter_width + saved * setup.saved_width
        gradients = adapter
        states = lora * _state(setup, setup.adapter_width) + saved * _state(setup, setup.saved_width)
    return {"weights": weights, "adapter": adapter, "optimizer": states, "gradients": gradients}


def _state(setup: Setup, width: int) -> float:
    return OPTIMIZERS[setup.optim][0 if width == 4 else 1]
