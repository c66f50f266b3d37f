"""The exact check: the real step without weights agrees with measurements and with the instant answer."""

import json
import threading
from collections import Counter

import pytest

from core.estimate import catalogue, trace_runner
from core.estimate.memory import estimate
from core.estimate.setup import Setup
from tests.check_estimate import measurements
from tests.conftest import raises

SMALL = "HuggingFaceTB/SmolLM2-135M-Instruct"
MEASURED = {  # the table's SmolLM2-135M on a T4, eager attention: where a tracer on the processor goes astray
    "kind": "measured", "model": "HuggingFaceTB/SmolLM2-135M", "method": "lora", "lora_rank": "32",
    "target_modules": "q_proj,k_proj,v_proj,o_proj", "optimizer": "torch AdamW fp32 (foreach)",
    "dtype": "fp16 weights, fp32 adapters, no amp", "seq_len": "4096", "micro_batch": "1", "grad_accum": "1",
    "grad_checkpointing": "True", "attn": "eager", "n_gpus": "1", "gpu": "Tesla T4 16GB", "peak_mem_GiB": "3.106",
    "loss_impl": "hf fp32 logits, outputs held during backward", "mem_kind": "max_memory_allocated",
    "framework": "transformers 5.0/5.17 + peft 0.19/0.20", "note": "reserved 4476 MiB", "tokens_per_s": "1648.2",
}  # fmt: skip


@pytest.mark.slow
def test_the_trace_meets_a_measurement_with_eager_attention():
    row = measurements.understand(MEASURED)
    found = trace_runner.check(row.model, row.setup, 7.5)
    assert found["allocated"] == pytest.approx(row.measured, rel=0.005)
    assert found["reserved"] == pytest.approx(row.reserved, rel=0.03)


@pytest.mark.slow
def test_the_trace_is_kept_and_agrees_with_the_instant_answer():
    setup = Setup(method="qlora", max_length=512)
    first = trace_runner.check(SMALL, setup, 8.0)
    second = trace_runner.check(SMALL, setup, 8.0)
    assert (first["kept"], second["kept"], first["allocated"]) == (False, True, second["allocated"])
    assert estimate(catalogue.shape(SMALL), setup).allocated == pytest.approx(first["allocated"], rel=0.02)


def test_a_trace_that_is_cancelled_ends_at_once():
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    with pytest.raises(trace_runner.Cancelled):
        trace_runner.check(SMALL, Setup(), 8.0, stop.is_set)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "nearest"), [("nonesuch", "llama|nanochat"), ("llamma", "llama"), ("", "llama")])
def test_an_architecture_that_transformers_does_not_have_is_refused_with_the_nearest(tmp_path, kind, nearest):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with raises("NotInTransformers", match=f"no architecture {kind or '.none.'}.*({nearest})"):
        trace_runner.check(str(tmp_path), Setup(), 8.0)


@pytest.mark.slow
def test_trained_embeddings_are_traced_and_agree_with_the_instant_answer():
    setup = Setup(method="lora", max_length=512, train_embeddings=True)
    found = trace_runner.check(SMALL, setup, 8.0)
    assert estimate(catalogue.shape(SMALL), setup).allocated == pytest.approx(found["allocated"], rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "layers"), [("Qwen/Qwen3-30B-A3B", 6), ("Qwen/Qwen3.5-9B", 12)])
def test_four_layers_tell_what_all_layers_take(model, layers):
    """Of a mixture and of a hybrid: the first and the last layer of each kind, and all of them, come to the same."""
    from core.estimate import trace, trace_layers

    setup = Setup(max_length=128, gradient_accumulation_steps=1)
    config = catalogue.config(model) | {"num_hidden_layers": layers}
    few = trace.trace(config, setup)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace_layers, "shorten", lambda known: Counter())
        every = trace.trace(config, setup)
    for phase, peak in every["phases"].items():
        assert few["phases"][phase] == pytest.approx(peak, rel=0.002), phase
    assert few["reserved"] == pytest.approx(every["reserved"], rel=0.03)
