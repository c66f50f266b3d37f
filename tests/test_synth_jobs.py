"""Synth jobs: the same seed, kill -9 and resume, pause, stop, novelty, mixes, and the corpus that comes of it."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core import events, jobs, paths
from core.corpus import corpus, duplicates, storage, turns
from core.corpus.token_counter import Scale
from core.models import tokenizer
from core.synth import __main__ as commands
from core.synth import job_files, novelty, preview, recipes, sources, synth_jobs, worker
from core.synth.copies import Copies
from core.training import encoding
from tests import tiny_tokenizers
from tests.conftest import raises, slow_but

ROOT = Path(__file__).parent.parent


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "core.synth", *arguments, "--json"]


def run(*arguments: str) -> dict:
    done = subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True)
    return json.loads(done.stdout or "{}") | ({"stderr": done.stderr} if done.stderr else {})


def rows_of(path: Path) -> bytes:
    return b"".join(shard.read_bytes() for shard in storage.shards(path))


@pytest.fixture
def tiny_tokens(tmp_path, tiny_tokenizer) -> str:
    path = tmp_path / "tokens"
    tiny_tokenizer.save_pretrained(path)
    return str(path)


def pause(directory: Path, rows: int = 60) -> None:
    """Run a job that is asked to pause when it has so many rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "GRAMMAR_BATCH", 20)
        report = worker._report

        def asked(job, last):
            report(job, last)
            if job.rows >= rows:
                jobs.ask(directory, "pause")

        patch.setattr(worker, "_report", asked)
        assert worker.run(directory) == "paused"
    jobs.forget_requests(directory)
    assert rows <= events.last(directory)["rows"] == (directory / "rows.jsonl").read_bytes().count(b"\n")


@pytest.mark.slow
def test_killed_and_resumed_gives_the_same_bytes(tmp_path):
    whole = run("resonance-en", "--tokens", "20000", "--out", str(tmp_path / "whole"), "--seed", "7")
    assert (whole["state"], whole["corpus"], whole["tokens"] >= 20_000) == ("finished", "whole", True)
    again = tmp_path / "again"
    arguments = command("resonance-en", "--tokens", "20000", "--out", str(again), "--seed", "7")
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL)
    rows = tmp_path / ".again.synth" / "rows.jsonl"
    while process.poll() is None and not (rows.exists() and rows.stat().st_size > 0):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not again.exists()
    with rows.open("ab") as torn:
        torn.write(b'{"text": "half a li')
    resumed = run("resonance-en", "--tokens", "20000", "--out", str(again), "--seed", "7")
    assert {key: resumed[key] for key in ("rows", "tokens", "made", "dropped")} == {
        key: whole[key] for key in ("rows", "tokens", "made", "dropped")
    }
    assert rows_of(again) == rows_of(tmp_path / "whole")
    numbers = [row["recipe"]["row"] for row in storage.all_rows(again)]
    assert numbers == sorted(set(numbers))


NEARLY = """
lang: en
rules:
  text: ["{one} {two} {three} {four} {five} {six}", "The old ferry leaves the {one} at six and nobody on the quay asks why it is late again."]
  one: &words [salt, rope, tide, gull, lamp, oil, brass, fog, storm, bread, coffee, stair, window, light, keeper, door, copper, basin, winter, garden, violin, letter, orchard, anvil, meadow, lantern, harbour, pepper, saddle, willow]
  two: *words
  three: *words
  four: *words
  five: *words
  six: *words
"""


def one_whole_and_one_paused(folder: Path, tiny_tokens: str) -> tuple[Path, Path]:
    """Two jobs of NEARLY, the same but that one has finished and the other is paused."""
    path = folder / "nearly.yaml"
    path.write_text(NEARLY, encoding="utf-8")
    request = {"recipe": str(path), "tokens": 20_000, "seed": 3, "model": tiny_tokens, "pack": 64}
    whole, paused = synth_jobs.create(request), synth_jobs.create(request)
    assert worker.run(whole) == "finished"
    pause(paused)
    return whole, paused


