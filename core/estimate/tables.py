"""The tables of the answer: kinds of training, models by methods, volumes of text. Computed for one card."""

from dataclasses import dataclass, replace

from core.estimate import setup as setups
from core.estimate import speed
from core.estimate.answer import CHECKPOINTS, disk, judge, reserve, suited, verdict
from core.estimate.catalogue import Card, shape
from core.estimate.memory import Memory, estimate
from core.estimate.setup import Setup
from core.estimate.shape import read_models

MODEL_KINDS = ("full", "lora", "qlora")  # of training, in the table of models
VOLUMES = (10**7, 10**8, 10**9, 10**10)


@dataclass(frozen=True)
class Cell:
    """One model with one method on the card."""

    model: str
    kind: str
    memory: Memory
    verdict: str
    optim: str
    pace: speed.Pace | None = None
    checkpoint: float = 0.0  # bytes on disk of one

    @property
    def most(self) -> str:
        """The part that takes the most memory: the reason of the verdict."""
        return max(self.memory.components, key=self.memory.components.get)


def of_kind(setup: Setup, kind: str) -> Setup:
    """The same question for another kind of training; full fine-tuning takes 8-bit states, as it does in practice."""
    fields = setups.of_kind(kind)
    optim = "adamw_8bit" if fields["method"] == "full" else setup.optim
    return setup.changed(**fields, optim=optim, target_modules="all-linear", weight_width=2)


def models(setup: Setup, card: Card, budget: float) -> list[list[Cell]]:
    """A row for each model, a cell for each method."""
    table = []
    for name in read_models()["table"]:
        known = shape(name)
        length = min(setup.max_length, known.longest or setup.max_length)
        row = []
        for kind in MODEL_KINDS:
            chosen = of_kind(setup, kind).changed(max_length=length)
            row.append(Cell(name, kind, *judge(known, chosen, card, budget), chosen.optim))
        table.append(row)
    return table


def methods(name: str, setup: Setup, card: Card, budget: float) -> list[Cell]:
    """Every kind of training of one model."""
    known = shape(name)
    cells = []
    for kind in setups.KINDS:
        chosen = suited(of_kind(setup, kind), card)
        memory = reserve(estimate(known, chosen, card.capability), known, chosen, card)
        checkpoint = disk(known, chosen, memory, 0)["checkpoints"] / CHECKPOINTS
        pace = speed.pace(known, chosen, card)
        cells.append(Cell(name, kind, memory, verdict(memory, budget), chosen.optim, pace, checkpoint))
    return cells


def check(kind: str, name: str, setup: Setup, card: Card) -> None:
    """Raise the error of a question that no table answers; in that of models each takes its own length and layers."""
    known = shape(name)
    if kind == "models":
        known, setup = replace(known, longest=0), setup.changed(target_modules="all-linear")
    setups.check(setup, known, card)


def volumes(name: str, setup: Setup, card: Card) -> list[dict]:
    """Seconds of one epoch for each volume of text, with an adapter and in full."""
    known = shape(name)
    paces = {kind: speed.pace(known, suited(of_kind(setup, kind), card), card) for kind in reversed(MODEL_KINDS)}
    rates = {kind: pace.tokens_per_second for kind, pace in paces.items()}
    return [{"tokens": tokens, "seconds": {k: tokens / rate for k, rate in rates.items()}} for tokens in VOLUMES]
