"""Tables and printed pages: other inputs of the kinds that were once read wrongly."""

import base64
import io
import textwrap

import pytest

from core.corpus import corpus, documents
from tests.test_corpus_formats import made, said

PAIRS = [[("user", "q"), ("assistant", "a")], [("user", "q2"), ("assistant", "b")]]


@pytest.mark.parametrize(
    "table",
    [
        "sep=;\nвопрос;ответ\nq;a\nq2;b\n",
        "question,answer\nq,a,\nq2,b,,\n",
        "q,a\nq,a\nq2,b\n",
    ],
    ids=["told to Excel", "a delimiter at the end", "short names"],
)
def test_a_table_is_read_whatever_stands_around_it(tmp_path, table):
    card = made(tmp_path, "a.csv", table)
    assert (said(card), card["rows_set_aside"]) == (PAIRS, 0)


def test_quotes_behind_a_backslash_are_quotes(tmp_path):
    table = 'question,answer\n"q","он сказал \\"да\\" и ушёл"\n'
    assert said(made(tmp_path, "a.csv", table)) == [[("user", "q"), ("assistant", 'он сказал "да" и ушёл')]]


def test_the_only_column_of_words_is_the_text_of_a_table(tmp_path):
    comments = ["Отличный товар всем советую", "Плохо всё сломалось за день", "Нормально но могло быть лучше"]
    rows = "".join(f"{at},{words},2024-01-0{at}\n" for at, words in enumerate(comments, 1))
    assert said(made(tmp_path, "a.csv", f"id,comment,day\n{rows}")) == comments
    users = "".join(f"{at},ivan{at}@mail.ru,Иван Петров,2024-01-0{at}\n" for at in range(1, 5))
    with pytest.raises(Exception, match="columns"):
        made(tmp_path, "b.csv", f"id,email,who,day\n{users}")


def printed(pages):
    """A PDF of pages of (font, left, bottom, words), or of these and a size in points."""
    fonts = b"<</F1<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>/F2<</Type/Font/Subtype/Type1/BaseFont/Courier>>>>"
    kids = b" ".join(b"%d 0 R" % (3 + 2 * at) for at in range(len(pages)))
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Count %d/Kids[%b]>>" % (len(pages), kids)]
    for at, lines in enumerate(pages):
        drawn = "".join(
            f"BT /F{font} {(*size, 10)[0]} Tf {left} {bottom} Td ({words}) Tj ET\n"
            for font, left, bottom, words, *size in lines
        )
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 420 600]/Contents %d 0 R/Resources<</Font%b>>>>"
            % (4 + 2 * at, fonts)
        )
        objects.append(b"<</Length %d>>stream\n%b\nendstream" % (len(drawn), drawn.encode()))
    body, offsets = b"%PDF-1.4\n", []
    for number, thing in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%b\nendobj\n" % (number, thing)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    end = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (size, len(body))
    return body + b"xref\n0 %d\n0000000000 65535 f \n" % size + table + end


def test_code_in_a_printed_book_keeps_its_lines_and_steps(tmp_path):
    words = [(1, 40, 500 - 13 * at, "The keeper lit the lamp and wrote of the wind in his journal,") for at in range(9)]
    code = ["def ready", "    if lamp.oil > 2:", "        return True", "    return False"]
    typed = [
        (2, 40 + 6 * (len(line) - len(line.lstrip())), 300 - 12 * at, line.lstrip()) for at, line in enumerate(code)
    ]
    text = said(made(tmp_path, "a.pdf", printed([[*words, *typed, (1, 40, 200, "So it was.")]])))[0]
    assert "\n```\n" + "\n".join(code) + "\n```\n" in text
    alone = said(made(tmp_path, "b.pdf", printed([[(2, *line[1:]) for line in words]])))[0]
    assert "```" not in alone


