"""The methods and options of the training: each reaches the model, the Trainer or the optimizer."""

import json
from dataclasses import replace

import pytest

from core.training import (
    adapters,
    callbacks,
    checks,
    devices,
    errors,
    hf_trainer,
    model_loading,
    tokenizer_loading,
    training_loop,
)
from core.training.config import CHOICES, TrainConfig
from tests.conftest import WORDS, raises
from ui.text import Say


def silent(*_, **__):
    pass


@pytest.fixture
def config(tiny_model, tiny_corpus) -> TrainConfig:
    return TrainConfig(
        base_model=tiny_model, corpus=tiny_corpus, method="lora", max_steps=2, learning_rate=0.01, precision="fp32"
    )


@pytest.fixture(scope="session")
def texts(tmp_path_factory) -> str:
    """A JSONL file of 20 texts, some longer than a block."""
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    rows = [{"text": f"{number} {WORDS} " * (1 + number % 4)} for number in range(20)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def model_of(config):
    """The tiny base with its adapter, as a run makes them."""
    return adapters.add_adapter(model_loading.load_base(config), config)


def trainer_of(config, tmp_path, model=None):
    """The Trainer of a run that did not begin."""
    rows = [{"input_ids": [1, 2, 3], "labels": [1, 2, 3], "id": "a"}] * 8
    model = model or model_of(config)
    return hf_trainer.make_trainer(config, tmp_path, model, tokenizer_loading.load_tokenizer(config), rows, [])


def rates(optimizer) -> dict[str, int]:
    """Learning rates of an optimizer with how many tensors have each."""
    found: dict[str, int] = {}
    for group in optimizer.param_groups:
        key = f"{group['lr']:g}"
        found[key] = found.get(key, 0) + len(group["params"])
    return found


def test_a_corpus_of_chats_is_refused_by_continued_pretraining(config, tmp_path):
    with raises("ChatsForPretraining", match=r'"rows.jsonl" holds 40 chats.*set task to chat'):
        training_loop.train(replace(config, task="text"), tmp_path, report=silent)


def test_plain_texts_are_refused_by_chat_tuning(config, texts, tmp_path):
    with raises("TextsForChat", match=r'"texts.jsonl" holds plain texts only.*set task to text'):
        training_loop.train(replace(config, corpus=texts), tmp_path, report=silent)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_continued_pretraining_learns_every_token_of_full_blocks(config, texts, tmp_path, method):
    said = {}
    training_loop.train(
        replace(config, corpus=texts, task="text", packing=True, max_length=64, method=method),
        tmp_path,
        report=lambda event, **values: said.setdefault(event, values),
    )
    assert said["data"]["rows_train"] + said["data"]["rows_eval"] == 20
    assert said["data"]["fill"] > 0.85
    # The first token of each row or piece has nothing before it to be predicted from.
    assert said["data"]["tokens_train"] - said["data"]["tokens_learned"] >= said["data"]["rows_train"]
    assert (tmp_path / ("model" if method == "full" else "adapter") / "tokenizer.json").is_file()


def test_the_weights_of_qlora_are_nf4_with_their_scales_quantised_too(config):
    """Without double quantisation each weight takes 4.5 bits instead of 4.127: Dettmers et al. 2023, arXiv:2305.14314."""
    import torch

    skeleton = model_loading.skeleton(model_loading.model_config(config.base_model))
    chosen = model_loading.quantization(replace(config, method="qlora"), skeleton)
    names = ("load_in_4bit", "quant_type", "use_double_quant", "compute_dtype", "quant_storage")
    found = {name: getattr(chosen, name if name.startswith("load") else f"bnb_4bit_{name}") for name in names}
    assert found == {
        "load_in_4bit": True,
        "quant_type": "nf4",
        "use_double_quant": True,
        "compute_dtype": torch.float32,
        "quant_storage": torch.uint8,
    }
    for kind, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        chosen = model_loading.quantization(replace(config, method="qlora", precision=kind), skeleton)
        assert chosen.bnb_4bit_compute_dtype == dtype
    assert [model_loading.quantization(replace(config, method=name), skeleton) for name in ("lora", "full")] == [
        None
    ] * 2


def test_no_layer_of_4_bits_is_repacked_for_a_kernel_without_a_backward_pass(config, monkeypatch):
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)
    base = model_loading.load_base(replace(config, method="qlora"))
    repacks = [getattr(module, "support_avx512bf16_for_cpu", None) for module in base.modules()]
    assert [known for known in repacks if known is not None] == [False] * 14


