"""The answer to one question: whether it fits, what takes the memory, how long it takes and how much energy."""

from dataclasses import dataclass, field, replace

from core.estimate import calibration, reply, speed
from core.estimate import setup as setups
from core.estimate.cards import Card
from core.estimate.memory import GIB, Memory, estimate
from core.estimate.setup import Setup, saved_bytes
from core.estimate.shape import ModelShape
from core.hardware import hardware

PROGRAM = 3.0 * GIB  # of host memory: Python, torch with its CUDA libraries, transformers, peft
WORKER = 0.5 * GIB  # a dataloader's worker
TOKEN_BYTES = 4  # of the token cache: an id of int32, whose sign says whether it is learned
TEXT_BYTES = 4.5  # of UTF-8 for a token: English and Russian lie between 4 and 6
CHECKPOINTS = 4  # on the disk, as core/training keeps them: two newest, the best, and the next while it is written
CACHE = 2.0 * GIB  # on the disk: compiled kernels, tokenizer, logs
# Of what is allocated, what the allocator reserves: the middle of 26 measured runs and of 120 steps followed through its
# model, for losses in tiles and for whole logits, whose blocks are cut up; eager attention's scores are cut up too.
RESERVED = {"full": (1.03, 1.08), "lora": (1.02, 1.06), "qlora": (1.05, 1.13)}
RESERVED_EAGER = 0.07
UPPER = 1.08  # nine in ten measured runs reserve less than this times the estimate
DRAW = 0.85  # of a card's power limit while it trains


@dataclass(frozen=True)
class Answer:
    """All figures of one question; sizes in bytes, times in seconds."""

    shape: ModelShape
    setup: Setup
    card: Card
    memory: Memory
    tokens: int
    epochs: float
    pace: speed.Pace
    host: dict[str, float]
    disk: dict[str, float]
    budget: float
    correction: calibration.Correction = field(default_factory=calibration.Correction)

    @property
    def process(self) -> float:
        """What nvidia-smi would show, with what this machine has taught."""
        return self.memory.reserved * self.correction.memory + self.memory.context

    @property
    def upper(self) -> float:
        return self.process + (UPPER - 1) * self.memory.reserved

    @property
    def verdict(self) -> str:
        """fits, tight or no."""
        return verdict(self.memory, self.budget, self.correction.memory)

    @property
    def epoch_seconds(self) -> float:
        return self.tokens / self.pace.tokens_per_second * self.correction.seconds

    @property
    def reference_seconds(self) -> float:
        """Of the one pass that tells what the starting model thinks of all preference pairs."""
        return self.epoch_seconds * speed.reference_share(self.setup) if self.epochs else 0.0

    @property
    def total_seconds(self) -> float:
        return self.epoch_seconds * self.epochs + self.reference_seconds

    @property
    def range_seconds(self) -> tuple[float, float]:
        return self.total_seconds / speed.SPREAD, self.total_seconds * speed.SPREAD

    @property
    def kilowatt_hours(self) -> float:
        return self.total_seconds * self.card.watts * DRAW / 3.6e6


def ask(
    shape: ModelShape,
    setup: Setup,
    card: Card,
    *,
    tokens: int = 10**7,
    epochs: float = 3,
    free: float | None = None,
) -> Answer:
    """The instant answer.

    Raises:
        an error of core.estimate.errors for a question that has none.
    """
    setup = suited(setup, card)
    setups.check(setup, shape, card)
    memory = peak(shape, setup, card)
    trains = setup.method != "prompt"
    return Answer(
        shape=shape,
        setup=setup,
        card=card,
        memory=memory,
        tokens=tokens if trains else 0,
        epochs=epochs if trains else 0,
        pace=pace(shape, setup, card),
        host=host(shape, setup, memory),
        disk=disk(shape, setup, memory, tokens if trains else 0),
        budget=card.memory_bytes if free is None else free,
        correction=calibration.correction(shape.name, card.name, setup.attention, setup.method, shape.parameters),
    )


