"""The calculator's instant answer: shapes, sizes, refusals, and its agreement with published measurements."""

import csv
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from gguf import GGUFWriter

from core import paths
from core.errors import ErrorElsewhere, UserError
from core.estimate import __main__ as command
from core.estimate import (
    advice,
    answer,
    calibration,
    cards,
    catalogue,
    errors,
    explain,
    forecast,
    model_names,
    plan,
    setup,
    tables,
)
from core.estimate.allocator import Allocator
from core.estimate.memory import GIB, estimate
from core.estimate.setup import Setup
from core.estimate.shape import read_models
from core.estimate.size_autograd import MIB, Meter, Tape
from core.hardware import hardware
from core.training.config import TrainConfig
from tests.check_estimate import check, measurements
from tests.check_estimate.cells import Unanswerable
from tests.conftest import raises
from ui.text import ENGLISH

CARD = cards.DEFAULT_CARD
TABLE = paths.assets() / "vram_measured.csv"
FITCHECK = {  # one row of the table: Qwen2.5-1.5B, QLoRA on a T4
    "kind": "measured", "model": "Qwen/Qwen2.5-1.5B-Instruct", "method": "qlora", "quant_scheme": "bnb nf4, no double quant",
    "lora_rank": "32", "target_modules": "q_proj,k_proj,v_proj,o_proj", "optimizer": "torch AdamW fp32 (foreach)",
    "dtype": "fp16 weights, fp32 adapters, no amp, prepare_model_for_kbit_training", "seq_len": "1024",
    "micro_batch": "2", "grad_accum": "1", "grad_checkpointing": "True", "attn": "eager", "n_gpus": "1",
    "loss_impl": "hf fp32 logits, outputs held during backward", "gpu": "Tesla T4 16GB", "peak_mem_raw": "6.6783",
    "raw_unit": "GiB", "peak_mem_GiB": "6.678", "mem_kind": "max_memory_allocated", "tokens_per_s": "760.0",
    "framework": "transformers 5.0/5.17 + peft 0.19/0.20", "note": "reserved 7548 MiB",
}  # fmt: skip


def ask(model="Qwen/Qwen2.5-7B-Instruct", card=CARD, **fields):
    kind = setup.of_kind(fields.pop("method", "qlora"))
    return answer.ask(catalogue.shape(model), Setup(**kind, **fields), cards.card(card))


def test_dpo_costs_two_sequences_a_pair_and_a_pass_over_all_before_it_begins():
    one, two, three = ask(method="dpo"), ask(method="qlora", batch_size=2), ask(method="kto")
    assert one.memory == two.memory
    assert one.pace.step_seconds == pytest.approx(two.pace.step_seconds)
    assert one.epoch_seconds == pytest.approx(two.epoch_seconds)
    # Forward, recomputed, backward: the pass before it begins is a third of an epoch.
    assert one.total_seconds == pytest.approx(two.total_seconds + one.epoch_seconds / 3)
    assert "reference" in [line.key for line in explain.other(one)]
    assert three.memory == one.memory
    assert three.epoch_seconds == pytest.approx(one.epoch_seconds * 4 / 3, rel=0.01)
    assert three.reference_seconds == pytest.approx(2 * one.reference_seconds, rel=0.01)


def test_orpo_costs_what_dpo_does_but_for_the_pass_before_it_begins():
    dpo, orpo = ask(method="dpo"), ask(method="orpo")
    assert (orpo.memory, orpo.disk) == (dpo.memory, dpo.disk)
    assert orpo.epoch_seconds == dpo.epoch_seconds
    assert orpo.total_seconds == pytest.approx(dpo.total_seconds - dpo.reference_seconds)
    assert "reference" not in [line.key for line in explain.other(orpo)]


def test_every_known_parameter_count_is_met_to_the_last_digit():
    wrong = {}
    for name, entry in model_names.models().items():
        try:
            found = catalogue.shape(name).parameters
        except UserError as error:
            found = None if error.name in ("NeedsTrace", "ShapeUnknown") else error.name
        if found and entry["params_exact"] not in (None, found):
            wrong[name] = found
    assert wrong == {}


def test_a_tensor_counts_until_its_last_reference_goes():
    meter = Meter()
    first = Tape(meter).new(1000, 4)
    second = first
    del first
    assert (meter.alive, meter.peak) == (4096, 4096)
    del second
    assert (meter.alive, meter.peak) == (0, 4096)