def test_a_base_that_ends_texts_with_a_token_of_its_own_is_told_that_of_the_template(config):
    """QwenLM/Qwen3#927; the tokens are saved with what is trained."""
    tokenizer = tokenizer_loading.load_tokenizer(config)
    tokenizer.eos_token = "<|endoftext|>"
    model, _ = training_loop._ready_model(config, tokenizer, silent)
    ends = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    assert model.get_base_model().generation_config.eos_token_id == ends


def test_what_began_as_pissa_is_saved_as_plain_lora_for_the_untouched_base(config, tmp_path):
    import torch
    from peft import PeftModel

    ids = torch.arange(9)[None]
    model = model_of(replace(config, init_lora_weights="pissa", lora_dropout=0.0))
    trainer = trainer_of(replace(config, init_lora_weights="pissa", lora_dropout=0.0), tmp_path, model)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data += 0.01
    trainer.save_weights(tmp_path / "adapter")
    with torch.no_grad():
        trained = model.eval()(input_ids=ids).logits
        base = model_loading.load_base(config)
        untouched = base(input_ids=ids).logits
        loaded = PeftModel.from_pretrained(base, tmp_path / "adapter")
        torch.testing.assert_close(loaded(input_ids=ids).logits, trained, atol=1e-4, rtol=1e-4)
        with loaded.disable_adapter():  # opening it changed no weight of the base, as PiSSA does to begin with
            assert torch.equal(loaded(input_ids=ids).logits, untouched)
    assert (trained - untouched).abs().max() > 0.1


def test_what_is_trained_beside_a_16_bit_base_is_in_fp32(config):
    model = model_of(replace(config, precision="bf16", train_embeddings=True))
    kinds = {(str(weight.dtype), weight.requires_grad) for weight in model.parameters()}
    assert kinds == {("torch.bfloat16", False), ("torch.float32", True)}


def test_a_head_that_is_tied_stays_tied_when_embeddings_are_trained(config):
    """One matrix in two places moves as one, and is saved once."""
    model = model_of(replace(config, train_embeddings=True))
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    trained = [[weight for weight in layer.parameters() if weight.requires_grad] for layer in (embeddings, head)]
    assert [len(weights) for weights in trained] == [1, 1]
    assert trained[0][0] is trained[1][0]


def test_embeddings_are_trained_whole_at_their_own_rate(config, tmp_path):
    model = model_of(replace(config, train_embeddings=True))
    whole = {name for name, weight in model.named_parameters() if weight.requires_grad and "lora_" not in name}
    assert whole == {"base_model.model.model.embed_tokens.modules_to_save.default.weight"}  # tied: once
    chosen = replace(config, train_embeddings=True)
    assert rates(trainer_of(chosen, tmp_path, model).create_optimizer()) == {"0.01": 28, "0.001": 1}
    chosen = replace(chosen, embedding_learning_rate=0.0005)
    assert rates(trainer_of(chosen, tmp_path, model).create_optimizer()) == {"0.01": 28, "0.0005": 1}


def test_embeddings_of_all_weights_training_take_their_own_rate_only_when_asked(config, tmp_path):
    full = replace(config, method="full")
    assert set(rates(trainer_of(full, tmp_path).create_optimizer())) == {"0.01"}
    apart = replace(full, embedding_learning_rate=0.001)
    assert rates(trainer_of(apart, tmp_path).create_optimizer())["0.001"] == 1


def test_lora_plus_lets_the_second_matrix_learn_faster(config, tmp_path):
    optimizer = trainer_of(replace(config, loraplus_lr_ratio=16.0), tmp_path).create_optimizer()
    assert rates(optimizer) == {"0.01": 14, "0.16": 14}
    assert sorted({group["times"] for group in optimizer.param_groups}) == pytest.approx([1, 16])


@pytest.mark.parametrize(
    ("options", "reached"),
    [
        ({"use_rslora": True}, {"use_rslora": True}),
        ({"use_dora": True}, {"use_dora": True}),
        ({"init_lora_weights": "gaussian"}, {"init_lora_weights": "gaussian"}),
        ({"init_lora_weights": "pissa"}, {"init_lora_weights": "pissa"}),
        ({"lora_dropout": 0.25, "lora_alpha": 7, "lora_rank": 3}, {"lora_dropout": 0.25, "lora_alpha": 7, "r": 3}),
        ({"target_modules": "q_proj, v_proj"}, {"target_modules": {"q_proj", "v_proj"}}),
    ],
)
def test_an_option_of_the_adapter_reaches_it(config, options, reached):
    adapter = model_of(replace(config, **options)).peft_config["default"]
    assert {name: getattr(adapter, name) for name in reached} == reached


