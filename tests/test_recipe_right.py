"""The recipe does what it says in odd places: stop tokens, merged weights, damaged checkpoints, late stops, two processes."""

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from core.training import (
    adapters,
    callbacks,
    checkpoints,
    cross_entropy,
    encoding,
    model_loading,
    packing,
    training_loop,
)
from core.training.config import TrainConfig
from tests.conftest import chat_rows, raises


def events_of(config, out, **more) -> list[dict]:
    events = []
    training_loop.train(config, out, report=lambda event, **values: events.append({"event": event, **values}), **more)
    return events


@pytest.fixture
def config(tiny_model, tiny_corpus) -> TrainConfig:
    return TrainConfig(
        base_model=tiny_model,
        corpus=tiny_corpus,
        method="lora",
        max_steps=4,
        eval_steps=2,
        learning_rate=0.01,
        precision="fp32",
    )


def test_a_frozen_head_gives_the_stock_loss_and_gradient(config, tiny_tokenizer, monkeypatch):
    import torch

    monkeypatch.setattr("core.training.config.LOSS_TILE", 7)  # more than one tile
    batch = packing.collate([encoding.encode(row, tiny_tokenizer) for row in chat_rows(6)])
    found = []
    for tiled in (False, True):
        torch.manual_seed(0)
        base = model_loading.load_base(config)
        if tiled:
            cross_entropy.without_logits(base)
        model = adapters.add_adapter(base, replace(config, lora_dropout=0.0))
        loss = model(**batch).loss
        loss.backward()
        weights = [weight.grad for name, weight in model.named_parameters() if "lora_B" in name]
        found.append((loss.detach(), torch.cat([weight.flatten() for weight in weights])))
    torch.testing.assert_close(found[1][0], found[0][0])
    torch.testing.assert_close(found[1][1], found[0][1])


@pytest.mark.slow
def test_a_base_of_qwen_learns_both_of_its_stop_tokens(config, tmp_path, tiny_tokenizer):
    """Its texts end with <|endoftext|>, the replies of its chat template with <|im_end|>: QwenLM/Qwen3#927."""
    from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

    end, turn_end = tiny_tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    shape = Qwen2Config(
        vocab_size=len(tiny_tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=1024,
        eos_token_id=end,
        initializer_range=0.15,
    )
    base = Qwen2ForCausalLM(shape)
    base.generation_config.eos_token_id = end
    base.save_pretrained(tmp_path / "base")
    import copy

    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.eos_token = "<|endoftext|>"
    tokenizer.save_pretrained(tmp_path / "base")
    assert encoding.encode(chat_rows(1)[0], tokenizer)["labels"][-2] == turn_end
    for method, saved in (("lora", "adapter"), ("full", "model")):
        events_of(replace(config, base_model=str(tmp_path / "base"), method=method, max_steps=1), tmp_path / method)
        stops = GenerationConfig.from_pretrained(tmp_path / method / saved).eos_token_id
        assert stops == sorted([end, turn_end])


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"train_embeddings": True}, {"init_lora_weights": "pissa"}, {"use_dora": True}])
@pytest.mark.parametrize("tied", [True, False])
def test_the_merged_model_has_the_logits_of_the_trained_one(config, tmp_path, tiny_model, options, tied):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    if not tied:
        base.config.tie_word_embeddings = False
        base.lm_head.weight = torch.nn.Parameter(base.lm_head.weight.detach().flip(0).clone())
    base.save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "base")
    seen, adapter = {}, adapters.add_adapter
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            adapters, "add_adapter", lambda *args: seen.setdefault("all", []).append(adapter(*args)) or seen["all"][-1]
        )
        events_of(replace(config, base_model=str(tmp_path / "base"), **options), tmp_path / "run")
    ids = torch.arange(20)[None]
    trained = seen["all"][-1].eval()
    with torch.no_grad():
        expected = trained(input_ids=ids).logits
        fresh = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
        untouched = fresh(input_ids=ids).logits
        loaded = PeftModel.from_pretrained(fresh, tmp_path / "run" / "adapter")
        torch.testing.assert_close(loaded(input_ids=ids).logits, expected, atol=1e-4, rtol=1e-4)
        with loaded.disable_adapter():
            torch.testing.assert_close(loaded(input_ids=ids).logits, untouched)
        loaded.merge_and_unload().save_pretrained(tmp_path / "merged")
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(input_ids=ids).logits
    torch.testing.assert_close(merged, expected, atol=1e-4, rtol=1e-4)
    assert (expected - untouched).abs().max() > 0.01


def test_the_files_of_the_base_are_as_they_were(config, tmp_path):
    def hashes():
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(config.base_model).iterdir()}

    before = hashes()
    events_of(config, tmp_path)
    assert hashes() == before


