"""Reports from the trackers of other tools, each as the smallest input that shows it; and what the page shows of rows."""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from core.corpus import corpus, duplicates, export, text_normalization
from tests.conftest import encode_rows
from tests.test_corpus_formats import lines, made, messages, said
from ui import corpora_html
from ui.text import Say


def test_halves_of_characters_become_a_mark_and_pairs_a_character(tmp_path):
    # https://github.com/agent0ai/agent-zero/issues/1773
    card = made(tmp_path, "a.jsonl", '{"text":"a\\ud83d"}\n{"text":"\\ud83c\\udf78"}\n')
    assert (said(card), card["repairs"]) == (["a\ufffd", "🍸"], {"lone_surrogate": 1})


def test_a_column_of_nulls_in_one_file_does_not_spoil_another(tmp_path):
    # https://github.com/huggingface/datasets/issues/7222
    folder = tmp_path / "two"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"text":null}\n' * 3, "utf-8")
    (folder / "b.jsonl").write_text('{"text":"да"}\n', "utf-8")
    card = corpus.create([folder], "two")
    assert (said(card), card["reasons"]) == (["да"], {"empty_text": 3})


@pytest.mark.parametrize("packed", [False, True])
def test_a_manifest_beside_rows_is_no_row(tmp_path, packed):
    folder = tmp_path / "two"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"text":"да"}\n', "utf-8")
    about = {"files": ["train.jsonl"], "text": "Стихи о море."}
    (folder / "manifest.json").write_text(json.dumps(about, ensure_ascii=False), "utf-8")
    source = Path(shutil.make_archive(str(folder), "zip", folder)) if packed else folder
    card = corpus.create([source], "two")
    assert (said(card), card["reasons"]) == (["да"], {"describes_others": 1})
    (folder / "train.jsonl").unlink()  # alone it is what a person chose to import
    assert said(corpus.create([folder], "alone")) == ["Стихи о море."]


def test_a_field_may_change_its_type_from_row_to_row(tmp_path):
    # https://github.com/huggingface/datasets/issues/7664
    rows = [{"text": "timestamp[s]", "n": 1}, {"text": ["раз", "два"], "n": [1]}, {"text": "2024-01-01", "n": "x"}]
    assert said(made(tmp_path, "a.jsonl", lines(rows))) == ["timestamp[s]", "раздва", "2024-01-01"]


@pytest.mark.parametrize("rest", [b"\x00" * 4096, b"\x00\xff"])
def test_zeros_at_the_end_of_a_file_take_no_row_with_them(tmp_path, rest):
    """What a power cut leaves of a file that was being written."""
    file = tmp_path / "a.jsonl"
    file.write_bytes('{"text":"Отпущено масла две меры, фитилей одна."}\n{broken\n'.encode() + rest)
    card = corpus.create([file], "a")
    assert said(card) == ["Отпущено масла две меры, фитилей одна."]
    assert (card["rows_in"], card["rows_set_aside"]) == (3, 2)


@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_a_table_with_an_index_column_is_the_same_as_json(tmp_path, bom):
    # https://github.com/unslothai/unsloth/issues/4470
    card = made(tmp_path, "a.csv", bom + "Unnamed: 0;Вопрос;Ответ\n0;к;о\n1;q;a\n")
    assert said(card) == [[("user", "к"), ("assistant", "о")], [("user", "q"), ("assistant", "a")]]


def test_odd_dialogues_keep_what_can_be_learned(tmp_path):
    # https://github.com/axolotl-ai-cloud/axolotl/issues/325
    rows = [
        {"messages": messages([("bot", "первый"), ("user", "q"), ("bot", "a")])},
        {"conversations": messages([("human", "q"), ("bing", "a"), ("human", "?")], "from", "value")},
    ]
    card = made(tmp_path, "a.jsonl", lines(rows))
    assert said(card) == [
        [("assistant", "первый"), ("user", "q"), ("assistant", "a")],
        [("user", "q"), ("assistant", "a")],
    ]


