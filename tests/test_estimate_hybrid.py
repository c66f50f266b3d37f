"""Hybrids, three of whose four layers have linear attention: the instant answer, the trace, and what it leaves out."""

import pytest

from core.estimate import answer, cards, catalogue, tables
from core.estimate.memory import estimate
from core.estimate.setup import Setup
from core.estimate.shape import from_config
from ui import calculator_html
from ui.text import Say

SMALL = {
    "model_type": "qwen3_5_text", "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 2,
    "head_dim": 128, "hidden_size": 1024, "intermediate_size": 3584, "vocab_size": 32000, "tie_word_embeddings": False,
    "linear_num_key_heads": 8, "linear_num_value_heads": 16, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
}  # fmt: skip
LARGE, MIXTURE = "Qwen/Qwen3.5-9B", "Qwen/Qwen3.5-35B-A3B"
# MiB that the trace allocates, of the real modules of transformers 5.24.
TRACED = [
    ("small", 407.4, {"method": "qlora", "max_length": 512}),
    ("small", 549.0, {"method": "qlora", "max_length": 1024}),
    ("small", 627.9, {"method": "lora", "max_length": 512}),
    ("small", 611.9, {"method": "lora", "max_length": 500, "lora_dropout": 0.0}),
    ("small", 1066.4, {"method": "lora", "max_length": 512, "precision": "fp32"}),
    ("small", 1371.9, {"method": "lora", "max_length": 512, "gradient_checkpointing": False}),
    ("small", 1276.7, {"method": "full", "autocast": False, "optim": "adamw_8bit", "gradient_accumulation_steps": 1}),
    ("small", 1041.4, {"batch_size": 2, "gradient_accumulation_steps": 1, "loss": "logits", "max_length": 1024}),
    (LARGE, 8497.9, {"method": "qlora", "max_length": 512}),
    (LARGE, 9820.2, {"method": "qlora", "max_length": 2048}),
    (LARGE, 18260.1, {"method": "lora", "max_length": 512}),
    (MIXTURE, 64722.6, {"method": "qlora", "max_length": 256}),
]


def shape_of(name: str):
    return from_config(SMALL, "small") if name == "small" else catalogue.shape(name)


@pytest.mark.parametrize(("name", "mebibytes", "fields"), TRACED)
def test_the_instant_answer_for_a_hybrid_is_that_of_the_trace(name, mebibytes, fields):
    found = estimate(shape_of(name), Setup(**{"max_length": 512} | fields)).allocated / 2**20
    assert found == pytest.approx(mebibytes, rel=0.015)


def test_a_hybrid_has_a_verdict_a_time_and_a_row_of_tiles():
    card = cards.card("4090")
    found = answer.ask(catalogue.shape(LARGE), Setup(method="qlora"), card)
    dense = answer.ask(catalogue.shape("Qwen/Qwen3-8B"), Setup(method="qlora"), card)
    assert found.verdict == "fits"
    assert found.total_seconds > dense.total_seconds  # the scan starts kernels by the thousand
    [tiles] = tables.mosaic(Setup(), card, card.memory_bytes, tokens=10**7, epochs=3, model=LARGE)[:1]
    assert [tile.verdict for tile in tiles] == ["no", "fits", "fits", "fits"]


@pytest.mark.parametrize(("lang", "words"), [("en", "24 of 32 layers have linear"), ("ru", "вниманием: 24 из 32")])
def test_the_page_says_whose_code_the_figures_are_of(lang, words):
    card = cards.card("4090")
    found, dense = (answer.ask(catalogue.shape(name), Setup(), card) for name in (LARGE, "Qwen/Qwen3-8B"))
    assert words in calculator_html.verdict(Say(lang), found)
    assert "flash-linear-attention" not in calculator_html.verdict(Say(lang), dense)


def test_layers_are_counted_by_name_or_by_every_so_many():
    by_every = shape_of("small")
    kinds = ["linear_attention"] * 5 + ["full_attention"] * 3
    assert by_every.kinds == {"linear_attention": 6, "full_attention": 2}
    assert from_config(SMALL | {"layer_types": kinds}, "x").kinds == {"linear_attention": 5, "full_attention": 3}
    assert from_config(SMALL | {"full_attention_interval": 2}, "x").linear_layers == 4


def test_keys_and_values_are_kept_by_the_layers_of_softmax_attention_alone():
    shape = shape_of("small")
    told = answer.ask(shape, Setup(method="prompt", max_length=1000, prompt_tokens=500), cards.card("4090"))
    assert told.memory.components["cache"] == 1000 * 2 * 2 * shape.kv * 2


@pytest.mark.slow
def test_a_scan_by_five_of_its_chunks_takes_what_the_whole_one_takes(tmp_path):
    """And the instant answer agrees with both."""
    from core.estimate import trace, trace_layers

    setup = Setup(method="qlora", max_length=512)
    few = trace.trace(SMALL, setup)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace_layers, "_chunks", lambda _, *bounds: range(*bounds))
        every = trace.trace(SMALL, setup)
    assert (few["phases"], few["reserved"]) == (every["phases"], every["reserved"])
    assert estimate(shape_of("small"), setup).allocated == pytest.approx(few["allocated"], rel=0.005)
