"""A corpus is encoded once and mapped into memory; a changed byte of it, or another setting, encodes it anew."""

import importlib.util
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from core.training import corpus_rows, encoding, packing, token_cache, training_loop
from core.training.config import TrainConfig
from tests.conftest import WORDS, chat_rows, encode_rows


@pytest.fixture
def config(tiny_model, tmp_path) -> TrainConfig:
    corpus = tmp_path / "rows.jsonl"
    corpus.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in chat_rows(40)), encoding="utf-8")
    return TrainConfig(base_model=tiny_model, corpus=str(corpus), method="lora", max_length=64)


@pytest.fixture
def encoded(monkeypatch) -> list[Path]:
    """The corpora that were encoded, one entry each time."""
    done, encode = [], token_cache._encode_corpus

    def counted(config, *more):
        done.append(Path(config.corpus))
        encode(config, *more)

    monkeypatch.setattr(token_cache, "_encode_corpus", counted)
    return done


def prepared(config, tokenizer, cache):
    """Training and held-out rows, and what was said of them."""
    said = {}
    rows = training_loop.prepare_rows(config, tokenizer, lambda event, **values: said.update({event: values}), cache)
    return *rows, said["data"]


def as_lists(config, tokenizer) -> tuple[list[dict], list[dict]]:
    """The same rows encoded in memory."""
    parts = corpus_rows.split(list(corpus_rows.read_rows(config.corpus)), config.validation_share)
    return tuple(encode_rows(part, tokenizer, config)[0] for part in parts)


def bare(rows) -> list[dict]:
    return [{key: value for key, value in rows[at].items() if key != "id"} for at in range(len(rows))]


def test_mapped_rows_are_the_rows_encoded_in_memory(config, tiny_tokenizer, tmp_path):
    training, held_out, data = prepared(config, tiny_tokenizer, tmp_path / "tokens")
    expected, expected_out = as_lists(config, tiny_tokenizer)
    assert (bare(training), bare(held_out)) == (bare(expected), bare(expected_out))
    assert data["tokens_learned"] == sum(label != encoding.IGNORED for row in expected for label in row["labels"])
    assert data["longest"] == max(map(len, (row["input_ids"] for row in expected)))


def test_mapped_blocks_are_the_blocks_packed_in_memory(config, tiny_tokenizer, tmp_path):
    config = replace(config, packing=True)
    blocks, _, data = prepared(config, tiny_tokenizer, tmp_path / "tokens")
    expected = packing.pack(as_lists(config, tiny_tokenizer)[0], config.max_length)
    assert bare(blocks) == bare(expected)
    assert data["tokens_learned"] == sum(label != encoding.IGNORED for block in expected for label in block["labels"])
    assert data["fill"] == sum(len(block["input_ids"]) for block in expected) / (len(expected) * config.max_length)


def test_rows_are_encoded_once(config, tiny_tokenizer, tmp_path, encoded):
    first, _, data = prepared(config, tiny_tokenizer, tmp_path / "tokens")
    again, _, data_again = prepared(replace(config, learning_rate=0.1, seed=1), tiny_tokenizer, tmp_path / "tokens")
    assert len(encoded) == 1
    assert (bare(again), data_again) == (bare(first), data)