@pytest.mark.parametrize(
    ("options", "reached"),
    [
        ({"neftune_noise_alpha": 5.0}, {"neftune_noise_alpha": 5.0}),
        ({"neftune_noise_alpha": 0.0}, {"neftune_noise_alpha": None}),
        ({"neftune_noise_alpha": 5.0, "task": "preference"}, {"neftune_noise_alpha": None}),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, {"lr_scheduler_kwargs": {"min_lr_rate": 0.1}}),
        ({"gradient_checkpointing": True}, {"activation_checkpointing": True}),
        ({"optim": "paged_adamw_8bit"}, {"optim": "paged_adamw_8bit"}),
        ({"weight_decay": 0.1, "max_grad_norm": 0.5}, {"weight_decay": 0.1, "max_grad_norm": 0.5}),
        ({"use_liger_kernel": True}, {"use_liger_kernel": True}),
    ],
)
def test_an_option_of_the_trainer_reaches_it(config, tmp_path, options, reached):
    args = hf_trainer.training_arguments(replace(config, **options), tmp_path, 40, evaluates=True)
    assert {name: getattr(args, name) for name in reached} == reached


def test_steps_evaluations_and_warm_up_follow_from_the_rows(config, tmp_path):
    """Of 100 rows, 4 at once and 2 such batches gathered, an epoch has 13 steps."""
    chosen = replace(config, max_steps=0, epochs=4.0, batch_size=4, gradient_accumulation_steps=2, warmup_ratio=0.1)
    chosen = replace(chosen, lr_scheduler_type="warmup_stable_decay")
    args = hf_trainer.training_arguments(chosen, tmp_path, 100, evaluates=True)
    names = ("max_steps", "num_train_epochs", "eval_steps", "save_steps", "warmup_steps", "lr_scheduler_type")
    assert {name: getattr(args, name) for name in (*names, "lr_scheduler_kwargs")} == {
        "max_steps": -1,
        "num_train_epochs": 4.0,
        "eval_steps": 6,
        "save_steps": 6,
        "warmup_steps": 5,
        "lr_scheduler_type": "warmup_stable_decay",
        "lr_scheduler_kwargs": {"num_decay_steps": 6},
    }
    few = hf_trainer.training_arguments(replace(chosen, max_steps=3, eval_steps=50), tmp_path, 100, evaluates=False)
    assert [few.max_steps, few.eval_steps, few.save_steps, few.eval_strategy] == [3, 3, 3, "no"]


def test_another_learning_rate_reaches_every_group_of_a_resumed_run_at_once(config, tmp_path):
    """Each keeps its share of the rate and its place in the schedule; an unchanged rate changes nothing."""
    import torch

    trainer = trainer_of(replace(config, train_embeddings=True), tmp_path)
    optimizer = trainer.create_optimizer()
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)

    def found():
        groups = [(group["lr"], group["initial_lr"], group["times"]) for group in optimizer.param_groups]
        return sorted(groups), sorted(scheduler.base_lrs), sorted(scheduler.get_last_lr())

    before = found()
    callbacks.change_learning_rate(optimizer, scheduler, config.learning_rate)
    assert found() == before
    callbacks.change_learning_rate(optimizer, scheduler, 4 * config.learning_rate)
    groups, bases, last = found()
    assert groups[0] == pytest.approx((0.002, 0.004, 0.1))
    assert groups[-1] == pytest.approx((0.02, 0.04, 1))
    assert bases == pytest.approx([0.004] + [0.04] * (len(bases) - 1))
    assert last == pytest.approx([0.002] + [0.02] * (len(bases) - 1))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adamw_torch", "AdamW"), ("adamw_8bit", "AdamW"), ("paged_adamw_8bit", "AdamW"), ("adafactor", "Adafactor")],
)
def test_an_optimizer_reaches_the_trainer(config, tmp_path, name, kind):
    optimizer = trainer_of(replace(config, optim=name), tmp_path).create_optimizer()
    assert type(optimizer).__name__ == kind
    if "adamw" in name:
        settings = getattr(optimizer, "args", None)
        assert getattr(settings, "optim_bits", 32) == (8 if "8bit" in name else 32)
        assert getattr(optimizer, "is_paged", False) == ("paged" in name)