def test_five_ways_to_write_a_sentence_are_one_after_normalisation():
    ways = [
        "Ёж и мёд тут",
        "Еж и мед тут",
        "Ёж\u00a0и\u200b мёд тут",
        "ёж и мёд\r\nтут",
        "Ё\u0301ж и мёд тут".replace("\u0301", ""),
    ]
    assert duplicates.find(ways, near=False).first.tolist() == [0, 0, 0, 0, 0]


def test_marks_in_a_text_are_shown_and_never_become_markup():
    # https://github.com/gradio-app/gradio/issues/7198
    row = {"messages": messages([("user", "<b>q</b>"), ("assistant", "<think>x</think>да </s>\u200b\u00a0<script>")])}
    shown = corpora_html.row(Say("ru"), row | {"source": {"file": "<i>", "line": "1"}})
    assert "&lt;think&gt;x&lt;/think&gt;да &lt;/s&gt;" in shown
    assert '<span class="unseen">ZWSP</span><span class="unseen">NBSP</span>&lt;script&gt;' in shown
    assert "<b>" not in shown
    assert "<script>" not in shown
    assert "<i>" not in shown
    pieces = {"pieces": [("<b>\n", "learned", 2)], "tokens": 2, "learned": 2, "cut": 0, "warnings": ["loses_end"]}
    assert "&lt;b&gt;" in corpora_html.tokens(Say("en"), pieces)


def test_every_code_has_its_words():
    from core.corpus import checks, diversity_metrics, export, personal, preview
    from core.corpus.formats import detection
    from ui.text import ENGLISH

    code = "".join(path.read_text("utf-8") for path in Path("core/corpus").rglob("*.py"))
    reasons = set(re.findall(r"""(?:Bad\([^"\n]*(?:"[^"]*", *)?|Unfit\(|Line\(number, .*)"([a-z_]{4,})\"""", code))
    assert len(reasons) > 25
    keys = [f"corpora.reason.{code}" for code in reasons]
    keys += [f"corpora.format.{form.name}" for form in (*detection.BINARY_FORMATS, *detection.TEXT_FORMATS)]
    keys += [f"corpora.flag.{code}" for code in (*checks.FLAGS, *duplicates.KINDS[1:])]
    keys += [f"corpora.personal.{kind}" for kind in personal.KINDS] + [
        f"corpora.export.{form}" for form in export.FORMATS
    ]
    keys += [f"corpora.gauge.{name}{end}" for name in diversity_metrics.LIMITS for end in ("", ".means")]
    keys += [f"corpora.token.{kind}" for kind in preview.KINDS]
    assert [key for key in keys if key not in ENGLISH] == []


def russian(path: Path) -> str:
    return (gzip.open(path) if path.suffix == ".gz" else path.open("rb")).read().decode()


def needs(*paths):
    missing = [path for path in paths if not os.path.exists(path)]
    return pytest.mark.skipif(bool(missing), reason=f"needs Debian's {missing}")


DOC = "/usr/share/doc"


@pytest.mark.slow
@needs("/usr/share/games/fortunes/ru")
def test_debian_fortunes_are_whole_and_have_the_known_copies(tmp_path):
    folder = tmp_path / "fortunes"
    folder.mkdir()
    for path in Path("/usr/share/games/fortunes/ru").iterdir():
        if path.suffix not in (".dat", ".u8"):
            (folder / path.name).write_bytes(path.read_bytes())
    card = corpus.create([folder], "fortunes")
    assert (card["rows_set_aside"], card["repairs"], 20_500 < card["rows"] < 21_200) == (0, {}, True)
    texts = [row["text"] for row in corpus.rows(card["id"], 0, 30_000)]
    counts = duplicates.find(texts).counts()
    assert 370 < counts["exact"] < 430
    assert 1_200 < counts["exact"] + counts["normalised"] < 1_300
    assert 1_380 < sum(counts.values()) < 1_500
    from core.corpus import diversity_metrics

    found = diversity_metrics.measure(texts)
    assert (found["verdict"], found["texts"]) == ("green", diversity_metrics.SAMPLE)


