"""The recipe on a tiny model: what is learned, what is held out, and that training does what it says."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from core.training import adapters as training_adapters
from core.training import (
    attention_kernels,
    batching,
    callbacks,
    checkpoints,
    checks,
    corpus_rows,
    cross_entropy,
    encoding,
    errors,
    hf_trainer,
    model_loading,
    tokenizer_loading,
    training_loop,
)
from core.training import packing as packing_module
from core.training.config import TrainConfig
from core.training.encoding import IGNORED
from tests.conftest import chat_rows, encode_rows, raises, slow_but

TURN = [{"role": "user", "content": "sea?"}, {"role": "assistant", "content": "gull lamp"}]


def learned_text(row, tokenizer, learn="assistant") -> str:
    encoded = encoding.encode(row, tokenizer, learn)
    return tokenizer.decode([id for id in encoded["labels"] if id != IGNORED])


def events_of(config, out, **more) -> list[dict]:
    events = []
    training_loop.train(config, out, report=lambda event, **values: events.append({"event": event, **values}), **more)
    return events


@pytest.fixture(autouse=True)
def asked_at_steps_only(monkeypatch):
    """The tests here count how often a run looks whether to stop; on a slow machine it would look during evaluations too."""
    monkeypatch.setattr(callbacks, "STOP_CHECK_SECONDS", math.inf)


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


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("lora_rank", 0, "lora_rank must be at least 1, got 0. Try 8 or 16."),
        ("method", "magic", "method must be one of qlora, lora, full, got magic."),
        ("learning_rate", 0, "learning_rate must be above 0, got 0. Try 0.0002."),
        ("learning_rate", 2, "learning_rate must be at most 1, got 2. Try 0.0002."),
        ("lora_rank", "16", "lora_rank must be a number (int), got '16'."),
        ("seed", -1, "seed must be at least 0, got -1. Try 7."),
        ("epochs", -1, "epochs must be above 0, got -1. Try 3."),
        ("validation_share", 0.9, "validation_share must be at most 0.5, got 0.9. Try 0.1."),
        ("learning_rate", math.nan, "learning_rate must be at most 1, got nan. Try 0.0002."),
    ],
)
def test_a_bad_value_is_named_with_what_to_try(field, value, words):
    with pytest.raises(errors.TrainingError) as raised:
        TrainConfig(**{"base_model": "m", "corpus": "c", field: value})
    assert str(raised.value) == words


def test_an_unknown_field_is_refused():
    with raises("UnknownField", match="no field rank"):
        TrainConfig.from_dict({"base_model": "m", "corpus": "c", "rank": 8})


def test_a_config_survives_the_disk(tmp_path):
    config = TrainConfig(base_model="модель", corpus="c", epochs=0.5)
    config.save(tmp_path / "config.json")
    assert TrainConfig.load(tmp_path / "config.json") == config


def test_only_the_reply_and_its_end_token_are_learned(tiny_tokenizer):
    assert learned_text({"messages": TURN}, tiny_tokenizer) == "gull lamp<|im_end|>"


def test_every_reply_of_a_long_chat_is_learned(tiny_tokenizer):
    chat = [{"role": "system", "content": "fog"}, *TURN, *TURN]
    assert learned_text({"messages": chat}, tiny_tokenizer) == "gull lamp<|im_end|>" * 2


def test_a_reply_that_repeats_the_question_is_found_in_its_own_place(tiny_tokenizer):
    chat = [{"role": "user", "content": "sea"}, {"role": "assistant", "content": "sea"}]
    labels = encoding.encode({"messages": chat}, tiny_tokenizer)["labels"]
    ids = encoding.encode({"messages": chat}, tiny_tokenizer)["input_ids"]
    prompt = tiny_tokenizer("<|im_start|>user\nsea<|im_end|>\n<|im_start|>assistant\n")["input_ids"]
    assert labels[: len(prompt)] == [IGNORED] * len(prompt)
    assert labels[len(prompt) : -1] == ids[len(prompt) : -1]


def test_an_empty_reply_still_teaches_to_stop(tiny_tokenizer):
    assert learned_text({"messages": [TURN[0], {"role": "assistant", "content": ""}]}, tiny_tokenizer) == "<|im_end|>"


def test_all_learns_every_token(tiny_tokenizer):
    encoded = encoding.encode({"messages": TURN}, tiny_tokenizer, "all")
    assert encoded["labels"] == encoded["input_ids"]


def test_a_text_is_learned_whole_and_ends_with_the_end_token(tiny_tokenizer):
    encoded = encoding.encode({"text": "туман и море 🙂"}, tiny_tokenizer)
    assert tiny_tokenizer.decode(encoded["input_ids"]) == "туман и море 🙂<|im_end|>"
    assert encoded["labels"] == encoded["input_ids"]


def test_a_template_without_an_end_token_gets_one(tiny_tokenizer):
    import copy

    bare = copy.deepcopy(tiny_tokenizer)
    bare.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    # The space belongs to the first token that the model has to say.
    assert learned_text({"messages": TURN}, bare) == " gull lamp<|im_end|>"


def test_a_template_that_refuses_a_role_is_counted_not_fatal(tiny_tokenizer, config):
    import copy

    strict = copy.deepcopy(tiny_tokenizer)
    strict.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + strict.chat_template
    )
    rows = [{"id": "a", "messages": [{"role": "system", "content": "x"}, *TURN]}, {"id": "b", "messages": TURN}]
    kept, left_out = encode_rows(rows, strict, config)
    assert [row["id"] for row in kept] == ["b"]
    assert left_out == {"template_refused": 1}


def test_a_row_whose_reply_is_cut_off_is_left_out(tiny_tokenizer, config):
    _, left_out = encode_rows([{"id": "a", "messages": TURN}], tiny_tokenizer, replace(config, max_length=8))
    assert left_out == {"nothing_to_learn": 1}


def test_padding_is_told_by_position_even_when_pad_is_the_end_token(tiny_tokenizer):
    rows = [encoding.encode({"messages": turn}, tiny_tokenizer) for turn in (TURN, [*TURN, *TURN])]
    batch = packing_module.collate(rows)
    for line, row in enumerate(rows):
        length = len(row["input_ids"])
        assert batch["labels"][line, :length].tolist() == row["labels"]
        assert batch["labels"][line, length:].eq(IGNORED).all()


def test_a_row_id_is_its_content():
    first = {"messages": TURN, "source": {"file": "a"}}
    assert corpus_rows.row_id(first) == corpus_rows.row_id({"messages": TURN})
    assert corpus_rows.row_id({"text": "a"}) != corpus_rows.row_id({"text": "b"})


def test_rows_are_read_once_whatever_their_number_of_copies(tmp_path):
    for file, texts in ((2, "гв"), (0, "аб"), (1, "ав")):
        lines = [json.dumps({"text": text}) + "\n" for text in texts]
        (tmp_path / f"rows-0000{file}.jsonl").write_text("".join(lines))
    assert [row["text"] for row in corpus_rows.read_rows(tmp_path)] == ["а", "б", "в", "г"]


def test_a_row_is_known_by_its_content_whatever_its_file_calls_it(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"id": 0, "text": "а"}\n\n{"id": 0, "text": "б"}\n')
    assert [row["text"] for row in corpus_rows.read_rows(tmp_path / "x.jsonl")] == ["а", "б"]


def test_a_deleted_corpus_is_named(tmp_path):
    with raises("CorpusGone", match="choose another one"):
        list(corpus_rows.read_rows(tmp_path / "gone"))


def test_the_split_does_not_depend_on_the_order():
    rows = [{"id": str(n)} for n in range(100)]
    training, held_out = corpus_rows.split(rows, 0.1)
    again, held_out_again = corpus_rows.split(rows[::-1], 0.1)
    assert len(held_out) == 10
    assert {row["id"] for row in held_out} == {row["id"] for row in held_out_again}
    assert len(training) == len(again) == 90


def test_rows_of_a_cluster_are_held_out_together():
    rows = [{"id": str(n), "cluster": str(n // 5)} for n in range(100)]
    training, held_out = corpus_rows.split(rows, 0.1)
    assert not {row["cluster"] for row in training} & {row["cluster"] for row in held_out}
    assert len(held_out) == 10


def test_a_cluster_that_is_too_large_stays_in_training():
    rows = [{"id": str(n), "cluster": "same" if n < 18 else str(n)} for n in range(20)]
    training, held_out = corpus_rows.split(rows, 0.1)
    assert sorted(row["id"] for row in held_out) == ["18", "19"]
    assert len(training) == 18
    assert corpus_rows.split(rows[:18], 0.1) == (rows[:18], [])


def test_nothing_is_held_out_when_nothing_is_asked_for():
    assert corpus_rows.split([{"id": "a"}, {"id": "b"}], 0) == ([{"id": "a"}, {"id": "b"}], [])


def test_the_tiled_loss_is_the_stock_loss(config, tiny_tokenizer, monkeypatch):
    import torch

    monkeypatch.setattr("core.training.config.LOSS_TILE", 7)  # more than one tile
    batch = packing_module.collate([encoding.encode(row, tiny_tokenizer) for row in chat_rows(6)])
    base = model_loading.load_base(config)
    base(**batch).loss.backward()
    stock, gradient = base(**batch).loss, base.model.layers[0].mlp.up_proj.weight.grad.clone()
    base.zero_grad()
    cross_entropy.without_logits(base)
    tiled = base(**batch).loss
    tiled.backward()
    torch.testing.assert_close(tiled, stock)
    torch.testing.assert_close(base.model.layers[0].mlp.up_proj.weight.grad, gradient)
    assert base(input_ids=batch["input_ids"]).logits.shape[-1] == len(tiny_tokenizer)  # chat still gets its logits


def test_training_lowers_the_held_out_loss_and_says_every_step(config, tmp_path):
    events = events_of(replace(config, max_steps=8, eval_steps=4), tmp_path)
    assert [e["event"] for e in events[:3]] == ["data", "model", "eval"]
    assert [e["step"] for e in events if e["event"] == "step"] == [1, 2, 3, 4, 5, 6, 7, 8]
    losses = [e["eval_loss"] for e in events if e["event"] == "eval"]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


def test_every_adapter_weight_moves_and_no_base_weight(config, tmp_path, monkeypatch):
    import torch

    adapter, seen = training_adapters.add_adapter, {}

    def watched(base, config):
        seen["model"] = adapter(base, config)
        seen["before"] = {name: weight.detach().clone() for name, weight in seen["model"].named_parameters()}
        return seen["model"]

    monkeypatch.setattr(training_adapters, "add_adapter", watched)
    events_of(config, tmp_path)
    moved = {name for name, weight in seen["model"].named_parameters() if not torch.equal(weight, seen["before"][name])}
    assert moved == {name for name in seen["before"] if "lora_" in name}
    assert len(moved) == 2 * 7 * 2  # A and B of seven linear layers in two blocks


@pytest.mark.filterwarnings("ignore")
def test_qlora_gradients_reach_every_layer_after_an_evaluation(config, tiny_tokenizer):
    """bitsandbytes repacks 4-bit layers in eval mode on some CPUs and loses their backward pass."""
    config = replace(config, method="qlora", lora_dropout=0.0)
    base = model_loading.load_base(config)
    cross_entropy.without_logits(base)
    model = training_adapters.add_adapter(base, config)
    rows = [encoding.encode(row, tiny_tokenizer) for row in chat_rows(4)]
    batching.held_out_loss(model, rows, 4)
    model.train()
    model(**packing_module.collate(rows)).loss.backward()
    norms = {name: weight.grad.norm().item() for name, weight in model.named_parameters() if "lora_B" in name}
    assert len(norms) == 14
    assert min(norms.values()) > 0
    quantized = model_loading.load_base(config).dequantize()
    cross_entropy.without_logits(quantized)
    dense = training_adapters.add_adapter(quantized, config)
    dense.load_state_dict(
        {name: weight for name, weight in model.state_dict().items() if "lora_" in name}, strict=False
    )
    dense.train()
    dense(**packing_module.collate(rows)).loss.backward()
    expected = {name: weight.grad.norm().item() for name, weight in dense.named_parameters() if "lora_B" in name}
    assert norms == pytest.approx(expected, rel=1e-3)


def test_eight_rows_at_once_equal_eight_rows_gathered(config, tmp_path):
    plain = replace(config, max_steps=2, lora_dropout=0.0, validation_share=0.0)
    at_once = events_of(replace(plain, batch_size=8), tmp_path / "a")
    gathered = events_of(replace(plain, batch_size=1, gradient_accumulation_steps=8), tmp_path / "b")
    first, second = ([e for e in events if e["event"] == "step"] for events in (at_once, gathered))
    assert [e["loss"] for e in first] == pytest.approx([e["loss"] for e in second], abs=1e-3)
    assert [e["grad_norm"] for e in first] == pytest.approx([e["grad_norm"] for e in second], abs=1e-3)


def test_fewer_rows_than_a_batch_still_make_whole_epochs(config, tmp_path):
    lines = [json.dumps(row, ensure_ascii=False) for row in chat_rows(12)]
    (tmp_path / "few.jsonl").write_text("\n".join(lines), encoding="utf-8")
    small = replace(
        config, corpus=str(tmp_path / "few.jsonl"), max_steps=0, epochs=2, batch_size=8, gradient_accumulation_steps=4
    )
    steps = [e for e in events_of(small, tmp_path / "out") if e["event"] == "step"]
    assert [(e["step"], e["max_steps"], e["epoch"]) for e in steps] == [(1, 2, 1.0), (2, 2, 2.0)]


def test_stop_ends_a_run_early_with_an_adapter(config, tmp_path):
    ending = training_loop.train(config, tmp_path, report=lambda *_, **__: None, should_stop=lambda: True)
    assert (ending["steps"], ending["stopped"]) == (1, True)
    assert (tmp_path / "adapter" / "adapter_config.json").is_file()


def test_a_resumed_run_goes_on_to_the_last_bit(config, tmp_path):
    whole = [e for e in events_of(replace(config, max_steps=6), tmp_path / "a") if e["event"] == "step"]
    config = replace(config, max_steps=6, eval_steps=3)
    steps = iter(range(10))
    training_loop.train(config, tmp_path / "b", report=lambda *_, **__: None, should_stop=lambda: next(steps) >= 3)
    (tmp_path / "b" / "checkpoint-99").mkdir()  # cut short: it lacks whole.json and is passed over
    checkpoint = checkpoints.whole_checkpoint(tmp_path / "b")
    resumed = [e for e in events_of(config, tmp_path / "b", resume_from=checkpoint) if e["event"] == "step"]
    assert [e["step"] for e in resumed] == [5, 6]
    assert [(e["step"], e["loss"]) for e in resumed] == [(e["step"], e["loss"]) for e in whole][
        resumed[0]["step"] - 1 :
    ]


def test_a_loss_that_is_not_a_number_stops_the_run(config, tmp_path, monkeypatch):
    adapter = training_adapters.add_adapter

    def poisoned(base, config):
        model = adapter(base, config)
        next(weight for weight in model.parameters() if weight.requires_grad).data.fill_(math.nan)
        return model

    monkeypatch.setattr(training_adapters, "add_adapter", poisoned)
    events = []
    with raises("LossNotFinite", match=r"nan at step 1.*that of step 0 .*Lower learning_rate to 0.001"):
        training_loop.train(
            replace(config, validation_share=0.0, logging_steps=100),
            tmp_path,
            report=lambda event, **values: events.append(event),
        )
    assert events[-1] == "step"  # the curve shows it


def test_the_rows_that_break_the_loss_are_named(config, tmp_path, monkeypatch):
    """Only the guilty one of the gathered batches, at its own step, however seldom there is a log entry."""
    rows = [json.dumps(row, ensure_ascii=False) for row in [*chat_rows(11), {"messages": TURN}]]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    tiled = cross_entropy.without_logits

    def breaks_at_twelve(base):
        tiled(base)
        forward = base.forward

        def broken(labels=None, **inputs):
            output = forward(labels=labels, **inputs)
            if labels is not None and base.training and len(labels[0]) == shortest:
                output.loss = output.loss * math.nan
            return output

        base.forward = broken

    monkeypatch.setattr(cross_entropy, "without_logits", breaks_at_twelve)
    encoded = [encoding.encode(json.loads(row), tokenizer_loading.load_tokenizer(config))["input_ids"] for row in rows]
    shortest = len(encoded[11])
    assert shortest < min(map(len, encoded[:11]))
    config = replace(config, corpus=str(tmp_path / "rows.jsonl"), batch_size=1, gradient_accumulation_steps=4)
    config = replace(config, validation_share=0.0, logging_steps=50, max_steps=20, eval_steps=1)
    with raises("LossNotFinite") as raised:
        training_loop.train(config, tmp_path / "run", report=lambda *_, **__: None)
    assert raised.value.values["rows"] == "12"
    assert int(raised.value.values["good"]) == raised.value.values["step"] - 1


def test_a_batch_that_memory_does_not_hold_is_named(config, tmp_path, monkeypatch):
    full = MemoryError("can't allocate memory")
    monkeypatch.setattr("transformers.Trainer.compute_loss", lambda *_, **__: (_ for _ in ()).throw(full))
    with pytest.raises(MemoryError) as raised:
        events_of(replace(config, validation_share=0.0), tmp_path)
    assert (raised.value.batch_shape[0], len(raised.value.batch_rows.split(", "))) == (4, 4)

    class Small:
        training, device, train, eval = False, "cpu", lambda *_: None, lambda *_: None

        def __call__(self, **_):
            raise full

    rows = [{"input_ids": [1, 2], "labels": [1, 2], "id": str(number)} for number in (5, 9)]
    with pytest.raises(MemoryError) as raised:
        batching.held_out_loss(Small(), rows, 2)
    assert (raised.value.batch_shape, raised.value.batch_rows) == ((2, 2), "5, 9")


def test_a_checkpoint_of_spoilt_weights_is_not_called_whole(config, tmp_path):
    """With one log in five steps, weights that break at step 3 would be in the checkpoint of step 4."""
    started = []

    def spoil() -> bool:
        started.append(True)
        if len(started) == 3:
            next(weight for weight in models[-1].parameters() if weight.requires_grad).data.fill_(math.nan)
        return False

    models, adapter = [], training_adapters.add_adapter
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_adapters, "add_adapter", lambda *args: models.append(adapter(*args)) or models[-1])
        rare = replace(config, max_steps=8, logging_steps=5, eval_steps=2, validation_share=0.0)
        with raises("LossNotFinite"):
            events_of(rare, tmp_path, should_stop=spoil)
    assert checkpoints.whole_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")


def test_layers_of_an_unknown_name_are_refused_in_words(config, tmp_path):
    with raises("LayersUnknown", match=r"has no layers named nothing\b.*Set target_modules to all-linear"):
        events_of(replace(config, target_modules="nothing"), tmp_path)


def test_an_adapter_on_the_head_is_trained_too(config, tmp_path):
    from safetensors.torch import load_file

    events_of(replace(config, target_modules="q_proj,lm_head"), tmp_path)
    trained = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert all(weight.abs().sum() > 0 for name, weight in trained.items() if "lora_B" in name)
    assert any("lm_head" in name and "lora_B" in name for name in trained)


def test_a_chat_that_ends_with_a_question_does_not_teach_to_stop_there(tiny_tokenizer):
    import copy

    bare = copy.deepcopy(tiny_tokenizer)
    bare.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    assert learned_text({"messages": [*TURN, TURN[0]]}, bare) == " gull lamp"


def test_a_corpus_of_one_row_is_refused_in_words(config, tmp_path):
    (tmp_path / "one.jsonl").write_text(json.dumps(chat_rows(1)[0], ensure_ascii=False), encoding="utf-8")
    with raises("CorpusTooSmall", match=r"one.jsonl has 1 different rows; at least 10"):
        events_of(replace(config, corpus=str(tmp_path / "one.jsonl")), tmp_path / "out")


def test_a_corpus_with_nothing_to_learn_is_refused_in_words(config, tmp_path):
    with raises("NothingToLearn", match="Raise max_length"):
        events_of(replace(config, max_length=8), tmp_path)


def test_chats_need_a_chat_template(config, tiny_tokenizer, tmp_path):
    import copy

    bare = copy.deepcopy(tiny_tokenizer)
    bare.chat_template = None
    with raises("NoChatTemplate", match="Choose an instruct model"):
        training_loop.prepare_rows(config, bare, lambda *_, **__: None, tmp_path)


def encoded_rows(config, tokenizer, count=40) -> list[dict]:
    rows = [row | {"id": str(number)} for number, row in enumerate(chat_rows(count))]
    return encode_rows(rows, tokenizer, config)[0]


def test_packing_keeps_every_token_and_fills_the_blocks(config, tiny_tokenizer):
    rows = encoded_rows(config, tiny_tokenizer)
    blocks = packing_module.pack(rows, 128)
    assert max(len(block["input_ids"]) for block in blocks) <= 128
    assert sorted(id for block in blocks for id in block["input_ids"]) == sorted(
        id for row in rows for id in row["input_ids"]
    )
    assert len(blocks) <= math.ceil(sum(len(row["input_ids"]) for row in rows) / 128) + 1
    assert sorted(" ".join(block["id"] for block in blocks).split()) == sorted(row["id"] for row in rows)


@pytest.mark.parametrize("flat", [False, True])
def test_documents_of_a_block_do_not_see_each_other(config, tiny_tokenizer, flat):
    import torch

    base = model_loading.load_base(config).eval()
    rows = encoded_rows(config, tiny_tokenizer, 12)
    blocks = packing_module.pack(rows, 128)
    assert len(blocks) > 1
    batch = packing_module.collate(blocks, flat=flat)
    packed = base(**{key: batch[key] for key in ("input_ids", "position_ids")}, use_cache=False).logits
    ids, positions = batch["input_ids"], batch["position_ids"]
    found = 0
    for line, start in (positions == 0).nonzero().tolist():
        for row in rows:
            length = len(row["input_ids"])
            if ids[line, start : start + length].tolist() == row["input_ids"]:
                alone = base(input_ids=torch.tensor([row["input_ids"]])).logits[0]
                torch.testing.assert_close(packed[line, start : start + length], alone, atol=1e-4, rtol=1e-4)
                found += 1
                break
    assert found == len(rows)


@pytest.mark.parametrize("window", [None, 6])
def test_a_call_for_each_document_gives_what_the_masked_call_gives(config, tiny_tokenizer, monkeypatch, window):
    """Logits and gradients; with a sliding window too, which documents are longer than."""
    import torch
    from transformers import AttentionInterface, MistralConfig, MistralForCausalLM
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    monkeypatch.setitem(AttentionInterface._global_mapping, "sdpa", sdpa_attention_forward)  # put back after the test
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape = MistralConfig(
        **size, num_key_value_heads=2, head_dim=8, vocab_size=len(tiny_tokenizer), sliding_window=window
    )
    torch.manual_seed(0)
    model = MistralForCausalLM(shape)
    blocks = packing_module.pack(encoded_rows(config, tiny_tokenizer, 12), 128)
    batch, found, calls = packing_module.collate(blocks), [], []
    one_call = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda *a, **b: calls.append(1) or one_call(*a, **b)
    )
    for _ in range(2):
        calls.clear()
        model.zero_grad()
        out = model(**batch, use_cache=False)
        out.loss.backward()
        found.append((out.logits, [weight.grad for weight in model.parameters()], len(calls)))
        taken = attention_kernels.attend_by_document()
    torch.testing.assert_close(found[1][0], found[0][0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1][1], found[0][1], atol=1e-5, rtol=1e-4)
    documents = sum(len(packing_module.document_lengths(positions)) for positions in batch["position_ids"])
    assert [calls for *_, calls in found] == [2, 2 * documents]
    assert taken == {}  # the last one was registered after both passes


@pytest.mark.parametrize("kind", slow_but(["qwen2"], ["qwen2", "falcon"]))
def test_a_run_says_whether_documents_were_attended_to_one_by_one(config, tmp_path, monkeypatch, kind):
    """Falcon does not tell its attention the positions, so the masked call is all that it can have."""
    import torch
    import transformers
    from transformers import AttentionInterface

    monkeypatch.setitem(AttentionInterface._global_mapping, "sdpa", AttentionInterface._global_mapping["sdpa"])
    base = Path(config.base_model)
    if kind == "falcon":
        size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
        vocabulary = json.loads((base / "config.json").read_text())["vocab_size"]
        torch.manual_seed(0)
        model = transformers.FalconForCausalLM(transformers.FalconConfig(vocab_size=vocabulary, alibi=False, **size))
        shutil.copytree(base, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
        model.save_pretrained(tmp_path / "model")
        base = tmp_path / "model"
    events = events_of(replace(config, base_model=str(base), packing=True, max_steps=1), tmp_path / "out")
    said = next(event for event in events if event["event"] == "model")
    assert (said["attention"], said["by_document"], said["varlen"]) == ("sdpa", kind == "qwen2", False)


def test_lengths_of_documents_are_those_that_were_packed(config, tiny_tokenizer):
    import torch

    rows = encoded_rows(config, tiny_tokenizer, 12)
    for block in packing_module.pack(rows, 128):
        lengths = [len(row["input_ids"]) for row in rows if row["id"] in block["id"].split()]
        assert sorted(packing_module.document_lengths(torch.tensor(block["position_ids"]))) == sorted(lengths)


def test_a_packed_run_has_the_loss_of_an_unpacked_one(config, tmp_path):
    """One step over all rows: the same tokens are learned, so the loss and its gradient are the same."""
    plain = replace(config, max_steps=1, lora_dropout=0.0, validation_share=0.0, max_length=128)
    steps = []
    for name, more in (("plain", {"batch_size": 40}), ("packed", {"batch_size": 40, "packing": True})):
        events = events_of(replace(plain, **more), tmp_path / name)
        steps.append(next(e for e in events if e["event"] == "step"))
    assert steps[1]["loss"] == pytest.approx(steps[0]["loss"], abs=1e-4)
    assert steps[1]["grad_norm"] == pytest.approx(steps[0]["grad_norm"], abs=1e-3)


def test_a_long_text_goes_on_in_more_blocks(config, tiny_tokenizer):
    row = {"id": "long", "text": "sea lamp storm " * 60}
    whole = encoding.encode(row, tiny_tokenizer)["input_ids"]
    kept, left_out = encode_rows([row], tiny_tokenizer, replace(config, max_length=16, packing=True))
    assert [kept[0]["input_ids"][0], *[id for piece in kept for id in piece["input_ids"][1:]]] == whole
    assert max(len(piece["input_ids"]) for piece in kept) == 16
    assert left_out == {}
    cut, _ = encode_rows([row], tiny_tokenizer, replace(config, max_length=16))
    assert [id for piece in cut for id in piece["input_ids"]] == whole[:16]


def test_packing_is_refused_where_layers_carry_a_state(config):
    from transformers import MambaConfig, MambaForCausalLM

    recurrent = MambaForCausalLM(MambaConfig(vocab_size=64, hidden_size=16, state_size=4, num_hidden_layers=2)).eval()
    packing = replace(config, packing=True)
    with raises("PackingUnsupported", match="Switch packing off"):
        checks.check_packing(packing, recurrent)
    checks.check_packing(packing, model_loading.load_base(config))


def test_a_model_that_sees_ahead_is_refused(config):
    from transformers import BertConfig, BertLMHeadModel

    size = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    encoder, decoder = (
        BertLMHeadModel(BertConfig(**size, num_attention_heads=2, is_decoder=decodes)).eval()
        for decodes in (False, True)
    )
    with raises("SeesAhead", match="Choose a model that writes text"):
        checks.check_causal(config, encoder)
    checks.check_causal(config, decoder)
    checks.check_causal(config, model_loading.load_base(config))


def test_padding_changes_nothing_without_a_mask(config, tiny_tokenizer):
    """The logits of each row of a batch are those of the row alone."""
    import torch

    base = model_loading.load_base(config).eval()
    rows = encoded_rows(config, tiny_tokenizer, 6)
    assert len({len(row["input_ids"]) for row in rows}) > 1
    batch = packing_module.collate(rows)
    del batch["labels"]
    together = base(**batch, use_cache=False).logits
    for line, row in enumerate(rows):
        alone = base(input_ids=torch.tensor([row["input_ids"]])).logits[0]
        torch.testing.assert_close(together[line, : len(alone)], alone, atol=1e-5, rtol=1e-5)


def test_a_model_that_caps_its_logits_keeps_its_own_loss(tiny_tokenizer):
    import torch
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    capped = Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=len(tiny_tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            final_logit_softcapping=0.1,
        )
    ).eval()
    batch = packing_module.collate([encoding.encode(row, tiny_tokenizer) for row in chat_rows(2)])
    stock = capped(**batch).loss
    cross_entropy.without_logits(capped)
    torch.testing.assert_close(capped(**batch).loss, stock)


def test_the_longest_rows_come_first_so_that_memory_peaks_at_once(config, tmp_path):
    events = events_of(replace(config, max_steps=2, batch_size=4, validation_share=0.0), tmp_path)
    data, first = (next(e for e in events if e["event"] == kind) for kind in ("data", "step"))
    assert first["tokens"] > 3 * data["longest"]  # four rows of nearly the greatest length


def test_the_last_checkpoints_and_the_best_are_kept(tmp_path):
    losses = {1: 3.0, 2: 1.0, 3: 2.0, 4: 2.5}
    for step in losses:
        checkpoint = tmp_path / f"checkpoint-{step}"
        checkpoint.mkdir()
        (checkpoint / "weights").write_text("w" * step)
        evals = [[known, losses[known]] for known in range(1, step + 1)]
        assert checkpoints.seal(checkpoint, step, evals) == step
        checkpoints.rotate(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-3", "checkpoint-4"]
    assert checkpoints.best_of(checkpoints.evals_of(str(tmp_path / "checkpoint-4"))) == 2


def test_pause_ends_with_a_checkpoint_alone_and_the_rest_is_the_same(config, tmp_path):
    config = replace(config, max_steps=6, eval_steps=3)
    whole = [e for e in events_of(config, tmp_path / "a") if e["event"] in ("step", "eval")]
    steps, seen = iter(range(10)), []

    def report(event, **values):
        seen.append({"event": event, **values})

    out = tmp_path / "b"
    ending = training_loop.train(config, out, report=report, should_stop=lambda: "pause" if next(steps) == 3 else "")
    assert (ending["paused"], (out / "adapter").exists()) == (True, False)
    resumed = events_of(config, out, resume_from=checkpoints.whole_checkpoint(out))
    both = [e for e in [*seen, *resumed] if e["event"] in ("step", "eval")]

    def losses(found):
        return [(e["event"], e["step"], e.get("loss"), e.get("eval_loss")) for e in found]

    assert losses(both) == losses(whole)


def test_a_run_that_no_longer_improves_ends_early_with_its_best_weights(config, tmp_path, monkeypatch):
    losses = iter([9.0, 0.5, 3.0, 0.5, 1.0, 0.5, 2.0, 0.5, 4.0, 0.5])  # every second one is of the rows for recall
    monkeypatch.setattr(batching, "held_out_loss", lambda *_: next(losses))
    config = replace(config, max_steps=20, eval_steps=1, early_stopping=2, keep_best=True)
    ending = training_loop.train(config, tmp_path, report=lambda *_, **__: None)
    assert (ending["steps"], ending["stopped_early"], ending["eval_loss"], ending["kept_step"]) == (4, True, 1.0, 2)
    kept, best = ((tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("adapter", "checkpoint-2"))
    assert kept == best


@pytest.mark.slow
def test_a_resumed_run_takes_its_new_learning_rate(config, tmp_path):
    config = replace(config, max_steps=6, eval_steps=2, lr_scheduler_type="constant", warmup_ratio=0.0)
    steps = iter(range(10))
    training_loop.train(
        config, tmp_path, report=lambda *_, **__: None, should_stop=lambda: next(steps) == 1 and "pause"
    )
    lower = replace(config, learning_rate=config.learning_rate / 10)
    resumed = events_of(lower, tmp_path, resume_from=checkpoints.whole_checkpoint(tmp_path))
    rates = [round(e["learning_rate"], 12) for e in resumed if e["event"] == "step"]
    assert rates == [round(config.learning_rate / 10, 12)] * 4


@pytest.mark.slow
@pytest.mark.parametrize("step", [11, 18])
def test_a_run_resumed_in_a_later_epoch_or_at_its_end_goes_on_to_the_last_bit(config, tmp_path, step):
    """Nine steps make an epoch here; at step 18 nothing is left to train."""
    config = replace(config, max_steps=18, eval_steps=18, batch_size=4)
    whole = [e for e in events_of(config, tmp_path / "a") if e["event"] == "step"]
    steps, out = iter(range(1, 99)), tmp_path / "b"
    training_loop.train(config, out, report=lambda *_, **__: None, should_stop=lambda: next(steps) == step and "pause")
    resumed = [e for e in events_of(config, out, resume_from=checkpoints.whole_checkpoint(out)) if e["event"] == "step"]
    assert [(e["step"], e["loss"]) for e in resumed] == [(e["step"], e["loss"]) for e in whole[step:]]
    adapters = [(tmp_path / name / "adapter" / "adapter_model.safetensors").read_bytes() for name in ("a", "b")]
    assert adapters[0] == adapters[1]


def test_rows_that_are_cut_and_texts_among_chats_are_told(config, tmp_path, tiny_tokenizer):
    rows = [{"messages": row["messages"]} for row in chat_rows(12)]
    rows += [{"text": "sea lamp storm " * 40}, {"text": "short"}]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    told = {}
    for packing in (False, True):
        mixed = replace(config, corpus=str(file), packing=packing, max_length=64, validation_share=0.0)
        training_loop.prepare_rows(
            mixed,
            tiny_tokenizer,
            lambda event, packing=packing, **values: told.update({packing: values}),
            tmp_path / "t",
        )
    assert [(told[packing]["rows_cut"], told[packing]["rows_text"]) for packing in (False, True)] == [(1, 2), (0, 2)]
    assert told[False]["rows_left_out"] == {}


def test_the_time_left_counts_the_evaluations_that_come(config):
    """Of 10 steps with an evaluation every 3: at step 6 come those of 6, 9 and 10."""
    from types import SimpleNamespace

    said = []
    progress = callbacks.Progress(
        config, lambda event, **values: said.append(values), lambda: False, callbacks.Watcher()
    )
    progress.recent.extend([2.0, 4.0])
    progress.eval_seconds = 5.0
    arguments = SimpleNamespace(eval_steps=3, eval_strategy="steps", output_dir="")
    state = SimpleNamespace(global_step=6, max_steps=10, epoch=1.0, num_input_tokens_seen=8)
    progress.on_log(arguments, state, None, {"loss": 1.0})
    arguments.eval_strategy = "no"
    progress.on_log(arguments, state, None, {"loss": 1.0})
    assert [one["seconds_left"] for one in said] == [3.0 * 4 + 5.0 * 3, 3.0 * 4]


@pytest.mark.parametrize(("steps", "warm"), [(3, 0), (6, 0), (100, 3), (1000, 30)])
def test_a_short_run_loses_no_step_to_the_warm_up(config, tmp_path, steps, warm):
    settings = hf_trainer.training_arguments(replace(config, max_steps=steps), tmp_path, 40, evaluates=True)
    assert settings.get_warmup_steps(steps) == warm
