"""Damaged files: no kept row has what its source did not, and every record is kept or set aside."""

import contextlib
import gzip
import io
import itertools
import json
import random
import re
import textwrap
import zipfile
from pathlib import Path

import pytest
import zstandard

from core.corpus import (
    checks,
    cleaning,
    corpus,
    documents,
    duplicates,
    encodings,
    importer,
    mojibake,
    personal,
    sniff,
    turns,
)
from core.corpus.formats import pdf
from core.training import corpus_rows, leakage
from tests.test_corpus_formats import lines, made, messages, packed_arrow, packed_parquet, said
from tests.test_corpus_fuzz import FUZZ_FILES

WORDS = "Отпущено масла две меры, фитилей одна"


def without(data: bytes, *places: int) -> bytes:
    """The bytes without those at some places."""
    return bytes(byte for at, byte in enumerate(data) if at not in places)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.json", "a.csv", "a.html"])
def test_a_lost_byte_leaves_a_mark_and_no_other_letter(tmp_path, name):
    texts = [f"{WORDS} № {number}." for number in range(40)]
    whole = {
        "a.txt": "\n%\n".join(texts),
        "a.jsonl": lines([{"text": text} for text in texts]),
        "a.json": json.dumps([{"text": text} for text in texts], ensure_ascii=False),
        "a.csv": "text\n" + "".join(f'"{text}"\n' for text in texts),
        "a.html": "<html><body>" + "".join(f"<p>{text}</p>" for text in texts) + "</body></html>",
    }[name].encode()
    card = made(tmp_path, name, without(whole, whole.index("масла".encode(), len(whole) // 2) + 3))
    spoilt = "\n\n".join(said(card)) if name == "a.html" else said(card)
    at = next(number for number, text in enumerate(texts) if text.replace("масла", "м\ufffdсла") in spoilt)
    marked = [text.replace("масла", "м\ufffdсла") if number == at else text for number, text in enumerate(texts)]
    assert spoilt == ("\n\n".join(marked) if name == "a.html" else marked)
    assert (card["repairs"], card["rows_set_aside"], set(card["encodings"])) == ({"characters_lost": 1}, 0, {"utf-8"})


@pytest.mark.parametrize(
    ("data", "rows", "reasons"),
    [
        ("да\n%\nнет\n%\nпривет".encode()[:-1], ["да", "нет", "приве\ufffd"], {}),
        ("да\n%\nнет\n%\nой".encode()[:-1], ["да", "нет"], {"bad_bytes": 1}),
        (("%\n" + WORDS + "\n%\nда, вот").encode()[:-1], [WORDS, "да, во\ufffd"], {}),
        (
            b"A line that has lost one byte of a dash \xe2\x80 here.",
            ["A line that has lost one byte of a dash \ufffd here."],
            {},
        ),
    ],
)
def test_a_torn_end_is_marked_or_set_aside(tmp_path, data, rows, reasons):
    card = made(tmp_path, "a.txt", data)
    assert (said(card), card["reasons"]) == (rows, reasons)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_byte_lost_in_wide_text_takes_one_line(tmp_path, encoding):
    texts = [f"{WORDS} № {number}." for number in range(9)]
    data = lines([{"text": text} for text in texts]).encode(encoding)
    card = made(tmp_path, "a.jsonl", without(data, len(data) // 2 + 1))
    kept = said(card)
    assert [text for text in texts if text in kept] == kept
    assert len(kept) >= 1 if encoding == "utf-32" else len(kept) == 8
    assert set(card["reasons"]) <= {"bad_bytes", "bad_json"}


def spoilt(text: str, *encodings: str) -> str:
    for encoding in encodings:
        text = "".join(mojibake._char(byte, encoding) for byte in text.encode())
    return text


@pytest.mark.parametrize(
    ("text", "encodings"),
    [
        ("café", ["cp1252"]), ("it’s fine — “ok”", ["cp1252"]), ("Größe und Maß", ["latin-1"]),
        ("naïve façade", ["cp1252", "cp1252"]), ("Привет, мир! Как дела?", ["cp1252", "cp1252"]),
        ("Привет, мир! Как дела?", ["mac_roman", "mac_roman"]), ("«Да», — сказал он.", ["latin-1", "latin-1"]),
        ("Ёж — №5", ["cp1251", "cp1251"]), ("100 €", ["cp1252"]), ("café", ["cp1251", "cp1251"]),
    ],
)  # fmt: skip
def test_lines_in_other_languages_and_spoilt_twice_are_repaired(text, encodings):
    assert mojibake.Repairer().line(spoilt(text, *encodings)) == text


def test_what_stays_spoilt_is_flagged():
    for text in (spoilt("it’s fine — “ok”", "koi8_r", "koi8_r"), "Привет\ufffd, мир", spoilt("café", "cp1252")):
        assert "spoilt" in checks.check({"text": text})["flags"]
    for text in (WORDS, "Größe und Maß für äöüß, naïve façade — œuvre “été”…", "Привет 🙂"):
        assert "spoilt" not in checks.check({"text": text})["flags"]


def test_a_line_that_can_only_be_half_repaired_stays():
    line = spoilt("café", "cp866", "cp1251")
    assert mojibake.Repairer().line(line) is line


@pytest.mark.parametrize(
    "text", ["café is nice", "it’s ok", "naïve façade", "c’est très bien là-bas", "Größe und Maß" * 9]
)
def test_a_few_western_letters_are_no_other_alphabet(text):
    assert encodings.guess(text.encode("cp1252")) == "cp1252"


@pytest.mark.parametrize(
    ("open_row", "reason"),
    [('"открыта', "open_quote"), ('"открыта","и, ещё', "open_quote"), ('"она "сказала" да","и "нет" тоже"', "")],
)
@pytest.mark.parametrize("quoted", [False, True])
def test_an_open_quote_takes_no_other_row(tmp_path, open_row, reason, quoted):
    pairs = [(f"вопрос {number}", f"ответ {number}\nи ещё" if quoted else f"ответ {number}") for number in range(30)]
    rows = [f'"{ask}","{answer}"' if quoted else f"{ask},{answer}" for ask, answer in pairs]
    card = made(tmp_path, "a.csv", "\n".join(["instruction,output", *rows[:10], open_row, *rows[10:]]))
    other = [] if reason else [('она "сказала" да', 'и "нет" тоже')]
    wanted = [[("user", ask), ("assistant", answer)] for ask, answer in [*pairs[:10], *other, *pairs[10:]]]
    assert (said(card), card["reasons"]) == (wanted, {reason: 1} if reason else {})


def test_one_column_with_an_open_quote_is_read_on_at_the_next_line(tmp_path):
    texts = [f"строка {number}" for number in range(100)]
    card = made(tmp_path, "a.csv", "\n".join(["text", *texts[:3], '"открыта', *texts[3:]]))
    assert (said(card), card["reasons"]) == (texts, {"open_quote": 1})
    assert corpus.set_aside(card["id"])[0]["line"] == "5"


PROSE = [
    f"Это обычная строка прозы под номером {word}."
    for word in ["один", "два", "три", "четыре", "пять", "шесть", "семь"]
]


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ([{"email": "ivan@example.org", "plus": True}], []),
        ([{"user_id": "u", "settings": {}}], []),
        ([{"spec": "chara_card_v2", "data": {"name": "Алиса"}}], []),
        ([{"id": "1", "content": '{"rating": "up"}', "rating": "thumbsUp"}] * 3, []),
        ([{"time": at, "message": f"Запрос номер {at} к серверу выполнен успешно"} for at in range(9)], []),
        ([{"n": at, "row": f"Запрос номер {at} к серверу выполнен успешно"} for at in range(9)], []),
        ([{"n": at, "key": f"ab{at}cd-7712-{at}"} for at in range(9)], []),
        ([{"n": at, "joke": text} for at, text in enumerate(PROSE)], PROSE),
        ([{"joke": "Короткая шутка о рыбаке."}], []),
        ([{"joke": "Длинная шутка о рыбаке. " * 10}], ["Длинная шутка о рыбаке. " * 10]),
        ([{"text": "да"}], ["да"]),
    ],
)
def test_a_column_is_text_by_its_name_or_by_evidence(tmp_path, rows, kept):
    file = tmp_path / "a.jsonl"
    file.write_text(lines([*rows, {"text": "ок"}] if not kept else rows), "utf-8")
    card = corpus.create([file], "a")
    assert said(card) == (kept or ["ок"])
    assert card["rows_in"] == len(rows) + (not kept)
    if kept:
        assert sniff.look([file])["rows"][0]["row"]["text"] == kept[0]


def test_of_an_archive_of_chats_the_rest_is_listed(tmp_path):
    chat = [{"chat_messages": [{"sender": "human", "text": "q"}, {"sender": "assistant", "text": "a"}]}]
    out = tmp_path / "export.zip"
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("conversations.json", json.dumps(chat))
        for name in ("user.json", "chat.html", "message_feedback.json"):
            archive.writestr(name, '{"text": "Это описание."}')
    card = corpus.create([out], "export")
    assert (said(card), card["reasons"]) == ([[("user", "q"), ("assistant", "a")]], {"describes_others": 3})


def chat(ask: str, reply: str, system: str = "") -> dict:
    told = [("system", system)] if system else []
    return {"messages": messages([*told, ("user", ask), ("assistant", reply)])}


def copies(rows: list[dict]) -> list[tuple[str, int]]:
    """(kind, row that stays) of each row that is a copy."""
    found = duplicates.find(map(duplicates.said, rows))
    return [(duplicates.KINDS[kind], int(first)) for kind, first in zip(found.kind, found.first, strict=True) if kind]


PERSONA = "Ты — Алиса, смотрительница маяка; говоришь мягко, помнишь море и никогда не спешишь с ответом. " * 8
RNG = random.Random(5)
VOCABULARY = [f"слово{number}" for number in range(900)]
REPLIES = [" ".join(RNG.choices(VOCABULARY, k=6)) for _ in range(60)]
LONG_REPLIES = [" ".join(RNG.choices(VOCABULARY, k=60)) for _ in range(60)]


@pytest.mark.parametrize("replies", [REPLIES, LONG_REPLIES], ids=["short", "long"])
@pytest.mark.parametrize("where", ["system", "question"])
def test_rows_that_share_only_a_persona_are_no_copies(replies, where):
    asks = [" ".join(RNG.choices(VOCABULARY, k=5)) for _ in replies]
    rows = [
        chat(ask, reply, PERSONA) if where == "system" else chat(f"{PERSONA}\n\n{ask}", reply)
        for ask, reply in zip(asks, replies, strict=True)
    ]
    assert copies(rows) == []


def test_labels_of_other_texts_are_no_copies_and_long_replies_that_are_alike_are():
    assert copies([chat(ask, "да") for ask in REPLIES]) == []
    assert copies([chat(f"Это важно: {LONG_REPLIES[0]}?", said) for said in ("да", "нет")]) == []
    other = LONG_REPLIES[1].replace(LONG_REPLIES[1].split()[30], "иначе")
    assert copies([chat("Первый вопрос", LONG_REPLIES[1]), chat("Совсем другое", other, PERSONA)]) == [("near", 0)]


def test_a_near_copy_is_near_to_the_row_that_stays_and_a_chain_is_one_group():
    words = [f"word{number}" for number in range(400)]
    rows = [{"text": " ".join(words[at : at + 80])} for at in range(0, 300, 4)]
    found = duplicates.find(map(duplicates.said, rows))
    assert found.counts()["near"] > 30
    assert 5 < len(set(found.first.tolist())) < 30
    for row, first in enumerate(found.first.tolist()):
        one, other = (set(zip(*(rows[at]["text"].split()[n:] for n in range(5)), strict=False)) for at in (row, first))
        assert len(one & other) / len(one | other) > 0.55  # 0.7 as estimated by 128 numbers
    assert set(found.group.tolist()) == {0}


def test_rows_of_one_chain_stay_on_one_side_of_the_split(tmp_path):
    words = [f"word{number}" for number in range(400)]
    rows = [{"text": " ".join(words[at : at + 80])} for at in range(0, 300, 4)]
    card = made(tmp_path, "a.jsonl", lines([*rows, {"text": "Совсем другой текст."}]))
    cleaned = cleaning.clean(corpus.directory(card["id"]), "clean", cleaning.Rules(leave_out=("near",)))
    clusters = [row.get("cluster") for row in corpus.rows(cleaned["id"], 0, 100)]
    assert 5 < len(clusters) < 30
    assert set(clusters[:-1]) == {"c0"}
    assert clusters[-1] is None


def test_rows_equal_but_for_punctuation_are_held_out_together():
    texts = [f"{reply} {number}" for number, reply in enumerate(REPLIES)]
    rows = [{"text": text, "id": str(at)} for at, text in enumerate([*texts, *(f"{text.upper()}!" for text in texts)])]
    training, held_out = corpus_rows.split(rows, 0.1)
    marks = [{corpus_rows.plain(row["text"]) for row in part} for part in (training, held_out)]
    assert (len(training), len(held_out), marks[0] & marks[1]) == (108, 12, set())
    again = corpus_rows.split(rows[::-1], 0.1)
    assert {corpus_rows.plain(row["text"]) for row in again[1]} == marks[1]
    singles = [{"text": text, "id": str(at)} for at, text in enumerate(texts)]
    bare = [{"id": str(at)} for at in range(len(texts))]  # a corpus without copies is split as it always was
    assert [row["id"] for row in corpus_rows.split(singles, 0.1)[1]] == [
        row["id"] for row in corpus_rows.split(bare, 0.1)[1]
    ]


def test_held_out_rows_with_a_near_copy_in_training_are_counted():
    def changed(text: str) -> str:
        return text.replace(text.split()[20], "иначе")

    training = [chat(f"Вопрос {at}", reply, PERSONA) for at, reply in enumerate(LONG_REPLIES[:30])]
    held_out = [chat("Другой вопрос", changed(reply), PERSONA) for reply in LONG_REPLIES[20:40]]
    assert leakage.count(held_out, training) == 10
    short = [chat(f"{PERSONA} {ask}", reply) for ask, reply in zip(REPLIES[:30], REPLIES[30:], strict=True)]
    assert leakage.count(short[:10], short[10:]) == 0


def packed(data: bytes, how: str) -> bytes:
    return gzip.compress(data) if how == "gz" else zstandard.ZstdCompressor(write_checksum=True).compress(data)


@pytest.mark.parametrize("how", ["gz", "zst"])
@pytest.mark.parametrize("form", ["jsonl", "json"])
def test_of_a_packed_file_that_is_cut_off_the_beginning_is_kept(tmp_path, how, form):
    texts = [f"Строка {number}: " + " ".join(RNG.choices(VOCABULARY, k=60)) for number in range(2000)]
    rows = [{"text": text} for text in texts]
    data = packed((lines(rows) if form == "jsonl" else json.dumps(rows, ensure_ascii=False)).encode(), how)
    card = made(tmp_path, f"a.{form}.{how}", data[: len(data) * 2 // 3])
    assert said(card) == texts[: card["rows"]]
    assert 900 < card["rows"] < 1500
    assert card["reasons"]["file_cut"] == 1
    assert made(tmp_path, f"b.{form}.{how}", data)["reasons"] == {}


def test_of_packed_bytes_that_fail_their_check_nothing_is_kept(tmp_path):
    data = lines([{"text": f"Строка {number}"} for number in range(3000)]).encode()
    for how in ("gz", "zst"):
        spoilt = bytearray(packed(data, how))
        spoilt[len(spoilt) // 2] ^= 8
        (tmp_path / f"a.jsonl.{how}").write_bytes(spoilt)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.jsonl", data)
    whole = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(whole.replace("Строка 7".encode(), "Строка 8".encode(), 1))
    for path in tmp_path.glob("a.*"):
        with pytest.raises(importer.CorpusEmpty, match="damaged"):
            corpus.create([path], "a")


def test_packed_files_in_a_row_are_read_as_one(tmp_path):
    data = [lines([{"text": text}]).encode() for text in ("раз", "два")]
    for how in ("gz", "zst"):
        card = made(tmp_path, f"a.jsonl.{how}", b"".join(packed(part, how) for part in data))
        assert (said(card), card["reasons"]) == (["раз", "два"], {})


PAIR = [("user", "q"), ("assistant", "a")]


@pytest.mark.parametrize(
    ("line", "rows", "reasons", "repairs"),
    [
        ('{"text": "a"}{"text": "b"}', ["a", "b"], {}, {}),
        ('{"text": "a"}, {"text": "b"} ,', ["a", "b"], {}, {}),
        ('{"text": "a"}{"text": "b', [], {"bad_json": 1}, {}),
        ('{"text": "a{"text": "b"}', [], {"bad_json": 1}, {}),
        ('{"text": "a", "text": "b"}', [], {"keys_twice": 1}, {}),
        ('{"prompt": "q", "completion": "a", "prompt": "q2", "completion": "a2"}', [], {"keys_twice": 1}, {}),
        (
            '{"messages": [{"role": "user", "content": "q", "role": "assistant", "content": "a"}]}',
            [], {"keys_twice": 1}, {},
        ),
        (r'{"text": "\"a\": 1, \"a\": 2"}', ['"a": 1, "a": 2'], {}, {}),
        ("{'text': 'a', 'n': None, 'ok': True}", ["a"], {}, {"python_literal": 1}),
        (
            "{'messages': [{'role': 'user', 'content': 'q'}, {'role': 'assistant', 'content': \"a\"}]}",
            [PAIR], {}, {"python_literal": 1},
        ),
        ("{'text': array([1, 2])}", [], {"python_literal": 1}, {}),
        (
            '{"messages": [null, {"role": "user", "content": "q"}, null, {"role": "assistant", "content": "a"}]}',
            [PAIR], {}, {"empty_turn_dropped": 2},
        ),
        ('{"messages": [null, {"role": "user", "content": "q"}]}', [], {"no_reply": 1}, {"empty_turn_dropped": 0}),
        ('{"messages": [null, null]}', [], {"turns_unreadable": 1}, {"empty_turn_dropped": 0}),
    ],
)  # fmt: skip
def test_fused_rows_null_turns_and_python_literals_are_right_or_set_aside(tmp_path, line, rows, reasons, repairs):
    texts = [f'{{"text": "да"}}\n{line}\n{{"text": "нет"}}\n']
    with contextlib.suppress(ValueError):
        json.loads(line)
        texts.append("[" + ",\n".join(texts[0].strip().split("\n")) + "]")
    for text in texts:
        card = made(tmp_path, "a.json", text)
        assert (said(card), card["reasons"]) == (["да", *rows, "нет"], reasons)
        assert card["repairs"] == {name: count for name, count in repairs.items() if count}


@pytest.mark.parametrize(
    "text", ["{'text': 'a'}\n{'text': 'b'}\n", "[{'text': 'a'},\n {'text': 'b'}]", "[{'text': 'a'}, {'text': 'b'}]"]
)
def test_a_file_that_python_printed_is_read(tmp_path, text):
    assert said(made(tmp_path, "a.json", text)) == ["a", "b"]


SENTENCES = [
    f"Мой дядя приехал в город поздней осенью {number}, когда деревья уже сбросили листву и лужи затягивало льдом."
    for number in range(240)
]
PARAGRAPHS = [" ".join(SENTENCES[at : at + 1 + at % 7]) for at in range(0, 233, 3)]


@pytest.mark.parametrize("width", [60, 72, 78])
@pytest.mark.parametrize("style", ["indent", "blank", "hyphens"])
def test_a_hard_wrapped_book_has_its_paragraphs_again(tmp_path, style, width):
    paragraphs = [*PARAGRAPHS[:9], "— Кто-нибудь дома? — спросил он.", "— Никого.", *PARAGRAPHS[9:]]
    indent = "    " if style == "indent" else ""
    wrapped = [textwrap.fill(text, width, initial_indent=indent, break_on_hyphens=False) for text in paragraphs]
    if style == "hyphens":  # as a typesetter divides words
        wrapped = [re.sub(r"\n(осе|дере|сбро)(\w+)", r" \1-\n\2", text) for text in wrapped]
    card = made(tmp_path, "book.txt", ("\n" if style == "indent" else "\n\n").join(wrapped))
    rows = said(card)
    assert [line for row in rows for line in row.split("\n") if line] == paragraphs
    assert all(row.endswith(".") for row in rows)
    assert (min(map(len, rows)) > 1000, max(map(len, rows)) <= 2 * documents.LONGEST) == (True, True)


@pytest.mark.parametrize(
    "text",
    [
        "Мороз и солнце; день чудесный!\nещё ты дремлешь, друг прелестный —\nпора, красавица, проснись:\nоткрой\n" * 9,
        "def load(path):\n    with open(path) as file:\n        return json.load(file)\n\n\nprint(load('a'))\n" * 9,
        "- первый пункт длинного списка, который занимает почти всю строку\n- второй пункт\n" * 9,
    ],
    ids=["verse", "code", "list"],
)
def test_lines_that_are_lines_stay(tmp_path, text):
    assert said(made(tmp_path, "a.txt", text)) == [text.strip("\n")]


def test_a_long_text_is_cut_into_like_pieces_at_ends_of_sentences():
    pieces = list(documents.cut(" ".join(SENTENCES[:45]), 4000))
    assert (" ".join(pieces), all(piece.endswith(".") for piece in pieces)) == (" ".join(SENTENCES[:45]), True)
    assert (len(pieces), min(map(len, pieces)) > 1500, max(map(len, pieces)) <= 4000) == (2, True, True)


def test_running_heads_and_page_numbers_go_and_lines_of_the_text_stay():
    words = ["".join(RNG.choices("абвгдежз", k=30)) for _ in range(100)]
    body = [words[at : at + 5] for at in range(0, 100, 5)]
    pages = [
        [f"Глава {1 + at // 10}. Маяк" if at % 2 else "А. Смотритель", *lines, f"{at + 1}"]
        for at, lines in enumerate(body)
    ]
    assert pdf.without_running_heads(pages) == ([line for page in body for line in page], 40)
    once = [["Заголовок", *words[:5]], words[5:11]]
    assert pdf.without_running_heads(once) == (["Заголовок", *words[:11]], 0)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("разработчи\x02ка Debian", "разработчика\nDebian"),
        ("разработчи\x02\nка, Debian", "разработчика,\nDebian"),
        ("разработчи-\nка Debian", "разработчика\nDebian"),
        ("мяг\u00adкий", "мягкий\n"),
        ("кто\x02то и где\x02нибудь", "кто-то\nи где-нибудь\n"),
        ("red-hot iron, red\x02hot coals", "red-hot iron, red-hot\ncoals"),
        ("a line with a dash -\nand more", "a line with a dash -\nand more"),
    ],
)
def test_words_that_a_printer_divided_are_whole(text, whole):
    assert pdf.whole_words(text) == whole


LINES = [f"{sentence} {word.capitalize()} — «ёж», №{number}…" for number, (sentence, word) in enumerate(
    (WORDS, PROSE[at % 7].split()[0] + "эюя" * (at % 3)) for at in range(24))]  # fmt: skip


def twins() -> dict[str, bytes]:
    """One text in every format, undamaged."""
    rows = [{"text": line} for line in LINES]
    chats = [chat(line, LINES[at - 1]) for at, line in enumerate(LINES)]
    html = "<html><body>" + "".join(f"<p>{line}</p>\n" for line in LINES) + "</body></html>"
    cells = "".join(f'"{one}","{other}\nи ещё ""так"""\n' for one, other in itertools.pairwise(LINES))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("а.jsonl", lines(rows))
        file.writestr("b.txt", "\n\n".join(LINES))
    return {
        "a.txt": "\n\n".join(LINES).encode(), "b.txt": "\n%\n".join(LINES).encode(),
        "wrapped.txt": "\n".join(textwrap.fill(text, 70, initial_indent="   ") for text in PARAGRAPHS[:20]).encode(),
        "a.jsonl": lines(rows).encode(), "chats.jsonl": lines(chats).encode(),
        "a.json": json.dumps(rows, ensure_ascii=False).encode(),
        "pretty.json": json.dumps(chats, ensure_ascii=False, indent=1).encode(),
        "pairs.csv": f"instruction,output\n{cells}".encode(), "one.csv": ("text\n" + "\n".join(LINES)).encode(),
        "pairs.tsv": ("вопрос\tответ\n" + "".join(f"{line}\tда, {line}\n" for line in LINES)).encode(),
        "a.html": html.encode(), "a.md": ("# Глава\n\n" + "\n\n".join(LINES)).encode(),
        "a.fb2": f"<FictionBook><body>{html[12:-14]}</body></FictionBook>".encode(),
        "wide.jsonl": lines(rows).encode("utf-16"), "wide.txt": "\n%\n".join(LINES).encode("utf-16-le"),
        "old.txt": "\n%\n".join(LINES).encode("cp1251", "replace"), "old.jsonl": lines(rows).encode("koi8-r", "replace"),
        "a.jsonl.gz": gzip.compress(lines(rows).encode()), "a.json.zst": packed(json.dumps(rows).encode(), "zst"),
        "a.zip": archive.getvalue(), "a.parquet": packed_parquet(rows), "a.arrow": packed_arrow(rows, True),
    }  # fmt: skip


def hurt(data: bytes, kind: str, rng: random.Random) -> bytes:
    """The bytes cut off, with one to three of them lost, with a record twice, or partly in another encoding."""
    at = rng.randrange(1, len(data))
    if kind == "cut":
        return data[:at]
    if kind == "lost":  # neighbours that are lost together make one letter out of two, which nobody can tell
        count = 1 if b"\0" in data[:9] else rng.choice([1, 1, 1, 2, 3])
        return without(data, *rng.sample(range(rng.randrange(9), max(len(data), 40), 9), count))
    start, end = data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at) + 1 or len(data)
    if kind == "doubled":
        return data[:end] + data[start:end] + data[end:]
    try:
        old = data[start:end].decode().encode(rng.choice(["cp1251", "koi8-r", "cp866"]), "replace")
    except UnicodeDecodeError:
        return data[:at]
    return data[:start] + old + data[end:]


def foreign(card: dict, name: str) -> set[str]:
    """The characters beyond ASCII of the kept rows that the undamaged file does not have, but for U+FFFD."""
    known = {*"".join([*LINES, *PARAGRAPHS, "Главаи ещётакда"]), "\ufffd"}
    rows = corpus.rows(card["id"], 0, 10_000)
    return {char for row in rows for text in turns.texts(row) for char in text if not char.isascii()} - known


def keeps_the_law(folder: Path, name: str, data: bytes) -> None:
    """Every record is kept or set aside, and no kept row has a character that the source did not have."""
    (folder / name).write_bytes(data)
    try:
        card = corpus.create([folder / name], "x")
    except importer.CorpusEmpty:
        return
    assert card["rows_in"] == card["rows_kept"] + card["rows_set_aside"]
    assert foreign(card, name) == set(), data
    corpus.delete(card["id"])


HURTS = ("cut", "lost", "doubled", "encoding")


@pytest.mark.slow
def test_no_kept_row_of_a_damaged_file_has_a_letter_that_its_source_did_not_have(tmp_path):
    rng = random.Random(17)
    for name, data in twins().items():
        keeps_the_law(tmp_path, name, data)
        for kind in HURTS * 3:
            keeps_the_law(tmp_path, name, hurt(data, kind, rng))


@pytest.mark.slow
def test_of_many_damaged_files_none_has_a_foreign_letter(tmp_path):
    rng, files = random.Random(19), twins()
    for at in range(FUZZ_FILES):
        name = list(files)[at % len(files)]
        keeps_the_law(tmp_path, name, hurt(files[name], HURTS[at // len(files) % 4], rng))


@pytest.mark.parametrize("name", ["Письма бабушке.txt", "Заметки/Море.txt"])
@pytest.mark.parametrize("encoding", ["cp866", "cp1251", "utf-8"])
def test_names_in_an_archive_are_russian_whatever_the_program(tmp_path, name, encoding):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x" * len(name.encode(encoding)), WORDS)
    data = (tmp_path / "a.zip").read_bytes().replace(b"x" * len(name.encode(encoding)), name.encode(encoding))
    card = made(tmp_path, "a.zip", data)
    assert ([file["file"] for file in card["sources"]][-1], said(card)) == (f"a.zip/{name}", [WORDS])


@pytest.mark.parametrize(
    ("reply", "is_refusal"),
    [
        ("Извините, но я не могу прийти завтра.", False), ("Простите, я не могу найти ключи.", False),
        ("I'm sorry, but I can't come tomorrow.", False), ("К сожалению, я не могу забыть то лето.", False),
        ("Извините, но я не могу помочь с этим.", True), ("К сожалению, я не могу предоставить эти сведения.", True),
        ("I'm sorry, but I can't help with that.", True), ("I am sorry, but I cannot assist you.", True),
        ("Простите, но я не буду обсуждать эту тему.", True), ("I can’t help with that request.", True),
        ("Прошу прощения, но я не могу с этим помочь.", True), ("Я не могу генерировать такой текст.", True),
        ("К сожалению, я не могу помочь тебе с переездом.", False), ("Жаль, я не могу участвовать в забеге.", False),
        ("I am sorry, but I cannot give you a lift.", False),
    ],
)  # fmt: skip
def test_a_refusal_is_told_from_a_regret(reply, is_refusal):
    assert ("refusal" in checks.check(chat("q", reply))["flags"]) == is_refusal


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("паспорт 45 09 123456", ["passport"]), ("Паспорт серия 4509 № 123456", ["passport"]),
        ("тел. 916 123-45-67", ["phone"]), ("звоните: (495) 123-45-67", ["phone"]), ("код 916 123-45-67", []),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dGVzdHNpZ25hdHVyZQ", ["key"]),
        ("token glpat-abcdefghij0123456789", ["key"]), ("123456789:AAabcdefghijklmnopqrstuvwxyz0123456", ["key"]),
        (f"-----BEGIN RSA PRIVATE KEY-----\n{'MIIB' * 20}\n-----END RSA PRIVATE KEY-----", ["key"]),
        ("ISBN 978-5-17-118366-0", []), ("9785171183660", []), ("версия 77.88.8.8", []), ("сервер 77.88.8.8", ["ip"]),
        ("4111 1111 1111 1111", ["card"]), ("kernel 5.15.0.91", []), ("от 100-200-3000 до", []),
        ("Полис ОМС: 5047 8008 8900 0123", ["oms"]), ("полис № 5047800889000123", ["oms"]),
        ("5047800889000123", []), ("артикул 5047 8008 8900 0123", []),
        ("номер 79161234567", ["phone"]), ("Пишите мне на 79161234567", ["phone"]), ("номер: 7916 123 45 67", ["phone"]),
        ("тг 89161234567", ["phone"]), ("заказ 79161234567", []), ("Заказ № 89161234567", []), ("артикул 79161234567", []),
        ("номер заказа 79161234567", []), ("билет № 8 916 123-45-67", []), ("78005553535 шагов", []),
        ("снилс: 112 233 44595", ["snils"]), ("Страховой номер 11223344595", ["snils"]), ("112 233 445 95", []),
        ("ISBN 9785171183660 версия 11.2.33.445", []), ("invoice 11223344595", []),
        ("PuTTY-User-Key-File-3: ssh-ed25519\nPrivate-Lines: 1\nAAAA\nPrivate-MAC: 0a1b", ["key"]),
    ],
)  # fmt: skip
def test_personal_data_is_found_and_what_looks_like_it_is_not(text, kinds):
    assert [kind for _, _, kind in personal.find(text)] == kinds
