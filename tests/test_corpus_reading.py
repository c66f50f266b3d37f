"""Pages, books, notes and subtitles as an editor would have them; letters, refusals and personal data of each kind."""

import pytest

from core.corpus import checks, contents, personal
from core.corpus.formats import pdf
from tests.test_corpus_damage import chat
from tests.test_corpus_formats import made, said
from tests.test_corpus_office import archive, book

PAGE = """<html><body><div id="header"><a href="/">Главная</a> | <a href="/x">О нас</a></div>
<table class="navheader"><tr><td>Глава 7</td><td>Назад</td></tr></table>
<h1>Ковка <a class="headerlink" href="#k">¶</a></h1><pre>a  b</pre><p> Кузнец работал весь день.</p>
<table><tr><td><p>А</p><p>ещё</p></td><td>Б</td></tr><tr><td>1</td><td>2</td></tr></table>
<ol><li>раз<ul><li>под</li></ul></li><li><p>два</p></li></ol><p>стих<br/>стих</p>
<div id="footer">© 2010 Блог</div></body></html>"""


def test_a_page_is_read_without_what_belongs_to_the_site(tmp_path):
    assert said(made(tmp_path, "a.html", PAGE)) == [
        "# Ковка\n\na  b\n\nКузнец работал весь день.\n\nА ещё | Б\n1 | 2\n\n1. раз\n  - под\n2. два\n\nстих\nстих"
    ]
    words = "Длинный абзац о том, как кузнец работал весь день, устал и отдыхал у горна до ночи и ещё немного утром."
    page = (
        f'<html><body><div class="box">Реклама: <a href="x">купить</a></div><main><p>{words}</p></main></body></html>'
    )
    assert said(made(tmp_path, "b.html", page)) == [words]


def test_lists_and_notes_of_books_keep_their_marks(tmp_path):
    page = (
        '<html xmlns:epub="x"><body><p>Слово<a epub:type="noteref" href="#n">1</a>.</p><ol><li>Молот</li><li>Клещи</li></ol>'
        '<aside epub:type="footnote"><p>Сноска.</p></aside></body></html>'
    )
    container = '<container><rootfiles><rootfile full-path="c.opf"/></rootfiles></container>'
    opf = '<package><manifest><item id="a" href="a.xhtml"/></manifest><spine><itemref idref="a"/></spine></package>'
    members = [("META-INF/container.xml", container), ("c.opf", opf), ("a.xhtml", page)]
    assert said(made(tmp_path, "a.epub", archive(members))) == ["Слово [1].\n\n1. Молот\n2. Клещи\n\nСноска."]
    fb2 = (
        "<?xml version='1.0'?><FictionBook><body><title><p>Иван</p><p>Кузнец</p></title><poem><stanza><v>раз</v><v>два</v>"
        "</stanza></poem></body><body name='notes'><section id='n1'><title><p>1</p></title><p>Сноска.</p></section></body></FictionBook>"
    )
    assert said(made(tmp_path, "a.fb2", fb2)) == ["## Иван. Кузнец\n\nраз\nдва\n\n[1] Сноска."]
    rtf = r"{\rtf1\ansi\pard Word{\footnote note {\b text}}.\par\trowd A\cell B\cell\row}"
    assert said(made(tmp_path, "a.rtf", rtf)) == ["Word [1].\n\nA | B\n\n[1] note text"]


def test_marks_of_notes_are_told_from_what_only_looks_like_them(tmp_path):
    note = "# Код и %%\n\nСкидка 50%% и ``x ` [[y]]`` и a[[0]], [[1, 2]], [[ -f x ]], [[Страница|слово]].\n\n    b[[c]]\n\n%%\nтайна\n%%\n%%тайна%% конец"
    assert said(made(tmp_path, "a.md", note)) == [
        "# Код и %%\n\nСкидка 50%% и ``x ` [[y]]`` и a[[0]], [[1, 2]], [[ -f x ]], слово.\n\n    b[[c]]\n\n\n конец"
    ]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.srt", "1\n00:00:01,000 --> 00:00:02,000\nРаз\n2\n00:00:03,000 --> 00:00:04,000\n2 раза\n", "Раз 2 раза"),
        ("b.srt", "00:00:01.000 --> 00:00:02.000\nРаз\n\n00:00:03.000 --> 00:00:04.000\nДва\n", "Раз Два"),
        ("c.ass", "[Script Info]\nTitle: x\n\n[Events]\nDialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,{\\i1}Раз,\\Nдва\n", "Раз, два"),
        ("d.txt", "0:00\nраз\n0:03\nдва\n0:07\nтри\n1:02:03\nпока\n", "раз два три\n\nпока"),
        ("e.vtt", "WEBVTT\n\nNOTE тайна\n\n01:00.000 --> 01:02.000\nРаз\n\nNOTE тайна\n\nимя\n01:03.000 --> 01:04.000\nДва\n", "Раз Два"),
    ],
)  # fmt: skip
def test_subtitles_of_other_programs_give_their_words(tmp_path, name, data, words):
    assert said(made(tmp_path, name, data)) == [words]


