"""Several corpora in one run: exact shares, exact resume, no held-out row in training, a loss for each."""

import json
import random
import zipfile
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from core import paths
from core.arena import matches
from core.corpus import corpus
from core.errors import UserError
from core.estimate import setup
from core.export import export
from core.runs import runs, store
from core.runs import trainer as run_trainer
from core.training import checkpoints, corpus_rows, mixing, tokenizer_loading, training_loop
from core.training.config import TrainConfig
from tests.conftest import WORDS, chat_rows, raises
from ui import training_start
from ui.text import Say


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def text_rows(count: int, seed: int = 3) -> list[dict]:
    words, draw = WORDS.split(), random.Random(seed)
    return [{"text": " ".join(draw.choices(words, k=draw.randint(5, 60))) + "."} for _ in range(count)]


@pytest.fixture
def texts(tmp_path) -> str:
    return write(tmp_path / "texts.jsonl", text_rows(90))


@pytest.fixture
def config(tiny_model, tiny_corpus, texts) -> TrainConfig:
    return TrainConfig(
        base_model=tiny_model,
        corpus=tiny_corpus,
        mix=((texts, 0.25),),
        method="lora",
        max_steps=6,
        eval_steps=2,
        learning_rate=0.01,
        precision="fp32",
    )


def events_of(config: TrainConfig, out: Path, **more) -> list[dict]:
    found = []
    training_loop.train(config, out, report=lambda event, **values: found.append({"event": event, **values}), **more)
    return found


class Lengths:
    """Encoded rows of which the lengths alone matter."""

    def __init__(self, lengths: list[int]):
        self.lengths = lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, at: int) -> dict:
        return {"id": str(at + 1)}


def drawn(rows: list[list[int]], shares: list[float], rows_a_step: int, epochs: int = 1) -> tuple:
    """The mixture, the sampler, and for each epoch the (corpus, length) of its rows in their order."""
    mixture = mixing.Mixture([Lengths(lengths) for lengths in rows], shares)
    order, passes = mixing.ByShare(mixture, rows_a_step, 7, epochs), []
    for epoch in range(epochs):
        order.set_epoch(epoch)
        numbers = [(sum(at >= start for start in mixture.starts[1:]), mixture.lengths[at]) for at in order]
        passes.append(numbers)
    return mixture, order, passes


@pytest.mark.parametrize("rows_a_step", [1, 4, 16])
@pytest.mark.parametrize("shares", [[0.8, 0.2], [0.5, 0.5], [0.1, 0.9], [0.7, 0.2, 0.1]])
def test_shares_are_right_to_a_batch_after_any_number_of_steps(shares, rows_a_step):
    draw = random.Random(5)
    longest = (400, 60, 1000)
    rows = [[draw.randint(2, longest[number]) for _ in range(200 + 150 * number)] for number in range(len(shares))]
    _, order, passes = drawn(rows, shares, rows_a_step, epochs=3)
    assert len(order) % rows_a_step == 0
    read, total = Counter(), 0
    for at, (number, length) in enumerate(row for one in passes for row in one):
        read[number] += length
        total += length
        if (at + 1) % rows_a_step == 0:
            for which, share in enumerate(shares):
                assert abs(read[which] - share * total) <= 1000 * max(1, len(shares) - 1), (at, which)


def test_an_epoch_reads_every_row_of_the_first_corpus_and_the_others_begin_again():
    rows = [list(range(10, 60)), [30] * 7]
    mixture, _, passes = drawn(rows, [0.5, 0.5], 4, epochs=2)
    both = Counter(length for one in passes for number, length in one if number == 0)
    assert set(both) == set(rows[0])
    assert set(both.values()) <= {2, 3}
    assert sum(both.values()) - 2 * len(rows[0]) < 2 * 4  # what fills the last step is read of the next pass
    assert sum(number == 1 for number, _ in passes[0]) > len(rows[1])
    assert mixture[50 + 3]["id"] == "2:4"