def test_the_allocator_splits_reuses_and_joins_blocks_as_pytorch_does():
    allocator = Allocator()
    large = allocator.take(30 * MIB)
    allocator.give(large)
    first, second = allocator.take(8 * MIB), allocator.take(8 * MIB)
    assert (allocator.reserved, allocator.alive) == (30 * MIB, 16 * MIB)
    allocator.give(first)
    allocator.give(second)
    assert allocator.pools[False][0][0] == 30 * MIB
    allocator.take(100)
    assert allocator.reserved == 32 * MIB
    allocator.empty_cache()
    assert allocator.reserved == 2 * MIB


def test_of_equal_free_blocks_the_one_at_the_lowest_address_is_taken():
    allocator = Allocator()
    older, newer, newest = (allocator.take(30 * MIB) for _ in range(3))
    for block in (newer, older, newest):
        allocator.give(block)
    assert [allocator.take(30 * MIB) for _ in range(3)] == [newest, newer, older]


def test_the_answer_for_qlora_of_a_7b_stands_part_by_part():
    found = ask(max_length=2048)
    sizes = {name: round(size / GIB, 2) for name, size in found.memory.components.items()}
    assert sizes == {
        "weights": 5.17, "adapter": 0.15, "optimizer": 0.3, "gradients": 0.15, "activations": 1.08, "logits": 0.0,
        "workspace": 0.02,
    }  # fmt: skip
    assert found.memory.trainable == 40_370_176
    assert sum(found.memory.components.values()) == pytest.approx(found.memory.allocated)
    assert (found.verdict, found.memory.peak_phase) == ("fits", "backward_first")


def test_qlora_of_a_14b_is_far_from_the_edge_of_96_gib():
    assert ask("Qwen/Qwen1.5-14B", method="qlora").process < 18 * GIB


def test_whole_logits_cost_twelve_bytes_for_token_and_word():
    whole = ask(loss="logits", max_length=4096).memory
    assert whole.components["logits"] == pytest.approx(12 * 4096 * 152_064, rel=0.02)


def test_accumulation_keeps_the_gradients_of_full_training():
    shape = catalogue.shape("Qwen/Qwen2.5-1.5B")
    one, many = (
        estimate(shape, Setup(method="full", loss="logits", optim="adamw_8bit", gradient_accumulation_steps=n))
        for n in (1, 8)
    )
    assert many.allocated > one.allocated


def test_memory_grows_with_every_size():
    base = ask(max_length=1024).memory.allocated
    for fields in ({"max_length": 2048}, {"batch_size": 2}, {"lora_rank": 64}, {"gradient_checkpointing": False}):
        assert ask(**({"max_length": 1024} | fields)).memory.allocated > base


def test_the_table_of_models_has_every_method_for_each():
    card = cards.card(CARD)
    table = tables.models(Setup(max_length=900), card, card.memory_bytes)
    assert [len(row) for row in table] == [3] * len(read_models()["table"])


def test_the_command_line_answers_without_torch():
    code = "import sys, core.estimate.__main__ as m; sys.exit('torch' in sys.modules or 'gradio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent).returncode == 0


def test_a_length_that_nobody_said_is_one_that_the_model_reads(tmp_path):
    small = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
             "intermediate_size": 128, "vocab_size": 512, "max_position_embeddings": 512}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(small))
    options = command.parser().parse_args(["--model", str(tmp_path), "--gpu", CARD])
    command.run(options)
    assert options.max_length == 512
    with raises("LongerThanTheModel", match="Set max_length to 512"):
        command.run(command.parser().parse_args(["--model", str(tmp_path), "--gpu", CARD, "--max-length", "600"]))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("100M", 10**8),
        ("2.5B", 2_500_000_000),
        ("10 000", 10_000),
        ("1,000,000", 10**6),
        ("0,5M", 500_000),
        (40_000, 40_000),
        ("100М", 10**8),
        ("10 млн", 10**7),
        ("1 млрд", 10**9),
        ("1,5 млрд токенов", 1_500_000_000),
        ("сто миллионов", 10**8),
        ("полтора миллиарда", 1_500_000_000),
        ("полмиллиона", 500_000),
        ("1 млн 500 тыс.", 1_500_000),
        ("сто тысяч миллионов", 10**11),
        ("двести пятьдесят тысяч", 250_000),
        ("one hundred million", 10**8),
        ("10 million tokens", 10**7),
        ("1e8", 10**8),
        ("10^8", 10**8),
        ("1.000.000", 10**6),
        ("~100M", 10**8),
        ("100Mtok", 10**8),
        ("10кк", 10**7),
        ("hundred million", 10**8),
        ("сотня миллионов", 10**8),
        ("три с половиной миллиарда", 3_500_000_000),
        ("½ млрд", 500_000_000),
    ],
)
def test_counts_are_read_as_people_write_them(text, value):
    assert setup.count(text) == value