def peak(shape: ModelShape, setup: Setup, card: Card) -> Memory:
    """The memory of a setup on a card, with what the allocator holds beside the tensors: it grows with every size."""
    if setup.method == "prompt":
        return reply.memory(shape, setup, card.capability)
    memory = estimate(shape, suited(setup, card), card.capability)
    if card.kind == "cpu":
        return replace(memory, reserved=memory.allocated, context=0.0)
    times = RESERVED[setup.method][setup.loss not in ("tiled", "fused")]
    times += RESERVED_EAGER if setup.attention == "eager" else 0
    return replace(memory, reserved=times * memory.allocated)


def pace(shape: ModelShape, setup: Setup, card: Card) -> speed.Pace:
    """How fast a suited setup trains; with a system prompt alone, how fast it replies."""
    return (reply if setup.method == "prompt" else speed).pace(shape, setup, card)


def host(shape: ModelShape, setup: Setup, memory: Memory) -> dict[str, float]:
    """Bytes of host memory by what they are for; merging into the base is the largest moment of an adapter's life."""
    paged = 0.0
    if setup.optim.startswith("paged"):
        paged = memory.trainable * (8.0 if "32bit" in setup.optim else 2 + 8 / 256)
    merging = 2.0 * shape.parameters if setup.adapts else 0.0
    largest = 2.0 * max(shape.embedding, *(a * b for a, b in shape.linears().values()))
    return {"program": PROGRAM, "worker": WORKER, "paged_optimizer": paged, "loading": largest, "merging": merging}


def disk(shape: ModelShape, setup: Setup, memory: Memory, tokens: int) -> dict[str, float]:
    """Bytes on disk by what they are for; a checkpoint holds what is trained and the optimizer's states."""
    width = 4 if memory.trainable < shape.parameters else setup.weight_width
    return {
        "weights": 2.0 * shape.parameters,
        "checkpoints": CHECKPOINTS * memory.trainable * saved_bytes(setup.optim, width),
        "corpus": tokens * (TEXT_BYTES + TOKEN_BYTES),
        "cache": CACHE,
    }


def suited(setup: Setup, card: Card) -> Setup:
    """The kernels that the card will really use; and of all weights that are trained, masters in fp32."""
    if setup.method == "full" and setup.autocast and setup.precision != "fp32":
        setup = replace(setup, weight_width=4)
    if card.kind == "cuda" and not card.has_flash_attention and setup.attention == "sdpa":
        return replace(setup, memory_efficient=True)
    return setup


def best_precision(card: Card) -> str:
    """What core/training takes when it is left to choose."""
    if card.kind == "cpu":
        return "bf16" if hardware.processor_has_bf16() else "fp32"
    return "bf16" if card.has_bf16 else "fp16" if card.kind == "cuda" else "fp32"


def verdict(memory: Memory, budget: float, correction: float = 1.0) -> str:
    """fits, tight or no: what every table, piece of advice and forecast says.

    It fits where the memory that nine in ten runs reserve does. It is tight where the tensors themselves fit, and the
    allocator has to give back blocks that it keeps for later: torch does so before it reports that memory is short.
    A correction alone never turns fits into no.
    """
    if memory.reserved * (correction + UPPER - 1) + memory.context <= budget:
        return "fits"
    if memory.allocated * correction + memory.context <= budget:
        return "tight"
    return "tight" if correction > 1 and verdict(memory, budget) == "fits" else "no"


def judge(shape: ModelShape, setup: Setup, card: Card, budget: float) -> tuple[Memory, str]:
    """The memory and the verdict of a setup, as ask() gives it."""
    memory = peak(shape, setup, card)
    return memory, verdict(memory, budget)


