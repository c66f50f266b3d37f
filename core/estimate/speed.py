"""Seconds of a training step: every kernel of the walk against the card's matmul rate, its memory and its launches.

A kernel takes the longer of its products at the card's measured rate and its bytes at the memory's; the host needs a
while to launch each. Whichever is slower overall sets the pace: small models and short batches wait for Python. A
processor runs its kernels itself: there, launching and computing add up.
"""

from dataclasses import dataclass

from core.estimate.cards import Card
from core.estimate.memory import copies, trainable
from core.estimate.setup import Setup, for_method, targets
from core.estimate.shape import ModelShape
from core.estimate.step import walk

MATMUL = 0.97  # of the best measured square product: a model's products are narrower
# The same against the data sheet of fp32 without TF32, where no measurement is at hand: cards clock lower than it says.
SINGLE_MATMUL = 0.55
# Of the data sheet's bandwidth. What reads whole tensors in order, as a copy and AdamW do, reaches COPY; kernels that
# cast, broadcast, slice or add up rows, which most of a layer's are, reach less: runs on a T4 and on an A100 say 0.61
# to 0.68, whichever of their sources is left out.
COPY, MEMORY = 0.8, 0.65
# The same for bitsandbytes' dequantisation: 0.48 made it 1.36 to 2.07 times as fast on an A100 (its pull request 1747).
UNPACKING, OLD_UNPACKING = 0.45, 0.26
# Of the matmul rate in the attention kernels, forward and backward: arXiv:2307.08691, figures 4 to 6 (FlashAttention 2
# and the kernel of xformers, which is torch's memory-efficient one). Short sequences have too few tiles to fill a card:
# FlashAttention is at half of its best where they are HALF_SPEED long.
ATTENTION = {"flash": 0.75, "memory_efficient": 0.3, "scores": 0.5}
IN_SINGLE = 1.6  # times that in fp32, at most all: products without tensor cores leave less of the time to all else
HALF_SPEED = {"flash": 450}
# How often AdamW reads or writes a trained number: in one kernel weight, gradient and two states, and three of them
# again; over lists of tensors (foreach) decay 2, lerp 3, mul 2, addcmul 3, sqrt 2, div 2, add 2, addcdiv 4.
FUSED_PASSES, FOREACH_PASSES = 7, 20
CLIPPING_PASSES = 3  # the gradients' norm, and their product with a number
UPDATE = 40e-6  # seconds of AdamW on a processor for a tensor besides its bytes: ten operations, no modules; measured
PIPELINE = 3e6  # tokens a second that packing.collate() makes into batches on one core, measured
LAUNCH = 18.6e-6  # seconds of Python and dispatch for a kernel, through transformers and peft modules
# Cards before Ampere stand in hosts of their time, or are rented with two threads of one core at 2 GHz (T4 in Colab and
# Kaggle): Python runs there at about half the pace of the hosts of an A100.
OLD_HOST = 2.0
SPREAD = (
    1.3  # how far below and above the estimate a real run may lie; nine in ten published rows lie within half of it
)


@dataclass(frozen=True)
class Pace:
    """Seconds of one optimizer step and where they go."""

    step_seconds: float
    tokens_per_second: float
    flops: float  # of one micro-step, as the card runs them
    device_seconds: float
    launch_seconds: float
    optimizer_seconds: float
    launch: float  # seconds of one
    fed: bool  # waits for the data


