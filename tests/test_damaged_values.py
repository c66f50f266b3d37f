"""A file of ours whose keys are right and whose values are not counts as damaged, and hides nothing else."""

import json

import pytest

from core import damage, files, paths
from core.arena import prompts
from core.corpus import corpus, import_presets, report, storage
from core.runs import queue, runs
from core.synth import job_files, votes
from core.training.config import TrainConfig
from ui import corpora, corpora_html, corpora_quality, synth_reading
from ui.text import LOCALES, Say

ROWS = [{"messages": [{"role": "user", "content": f"Who {n}?"}, {"role": "assistant", "content": "I."}]} for n in "ab"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SOULSMITH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(runs, "start_worker", lambda: None)
    monkeypatch.setattr(files, "_damage", {})
    return tmp_path / "home"


@pytest.fixture
def sea(home, tmp_path) -> str:
    """The id of a corpus of two rows."""
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return corpus.create([file], "sea")["id"]


def of_shape(shape):
    """A value that fits a shape."""
    if isinstance(shape, tuple):
        return of_shape(shape[0])
    if isinstance(shape, dict):
        return {"a" if name is str else name: of_shape(one) for name, one in shape.items()}
    if isinstance(shape, list):
        return [of_shape(shape[0])]
    if isinstance(shape, range):
        return shape[0]
    return next(value for value in ("a", 1, True, {}, [], None) if isinstance(value, shape))


def write(path, values) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, values)


@pytest.mark.parametrize("pattern", damage.OBJECTS)
def test_each_value_of_another_type_is_named(home, pattern):
    path, shape = home / pattern.replace("*", "x"), damage.OBJECTS[pattern][0]
    whole = of_shape(shape)
    write(path, whole)
    assert (damage.read(path, pattern), damage.found()) == (whole, [])
    for name in whole if isinstance(whole, dict) else ():
        write(path, whole | {name: 5 if isinstance(whole[name], str | dict | list | bool) else "yesterday"})
        assert damage.read(path, pattern) == {}
        assert [(one.path, one.reason) for one in damage.found()] == [(path, "wrong_kind")]


def test_the_queue_goes_on_beside_a_label_with_a_wrong_date(home, sea):
    config = TrainConfig(base_model="m", corpus=str(paths.corpus(sea)), max_steps=1)
    first, second = runs.create(config), runs.create(config)
    write(paths.run(first) / "label.json", {"name": "a", "created": "yesterday"})
    assert (set(queue.next_ones()), queue.needs_worker()) == ({first, second}, True)
    assert [one.path for one in damage.found()] == [paths.run(first) / "label.json"]


def test_prompts_presets_and_votes_of_another_type_hide_nothing_else(home):
    prompts.save("b", "Who?")
    write(home / "prompts" / "x.json", {"title": "t", "prompts": 5})
    write(home / "import-presets.json", {"shapes": 5, "roles": 5})
    write(home / "votes" / "x.json", {"a": 5})
    assert [one["title"] for one in prompts.listed()][-1] == "b"
    assert (import_presets.recall(["a"]), votes.examples("x")) == ({"roles": {}}, {})
    assert len(damage.found()) == 3


def test_rows_are_found_without_an_index_that_fits_them(sea):
    for index in (
        {"every": 0, "marks": [[0, 0]]},
        {"every": 1, "marks": [[0, 0], [0, 10**6]]},
        {"every": 1, "marks": [[0, 0], [7, 0]]},
        {"every": 1, "marks": [[0, 0], [0, 9]]},
        {"every": 1, "marks": [5, 5]},
    ):
        write(paths.corpus(sea) / "index.json", index)
        assert [row["messages"][0]["content"] for row in corpus.rows(sea, 1, 5)] == ["Who b?"]


def test_a_corpus_is_shown_without_its_damaged_report(sea):
    report.make(paths.corpus(sea))
    assert damage.found() == []
    write(paths.corpus(sea) / "report.json", {"lengths": 5})
    assert corpora_quality.shown(Say("en"), sea)[0] == ""
    assert corpora.on_choose(Say("en"), sea)
    assert [one.path.name for one in damage.found()] == ["report.json"]


def test_a_corpus_whose_card_counts_in_words_leaves_the_others_listed(sea):
    write(paths.corpora() / "x" / "card.json", {"name": "x", "rows": "x"})
    assert [id for _, id in corpora_html.choices(Say("en"))] == [sea]
    with pytest.raises(storage.CorpusDamaged):
        corpus.card("x")


def test_a_damaged_row_ends_a_search_in_words(sea):
    (shard,) = storage.shards(paths.corpus(sea))
    for line in (b"{garbage}\n", b"[]\n", b'{"messages": 5}\n'):
        shard.write_bytes(shard.read_bytes().split(b"\n")[0] + b"\n" + line)
        with pytest.raises(storage.CorpusDamaged, match=r'"sea" cannot be read: .* line 2: this is no object of JSON'):
            corpus.find(sea, "who")


def test_what_was_set_aside_hides_no_corpus(sea):
    path, whole = paths.corpus(sea) / "set_aside.jsonl", {"file": "a", "reason": "empty", "detail": "", "excerpt": ""}
    card = paths.corpus(sea) / "card.json"
    write(card, json.loads(card.read_text()) | {"rows_set_aside": 1})
    for content in (b"\xff\xfe\n", b"[]\n", b'{"file": 5}\n' + json.dumps(whole | {"line": "1"}).encode()):
        path.write_bytes(content)
        assert corpora.on_choose(Say("en"), sea)
        assert [one.path for one in damage.found()] == [path] * (content[:1] != b"{")
    assert corpus.set_aside(sea) == [whole | {"line": "1"}]
    path.unlink()
    path.mkdir()
    assert corpora.on_choose(Say("en"), sea)
    assert [one.reason for one in damage.found()] == ["directory"]


def test_damaged_rows_of_a_synthesis_are_named_and_said(home):
    job = home / "synth" / "a"
    write(job / "job.json", {"name": "a", "recipe": "r"})
    for name in ("rows", "aside", "dropped", "again", "received"):
        path = job / f"{name}.jsonl"
        path.write_bytes(b"\xff\xfe\n")
        assert [(one.path, one.effect) for one in damage.found()] == [(path, "rows")]
        path.unlink()
    for line in (b"\xff\xfe\n", b'{"messages": 5}\n'):
        (job / "rows.jsonl").write_bytes(line)
        _, shown, *_ = synth_reading.on_open(Say("en"), "r", "a")
        assert "rows.jsonl, line 1: this is no object of JSON" in shown
    (job / "rows.jsonl").write_bytes(b'{"text": "a", "recipe": 5}\n')
    with pytest.raises(files.LineDamaged, match="line 1"):
        job_files.to_ask_again(job) or list(files.lines(job / "rows.jsonl", job_files.ROW))


def test_a_recipe_that_is_no_text_is_named(home):
    (home / "recipes").mkdir(parents=True)
    path = home / "recipes" / "a.yaml"
    for content, reason in ((b"\xff\xfe", "wrong_kind"), (b"", "empty"), (b"a" * (2**20 + 1), "wrong_kind")):
        path.write_bytes(content)
        assert damage.found() == [damage.Damage(path, reason, "recipe")]
        assert f"damage.effect.{damage.found()[0].effect}" in LOCALES["en"]["words"]