@pytest.mark.parametrize(("text", "value"), [("1,5", 1.5), ("три", 3), ("полтора", 1.5), ("20 %", 20), (0.5, 0.5)])
def test_numbers_are_read_in_words_and_as_per_cent(text, value):
    assert setup.number(text, "epochs") == value


@pytest.mark.parametrize("text", [-5, "-0,1", "inf"])
def test_a_price_below_nothing_is_refused(text):
    with pytest.raises(errors.OutOfRange, match=r"Try 0\.3"):
        setup.price(text)
    assert (setup.price(None), setup.price("6,5")) == (0, 6.5)


@pytest.mark.parametrize(
    ("text", "trouble", "words"),
    [
        ("0", "TooSmall", "Try 10M"),
        ("-5", "TooSmall", "at least 1, got -5"),
        ("many", errors.NotAnAmount, 'such as 100M, 2.5B, 40000, got "many"'),
        ("nan", errors.NotAnAmount, "got"),
        ("1e30", errors.NotAnAmount, "got"),
        ("100т", errors.NotAnAmount, "got"),  # thousands or trillions
        ("10 ГБ", errors.NotAnAmount, "got"),
        ("1 2", errors.NotAnAmount, "got"),
        ("2.5", "NotWhole", "Try 2"),
        ("", errors.NotAnAmount, "got"),
    ],
)
def test_a_count_that_is_none_is_refused_with_what_to_write(text, trouble, words):
    with raises(trouble, match=words):
        setup.count(text)


@pytest.mark.parametrize(
    ("fields", "trouble", "words"),
    [
        ({"model": "Qwen/Qwen2.5-7B-Instrct"}, "UnknownModel", "Qwen/Qwen2.5-7B"),
        ({"model": "Saiga 1.3B"}, "NoSuchModel", "never published"),
        ({"model": ""}, "UnknownModel", "nearest"),
        ({"model": "openai/gpt-oss-20b"}, errors.NeedsTrace, "Check exactly"),
        ({"card": "RTX 9090"}, "UnknownCard", "RTX 5090"),
        ({"max_length": 999_999}, "LongerThanTheModel", "Set max_length to 131072 or less"),
        ({"max_length": 0}, "TooSmall", "Try 512"),
        ({"card": "T4", "precision": "bf16"}, "NoBf16OnCard", "Choose fp16"),
        (
            {"card": "T4", "precision": "fp16", "attention": "flash_attention_2"},
            "NoFlashAttention",
            "Choose sdpa",
        ),
        ({"method": "ppo"}, "NotOneOf", "full, lora, qlora, dpo, kto, orpo, cpt, prompt"),
        ({"target_modules": "q_prj"}, "UnknownTargets", "It has q_proj"),
        ({"lora_rank": 100_000}, "RankTooLarge", "Take 3584 or less"),
        ({"lora_dropout": 1.0}, errors.OutOfRange, "0 ≤ x < 1"),
        ({"labelled": 2.0}, errors.OutOfRange, "Try 1"),
        ({"model": str(Path(__file__).parent)}, "NoConfig", "config.json"),
    ],
)
def test_a_question_without_an_answer_is_refused_with_the_nearest_right_thing(fields, trouble, words):
    with raises(trouble, match=words):
        ask(**fields)


@pytest.mark.parametrize(
    ("fields", "words"), [({"attention": "flash_attention_2"}, "Choose sdpa"), ({"precision": "fp16"}, "Choose fp32")]
)
def test_a_processor_is_not_asked_for_what_only_cards_have(fields, words):
    with raises("NotOnProcessor", match=words):
        answer.ask(catalogue.shape("starter"), Setup(**fields), cards.processor(2, 8 * GIB))


def test_four_bit_full_fine_tuning_is_refused():
    with raises("NoFourBitFull", match="Choose qlora"):
        command.question(command.parser().parse_args(["--method", "full", "--load-in-4bit"]))


def test_a_folder_with_a_config_is_enough(tmp_path):
    config = catalogue.config_of(model_names.find("Qwen/Qwen3-8B"))
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert catalogue.shape(str(tmp_path)).parameters == 8_190_735_360


def test_the_header_of_a_gguf_file_is_enough(tmp_path):
    writer = GGUFWriter(tmp_path / "small.gguf", "llama")
    writer.add_block_count(30)
    writer.add_embedding_length(576)
    writer.add_feed_forward_length(1536)
    writer.add_head_count(9)
    writer.add_head_count_kv(3)
    writer.add_context_length(8192)
    writer.add_token_list([str(i) for i in range(49152)])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert catalogue.shape(str(tmp_path / "small.gguf")).parameters == 134_515_008


