"""Faults that were found by reading thirty rows each of real books, pages, office files and exports."""

import gzip
import json

import pytest

from core.corpus import __main__ as commands
from core.corpus import contents, wrapped_lines
from core.corpus.formats import markup, pdf, people
from core.corpus.formats.people import Said
from tests.test_corpus_formats import made, said
from tests.test_corpus_importers import rows_of
from tests.test_corpus_office import OFFICE, W, archive

SENTENCE = "Кузнец работал весь день, устал и отдыхал у горна до самой ночи"


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<pre class='x'>def f():\n    return 1\n</pre>", "```\ndef f():\n    return 1\n```"),
        ("<p>a</p><pre><span>x = 1</span>\n\n\n# y\n</pre>", "a\n\n```\nx = 1\n\n# y\n```"),
        ("<pre>int f() {\n  return 1;\n}</pre>", "```\nint f() {\n  return 1;\n}\n```"),
        ("<pre>Мороз и солнце\nдень чудесный</pre>", "Мороз и солнце\nдень чудесный"),
        ("<p><code>a</code> и <pre>b</pre>", "a и\n\nb"),
    ],
)
def test_code_of_a_page_keeps_its_lines_in_a_fence(page, text):
    assert markup.text_of(page)[0] == text


def test_a_book_that_a_page_sets_line_by_line_has_its_paragraphs():
    lines = "\n".join(
        f"   {SENTENCE[:57]}\nи ещё долго говорил с соседом о железе, огне и воде, да о\nпогоде." for _ in range(9)
    )
    paragraphs = markup.text_of(f"<pre>{lines}</pre>")[0].split("\n")
    assert [line[-7:] for line in paragraphs] == ["погоде."] * 9


def test_notes_behind_a_page_have_the_number_of_their_place():
    page = (
        '<p>Слово. <a class="footnote-reference" role="doc-noteref" href="#f"><span>[</span>1<span>]</span></a> Дело'
        '<a class="footnote-ref" href="#fn2"><sup>2</sup></a>.</p><ul><li><input type="checkbox" checked=""> сделано</li></ul>'
        '<section role="doc-endnotes"><ol><li id="fn1" role="doc-endnote"><p>Сноска.<a href="#f" role="doc-backlink">↩︎</a></p></li>'
        '<li id="fn2"><p>Другая. <a href="#g">↑</a></p></li></ol></section>'
    )
    assert markup.text_of(page)[0] == "Слово. [1] Дело [2].\n\n- [x] сделано\n\n[1] Сноска.\n\n[2] Другая."


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("<a href='/'><p>Справка 7.4</p></a><div>Поиск</div>", "Слова."),
        ("<h1>Заголовок</h1><a href='/'>Автор статьи</a>", "# Заголовок\n\nАвтор статьи\n\nСлова."),
        ("<p>Слово редактора, в котором нет ссылок.</p>", "Слово редактора, в котором нет ссылок.\n\nСлова."),
    ],
)
def test_the_header_of_a_site_goes_and_that_of_an_article_stays(header, text):
    assert markup.text_of(f"<body><header>{header}</header><p>Слова.</p></body>")[0] == text


def test_a_page_of_a_book_that_is_a_heading_belongs_to_the_next_one(tmp_path):
    def page(words, title="ch1.xhtml"):
        return f"<html><head><title>{title}</title></head><body>{words}</body></html>"

    container = '<container><rootfiles><rootfile full-path="c.opf"/></rootfiles></container>'
    names = "abc"
    items = "".join(f'<item id="{name}" href="{name}.xhtml"/>' for name in names)
    spine = "".join(f'<itemref idref="{name}"/>' for name in names)
    members = [
        ("META-INF/container.xml", container),
        ("c.opf", f"<package><manifest>{items}</manifest><spine>{spine}</spine></package>"),
        ("a.xhtml", page("<h1>Часть первая</h1>")),
        ("b.xhtml", page("<h2>Утро</h2><p>Светало.</p>")),
        ("c.xhtml", page("<h1>Конец</h1>")),
    ]
    assert rows_of(made(tmp_path, "a.epub", archive(members))) == [
        {"text": "# Часть первая\n\n## Утро\n\nСветало."},
        {"text": "# Конец"},
    ]


