"""Office files, subtitles and pages: the words in their order, with the marks of lists, tables, headings and notes."""

import datetime
import io
import zipfile

import openpyxl
import pytest

from tests.test_corpus_formats import made, said
from tests.test_corpus_importers import rows_of

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
OFFICE = (
    'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" '
    'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" '
    'xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0"'
)
SLIDE = (
    'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
    'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main"'
)


def archive(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, text in members:
            file.writestr(name, text)
    return out.getvalue()


def book(sheets):
    out, made_book = io.BytesIO(), openpyxl.Workbook()
    made_book.remove(made_book.active)
    for title, rows in sheets.items():
        sheet = made_book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    made_book.save(out)
    return out.getvalue()


def test_a_sheet_with_a_header_is_a_table_of_rows(tmp_path):
    day = datetime.date(2025, 1, 2)
    data = book({
        "Вопросы": [[], ["Вопрос", "Ответ", "№", "День"], ["q", "a", 7, day], [None, None], ["q2", "007", 1.5, None], ["q3", "b", 1, day, "лишнее"]],
        "Пусто": [],
    })  # fmt: skip
    card = made(tmp_path, "a.xlsx", data)
    assert rows_of(card) == [
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "fields": {"№": "7", "День": "2025-01-02"}},
        {"messages": [{"role": "user", "content": "q2"}, {"role": "assistant", "content": "007"}], "fields": {"№": "1.5"}},
    ]  # fmt: skip
    assert (card["reasons"], card["formats"]) == ({"too_many_cells": 1}, {"xlsx": 1})
    turns = book({"1": [["c_id", "role", "message"], [0, "user", "q"], [0, "assistant", "a"]]})
    assert said(made(tmp_path, "turns.xlsx", turns)) == [[("user", "q"), ("assistant", "a")]]
    mapping = {"schema": "pair", "ask": ["X"], "answer": "Y"}
    named = made(tmp_path, "named.xlsx", book({"1": [["X", "Y"], ["q", "a"]]}), mapping=mapping)
    assert said(named) == [[("user", "q"), ("assistant", "a")]]
    titled = book({"1": [["Отчёт за год"], ["question", "answer"], ["q", "a"]], "2": [["text"], ["одна"], ["две"]]})
    assert said(made(tmp_path, "titled.xlsx", titled)) == [[("user", "q"), ("assistant", "a")], "одна", "две"]


def test_a_cell_at_the_far_end_of_a_sheet_is_not_looked_for(tmp_path):
    out, sheet = io.BytesIO(), openpyxl.Workbook()
    for row in (["text"], ["The keeper lit the lamp."]):
        sheet.active.append(row)
    sheet.active.cell(1_048_576, 16_384, "far")
    sheet.save(out)
    assert rows_of(made(tmp_path, "a.xlsx", out.getvalue())) == [{"text": "The keeper lit the lamp."}]


