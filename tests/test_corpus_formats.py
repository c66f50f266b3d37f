"""Every format: the same data gives the same rows, and rows in are rows kept plus rows set aside."""

import gzip
import io
import json
import zipfile

import pytest

from core.corpus import corpus, export
from core.corpus.reading import Options
from tests.conftest import raises

TURNS = [
    [("user", "Как дела?"), ("assistant", 'Хорошо, "спасибо", друг; да')],
    [("user", "Сколько будет 2+2?\nПодумай."), ("assistant", "007")],
    [("user", "NA"), ("assistant", "null")],
]
TEXTS = ["Привет, мир! Qwen — №1 ₽ ° 🙂", "NA", "null", "None", "007", "строка\nвторая"]


def made(tmp_path, name, data, **options):
    file = tmp_path / name
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    card = corpus.create([file], name, options=Options(**options))
    assert card["rows_in"] == card["rows_kept"] + card["rows_set_aside"]
    assert card["rows_set_aside"] == len(corpus.set_aside(card["id"], 0, 10_000))
    return card


def said(card):
    rows = corpus.rows(card["id"], 0, 10_000)
    return [
        row.get("text") or [(turn["role"], turn["content"]) for turn in row["messages"] + row.get("chosen", [])]
        for row in rows
    ]


def lines(values):
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)


def messages(turns, role="role", content="content", **names):
    return [{role: names.get(who, who), content: words} for who, words in turns]


def packed_parquet(rows):
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def packed_arrow(rows, stream):
    import pyarrow as pa

    table, out = pa.Table.from_pylist(rows), io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def zstd(data):
    import zstandard

    return zstandard.ZstdCompressor().compress(data)


def table(rows, delimiter=",", header="instruction,output"):
    quoted = [delimiter.join('"' + cell.replace('"', '""') + '"' for _, cell in turns) for turns in rows]
    return "\n".join([header.replace(",", delimiter), *quoted]) + "\n"


CHATS = {
    "messages.jsonl": lines([{"messages": messages(turns)} for turns in TURNS]),
    "array.json": json.dumps([{"messages": messages(turns)} for turns in TURNS]),
    "pretty.json": json.dumps([{"messages": messages(turns)} for turns in TURNS], indent=2, ensure_ascii=False),
    "pretty.jsonl": "\n".join(json.dumps({"messages": messages(turns)}, indent=1) for turns in TURNS),
    "joined.json": "".join(json.dumps({"messages": messages(turns)}) for turns in TURNS),
    "lines.json": lines([{"messages": messages(turns)} for turns in TURNS]),
    "boxed.json": json.dumps({"version": 1, "data": [{"messages": messages(turns)} for turns in TURNS]}),
    "saiga.jsonl": lines([{"messages": messages(turns, assistant="bot"), "source": "saiga"} for turns in TURNS]),
    "sharegpt.jsonl": lines(
        [{"conversations": messages(turns, "from", "value", user="human", assistant="gpt")} for turns in TURNS]
    ),
    "parts.jsonl": lines(
        [
            {"messages": [{"role": who, "content": [{"type": "text", "text": words}]} for who, words in turns]}
            for turns in TURNS
        ]
    ),
    "alpaca.json": json.dumps([{"instruction": t[0][1], "input": "", "output": t[1][1]} for t in TURNS]),
    "pairs.jsonl": lines([{"prompt": t[0][1], "completion": t[1][1]} for t in TURNS]),
    "preference.jsonl": lines([{"prompt": t[0][1], "chosen": t[1][1], "rejected": "нет"} for t in TURNS]),
    "preference-chats.jsonl": lines(
        [{"chosen": messages(t), "rejected": messages([t[0], ("assistant", "нет")])} for t in TURNS]
    ),
    "comma.csv": table(TURNS),
    "russian.csv": "\ufeff" + table(TURNS, ";", "вопрос,ответ"),
    "tabs.tsv": table(TURNS, "\t"),
    "no-extension": table(TURNS, ";", "Вопрос,Ответ"),
    "cells.csv": table([[("", json.dumps(messages(t), ensure_ascii=False))] for t in TURNS], header="messages"),
    "rows.parquet": packed_parquet([{"messages": messages(turns)} for turns in TURNS]),
    "transposed.parquet": packed_parquet(
        [{"messages": {"role": ["user", "bot"], "content": [t[0][1], t[1][1]]}} for t in TURNS]
    ),
    "file.arrow": packed_arrow([{"prompt": t[0][1], "completion": t[1][1]} for t in TURNS], stream=False),
    "stream.arrow": packed_arrow([{"messages": messages(turns)} for turns in TURNS], stream=True),
    "packed.jsonl.gz": gzip.compress(lines([{"messages": messages(turns)} for turns in TURNS]).encode()),
    "packed.csv.zst": zstd(table(TURNS).encode()),
    "utf16.jsonl": lines([{"messages": messages(turns)} for turns in TURNS]).encode("utf-16"),
    "claude.json": json.dumps(
        [
            {
                "name": "x",
                "chat_messages": [
                    {"sender": {"user": "human"}.get(who, who), "content": [{"type": "text", "text": words}]}
                    for who, words in turns
                ],
            }
            for turns in TURNS
        ]
    ),
}