def test_a_file_that_only_says_it_is_gguf_is_refused(tmp_path):
    (tmp_path / "broken.gguf").write_bytes(b"GGUF\x03\x00")
    with pytest.raises(ErrorElsewhere, match=r"broken\.gguf could not be read as a GGUF model") as refused:
        catalogue.shape(str(tmp_path / "broken.gguf"))
    assert refused.value.name == "GgufUnreadable"


def test_fp32_weights_under_autocast_take_sixteen_bytes_a_parameter():
    shape = catalogue.shape("Qwen/Qwen2.5-1.5B")
    found = estimate(shape, Setup(method="full", weight_width=4, gradient_accumulation_steps=2, max_length=64))
    parts = found.components
    assert (parts["weights"], parts["optimizer"]) == (4 * shape.parameters, 8 * shape.parameters)


@pytest.mark.parametrize(
    ("config", "trouble", "words"),
    [
        ({"model_type": "llamma"}, errors.UnknownArchitecture, "llama"),
        ({"model_type": "llama", "hidden_size": "64"}, "WrongInConfig", 'hidden_size: "64"'),
        ({}, errors.UnknownArchitecture, "The nearest that it knows"),
        ([], errors.NotAnObject, "holds a list"),
    ],
)
def test_a_config_that_is_not_understood_is_refused_in_words(tmp_path, config, trouble, words):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with raises(trouble, match=words):
        catalogue.shape(str(tmp_path))


def test_cards_are_found_by_what_people_call_them():
    said = ("RTX PRO 6000", "4090", "a100 80", "A100-SXM4-80GB", "Tesla T4 16GB", "NVIDIA L40S")
    assert [cards.card(name).name for name in said] == [
        "NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "NVIDIA GeForce RTX 4090", "NVIDIA A100 80GB SXM",
        "NVIDIA A100 80GB SXM", "NVIDIA T4", "NVIDIA L40S",
    ]  # fmt: skip


def test_advice_leads_to_a_setup_that_fits():
    shape, card = catalogue.shape("Qwen/Qwen2.5-7B"), cards.card("4090")
    hungry = Setup(method="lora", loss="logits", batch_size=8, max_length=4096)
    way = advice.way_to_fit(shape, hungry, card, card.memory_bytes)
    assert (way[0].name, way[-1].verdict) == ("loss", "fits")
    for change in way:
        hungry = hungry.changed(**change.fields)
    assert answer.ask(shape, hungry, card).verdict == "fits"


def test_the_largest_that_fits_fits_and_a_longer_one_does_not():
    shape, card = catalogue.shape("Qwen/Qwen2.5-7B"), cards.card("RTX 3060 12GB")
    longest = advice.largest(shape, Setup(), card, card.memory_bytes)["max_length"]
    fits = [answer.ask(shape, Setup(max_length=n), card).verdict for n in (longest, 2 * longest)]
    assert fits[0] == "fits"
    assert fits[1] != "fits"


def test_runs_on_this_machine_correct_the_next_estimate():
    assert ask().correction.runs == 0
    for measured in (1.1e9, 1.2e9, 1.3e9):
        calibration.record(
            model="Qwen/Qwen2.5-7B", card=CARD, attention="sdpa", method="qlora", predicted_bytes=1e9,
            measured_bytes=measured, predicted_seconds=2, measured_seconds=3,
        )  # fmt: skip
    found = ask()
    assert (found.correction.memory, found.correction.seconds, found.correction.runs) == (1.2, 1.5, 3)
    assert found.process == pytest.approx(1.2 * found.memory.reserved + found.memory.context)


def test_a_run_is_forecast_from_its_config_and_learned_from():
    config = dataclasses.asdict(TrainConfig(base_model="starter", corpus="poems", method="lora"))
    card = hardware.Gpu("NVIDIA GeForce RTX 4090", 24 * GIB, 23 * GIB, 8.9, 450.0)
    found = forecast.of_config(config, forecast.card_of(card))
    assert (found["model"], found["card"]) == ("HuggingFaceTB/SmolLM2-135M", "NVIDIA GeForce RTX 4090")
    assert 2 * GIB < found["predicted_bytes"] < 5 * GIB
    forecast.learn(found, measured_bytes=1.5 * found["predicted_bytes"])
    known = {name: found[name] for name in ("model", "card", "attention", "method", "parameters")}
    assert calibration.correction(**known).memory == pytest.approx(calibration.FAR)  # one run alone
    for _ in range(2):
        forecast.learn(found, measured_bytes=1.5 * found["predicted_bytes"])
    assert calibration.correction(**known).memory == pytest.approx(1.5)