def test_the_fence_that_closes_code_stays_with_it():
    code = ["```", *["print('words')  # and more."] * 30, "```"]
    lines = [line for _ in range(20) for line in ["The keeper lit the lamp.", *code]]
    pieces = [text for _, text in documents.split(enumerate(lines))]
    assert [piece.count("```") % 2 for piece in pieces] == [0] * len(pieces)
    assert "\n".join(pieces) == "\n".join(lines)


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("a.txt", "[00:00.000 --> 00:02.000]  Привет\n[00:02.000 --> 00:04.000]  мир\n[01:02.000 --> 01:04.000]  Утро\n", "Привет мир\n\nУтро"),
        ("a.sbv", "0:00:01.000,0:00:02.000\nПривет\n\n0:00:02.000,0:00:04.000\nмир\n", "Привет мир"),
        ("a.lrc", "[ar:X]\n[00:01.00]Раз\n[00:05.00]Два\n[00:07.00][00:30.00]Припев\n", "Раз\nДва\nПрипев"),
        (
            "a.ttml",
            '<?xml version="1.0"?><tt xmlns="http://www.w3.org/ns/ttml"><body><p begin="00:00:01.000" end="2s">Привет,<br/>'
            '<span>мир</span></p><p begin="70.5s" end="72s">два</p></body></tt>',
            "Привет, мир\n\nдва",
        ),
    ],
)  # fmt: skip
def test_times_of_speech_are_no_words_in_whatever_way_they_are_written(tmp_path, name, data, text):
    card = made(tmp_path, name, data)
    assert (said(card), card["formats"]) == ([text], {"subtitles": 1})


def test_a_log_of_a_chat_is_no_song(tmp_path):
    log = "[12:30] Аня: привет\n[12:31] Боря: и тебе\n[12:32] Аня: пока"
    assert said(made(tmp_path, "a.txt", log)) == [log]


def test_the_words_of_mails_are_texts(tmp_path):
    plain = "From: a@b.c\nTo: d@e.f\nDate: Mon, 1 Jan 2024 10:00:00 +0300\nSubject: =?utf-8?B?0J/RgNC40LLQtdGC?=\n"
    old = base64.encodebytes("Отпущено масла две меры.\n>From нас".encode("cp1251")).decode()
    first = f"{plain}MIME-Version: 1.0\nContent-Type: text/plain; charset=windows-1251\nContent-Transfer-Encoding: base64\n\n{old}"
    parts = (
        "--x\nContent-Type: text/html; charset=utf-8\n\n<p>Раз &amp; <b>два</b></p>\n"
        "--x\nContent-Type: image/png\nContent-Disposition: attachment\nContent-Transfer-Encoding: base64\n\niVBOR\n--x--\n"
    )
    second = f'{plain}MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="x"\n\n{parts}'
    third = f"{plain}\n"
    card = made(
        tmp_path, "a.mbox", "\n".join(f"From x Mon Jan 1 10:00:00 2024\n{one}" for one in (first, second, third))
    )
    assert said(card) == ["Отпущено масла две меры.\n>From нас", "Раз & два"]
    assert (card["formats"], card["repairs"], card["reasons"]) == ({"mail": 1}, {"media_dropped": 1}, {"empty_text": 1})
    assert corpus.rows(card["id"])[0]["fields"] == {"title": "Привет"}
    assert said(made(tmp_path, "a.eml", first.replace("\n", "\r\n"))) == ["Отпущено масла две меры.\n>From нас"]
    note = "From: the keeper\nTo: the town\nSubject: oil\n\nSend oil."
    assert said(made(tmp_path, "a.txt", note)) == [note]


def test_wrapped_lines_with_an_empty_one_behind_each_are_paragraphs(tmp_path):
    paragraph = "Смотритель поднялся на маяк и зажёг лампу, а ветер принёс с берега шум волн и крик одной чайки. " * 4
    wrapped = textwrap.wrap(paragraph, 60)
    book = "\n\n\n".join("\n\n".join(wrapped) for _ in range(3))
    assert said(made(tmp_path, "a.txt", book)) == ["\n\n".join([paragraph.strip()] * 3)]
    verse = "\n\n".join(["Мороз и солнце; день чудесный!", "Ещё ты дремлешь, друг прелестный —"] * 8)
    assert said(made(tmp_path, "b.txt", verse)) == [verse]


