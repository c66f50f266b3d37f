"""A corpus from files to disk and back: what is kept, what is set aside, what the page's functions give."""

import json
import os
import sys

import pytest

from core import paths
from core.corpus import __main__ as commands
from core.corpus import corpus, encodings, export, import_process, importer, storage
from core.errors import ErrorElsewhere
from core.training import corpus_rows
from tests.conftest import raises


@pytest.fixture(autouse=True)
def _own_signals(monkeypatch):
    monkeypatch.setattr(commands.signal, "signal", lambda *_: None)  # those of this process stay as they are


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def told(rows):
    """Rows without ids and places: what is said in them."""
    return [row.get("text") or [(turn["role"], turn["content"]) for turn in row["messages"]] for row in rows]


def test_a_bad_line_is_set_aside_and_every_other_is_read(tmp_path):
    file = write(tmp_path / "a.jsonl", '{"text":"раз"}\n{"text":"два"}\n{"text":"три"}\n{"text": "обрыв')
    card = corpus.create([file], "Мои строки")
    assert (card["rows_in"], card["rows_kept"], card["rows_set_aside"], card["reasons"]) == (4, 3, 1, {"bad_json": 1})
    assert told(corpus.rows(card["id"])) == ["раз", "два", "три"]
    assert corpus.set_aside(card["id"]) == [
        {"file": "a.jsonl", "line": "4", "reason": "bad_json", "detail": "", "excerpt": '{"text": "обрыв'}
    ]


def test_rows_have_the_ids_and_places_that_the_trainer_expects(tmp_path):
    chat = {"messages": [{"role": "user", "content": 'кавычка " и \\ и \n'}, {"role": "bot", "content": "😀\u2028"}]}
    file = write(tmp_path / "a.jsonl", json.dumps(chat, ensure_ascii=False) + '\n{"text":"да\\u0000"}\n')
    card = corpus.create([file], "a")
    rows = corpus.rows(card["id"])
    assert [row["id"] for row in rows] == [corpus_rows.row_id(row) for row in rows]
    assert rows == list(corpus_rows.read_rows(corpus.directory(card["id"])))
    assert [row["source"] for row in rows] == [{"file": "a.jsonl", "line": "1"}, {"file": "a.jsonl", "line": "2"}]


def test_the_users_note_becomes_a_two_turn_conversation(tmp_path):
    note = (
        "---\nnexus: x\nprovider: chatgpt\n---\n\n# Title: —Ç–µ—Å—Ç\n\n"
        ">[!nexus_user] **User** - 14.06.2025 at 20:28\n> –ü—Ä–∏–≤–µ—Ç, –∫–∞–∫ –¥–µ–ª–∞ [[a|—Ç—É—Ç]]?\n<!-- UID: 1 -->\n\n[[17_x]]\n\n"
        ">[!nexus_agent] **Assistant** - 14.06.2025 at 20:28\n> –•–æ—Ä–æ—à–æ ‚Äî —Å–ø–∞—Å–∏–±–æ.\n> \n> ---\n>> —Ü–∏—Ç–∞—Ç–∞\n<!-- UID: 2 -->"
    )
    card = corpus.create([write(tmp_path / "note.md", note)], "note")
    assert told(corpus.rows(card["id"])) == [
        [("user", "Привет, как дела тут?"), ("assistant", "Хорошо — спасибо.\n\n---\n> цитата")]
    ]
    assert card["repairs"] == {"mojibake": 4}
    assert card["formats"] == {"nexus": 1}


def test_a_corpus_can_be_listed_paged_found_and_deleted(tmp_path):
    file = write(tmp_path / "a.jsonl", "".join(f'{{"text":"строка {n}"}}\n' for n in range(1200)))
    card = corpus.create([file], "Тысяча строк")
    assert [one["id"] for one in corpus.listed()] == [card["id"]] == ["тысяча-строк"]
    assert told(corpus.rows(card["id"], 1101, 2)) == ["строка 1101", "строка 1102"]
    assert corpus.rows(card["id"], 1200, 5) == []
    found, total = corpus.find(card["id"], "СТРОКА 99", 1, 2)
    assert ([number for number, _ in found], total) == ([990, 991], 11)
    corpus.delete(card["id"])
    assert corpus.listed() == []
    with raises("NoSuchCorpus", match="choose another one"):
        corpus.card(card["id"])


def test_the_same_rows_have_the_same_content_hash_and_copies_are_counted(tmp_path):
    one = corpus.create([write(tmp_path / "a.jsonl", '{"text":"а"}\n{"text":"б"}\n{"text":"а"}\n')], "one")
    other = corpus.create([write(tmp_path / "b.csv", "текст\nа\nб\nа\n")], "other")
    assert one["content_hash"] == other["content_hash"]
    assert one["duplicates"] == 2 - 1