@pytest.mark.slow
def test_near_copies_are_dropped_with_the_reason_and_a_job_that_went_on_drops_the_same(tmp_path, tiny_tokens):
    whole, parts = one_whole_and_one_paused(tmp_path, tiny_tokens)
    with (parts / "dropped.jsonl").open("ab") as torn:
        torn.write(b'{"row": 9')
    assert worker.run(parts) == "finished"
    dropped = [(one / "dropped.jsonl").read_text(encoding="utf-8") for one in (whole, parts)]
    assert dropped[0] == dropped[1]
    copies = [json.loads(line) for line in dropped[0].splitlines()]
    assert {copy["why"] for copy in copies} == {"equal", "near"}
    recipe = recipes.load(tmp_path / "nearly.yaml")
    near = next(copy for copy in copies if copy["why"] == "near")
    assert (
        recipe.make(3, near["of"])["text"][:25]
        == recipe.make(3, near["row"])["text"][:25]
        == "The old ferry leaves the "
    )
    one, other = (corpus.directory(events.last(job)["corpus"]) for job in (whole, parts))
    assert rows_of(one) == rows_of(other)
    card = corpus.card(one.name)
    assert card["synth"]["copies"] == events.last(whole)["copies"]
    assert sum(card["synth"]["copies"].values()) == card["synth"]["duplicates_dropped"] == len(copies)
    blocks = (one / "blocks-64.bin").read_bytes()
    assert blocks == (other / "blocks-64.bin").read_bytes()
    assert len(blocks) == card["synth"]["tokens"] // 64 * 64 * 4


@pytest.mark.parametrize("kept_rows", slow_but([7], [0, 1, 7]))
def test_rows_that_a_kill_kept_from_the_disk_are_made_again(tmp_path, tiny_tokens, kept_rows):
    """Of a write that a kill ended in the middle, rows are missing before others that are known to be dropped."""
    whole, killed = one_whole_and_one_paused(tmp_path, tiny_tokens)
    rows = (killed / "rows.jsonl").read_bytes().splitlines(keepends=True)
    (killed / "rows.jsonl").write_bytes(b"".join(rows[:kept_rows]) + rows[kept_rows][:40])
    assert worker.run(killed) == "finished"
    one, other = (events.last(job) for job in (whole, killed))
    assert {key: one[key] for key in ("rows", "made", "copies")} == {
        key: other[key] for key in ("rows", "made", "copies")
    }
    assert rows_of(corpus.directory(one["corpus"])) == rows_of(corpus.directory(other["corpus"]))
    assert (whole / "dropped.jsonl").read_bytes() == (killed / "dropped.jsonl").read_bytes()


def test_blocks_need_a_model_to_count_by():
    with raises("NothingToPack", match="choose a model"):
        synth_jobs.create({"recipe": "fractals-en", "tokens": 2000, "pack": 2048})


def test_a_row_is_made_again_from_its_provenance(tmp_path):
    directory = synth_jobs.create({"recipe": "style-ru", "tokens": 5000, "seed": 9})
    assert worker.run(directory) == "finished"
    row = list(storage.all_rows(corpus.directory(events.last(directory)["corpus"])))[7]
    again = recipes.load("style-ru").make(row["recipe"]["seed"], row["recipe"]["row"])
    assert again["messages"] == row["messages"]
    assert row["recipe"] | {"tokens": 0, "path": ""} == {
        "name": "style-ru", "hash": recipes.load("style-ru").hash, "seed": 9, "row": 7, "tokens": 0, "path": "",
    }  # fmt: skip
    assert row["source"] == {"file": "style-ru.yaml", "line": 7}
    card = corpus.card(events.last(directory)["corpus"])
    assert card["synth"]["text"] == recipes.load("style-ru").text