def test_code_and_the_title_of_a_word_document_stay(tmp_path):
    def paragraph(words, style):
        return (
            f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr><w:r><w:t xml:space="preserve">{words}</w:t></w:r></w:p>'
        )

    rels = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    body = paragraph("Отчёт", "T") + paragraph("if x:", "C") + paragraph("    y()", "C") + paragraph("Да.", "N")
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="{id}"><w:name w:val="{name}"/></w:style>'
        for id, name in (("T", "Title"), ("C", "Source Code"), ("N", "Normal"))
    )
    data = archive([
        ("[Content_Types].xml", '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'),
        ("word/document.xml", f"<w:document {W}><w:body>{body}</w:body></w:document>"),
        ("word/_rels/document.xml.rels", f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r3" Type="{rels}/styles" Target="styles.xml"/></Relationships>'),
        ("word/styles.xml", f"<w:styles {W}>{styles}</w:styles>"),
    ])  # fmt: skip
    assert said(made(tmp_path, "a.docx", data)) == ["# Отчёт\n\n```\nif x:\n    y()\n```\n\nДа."]


def test_lists_of_an_odt_keep_their_numbers_and_code_its_lines(tmp_path):
    def item(words, inner=""):
        return f"<text:list-item><text:p>{words}</text:p>{inner}</text:list-item>"

    style = (
        'xmlns:style="urn:oasis:names:tc:opendocument:xmlns:style:1.0"><office:automatic-styles><text:list-style style:name="L1">'
        '<text:list-level-style-number text:level="1" style:num-format="1"/><text:list-level-style-bullet text:level="2"/>'
        '</text:list-style><style:style style:name="P1" style:parent-style-name="Preformatted_20_Text"/></office:automatic-styles>'
    )
    body = (
        '<text:p text:style-name="Title">Отчёт</text:p><text:list text:style-name="L1">'
        + item("раз", f"<text:list>{item('под')}</text:list>") + item("два") + "</text:list>"
        + '<text:p text:style-name="P1">if x:</text:p><text:p text:style-name="P1"><text:s text:c="4"/>y()</text:p><text:p>Да.</text:p>'
    )  # fmt: skip
    content = f"<office:document-content {OFFICE} {style}<office:body><office:text>{body}</office:text></office:body></office:document-content>"
    data = archive([("mimetype", "application/vnd.oasis.opendocument.text"), ("content.xml", content)])
    assert said(made(tmp_path, "a.odt", data)) == [
        "# Отчёт\n\n1. раз\n  - под\n2. два\n\n```\nif x:\n    y()\n```\n\nДа."
    ]


def test_rtf_keeps_headings_rows_lists_lines_and_hidden_notes(tmp_path):
    data = (
        r"{\rtf1\ansi{\pard\outlinelevel1 \b Part\par}{\pard Word{\*\footnote note}, \line line.\par}{\pard 1.\tab one\par}"
        r"{\pard 2.\tab two\par}{\pard\endash\tab under\par}{\trowd{{\pard A\par}\cell}{{\pard B\par}\cell}\intbl\row}{\trowd{{\pard 1\par}\cell}"
        r"{{\pard 2\par}\cell}\intbl\row}{\pard End\par}}"
    )
    assert said(made(tmp_path, "a.rtf", data)) == [
        "## Part\n\nWord [1], \nline.\n\n1. one\n2. two\n  - under\n\nA | B\n1 | 2\n\nEnd\n\n[1] note"
    ]


@pytest.mark.parametrize(
    ("text", "line", "whole"),
    [
        ("см. (https:", "//a.org/x)", "см. (https://a.org/x)"),
        ("см. https://www.debian.", "org/ports/ здесь", "см. https://www.debian.org/ports/ здесь"),
        ("см. https://a.org/devel-", "manuals#b", "см. https://a.org/devel-manuals#b"),
        ("см. https://a.org", "/b, там", "см. https://a.org/b, там"),
        ("файл /", "etc/apt", "файл /etc/apt"),
        ("см. https://a.org.", "это всё", "см. https://a.org. это всё"),
        ("см. https://a.org", "и /b там", "см. https://a.org и /b там"),
        ("да /", "нет", "да / нет"),
    ],
)
def test_an_address_that_goes_on_in_the_next_line_is_whole(text, line, whole):
    assert wrapped_lines.join(text, line) == whole


def test_paragraphs_between_code_are_whole_and_code_stays():
    prose = [
        SENTENCE + " и утром,",
        "а потом снова взялся за молот и ковал подкову до вечера, пока",
        "не стемнело.",
    ]
    code = ["$ make install", "cc -o a a.c", "install a /usr/bin", "done", "if x = 1:", "y()"]
    lines = [line for _ in range(20) for line in (*prose, *code * 3)]
    assert wrapped_lines.width(lines, wrapped_lines.PRINTED) == 0
    width = wrapped_lines.width_of_manual(lines)
    joined = [text for _, text in wrapped_lines.joined(enumerate(lines, 1), width, 16, 0.75)]
    assert joined == [line for _ in range(20) for line in (" ".join(prose), *code * 3)]
    assert wrapped_lines.width_of_manual(code * 40) == 0


def test_code_below_items_of_a_list_keeps_its_indent():
    item = ["   * Кузнец работал весь день, устал и отдыхал", "     у горна до самой ночи."]
    lines = [*item, "", "     $ make all", "all: a", "     install a", ""]
    joined = [text for _, text in wrapped_lines.joined(enumerate(lines, 1), 46)]
    assert joined == ["* Кузнец работал весь день, устал и отдыхал у горна до самой ночи.", *lines[2:]]


def test_heads_of_chapters_go_and_titles_of_chapters_stay():
    def pages(head):
        words = [f"{chr(1072 + number % 32)}{chr(1072 + number // 32)} {SENTENCE}" for number in range(400)]
        return [[head(at), *words[at * 6 : at * 6 + 5]] for at in range(60)]

    running = pages(
        lambda at: f"ГЛАВА {1 + at // 2}. СЛОВО{'АБВГДЕЖЗИКЛМНОПРСТУФХЦЧШЩЭЮЯ'[at // 2 % 28]} {at}.{at}. ИМЯ"
    )
    assert pdf.without_running_heads(running)[1] == 60
    titles = pages(lambda at: f"ГЛАВА {1 + at}. СЛОВО{chr(1040 + at % 32)}{chr(1040 + at // 32)} И ДЕЛО")
    assert pdf.without_running_heads(titles)[1] == 0


def test_the_numbered_contents_of_a_text_go_and_a_list_stays():
    listed = ["Содержание", "", *(f"{at}.{at}. Часть" for at in range(1, 10)), "с длинным именем", ""]
    told: list[int] = []
    lines = list(enumerate([*listed, "Слова."], 1))
    assert list(contents.without_listed(iter(lines), told.append)) == [(14, "Слова.")]
    assert told == [11]
    few = list(enumerate(["Содержание", "письма", "было", "простым.", ""], 1))
    assert list(contents.without_listed(iter(few), told.append)) == few


def test_the_last_row_of_a_table_that_is_cut_off_is_set_aside(tmp_path):
    answers = [f"Ответ {at * 2654435761 % 4294967296}" for at in range(3000)]
    data = gzip.compress("".join(["question,answer\n", *(f"В,{answer}\n" for answer in answers)]).encode())
    card = made(tmp_path, "a.csv.gz", data[: len(data) * 2 // 3])
    assert [turns[1][1] for turns in said(card)] == answers[: card["rows"]]
    assert (500 < card["rows"] < 2900, card["reasons"]) == (True, {"file_cut": 2})


@pytest.mark.slow
def test_operators_and_customers_are_known_and_other_roles_are_named(tmp_path, capsys):
    rows = "dialog;speaker;text\n1;Клиент;Здравствуйте\n1;Оператор;Добрый день\n"
    assert said(made(tmp_path, "a.csv", rows)) == [[("user", "Здравствуйте"), ("assistant", "Добрый день")]]
    (tmp_path / "b.csv").write_text(rows.replace("Клиент", "Аня").replace("Оператор", "Игорь"), "utf-8")
    assert commands.main(["import", str(tmp_path / "b.csv"), "--name", "b"]) == 1
    assert """--options '{"roles": {"Аня": "user", "Игорь": "assistant"}}'""" in capsys.readouterr().err


MANUAL = r"""'\" t
.\" Copyright
.TH LS 1 "2024"
.SH ИМЯ
ls \- список \(aqфайлов\(aq
.SH ОПИСАНИЕ
Команда \fBls\fP(1) показывает
.IR файлы ,
и не более\ того.
.PP
Ещё.
.TP
\fB\-a\fP
Все.
.EX
if (x) {
    y();
}
.EE
.TS
tab(:) allbox;
l l.
флаг:значение
A:конец
.TE
"""


def test_a_manual_page_is_read_without_its_requests(tmp_path):
    card = made(tmp_path, "ls.1", MANUAL)
    assert (said(card), card["formats"]) == (
        [
            "# ИМЯ\n\nls - список 'файлов'\n\n# ОПИСАНИЕ\n\nКоманда ls(1) показывает файлы, и не более того.\n\nЕщё.\n\n"
            "-a\n\nВсе.\n\n```\nif (x) {\n    y();\n}\n```\n\nфлаг | значение\nA | конец"
        ],
        {"man_page": 1},
    )


def test_what_a_bot_announces_is_no_words_of_a_person():
    talk = [
        Said("1", "Аня", "Привет", 0.0),
        Said("7", "MEE6", "Аня достигла 3 уровня!", 1.0, bot=True),
        Said("2", "Игорь", "Привет!", 2.0),
    ]
    (record,) = people.chats(talk, "Игорь")
    assert [turn["content"] for turn in record.value["messages"]] == ["Привет", "Привет!"]
    assert record.repairs == ("service_dropped",)
    (alone,) = people.chats(talk[:2], "MEE6")
    assert [turn["content"] for turn in alone.value["messages"]] == ["Привет", "Аня достигла 3 уровня!"]


def test_code_in_a_chat_of_telegram_is_marked(tmp_path):
    def message(who, text, at):
        return {"type": "message", "from": who, "from_id": f"user{who}", "text": text, "date_unixtime": str(at)}

    code = ["Вот: ", {"type": "code", "text": "ls"}, {"type": "pre", "text": "\nx = 1\ny = 2\n", "language": "python"}]
    chat = {"name": "Аня", "type": "personal_chat", "messages": [message("Аня", "Как?", 1), message("Я", code, 2)]}
    assert said(made(tmp_path, "result.json", json.dumps(chat))) == [
        [("user", "Как?"), ("assistant", "Вот: `ls`\n```python\nx = 1\ny = 2\n```")]
    ]
