"""How many tokens a corpus is: counted with a model's tokenizer, or estimated by its characters."""

import json

import pytest

from core import paths
from core.corpus import corpus, token_counter
from core.training import encoding
from tests.conftest import chat_rows
from tests.test_preferences import pair_rows


def made(tmp_path, rows: list[dict], name: str = "rows"):
    file = tmp_path / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return paths.corpus(corpus.create([file], name)["id"])


def tokens(rows: list[dict], tokenizer) -> int:
    return sum(len(encoding.encode(row, tokenizer)["input_ids"]) for row in rows)


def test_a_small_corpus_is_counted_as_training_will(tmp_path, tiny_model, tiny_tokenizer):
    rows = chat_rows(60)
    assert token_counter.of_corpus(made(tmp_path, rows), tiny_model) == (tokens(rows, tiny_tokenizer), True)


def test_a_preference_pair_counts_as_the_two_sequences_that_it_is_read_as(tmp_path, tiny_model, tiny_tokenizer):
    rows = pair_rows(20)
    sides = [{"messages": row["messages"] + row[side]} for row in rows for side in ("chosen", "rejected")]
    assert token_counter.of_corpus(made(tmp_path, rows), tiny_model) == (tokens(sides, tiny_tokenizer), True)


@pytest.mark.slow
def test_of_a_large_corpus_a_part_is_counted(tmp_path, tiny_model, tiny_tokenizer):
    rows = chat_rows(3000)
    found, counted = token_counter.of_corpus(made(tmp_path, rows), tiny_model)
    assert counted
    assert found == pytest.approx(tokens(rows, tiny_tokenizer), rel=0.03)


def test_what_a_row_holds_besides_its_text_is_no_token(tmp_path):
    texts = [f"Старый фонарь горел над морем, ночь {number}." for number in range(50)]
    plain = made(tmp_path, [{"text": text} for text in texts], "plain")
    noted = made(tmp_path, [{"text": text, "id": "x" * 200} for text in texts], "noted")
    found = token_counter.of_corpus(plain)
    assert found == token_counter.of_corpus(noted)
    assert found == (pytest.approx(sum(map(len, texts)) / 2.55, rel=0.02), False)


def test_a_model_that_is_not_here_does_not_count(tmp_path):
    corpus_path = made(tmp_path, [{"text": "A lamp burns over the sea."}] * 3)
    assert token_counter.of_corpus(corpus_path, "Qwen/Qwen2.5-7B-Instruct") == token_counter.of_corpus(corpus_path)


def test_a_folder_that_is_no_model_does_not_count(tmp_path):
    corpus_path = made(tmp_path, [{"text": "A lamp burns over the sea."}] * 3)
    assert token_counter.of_corpus(corpus_path, str(tmp_path)) == token_counter.of_corpus(corpus_path)