@pytest.mark.slow
def test_tokens_are_counted_as_training_will_count_them(tiny_tokens):
    light = tokenizer.load(tiny_tokens)
    rows = [recipes.load(name).make(1, n) for name in ("style-en", "fractals-ru") for n in range(5)]
    counted = [len(ids) for ids in Scale(tiny_tokens, "en").ids(rows)]
    assert counted == [len(encoding.encode(row, light)["input_ids"]) for row in rows]


@pytest.mark.parametrize("template", ["gemma", "mistral-v0.1", None])
def test_chats_are_counted_for_a_base_that_takes_no_system_turn(tmp_path, template):
    model = tiny_tokenizers.build(tmp_path / "model", template or "chatml")
    if template is None:
        (model / "chat_template.jinja").unlink()
    chat = [{"role": "user", "content": "Быть или не быть?"}, {"role": "assistant", "content": "Быть."}]
    rows = [{"messages": chat}, {"messages": [{"role": "system", "content": "Отвечай."}, *chat]}]
    plain, told = map(len, Scale(str(model), "ru").ids(rows))
    assert 0 < plain < told


def wait(directory: Path, *states: str) -> None:
    end = time.monotonic() + 30
    while (now := jobs.state(directory)) not in states:
        assert time.monotonic() < end, (now, (directory / "log.txt").read_text())
        time.sleep(0.02)


def test_a_paused_job_goes_on_with_the_next_row():
    whole, parts = (synth_jobs.create({"recipe": "style-en", "tokens": 30_000, "seed": 1}) for _ in range(2))
    pause(parts)
    assert synth_jobs.progress(parts)["ending"]["reason"] == "asked"
    assert (worker.run(parts), worker.run(whole)) == ("finished", "finished")
    first, second = (corpus.directory(events.last(one)["corpus"]) for one in (whole, parts))
    assert rows_of(first) == rows_of(second)
    with raises("NothingToGoOnWith", match="has ended"):
        synth_jobs.resume(parts)


@pytest.mark.slow
def test_a_detached_job_is_paused_and_goes_on_and_stops():
    directory = synth_jobs.create({"recipe": "fractals-en", "tokens": 1_000_000_000, "seed": 1, "name": "моря"})
    assert jobs.state(directory) == "queued"
    synth_jobs.start(directory)
    wait(directory, "running")
    while not synth_jobs.progress(directory)["progress"].get("rows"):
        time.sleep(0.02)
    with raises("JobStillAtWork", match='"моря" is still at work'):
        jobs.delete(directory)
    jobs.ask(directory, "pause")
    wait(directory, "paused")
    paused = synth_jobs.progress(directory)
    assert paused["ending"]["reason"] == "asked"
    synth_jobs.resume(directory)
    wait(directory, "running")
    while synth_jobs.progress(directory)["progress"]["rows"] <= paused["ending"]["rows"]:
        time.sleep(0.02)
    synth_jobs.stop(directory)
    wait(directory, "stopped")
    ended = synth_jobs.progress(directory)
    card = corpus.card(ended["ending"]["corpus"])
    assert card["rows"] == ended["ending"]["rows"] > paused["ending"]["rows"]
    assert [path.name for path in jobs.listed(paths.synth())] == [directory.name]


@pytest.mark.slow
def test_a_job_that_was_killed_is_lost_and_can_go_on():
    directory = synth_jobs.create({"recipe": "fractals-en", "tokens": 1_000_000_000, "seed": 1})
    synth_jobs.start(directory)
    wait(directory, "running")
    while not (started := [e for e in events.read(directory)[0] if e["event"] == "started"]):
        time.sleep(0.01)
    os.kill(started[-1]["pid"], signal.SIGKILL)
    wait(directory, "lost")
    synth_jobs.stop(directory)
    wait(directory, "stopped")


