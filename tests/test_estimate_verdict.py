"""The verdict, the time and the advice of an estimate: each by its own definition, on figures that are made up."""

import dataclasses
from contextlib import suppress

import pytest

from core.errors import UserError
from core.estimate import advice, answer, calibration, cards, catalogue, model_names, reply, speed, step, tables, worth
from core.estimate.layer import Layer
from core.estimate.loss import Head
from core.estimate.memory import GIB, estimate
from core.estimate.setup import Setup
from core.estimate.size_autograd import Meter, Tape
from tests.conftest import raises

SHAPE = catalogue.shape("Qwen/Qwen2.5-0.5B-Instruct")
CARD = cards.card(cards.DEFAULT_CARD)
SETUP = Setup(method="lora", max_length=512)


@pytest.fixture
def told():
    return answer.ask(SHAPE, SETUP, CARD, tokens=1_000_000, epochs=2)


def borders(told) -> list[float]:
    """Budgets just below and at the two borders: the tensors alone, and what nine in ten runs reserve."""
    least = told.memory.allocated + told.memory.context
    return [least - 1, least, told.upper - 1, told.upper + 1]


def test_it_is_tight_where_the_tensors_fit_and_the_allocators_cache_does_not(told):
    assert told.upper - told.process == pytest.approx(0.08 * told.memory.reserved)
    answers = [dataclasses.replace(told, budget=budget) for budget in borders(told)]
    assert [one.verdict for one in answers] == ["no", "tight", "tight", "fits"]
    assert [answer.as_dict(one)["fits"] for one in answers] == [False, True, True, True]


def test_table_advice_diagnosis_and_answer_give_one_verdict(told):
    for budget in borders(told):
        verdict = answer.ask(SHAPE, SETUP, CARD, free=budget).verdict
        assert answer.judge(SHAPE, SETUP, CARD, budget)[1] == verdict
        kinds = {cell.kind: cell.verdict for cell in tables.methods(SHAPE.name, SETUP, CARD, budget)}
        assert kinds["lora"] == verdict


@pytest.mark.parametrize("factor", [1.0, 1.3, 2.0, 5.0])
def test_a_correction_alone_never_turns_fits_into_no(told, factor):
    budget = told.upper + 1
    assert answer.verdict(told.memory, budget, factor) == ("fits" if factor == 1 else "tight")
    assert answer.verdict(told.memory, borders(told)[1], factor) == ("tight" if factor == 1 else "no")


def test_the_reserve_is_that_of_the_kind_of_step(told):
    def reserved(**fields) -> float:
        memory = answer.peak(SHAPE, dataclasses.replace(SETUP, **fields), CARD)
        return memory.reserved / memory.allocated

    assert (reserved(method="lora"), reserved(method="qlora")) == (pytest.approx(1.02), pytest.approx(1.05))
    assert (reserved(method="full"), reserved(method="full", loss="logits")) == (1.03, pytest.approx(1.08))
    assert reserved(method="qlora", loss="held", attention="eager") == pytest.approx(1.20)


def test_the_memory_that_is_free_goes_before_what_the_card_has(told):
    assert told.budget == CARD.memory_bytes
    assert answer.ask(SHAPE, SETUP, CARD, free=1.5 * GIB).budget == 1.5 * GIB


def test_time_is_tokens_by_pace_by_epochs_and_by_what_this_machine_taught(told):
    once = 1_000_000 / told.pace.tokens_per_second
    assert (told.epoch_seconds, told.total_seconds) == (pytest.approx(once), pytest.approx(2 * once))
    taught = dataclasses.replace(told, correction=calibration.Correction(memory=1.5, seconds=3.0))
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
    single, twice, eight = pace(4), pace(4, 2), pace(4, 8)
    micro = (twice.step_seconds - twice.optimizer_seconds) / 2
    assert eight.step_seconds == pytest.approx(8 * micro + eight.optimizer_seconds)
    assert micro > single.step_seconds - single.optimizer_seconds  # gradients are added to those before
    assert eight.tokens_per_second == pytest.approx(8 * 512 / eight.step_seconds)


