"""Printed books as an editor reads them: running heads, headings, notes, and what a row begins and ends with."""

import io
import zipfile

import pytest

from core.corpus import corpus, documents
from core.corpus.formats import pdf_lines
from tests.test_corpus_footnotes import PAGE_LINES
from tests.test_corpus_formats import made, said
from tests.test_corpus_siblings_tables import printed


def page(lines, *, head="", title=(), foot="", size=10):
    """A page with a line at its top and one at its foot, and headings in larger type before the text."""
    placed = [(1, 40, 580, head)] if head else []
    placed += [(1, 40, 550 - 30 * at, words, 20) for at, words in enumerate(title)]
    top = 550 - 30 * len(title) - 20
    placed += [(1, 40, top - 13 * at, words, size) for at, words in enumerate(lines)]
    return [*placed, (1, 200, 20, foot)] if foot else placed


def test_running_heads_with_the_number_of_the_page_name_any_section(tmp_path):
    """As of LaTeX's books: the chapter on the left pages, the section on the right ones."""
    sections = ["1.1. THE LAMP", "1.2. THE OIL", "2.1. THE STAIRS", "2.2. THE DOOR"]
    pages = [page(PAGE_LINES * 8, foot="11")]
    for at, section in enumerate(sections):
        left, right = 12 + 2 * at, 13 + 2 * at
        pages += [page(PAGE_LINES * 8, head=f"{left} CHAPTER {1 + at // 2}. THE TOWER {'AB'[at // 2]}")]
        pages += [page(PAGE_LINES * 8, head=f"{section} {right}" if at else str(right))]
    text = "\n".join(said(made(tmp_path, "a.pdf", printed([*pages, page(["And so it ended."], foot="20")]))))
    assert "THE" not in text
    assert "20" not in text


def test_titles_of_numbered_slides_stay(tmp_path):
    titles = ["The lamp", "Oil and wicks", "A long stair", "The last door"]
    pages = [page(PAGE_LINES * 3, head=f"{at} {title}") for at, title in enumerate(titles, 1)]
    text = "\n".join(said(made(tmp_path, "a.pdf", printed(pages))))
    assert [title for title in titles if title not in text] == []


def test_the_head_of_full_pages_goes_from_a_short_page_too(tmp_path):
    pages = [page(PAGE_LINES * 8, head="Notes of a keeper", foot=str(at)) for at in (1, 2, 3)]
    pages.append(page(["And so it ended."], head="Notes of a keeper", foot="4"))
    text = "\n".join(said(made(tmp_path, "a.pdf", printed(pages))))
    assert "Notes of a keeper" not in text
    assert text.endswith("And so it ended.")


def test_lines_in_larger_type_are_headings(tmp_path):
    pages = [
        page([*PAGE_LINES * 6, "So the year ended."], title=["Of the lamp that burned", "on the northern tower"]),
        page(PAGE_LINES * 6, title=["Of the oil"]),
    ]
    rows = said(made(tmp_path, "a.pdf", printed(pages)))
    assert "\n".join(rows).split("\n")[0] == "# Of the lamp that burned on the northern tower"
    assert "# Of the oil" in "\n".join(rows).split("\n")
    assert "The keeper" not in rows[0].split("\n")[0]


def test_a_text_whose_lines_are_of_many_sizes_has_no_headings(tmp_path):
    pages = [[(1, 40, 560 - 26 * at, words, 10 + 8 * (at % 2)) for at, words in enumerate(PAGE_LINES * 4)]]
    assert "#" not in "\n".join(said(made(tmp_path, "a.pdf", printed(pages))))


def test_a_heading_stays_with_the_text_below_it():
    first = "The lamp burned all night and the keeper slept.".ljust(documents.SHORTEST - 10, ".")
    lines = ["# A", first, "", "# B", "", "## B1", "So it was. " * 200, "", "# C", "Then it ended. " * 90]
    found = list(documents.split(enumerate(lines, 1)))
    assert [text.split("\n")[0] for _, text in found] == ["# A", "# B", "# C"]
    assert [number for number, _ in found] == [1, 4, 9]


@pytest.mark.parametrize("end", ["", "</tr>"])
def test_rows_with_empty_cells_stay_rows(tmp_path, end):
    """Icons in the first column, as manuals have them, and columns that only some rows fill."""
    rows = [["<img>", "Zoom in"], ["<img>", "Zoom out"], ["a", "", "b"], ["c", "d", ""], ["", "e", "f"], ["g", "", ""]]
    table = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}{end}" for row in rows)
    page = f"<html><body><p>The buttons:</p><table>{table}</table><p>And so on.</p></body></html>"
    lines = "The buttons:\n\nZoom in\nZoom out\na |  | b\nc | d\n| e | f\ng\n\nAnd so on."
    assert said(made(tmp_path, "a.html", page)) == [lines]