def test_a_word_document_keeps_headings_lists_tables_footnotes_and_text_boxes(tmp_path):
    def paragraph(words, style="", more=""):
        properties = f'<w:pPr><w:pStyle w:val="{style}"/>{more}</w:pPr>' if style or more else ""
        return f"<w:p>{properties}<w:r><w:t>{words}</w:t></w:r></w:p>"

    def row(*cells):
        return "<w:tr>" + "".join(f"<w:tc>{paragraph(cell)}</w:tc>" for cell in cells) + "</w:tr>"

    item = '<w:numPr><w:ilvl w:val="0"/><w:numId w:val="1"/></w:numPr>'
    box = (
        '<w:p><w:r><mc:AlternateContent xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"><mc:Fallback><w:pict>'
        f'<v:shape xmlns:v="urn:schemas-microsoft-com:vml"><v:textbox><w:txbxContent>{paragraph("Врезка")}</w:txbxContent>'
        "</v:textbox></v:shape></w:pict></mc:Fallback></mc:AlternateContent></w:r></w:p>"
    )
    body = (
        paragraph("Глава", "Heading1") + '<w:p><w:r><w:t>Первый</w:t></w:r><w:r><w:footnoteReference w:id="2"/></w:r></w:p>'
        + paragraph("раз", more=item) + paragraph("два", more=item)
        + "<w:tbl>" + row("А", "Б") + row("1", "2") + "</w:tbl>" + box + paragraph("Конец")
    )  # fmt: skip
    rels = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    data = archive([
        ("[Content_Types].xml", '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'),
        ("word/document.xml", f"<w:document {W}><w:body>{body}</w:body></w:document>"),
        ("word/_rels/document.xml.rels", f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1" Type="{rels}/footnotes" Target="footnotes.xml"/><Relationship Id="r2" Type="{rels}/numbering" Target="numbering.xml"/><Relationship Id="r3" Type="{rels}/styles" Target="styles.xml"/></Relationships>'),
        ("word/footnotes.xml", f'<w:footnotes {W}><w:footnote w:id="2">{paragraph("Сноска")}</w:footnote></w:footnotes>'),
        ("word/numbering.xml", f'<w:numbering {W}><w:abstractNum w:abstractNumId="0"><w:lvl w:ilvl="0"><w:numFmt w:val="bullet"/></w:lvl></w:abstractNum><w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num></w:numbering>'),
        ("word/styles.xml", f'<w:styles {W}><w:style w:type="paragraph" w:styleId="Heading1"><w:name w:val="heading 1"/></w:style></w:styles>'),
    ])  # fmt: skip
    card = made(tmp_path, "a.docx", data)
    assert said(card) == ["# Глава\n\nПервый [1]\n\n- раз\n- два\n\nА | Б\n1 | 2\n\nВрезка\n\nКонец\n\n[1] Сноска"]


def test_the_lists_of_word_count_as_word_does(tmp_path):
    def item(words, number, level=0):
        settings = f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{number}"/></w:numPr>'
        return f"<w:p><w:pPr>{settings}</w:pPr><w:r><w:t>{words}</w:t></w:r></w:p>"

    def styled(words, style):
        return f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr><w:r><w:t>{words}</w:t></w:r></w:p>'

    between = styled("Между пунктами стоит абзац.", "Normal")
    lists = [
        item("раз", 1) + item("два", 1) + item("внутри", 1, 1) + between + item("три", 1) + item("снова", 1, 1),
        between + item("с пяти", 2) + item("шесть", 2) + between + item("заново", 3) + between + item("дальше", 3),
        between + styled("стилем", "Numbers") + between + styled("стилем ещё", "Numbers") + between + item("точка", 5),
    ]
    levels = "".join(
        f'<w:lvl w:ilvl="{level}"><w:start w:val="1"/><w:numFmt w:val="decimal"/></w:lvl>' for level in range(2)
    )
    kinds = {
        0: levels,
        1: levels.replace('start w:val="1"', 'start w:val="5"'),
        2: levels.replace("</w:lvl>", '<w:pStyle w:val="Numbers"/></w:lvl>', 1),
        3: '<w:lvl w:ilvl="0"><w:numFmt w:val="bullet"/></w:lvl>',
    }
    anew = '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="1"/></w:lvlOverride>'
    numbers = {1: (0, ""), 2: (1, ""), 3: (1, anew), 4: (2, ""), 5: (3, "")}
    numbering = "".join(
        f'<w:abstractNum w:abstractNumId="{kind}">{text}</w:abstractNum>' for kind, text in kinds.items()
    )
    numbering += "".join(
        f'<w:num w:numId="{number}"><w:abstractNumId w:val="{kind}"/>{more}</w:num>'
        for number, (kind, more) in numbers.items()
    )
    style = '<w:style w:type="paragraph" w:styleId="Numbers"><w:name w:val="Numbers"/><w:pPr><w:numPr><w:numId w:val="4"/></w:numPr></w:pPr></w:style>'
    rels = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    data = archive([
        ("[Content_Types].xml", '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'),
        ("word/document.xml", f"<w:document {W}><w:body>{''.join(lists)}</w:body></w:document>"),
        ("word/_rels/document.xml.rels", f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r2" Type="{rels}/numbering" Target="numbering.xml"/><Relationship Id="r3" Type="{rels}/styles" Target="styles.xml"/></Relationships>'),
        ("word/numbering.xml", f"<w:numbering {W}>{numbering}</w:numbering>"),
        ("word/styles.xml", f"<w:styles {W}>{style}</w:styles>"),
    ])  # fmt: skip
    (text,) = said(made(tmp_path, "a.docx", data))
    shown = [line.strip() for line in text.splitlines() if line and "Между" not in line]
    assert shown == [
        "1. раз", "2. два", "1. внутри", "3. три", "1. снова", "5. с пяти", "6. шесть", "1. заново", "2. дальше",
        "1. стилем", "2. стилем ещё", "- точка",
    ]  # fmt: skip


def test_an_odt_keeps_headings_lists_tables_and_footnotes(tmp_path):
    note = "<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>Сноска</text:p></text:note-body></text:note>"
    frame = "<draw:frame><draw:text-box><text:p>Врезка</text:p></draw:text-box></draw:frame>"
    body = (
        "<text:tracked-changes><text:changed-region><text:deletion><text:p>удалено</text:p></text:deletion></text:changed-region></text:tracked-changes>"
        f'<text:h text:outline-level="2">Глава</text:h><text:p>Пер<text:span>вый</text:span>{note}<text:s text:c="2"/>абзац<text:line-break/>строка{frame}</text:p>'
        "<text:list><text:list-item><text:p>раз</text:p></text:list-item><text:list-item><text:p>два</text:p></text:list-item></text:list>"
        '<table:table><table:table-row><table:table-cell><text:p>А</text:p></table:table-cell><table:table-cell><text:p>Б</text:p></table:table-cell>'
        '<table:table-cell table:number-columns-repeated="1020"/></table:table-row></table:table><text:section><text:p>Конец</text:p></text:section>'
    )  # fmt: skip
    content = f"<office:document-content {OFFICE}><office:body><office:text>{body}</office:text></office:body></office:document-content>"
    data = archive([("mimetype", "application/vnd.oasis.opendocument.text"), ("content.xml", content)])
    card = made(tmp_path, "a.odt", data)
    assert said(card) == [
        "## Глава\n\nПервый [1]  абзац\nстрока\n\nВрезка\n\n- раз\n- два\n\nА | Б\n\nКонец\n\n[1] Сноска"
    ]
    assert card["formats"] == {"odt": 1}


def test_a_sheet_of_libreoffice_is_a_table_of_rows(tmp_path):
    def row(*cells):
        return "<table:table-row>" + "".join(f"<table:table-cell><text:p>{cell}</text:p></table:table-cell>" for cell in cells) + "</table:table-row>"  # fmt: skip

    table = f'<table:table table:name="Лист1">{row("question", "answer")}{row("q", "a")}<table:table-row table:number-rows-repeated="1048574"><table:table-cell table:number-columns-repeated="1024"/></table:table-row></table:table>'  # fmt: skip
    content = f"<office:document-content {OFFICE}><office:body><office:spreadsheet>{table}</office:spreadsheet></office:body></office:document-content>"
    data = archive([("mimetype", "application/vnd.oasis.opendocument.spreadsheet"), ("content.xml", content)])
    assert said(made(tmp_path, "a.ods", data)) == [[("user", "q"), ("assistant", "a")]]


def test_slides_are_read_in_their_order_with_their_notes(tmp_path):
    def shape(kind, *paragraphs):
        words = "".join(f"<a:p><a:r><a:t>{text}</a:t></a:r></a:p>" for text in paragraphs)
        return f'<p:sp><p:nvSpPr><p:nvPr><p:ph type="{kind}"/></p:nvPr></p:nvSpPr><p:txBody>{words}</p:txBody></p:sp>'

    def slide(*shapes, root="sld"):
        return f"<p:{root} {SLIDE}><p:cSld><p:spTree>{''.join(shapes)}</p:spTree></p:cSld></p:{root}>"

    link = '<Relationships><Relationship Id="r" Type="x/notesSlide" Target="../notesSlides/notesSlide1.xml"/></Relationships>'
    table = "<p:graphicFrame><a:tbl><a:tr><a:tc><a:txBody><a:p><a:r><a:t>А</a:t></a:r></a:p></a:txBody></a:tc><a:tc><a:txBody><a:p><a:r><a:t>Б</a:t></a:r></a:p></a:txBody></a:tc></a:tr></a:tbl></p:graphicFrame>"  # fmt: skip
    data = archive([
        ("ppt/presentation.xml", "<p/>"),
        ("ppt/slides/slide10.xml", slide(shape("title", "Десятый"))),
        ("ppt/slides/slide2.xml", slide(shape("title", "Второй"), shape("body", "раз", "два"), table, shape("sldNum", "2"))),
        ("ppt/slides/_rels/slide2.xml.rels", link),
        ("ppt/notesSlides/notesSlide1.xml", slide(shape("body", "Сказать: да"), shape("sldNum", "2"), root="notes")),
    ])  # fmt: skip
    card = made(tmp_path, "a.pptx", data)
    assert said(card) == ["# Второй\n\nраз\nдва\n\nА | Б\n\nСказать: да\n\n# Десятый"]


def test_the_body_of_a_slide_is_a_list_where_its_master_or_layout_says_so(tmp_path):
    def shape(place, *paragraphs):
        words = "".join(f"<a:p><a:r><a:t>{text}</a:t></a:r></a:p>" for text in paragraphs)
        return f"<p:sp><p:nvSpPr><p:nvPr>{place}</p:nvPr></p:nvSpPr><p:txBody>{words}</p:txBody></p:sp>"

    def links(kind, name):
        return f'<Relationships><Relationship Id="r" Target="../{kind}/{name}.xml"/></Relationships>'

    plain = '<p:ph type="body" idx="2"/>'
    layout = f"<p:sp><p:nvPr>{plain}</p:nvPr><p:txBody><a:lstStyle><a:lvl1pPr><a:buNone/></a:lvl1pPr></a:lstStyle></p:txBody></p:sp>"
    body = [
        shape('<p:ph idx="1"/>', "раз", "два"),
        shape(plain, "три", "четыре"),
        shape('<p:ph idx="3"/>', "один абзац"),
    ]
    code = ["for at in days:", "    burn(at)", "    oil = 2"]
    data = archive([
        ("ppt/presentation.xml", "<p/>"),
        ("ppt/slides/slide1.xml", f"<p:sld {SLIDE}>{''.join(body)}{shape('', *code)}{shape('', 'просто', 'строки')}</p:sld>"),
        ("ppt/slides/_rels/slide1.xml.rels", links("slideLayouts", "slideLayout2")),
        ("ppt/slideLayouts/slideLayout2.xml", f"<p:sldLayout {SLIDE}>{layout}</p:sldLayout>"),
        ("ppt/slideLayouts/_rels/slideLayout2.xml.rels", links("slideMasters", "slideMaster1")),
        ("ppt/slideMasters/slideMaster1.xml", '<p:bodyStyle><a:lvl1pPr><a:buChar char="•"/></a:lvl1pPr></p:bodyStyle>'),
    ])  # fmt: skip
    lines = "\n".join(code)
    assert said(made(tmp_path, "a.pptx", data)) == [
        f"- раз\n- два\n\nтри\nчетыре\n\nодин абзац\n\n```\n{lines}\n```\n\nпросто\nстроки"
    ]


def test_rtf_is_read_in_its_own_code_page(tmp_path):
    words = "".join(f"\\'{byte:02x}" for byte in "Привет".encode("cp1251"))
    data = "{\\rtf1\\ansi\\ansicpg1251\\deff0{\\fonttbl{\\f0\\fcharset204 Arial;}}{\\info{\\title x}}\\f0 " + words + ", \\b мир\\b0!\\par \\u1041?\\u1086?\\u1088?\\par}"  # fmt: skip
    card = made(tmp_path, "a.rtf", data.replace("мир", "world"))
    assert (said(card), card["formats"]) == (["Привет, world!\n\nБор"], {"rtf": 1})


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.srt", "1\r\n00:00:01,000 --> 00:00:02,000\r\n<i>Кто</i> здесь?\r\n\r\n2\r\n00:00:02,500 --> 00:00:04,000\r\n- Я.\r\n- {\\an8}Мы.\r\n\r\n3\r\n00:01:00,000 --> 00:01:02,000\r\nУтро.\r\n"),
        ("a.vtt", "WEBVTT\nKind: captions\n\nNOTE x\n\nSTYLE\n::cue {}\n\n00:01.000 --> 00:02.000 align:start\n<v Аня>Кто</v> здесь?\n\nid\n00:02.500 --> 00:04.000\nКто здесь?\n- Я.\n- Мы.\n\n00:01:00.000 --> 00:01:02.000\n<00:01:00.500><c>Утро</c>.\n"),
    ],
)  # fmt: skip
def test_subtitles_give_their_words_alone(tmp_path, name, data):
    card = made(tmp_path, name, data)
    assert (said(card), card["formats"]) == (["Кто здесь?\n- Я.\n- Мы.\n\nУтро."], {"subtitles": 1})