def test_all_weights_move_in_16_bit_arithmetic_too(config, tmp_path):
    """At the learning rate that the form suggests, nearly every step of a bf16 weight would be lost in its rounding."""
    from safetensors.torch import load_file

    config = replace(config, method="full", precision="bf16", learning_rate=2e-5, warmup_ratio=0, validation_share=0.0)
    events_of(replace(config, lr_scheduler_type="constant"), tmp_path)
    before = load_file(Path(config.base_model) / "model.safetensors")
    after = load_file(tmp_path / "model" / "model.safetensors")
    assert {str(weight.dtype) for weight in after.values()} == {"torch.float32"}
    moved = sum(int((weight != before[name]).sum()) for name, weight in after.items())
    assert moved / sum(weight.numel() for weight in after.values()) > 0.99


@pytest.mark.slow
def test_a_pissa_run_resumes_to_the_same_losses(config, tmp_path):
    config = replace(config, init_lora_weights="pissa", max_steps=4, validation_share=0.0)
    whole = [e["loss"] for e in events_of(config, tmp_path / "a") if e["event"] == "step"]
    asked = iter(range(10))
    events_of(config, tmp_path / "b", should_stop=lambda: next(asked) >= 1)
    checkpoint = checkpoints.whole_checkpoint(tmp_path / "b")
    resumed = [e["loss"] for e in events_of(config, tmp_path / "b", resume_from=checkpoint) if e["event"] == "step"]
    assert resumed == pytest.approx(whole[-len(resumed) :], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "overwritten", "gone"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(config, tmp_path, damage):
    events_of(config, tmp_path)
    file = tmp_path / "checkpoint-4" / "optimizer.pt"
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "overwritten":
        file.write_bytes(content[:1000] + b"\0" * 100 + content[1100:])
    else:
        file.unlink()
    checkpoint = checkpoints.whole_checkpoint(tmp_path)
    assert checkpoint == str(tmp_path / "checkpoint-2")
    events = events_of(config, tmp_path, resume_from=checkpoint)
    assert events[0] == {"event": "damaged", "checkpoint": "checkpoint-4"}
    assert [e["step"] for e in events if e["event"] == "step"] == [3, 4]


def stopped_at(config, out, look: int):
    """The ending of a run that hears a stop at its n-th look, and the number of looks."""
    looks = []

    def should_stop() -> bool:
        looks.append(True)
        return len(looks) >= look

    ending = training_loop.train(config, out, report=lambda *_, **__: None, should_stop=should_stop)
    return ending, len(looks)


def test_a_stop_is_heard_during_an_evaluation(config, tmp_path, monkeypatch):
    monkeypatch.setattr(callbacks, "STOP_CHECK_SECONDS", 0)
    config = replace(config, batch_size=1, validation_share=0.2)  # held out: eight rows
    ending, looks = stopped_at(config, tmp_path, 5)
    assert (ending["steps"], ending["stopped"], ending["eval_loss"], looks) == (0, True, None, 5)
    assert not (tmp_path / "adapter").exists()
    before = 8 + 2  # two steps
    ending, looks = stopped_at(config, tmp_path, before + 3)  # at the third batch of the second evaluation
    assert (ending["steps"], ending["stopped"]) == (2, True)
    assert looks < before + 8
    assert (tmp_path / "adapter").is_dir()
    assert checkpoints.whole_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")


def test_a_loss_of_nothing_is_no_success(config, tmp_path, monkeypatch):
    def blind(base):
        forward = base.forward

        def zero(**inputs):
            output = forward(**inputs)
            output.loss = output.loss * 0
            return output

        base.forward = zero

    monkeypatch.setattr(cross_entropy, "without_logits", blind)
    with raises("LossIsZero", match="exactly 0 by step 1"):
        events_of(replace(config, validation_share=0.0), tmp_path)


def test_held_out_rows_are_counted_as_rows_whatever_the_packing(config, tmp_path):
    lines = [json.dumps({"text": f"{number} " + "sea lamp storm fog " * 30}) for number in range(20)]
    (tmp_path / "long.jsonl").write_text("\n".join(lines), encoding="utf-8")
    config = replace(config, corpus=str(tmp_path / "long.jsonl"), task="text", packing=True, max_length=32, max_steps=1)
    data = next(e for e in events_of(config, tmp_path / "out") if e["event"] == "data")
    assert (data["rows_train"], data["rows_eval"]) == (18, 2)


def test_a_corpus_smaller_than_a_batch_trains(config, tmp_path):
    lines = [json.dumps(row, ensure_ascii=False) for row in chat_rows(10)]
    (tmp_path / "few.jsonl").write_text("\n".join(lines), encoding="utf-8")
    small = replace(config, corpus=str(tmp_path / "few.jsonl"), batch_size=64, max_steps=0, epochs=1.0, packing=True)
    steps = [e for e in events_of(small, tmp_path / "out") if e["event"] == "step"]
    assert [(e["step"], e["max_steps"]) for e in steps] == [(1, 1)]
    assert math.isfinite(steps[0]["loss"])