@pytest.mark.parametrize(
    ("table", "rows"),
    [
        ("id,text,label\n1,Отличный товар, всем советую,1\n2,Плохо,0\n3,Так, себе, товар,0\n", [["Отличный товар, всем советую", "1"], ["Плохо", "0"], ["Так, себе, товар", "0"]]),
        ("id,text,label\n1,раз,два,1\n2,Плохо,0\n3,Хорошо,1\n", [["раз,два", "1"], ["Плохо", "0"], ["Хорошо", "1"]]),
        ("id,text,label,note\n1,Хорошо, всем советую,1\n2,Плохо,0,\n3,Ещё, раз,0,х\n4,Да, нет,1,\n5,Нет,1,\n", [["Хорошо, всем советую", "1"], ["Плохо", "0"], ["Ещё, раз", "0"], ["Да, нет", "1"], ["Нет", "1"]]),
        ("date;text\n1.1.24;Ветер; волны\n2.1.24;Штиль\n", [["Ветер; волны", None], ["Штиль", None]]),
    ],
    ids=["a space behind", "the only words", "a cell is missing too", "semicolons"],
)  # fmt: skip
def test_a_text_with_commas_that_nobody_quoted_is_whole(tmp_path, table, rows):
    card = made(tmp_path, "a.csv", table)
    kept = corpus.rows(card["id"])
    assert [[row["text"], row["fields"].get("label")] for row in kept] == rows
    assert card["repairs"]["cells_joined"] == sum("," in row[0] or ";" in row[0] for row in rows)


def test_pairs_of_sentences_with_commas_are_pairs(tmp_path):
    table = "prompt,completion\nHello, how are you?,I am fine\nWhat is it?,A lamp, of course\n"
    assert said(made(tmp_path, "a.csv", table)) == [
        [("user", "Hello, how are you?"), ("assistant", "I am fine")],
        [("user", "What is it?"), ("assistant", "A lamp, of course")],
    ]


@pytest.mark.parametrize(
    "row", ["q,a,b", 'x "q", then,a', "q, a, b"], ids=["no space", "quotes beside it", "nobody knows"]
)
def test_a_row_with_too_many_cells_is_set_aside_where_nobody_knows_which_are_one(tmp_path, row):
    header = "question,answer\n" if row != "q, a, b" else "question, answer\n"
    card = made(tmp_path, "a.csv", f"{header}{row}\nq2,b\n")
    assert (len(said(card)), card["reasons"]) == (1, {"too_many_cells": 1})


def test_a_row_whose_cells_have_moved_is_set_aside(tmp_path):
    table = "id,text,label\n" + "1,Плохо,0\n" * 10 + "3,Раз,два три\n"
    card = made(tmp_path, "a.csv", table)
    assert (len(said(card)), card["reasons"]) == (10, {"cells_moved": 1})


def test_columns_of_one_name_or_none_are_kept_apart(tmp_path):
    rows = corpus.rows(made(tmp_path, "a.csv", "question,answer,answer,\nq,a,b,note\nq2,b,c,\n")["id"])
    assert [row["messages"][1]["content"] for row in rows] == ["a", "b"]
    assert [row["fields"] for row in rows] == [{"answer 2": "b", "column 4": "note"}, {"answer 2": "c"}]


def test_a_table_without_a_header_loses_no_first_row(tmp_path):
    texts = ["Отличный товар, всем советую его.", "Плохой товар и сломался сразу.", "Нормальный товар за эти деньги."]
    assert said(made(tmp_path, "a.csv", "".join(f'"{text}",{at}\n' for at, text in enumerate(texts)))) == texts
    asked = "Время,Как вас зовут?,Что вы думаете о маяке?\n" + "2024,Аня,Он красивый и стоит на самом берегу\n" * 3
    with pytest.raises(Exception, match="columns that are not known \\(3\\)"):
        made(tmp_path, "b.csv", asked)


def workbook(rows):
    import openpyxl

    book, out = openpyxl.Workbook(), io.BytesIO()
    for row in rows:
        book.active.append(row)
    book.save(out)
    return out.getvalue()


def test_columns_of_a_sheet_that_share_a_name_or_have_none_are_kept_apart(tmp_path):
    rows = [["Вопрос", None, "Ответ", "Ответ"], ["q", "note", "a", "b"], ["r", None, 1.5, None]]
    kept = corpus.rows(made(tmp_path, "a.xlsx", workbook(rows))["id"])
    assert [row["messages"][1]["content"] for row in kept] == ["a", "1.5"]
    assert [row.get("fields") for row in kept] == [{"column 2": "note", "Ответ 2": "b"}, None]


def test_a_sheet_without_a_header_loses_no_first_row(tmp_path):
    rows = [
        ["Отличный товар, всем советую его.", 1],
        ["Плохой товар и сломался сразу.", 0],
        ["Это средний товар за эти деньги.", 1],
    ]
    assert said(made(tmp_path, "a.xlsx", workbook(rows))) == [text for text, _ in rows]
