"""What a run is expected to take, from its TrainConfig; and the record of what it took, from which estimates learn."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields

from core import paths
from core.corpus import storage
from core.errors import UserError
from core.estimate import answer, calibration, cards, catalogue, speed
from core.estimate import setup as setups
from core.estimate.setup import Setup
from core.hardware import hardware
from core.hardware.gpu import Gpu

MAKERS = {"rocm": ("amd", "radeon", "instinct"), "xpu": ("intel",), "mps": ("apple",)}


def of_config(config: Mapping, card: cards.Card | None = None) -> dict:
    """Model, card, attention, method, and the predicted bytes (reserved; the least) and seconds of an optimizer step.

    `config` holds fields of TrainConfig (asdict of one); `card` is what it runs on, by default this
    machine's usual card, else its processor. The figures are those without any correction, so that records stay
    comparable.

    Raises:
        an error of core.estimate.errors, if the model or the setup is not one that the calculator knows.
    """
    card = card or card_of(hardware.card())
    shape = catalogue.shape(config["base_model"])
    setup = answer.suited(setup_of(config, card), card)
    setups.check(setup, shape, card)
    memory = answer.peak(shape, setup, card)
    return {
        "model": shape.name,
        "card": card.name,
        "attention": setup.attention,
        "method": setup.method,
        "parameters": shape.parameters,
        "predicted_bytes": memory.reserved,
        "predicted_least_bytes": memory.allocated + memory.context,
        "predicted_seconds": speed.pace(shape, setup, card).step_seconds,
    }


def setup_of(config: Mapping, card: cards.Card) -> Setup:
    """The setup of a TrainConfig on a card; an optimizer that the calculator does not know counts as AdamW."""
    setup = _setup(config)
    optim = setup.optim if setup.optim in setups.OPTIMIZERS else "adamw_torch"
    precision = answer.best_precision(card) if config.get("precision", "auto") == "auto" else setup.precision
    return setup.changed(optim=optim, precision=precision)


def longest_of(config: Mapping, longest: int) -> int:
    """Tokens of the longest sequence of a batch, `longest` being that of a row; packed blocks have the maximum.

    Preference pairs are laid end to end within their batch, and have no blocks.
    """
    setup = _setup(config)
    return setup.max_length if config.get("packing") and setup.task != "preference" else longest


def step_tokens(config: Mapping, longest: int) -> int:
    """Tokens of the optimizer's step that of_config() expects, where the longest row has `longest`."""
    setup = _setup(config).changed(max_length=longest_of(config, longest))
    return setup.tokens * setup.gradient_accumulation_steps


def _setup(config: Mapping) -> Setup:
    known = {field.name: config[field.name] for field in fields(Setup) if field.name in config}
    return Setup(**known, paired=not _is_judged(config.get("corpus")))


def _is_judged(corpus: str | None) -> bool:
    """Whether a corpus holds replies that were judged one by one, without pairs."""
    with suppress(UserError):
        return bool(corpus) and storage.read_card(paths.corpus_of_run(corpus)).get("kind") == "judged"
    return False


def card_of(gpu: Gpu | None) -> cards.Card:
    """A card of this machine, or its processor where there is none."""
    return cards.of_machine(gpu) if gpu else cards.processor()


def ran_on(card: cards.Card, device: str) -> bool:
    """Whether the device that a run reported, by torch's name for it, is the card of its forecast."""
    if card.kind == "cpu" or device == "cpu":
        return card.kind == "cpu" and device == "cpu"
    device, name = device.casefold(), card.name.casefold()
    if card.kind == "cuda" or device == name:
        return device == name
    # Other makes' cards are called by other names in the system than in torch: the maker and the model's number tell.
    reported, known = (set(re.findall(r"\b[a-z]*\d{3,}[a-z]*\b", words)) for words in (device, name))
    is_of_maker = any(word in device for word in MAKERS[card.kind])
    return is_of_maker and (not reported or not known or bool(reported & known))


def learn(
    forecast: Mapping, *, measured_bytes: float = 0, measured_seconds: float = 0, origin: str = calibration.RUN
) -> None:
    """Store a forecast beside what the first steps took: reserved bytes, seconds of an optimizer step."""
    measured = {"measured_bytes": measured_bytes, "measured_seconds": measured_seconds}
    calibration.record(**forecast, **measured, origin=origin)