@pytest.mark.parametrize("name", CHATS)
def test_the_same_chats_in_every_format_give_the_same_rows(tmp_path, name):
    card = made(tmp_path, name, CHATS[name])
    assert said(card) == TURNS
    assert (card["rows_in"], card["rows_set_aside"], card["repairs"]) == (3, 0, {})


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl", lines([{"text": text} for text in TEXTS])),
        ("a.json", json.dumps(TEXTS)),
        ("b.json", json.dumps({"text": TEXTS, "n": list(range(6))})),
        ("a.csv", "text,n\n" + "".join(f'"{text}",1\n' for text in TEXTS)),
        ("a.parquet", packed_parquet([{"content": text} for text in TEXTS])),
        ("a.txt", "<|endoftext|>\n" + "".join(f"{text}\n<|endoftext|>\n" for text in TEXTS)),
        ("fortune", "\n%\n".join(TEXTS)),
    ],
)
def test_the_same_texts_in_every_format_give_the_same_rows(tmp_path, name, data):
    assert said(made(tmp_path, name, data)) == TEXTS


def test_a_save_to_disk_folder_and_a_zip_are_read_file_by_file(tmp_path):
    folder = tmp_path / "saved"
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "data-00000-of-00001.arrow").write_bytes(CHATS["stream.arrow"])
    (folder / "train" / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    (folder / "train" / "dataset_info.json").write_text('{"features": {}}')
    card = corpus.create([folder], "saved")
    assert said(card) == TURNS
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a/one.jsonl", CHATS["messages.jsonl"])
        archive.writestr("b/two.csv", CHATS["comma.csv"])
        archive.writestr("../evil.jsonl", CHATS["messages.jsonl"])
        archive.writestr("__MACOSX/._x", b"junk")
    card = made(tmp_path, "chats.zip", out.getvalue())
    assert said(card) == TURNS + TURNS
    assert card["reasons"] == {"zip_path_outside": 1}
    assert not (tmp_path.parent / "evil.jsonl").exists()


def test_a_chatgpt_export_gives_the_branch_that_was_seen_last(tmp_path):
    def node(parent, role, text, **more):
        message = role and {"author": {"role": role}, "content": {"content_type": "text", "parts": [text]}, **more}
        return {"parent": parent, "message": message}

    mapping = {
        "root": node(None, None, None),
        "sys": node("root", "system", "x"),
        "q": node("sys", "user", "вопрос"),
        "a1": node("q", "assistant", "первый"),
        "a2": node("q", "assistant", "второй \ue200cite\ue202turn0search0\ue201да"),
        "tool": node("a2", "assistant", "код", recipient="python"),
        "q2": node("tool", "user", " "),
    }
    export_ = [{"title": "т", "mapping": mapping, "current_node": "q2"}, {"mapping": {}}]
    card = made(tmp_path, "conversations.json", json.dumps(export_))
    assert said(card) == [[("user", "вопрос"), ("assistant", "второй да")]]
    assert card["reasons"] == {"empty_chat": 1}


def test_a_telegram_export_becomes_conversations_of_bursts(tmp_path):
    def message(who, text, at):
        return {"type": "message", "from_id": who, "from": who, "text": text, "date_unixtime": str(at)}

    link = ["смотри ", {"type": "link", "text": "http://x"}]
    chat = [
        {"type": "service", "text": ""}, message("user2", "привет", 0), message("user2", link, 9),
        message("user1", "да", 20), message("user2", "ты тут?", 90_000), message("user1", "тут", 90_010),
    ]  # fmt: skip
    full = {"personal_information": {"user_id": 1}, "chats": {"list": [{"name": "Друг", "messages": chat}]}}
    expected = [
        [("user", "привет\nсмотри http://x"), ("assistant", "да")],
        [("user", "ты тут?"), ("assistant", "тут")],
    ]
    assert said(made(tmp_path, "result.json", json.dumps(full))) == expected
    one = {"name": "user2", "type": "personal_chat", "messages": chat}
    assert said(made(tmp_path, "one.json", json.dumps(one))) == expected


def test_books_and_documents_give_their_words(tmp_path):
    page = "<html><head><title>Т</title><script>x</script></head><body><h1>Глава</h1><p>Пер&shy;вый&nbsp;абзац</p><ul><li>раз<li>два</ul></body></html>"
    words = "# Глава\n\nПервый\u00a0абзац\n\n- раз\n- два"
    assert said(made(tmp_path, "page.html", page)) == [words]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as book:
        book.writestr("mimetype", "application/epub+zip")
        book.writestr("META-INF/container.xml", '<container><rootfile full-path="o/p.opf"/></container>')
        items = '<item id="b" href="b.xhtml"/><item id="a" href="a.xhtml"/>'
        book.writestr("o/p.opf", f'<package>{items}<spine><itemref idref="b"/><itemref idref="a"/></spine></package>')
        book.writestr("o/a.xhtml", "<html><body><p>вторая</p></body></html>")
        book.writestr("o/b.xhtml", page)
    assert said(made(tmp_path, "book.epub", out.getvalue())) == [words, "вторая"]
    fb2 = (
        '<?xml version="1.0" encoding="windows-1251"?><FictionBook><description><title-info><book-title>Книга'
        "</book-title></title-info></description><body><section><title><p>Глава</p></title><p>Ёлки.</p></section></body>"
        '<binary id="x">AAAA</binary></FictionBook>'
    )
    card = made(tmp_path, "book.fb2", fb2.encode("cp1251"))
    assert (said(card), card["encodings"]) == (["## Глава\n\nЁлки."], {"cp1251": 1})
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as document:
        xml = "<w:document><w:p><w:r><w:t>Первый</w:t></w:r><w:r><w:t xml:space='preserve"
        document.writestr(
            "word/document.xml", xml + "'> &amp; абзац</w:t></w:r></w:p><w:p><w:t>Второй</w:t></w:p></w:document>"
        )
    assert said(made(tmp_path, "letter.docx", out.getvalue())) == ["Первый & абзац\n\nВторой"]


def test_a_vault_gives_its_notes_without_marks(tmp_path):
    vault = tmp_path / "vault"
    (vault / ".obsidian").mkdir(parents=True)
    (vault / ".obsidian" / "app.json").write_text("{}")
    (vault / "note.md").write_text(
        "---\ntitle: Моя\ntags: [a]\n---\n# Дом\n[[Лес|лес]] и [[Река]] ![[x.png]] %%тайна%% конец ^id1\n\n"
        "```dataview\nLIST\n```\n```python\n[[не ссылка]]\n```\n> [!note] Важно\n> да\n",
        "utf-8",
    )
    card = corpus.create([vault], "vault")
    assert said(card) == ["# Дом\nлес и Река   конец\n\n\n```python\n[[не ссылка]]\n```\n> Важно\n> да"]
    assert corpus.rows(card["id"])[0]["fields"] == {"title": "Моя"}


def test_a_long_text_becomes_documents_of_whole_paragraphs(tmp_path):
    paragraph = "Кузнец куёт железо, пока оно горячо, и не спешит. " * 6
    text = "\n\n".join(f"{number}. {paragraph.strip()}" for number in range(200))
    rows = said(made(tmp_path, "book.txt", text))
    assert "\n\n".join(rows) == text
    assert all(2000 <= len(row) <= 8000 for row in rows[:-1])
    unbroken = said(made(tmp_path, "run.txt", "а" * 1_000_000))
    assert "".join(unbroken) == "а" * 1_000_000
    assert max(map(len, unbroken)) <= 8000


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ('{"text": null}', "empty_text"),
        ('{"text": "  "}', "empty_text"),
        ('{"a": 1, "b": "x", "c": "y"}', "unknown_fields"),
        ('{"messages": []}', "empty_chat"),
        ('{"messages": [{"role": "hummany", "content": "q"}]}', "unknown_role"),
        ('{"messages": [{"role": "user", "content": "q"}]}', "no_reply"),
        ('{"messages": [{"role": "assistant", "content": null, "tool_calls": [{}]}]}', "tool_calls"),
        ('{"messages": [{"who": "user"}]}', "turns_unreadable"),
        ('{"instruction": "q", "output": ""}', "empty_reply"),
        ('{"text": "a"', "bad_json"),
        ("[" * 1000 + "]" * 1000, "turns_unreadable"),
        ("17", "unknown_fields"),
        ("null", "unknown_fields"),
    ],
)
def test_a_bad_record_is_set_aside_with_its_reason(tmp_path, record, reason):
    card = made(tmp_path, "a.jsonl", '{"text": "да"}\n' + record + '\n{"text": "нет"}\n')
    assert (said(card), card["reasons"]) == (["да", "нет"], {reason: 1})