@pytest.mark.slow
def test_a_recipe_with_little_to_say_pauses_the_job(tmp_path):
    path = tmp_path / "little.yaml"
    path.write_text('lang: en\nrules:\n  text: ["{a} {a}"]\n  a: [q, w, e, r, t, y, u, i]\n', encoding="utf-8")
    said = run(str(path), "--tokens", "100000", "--out", str(tmp_path / "out"))
    assert (said["state"], said["reason"], said["rows"] <= 64, said["novelty"] < 0.3) == (
        "paused",
        "novelty",
        True,
        True,
    )


def test_a_mix_holds_its_shares_and_its_cap(tmp_path):
    natural = tmp_path / "natural.jsonl"
    lines = [
        {"text": f"The {n}th boat came in at {n * 7 % 60} past {n % 24} with {n * 13} crates of herring."}
        for n in range(900)
    ]
    natural.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    card = corpus.create([natural], "natural")
    mix = tmp_path / "mix.yaml"
    mix.write_text(
        f"kind: mix\nlang: en\ncap: 0.3\nparts:\n  - {{corpus: {card['id']}, share: 1}}\n"
        "  - {recipe: fractals-en, share: 3}\n",
        encoding="utf-8",
    )
    directory = synth_jobs.create({"recipe": str(mix), "tokens": 12_000, "seed": 3})
    assert worker.run(directory) == "finished"
    rows = list(storage.all_rows(corpus.directory(events.last(directory)["corpus"])))
    total = sum(row["recipe"]["tokens"] for row in rows)
    share = sum(row["recipe"]["tokens"] for row in rows if row["recipe"]["part"] == "fractals-en") / total
    assert abs(share - 0.75) < 0.02
    paths = [row["recipe"].get("path") for row in rows if row["recipe"].get("path")]
    assert max(paths.count(path) for path in set(paths)) <= 0.3 * len(rows) + 20
    assert next(row for row in rows if row["recipe"]["part"] == card["id"])["recipe"]["from"]["id"]


def mix_of(tmp_path, natural: list[str], shares=(1, 1), recipe: str = "fractals-en") -> Path:
    file = tmp_path / "natural.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in natural), encoding="utf-8")
    card = corpus.create([file], "natural")
    mix = tmp_path / "mix.yaml"
    parts = f"  - {{corpus: {card['id']}, share: {shares[0]}}}\n  - {{recipe: {recipe}, share: {shares[1]}}}\n"
    mix.write_text(f"kind: mix\nlang: en\nparts:\n{parts}", encoding="utf-8")
    return mix


def share_of(directory: Path) -> float:
    rows = list(storage.all_rows(corpus.directory(events.last(directory)["corpus"])))
    tokens = [(row["recipe"]["tokens"], row["recipe"]["part"] == "fractals-en") for row in rows]
    return sum(count for count, own in tokens if own) / sum(count for count, _ in tokens)


def natural_lines(count: int) -> list[str]:
    draw = random.Random(1)
    vowels = "aeioubdgklmnprst"
    return [" ".join("".join(draw.choices(vowels, k=draw.randint(2, 9))) for _ in range(12)) for _ in range(count)]


@pytest.mark.slow
def test_a_mix_holds_its_shares_where_one_part_repeats_itself(tmp_path):
    """Copies are dropped after they were drawn: the shares are those of what is kept."""
    lines = [line for line in natural_lines(700) for _ in range(3)]
    mix = mix_of(tmp_path, lines)
    whole, parts = (synth_jobs.create({"recipe": str(mix), "tokens": 20_000, "seed": 3}) for _ in range(2))
    assert worker.run(whole) == "finished"
    assert events.last(whole)["dropped"] > 500
    assert abs(share_of(whole) - 0.5) < 0.01
    pause(parts)
    assert worker.run(parts) == "finished"
    first, second = (corpus.directory(events.last(one)["corpus"]) for one in (whole, parts))
    assert rows_of(first) == rows_of(second)