def test_rows_are_found_across_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "SHARD_BYTES", 2000)
    writer = storage.Writer(tmp_path)
    for number in range(1300):
        writer.row({"text": f"строка {number}"})
    writer.finish({})
    assert len(storage.shards(tmp_path)) > 20
    assert told(storage.rows(tmp_path, 1234, 2)) == ["строка 1234", "строка 1235"]
    assert [row["text"] for row in storage.all_rows(tmp_path)] == [f"строка {number}" for number in range(1300)]


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "an empty file"), (b"  \n\n ", "an empty file"), (b"\x00\x01\x02\xff" * 99, "not text")],
)
def test_a_file_without_rows_leaves_nothing_behind(tmp_path, content, words):
    file = tmp_path / "a.bin"
    file.write_bytes(content)
    with pytest.raises(importer.CorpusEmpty, match=words):
        corpus.create([file], "x")
    assert list(paths.corpora().iterdir()) == []


def test_missing_files_are_named(tmp_path):
    with raises("FileMissing", match=r"gone\.txt"):
        corpus.create([tmp_path / "gone.txt"], "x")
    with pytest.raises(importer.NothingGiven):
        corpus.create([], "x")


def test_a_broken_import_leaves_nothing_behind(tmp_path):
    file = write(tmp_path / "a.jsonl", '{"text":"а"}\n' * 5000)

    def progress(done, total, rows):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        corpus.create([file], "x", progress=progress)
    assert list(paths.corpora().iterdir()) == []


