"""Packed rows that lie end to end come with the lengths of their documents: nobody makes a mask of all of them."""

import math
from types import SimpleNamespace

import pytest
import torch
import transformers

from core.training import attention_kernels, callbacks, checks, cross_entropy, devices, packing
from core.training.config import TrainConfig
from tests.conftest import raises

SMALL = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
SMALL |= dict(vocab_size=64, max_position_embeddings=256, pad_token_id=0)
MODELS = {  # a window, heads that scale their logits, and plain ones
    "mistral": lambda: transformers.MistralConfig(**SMALL, sliding_window=4),
    "gemma3": lambda: transformers.Gemma3TextConfig(**SMALL, head_dim=8, sliding_window=4),
    "granite": lambda: transformers.GraniteConfig(**SMALL, logits_scaling=4.0),
    "cohere": lambda: transformers.CohereConfig(**SMALL),
    "llama": lambda: transformers.LlamaConfig(**SMALL),
}
CONFIG = TrainConfig(base_model="base", corpus="", method="lora", packing=True, precision="fp32")


def rows(*lengths: int) -> list[dict]:
    draw = torch.Generator().manual_seed(3)
    ids = [torch.randint(5, 60, (length,), generator=draw).tolist() for length in lengths]
    return [{"input_ids": each, "labels": each, "id": str(at)} for at, each in enumerate(ids)]


@pytest.mark.parametrize("name", MODELS)
def test_no_mask_is_made_of_packed_rows_and_their_loss_is_that_of_each_alone(name, monkeypatch):
    torch.manual_seed(0)
    base = transformers.AutoModelForCausalLM.from_config(MODELS[name](), attn_implementation="sdpa").eval()
    documents = rows(9, 7, 12, 3)
    alone = [
        base(input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])) for row in documents
    ]
    learned = [len(row["input_ids"]) - 1 for row in documents]
    expected = sum(float(out.loss.detach()) * count for out, count in zip(alone, learned, strict=True)) / sum(learned)
    masks, stock = [], attention_kernels._Documents.attend
    attention_kernels.attend_by_document()
    assert checks.check_packing(CONFIG, base) == {"flat": True}
    cross_entropy.without_logits(base)
    attention = transformers.AttentionInterface()["sdpa"]

    def attend(module, query, key, value, attention_mask, **more):
        masks.append(attention_mask)
        return attention(module, query, key, value, attention_mask, **more)

    monkeypatch.setitem(transformers.AttentionInterface._global_mapping, "sdpa", attend)
    batch = packing.collate(packing.pack(documents, 16), flat=True)
    assert float(base(**batch).loss.detach()) == pytest.approx(expected, rel=1e-5)
    assert masks == [None, None]
    assert stock is attention_kernels._Documents.attend


def test_a_model_that_reads_lengths_is_not_refused_for_its_masks():
    """Granite 4 makes its masks without the positions; the lengths of documents keep them apart all the same."""
    shape = transformers.GraniteMoeHybridConfig(
        **SMALL, num_local_experts=0, shared_intermediate_size=48, mamba_n_heads=4, layer_types=["attention"] * 2
    )
    base = transformers.AutoModelForCausalLM.from_config(shape, attn_implementation="sdpa")
    assert not checks.leaks(base, "sdpa")
    attention_kernels.attend_by_document()
    assert checks.check_packing(CONFIG, base) == {"flat": True}


def test_a_row_that_is_its_whole_batch_says_that_it_is_one_document():
    batch = packing.collate(rows(5), alone=True)
    assert (batch["cu_seq_lens_q"].tolist(), batch["cu_seq_lens_q"].dtype) == ([0, 5], torch.int32)
    assert (batch["max_length_q"], batch["max_length_k"]) == (5, 5)
    assert set(packing.collate(rows(5, 3), alone=True)) == {"input_ids", "labels"}
    assert set(packing.collate(rows(5))) == {"input_ids", "labels"}


@pytest.mark.parametrize(("rank", "cards", "name"), [("0", 2, "cuda:0"), ("1", 2, "cuda:1"), ("1", 1, "cuda:0")])
def test_a_process_that_sees_its_own_card_alone_takes_it(rank, cards, name, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    assert devices.device() == name


def test_the_best_checkpoint_is_looked_for_only_where_there_was_an_evaluation(tmp_path):
    progress = callbacks.Progress(CONFIG, lambda *_, **__: None, lambda: False, callbacks.Watcher())
    progress.keep_best(tmp_path / "adapter", 4)
    assert progress.kept_step is None


def test_a_model_that_computes_nan_is_refused_by_its_precision():
    def base(input_ids, use_cache):
        return SimpleNamespace(logits=torch.full((*input_ids.shape, 8), math.nan))

    base.device, base.computes_in = "cpu", "fp16"
    with raises("NotFinite", match=r"NaN or infinity in fp16\. Set precision to fp32"):
        checks.check_causal(CONFIG, base)