def test_an_edited_file_never_trains_on_stale_rows(config, tiny_tokenizer, tmp_path, encoded):
    """One row changes while name, size and time of the file stay: huggingface/datasets#2956."""
    prepared(config, tiny_tokenizer, tmp_path / "tokens")
    corpus, before = Path(config.corpus), os.stat(config.corpus)
    text = corpus.read_text(encoding="utf-8")
    corpus.write_text(text.replace("storm", "lamps"), encoding="utf-8")
    os.utime(corpus, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = os.stat(corpus)
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    training, _, _ = prepared(config, tiny_tokenizer, tmp_path / "tokens")
    assert len(encoded) == 2
    assert not any("storm" in tiny_tokenizer.decode(row["input_ids"]) for row in bare(training))


@pytest.mark.parametrize(
    "change", [{"max_length": 32}, {"learn": "all"}, {"packing": True}, {"validation_share": 0.2}], ids=str
)
def test_another_setting_encodes_anew(config, tiny_tokenizer, change):
    assert token_cache.tokens_key(replace(config, **change), tiny_tokenizer) != token_cache.tokens_key(
        config, tiny_tokenizer
    )


def test_files_that_go_from_one_corpus_to_the_other_encode_anew(config, tiny_tokenizer, tmp_path):
    keys = set()
    for border in (1, 2):
        places = [tmp_path / f"{name}-{border}" for name in "ab"]
        for number in range(3):
            place = places[number >= border]
            place.mkdir(exist_ok=True)
            (place / f"rows-{number}.jsonl").write_text(json.dumps({"text": f"lamp {number}"}) + "\n", encoding="utf-8")
        mine = replace(config, corpus=str(places[0]))
        keys.add(token_cache.tokens_key(mine, tiny_tokenizer, [str(places[1])]))
    assert len(keys) == 2


def test_another_template_encodes_anew(config, tiny_tokenizer):
    import copy

    other = copy.deepcopy(tiny_tokenizer)
    other.chat_template += " "
    assert token_cache.tokens_key(config, other) != token_cache.tokens_key(config, tiny_tokenizer)


def test_encoding_that_was_cut_short_begins_anew(config, tiny_tokenizer, tmp_path, encoded, monkeypatch):
    pieces = encoding.encode_pieces
    monkeypatch.setattr(encoding, "encode_pieces", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        prepared(config, tiny_tokenizer, tmp_path / "tokens")
    monkeypatch.setattr(encoding, "encode_pieces", pieces)
    training, _, _ = prepared(config, tiny_tokenizer, tmp_path / "tokens")
    assert len(encoded) == 2
    assert bare(training) == bare(as_lists(config, tiny_tokenizer)[0])


def test_the_corpora_used_last_are_kept(config, tiny_tokenizer, tmp_path, encoded, monkeypatch):
    monkeypatch.setattr(token_cache, "TOKENS_KEPT", 2)
    for length in (32, 40, 32, 48, 32):
        prepared(replace(config, max_length=length), tiny_tokenizer, tmp_path / "tokens")
        for path in (tmp_path / "tokens").iterdir():  # as if a minute went by
            os.utime(path, (path.stat().st_atime - 60, path.stat().st_mtime - 60))
    assert len(encoded) == 3
    assert len([path for path in (tmp_path / "tokens").iterdir() if path.is_dir()]) == 2


def test_a_long_encoding_says_how_far_it_is(config, tiny_tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(token_cache, "TELL_SECONDS", -1)
    said = []
    training_loop.prepare_rows(
        config, tiny_tokenizer, lambda event, **values: said.append((event, values)), tmp_path / "t"
    )
    assert said[7] == ("preparing", {"stage": "tokens", "done": 7, "total": 40})


def test_a_thousand_rows_are_held_out_of_a_large_corpus():
    rows = [{"id": str(number)} for number in range(20_000)]
    training, held_out = corpus_rows.split(rows, 0.1)
    assert (len(training), len(held_out)) == (19_000, 1000)


def test_rows_are_numbered_as_the_corpus_tab_does(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("a", "b", "a", WORDS)))
    assert [(number, row["text"]) for number, row in corpus_rows.numbered_rows(path)] == [
        (1, "a"),
        (2, "b"),
        (4, WORDS),
    ]


def test_which_rows_are_held_out_follows_from_a_hash_of_their_names():
    """The same ones on every machine, and not those that come first by name."""
    _, held_out = corpus_rows.split([{"id": f"row {number:02}"} for number in range(40)], 0.1)
    assert [row["id"] for row in held_out] == ["row 13", "row 16", "row 25", "row 33"]


def test_of_large_clusters_alone_the_smallest_is_held_out():
    rows = [{"id": str(number), "cluster": "few" if number < 8 else "many"} for number in range(20)]
    assert corpus_rows.split(rows, 0.1) == (rows[8:], rows[:8])
    assert corpus_rows.split(rows[::-1], 0.1) == (rows[:7:-1], rows[7::-1])
    assert corpus_rows.split(rows[8:], 0.1) == (rows[8:], [])


def test_near_copies_are_held_out_together_when_a_corpus_is_encoded(config, tiny_tokenizer, tmp_path):
    rows = [row | {"cluster": f"poem {number // 4}"} for number, row in enumerate(chat_rows(40))]
    Path(config.corpus).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    training, held_out, _ = prepared(config, tiny_tokenizer, tmp_path / "tokens")
    numbers = [{(int(number) - 1) // 4 for number in part.numbers} for part in (training, held_out)]
    assert (len(numbers[0]), len(numbers[1]), numbers[0] & numbers[1]) == (9, 1, set())


@pytest.mark.parametrize("packing", [False, True])
def test_of_texts_each_token_is_learned_but_the_first_of_a_packed_one(config, tiny_tokenizer, tmp_path, packing):
    """That counts the first token of the vocabulary, whose id is 0."""
    texts = [{"text": f"{number} sea<|endoftext|>lamp"} for number in range(10)]
    Path(config.corpus).write_text("".join(json.dumps(row) + "\n" for row in texts), encoding="utf-8")
    config = replace(config, task="text", packing=packing, validation_share=0.0)
    rows, _, data = prepared(config, tiny_tokenizer, tmp_path / "tokens")
    tokens = sum(len(row["input_ids"]) for row in bare(rows))
    assert sum(row["input_ids"].count(0) for row in bare(rows)) == 10
    assert (data["tokens_train"], data["tokens_learned"]) == (tokens, tokens - 10 * packing)
    if packing:
        assert data["tokens_learned"] == sum(label != encoding.IGNORED for row in bare(rows) for label in row["labels"])


@pytest.mark.parametrize("file", token_cache.ENCODERS)
def test_another_version_of_the_program_encodes_anew(config, tiny_tokenizer, tmp_path, file):
    """A run that is resumed with a program that encodes otherwise never trains on rows of the one before."""
    folder = tmp_path / "training"
    shutil.copytree(Path(token_cache.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))

    def key() -> str:
        spec = importlib.util.spec_from_file_location("other_training", folder / "__init__.py")
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "other_training", importlib.util.module_from_spec(spec))
            found = importlib.import_module("other_training.token_cache").tokens_key(config, tiny_tokenizer)
            for name in [name for name in sys.modules if name.startswith("other_training.")]:
                del sys.modules[name]
        return found

    assert key() == token_cache.tokens_key(config, tiny_tokenizer)
    with (folder / file).open("a", encoding="utf-8") as program:
        program.write("\n")
    assert key() != token_cache.tokens_key(config, tiny_tokenizer)
