"""The parts of an estimate one by one: layers, the context of CUDA, experts that stay in 16 bit."""

import dataclasses

import pytest

from core.estimate import catalogue
from core.estimate.memory import GIB, estimate
from core.estimate.setup import Setup


def of_layers(layers: int):
    shape = dataclasses.replace(catalogue.shape("Qwen/Qwen2.5-0.5B-Instruct"), layers=layers)
    return estimate(shape, Setup(method="lora", gradient_checkpointing=False))


@pytest.mark.parametrize("phase", ["loss", "loss_backward", "backward_first"])
def test_what_every_layer_keeps_is_there_until_the_backward_pass_has_used_it(phase):
    few, many = of_layers(6), of_layers(12)
    forward = many.phases["forward"] - few.phases["forward"]
    assert many.phases[phase] - few.phases[phase] == pytest.approx(forward, rel=0.05)


@pytest.mark.parametrize(("capability", "gib"), [(0, 0.0), (7.5, 0.14), (8.0, 0.45), (12.0, 0.45)])
def test_the_context_of_the_driver_counts_by_the_card(capability, gib):
    memory = estimate(catalogue.shape("Qwen/Qwen2.5-0.5B-Instruct"), Setup(), capability)
    assert memory.context == gib * GIB
    assert memory.process == memory.reserved + memory.context


def test_experts_stay_in_16_bit_where_the_rest_is_in_4():
    """bitsandbytes packs linear layers, and experts are not: Qwen3-30B-A3B takes 57 GiB "in 4 bit"."""
    shape = catalogue.shape("Qwen/Qwen3-30B-A3B")
    packed = estimate(shape, Setup(method="qlora", target_modules="q_proj,v_proj")).components["weights"]
    assert packed > 2 * shape.expert_parameters
    assert packed / GIB == pytest.approx(55, abs=2)