@pytest.mark.parametrize(
    ("fields", "bytes_moved"),
    [
        ({}, (20 + 3) * 4),  # torch's default goes over lists of tensors, operation by operation
        ({"optim": "adamw_torch_fused"}, (7 + 3) * 4),
        ({"method": "full", "autocast": False, "optim": "adamw_torch_fused"}, (7 + 3) * 2),
        ({"method": "full", "autocast": False}, (20 + 3) * 2),
    ],
)
def test_the_optimizer_moves_a_trained_number_as_often_as_its_kernels_do(fields, bytes_moved):
    setup = SETUP.changed(**fields)
    trained = estimate(SHAPE, setup).trainable
    found = speed.pace(SHAPE, setup, CARD)
    assert found.optimizer_seconds == pytest.approx(bytes_moved * trained / (speed.COPY * CARD.bandwidth))


def test_in_fp32_the_products_of_attention_take_more_of_its_time_but_never_less_than_all():
    for kernel, share in speed.ATTENTION.items():
        work = (1e12, 4, 0, kernel, 1, False)
        plain = (1e12, 4, 0, "", 1, False)
        setup = SETUP.changed(max_length=10**9)  # long enough for FlashAttention at its best
        (attends, *_), (multiplies, *_) = (speed.cost((each,), setup, CARD) for each in (work, plain))
        assert multiplies / attends == pytest.approx(min(1, share * speed.IN_SINGLE)), kernel


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
    for hub_id, entry in model_names.models().items():
        with suppress(UserError):  # what the instant answer does not cover
            shapes += [] if entry.get("adapter") else [catalogue.shape(hub_id)]
    fitting = [
        shape.parameters
        for shape in shapes
        if answer.ask(shape, Setup(max_length=512), CARD, free=budget).verdict == "fits"
    ]
    assert largest == max(fitting)


def record(model: str, card: str, ratio: float, parameters: int = 10**9, method: str = "lora", **more) -> None:
    said = {"model": model, "card": card, "attention": "sdpa", "method": method, "parameters": parameters}
    measured = {"measured_bytes": 100 * ratio, "measured_seconds": 20}
    calibration.record(**said, predicted_bytes=100, predicted_seconds=10, **measured, **more)


def corrected(model: str, card: str, parameters: int = 10**9, method: str = "lora") -> calibration.Correction:
    return calibration.correction(model, card, "sdpa", method, parameters)


def test_a_correction_comes_from_the_same_card_and_method_and_never_from_another():
    record("a", "one card", 1.1)
    record("a", "one card", 1.2)
    record("a", "another card", 4.0)
    record("a", "one card", 4.0, method="full")
    found = corrected("a", "one card")
    assert (found.memory, found.seconds, found.runs) == (pytest.approx((1.1 * 1.2) ** 0.5), pytest.approx(1.25**2), 2)
    assert [(one["model"], one["memory"], one["weight"]) for one in found.sources] == [("a", 1.1, 1.0), ("a", 1.2, 1.0)]
    assert corrected("a", "a third card") == calibration.Correction()
    assert corrected("a", "one card", method="qlora") == calibration.Correction()


def test_one_run_on_a_busy_machine_moves_little_and_many_move_all_the_way():
    for count in range(1, 5):
        record("a", "one card", 2.0)
        assert corrected("a", "one card").memory == pytest.approx(min(2.0, 1.25**count))


@pytest.mark.parametrize(("times", "part"), [(1, 1.0), (2, 0.5), (4, 0.25), (5, 0.0), (1 / 4, 0.25), (1 / 5, 0.0)])
def test_a_correction_fades_with_the_distance_of_the_sizes(times, part):
    """Half for a model of twice the size; nothing beyond four times. The part is that of the logarithm."""
    record("a", "one card", 1.05)
    found = corrected("b", "one card", int(times * 10**9))
    assert found.memory == pytest.approx(1.05**part, rel=1e-3)
    assert found.runs == (1 if part else 0)