def test_the_order_follows_from_the_seed_and_can_be_begun_in_any_epoch():
    rows = [[5, 9, 30, 4] * 20, [7, 80] * 30]
    passes = drawn(rows, [0.7, 0.3], 8, epochs=3)[2]
    mixture = mixing.Mixture([Lengths(lengths) for lengths in rows], [0.7, 0.3])
    late = mixing.ByShare(mixture, 8, 7, 3)
    late.set_epoch(2)
    assert [mixture.lengths[at] for at in late] == [length for _, length in passes[2]]
    other = mixing.ByShare(mixture, 8, 8, 3)
    assert list(other) != list(mixing.ByShare(mixture, 8, 7, 3))


@pytest.mark.slow
def test_shares_of_a_real_run_and_a_loss_for_each_corpus(config, tmp_path):
    batches = []

    class Watching(training_loop.callbacks.Watcher):
        def wishes(self, step):
            return ()

    collate = training_loop.hf_trainer.batching.named_batch
    with pytest.MonkeyPatch.context() as patch:

        def seen(rows, **more):
            batches.append([(row["id"].startswith("2:"), len(row["input_ids"])) for row in rows])
            return collate(rows, **more)

        patch.setattr(training_loop.hf_trainer.batching, "named_batch", seen)
        found = events_of(replace(config, max_steps=0, epochs=2.0), tmp_path / "out")
    data = next(event for event in found if event["event"] == "data")
    assert [(one["share"], one["rows_train"], one["rows_eval"]) for one in data["corpora"]] == [
        (0.75, 36, 4),
        (0.25, 81, 9),
    ]
    steps = [event["step"] for event in found if event["event"] == "step"]
    batches = batches[: steps[-1]]
    read = [sum(length for batch in batches for other, length in batch if other is which) for which in (False, True)]
    assert abs(read[1] / sum(read) - 0.25) < 64 / sum(read)
    # Two epochs are two passes over the first corpus, to within a batch.
    assert 0 <= read[0] - 2 * data["corpora"][0]["tokens_train"] <= 2 * 4 * 64
    for event in found:
        if event["event"] == "eval":
            own, other = event["by_corpus"]
            assert event["eval_loss"] == pytest.approx(0.75 * own + 0.25 * other)
    first = next(event for event in found if event["event"] == "eval")
    alone = events_of(replace(config, mix=(), max_steps=1), tmp_path / "alone")
    assert first["by_corpus"][0] == next(event for event in alone if event["event"] == "eval")["eval_loss"]


@pytest.mark.slow
@pytest.mark.parametrize("packing", [False, True])
def test_shares_are_resumed_to_the_last_bit(config, tmp_path, packing):
    config = replace(config, packing=packing, max_length=96, max_steps=0, epochs=1.5, save_total_limit=99)
    whole = events_of(config, tmp_path / "whole")
    last = [event["step"] for event in whole if event["event"] == "step"][-1]
    for step in (2, 10):
        for newer in [path for path in (tmp_path / "whole").glob("checkpoint-*") if int(path.name[11:]) > step]:
            (newer / "whole.json").unlink()
        before = {e["step"]: (e["loss"], e["grad_norm"]) for e in whole if e["event"] == "step"}
        checkpoint = checkpoints.whole_checkpoint(tmp_path / "whole")
        again = events_of(config, tmp_path / "whole", resume_from=checkpoint)
        after = {e["step"]: (e["loss"], e["grad_norm"]) for e in again if e["event"] == "step"}
        assert set(after) == set(range(int(Path(checkpoint).name[11:]) + 1, last + 1))
        assert after == {at: before[at] for at in after}
        whole = [e for e in whole if e["event"] == "step" and e["step"] not in after] + again