def test_a_record_that_was_cut_off_is_passed_over():
    calibration.file().parent.mkdir(parents=True)
    calibration.file().write_text('{"model": "a", "card": "b"}\n{"model": "a", "ca', encoding="utf-8")
    assert [row["model"] for row in calibration.rows()] == ["a"]


def test_all_weights_are_trained_as_fp32_masters_by_our_own_recipe():
    """A step of 2e-5 is lost in the rounding of most bf16 weights; pure 16 bit is only what others measured."""
    shape, card = catalogue.shape("Qwen/Qwen2.5-7B"), cards.card("H100")
    memory = answer.ask(shape, Setup(method="full"), card).memory
    adam = sum(memory.components[name] for name in ("weights", "optimizer")) / shape.parameters
    assert adam == pytest.approx(12)
    pure = answer.ask(shape, Setup(method="full", autocast=False), card).memory
    assert sum(pure.components[name] for name in ("weights", "optimizer")) / shape.parameters == pytest.approx(6)


def test_every_number_has_a_formula_and_a_source():
    for method in setup.KINDS:
        for line in [*explain.memory(ask(method=method)), *explain.other(ask(method=method))]:
            assert line.formula
            assert f"calculator.part.{line.key}" in ENGLISH
            assert f"calculator.source.{line.source}" in ENGLISH


def worked_out(formula: str) -> float | None:
    """The number that a formula of explain.py amounts to; None for a sum over kernels and for a range."""
    if "Σ" in formula or "…" in formula:
        return None
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", formula).removeprefix("≤ ")
    if re.fullmatch(r"[\d.]+( [+−] [\d.]+)+ GiB", plain):  # the unit of all of them
        plain = f"({plain.removesuffix(' GiB')}) GiB"
    for sign, operator in (("×", "*"), ("−", "-"), ("³", "**3"), ("^", "**"), (" GiB", "*2**30"), (" MiB", "*2**20")):
        plain = plain.replace(sign, operator)
    for sign, operator in (
        (" µs", "*1e-6"),
        (" B", ""),
        (" h", "*3600"),
        (" W", "/3.6e6"),
        (" TFLOP/s", "*1e12"),
        (" s", ""),
    ):
        plain = plain.replace(sign, operator)
    return eval(plain)


@pytest.mark.parametrize(
    "fields", [{}, {"loss": "logits", "batch_size": 4}, {"train_embeddings": True}, {"loss": "fused"}]
)
@pytest.mark.parametrize("method", setup.KINDS)
def test_a_formula_amounts_to_the_number_that_it_explains(method, fields):
    found = ask("Qwen/Qwen3-4B", method=method, **fields)
    for line in [*explain.memory(found), *explain.other(found)]:
        value = worked_out(line.formula)
        if line.formula.startswith("≤"):
            assert value >= 0.99 * line.value
        elif value is not None:
            assert (line.key, value) == (line.key, pytest.approx(line.value, rel=0.011))


def test_trained_embeddings_are_copies_in_fp32_and_tied_ones_stay_one():
    tied, untied = (catalogue.shape(f"Qwen/Qwen2.5-{size}") for size in ("1.5B", "7B"))
    for shape, copies in ((tied, 1), (untied, 2)):
        plain, trained = (estimate(shape, Setup(train_embeddings=on)) for on in (False, True))
        assert trained.trainable - plain.trainable == copies * shape.embedding
        assert trained.components["optimizer"] - plain.components["optimizer"] == 8 * copies * shape.embedding


def test_tiny_models_wait_for_python_on_a_processor_too():
    cpu = cards.processor(1, 8 * GIB)
    tiny = dataclasses.replace(
        catalogue.shape("HuggingFaceTB/SmolLM2-135M"), hidden=64, inner=128, head_dim=8, vocabulary=256
    )
    found = answer.ask(tiny, Setup(method="lora", precision="fp32", max_length=32), cpu)
    assert found.pace.launch_seconds > 2 * found.pace.device_seconds
    assert found.pace.step_seconds > 8 * (found.pace.launch_seconds + found.pace.device_seconds)


@pytest.mark.parametrize(
    ("kind", "fields", "trouble"),
    [
        ("models", {"precision": "bf16"}, "NoBf16OnCard"),
        ("methods", {"precision": "fp16", "method": "dpo"}, "NotOneOf"),
        ("volumes", {"precision": "fp16", "max_length": 10**7}, "LongerThanTheModel"),
        ("models", {"precision": "fp16", "batch_size": 0}, "TooSmall"),
    ],
)
def test_a_table_is_refused_like_any_other_question(kind, fields, trouble):
    with raises(trouble):
        tables.check(kind, "Qwen/Qwen3-8B", Setup(**fields), cards.card("T4"))