def test_a_boxed_note_with_an_icon_stands_apart_from_the_paragraph_before(tmp_path):
    box = "<table><tr><td rowspan='2'><img></td><th>Note</th></tr><tr><td><p>Mind the step.</p></td></tr></table>"
    page = f"<html><body><p>Go down.</p><div>{box}</div><p>Then left.</p></body></html>"
    assert said(made(tmp_path, "a.html", page)) == ["Go down.\n\nNote\nMind the step.\n\nThen left."]


def test_files_of_markup_alone_are_set_aside(tmp_path):
    """Pictures and fonts that stand beside a saved page, and indexes of a manual."""
    drawing = '<svg xmlns="http://www.w3.org/2000/svg">' + "<path d='M416 485H172L121 1462Z'/>" * 40 + "</svg>"
    index = '<?xml version="1.0"?>\n<help>' + "<item ref='a.html' title='Введение'/>" * 40 + "</help>"
    article = f"<?xml version='1.0'?>\n<article><para>{PAGE_LINES[0]} {PAGE_LINES[1]}</para></article>"
    for name, data in (("a.svg", drawing), ("b.xml", index), ("c.txt", "A word."), ("d.xml", article)):
        (tmp_path / name).write_text(data)
    card = corpus.create([tmp_path], "folder")
    assert card["reasons"] == {"only_markup": 2}
    assert card["rows_kept"] == 2