def test_schedules_of_the_form_are_known_to_the_trainer(config, tmp_path):
    trainer = trainer_of(config, tmp_path)
    optimizer = trainer.create_optimizer()
    for name in CHOICES["lr_scheduler_type"]:
        trainer.args.lr_scheduler_type, trainer.args.lr_scheduler_kwargs = name, hf_trainer._schedule(name, 100)
        trainer.lr_scheduler = None
        trainer.create_scheduler(100, optimizer)
        assert trainer.lr_scheduler is not None, name


@pytest.mark.parametrize(
    ("options", "trouble", "words"),
    [
        ({"max_length": 4096}, "LongerThanTheModel", "reads 1024 tokens at most. Set max_length to 1024 or less"),
        ({"precision": "fp16"}, "Fp16NeedsCard", "Set precision to auto"),
        ({"use_liger_kernel": True}, "LigerNeedsCard", "torch sees none here. Switch it off."),
        ({"target_modules": "nothing"}, "LayersUnknown", "Set target_modules to all-linear"),
    ],
)
def test_what_cannot_be_is_refused_before_the_model_loads(config, tmp_path, monkeypatch, options, trouble, words):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(model_loading, "load_base", lambda config: pytest.fail("the model was loaded"))
    with raises(trouble, match=words):
        training_loop.train(replace(config, **options), tmp_path, report=silent)


AUTO = "Set precision to auto: it takes"


@pytest.mark.parametrize(
    ("kind", "has_bf16", "precision", "said"),
    [
        ("cuda", False, "bf16", f"A card does not compute bf16. {AUTO} fp16 there, with adapters in fp32."),
        ("xpu", False, "bf16", f"A card does not compute bf16. {AUTO} fp32 there."),
        (
            "mps", False, "bf16",
            "Apple's GPU computes bf16 from macOS 14 on. Update macOS, or set precision to auto: it takes fp32 until then.",
        ),
        ("mps", True, "fp16", f"Training in fp16 is not for Apple's GPU. {AUTO} bf16 there."),
        ("mps", False, "fp16", f"Training in fp16 is not for Apple's GPU. {AUTO} fp32 there."),
        (
            "cpu", True, "fp16",
            "precision fp16 needs a graphics card, and torch computes on the processor here. Set precision to auto.",
        ),
        ("cuda", True, "bf16", ""),
        ("cuda", False, "fp16", ""),
        ("xpu", False, "fp16", ""),
        ("mps", True, "bf16", ""),
        ("cpu", False, "bf16", ""),
    ],
)  # fmt: skip
def test_a_precision_is_refused_with_what_auto_takes_on_this_kind_of_device(
    config, monkeypatch, kind, has_bf16, precision, said
):
    monkeypatch.setattr(devices, "device_type", lambda: kind)
    monkeypatch.setattr(devices, "has_bf16", lambda: has_bf16)
    monkeypatch.setattr(devices, "device_name", lambda: "A card")
    chosen = replace(config, precision=precision)
    if not said:
        checks.check_machine(chosen)
        return
    with pytest.raises(errors.TrainingError) as caught:
        checks.check_machine(chosen)
    assert str(caught.value) == said
    if "it takes" in said:
        took = devices.precision(replace(config, precision="auto"))
        assert (f"it takes {took}" in said, took in Say("ru").trouble(caught.value)) == (True, True)


@pytest.mark.parametrize(
    ("changes", "trouble", "words"),
    [
        ({"model_type": "oracle9"}, "ArchitectureUnknown", "is of the kind oracle9"),
        ({"model_type": "t5"}, "ArchitectureUnknown", "is of the kind t5"),
        ({"vocab_size": 300}, "VocabularyTooLarge", "knows 345 tokens and its weights only 300"),
    ],
)
def test_a_model_that_cannot_be_trained_is_named(config, tmp_path, tiny_tokenizer, changes, trouble, words):
    from pathlib import Path

    shape = json.loads((Path(config.base_model) / "config.json").read_text()) | changes
    (tmp_path / "config.json").write_text(json.dumps(shape))
    with raises(trouble, match=words):
        checks.check_model(replace(config, base_model=str(tmp_path)), tiny_tokenizer)


def test_pissa_needs_the_whole_base():
    with raises("PissaNeedsWholeBase", match="Set method to lora"):
        TrainConfig(base_model="m", corpus="c", method="qlora", init_lora_weights="pissa")
