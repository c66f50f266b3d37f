"""The loss never builds the whole matrix of logits, and no job takes more memory than TRL's loss would."""

import json
from dataclasses import replace

import pytest

from core.estimate import catalogue, trace_runner
from core.estimate.memory import estimate
from core.estimate.setup import Setup
from core.training import config, cross_entropy

MODELS = ("HuggingFaceTB/SmolLM2-135M-Instruct", "Qwen/Qwen2.5-1.5B", "Qwen/Qwen2.5-7B", "mistralai/Mistral-7B-v0.3")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", ["qlora", "lora"])
def test_an_adapter_takes_no_more_memory_than_with_trl_s_fused_loss(name, method):
    shape = catalogue.shape(name)
    for length in (2048, 4096, 8192):
        for checkpointing in (True, False):
            ours = Setup(method=method, max_length=length, gradient_checkpointing=checkpointing)
            theirs = estimate(shape, replace(ours, loss="fused")).allocated
            assert estimate(shape, ours).allocated <= theirs


@pytest.mark.slow
def test_the_trace_of_the_recipe_s_own_loss_stays_below_that_of_trl_s(tmp_path):
    """Two small layers under the vocabulary of Qwen2.5: what the loss holds is most of the step."""
    shape = {"model_type": "qwen2", "hidden_size": 576, "intermediate_size": 1024, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 151_936, "tie_word_embeddings": True}
    (tmp_path / "config.json").write_text(json.dumps(shape), encoding="utf-8")
    setup = Setup(method="qlora", max_length=2048)
    ours, theirs = (trace_runner.check(str(tmp_path), replace(setup, loss=loss), 8.0) for loss in ("tiled", "fused"))
    assert ours["allocated"] < theirs["allocated"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("head_learns", [False, True])
def test_the_loss_and_its_gradients_are_those_of_torch(monkeypatch, dtype, head_learns):
    import torch

    monkeypatch.setattr("core.training.config.LOSS_TILE", 5)
    torch.manual_seed(0)
    kind = getattr(torch, dtype)
    head = torch.nn.Linear(16, 300, bias=False, dtype=kind).requires_grad_(head_learns)
    hidden = (3 * torch.randn(13, 16)).to(kind).requires_grad_()
    target = torch.randint(300, (13,))
    found = []
    for loss in (
        lambda: cross_entropy.each_loss(head, hidden, target).sum(),
        lambda: torch.nn.functional.cross_entropy(head(hidden).float(), target, reduction="sum"),
    ):
        hidden.grad = head.weight.grad = None
        total = loss()
        (total / 13).backward()
        found.append([total.detach(), hidden.grad, *([head.weight.grad] if head_learns else [])])
    tolerance = {} if dtype == "float32" else {"atol": 0.02, "rtol": 0.02}
    torch.testing.assert_close(found[0][1:], found[1][1:], **tolerance)
    torch.testing.assert_close(found[0][0], found[1][0])


def test_no_tensor_is_as_large_as_all_the_logits(monkeypatch):
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    monkeypatch.setattr("core.training.config.LOSS_TILE", 8)
    largest = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.shape[-1:] == (300,):
                largest.append(out.shape[0])
            return out

    for trained in (False, True):
        head = torch.nn.Linear(8, 300, bias=False).requires_grad_(trained)
        hidden, target = torch.randn(64, 8, requires_grad=True), torch.randint(300, (64,))
        with Watch():
            cross_entropy.each_loss(head, hidden, target).sum().backward()
    assert set(largest) == {8}


def test_logits_that_a_number_of_16_bit_cannot_hold_give_a_finite_loss():
    import torch

    logits = torch.tensor([[3e4, -3e4, 0.0], [0.0, 200.0, -200.0]])
    target = torch.tensor([1, 1])
    assert cross_entropy.cross_entropy_(logits, target).sum().item() == pytest.approx(6e4)
    assert logits.tolist() == [[1.0, -1.0, 0.0], [0.0, 0.0, 0.0]]


def test_a_tile_suits_the_vocabulary():
    assert {size: config.tile_rows(size) for size in (1000, 32_000, 152_064, 0)} == {
        1000: 1024,
        32_000: 349,
        152_064: 128,
        0: 1024,
    }