def test_a_sheet_without_a_header_is_a_column_of_texts(tmp_path):
    words = [f"Просто строка текста номер {at}" for at in range(3)]
    assert said(made(tmp_path, "a.xlsx", book({"Лист": [[text] for text in words]}))) == words


def test_of_a_printed_book_the_contents_and_heads_with_sections_go():
    lines = ["Начало", *(f"{at}.1 Глава . . . . . . . . {at}" for at in range(1, 7)), "Конец"]
    assert contents.without_leaders(lines) == (["Начало", "Конец"], 6)
    pages = [
        [
            f"ГЛАВА 7. ОСНОВЫ ВСЕГО 7.{at}. ЧТО ЭТО {at * 'Я'}",
            *(f"{chr(1072 + at)}{chr(1072 + n)} идут по снегу" for n in range(6)),
        ]
        for at in range(6)
    ]
    kept, dropped = pdf.without_running_heads(pages)
    assert (dropped, [line for line in kept if "ГЛАВА" in line]) == (6, [])


def test_lists_and_addresses_in_wrapped_text_stay_whole(tmp_path):
    text = "\n".join(
        [
            "Кузнец работал весь день и устал, потому что железо было холодным и не",
            "поддавалось, а в горне уже не было угля. См. страницу https://www.example.org/",
            "about/kuznets и файлы README*, INSTALL* и другие; потом он пошёл домой и лёг",
            "спать, а утром всё началось снова, и так было каждый день всю его долгую",
            "жизнь, о которой он никому не рассказывал, потому что его не спрашивали.",
            "1.1. Первый раздел", "1.2. Второй раздел",
        ]
    )  # fmt: skip
    (row,) = said(made(tmp_path, "a.txt", text))
    assert "https://www.example.org/about/kuznets и файлы README*, INSTALL* и другие; потом" in row
    assert row.endswith("спрашивали.\n1.1. Первый раздел\n1.2. Второй раздел")


def test_a_lost_byte_among_few_letters_is_no_other_alphabet_and_a_spoilt_word_is_mended_alone(tmp_path):
    line = "The café was closed — we waited. Naïve, wasn’t it?\n".encode().replace(b"\xc3\xa9", b"\xc3") * 3
    assert said(made(tmp_path, "a.txt", line)) == [line.decode(errors="replace").strip()]
    mixed = "Привет, {}! Хорошо, {}.".format("мир".encode().decode("cp1251"), "друг".encode().decode("latin-1"))
    assert said(made(tmp_path, "b.txt", mixed)) == ["Привет, мир! Хорошо, друг."]


@pytest.mark.parametrize(
    ("word", "mended"),
    [
        ("iФон", "iФон"), ("TCPшный", "TCPшный"), ("IT-отдел", "IT-отдел"), ("пpивет", "привет"), ("ТОP-10", "ТОР-10"),
        ("СССP", "СССР"), ("Бiларусь і Літва", "Біларусь і Літва"),
    ],
)  # fmt: skip
def test_letters_that_look_alike_are_mended_where_the_word_is_not_meant_so(word, mended):
    assert checks.without_lookalikes(word) == mended
    assert ("mixed" in checks.check({"text": word})["flags"]) == (word != mended)


@pytest.mark.parametrize(
    ("reply", "is_refusal"),
    [
        ("К сожалению, я не могу ответить на письмо раньше пятницы.", False), ("Как языковая модель развивается?", False),
        ("I can't help with that tonight, I'm working.", False), ("Мне жаль, но я не могу обсуждать эту тему.", True),
        ("Я не могу выполнить эту просьбу.", True), ("I cannot provide instructions for that.", True),
        ("I won't be able to help with that.", True), ("I must decline this request.", True),
    ],
)  # fmt: skip
def test_refusals_of_models_are_told_from_those_of_people(reply, is_refusal):
    assert ("refusal" in checks.check(chat("q", reply))["flags"]) == is_refusal


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("загранпаспорт 75 1234567", ["passport"]), ("водительское удостоверение 77 12 345678", ["passport"]),
        ("свидетельство о рождении II-МЮ 123456", ["passport"]), ("7 912 345 67 89", ["phone"]), ("тел. 345-67-89", ["phone"]),
        ("415-555-2671", ["phone"]), ("заказ 2023-11-05-123456", []), ("IBAN DE89370400440532013000", ["account"]),
        ("DE89370400440532013001", []), ("р/с 40817810099910004312", ["account"]), ("8.8.8.8", ["ip"]), ("п. 5.2.1.3", []),
        ("раздел 5.2.14.3 договора", []), ("2001:4860:4860::8888", ["ip"]), ("в 12:34:56", []), ("Firefox/115.77.88.9", []),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk", ["key"]), ("password: hunter2", ["key"]),
        ("пароль: надо сменить", []), ("Authorization: Bearer 0123456789abcdef0123456789", ["key"]),
        ("api_key=0123456789abcdef0123456789", ["key"]), ("npm_" + "a1" * 18, ["key"]), ("СНИЛС 11223344595", ["snils"]),
        ("11223344595", []), ("1704450000123", []),
    ],
)  # fmt: skip
def test_documents_accounts_and_keys_are_found_and_numbers_alone_are_not(text, kinds):
    assert [kind for _, _, kind in personal.find(text)] == kinds