@pytest.mark.parametrize("announced", ["Some examples of what was said:", "cgroup.threads (only of version two"])
def test_a_row_does_not_end_before_what_its_last_line_announces(announced):
    paragraph = "The lamp burned all night and the keeper slept. "
    lines = [
        (paragraph * 42)[: documents.LONGEST // 2 - 10].rstrip(),
        "",
        announced,
        "",
        paragraph * 30,
        "",
        "And then he rose.",
    ]
    found = [text for _, text in documents.split(enumerate(lines, 1))]
    assert [text.count(announced) for text in found] == [1]
    assert found[0].endswith("And then he rose.")


def test_a_page_of_headings_alone_is_set_aside(tmp_path):
    (tmp_path / "a.html").write_text("<html><body><h1>Part II. The oil</h1></body></html>")
    (tmp_path / "b.html").write_text("<html><body><h1>Part II. The oil</h1><p>It burned.</p></body></html>")
    assert corpus.create([tmp_path], "part")["reasons"] == {"empty_text": 1}


def test_a_line_goes_on_behind_raised_digits(tmp_path):
    """A raised digit a little smaller than its line, as office programs set it, and the full stop behind it."""
    words = [
        (1, 40, 400, "It was 10"),
        (1, 80.1, 404, "3", 8),
        (1, 84.6, 400, " m"),
        (1, 95.8, 404, "2", 8),
        (1, 100.3, 400, "."),
    ]
    text = said(made(tmp_path, "a.pdf", printed([[*page(PAGE_LINES * 4), *words]])))[0]
    assert text.endswith("It was 10³ m².")


def test_rtf_keeps_levels_of_lists_rows_with_empty_cells_and_raised_digits(tmp_path):
    """As LibreOffice writes it: a space before numbers, no line after a table, steps up and down in half points."""
    item = r"{{\listtext\pard\plain  {}\tab}}\ilvl{}\ls1 \li0{{\loch\n{}}}\par "
    lists = "".join(item.format(*of) for of in (("1.", 0, "one"), ("1.", 1, "under"), ("2.", 0, "two")))
    table = r"\trowd\cellx60 A\cell B\cell\row\trowd\cellx60 \cell{\loch b}\cell\row\trowd\cellx60 c\cell\pard \cell\row\pard "
    water = r"{\loch H}{\loch{\*\updnprop8000}\dn2\loch\n2}{\loch O}, 10{\super 3} m\par}"
    assert said(made(tmp_path, "a.rtf", (r"{\rtf1\ansi " + lists + table + water).replace(r"\n", "\n"))) == [
        "1. one\n  1. under\n2. two\n\nA | B\nb\nc\n\nH₂O, 10³ m"
    ]


def chat(name, lines, mark=""):
    begin = "[03.05.2024, 09:{:02}:00] {}" if mark else "03.05.2024, 09:{:02} - {}"
    notice = f"{name}: {mark}Сообщения защищены." if mark else "Сообщения защищены."
    return "\n".join(begin.format(at, words) for at, words in enumerate([notice, *lines]))


@pytest.mark.parametrize(
    ("file", "mark"), [("Чат WhatsApp с Аня.txt", ""), ("WhatsApp Chat with Аня.txt", ""), ("_chat.txt", "\u200e")]
)
def test_a_model_learns_from_who_exported_the_chat_of_whatsapp(tmp_path, file, mark):
    """The more talkative one is the other, whose name the chat has; the last question has no reply."""
    lines = [
        "Борис: Где ты?",
        "Аня: Иду.",
        "Борис: Жду.",
        "Аня: Вот!",
        "Аня: А ты?",
        "Борис: Тут.",
        "Аня: Ага",
        "Борис: Пока",
        "Аня: Да?",
    ]
    card = made(tmp_path, file, chat("Аня", [*lines, "Аня: Ау"], mark))
    assert card["learned_as"] == {"Борис": 1}


def test_what_was_dropped_is_told_where_the_first_conversation_has_no_reply(tmp_path):
    days = [
        "03.05.2024, 09:00 - Аня: Ты тут?",
        "04.05.2024, 09:00 - Аня: А сейчас?",
        "04.05.2024, 09:01 - Борис: Да, весь день.",
    ]
    days.insert(1, "03.05.2024, 09:02 - Борис: <Без медиафайлов>")
    card = made(tmp_path, "Чат WhatsApp с Аня.txt", "\n".join(days))
    assert card["reasons"] == {"no_reply": 1}
    assert card["repairs"]["media_dropped"] == 1


def test_subtitles_lose_their_sounds_and_who_made_them(tmp_path):
    said_in = ["www.subs.example", "[скрип двери]\nКто здесь?", "(вздыхает)", "МАРИЯ: Свои.", "♪", "Перевод: И. Лунин"]
    said_in += ["Субтитры сделал Иван", "Редактор субтитров А.Лунин", "Subtitles by Ann", "Перевод был долгим."]
    data = "\n".join(f"{at}\n00:00:{at:02},000 --> 00:00:{at:02},900\n{words}\n" for at, words in enumerate(said_in, 1))
    assert said(made(tmp_path, "a.srt", data)) == ["Кто здесь?\nМАРИЯ: Свои.\n\nПеревод был долгим."]


def test_rtf_leaves_out_what_was_deleted_and_knows_headings_and_bullets_by_their_styles(tmp_path):
    styles = r"{\stylesheet{\s0\ql Normal;}{\s1\sbasedon0\b Heading 1;}{\s2\b\outlinelevel1 Part;}}"
    bullet = r"\pard\plain \s0{\listtext\pard\plain \u61623\'3f\tab}\ilvl0\ls1 \li360{\loch lamp}\par "
    words = r"\pard\plain \s1\b{\loch Top}\par \pard\plain \s2\b{\loch Below}\par \pard\plain \s0{So it}{\deleted\revauthdel1 was} is.\par "
    text = said(made(tmp_path, "a.rtf", r"{\rtf1\ansi " + styles + words + bullet + bullet + "}"))
    assert text == ["# Top\n\n## Below\n\nSo it is.\n\n- lamp\n- lamp"]


def test_bullets_of_symbol_fonts_in_print_are_bullets(tmp_path):
    assert pdf_lines.cleaned("\uf0b7 lamp\r\n\uf0fcoil") == "• lamp\n• oil"


def test_headings_that_only_their_numbers_tell_apart_are_no_running_heads(tmp_path):
    pages = [page(PAGE_LINES * 6, title=[f"Chapter {at}"]) for at in range(1, 6)]
    text = "\n".join(said(made(tmp_path, "a.pdf", printed(pages))))
    assert [line for line in text.split("\n") if line.startswith("#")] == [f"# Chapter {at}" for at in range(1, 6)]


ODF = 'xmlns:office="o" xmlns:text="t" xmlns:style="s" xmlns:table="tb" xmlns:draw="d" xmlns:presentation="p"'


def of_office(kind, content, styles=""):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("mimetype", f"application/vnd.oasis.opendocument.{kind}")
        archive.writestr("content.xml", f"<office:document-content {ODF}>{content}</office:document-content>")
        archive.writestr("styles.xml", f"<office:document-styles {ODF}>{styles}</office:document-styles>")
    return out.getvalue()


def test_lists_of_odt_are_numbered_by_the_styles_of_the_document(tmp_path):
    numbers = '<text:list-style style:name="N"><text:list-level-style-number text:level="1" style:num-format="1"/></text:list-style>'
    items = "".join(f"<text:list-item><text:p>{word}</text:p></text:list-item>" for word in ("one", "two"))
    cells = ["<text:p>2021</text:p><text:p>guessed</text:p>", "<text:p>b</text:p>"]
    table = f"<table:table><table:table-row>{''.join(f'<table:table-cell>{cell}</table:table-cell>' for cell in cells)}</table:table-row></table:table>"
    body = f'<office:body><office:text><text:list text:style-name="N">{items}</text:list>{table}</office:text></office:body>'
    assert said(made(tmp_path, "a.odt", of_office("text", body, numbers))) == ["1. one\n2. two\n\n2021 guessed | b"]


def test_slides_of_libreoffice_are_read_with_their_notes(tmp_path):
    def frame(kind, inside):
        return f'<draw:frame presentation:class="{kind}">{inside}</draw:frame>'

    def box(*words):
        return f"<draw:text-box>{''.join(f'<text:p>{word}</text:p>' for word in words)}</draw:text-box>"

    cells = "".join(f"<table:table-cell><text:p>{word}</text:p></table:table-cell>" for word in ("a", "b"))
    items = "".join(f"<text:list-item><text:p>{word}</text:p></text:list-item>" for word in ("one", "two"))
    slide = frame("title", box("The lamp")) + frame(
        "outline", f"<draw:text-box><text:list>{items}</text:list></draw:text-box>"
    )
    slide += f"<draw:frame><table:table><table:table-row>{cells}</table:table-row></table:table></draw:frame>"
    slide += (
        frame("page-number", box("7")) + f"<presentation:notes>{frame('notes', box('Say it.'))}</presentation:notes>"
    )
    body = f"<office:body><office:presentation><draw:page>{slide}</draw:page></office:presentation></office:body>"
    card = made(tmp_path, "a.odp", of_office("presentation", body))
    assert (said(card), card["formats"]) == (["# The lamp\n\n- one\n- two\n\na | b\n\nSay it."], {"odp": 1})


def test_links_to_the_top_of_a_page_are_no_part_of_it(tmp_path):
    part = "<h2>Лампа {}</h2><p>Горела всю ночь.</p><p><a href='#top'>({})</a></p>"
    page = part.format(1, "наверх") + part.format(2, "к содержанию") + part.format(3, "Back to top")
    text = said(made(tmp_path, "a.html", f"<html><body>{page}</body></html>"))
    assert text == ["\n\n".join(f"## Лампа {at}\n\nГорела всю ночь." for at in (1, 2, 3))]


def test_the_full_stop_behind_an_address_of_a_manual_page_stands_beside_it(tmp_path):
    text = said(
        made(tmp_path, "a.1", ".TH A 1\n.SH NAME\na - b\n.SH BUGS\nWrite to\n.MT list@a.example\n.ME .\nThen wait.\n")
    )
    assert text[0].endswith("Write to list@a.example. Then wait.")


def test_the_ways_between_the_pages_of_a_book_are_no_part_of_it(tmp_path):
    """As Publican and other makers of manuals have them."""
    ways = "<ul class='{}'><li><a href='1.html'><b>Пред.</b>10.8. DHCP</a></li><li>Настольная книга</li></ul>"
    banner = "<div id='banner'><a href='get.html'>Download the ebook</a></div>"
    page = f"{banner}{ways.format('docnav top')}<h2>10.9. Сеть</h2><p>Она есть.</p>{ways.format('pagination')}"
    assert said(made(tmp_path, "a.html", f"<html><body>{page}</body></html>")) == ["## 10.9. Сеть\n\nОна есть."]


def test_running_heads_that_end_with_the_title_of_the_book_go(tmp_path):
    """As of Sphinx: the section, then the title at the right edge, and the number of the page elsewhere."""
    sections = ["1.1. The lamp", "1.2. The oil and the wick", "2.1. The stairs", "2.2. The door"]
    pages = [page(PAGE_LINES * 8, head=f"{section} Guide of the Keeper", foot="x") for section in sections]
    text = "\n".join(said(made(tmp_path, "a.pdf", printed(pages))))
    assert "Guide of the Keeper" not in text