def test_no_copy_of_a_held_out_row_is_trained_on_in_another_corpus(config, tmp_path):
    own = list(corpus_rows.read_rows(config.corpus))
    kept = corpus_rows.split(own, config.validation_share)[1]
    sentence = "Under the lamp of the seventh stair the keeper wrote that {} ships had passed before the storm came in."
    near = [
        {"text": sentence.format(n) + " " + "He slept late, and the gulls did not wake him at all."} for n in range(60)
    ]
    texts = [*text_rows(60), *({"text": turn["messages"][1]["content"]} for turn in own), *near[:30]]
    one, other = write(tmp_path / "one.jsonl", [*own, *near[30:]]), write(tmp_path / "other.jsonl", [*kept, *texts])
    config = replace(config, corpus=one, mix=((other, 0.3),), max_steps=1)
    tokenizer = tokenizer_loading.load_tokenizer(config)
    found = []
    training, held_out = training_loop.prepare_rows(
        config, tokenizer, lambda event, **values: found.append(values), tmp_path / "tokens"
    )
    left_out = next(values["rows_left_out"] for values in found if "rows_left_out" in values)
    assert left_out["held_out_elsewhere"] >= len(kept)
    rows_of = [dict(corpus_rows.numbered_rows(corpus)) for corpus in (one, other)]

    def said(mixture) -> list[set[str]]:
        numbers = [
            {row.removeprefix("2:") for row in (mixture.parts[at][n]["id"] for n in range(len(mixture.parts[at])))}
            for at in (0, 1)
        ]
        return [{corpus_rows.mark(rows_of[at][int(number)]) for number in numbers[at]} for at in (0, 1)]

    trained, tested = said(training), said(held_out)
    assert not (trained[0] | trained[1]) & (tested[0] | tested[1])
    if any(corpus_rows.mark(row) in tested[0] for row in near[30:]):  # one sentence with other numbers: near copies
        assert not any(corpus_rows.mark(row) in trained[1] for row in near[:30])


def test_what_is_held_out_of_a_corpus_is_the_same_beside_another_one(config, tmp_path):
    tokenizer, quiet = tokenizer_loading.load_tokenizer(config), lambda *_, **__: None
    both = training_loop.prepare_rows(config, tokenizer, quiet, tmp_path / "tokens")[1]
    alone = training_loop.prepare_rows(replace(config, mix=()), tokenizer, quiet, tmp_path / "tokens")[1]
    assert both.parts[0].numbers.tolist() == alone.numbers.tolist()


def test_the_arena_measures_what_is_held_out_of_every_corpus(config, tmp_path, monkeypatch):
    tokenizer, quiet = tokenizer_loading.load_tokenizer(config), lambda *_, **__: None
    mixture = training_loop.prepare_rows(config, tokenizer, quiet, tmp_path / "tokens")[1]
    counts = [len(set(part.numbers.tolist())) for part in mixture.parts]
    monkeypatch.setattr(matches.chat_models, "find", lambda _: SimpleNamespace(config=config))
    rows = matches.held_out_rows(["run:one"])
    assert [sum(kind in row for row in rows) for kind in ("messages", "text")] == counts
    assert all(counts)


def test_texts_go_with_chats_both_ways_and_a_small_corpus_is_named(config, texts, tiny_corpus, tmp_path):
    found = events_of(
        replace(config, corpus=texts, mix=((tiny_corpus, 0.3),), task="text", max_steps=1), tmp_path / "a"
    )
    assert len(next(event for event in found if event["event"] == "data")["corpora"]) == 2
    few = write(tmp_path / "few.jsonl", text_rows(4))
    with raises("CorpusTooSmall", match=r"few\.jsonl has 4 different rows"):
        events_of(replace(config, mix=((few, 0.3),)), tmp_path / "b")


def test_preference_pairs_are_refused_beside_other_corpora(config, tmp_path):
    pairs = [
        {"messages": row["messages"][:1], "chosen": f"yes {n}", "rejected": "no"} for n, row in enumerate(chat_rows(12))
    ]
    other = write(tmp_path / "pairs.jsonl", pairs)
    with raises("PreferencesAlone", match="learned alone"):
        events_of(replace(config, mix=((other, 0.3),)), tmp_path / "out")


