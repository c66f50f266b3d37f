"""The verdict, the time and the advice of an estimate: each by its own definition, on figures that are made up."""

import dataclasses
from contextlib import suppress

import pytest

from core.errors import UserError
from core.estimate import advice, answer, calibration, catalogue, speed, step
from core.estimate.layer import Layer
from core.estimate.loss import Head
from core.estimate.memory import GIB, estimate
from core.estimate.setup import Setup
from core.estimate.size_autograd import Meter, Tape

SHAPE = catalogue.shape("Qwen/Qwen2.5-0.5B-Instruct")
CARD = catalogue.card(catalogue.DEFAULT_CARD)
SETUP = Setup(method="lora", max_length=512)


@pytest.fixture
def told():
    return answer.ask(SHAPE, SETUP, CARD, tokens=1_000_000, epochs=2)


def at(told, share: float):
    """The same answer for memory that lies between what is needed and what may be: 0 the estimate, 1 its upper end."""
    return dataclasses.replace(told, budget=told.process + share * (told.upper - told.process))


def test_it_fits_from_the_upper_end_of_the_estimate_and_is_tight_from_the_estimate_on(told):
    assert told.upper - told.process == pytest.approx(0.08 * told.memory.reserved)
    verdicts = [at(told, share).verdict for share in (-0.01, 0, 0.99, 1.01)]
    assert verdicts == ["no", "tight", "tight", "fits"]
    assert [answer.as_dict(at(told, share))["fits"] for share in (-0.01, 0.5, 1.01)] == [False, True, True]


def test_the_quick_verdict_has_the_same_two_borders():
    memory = answer.quick(SHAPE, SETUP, CARD)
    upper = answer.UPPER * memory.reserved + memory.context
    budgets = (memory.process - 1, memory.process, upper - 1, upper)
    assert [answer.fits(memory, budget) for budget in budgets] == ["no", "tight", "tight", "fits"]


def test_the_memory_that_is_free_goes_before_what_the_card_has(told):
    assert told.budget == CARD.memory_bytes
    assert answer.ask(SHAPE, SETUP, CARD, free=1.5 * GIB).budget == 1.5 * GIB


def test_time_is_tokens_by_pace_by_epochs_and_by_what_this_machine_taught(told):
    once = 1_000_000 / told.pace.tokens_per_second
    assert (told.epoch_seconds, told.total_seconds) == (pytest.approx(once), pytest.approx(2 * once))
    taught = dataclasses.replace(told, correction=calibration.Correction(memory=1.5, seconds=3.0, runs=4, exact=True))
    assert taught.total_seconds == pytest.approx(6 * once)
    assert taught.process == pytest.approx(1.5 * told.memory.reserved + told.memory.context)
    assert taught.range_seconds == (pytest.approx(6 * once / 1.3), pytest.approx(6 * once * 1.3))


def test_every_layer_costs_the_same_time_and_accumulation_repeats_the_step():
    def pace(layers: int, times: int = 1) -> speed.Pace:
        setup = dataclasses.replace(SETUP, gradient_accumulation_steps=times)
        return speed.pace(dataclasses.replace(SHAPE, layers=layers), setup, CARD)

    one, two, four = (pace(layers).device_seconds for layers in (1, 2, 4))
    assert four - two == pytest.approx(2 * (two - one))
    tape = Tape(Meter())
    step.micro_step(tape, SHAPE, SETUP, [Layer(SHAPE, SETUP)], Head(SHAPE, SETUP), step.embedding_weight(SHAPE, SETUP))
    assert one == pytest.approx(speed.cost([kernel[1:] for kernel in tape.kernels], SETUP, CARD)[0])
    single, eight = pace(4), pace(4, 8)
    micro = single.step_seconds - single.optimizer_seconds
    assert eight.step_seconds == pytest.approx(8 * micro + eight.optimizer_seconds)
    assert eight.tokens_per_second == pytest.approx(8 * 512 / eight.step_seconds)


def test_the_optimizer_moves_seven_numbers_of_four_bytes_for_each_trained_weight():
    found = speed.pace(SHAPE, SETUP, CARD)
    trained = estimate(SHAPE, SETUP).trainable
    assert found.optimizer_seconds == pytest.approx(28 * trained / (speed.MEMORY * CARD.bandwidth))


def test_half_the_batch_is_made_up_for_by_accumulation():
    setup = dataclasses.replace(SETUP, batch_size=8, gradient_accumulation_steps=3)
    change = next(c for c in advice.changes(SHAPE, setup, CARD, 1 * GIB) if c.name == "batch")
    assert change.fields == {"batch_size": 4, "gradient_accumulation_steps": 6}


def test_advice_names_what_fits_first_then_what_changes_the_result_least():
    setup = Setup(method="full", max_length=2048, batch_size=8, gradient_checkpointing=False, loss="logits")
    roomy = estimate(SHAPE, setup).process
    found = advice.changes(SHAPE, setup, CARD, 0.8 * roomy)
    keys = [(change.verdict == "no", change.harm, change.slower, -change.saves) for change in found]
    assert keys == sorted(keys)
    assert len({change.verdict == "no" for change in found}) == 2
    assert [change.saves for change in found] != sorted((change.saves for change in found), reverse=True)


def test_the_largest_model_that_fits_is_the_largest():
    budget = 12 * GIB
    name = advice.largest_model(Setup(max_length=512), CARD, budget)
    largest = catalogue.shape(name).parameters
    shapes = []
    for hub_id, entry in catalogue.models().items():
        with suppress(UserError):  # what the instant answer does not cover
            shapes += [] if entry.get("adapter") else [catalogue.shape(hub_id)]
    fitting = [
        shape.parameters
        for shape in shapes
        if answer.fits(answer.quick(shape, Setup(max_length=512), CARD), budget) == "fits"
    ]
    assert largest == max(fitting)


def record(model: str, card: str, ratio: float) -> None:
    said = {"model": model, "card": card, "attention": "sdpa", "method": "lora"}
    calibration.record(
        **said, predicted_bytes=100, measured_bytes=100 * ratio, predicted_seconds=10, measured_seconds=20
    )


def test_a_correction_comes_from_the_same_model_else_from_the_same_card_and_never_from_another():
    record("a", "one card", 1.5)
    record("a", "one card", 1.7)
    record("b", "one card", 0.5)
    record("a", "another card", 4.0)
    found = calibration.correction("a", "one card", "sdpa")
    assert (found.memory, found.seconds, found.runs, found.exact) == (pytest.approx(1.6), 2.0, 2, True)
    found = calibration.correction("c", "one card", "sdpa")
    assert (found.memory, found.runs, found.exact) == (1.5, 3, False)
    assert calibration.correction("a", "a third card", "sdpa") == calibration.Correction()


@pytest.mark.parametrize("ratio", [0.1, 6.0])
def test_a_figure_that_is_a_mistake_teaches_nothing(ratio):
    record("a", "one card", ratio)
    assert calibration.correction("a", "one card", "sdpa").memory == 1.0