def test_broken_json_of_several_lines_loses_one_object_only(tmp_path):
    data = '[\n{"text": "раз"},\n{"text": "два", \n{"text": "три"}\n{"text": "че\\"ты}ре"}'
    card = made(tmp_path, "a.json", data)
    assert (said(card), card["reasons"]) == (["раз", "три", 'че"ты}ре'], {"bad_json": 1})


def test_a_mapping_and_roles_can_be_given(tmp_path):
    data = lines([{"Q!": "вопрос", "A!": "ответ", "note": "x"}])
    assert corpus.look([write(tmp_path, data)])["rows"] == []
    card = made(tmp_path, "a.jsonl", data, mapping={"schema": "pair", "ask": ["Q!"], "answer": "A!"})
    assert said(card) == [[("user", "вопрос"), ("assistant", "ответ")]]
    data = lines([{"messages": [{"role": "Гость", "content": "q"}, {"role": "Мастер", "content": "a"}]}])
    seen = corpus.look([write(tmp_path, data)])
    assert (seen["unknown_roles"], seen["rows"]) == ({"Гость": 1, "Мастер": 1}, [])
    card = made(tmp_path, "b.jsonl", data, roles={"Гость": "user", "Мастер": "assistant"})
    assert said(card) == [[("user", "q"), ("assistant", "a")]]