def test_the_table_of_methods_says_what_the_answer_says():
    card = cards.card(CARD)
    row = {cell.kind: cell for cell in tables.methods("Qwen/Qwen2.5-7B-Instruct", Setup(), card, card.memory_bytes)}
    assert row["qlora"].memory.process == pytest.approx(ask().process)
    assert row["lora"].checkpoint == 12 * row["lora"].memory.trainable


def test_the_plan_is_a_config_of_the_recipe(tmp_path):
    config = plan.config_fields(ask(), "Qwen/Qwen2.5-7B-Instruct")
    made = TrainConfig(corpus="poems", **config)
    assert (made.method, made.max_length, made.lora_alpha, made.eval_steps) == ("qlora", 2048, 32, 183)
    assert plan.pack(config, tmp_path / "train.zip").stat().st_size > 5000


def test_a_row_becomes_a_setup_and_is_predicted_to_a_percent():
    row = measurements.understand(FITCHECK)
    assert (row.kind, row.setup.loss, row.setup.kbit_prepare, row.setup.autocast) == ("allocated", "held", True, False)
    assert check.predicted(row) == pytest.approx(row.measured, rel=0.01)


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"n_gpus": "2"}, "several GPUs"),
        ({"seq_len": ""}, "seq_len is not given"),
        ({"micro_batch": "many"}, 'micro_batch is "many"'),
        ({"kind": "estimate"}, "an estimate, not a measurement"),
        ({"model": "nobody/knows-7B"}, "the model is not in the catalogue"),
        ({"peak_mem_GiB": "6.678", "peak_mem_raw": "9.9", "tokens_per_s": ""}, "the unit is not clear"),
        ({"framework": "unsloth"}, "Unsloth's own kernels"),
        ({"target_modules": "banana"}, "target modules banana"),
        ({"gpu": "2x RTX 3090"}, "several GPUs"),
        ({"mem_kind": "max_memory_reserved, sum over GPUs", "tokens_per_s": ""}, "a total over several cards"),
        ({"grad_checkpointing": "selective"}, 'grad_checkpointing is "selective"'),
        ({"attn": "ring attention"}, "ring attention"),
        ({"quant_bits": "8"}, "8 bits"),
        ({"optimizer": "Lion 8bit"}, "lion 8bit"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(cells, reason):
    with pytest.raises(measurements.LeftOut, match=reason):
        measurements.understand(FITCHECK | cells)


@pytest.mark.parametrize(
    ("cells", "is_answerable"),
    [
        ({"kind": "kernel"}, False),
        ({"seq_len": ""}, False),
        ({"framework": "PEFT bench torch 2.7.1"}, False),
        ({"framework": "ms-swift 2.x", "mem_kind": "max_memory_reserved"}, False),
        ({"framework": "ms-swift 2.x"}, True),
        ({"framework": "unsloth"}, True),
        ({"n_gpus": "2"}, True),
        ({"n_gpus": "2", "micro_batch": ""}, False),  # whatever else is not modelled
        ({"framework": "litgpt 2024", "method": "qlora"}, False),  # keeps what the batch before left
        ({"framework": "litgpt 2024", "method": "lora"}, True),  # with checkpoints
    ],
)
def test_what_a_row_does_not_say_is_told_from_what_is_not_modelled(cells, is_answerable):
    with pytest.raises(measurements.LeftOut) as caught:
        measurements.understand(FITCHECK | cells)
    assert isinstance(caught.value, Unanswerable) != is_answerable


LITGPT = {
    "quant_bits": "16", "quant_scheme": "None", "lora_rank": "8", "target_modules": "query,value", "dtype": "bf16-true",
    "attn": "torch sdpa", "grad_checkpointing": "False", "framework": "litgpt 2023-10", "peak_mem_GiB": "",
    "raw_unit": "GB", "loss_impl": "litgpt chunked_cross_entropy (128)", "gpu": "A100-SXM4-40GB",
    "note": "seq_len = longest Alpaca sample",
}  # fmt: skip


@pytest.mark.parametrize(
    ("cells", "within"),
    [  # rows of its table: v of heads of their own is a view, LayerNorm, an input kept for products in 4 bit
        ({"model": "Llama 2 7B", "method": "lora", "seq_len": "1304", "peak_mem_raw": "29.07"}, 0.002),
        ({"model": "StableLM Alpha 3B", "method": "lora", "seq_len": "1034", "peak_mem_raw": "12.10"}, 0.004),
        ({"model": "StableLM Alpha 3B", "method": "qlora", "seq_len": "1034", "peak_mem_raw": "6.19",
          "micro_batch": "1", "quant_bits": "4", "quant_scheme": "bnb.nf4-dq"}, 0.005),
    ],
)  # fmt: skip
def test_a_step_of_litgpt_is_predicted_to_half_a_percent(cells, within):
    row = measurements.understand(FITCHECK | LITGPT | {"micro_batch": "2"} | cells)
    assert check.predicted(row) == pytest.approx(row.measured, rel=within)


def test_less_memory_than_what_a_row_names_takes_is_its_mistake():
    cells = {"model": "Llama 2 7B", "method": "full", "seq_len": "512", "peak_mem_raw": "20.1"}
    with pytest.raises(Unanswerable, match="less memory than the weights"):
        measurements.understand(FITCHECK | LITGPT | cells)


def test_a_figure_that_is_too_coarse_is_no_fault_of_the_stack(tmp_path):
    table = tmp_path / "table.csv"
    cells = FITCHECK | {"framework": "LLaMA-Factory Unsloth", "peak_mem_raw": "7", "raw_unit": "GB", "peak_mem_GiB": ""}
    with table.open("w", newline="") as out:
        writer = csv.DictWriter(out, cells)
        writer.writeheader()
        writer.writerow(cells)
    found = check.check(table, trace=False).as_dict()
    assert found["instant"]["reasons"] == {"rounded too coarsely to compare": 1}
    assert (found["instant"]["unanswerable"], found["time"]["not_modelled"]) == (1, 1)


def test_units_and_blank_cells_are_read():
    row = measurements.understand(
        FITCHECK | {"peak_mem_GiB": "", "peak_mem_raw": "6838.6", "raw_unit": "MiB", "n_gpus": ""}
    )
    assert row.measured == pytest.approx(6.678 * GIB, rel=1e-3)


@pytest.mark.parametrize(
    "cells",
    [
        {"kind": "Measured", "method": "QLoRA", "grad_checkpointing": "yes", "n_gpus": "1.0", "seq_len": "1,024"},
        {"method": "lora", "quant_bits": "4", "grad_checkpointing": "1", "lora_rank": "r=32", "seq_len": "1k"},
        {"target_modules": "['q_proj', 'k_proj', 'v_proj', 'o_proj']", "gpu": "NVIDIA T4", "attn": "Eager"},
        {"target_modules": "attention", "micro_batch": "2.0", "grad_accum": "", "optimizer": "AdamW"},
        {"target_modules": "qkvo (32)", "framework": "HF PEFT", "loss_impl": "outputs held, fp32 logits"},
        {"dtype": "float16, adapters fp32, no autocast, kbit", "quant_scheme": "NF4 (no double quantisation)"},
        {"peak_mem_GiB": "", "peak_mem_raw": "7170.6", "raw_unit": "MB", "optimizer": "torch.optim.AdamW"},
        {"peak_mem_GiB": "6,68", "peak_mem_raw": "", "model": "qwen2.5-1.5b-instruct", "grad_checkpointing": "True (non-reentrant)"},
    ],
)  # fmt: skip
def test_another_spelling_of_a_row_is_the_same_question(cells):
    plain, other = measurements.understand(FITCHECK), measurements.understand(FITCHECK | cells)
    assert (other.setup, other.kind, other.card, other.stack) == (plain.setup, plain.kind, plain.card, plain.stack)
    assert other.measured == pytest.approx(plain.measured, rel=1e-3)


def test_a_table_may_have_other_separators_and_capitals(tmp_path):
    table = "Model;Method;Seq Len;Micro Batch;Peak_Mem_GiB\nQwen/Qwen3-8B;lora;1024;2;20,5\n"
    (tmp_path / "table.csv").write_text(table, encoding="utf-8-sig")
    assert measurements.read(tmp_path / "table.csv") == [
        {"model": "Qwen/Qwen3-8B", "method": "lora", "seq_len": "1024", "micro_batch": "2", "peak_mem_GiB": "20,5"}
    ]


def test_the_instant_answer_and_the_time_meet_the_published_measurements():
    found = check.check(TABLE, trace=False).as_dict()
    instant, pace = found["instant"], found["time"]
    assert instant["rows"] >= 100
    assert (instant["median"] < 0.01, instant["p90"] < 0.05) == (True, True)
    assert pace["rows"] >= 70
    assert (pace["median"] < 0.05, pace["p90"] < 0.12) == (True, True)
    assert instant["rows"] + instant["left_out"] == 453
    assert instant["unanswerable"] + instant["not_modelled"] == instant["left_out"]
    assert instant["not_modelled"] < instant["rows"]  # of the rows that can be answered, more than half are
    assert found["rivals"]["accelerate estimate-memory"]["median"] > 0.5


def test_the_verdict_is_right_for_every_published_run_of_which_it_is_known_whether_it_ran():
    """Full trainings that ran on 80 GB were a "no" before the allocator's cache counted as what can be given back."""
    table = Path(check.__file__).with_name("fit_limits.csv")
    found = check.check(table, trace=False).as_dict()
    said = found["verdict"]
    assert (said["wrong"], said["rows"]) == ([], len(measurements.read(table)))
    assert said["right"] >= 18
    assert said["right"] + said["tight"] == said["rows"]
    assert (found["instant"]["median"] < 0.01, found["instant"]["p90"] < 0.06) == (True, True)
    assert (found["time"]["median"] < 0.05, found["time"]["p90"] < 0.10) == (True, True)
    assert found["time"]["left_out"] <= found["time"]["rows"]


@pytest.mark.parametrize(
    ("text", "ran"),
    [
        ("yes", "yes"),
        ("True", "yes"),
        ("OOM", "no"),
        ("out of memory", "no"),
        ("0", "no"),
        ("longest", "longest"),
        ("", ""),
    ],
)
def test_whether_a_row_ran_is_read_however_it_is_said(text, ran):
    assert measurements.understand(FITCHECK | {"fits": text}).ran == ran


def test_a_verdict_that_is_the_opposite_is_counted_as_wrong():
    rows = [measurements.understand(FITCHECK | {"fits": text, "gpu": gpu}) for text, gpu in (
        ("yes", "80 GB card"), ("no", "80 GB card"), ("yes", "4 GB card"), ("no", "4 GB card"), ("yes", "8 GB card"),
    )]  # fmt: skip
    said = check.Verdicts()
    for row in rows:
        said.add(row)
    assert (said.rows, said.right + said.tight) == (5, 3)
    assert [(wrong["ran"], wrong["verdict"]) for wrong in said.wrong] == [("no", "fits"), ("yes", "no")]


@pytest.mark.parametrize(
    ("version", "loss", "bytes_a_logit"),
    [("4.44.2", "floated", 12), ("4.48.1", "shifted", 14), ("4.57.1", "logits", 12)],
)
def test_the_stock_loss_of_old_transformers_copies_the_shifted_logits(version, loss, bytes_a_logit):
    cells = {"loss_impl": "hf fp32 logits", "framework": f"HF Trainer, transformers {version}"}
    row = measurements.understand(FITCHECK | cells)
    assert row.setup.loss == loss
    plain = Setup(method="lora", loss=loss, max_length=4096, gradient_accumulation_steps=1)
    shape = catalogue.shape("Qwen/Qwen2.5-0.5B")
    peak = max(estimate(shape, plain).phases[phase] for phase in ("loss", "loss_backward"))
    fused = max(estimate(shape, plain.changed(loss="half")).phases[phase] for phase in ("loss", "loss_backward"))
    assert (peak - fused) / (shape.vocabulary * 4096) == pytest.approx(bytes_a_logit - 6, abs=0.2)


def test_dropout_comes_from_its_column_or_from_the_note():
    said = ({"lora_dropout": "0.1"}, {"note": "lora_dropout 0.1; packed"}, {"lora_dropout": "0,1"}, {})
    assert [measurements.understand(FITCHECK | cells).setup.lora_dropout for cells in said] == [0.1, 0.1, 0.1, 0.0]
    with pytest.raises(measurements.LeftOut, match="lora_dropout is much"):
        measurements.understand(FITCHECK | {"lora_dropout": "much"})


def test_a_table_without_its_columns_is_refused(tmp_path):
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    with pytest.raises(measurements.TableUnreadable, match="model, method, seq_len, micro_batch"):
        check.check(tmp_path / "table.csv")


def test_the_command_line_prints_one_object_or_one_sentence():
    def run(*words):
        command = [sys.executable, "-m", "core.estimate", "--json", *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
        return done.returncode, json.loads(done.stdout)

    code, found = run(
        "--model", "Qwen/Qwen2.5-7B-Instruct", "--method", "qlora", "--gpu", "RTX PRO 6000", "--tokens", "100M"
    )
    assert code == 0
    assert (found["fits"], found["tokens"], found["epochs"]) == (True, 100_000_000, 3.0)
    code, found = run("--tokens", "100т")
    assert (code, found["error"]) == (2, "NotAnAmount")


def test_lists_are_printed_as_tables():
    rows = [{"tokens": 10_000_000, "seconds": {"lora": 2563.7, "full": 0.25}}, {"tokens": 5, "note": "none"}]
    assert command.as_text({"volumes": rows}).split("\n") == [
        "volumes:",
        "      tokens  seconds lora  seconds full  note",
        "  10,000,000         2,564          0.25",
        "           5                              none",
    ]
