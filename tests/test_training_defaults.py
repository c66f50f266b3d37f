"""The form's defaults: from the model, the method, the corpus and the card."""

import json

import pytest

from core import paths
from core.hardware import hardware
from core.runs import defaults, runs
from core.training.config import TrainConfig
from core.training.errors import TrainingError


def corpus_of(rows: int, kind: str = "chat", characters: int = 0) -> str:
    directory = paths.corpora() / "c"
    directory.mkdir()
    card = {"name": "C", "rows": rows, "kind": kind, "characters": characters}
    (directory / "card.json").write_text(json.dumps(card), encoding="utf-8")
    return "c"


def card(gib: int) -> tuple[hardware.Gpu, ...]:
    return (hardware.Gpu("card", gib * 2**30, gib * 2**30, 8.9, 300.0),)


@pytest.fixture(autouse=True)
def no_card(monkeypatch):
    monkeypatch.setattr(hardware, "gpus", lambda: ())


def test_a_large_corpus_is_logged_and_evaluated_every_thousand_steps():
    values = defaults.suited("Qwen/Qwen2.5-7B", "qlora", corpus_of(100_000))
    assert values == {
        "learning_rate": 2e-4,
        "batch_size": 4,
        "gradient_accumulation_steps": 1,
        "max_length": 1024,
        "epochs": 3.0,
        "gradient_checkpointing": False,
        "logging_steps": 1000,
        "eval_steps": 1000,
        "eval_samples": False,
    }


def test_a_small_corpus_is_logged_often_and_evaluated_ten_times():
    values = defaults.suited("Qwen/Qwen2.5-7B", "qlora", corpus_of(2000))
    assert (values["logging_steps"], values["eval_steps"]) == (7, 0)


def test_a_few_long_texts_are_counted_in_blocks():
    texts = corpus_of(10, "text", 3 * 1024 * 40_000)  # 40,000 blocks
    values = defaults.suited("Qwen/Qwen2.5-7B", "lora", texts)
    assert (values["logging_steps"], values["eval_steps"]) == (1000, 1000)


@pytest.mark.parametrize(
    ("kind", "task", "words"),
    [
        ("text", "chat", "holds plain texts only, and chat tuning learns replies. Choose continued pretraining"),
        (
            "chat",
            "text",
            'The corpus "C" holds 12 chats, and continued pretraining reads plain texts. Choose a corpus of texts',
        ),
    ],
)
def test_a_corpus_of_the_wrong_kind_is_not_even_queued(kind, task, words):
    config = TrainConfig(base_model="starter", corpus=corpus_of(12, kind), task=task)
    with pytest.raises(TrainingError, match=words):
        runs.start(config)
    assert runs.listed() == []


def test_all_weights_move_in_smaller_steps():
    assert defaults.suited("Qwen/Qwen2.5-7B", "full", None)["learning_rate"] == pytest.approx(2e-5)


def test_a_small_card_takes_one_row_at_a_time_and_recomputes(monkeypatch):
    monkeypatch.setattr(hardware, "gpus", lambda: card(12))
    values = defaults.suited("Qwen/Qwen2.5-7B", "qlora", None)
    assert (values["batch_size"], values["gradient_accumulation_steps"], values["gradient_checkpointing"]) == (
        1,
        16,
        True,
    )
    monkeypatch.setattr(hardware, "gpus", lambda: card(96))
    assert defaults.suited("Qwen/Qwen2.5-7B", "qlora", None)["batch_size"] == 4


def test_rows_are_no_longer_than_the_model_reads(tmp_path):
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 512}')
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).touch()
    assert defaults.suited(str(tmp_path), "lora", None)["max_length"] == 512