@pytest.mark.slow
@needs("/usr/share/man/ru", "/usr/share/libreoffice/help/ru")
def test_debian_manuals_and_help_are_read_without_a_false_repair():
    for folder in ("/usr/share/man/ru", "/usr/share/libreoffice/help/ru"):
        card = corpus.create([Path(folder)], "help")
        assert card["rows"] > 700
        assert (card["repairs"], set(card["reasons"]) <= {"link", "empty_text"}) == ({}, True)
        assert card["reasons"].get("empty_text", 0) < 13  # pages that hold a picture, a film or a heading alone


MANUALS = {
    f"{DOC}/maint-guide-ru": ("maint-guide.ru.txt.gz", "maint-guide.ru.pdf", "html"),
    "/usr/share/developers-reference/ru": (
        "developers-reference.txt.gz", "developers-reference.epub", "developers-reference.html",
    ),
}  # fmt: skip


@pytest.mark.slow
@needs(*MANUALS)
@pytest.mark.parametrize("folder", MANUALS)
def test_one_debian_manual_reads_the_same_in_its_formats(folder):
    words = []
    for name in MANUALS[folder]:
        card = corpus.create([Path(folder, name)], "manual")
        text = text_normalization.one(" ".join(row["text"] for row in corpus.rows(card["id"], 0, 10_000)))
        words.append({word for word in text.split() if len(word) > 3 and word.isalpha()})
    for other in words[1:]:
        assert len(other & words[0]) / len(words[0]) > 0.95


@pytest.mark.slow
@needs("/usr/share/mythes", "/usr/share/hyphen")
def test_debian_files_with_a_bom_and_in_koi8_are_told():
    from core.corpus import encodings
    from core.corpus.sources import of_file

    thesaurus = next(Path("/usr/share/mythes").glob("th_ru*.dat"))
    assert encodings.detect(of_file(thesaurus)) in ("utf-8", "utf-8-sig")
    for path in [*Path("/usr/share/hyphen").glob("hyph_ru*.dic"), *Path("/usr/lib/ispell").glob("russian.aff")]:
        raw = path.resolve().read_bytes()
        try:
            raw.decode()
        except UnicodeDecodeError:
            assert encodings.detect(of_file(path.resolve())) == "koi8-r", path


@pytest.mark.slow
def test_a_row_of_a_million_letters_is_counted_in_time(tmp_path):
    # https://github.com/huggingface/tokenizers/issues/1449
    import time

    from core.corpus import tokens
    from core.models import tokenizer
    from tests import tiny_tokenizers

    light = tokenizer.load(tiny_tokenizers.build(tmp_path / "model", "chatml"))
    began = time.monotonic()
    tokens.measure([{"text": "а" * 1_000_000}], 1, light, max_length=1024)
    assert time.monotonic() - began < 5


def test_a_long_text_is_packed_whole(tmp_path):
    # https://github.com/huggingface/trl/issues/4632
    from core.models import tokenizer
    from core.training import encoding, packing
    from core.training.config import TrainConfig
    from tests import tiny_tokenizers

    light = tokenizer.load(tiny_tokenizers.build(tmp_path / "model", "chatml"))
    row = {"id": "1", "text": " ".join(f"слово {number}," for number in range(2000))}
    config = TrainConfig(base_model="m", corpus="c", max_length=64, packing=True)
    pieces, left_out = encode_rows([row], light, config)
    ids = pieces[0]["input_ids"] + [id for piece in pieces[1:] for id in piece["input_ids"][1:]]
    assert (ids, dict(left_out)) == (encoding.encode(row, light, "assistant")["input_ids"], {})
    blocks = packing.pack(pieces, 64)
    assert sum(len(block["input_ids"]) for block in blocks) > 0.99 * 64 * len(blocks)


def test_cards_are_plain_json(tmp_path):
    card = made(tmp_path, "a.jsonl", '{"text":"да"}\n')
    assert json.loads(json.dumps(card)) == card


def note(conversation: str, *turns: tuple[str, str, str]) -> str:
    head = f"---\nnexus: nexus-ai-chat-importer\nprovider: chatgpt\nconversation_id: {conversation}\n---\n# Title\n\n"
    said = [f">[!nexus_{role}] **X** - 1\n> {text}\n<!-- UID: {uid} -->\n" for uid, role, text in turns]
    return head + "\n".join(said)