def test_a_mix_that_cannot_hold_its_shares_is_refused_or_pauses_in_words(tmp_path):
    mix = mix_of(tmp_path, natural_lines(60))
    with raises("MixTooShort", match=r"share of 50 % of 100000 needs 50000. Lower the volume to \d+"):
        synth_jobs.create({"recipe": str(mix), "tokens": 100_000})
    mix = mix_of(tmp_path, [line for line in natural_lines(200) for _ in range(3)])
    directory = synth_jobs.create({"recipe": str(mix), "tokens": 20_000})
    assert worker.run(directory) == "paused"
    last = events.last(directory)
    assert last["reason"] == "short"
    assert last["values"]["part"].startswith("natural")
    assert 0 < last["tokens"] < 20_000


@pytest.mark.slow
@pytest.mark.parametrize("of", [2, 3])
def test_shards_make_the_rows_of_the_whole_and_no_row_twice(of):
    whole = synth_jobs.create({"recipe": "style-en", "tokens": 30_000, "seed": 4})
    assert worker.run(whole) == "finished"
    wanted = {row["recipe"]["row"]: row["messages"] for row in rows_in(whole)}
    made = {}
    for which in range(1, of + 1):
        one = synth_jobs.create({"recipe": "style-en", "tokens": 30_000, "seed": 4, "shard": f"{which}/{of}"})
        pause(one, 20)
        assert worker.run(one) == "finished"
        own = {row["recipe"]["row"]: row["messages"] for row in rows_in(one)}
        assert abs(events.last(one)["tokens"] - 30_000 / of) < 500
        assert {number % of for number in own} == {which - 1}
        assert not own.keys() & made.keys()
        made |= own
    last = min(max(wanted), max(made) - 60)
    assert {number: row for number, row in made.items() if number <= last} == {
        number: row for number, row in wanted.items() if number <= last
    }


def rows_in(directory: Path) -> list[dict]:
    return list(storage.all_rows(corpus.directory(events.last(directory)["corpus"])))


def test_shards_of_chains_keep_rows_together():
    places = {sources.place(number, (which, 3), 2) for which in range(3) for number in range(8)}
    assert places == set(range(24))
    assert [sources.place(number, (1, 3), 2) for number in range(4)] == [2, 3, 8, 9]
    assert [sources.local(sources.place(number, (2, 5), 4), (2, 5), 4) for number in range(9)] == list(range(9))
    for wrong in ("0/3", "4/3", "x", "1/0"):
        with raises("ShardWrong", match=f"{wrong} is not a shard"):
            sources.shard_of(wrong)


@pytest.mark.slow
def test_what_is_new_is_counted_over_all_rows_and_told_again_after_a_pause():
    whole, parts = (synth_jobs.create({"recipe": "fractals-en", "tokens": 60_000, "seed": 1}) for _ in range(2))
    pause(parts)
    assert (worker.run(parts), worker.run(whole)) == ("finished", "finished")
    curves = [synth_jobs.progress(one)["curve"] for one in (whole, parts)]
    assert curves[0] == curves[1]
    assert len(curves[0]) >= 8
    texts = [turns.learned(row) for row in rows_in(whole)]
    words = [re.findall(r"\w+", text.lower()) for text in texts]
    grams = {gram for one in words for gram in zip(one, one[1:], one[2:], strict=False)}
    shapes = {shape for text in texts for shape in novelty.sentence_shapes(text)}
    said = corpus.card(events.last(whole)["corpus"])["synth"]["novelty"]
    assert abs(said["grams"] - len(grams)) < 0.01 * len(grams)
    assert said["shapes"] == pytest.approx(len(shapes), abs=1)
    assert said["points"] == curves[0]


