"""Damaged input of every format: no traceback, no hang, nothing outside, and the sum of rows holds."""

import gzip
import io
import json
import os
import random
import time
import zipfile
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import paths
from core.corpus import corpus, encodings, importer, reading, storage
from core.corpus.formats import detection, json_files
from core.corpus.reading import Options
from core.corpus.sources import Source, of_file
from core.training import corpus_rows
from tests import test_corpus_formats as samples

SECONDS = 10  # that one damaged input may take
FUZZ_FILES = int(os.environ.get("FUZZ_FILES", "1000"))  # damaged files of a slow test; 10,000 take ten minutes


def seeds():
    """A sound file of every format, by name."""
    text = ("Кузнец куёт железо. " * 9 + "\n\n") * 20
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jsonl", samples.CHATS["messages.jsonl"])
        archive.writestr("word.txt", text)
    book = io.BytesIO()
    with zipfile.ZipFile(book, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        archive.writestr("META-INF/container.xml", '<container><rootfile full-path="p.opf"/></container>')
        archive.writestr("p.opf", '<package><item id="a" href="a.xhtml"/><spine><itemref idref="a"/></spine></package>')
        archive.writestr("a.xhtml", f"<html><body><p>{text}</p></body></html>")
    letter = io.BytesIO()
    with zipfile.ZipFile(letter, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", f"<w:document><w:p><w:t>{text}</w:t></w:p></w:document>")
    cells = [{"cell_type": "code", "source": ["x = 1\n"], "outputs": []}, {"cell_type": "markdown", "source": text}]
    notebook = json.dumps({"cells": cells, "nbformat": 4}, ensure_ascii=False)
    note = ">[!nexus_user] **User** - x\n> вопрос\n<!-- UID: 1 -->\n>[!nexus_agent] **A**\n> ответ\n<!-- UID: 2 -->\n"
    files = {name: data if isinstance(data, bytes) else data.encode() for name, data in samples.CHATS.items()}
    return files | {
        "notebook.ipynb": notebook.encode(), "text.txt": text.encode(), "text.cp1251": text.encode("cp1251"), "note.md": note.encode(),
        "vault.md": b"---\ntitle: x\n---\n# a\n[[b|c]] ```\n" + text.encode(), "chats.zip": out.getvalue(),
        "book.epub": book.getvalue(), "letter.docx": letter.getvalue(), "text.gz": gzip.compress(text.encode()),
        "page.html": f"<html><body><p>{text}</p></body></html>".encode(), "doc.pdf": pdf(),
        "book.fb2": f"<FictionBook><body><p>{text}</p></body></FictionBook>".encode(),
    }  # fmt: skip


def pdf():
    """A one-page PDF with a line of text."""
    stream = b"BT /F1 12 Tf 72 720 Td (" + b"Hello, this is a page of text. " * 6 + b") Tj ET"
    parts = [
        b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]  # fmt: skip
    body = b"%PDF-1.4\n" + b"".join(b"%d 0 obj\n%s\nendobj\n" % (at, part) for at, part in enumerate(parts, 1))
    return body + b"trailer << /Root 1 0 R /Size 6 >>\n%%EOF"


def damaged(data, rng):
    """The bytes cut, flipped, repeated, mixed in encoding, or with control characters in them."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        if not data:
            return b""
        at = rng.randrange(len(data))
        kind = rng.randrange(8)
        if kind == 0:
            del data[at:]
        elif kind == 1:
            for _ in range(rng.randint(1, 20)):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del data[at : at + rng.randint(1, 200)]
        elif kind == 3:
            data[at:at] = "Привет, это cp1251\n".encode(rng.choice(["cp1251", "koi8-r", "utf-16", "cp866"]))
        elif kind == 4:
            data[at:at] = bytes(rng.randrange(32) for _ in range(rng.randint(1, 30)))
        elif kind == 5:
            data[at:at] = data[at : at + rng.randint(1, 300)]
        elif kind == 6:
            data[at:at] = rng.choice(
                [b"[" * 1000, b'{"a":' * 1000, b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"\r", b"\x00" * 9]
            )
        else:
            data[at:at] = rng.choice([b"\\ud83d", b"NaN", b"1e999", b"</s>", b"<![CDATA[", b"---\n", b"PK\x03\x04"])
    return bytes(data)


def survives(folder: Path, name: str, data: bytes):
    """Import bytes as a file: a corpus whose sum holds, or a known trouble; in time, and nothing left behind."""
    file = folder / name
    file.write_bytes(data)
    began = time.monotonic()
    try:
        card = corpus.create([file], "x")
        assert card["rows_in"] == card["rows_kept"] + card["rows_set_aside"]
        assert card["rows_set_aside"] == sum(1 for _ in (paths.corpus(card["id"]) / "set_aside.jsonl").open("rb"))
        assert card["rows"] == sum(1 for _ in corpus.storage.all_rows(paths.corpus(card["id"])))
        assert "file_damaged" not in card["reasons"] or name.endswith(BINARY), card
        corpus.delete(card["id"])
    except importer.CorpusEmpty:
        pass
    assert time.monotonic() - began < SECONDS, name
    assert list(paths.corpora().iterdir()) == []


BINARY = (".parquet", ".arrow", ".zip", ".epub", ".docx", ".gz", ".zst", ".pdf")


@pytest.mark.slow
def test_damaged_files_of_every_format_are_survived(tmp_path):
    rng = random.Random(7)
    for name, data in seeds().items():
        for _ in range(4):
            survives(tmp_path, name, damaged(data, rng))


@pytest.mark.slow
def test_many_damaged_files_are_survived(tmp_path):
    rng, files = random.Random(11), seeds()
    for at in range(FUZZ_FILES):
        name = list(files)[at % len(files)]
        survives(tmp_path, name, damaged(files[name], rng))
    assert {path.name for path in tmp_path.iterdir()} <= {*files, "дом soulsmith"}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400))
def test_any_bytes_are_survived(tmp_path, data):
    survives(tmp_path, "x", data)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["messages", "role", "content", "text", "from", "value", "instruction", "output", "history",
                         "mapping", "chats", "chat_messages", "conversations", "chosen", "prompt", "current_node"]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(json_values, max_size=4), st.booleans())
def test_any_json_is_survived(tmp_path, values, as_lines):
    data = "\n".join(map(json.dumps, values)) if as_lines else json.dumps(values)
    survives(tmp_path, "x.jsonl", data.encode("utf-8", "surrogatepass"))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60), min_size=1, max_size=5))
def test_sound_rows_are_kept_to_the_letter(texts):
    data = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    one = detection.open_source(Source("a.jsonl", lambda: io.BytesIO(data), len(data)))
    found = list(reading.read(one, Options(repair_text=False)))
    assert [row.row["text"] for row in found if isinstance(row, reading.Row)] == [t for t in texts if t.strip()]
    assert len(found) == len(texts)


def test_a_zip_bomb_and_links_are_set_aside(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.txt", b"0" * (80 * 2**20))
        archive.writestr("good.txt", "Привет, мир!")
    card = samples.made(tmp_path, "bomb.zip", out.getvalue())
    assert (samples.said(card), card["reasons"]) == (["Привет, мир!"], {"packed_too_much": 1})
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"a\n" * (40 * 2**20)))
    with pytest.raises(importer.CorpusEmpty, match="unpacks to too much"):
        corpus.create([tmp_path / "bomb.gz"], "x")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.txt").write_text("да", "utf-8")
    (folder / "passwd.txt").symlink_to("/etc/passwd")
    (folder / "loop").symlink_to(folder)
    card = corpus.create([folder], "folder")
    assert (samples.said(card), card["reasons"]) == (["да"], {"link": 2})


@pytest.mark.slow
def test_a_line_of_60_mb_is_read_and_a_longer_one_set_aside(tmp_path):
    began = time.monotonic()
    data = json.dumps({"text": "слово " * 5_000_000}, ensure_ascii=False) + '\n{"text": "да"}\n'
    assert 55e6 < len(data.encode()) < 64e6
    card = samples.made(tmp_path, "a.jsonl", data)
    assert (card["rows"], card["rows_set_aside"]) == (2, 0)
    card = samples.made(tmp_path, "b.jsonl", b'{"text": "no"}\n{"text": "' + b"a" * 90_000_000 + b'"}\n')
    assert (card["rows"], card["reasons"]) == (1, {"line_too_long": 1})
    assert time.monotonic() - began < 2 * SECONDS


def both_ways(path):
    """What is read of JSON Lines whose bytes are parsed as they are, and whose text is decoded first."""
    source = replace(of_file(path), encoding="utf-8")
    decoded = (json_files._of_line(line) for line in encodings.lines(source, "utf-8"))
    for records in (json_files.read_lines(source), chain.from_iterable(decoded)):
        yield reading.read(detection.Opened(source, "jsonl", "utf-8", records), Options())


def test_damaged_lines_give_the_same_rows_parsed_as_bytes_and_as_text(tmp_path):
    rng, path = random.Random(5), tmp_path / "a.jsonl"
    seed = (samples.CHATS["messages.jsonl"] + samples.CHATS["saiga.jsonl"] + '{"text":"РџСЂРёРІРµС‚, РјРёСЂ"}\n') * 2
    for _ in range(150):
        path.write_bytes(damaged(seed.encode(), rng))
        rows, others = ([row._replace(raw=b"") if isinstance(row, reading.Row) else row for row in way]
                        for way in both_ways(path))  # fmt: skip
        assert rows == others


@pytest.mark.slow
def test_rows_written_as_the_file_has_them_are_those_of_the_encoder(tmp_path):
    """Chats and texts in every spacing, with all that must not pass unseen: blanks, escapes, spoilt lines, odd roles."""
    rng, path = random.Random(3), tmp_path / "a.jsonl"
    raw = 0
    for kind in ("chat", "text", "both"):
        path.write_text("".join(_line(kind, rng) for _ in range(700)), encoding="utf-8", newline="")
        rows = []
        for way in both_ways(path):
            writer = storage.Writer(tmp_path)
            for row in (row for row in way if isinstance(row, reading.Row)):
                raw += bool(row.raw)
                writer.row(row.row, {"file": "a.jsonl", "line": row.place}, row.raw)
            writer.finish({})
            rows.append(list(storage.all_rows(tmp_path)))
        assert rows[0] == rows[1]
        assert [row["id"] for row in rows[0]] == [corpus_rows.row_id(row) for row in rows[0]]
    assert raw > 200


BITS = ["слово ", "ещё одно слово, да ", "word ", "the quick "] * 14 + [
    "да", "США»", "НАТО", "“x”", "é", "🙂", "\n", "\t", '"', "\\", "\\n", "/", "\u2028", "\u00a0", "  ", "РџСЂРёРІРµС‚",
    "\x7f", "\x01", "\u202f", "— ", "«Мир»", "", "А", "Б ", "<think>", "ё", '"}]}', "日本",
]  # fmt: skip


def _line(kind: str, rng: random.Random) -> str:
    def text() -> str:
        return "".join(rng.choices(BITS, k=rng.randint(0, 14)))

    if kind == "text" or (kind == "both" and rng.random() < 0.3):
        value = {"text": text()}
    else:
        turns = [{"role": "system", "content": text()}] if rng.random() < 0.3 else []
        for _ in range(rng.randint(1, 3)):
            turns += [{"role": "user", "content": text()}, {"role": "assistant", "content": text()}]
        turns = turns[:-1] if rng.random() < 0.05 else turns
        turns[0]["role"] = "human" if rng.random() < 0.03 else turns[0]["role"]
        value = {"messages": turns} | ({"id": 1} if rng.random() < 0.05 else {})
    spaces = (", ", ": ") if kind == "chat" or rng.random() < 0.3 else (",", ":")
    end = rng.choice(["\n"] * 20 + ["\r\n", "\n\n"])
    return json.dumps(value, ensure_ascii=rng.random() < 0.1, separators=spaces) + end