@pytest.mark.parametrize(
    ("mix", "error"),
    [
        ((("a", 0.5), ("b", 0.5)), "TooLarge"),
        ((("a", 0.2), ("a", 0.2)), "MixedTwice"),
        ((("c", 0.2),), "MixedTwice"),
        (("a",), "NotAMix"),
        (5, "NotAMix"),
    ],
)
def test_shares_that_make_no_sense_are_refused(mix, error):
    with raises(error):
        TrainConfig(base_model="m", corpus="c", mix=mix)


def test_a_config_keeps_its_shares_on_the_disk_and_one_of_before_has_none(config, tmp_path):
    config.save(tmp_path / "config.json")
    assert TrainConfig.load(tmp_path / "config.json") == config
    old = {name: value for name, value in asdict(config).items() if name not in ("mix", "start")}
    assert TrainConfig.from_dict(old) == replace(config, mix=())


@pytest.mark.slow
def test_a_capsule_carries_every_corpus_and_the_database_every_loss(config, no_worker, tmp_path):
    run_id = runs.start(replace(config, max_steps=2))
    assert run_trainer.run(paths.run(run_id)) == "finished"
    evals = (store.sync(run_id), store.curves(run_id)["evals"])[1]
    assert [len(row["by_corpus"]) for row in evals] == [2, 2]
    export.make(run_id, "capsule", tmp_path / "capsule.zip", lambda *_, **__: None)
    with zipfile.ZipFile(tmp_path / "capsule.zip") as archive:
        packed = json.loads(archive.read("config.json"))
        assert packed["mix"] == [["corpus-2.jsonl", 0.25]]
        assert len(archive.read("corpus-2.jsonl").splitlines()) == 90


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_shares_are_chosen_in_the_form_and_their_meaning_is_told(lang, tiny_corpus, texts):
    say = Say(lang)
    first, second = (corpus.create([path], name)["id"] for path, name in ((tiny_corpus, "чаты"), (texts, "тексты")))
    assert training_start.mixed([second], "25") == [[second, 0.25]]
    assert training_start.mixed(["a", "b"], "20 10,5") == [["a", 0.2], ["b", 0.105]]
    assert training_start.mixed(["a", "b"], "20") == [["a", 0.2], ["b", 0.2]]
    assert training_start.mixed(["a", "b", "c"], "20 10") == [["a", 0.2], ["b", 0.1], ["c", None]]
    assert training_start.mixed(["a", "b"], "20,30") == training_start.mixed(["a", "b"], "20, 30")
    assert training_start.mixed(["a", "b", "c"], "20,30,2.5") == [["a", 0.2], ["b", 0.3], ["c", 0.025]]
    assert training_start.mixed([], "20") == []
    mix = [["a", 0.2], ["b", 0.105]]
    assert training_start.parts_of(mix) == {"mix": ["a", "b"], "shares": "20  10.5"}
    assert training_start.mixed(*training_start.parts_of(mix).values()) == mix
    told = training_start.on_told(say, [second], "25", first, "", 2)
    assert ("чаты: 75" in told, "тексты: 25" in told) == (True, True)
    assert training_start.on_told(say, [], "25", first, "", 2) == ""


def test_the_calculator_counts_what_is_read_besides():
    assert mixing.amounts([1000, 100], [0.2], 3) == [
        {"share": 0.8, "tokens": 3000.0, "passes": 3.0},
        {"share": 0.2, "tokens": 750.0, "passes": 7.5},
    ]
    assert setup.with_mix(1000, "20") == 1250
    assert setup.with_mix(1000, 0) == 1000
    for percent in ("95", "-1"):
        with pytest.raises(UserError, match="20"):
            setup.with_mix(1000, percent)
