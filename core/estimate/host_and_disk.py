"""Host memory and disk of a run."""

from core.estimate.memory import GIB, Memory
from core.estimate.setup import OPTIMIZERS, Setup
from core.estimate.shape import ModelShape

PROGRAM = 3.0 * GIB  # Python, torch with its CUDA libraries, transformers, peft
WORKER = 0.5 * GIB  # a dataloader's worker
TOKEN_BYTES = 13  # tokenised: input_ids 4, attention_mask 1, labels 8; measured with datasets
TEXT_BYTES = 4.5  # of UTF-8 for a token: English and Russian lie between 4 and 6
KEPT = 2  # checkpoints; one more stands while the next is written
CACHE = 2.0 * GIB  # compiled kernels, tokenizer, logs


def host(shape: ModelShape, setup: Setup, memory: Memory) -> dict[str, float]:
    """Bytes of host memory by what they are for; merging into the base is the largest moment of an adapter's life."""
    paged = 0.0
    if setup.optimizer.startswith("paged"):
        paged = memory.trainable * (8.0 if "32bit" in setup.optimizer else 2 + 8 / 256)
    merging = 2.0 * shape.parameters if setup.adapts else 0.0
    largest = 2.0 * max(shape.embedding, *(a * b for a, b in shape.linears().values()))
    return {"program": PROGRAM, "worker": WORKER, "paged_optimizer": paged, "loading": largest, "merging": merging}


def disk(shape: ModelShape, setup: Setup, memory: Memory, tokens: int) -> dict[str, float]:
    """Bytes on disk by what they are for."""
    width = 4 if memory.trainable < shape.parameters else setup.weight_width
    state = OPTIMIZERS[setup.optimizer.removeprefix("paged_")][0 if width == 4 else 1] if _known(setup) else 8
    checkpoint = memory.trainable * (width + state)
    return {
        "weights": 2.0 * shape.parameters,
        "checkpoints": (KEPT + 1) * checkpoint,
        "corpus": tokens * (TEXT_BYTES + TOKEN_BYTES),
        "cache": CACHE,
    }


def _known(setup: Setup) -> bool:
    return setup.optimizer.removeprefix("paged_") in OPTIMIZERS