@pytest.mark.slow
def test_a_recipe_that_says_the_same_is_told_from_one_that_does_not():
    draw = random.Random(2)
    said, flat = (novelty.Novelty(200_000) for _ in range(2))
    for _ in range(2500):
        words = [f"w{draw.randrange(10**6)}" + draw.choice(",;:") * draw.randrange(2) for _ in range(40)]
        said.add([{"text": " ".join(words)}], [80])
        flat.add(
            [{"text": f"The {draw.choice('abcdefgh')} is {draw.choice('klmnopqr')} and {draw.choice('st')}."}], [80]
        )
    assert said.summary()["flat_at"] is None
    assert flat.summary()["flat_at"] == 5_040
    assert said.points[-1]["share"] > 0.99


def test_sentences_of_one_template_have_one_shape():
    lines = ("Лень любит яблоню и не любит выгоревшую афишу.", "Река помнит старый мост и не помнит лодку.")
    assert [novelty.sentence_shapes(line) for line in lines] == [["w и не w ."]] * 2


def test_what_was_said_is_known_again_in_other_clothes():
    verdicts = Copies().judge(list(range(5)), ["Ёлка, ночь!", "елка ночь", "Елка и ночь", "!!!", "???"])
    assert [verdict and verdict["why"] for verdict in verdicts] == [None, "equal", None, None, None]