def test_a_record_of_before_takes_its_size_from_the_catalogue():
    record(SHAPE.name, "one card", 1.1, parameters=0)
    assert corrected("b", "one card", SHAPE.parameters).memory == pytest.approx(1.1)
    record("a model that nobody knows", "another card", 1.1, parameters=0)
    assert corrected("b", "another card") == calibration.Correction()


def test_what_was_learned_is_forgotten_on_request():
    record("a", "one card", 1.1)
    record("b", "one card", 1.1, method="full")
    assert calibration.forget("one card", "sdpa", "lora") == 1
    assert [row["model"] for row in calibration.rows()] == ["b"]
    assert calibration.forget("one card", "sdpa", "lora") == 0


@pytest.mark.parametrize("ratio", [0.1, 6.0])
def test_a_figure_that_is_a_mistake_teaches_nothing(ratio):
    record("a", "one card", ratio)
    assert corrected("a", "one card").memory == 1.0


# ---------------------------------------------------------------------------------------------------------------------
# Does it pay


def plan(tokens: int, epochs: float, method: str = "lora", model: str = "Qwen/Qwen2.5-7B", card=CARD, **fields):
    return answer.ask(catalogue.shape(model), Setup(method=method, **fields), card, tokens=tokens, epochs=epochs)


def test_ten_billion_tokens_three_times_on_one_card_do_not_pay():
    found = worth.of(plan(10**10, 3), price=0.1)
    assert found.verdict == "does_not_pay"
    assert {reason.name: reason.verdict for reason in found.reasons} == {
        "memory": "worth_it", "days": "does_not_pay", "epochs": "worth_it", "tokens_per_trained": "does_not_pay"
    }  # fmt: skip
    assert found.cost == pytest.approx(0.1 * plan(10**10, 3).kilowatt_hours, abs=0.01)
    assert set(found.same_days) == {"days", "tokens", "larger", "rented"}
    assert (
        catalogue.shape(found.same_days["larger"]["model"]).parameters > catalogue.shape("Qwen/Qwen2.5-7B").parameters
    )
    assert found.same_days["rented"]["node_days"] == pytest.approx(found.same_days["rented"]["days"] / 8, abs=0.01)


PLANS = {
    "long": (10**10, 3, {}),
    "slow": (10**9, 3, {}),
    "many epochs": (10**7, 30, {}),
    "little text for all weights": (10**6, 3, {"method": "full"}),
    "too large": (10**8, 3, {"method": "full", "model": "Qwen/Qwen3-32B", "card": cards.card("RTX 3060 12GB")}),
    "a mixture that is too large": (10**7, 3, {"model": "Qwen/Qwen3-30B-A3B", "card": cards.card("RTX 4090")}),
}


@pytest.mark.parametrize(("tokens", "epochs", "fields"), PLANS.values(), ids=PLANS)
def test_the_nearest_plan_pays_by_the_same_verdict(tokens, epochs, fields):
    asked = plan(tokens, epochs, **fields)
    found = worth.of(asked)
    assert found.verdict != "worth_it"
    changed = {name: value for name, value in found.nearest.items() if name not in ("days", "verdict")}
    assert changed
    again = worth._again(asked, changed)
    assert (worth.verdict(again), again.verdict) == ("worth_it", found.nearest["verdict"])
    assert again.verdict != "no"
    assert again.shape.parameters <= asked.shape.parameters


def test_a_plan_that_pays_needs_no_other():
    found = worth.of(plan(10**8, 3))
    assert (found.verdict, found.nearest, found.same_days, found.cost) == ("worth_it", {}, {}, None)


