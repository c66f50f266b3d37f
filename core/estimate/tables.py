"""The tables of the answer: kinds of training, models by methods, volumes of text. Computed for one card."""

from dataclasses import dataclass, replace

from core.estimate import setup as setups
from core.estimate import speed, worth
from core.estimate.answer import CHECKPOINTS, Answer, disk, judge, pace, peak, suited, verdict
from core.estimate.cards import Card
from core.estimate.catalogue import shape
from core.estimate.memory import Memory
from core.estimate.setup import Setup
from core.estimate.shape import read_models

MODEL_KINDS = ("full", "lora", "qlora")  # of training, in the table of models
MOSAIC_KINDS = (*MODEL_KINDS, "prompt")
EPOCHS = (1, 3, 10)  # columns of the picture of volumes
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


@dataclass(frozen=True)
class Tile:
    """A cell of the mosaic: what a click chooses, GiB (of a model) and seconds of the plan, and both verdicts."""

    fields: dict
    process: float
    seconds: float
    verdict: str
    worth: str

    @property
    def level(self) -> int:
        """0, 1, 2: green, amber, red."""
        fits = ("fits", "tight", "no").index(self.verdict)
        return 2 if fits == 2 else max(fits, worth.VERDICTS.index(self.worth))


def mosaic(setup: Setup, card: Card, budget: float, *, tokens: int, epochs: float, model: str = "") -> list[list[Tile]]:
    """Models by kinds of training for one card: a row for the model in question, and for each of the table.

    The tile of the question itself is its own setup; of every other a click sets what it was worked out with.
    """
    rows = []
    for name in dict.fromkeys([*([model] if model else []), *read_models()["table"]]):
        known = shape(name)
        length = min(setup.max_length, known.longest or setup.max_length)
        row = []
        for kind in MOSAIC_KINDS:
            own = (name, kind) == (model, setup.kind)
            chosen = suited(setup if own else of_kind(setup, kind).changed(max_length=length), card)
            memory, fits = judge(known, chosen, card, budget)
            rate = pace(known, chosen, card).tokens_per_second
            seconds = 0.0 if kind == "prompt" else tokens * epochs / rate
            paid = worth.DOES_NOT_PAY if fits == "no" else worth.of_days(seconds / worth.DAY)
            fields = {"model": name, "method": kind}
            fields |= {field: getattr(chosen, field) for field in ("optim", "target_modules", "max_length")}
            row.append(Tile(fields, memory.process, seconds, fits, paid))
        rows.append(row)
    return rows


def plans(answer: Answer) -> list[list[Tile]]:
    """Volumes of text by epochs for the model and the method of an answer; nothing for a system prompt."""
    if answer.setup.method == "prompt":
        return []
    rate = answer.pace.tokens_per_second / answer.correction.seconds
    rows = []
    for tokens in VOLUMES:
        row = []
        for epochs in EPOCHS:
            paid = worth.verdict(replace(answer, tokens=tokens, epochs=epochs))
            written = f"{tokens // 10**9}B" if tokens >= 10**9 else f"{tokens // 10**6}M"
            fields = {"tokens": written, "epochs": str(epochs)}
            row.append(Tile(fields, answer.process, tokens * epochs / rate, answer.verdict, paid))
        rows.append(row)
    return rows


def methods(name: str, setup: Setup, card: Card, budget: float) -> list[Cell]:
    """Every kind of training of one model."""
    known = shape(name)
    cells = []
    for kind in setups.KINDS:
        chosen = suited(of_kind(setup, kind), card)
        memory = peak(known, chosen, card)
        checkpoint = disk(known, chosen, memory, 0)["checkpoints"] / CHECKPOINTS
        rate = pace(known, chosen, card)
        cells.append(Cell(name, kind, memory, verdict(memory, budget), chosen.optim, rate, checkpoint))
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
