"""The kernels of the walk against the operations that the real modules run: bytes and launches of a further layer."""

import contextlib
import dataclasses
from collections import Counter

import pytest

from core.estimate import cards, catalogue, forecast, speed
from core.estimate.setup import Setup, for_method
from core.estimate.step import walk

MODEL = "mistralai/Mistral-7B-Instruct-v0.3"
BASE = Setup(max_length=512, gradient_accumulation_steps=1, loss="logits")
NO_KERNEL = {
    "view", "_unsafe_view", "t", "transpose", "permute", "expand", "slice", "unsqueeze", "squeeze", "detach", "alias",
    "as_strided", "select", "split", "split_with_sizes", "unbind", "empty", "empty_like", "new_empty", "device",
    "new_empty_strided", "empty_strided", "arange",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [
        {"method": "full", "autocast": False},
        {"method": "lora", "lora_dropout": 0.0},
        {"method": "lora", "lora_dropout": 0.0, "autocast": False},
        {"method": "qlora", "lora_dropout": 0.0},
        {"method": "qlora", "lora_dropout": 0.0, "kbit_prepare": True, "adapter_width": 2},
    ],
)
def test_a_layer_moves_the_bytes_that_its_real_operations_move(fields):
    setup = for_method(dataclasses.replace(BASE, **fields))
    two, three = (_operations(layers, setup) for layers in (2, 3))
    moved, launches = (three[name] - two[name] for name in ("bytes", "launches"))
    kernels = [
        k for k in walk(catalogue.shape(MODEL), setup).layers["full_attention"] if not k[3] and not k[5]
    ]  # but attention and 4 bit
    assert sum(kernel[2] for kernel in kernels) == pytest.approx(moved, rel=0.05)
    assert sum(kernel[4] for kernel in kernels) == pytest.approx(launches, rel=0.08)


def _operations(layers: int, setup: Setup) -> Counter:
    """Bytes read and written and kernels launched by a micro-step of the real modules, those of attention left out."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    from core.estimate import skeleton, trace

    found = Counter()

    def size(tensor) -> int:
        return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            name = function._schema.name.partition("::")[2].rstrip("_")
            if name not in NO_KERNEL:
                tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if hasattr(leaf, "untyped_storage")]
                found["bytes"] += sum(size(tensor) for tensor in tensors)
                found["launches"] += 1
            return out

    config = catalogue.config(MODEL) | {"num_hidden_layers": layers}
    with trace.as_on_a_card(setup.autocast), FakeTensorMode(allow_non_fake_inputs=True):
        import torch

        model = skeleton.build(skeleton.text_config(config), setup)
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if setup.adapts:
            model.enable_input_require_grads()
        model.train()
        autocast = torch.autocast("cpu", dtype=torch.bfloat16) if setup.autocast else contextlib.nullcontext()
        with Count():
            with autocast:
                loss, _ = trace.loss_of(model, setup)
            loss.backward()
    return found


def test_ligers_kernels_are_faster_and_take_less_memory_and_come_from_the_runs_config():
    shape, card = catalogue.shape(MODEL), cards.card("4090")
    plain = forecast.setup_of({"base_model": MODEL, "method": "lora"}, card)
    fused = forecast.setup_of({"base_model": MODEL, "method": "lora", "use_liger_kernel": True}, card)
    assert (plain.use_liger_kernel, fused.use_liger_kernel) == (False, True)
    paces = [speed.pace(shape, setup, card) for setup in (plain, fused)]
    assert 1.04 < paces[1].tokens_per_second / paces[0].tokens_per_second < 1.3
    assert paces[1].launch_seconds < paces[0].launch_seconds
    peaks = [walk(shape, dataclasses.replace(setup, max_length=8192)).peaks for setup in (plain, fused)]
    assert peaks[1]["backward_first"] < peaks[0]["backward_first"]


def test_an_older_bitsandbytes_and_packed_experts_take_longer_to_unpack():
    shape, card = catalogue.shape("Qwen/Qwen3-30B-A3B"), cards.card("A100 80GB SXM")
    setup = Setup(max_length=1024)
    old, packed = (dataclasses.replace(setup, **{name: True}) for name in ("old_bitsandbytes", "packed_experts"))
    now, slower, all_experts = (speed.pace(shape, each, card).device_seconds for each in (setup, old, packed))
    linear = 3 * (0.52 + 2) * shape.linear_parameters / card.bandwidth  # forwards, again, backwards
    assert slower - now == pytest.approx(linear / speed.OLD_UNPACKING - linear / speed.UNPACKING, rel=0.01)
    experts = 3 * (0.52 + 2) * shape.expert_parameters / (speed.UNPACKING * card.bandwidth)
    assert all_experts - now == pytest.approx(experts, rel=0.01)