def test_the_mosaic_says_what_the_answer_says():
    asked = plan(10**9, 3, "qlora", card=cards.card("RTX 4090"))
    rows = tables.mosaic(asked.setup, asked.card, asked.budget, tokens=asked.tokens, epochs=asked.epochs)
    assert len({tile.level for row in rows for tile in row}) == 3
    for row in rows[:4]:
        for tile in row:
            kind = tile.fields["method"]
            setup = tables.of_kind(asked.setup, kind)
            one = answer.ask(catalogue.shape(tile.fields["model"]), setup, asked.card, tokens=10**9, epochs=3)
            assert (tile.fields, tile.verdict) == (tile.fields, one.verdict)
            assert tile.seconds == pytest.approx(one.total_seconds)
    asked = plan(10**8, 1, "qlora", card=cards.card("RTX 4090"))
    assert [[tile.fields["tokens"], tile.worth] for tile in (tables.plans(asked)[0][0], tables.plans(asked)[-1][-1])] == [
        ["10M", "worth_it"], ["10B", "does_not_pay"]
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# A system prompt, mixtures, and advice


def test_a_system_prompt_trains_nothing_and_costs_context_at_every_reply():
    found = plan(10**8, 3, "prompt", max_length=4096, prompt_tokens=1000)
    shape = found.shape
    assert (found.memory.trainable, found.total_seconds, found.kilowatt_hours, found.tokens) == (0, 0, 0, 0)
    told = reply.cost(shape, found.setup, CARD)
    assert told.cache == 1000 * 2 * shape.layers * shape.kv * 2
    assert found.memory.components["cache"] == 4096 * 2 * shape.layers * shape.kv * 2
    assert found.memory.components["weights"] == 2 * shape.parameters
    longer = reply.cost(shape, found.setup.changed(prompt_tokens=2000), CARD)
    assert (longer.cache, longer.reading) == (2 * told.cache, pytest.approx(2 * told.reading))
    assert longer.seconds > told.seconds
    assert answer.as_dict(found)["reply"]["prompt_tokens"] == 1000
    with raises("PromptFillsContext"):
        plan(10**8, 3, "prompt", max_length=512, prompt_tokens=513)


def test_qlora_comes_before_a_smaller_model_and_no_step_is_useless():
    card, shape = cards.card("RTX 3060 12GB"), catalogue.shape("Qwen/Qwen2.5-7B")
    setup = Setup(method="lora", max_length=2048)
    way = advice.helpful(shape, setup, card, card.memory_bytes)
    assert [(change.name, change.after) for change in way] == [("method", "qlora")]
    hungry = Setup(method="lora", loss="logits", batch_size=8, max_length=4096, gradient_checkpointing=False)
    way = advice.helpful(shape, hungry, card, card.memory_bytes)
    assert way[-1].verdict == "fits"
    assert len({change.name for change in way}) == len(way)
    for left_out in way:
        rest = {n: v for change in way if change is not left_out for n, v in change.fields.items()}
        assert answer.ask(shape, hungry.changed(**rest), card).verdict != "fits"


def test_a_mixture_says_what_stays_in_16_bit_and_gets_no_useless_steps():
    card = cards.card("RTX 4090")
    found = plan(10**7, 3, "qlora", "Qwen/Qwen3-30B-A3B", card)
    assert advice.helpful(found.shape, found.setup, card, found.budget) == []
    told = answer.as_dict(found)["experts"]
    assert told["in_16_bit_gib"] == pytest.approx(2 * found.shape.expert_parameters / GIB, abs=0.01)
    assert (told["if_packed"], found.verdict) == ("fits", "no")
    assert told["if_packed_gib"] < 0.4 * told["in_16_bit_gib"]


def test_a_smaller_model_is_never_a_larger_one():
    shape = catalogue.shape("Qwen/Qwen2.5-0.5B-Instruct")
    name = advice.largest_model(Setup(), CARD, 90 * GIB, below=shape.parameters)
    assert catalogue.shape(name).parameters < shape.parameters


def test_pure_bf16_with_an_8_bit_optimizer_is_estimated_and_said_not_to_be_trainable():
    told = answer.as_dict(plan(10**8, 1, "full", model="meta-llama/Llama-3.1-8B"))
    pure = told["pure_bf16_8bit"]
    assert (pure["trainable_here"], pure["verdict"]) == (False, "fits")
    assert pure["process_gib"] < 0.5 * told["process_gib"]