@pytest.mark.slow
def test_an_import_in_its_own_process_reports_and_can_be_cancelled(tmp_path):
    file = write(tmp_path / "a.jsonl", '{"text":"а"}\n')
    said = list(import_process.create([file], "своё", corpus.Options()))
    assert said[-1]["card"]["rows"] == 1
    empty = write(tmp_path / "пусто.txt", "")
    with pytest.raises(ErrorElsewhere) as caught:
        list(import_process.create([empty], "x", corpus.Options()))
    assert (caught.value.name, caught.value.values["codes"]) == ("CorpusEmpty", "empty_file")
    large = write(tmp_path / "b.jsonl", '{"text":"абвгд"}\n' * 400_000)
    running = import_process.create([large], "large", corpus.Options())
    next(running)
    running.close()
    assert [path.name for path in paths.corpora().iterdir()] == ["своё"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--options", "{bad"], "--options: this is not JSON"),
        (["--options", "[1]"], "--options: this is not an object"),
        (["--options", '{"nope": 1}'], '"nope" is not known'),
        (["--options", '{"repair_text": "no"}'], "repair_text has to be true or false"),
        (["--options", '{"roles": "x"}'], "roles has to be an object"),
        (["--options", '{"encoding": "zork"}'], 'the encoding "zork", which is not known'),
    ],
)
def test_options_that_cannot_be_meant_are_refused(tmp_path, capsys, arguments, words):
    file = write(tmp_path / "a.txt", "да")
    assert commands.main(["import", str(file), "--out", str(tmp_path / "out"), *arguments]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_rows_rules_and_corpora_that_are_not_there_are_named(tmp_path, capsys):
    card = corpus.create([write(tmp_path / "a.txt", "да")], "a")
    for arguments, words in (
        (["clean", card["id"], "--name", "b", "--rules", '{"leave_out": ["zzz"]}'], "leave_out has to be a list of"),
        (["clean", card["id"], "--name", "b", "--rules", '{"shortest": true}'], "shortest has to be a number"),
        (["preview", card["id"], "--model", "m", "--row", "-1"], "There is no row -1: the corpus has 1"),
        (["report", str(tmp_path / "none")], f'There is no corpus "{tmp_path / "none"}"'),
    ):
        assert commands.main(arguments) == 1
        assert words in capsys.readouterr().err
    with pytest.raises(SystemExit):
        commands.main(["report", card["id"], "--max-length", "0"])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
def test_a_pipe_is_no_file_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    file = write(tmp_path / "a.txt", "да")
    card = corpus.create([tmp_path / "pipe", file], "a")
    assert (card["rows_kept"], card["reasons"]) == (1, {"file_unreadable": 1})


def test_a_place_that_cannot_be_made_is_named(tmp_path):
    file = write(tmp_path / "a.txt", "да")
    with raises("PlaceUnwritable", match=r"a\.txt"):
        corpus.create([file], "a", out=file / "below" / "out")
    card = corpus.create([file], "a")
    with raises("PlaceUnwritable", match=r"a\.txt"):
        export.export(corpus.directory(card["id"]), "jsonl", file / "below" / "out.jsonl")


def test_a_process_that_says_much_on_its_way_out_is_heard_to_the_end():
    command = ["-c", "import sys; sys.stderr.write('x' * 300_000 + '\\nlast words'); sys.exit(3)"]
    with pytest.raises(import_process.ImportBroke, match="The import ended unexpectedly: last words"):
        list(import_process.run(command))


def test_the_samples_are_chats_in_both_languages():
    samples = corpus.samples()
    assert [sample["id"] for sample in samples] == ["kuznets-ru", "lighthouse-en"]
    for sample in samples:
        card = corpus.create([sample["path"]], sample["id"])
        assert (card["kind"], card["rows_set_aside"], card["repairs"]) == ("chat", 0, {})
        assert card["rows"] >= 200
        assert set(sample["title"]) == set(sample["description"]) == {"en", "ru"}


def test_importing_the_package_is_light():
    import subprocess

    code = "import sys, core.corpus, core.models.tokenizer; print([n for n in ('torch','pyarrow','pandas','transformers') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_a_corpus_of_several_shards_and_broken_lines_is_found_again_by_number(tmp_path, monkeypatch):
    rows = [f'{{"text":"строка {number}"}}\n' for number in range(3000)]
    rows[700], rows[701], rows[1999] = '{"text": "обрыв\n', "\n", '{"text":"РџСЂРёРІРµС‚, РјРёСЂ"}\n'
    file = write(tmp_path / "a.jsonl", "\ufeff" + "".join(rows).removesuffix("\n"))
    one = corpus.create([file], "one")
    monkeypatch.setattr(storage, "SHARD_BYTES", 5000)
    other = corpus.create([file], "other")
    assert len(storage.shards(paths.corpus(other["id"]))) > 20
    kept = (
        "rows",
        "rows_in",
        "rows_set_aside",
        "reasons",
        "repairs",
        "repaired",
        "content_hash",
        "characters",
        "bytes",
    )
    assert {name: other[name] for name in kept} == {name: one[name] for name in kept}
    assert (one["rows"], one["reasons"], one["repairs"]) == (2998, {"bad_json": 1}, {"mojibake": 1})
    assert corpus.rows(other["id"], 1490, 20) == corpus.rows(one["id"], 1490, 20)
    assert [row["text"] for row in corpus.rows(one["id"], 1997, 2)] == ["Привет, мир", "строка 2000"]
    assert corpus.set_aside(other["id"]) == corpus.set_aside(one["id"])
    assert list(corpus.storage.all_rows(paths.corpus(other["id"]))) == list(
        corpus.storage.all_rows(paths.corpus(one["id"]))
    )


def test_leftovers_of_a_killed_import_go_with_the_next_one(tmp_path):
    left = paths.corpora() / ".unfinished-1-2"
    left.mkdir()
    (left / "rows-00000.jsonl").write_text("x")
    with storage.unfinished(paths.corpora()) as busy:
        file = write(tmp_path / "a.jsonl", '{"text":"а"}\n')
        card = corpus.create([file], "a")
        assert sorted(path.name for path in paths.corpora().iterdir()) == [busy.name, busy.name + ".lock", card["id"]]
    assert [path.name for path in paths.corpora().iterdir()] == [card["id"]]


def test_a_full_disk_is_told_and_nothing_stays(tmp_path, monkeypatch):
    import shutil
    from collections import namedtuple

    file = write(tmp_path / "a.jsonl", '{"text":"а"}\n' * 3000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Usage", "total used free")(1, 1, 2**20))
    with pytest.raises(storage.CorpusDiskFull, match="1 MB are left"):
        corpus.create([file], "x")
    assert list(paths.corpora().iterdir()) == []


def test_a_line_too_long_to_hold_is_set_aside_with_its_number(tmp_path, monkeypatch):
    lines = [f'{{"text":"строка {number}"}}\n' for number in range(200)]
    lines[120] = json.dumps({"text": "а" * 9000}, ensure_ascii=False) + "\n"
    file = write(tmp_path / "a.jsonl", "".join(lines))
    monkeypatch.setattr(encodings, "LONGEST_LINE", 5000)
    card = corpus.create([file], "a")
    assert [aside["line"] for aside in corpus.set_aside(card["id"])] == ["121"]
    assert [row["source"]["line"] for row in corpus.rows(card["id"], 0, 200)] == [
        str(number) for number in range(1, 201) if number != 121
    ]