@pytest.mark.parametrize(("length", "replaced", "added"), [(60, 3, 0), (49, 0, 2), (200, 8, 0)])
def test_a_template_with_other_words_in_it_is_a_near_copy_at_any_length(length, replaced, added):
    """Long texts are not compared by words: three of sixty changed words are in fifteen of its shingles."""
    words = [f"word{chr(97 + at % 26)}{chr(97 + at // 26)}" for at in range(length + added)]
    other = list(words)
    for at in range(replaced):
        other[at * (length // replaced)] = "quite"
    verdicts = Copies().judge([7, 8], [" ".join(words[:length]), " ".join(other)])
    assert [verdict and (verdict["why"], verdict["of"]) for verdict in verdicts] == [None, ("near", 7)]


@pytest.mark.slow
def test_near_copies_of_a_job_are_those_of_the_report_on_its_corpus():
    texts = [recipes.load("style-en").make(1, number)["messages"][-1]["content"] for number in range(40)]
    texts += [texts[3] + " Indeed.", "So: " + texts[5]]
    verdicts = Copies().judge(list(range(len(texts))), texts)
    report = duplicates.find(texts)
    assert [at for at, verdict in enumerate(verdicts) if verdict] == [40, 41]
    assert [(verdict["of"], verdict["alike"]) for verdict in verdicts[40:]] == [
        (report.first[at], round(float(report.similarity[at]), 2)) for at in (40, 41)
    ]


def test_a_resumed_job_counts_what_was_new_among_its_last_rows():
    """Many copies at its beginning are not the last rows."""
    directory = synth_jobs.create({"recipe": "style-en", "tokens": 90_000})
    rows = [{"text": f"row {number}", "recipe": {"row": number, "tokens": 2}} for number in range(600, 1400)]
    (directory / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    copies = [{"row": number, "why": "equal", "mark": number} for number in [*range(600), 1400]]
    (directory / "dropped.jsonl").write_text("".join(json.dumps(row) + "\n" for row in copies), encoding="utf-8")
    job = worker.Job(directory)
    job_files.resume(job, Copies())
    assert list(job.novel) == [True] * 199 + [False]
    assert (job.next, job.rows, job.tokens, job.dropped) == (1401, 800, 1600, 601)


def test_the_price_follows_the_measurement():
    measured = {"tokens_a_row": 100, "tokens_per_second": 1000, "bytes_a_row": 500, "distinct": {"log10": 4.0}}
    assert preview.cost(measured, 10_000_000) == {
        "tokens": 10_000_000, "rows": 100_000, "seconds": 10_000, "gigabytes": 0.05, "fits": True, "enough_texts": False,
        "good_for": "style",
    }  # fmt: skip
    assert [preview.purpose(int(tokens)) for tokens in (1e6, 1e7, 1e8, 1e9, 1e10)] == [
        "touch", "style", "behaviour", "patterns", "language",
    ]  # fmt: skip


@pytest.mark.slow
def test_the_command_line_shows_rows_and_troubles(tmp_path, capsys, monkeypatch):
    shown = run("style-ru", "--preview", "--tokens", "200000")
    assert (len(shown["rows"]), shown["xray"]["verdict"], shown["exact"]) == (10, "amber", False)
    assert [one["tokens"] for one in shown["costs"]] == [20_000, 200_000, 10**6, 10**7, 10**8, 10**9, 10**10]
    monkeypatch.setattr(commands.signal, "signal", lambda *_: None)  # that of this process stays as it is
    for asked, trouble in (
        (["nothing"], "RecipeMissing"),
        (["grid-en", "--tokens", "1000", "--out", str(tmp_path / "g")], "NoWriter"),
        (["fractals-en", "--tokens", "5", "--out", str(tmp_path / "v")], "VolumeWrong"),
    ):
        assert commands.main([*asked, "--json"]) == 1
        assert json.loads(capsys.readouterr().out)["trouble"] == trouble


def test_a_place_that_holds_another_corpus_or_job_is_left_alone(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(commands.signal, "signal", lambda *_: None)  # that of this process stays as it is
    out, job = tmp_path / "made", tmp_path / ".made.synth"

    def make(*more):
        code = commands.main(["resonance-en", "--tokens", "1k", "--out", str(out), "--json", *more])
        said = json.loads(capsys.readouterr().out)
        return code, said.get("trouble") or said["state"]

    assert make("--seed", "1") == (0, "finished")
    kept = rows_of(out)
    assert make("--seed", "2") == (1, "NameTaken")
    assert make("--seed", "1") == (0, "finished")
    assert rows_of(out) == kept
    shutil.rmtree(out)  # what was made is gone: the same command makes it again
    assert make("--seed", "1") == (0, "finished")
    assert rows_of(out) == kept
    shutil.rmtree(out)
    (job / "rows.jsonl").write_bytes(kept)
    assert make("--seed", "2") == (1, "OtherJobThere")
    assert (job / "rows.jsonl").read_bytes() == kept
    (job / "rows.jsonl").unlink()
    assert make("--seed", "2") == (0, "finished")


def test_the_command_line_says_why_it_paused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(commands.signal, "signal", lambda *_: None)
    recipe_file = tmp_path / "two.yaml"
    recipe_file.write_text("lang: en\nrules:\n  text: [yes sir, no sir]\n", "utf-8")
    assert commands.main([str(recipe_file), "--tokens", "1k", "--out", str(tmp_path / "out")]) == 1
    assert "Fewer than 30 % of the last 200 rows were new." in capsys.readouterr().out
    assert commands.main([str(recipe_file), "--tokens", "1k", "--out", str(recipe_file / "below" / "out")]) == 1
    assert "Nothing can be written in" in capsys.readouterr().err


@pytest.mark.parametrize("said", ["nan", "inf", "many", "", "5T"])
def test_what_is_no_volume_is_refused(said, capsys):
    with pytest.raises(SystemExit):
        commands.main(["resonance-en", "--tokens", said])
    assert f"{said} is not a number of tokens" in capsys.readouterr().err


@pytest.mark.slow
def test_a_local_model_writes_in_batches(tmp_path, tiny_model):
    from core.synth.local import Local

    local = Local(tiny_model)
    chats = [[{"role": "user", "content": text}] for text in ("sea?", "a longer question about the lamp?")]
    told = local.batch(chats, temperature=0.0, max_tokens=12)
    alone = [local.ask(chat, temperature=0.0, max_tokens=12) for chat in chats]
    assert [reply.text for reply in told] == [reply.text for reply in alone]
    assert all(reply.tokens_out <= 12 and reply.tokens_in > 5 for reply in told)