@pytest.mark.parametrize("packed", [False, True])
def test_notes_of_one_conversation_are_joined_each_turn_once(tmp_path, packed):
    a, b, c, d = ("1", "user", "q1"), ("2", "agent", "a1"), ("3", "user", "q2"), ("4", "agent", "a2")
    files = {"a.md": note("x", a, b), "b.md": note("y", a, b), "c.md": note("x", a, b, c, d)}
    folder = tmp_path / "vault"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    given = folder
    if packed:
        given = tmp_path / "vault.zip"
        with zipfile.ZipFile(given, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
    card = corpus.create([given], "vault")
    rows = corpus.rows(card["id"])
    assert [[turn["content"] for turn in row["messages"]] for row in rows] == [["q1", "a1", "q2", "a2"], ["q1", "a1"]]
    assert (card["rows_in"], card["rows_kept"], card["rows_set_aside"]) == (3, 2, 1)
    assert card["reasons"] == {"note_joined": 1}


CHAT = (
    '{"messages": [{"role": "user", "content": "раз, два"}, {"role": "assistant", "content": "три, \\"четыре\\""}]}\n'
)


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("name", ["data.jsonl", "data.json", "data.csv", "data.txt", "data"])
def test_json_lines_are_told_by_content_whatever_the_name_and_the_mark(tmp_path, name, bom):
    # https://github.com/huggingface/autotrain-advanced/issues/140, https://github.com/huggingface/datasets/issues/8241
    card = made(tmp_path, name, bom + (CHAT * 3).encode())
    assert said(card) == [[("user", "раз, два"), ("assistant", 'три, "четыре"')]] * 3
    assert (card["formats"], card["rows_set_aside"]) == ({"jsonl": 1}, 0)


@pytest.mark.slow
def test_cyrillic_survives_a_machine_of_another_encoding(tmp_path):
    # https://github.com/oobabooga/text-generation-webui/issues/4325
    (tmp_path / "чат.jsonl").write_bytes(CHAT.encode())
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    for command in (["import", "чат.jsonl", "--name", "Тест", "--out", "made"], ["export", "made", "out.jsonl"]):
        whole = [sys.executable, "-m", "core.corpus", *command, "--json"]
        done = subprocess.run(whole, cwd=tmp_path, env=plain | {"PYTHONPATH": os.getcwd()}, capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")
    assert "раз, два" in (tmp_path / "out.jsonl").read_text("utf-8")
    card = json.loads((tmp_path / "made" / "card.json").read_text("utf-8"))
    assert (card["name"], card["sources"][0]["file"]) == ("Тест", "чат.jsonl")


def test_marks_of_sources_go_from_a_chatgpt_export_and_spaces_stay(tmp_path):
    # https://github.com/Laumss/loominary/issues/17, https://github.com/rashidazarang/chatgpt-chat-exporter/pull/35
    def node(parent, role, text):
        content = {"content_type": "text", "parts": [text]}
        more = {"metadata": {"content_references": [{"matched_text": " ", "type": "hidden"}]}}
        return {"parent": parent, "message": {"author": {"role": role}, "content": content} | more}

    mapping = {
        "q": node(None, "user", "что нового"),
        "a": node("q", "assistant", "Вот что нового\ue200cite\ue202turn2view3\ue201 и верно."),
    }
    card = made(tmp_path, "conversations.json", json.dumps([{"mapping": mapping, "current_node": "a"}]))
    assert said(card) == [[("user", "что нового"), ("assistant", "Вот что нового и верно.")]]


def test_each_line_of_an_export_is_json_and_comes_back_equal(tmp_path):
    # https://github.com/unslothai/unsloth/issues/8733
    chats = [messages([("user", 'a\nb\r"c"\u2028'), ("assistant", "\x85 \x0b\x0c d")])] * 2
    card = made(tmp_path, "a.jsonl", lines([{"messages": chat} for chat in chats]))
    out = tmp_path / "out.jsonl"
    export.export(corpus.directory(card["id"]), "messages", out)
    physical = out.read_bytes().removesuffix(b"\n").split(b"\n")
    assert [json.loads(line)["messages"] for line in physical] == chats
    assert said(corpus.create([out], "again")) == said(card)