def in_4_bit(answer: Answer) -> tuple[Memory, str] | None:
    """The memory and the verdict if the experts were packed too; None where none stay in 16 bit beside packed layers.

    transformers 5 keeps a layer's experts in one tensor, which bitsandbytes does not pack. transformers 4 had a linear
    layer for each, and was measured with them packed (fms-acceleration); axolotl packs the tensor (quantize_moe_experts).
    """
    setup = answer.setup
    if not answer.shape.experts or setup.method != "qlora" or setup.packed_experts:
        return None
    return judge(answer.shape, setup.changed(packed_experts=True), answer.card, answer.budget)


def in_pure_bf16(answer: Answer) -> tuple[Memory, str] | None:
    """The memory and the verdict of full training with bf16 weights and an 8-bit optimizer; None for an adapter.

    core/training does not train so: it has no stochastic rounding, without which most steps are lost.
    """
    if answer.setup.method != "full" or not answer.card.has_bf16 or answer.card.kind == "cpu":
        return None
    pure = answer.setup.changed(precision="bf16", autocast=False, weight_width=2, optim="adamw_8bit")
    return judge(answer.shape, pure, answer.card, answer.budget)


def as_dict(answer: Answer) -> dict:
    """The answer as plain values for --json: GiB, seconds, GB of disk."""
    memory = answer.memory
    parts = {name: round(size / GIB, 4) for name, size in memory.components.items()}
    parts["allocator"] = round((memory.reserved - memory.allocated) / GIB, 4)
    parts["context"] = round(memory.context / GIB, 4)
    low, high = answer.range_seconds
    more = {}
    if answer.setup.method == "prompt":
        told = reply.cost(answer.shape, answer.setup, answer.card)
        cost = {"kv_gib": round(told.cache / GIB, 4), "seconds_until_first_word": round(told.reading, 3)}
        more["reply"] = {"prompt_tokens": told.tokens, **cost, "seconds": round(told.seconds, 2)}
    if packed := in_4_bit(answer):
        gib = {"in_16_bit_gib": 2 * answer.shape.expert_parameters / GIB, "if_packed_gib": packed[0].process / GIB}
        more["experts"] = {name: round(size, 2) for name, size in gib.items()} | {"if_packed": packed[1]}
    if pure := in_pure_bf16(answer):
        gib = round(pure[0].process / GIB, 2)
        more["pure_bf16_8bit"] = {"process_gib": gib, "verdict": pure[1], "trainable_here": False}
    return more | {
        "model": answer.shape.name,
        "method": answer.setup.kind,
        "gpu": answer.card.name,
        "parameters": memory.parameters,
        "trainable_parameters": memory.trainable,
        "components_gib": parts,
        "peak_allocated_gib": round(memory.allocated / GIB, 4),
        "peak_reserved_gib": round(memory.reserved / GIB, 4),
        "process_gib": round(answer.process / GIB, 4),
        "peak_phase": memory.peak_phase,
        "card_gib": round(answer.budget / GIB, 3),
        "fits": answer.verdict != "no",
        "verdict": answer.verdict,
        "tokens": answer.tokens,
        "epochs": answer.epochs,
        "tokens_per_second": round(answer.pace.tokens_per_second / answer.correction.seconds, 1),
        "seconds_per_step": round(answer.pace.step_seconds * answer.correction.seconds, 4),
        "seconds_per_epoch": round(answer.epoch_seconds, 1),
        "seconds_total": round(answer.total_seconds, 1),
        "seconds_total_range": [round(low, 1), round(high, 1)],
        "energy_kwh": round(answer.kilowatt_hours, 3),
        "host_gib": {name: round(size / GIB, 3) for name, size in answer.host.items()},
        "disk_gib": {name: round(size / GIB, 3) for name, size in answer.disk.items()},
        "correction": {
            "memory": answer.correction.memory,
            "seconds": answer.correction.seconds,
            "runs": answer.correction.runs,
            "from": [dict(source) for source in answer.correction.sources],
        },
    }
