"""The tables of the answer: kinds of training, models by methods, volumes of text. Computed for one card."""

from dataclasses import dataclass, replace

from core.estimate import host_and_disk, speed
from core.estimate import setup as setups
from core.estimate.answer import fits, quick, reserve, suited
from core.estimate.catalogue import Card, shape
from core.estimate.memory import Memory, estimate
from core.estimate.setup import Setup

MODELS = (
    "Qwen/Qwen1.5-1.8B", "Qwen/Qwen1.5-4B", "Qwen/Qwen1.5-7B", "Qwen/Qwen1.5-14B", "IlyaGusev/saiga_mistral_7b_lora",
    "IlyaGusev/saiga_llama3_8b", "IlyaGusev/saiga_nemo_12b", "mistralai/Mistral-7B-v0.3", "Qwen/Qwen3-1.7B",
    "Qwen/Qwen3-4B", "Qwen/Qwen3-8B", "Qwen/Qwen3-14B", "Qwen/Qwen3-32B", "meta-llama/Llama-3.2-3B",
    "meta-llama/Llama-3.1-8B", "google/gemma-2-9b", "google/gemma-3-12b-pt",
)  # fmt: skip
VOLUMES = (10**7, 10**8, 10**9, 10**10)


@dataclass(frozen=True)
class Cell:
    """One model with one method on the card."""

    model: str
    method: str
    memory: Memory
    verdict: str
    optimizer: str
    pace: speed.Pace | None = None
    checkpoint: float = 0.0  # bytes on disk of one

    @property
    def most(self) -> str:
        """The part that takes the most memory: the reason of the verdict."""
        return max(self.memory.components, key=self.memory.components.get)


def with_method(setup: Setup, method: str) -> Setup:
    """The same question for another method; full fine-tuning takes 8-bit states, as it does in practice."""
    optimizer = "adamw_8bit" if method in ("full", "cpt") else setup.optimizer
    return setup.changed(method=method, optimizer=optimizer, target_modules="all-linear", weight_width=2)


def models(setup: Setup, card: Card, budget: float, methods=("full", "lora", "qlora")) -> list[list[Cell]]:
    """A row for each model, a cell for each method."""
    table = []
    for name in MODELS:
        known = shape(name)
        length = min(setup.sequence_length, known.longest or setup.sequence_length)
        row = []
        for method in methods:
            chosen = with_method(setup, method).changed(sequence_length=length)
            memory = quick(known, chosen, card)
            row.append(Cell(name, method, memory, fits(memory, budget), chosen.optimizer))
        table.append(row)
    return table


def methods(name: str, setup: Setup, card: Card, budget: float) -> list[Cell]:
    """Every kind of training of one model."""
    known = shape(name)
    found = []
    for method in setups.METHODS:
        chosen = suited(with_method(setup, method), card)
        memory = reserve(estimate(known, chosen, card.capability), known, chosen, card)
        checkpoint = host_and_disk.disk(known, chosen, memory, 0)["checkpoints"] / (host_and_disk.KEPT + 1)
        pace = speed.pace(known, chosen, card)
        found.append(Cell(name, method, memory, fits(memory, budget), chosen.optimizer, pace, checkpoint))
    return found


def check(kind: str, name: str, setup: Setup, card: Card) -> None:
    """Raise the trouble of a question that no table answers; in that of models each takes its own length and layers."""
    asked = shape(name)
    if kind == "models":
        asked, setup = replace(asked, longest=0), setup.changed(target_modules="all-linear")
    setups.check(setup, asked, card)


def volumes(name: str, setup: Setup, card: Card) -> list[dict]:
    """Seconds of one epoch for each volume of text, with an adapter and in full."""
    known = shape(name)
    rates = {}
    for method in ("qlora", "lora", "full"):
        rates[method] = speed.pace(known, suited(with_method(setup, method), card), card).tokens_per_second
    return [{"tokens": tokens, "seconds": {m: tokens / rate for m, rate in rates.items()}} for tokens in VOLUMES]