def write(tmp_path, data):
    path = tmp_path / "look.jsonl"
    path.write_text(data, "utf-8")
    return path


def test_turns_are_repaired_by_code_and_left_alone_when_asked(tmp_path):
    turns = [
        ("system", "s"), ("user", "q1"), ("user", "q2"), ("assistant", "a"), ("system", "позже"), ("user", "q3"),
        ("assistant", "b"), ("user", ""), ("user", "последний"),
    ]  # fmt: skip
    data = lines([{"messages": messages(turns)}])
    card = made(tmp_path, "a.jsonl", data)
    fixed = [("system", "s"), ("user", "q1\n\nq2"), ("assistant", "a"), ("user", "позже\n\nq3"), ("assistant", "b")]
    assert said(card) == [fixed]
    assert card["repairs"] == {
        "neighbours_merged": 1, "empty_turn_dropped": 1, "system_moved_into_user": 1, "trailing_question_cut": 1,
    }  # fmt: skip
    assert said(made(tmp_path, "b.jsonl", data, repair_turns=False)) == [turns]


@pytest.mark.parametrize("form", export.FORMATS)
def test_an_export_comes_back_as_the_same_rows(tmp_path, form):
    texts = [*TEXTS, "# заголовок\n\n- раз\n- **два**\n\n[[x]]", "{}", "a,b\n1,2", "%\n", "<html>", "---\na: b\n---\n"]
    rows = [{"text": text} for text in texts] if form == "text" else [{"messages": messages(turns)} for turns in TURNS]
    if form in ("jsonl", "jsonl.zst", "parquet"):
        rows += [{"text": text, "n": 7} for text in texts]
    chats = [("user", "q"), ("assistant", "a"), ("user", "q\r\n\u2028"), ("assistant", "b")]
    rows += [{"messages": messages([("system", "s"), *chats])}] if form != "text" else []
    replies = {name: messages([("assistant", name)]) for name in ("chosen", "rejected")}
    pairs = [row | {"messages": row["messages"][:-1]} | replies for row in rows if "messages" in row]
    rows = pairs if form == "preference" else rows + pairs if form in ("jsonl", "jsonl.zst", "parquet") else rows
    weighted = messages(chats)
    weighted[1]["weight"] = 0
    rows += [{"messages": weighted}] if form in ("jsonl", "jsonl.zst", "parquet", "messages") else []
    card = made(tmp_path, "a.jsonl", lines(rows))
    out = tmp_path / ("out" + export.FORMATS[form])
    done = export.export(corpus.directory(card["id"]), form, out)
    assert (done["rows"], out.with_name(out.name + ".md").is_file()) == (len(rows), True)
    back = corpus.create([out], "back")
    assert back["content_hash"] == card["content_hash"]
    assert back["rows_set_aside"] == 0
    fields = [row.get("fields") for row in corpus.rows(card["id"])]
    if form in ("jsonl", "jsonl.zst", "parquet"):
        assert [row.get("fields") for row in corpus.rows(back["id"])] == fields


def test_an_export_is_written_whole_or_not_at_all(tmp_path):
    card = made(tmp_path, "a.jsonl", lines([{"messages": messages(TURNS[0])}, {"text": "да"}]))
    folder = tmp_path / "out"
    with raises("RowsDoNotFit", match="1 rows do not fit into alpaca, the first is row 2: it is a text"):
        export.export(corpus.directory(card["id"]), "alpaca", folder / "a.jsonl")
    assert list(folder.iterdir()) == []
    with raises("FormatUnknown", match="Choose one of jsonl"):
        export.export(corpus.directory(card["id"]), "xlsx", folder / "a")
