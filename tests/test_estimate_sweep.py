"""Random questions to the calculator: each is answered or refused in words, and more of anything never takes less."""

import dataclasses
import os
import random

import pytest

from core.errors import UserError
from core.estimate import answer, cards, catalogue, model_names
from core.estimate.setup import CHOICES, KINDS, OPTIMIZERS, Setup, of_kind

MODELS, CARDS = tuple(model_names.models()), tuple(cards.cards().values())
PART = 50  # seeds of a test
QUESTIONS = int(os.environ.get("SWEEP_QUESTIONS", "1000"))  # of the slow tests; 5,000 take two minutes
EQUAL = 1e-9  # sums of floats in another order


def question(seed: int) -> tuple[str, cards.Card, Setup]:
    """A model, a card and a setup; not every combination makes sense."""
    pick = random.Random(seed)
    card = pick.choice(CARDS)
    setup = Setup(
        **of_kind(pick.choice(KINDS)),
        max_length=pick.choice((64, 100, 333, 512, 1024, 2048, 3000, 4096, 8192)),
        batch_size=pick.randint(1, 16),
        gradient_accumulation_steps=pick.choice((1, 2, 8)),
        lora_rank=pick.choice((1, 4, 8, 16, 64, 256)),
        lora_dropout=pick.choice((0, 0.05)),
        optim=pick.choice(tuple(OPTIMIZERS)),
        train_embeddings=pick.random() < 0.2,
        gradient_checkpointing=pick.random() < 0.8,
        attention=pick.choice(CHOICES["attention"]),
        loss=pick.choice(CHOICES["loss"]),
        precision=answer.best_precision(card) if pick.random() < 0.8 else pick.choice(CHOICES["precision"]),
        prompt_tokens=50,
        labelled=pick.choice((1, 0.3)),
        use_liger_kernel=pick.random() < 0.3,
        packed_experts=pick.random() < 0.3,
        kbit_prepare=pick.random() < 0.2,
        double_quant=pick.random() < 0.8,
    )
    return pick.choice(MODELS), card, setup


def larger(shape, setup: Setup) -> dict:
    """The same question with more of one thing: (shape, setup) by its name."""
    longer = setup.max_length * 2
    more = {"max_length": min(longer, shape.longest or longer), "batch_size": setup.batch_size + 1}
    if setup.adapts:
        more["lora_rank"] = min(shape.hidden, 2 * setup.lora_rank)
    changed = {name: (shape, setup.changed(**{name: value})) for name, value in more.items()}
    return changed | {"layers": (dataclasses.replace(shape, layers=shape.layers + 1), setup)}


def parts(count: int) -> list:
    return [pytest.param(first, id=f"{first}…") for first in range(0, count, PART)]


def ask_all(first: int) -> None:
    for seed in range(first, first + PART):
        model, card, setup = question(seed)
        try:
            shape = catalogue.shape(model)
            told = answer.ask(shape, setup, card)
        except UserError:
            continue
        for name, (other, with_more) in larger(shape, setup).items():
            more = answer.ask(other, with_more, card)
            for figure in ("process", "upper"):
                assert getattr(more, figure) >= getattr(told, figure) * (1 - EQUAL), (seed, name, figure)
            assert more.memory.allocated >= told.memory.allocated * (1 - EQUAL), (seed, name)
            assert more.pace.step_seconds >= told.pace.step_seconds * (1 - EQUAL), (seed, name)


@pytest.mark.parametrize("first", parts(100))
def test_more_of_anything_takes_no_less_memory_and_time(first):
    ask_all(first)


@pytest.mark.slow
@pytest.mark.parametrize("first", parts(QUESTIONS)[2:])
def test_many_random_questions_have_no_exception_and_no_dip(first):
    ask_all(first)