def test_a_packed_fictionbook_and_parts_of_pages_are_read(tmp_path):
    fb2 = "<?xml version='1.0'?><FictionBook><body><section><p>Ёлки.</p></section></body></FictionBook>"
    assert said(made(tmp_path, "book.fb2.zip", archive([("book.fb2", fb2)]))) == ["Ёлки."]
    fragment = "<div class='post'><p>Первый&nbsp;абзац.</p><ul>\n<li><p>раз</p></li>\n<li>два</li></ul></div>"
    assert said(made(tmp_path, "fragment", fragment)) == ["Первый\u00a0абзац.\n\n- раз\n- два"]
    page = (
        "<!doctype html><body><header>Сайт</header><nav>Меню</nav><main><header><h1>Т</h1></header><p>слова</p>"
        "<table><tr><th>А</th><th>Б</th></tr>\n<tr><td>1</td>\n<td><p>2</p></td></tr></table></main>"
        "<aside>Реклама</aside><footer><p>© 2025</p></footer></body>"
    )
    assert said(made(tmp_path, "page.html", page)) == ["# Т\n\nслова\n\nА | Б\n1 | 2"]


def test_percent_signs_and_code_of_a_note_stay(tmp_path):
    note = (
        "# Скидки\n\nСкидка 50%% и ещё 30%% для своих. %%тайна `x`%% Код: `a[[0]]` и `%%timeit`.\n\n```\n%%bash\n```\n"
    )
    expected = "# Скидки\n\nСкидка 50%% и ещё 30%% для своих.  Код: `a[[0]]` и `%%timeit`.\n\n```\n%%bash\n```"
    assert said(made(tmp_path, "a.md", note)) == [expected]


@pytest.mark.parametrize("name", ["a.xlsx", "a.docx", "a.odt", "a.pptx"])
def test_a_damaged_office_file_is_set_aside(tmp_path, name):
    member = {"a.xlsx": "xl/workbook.xml", "a.docx": "word/document.xml", "a.pptx": "ppt/presentation.xml"}.get(
        name, "content.xml"
    )
    first = [("mimetype", "application/vnd.oasis.opendocument.text")] if name == "a.odt" else []
    data = archive([*first, (member, "<a><b></a>"), ("ppt/slides/slide1.xml", "<a")])
    both = archive([("damaged/" + name, data), ("good.txt", "да")])
    card = made(tmp_path, "both.zip", both)
    assert (said(card), card["rows_set_aside"]) == (["да"], 1)
