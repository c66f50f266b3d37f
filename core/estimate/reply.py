"""A system prompt and examples, without training: what they cost at every reply in tokens, memory and time."""

from dataclasses import dataclass

from core.estimate import speed
from core.estimate.cards import Card
from core.estimate.memory import CONTEXT, CONTEXT_OLD, Memory
from core.estimate.setup import Setup
from core.estimate.shape import ModelShape

REPLY = 200  # tokens of a reply whose time is shown: two paragraphs
KERNELS = 12  # of a layer for one new token: norms, products, rotation, attention, activation


@dataclass(frozen=True)
class ReplyCost:
    """What a prompt before every message costs: tokens, bytes of keys and values, seconds."""

    tokens: int
    cache: float  # bytes that keys and values of the prompt take, as long as the conversation lasts
    reading: float  # seconds until the first word, where nothing of the prompt was kept
    writing: float  # seconds of REPLY tokens

    @property
    def seconds(self) -> float:
        return self.reading + self.writing


def token_bytes(shape: ModelShape, setup: Setup) -> int:
    """Bytes of the keys and values of one token in all layers that keep them: those of linear attention do not."""
    return 2 * (shape.layers - shape.linear_layers) * shape.kv * setup.half


def memory(shape: ModelShape, setup: Setup, capability: float) -> Memory:
    """Weights, the keys and values of max_length tokens, and the widest layer while the prompt is read."""
    weights = float(shape.parameters * setup.half)
    widest = max(shape.inner, shape.expert_inner * shape.experts_used)
    parts = dict.fromkeys(("adapter", "optimizer", "gradients", "logits", "workspace"), 0.0)
    parts["weights"], parts["cache"] = weights, float(setup.max_length * token_bytes(shape, setup))
    parts["activations"] = float(setup.prompt_tokens * (4 * shape.hidden + 3 * widest) * setup.half)
    allocated = sum(parts.values())
    return Memory(
        components=parts,
        phases={"prefill": allocated},
        peak_phase="prefill",
        allocated=allocated,
        reserved=1.05 * allocated,
        context=0 if not capability else CONTEXT if capability >= 8.0 else CONTEXT_OLD,
        parameters=shape.parameters,
        trainable=0,
        saved_per_layer=0.0,
    )


def cost(shape: ModelShape, setup: Setup, card: Card) -> ReplyCost:
    """A reply reads the prompt at the rate of matrix products, and writes at the pace of the memory or of the host."""
    read, written, _ = _seconds(shape, setup, card)
    return ReplyCost(setup.prompt_tokens, setup.prompt_tokens * token_bytes(shape, setup), read, REPLY * written)


def pace(shape: ModelShape, setup: Setup, card: Card) -> speed.Pace:
    """The same as a pace: a step is a reply, and the rate that of writing."""
    read, written, launches = _seconds(shape, setup, card)
    flops = 2.0 * active(shape) * setup.prompt_tokens
    launch = speed.launch_seconds(card)
    return speed.Pace(read + REPLY * written, 1 / written, flops, read, launches, 0.0, launch, fed=False)


def active(shape: ModelShape) -> int:
    """Weights that a token passes: of experts those that are used."""
    if not shape.experts:
        return shape.parameters
    return shape.parameters - shape.expert_parameters * (shape.experts - shape.experts_used) // shape.experts


def _seconds(shape: ModelShape, setup: Setup, card: Card) -> tuple[float, float, float]:
    """Seconds of reading the prompt and of writing a token, and how much of the latter is the host's launches."""
    products = card.matmul_tflops * 1e12 * speed.MATMUL
    launches = KERNELS * shape.layers * speed.launch_seconds(card)
    read = max(2 * active(shape) * setup.prompt_tokens / products, launches)
    moved = active(shape) * setup.half + setup.prompt_tokens * token_bytes(shape, setup)
    return read, max(moved / (card.bandwidth * speed.COPY), launches), launches