def pace(shape: ModelShape, setup: Setup, card: Card) -> Pace:
    """How fast a card trains."""
    setup = for_method(setup)
    step = walk(shape, setup)
    device, launch, flops = cost(step.once, setup, card)
    for kind, number in shape.kinds.items():
        of_layer = cost(step.layers[kind], setup, card)
        device, launch, flops = (a + (number - 1) * b for a, b in zip((device, launch, flops), of_layer, strict=True))
    micro = device + launch if card.kind == "cpu" else (device**3 + launch**3) ** (1 / 3)
    fed = setup.tokens / PIPELINE > micro
    micro = max(micro, setup.tokens / PIPELINE) * (1 + mismatched_share(setup))
    optimizer = _passes(setup) * _trained_bytes(shape, setup) / (COPY * card.bandwidth)
    if card.kind == "cpu":  # tensor by tensor; a card takes all at once
        optimizer += UPDATE * _tensors(shape, setup)
    if setup.optim.startswith("paged"):
        optimizer += 2 * 2 * trainable(shape, setup) / 20e9  # states over PCIe
    steps = setup.gradient_accumulation_steps
    seconds = steps * micro + optimizer
    return Pace(seconds, steps * setup.tokens / seconds, flops, device, launch, optimizer, launch_seconds(card), fed)


def mismatched_share(setup: Setup) -> float:
    """What KTO adds to a step, as a share of it: a forward pass over as many replies that do not fit their prompts."""
    return _forward_share(setup) if setup.kind == "kto" else 0.0


def reference_share(setup: Setup) -> float:
    """The pass over all pairs before the first step, as a share of an epoch; ORPO asks no reference."""
    if setup.task != "preference" or setup.kind == "orpo":
        return 0.0
    share = _forward_share(setup)
    return 2 * share / (1 + share) if setup.kind == "kto" else share


def _forward_share(setup: Setup) -> float:
    """A backward pass takes as long as the forward one, twice as long where all weights are trained; with checkpoints
    there is a second forward pass."""
    return 1 / (2 + setup.gradient_checkpointing + (not setup.adapts))


def launch_seconds(card: Card) -> float:
    """Seconds that the card's host needs for a kernel."""
    return LAUNCH * (OLD_HOST if card.kind == "cuda" and card.capability < 8.0 else 1)


def cost(kernels: tuple, setup: Setup, card: Card) -> tuple[float, float, float]:
    """Seconds on the card, seconds of the host's launches, and products of these kernels of a walk."""
    half = card.matmul_tflops * 1e12 * MATMUL
    # The rate of a processor is measured, or what its cores really reach; that of a card in fp32 is the data sheet's.
    single = card.fp32_tflops * 1e12 * (MATMUL if card.kind == "cpu" else SINGLE_MATMUL)
    bandwidth, unpacking = card.bandwidth, OLD_UNPACKING if setup.old_bitsandbytes else UNPACKING
    device = launch = total = 0.0
    slow_bf16 = setup.precision == "bf16" and not card.has_bf16
    for flops, width, moved, attends, launches, unpacks in kernels:
        seconds = moved / (bandwidth * (unpacking if unpacks else MEMORY))
        if flops:
            in_single = width == 4 or slow_bf16
            rate = (single if in_single else half) * min(1, ATTENTION.get(attends, 1) * (IN_SINGLE if in_single else 1))
            if attends in HALF_SPEED:
                rate *= setup.max_length / (setup.max_length + HALF_SPEED[attends])
            seconds = max(seconds, flops / rate)
            total += flops
        device += seconds
        launch += launches * launch_seconds(card)
    return device, launch, total


def _passes(setup: Setup) -> int:
    return CLIPPING_PASSES + (FOREACH_PASSES if setup.foreach else FUSED_PASSES)


def _trained_bytes(shape: ModelShape, setup: Setup) -> int:
    """Bytes of the trained numbers, as wide as they are."""
    if not setup.adapts:
        return trainable(shape, setup) * setup.weight_width
    saved = copies(shape, setup)
    return (trainable(shape, setup) - saved) * setup.adapter_width + saved * setup.saved_width


def _tensors(shape: ModelShape, setup: Setup) -> int:
    """How many tensors the optimizer goes over."""
    if setup.adapts:
        adapted = targets(setup, shape)
        return 2 * sum(
            n * sum(name in adapted for name in shape.linears(kind)) for kind, n in shape.kinds.items()
        )  # A, B
    return sum(n * (len(shape.linears(kind)) + 2) for kind, n in shape.kinds.items())  # and the norms
