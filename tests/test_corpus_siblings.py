"""Other inputs of the kinds that were once read wrongly: copies, personal data, refusals, formats."""

import json
import random

import pytest

from core.corpus import checks, duplicates, mojibake, personal
from core.corpus.formats import assistant_exports
from core.training import leakage
from tests.test_corpus_formats import lines, made, said
from tests.test_corpus_importers import rows_of
from tests.test_corpus_office import OFFICE, SLIDE, W, archive, book

NOUNS = [
    "маяк",
    "лодка",
    "берег",
    "масло",
    "фитиль",
    "чайка",
    "волна",
    "туман",
    "сигнал",
    "журнал",
    "шторм",
    "ветер",
    "канат",
    "якорь",
    "парус",
    "бухта",
]
VERBS = [
    "видел",
    "слышал",
    "нашёл",
    "потерял",
    "чинил",
    "красил",
    "носил",
    "поднял",
    "опустил",
    "открыл",
    "закрыл",
    "вспомнил",
]


def sentences(count, seed):
    dice = random.Random(seed)
    parts = ([dice.choice(words) for words in (NOUNS, VERBS, NOUNS, VERBS, NOUNS)] for _ in range(count))
    return " ".join(f"{' '.join(part).capitalize()}." for part in parts)


def chat(asked, reply):
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": reply}]}


SHARED = sentences(20, "shared")


@pytest.mark.parametrize(
    "row",
    [
        lambda at: chat(f"{SHARED}\n{sentences(1, at)}", ("да", "нет")[at % 2]),
        lambda at: {"text": f"{SHARED}\n\n{sentences(3, at)}"},
        lambda at: chat(sentences(1, at), f"{sentences(2, -at)}\n\n{SHARED}"),
        lambda at: chat(sentences(1, at), f"<think>\n{SHARED}\n</think>\n\n{sentences(2, -at)}"),
    ],
    ids=["preamble", "examples", "signature", "thoughts"],
)
def test_what_every_row_begins_or_ends_with_makes_no_copies_and_no_leak(row):
    rows = [row(at) for at in range(1, 61)]
    copies = duplicates.find(map(duplicates.said, rows))
    assert (copies.counts()["near"], int(copies.grouped().sum())) == (0, 0)
    assert leakage.count(rows[::5], [row for at, row in enumerate(rows) if at % 5]) == 0


def test_copies_are_found_beside_what_every_row_begins_with():
    rows = [f"{SHARED} {sentences(4, at // 2)}" + (" Конец." if at % 2 else "") for at in range(60)]
    assert duplicates.find(rows).counts()["near"] == 30
    held_out, training = ([{"text": text} for text in rows[start::2]] for start in (0, 1))
    assert leakage.count(held_out, training) == 30


@pytest.mark.parametrize("text", ["SECRET_KEY" + "_a" * 200, "secret" * 100, "secret_" + "a" * 4000 + "!"])
def test_a_long_name_is_looked_through_at_once(text):
    assert personal.find(text) == []  # took longer than the age of the universe


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("+7.916.123.45.67", ["phone"]),
        ("+7–916–123–45–67", ["phone"]),
        ("8 916 123\u201145\u201167", ["phone"]),
        ("мой номер 9161234567", ["phone"]),
        ("415.555.2671", ["phone"]),
        ("ivan [собака] mail.ru", ["email"]),
        ("ivan (at) mail.ru", ["email"]),
        ("СНИЛС: 112 233 445 95", ["snils"]),
        ("ASIAIOSFODNN7EXAMPLE", ["key"]),
        ("Authorization: Basic dXNlcjpwYXNzd29yZDEyMw==", ["key"]),
        ("AGE-SECRET-KEY-1" + "Q" * 58, ["key"]),
        ("server 85.143.22.10", ["ip"]),
        ("номер заказа 9161234567", []),
        ("name@2x.png", []),
        ("git@github.com:user/repo.git", []),
        ("Chapter 4.15.20.31", []),
        ("112 233 445 95", []),
    ],
)
def test_personal_data_in_other_writings(text, found):
    assert [kind for _, _, kind in personal.find(text)] == found


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("Я не могу предоставить инструкции по изготовлению взрывчатки.", True),
        ("Мне жаль, но я не могу продолжать этот разговор.", True),
        ("Я не имею возможности помочь с этим.", True),
        ("К сожалению, я не смогу помочь с этим запросом.", True),
        ("I'm just a language model, so I can't help you with that.", True),
        ("К сожалению, я не могу предоставить вам скидку, но товар есть.", False),
        ("К сожалению, я не могу поддержать ваше решение, коллега.", False),
        ("Простите, я не могу обсуждать это по телефону, — прошептала Анна.", False),
        ("К сожалению, я не могу создать такую же атмосферу, как в детстве.", False),
        ("As an AI researcher, I work on vision.", False),
    ],
)
def test_a_refusal_is_told_from_what_people_say(text, refuses):
    assert ("refusal" in checks.check(chat("q", text))["flags"]) == refuses


@pytest.mark.parametrize("taken_for", ["cp866", "koi8_r", "mac_cyrillic", "cp437", "cp1251"])
@pytest.mark.parametrize(
    "line", ["it’s “quoted” — fine", "café déjà vu – naïve", "Zażółć gęślą jaźń", "日本語テキスト"]
)
def test_lines_without_russian_words_are_repaired_after_any_wrong_decoding(line, taken_for):
    assert mojibake.Repairer().line(spoilt(line, taken_for)) == line


@pytest.mark.parametrize("taken_for", ["cp866", "koi8_r", "cp437", "cp1251", "mac_roman"])
@pytest.mark.parametrize("line", ["Смотритель поднялся на маяк.", "Тест 123", "№ 5 — «Заря»", "Они ушли… да?"])
def test_lines_that_were_decoded_wrongly_twice_are_repaired(line, taken_for):
    assert mojibake.Repairer().line(spoilt(spoilt(line, taken_for), taken_for)) == line


def spoilt(line, taken_for):
    return "".join(mojibake._char(byte, taken_for) for byte in line.encode())


CLEAN = [
    "Вечером, в 18:40, смотритель зажёг лампу — «маяк» ожил. Ёлки! №5, 100 ₽, −3 °C… Привет😀",
    "так, сок, рва: т. А. У., в А. Р., «ВАУ», вА—",
    "The word “сок” — так and рва; it’s fine",
    "Їжак з'їв ґанок — «є» і Ї; п’ять",
    "Қазақстан — үлкен ел; Әлия өзі ғана һәм іні ұлы",
    "春眠不觉晓，处处闻啼鸟。「夜来」——风雨声",
    "À l’été, « déjà vu » — œuvre ; ÉCOLE; Zażółć; ÇĞİÖŞÜ; ÃRA",
    "∀x∈ℝ: ∃ε>0, |f(x)−f(y)|≤ε·‖x‖² ⇒ ∑ᵢ aᵢ = ½ ± √2 ≈ 1.41 × 10⁻³",
    "👨‍👩‍👧‍👦 🇷🇺 ❤️ 👍🏽 1️⃣ йод, за́мок, пере­нос, a​b",
    "┌──┬──┐ │ а │ б │ └──┴──┘ ░▒▓█ if (a && b) { x[i]['k'] = a->b << 2; } // №1",
]


@pytest.mark.parametrize("line", CLEAN)
def test_a_right_line_stays_as_it_is(line):
    assert mojibake.Repairer().line(line) == line


def test_lines_of_a_file_in_several_old_encodings_are_told_apart(tmp_path):
    words = ["Первая строка.", "Вторая строка в коях.", "Третья строка в досе."]
    data = b"\n".join(line.encode(name) for line, name in zip(words, ("cp1251", "koi8-r", "cp866"), strict=True))
    card = made(tmp_path, "a.txt", data)
    assert (said(card), card["rows_set_aside"]) == (["\n".join(words)], 0)
    capitals = "ГЛАВА ПЕРВАЯ\nСССР, ВЧК, ЦК КПСС, НКВД\nЁж — ОАО «ГАЗПРОМ» № 55\nДалее: ммм… эээ, ЗАО «МиГ»\n" * 2
    card = made(tmp_path, "b.txt", f"{capitals}Отпущено масла две меры.".encode("cp1251"))
    assert (said(card), card["repairs"]) == ([f"{capitals}Отпущено масла две меры."], {})


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Zażółć gęślą jaźń, źdźbło trawy.", "cp1250"),
        ("Été déjà vu, garçon à Paris.", "cp1252"),
        ("Zażółć gęślą jaźń, źdźbło trawy.", "iso8859_2"),
        (
            "Zażółć gęślą jaźń, źdźbło trawy. Latarnik napisał w dzienniku. Źródło światła. Świt i śnieg, łąka.",
            "iso8859_2",
        ),
        ("أشعل حارس المنارة المصباح وكتب في يومياته عن الريح.", "cp1256"),
        ("これはテストです。日本語の文章を書いています。", "shift_jis"),
        ("東京都は五日、新型感染症対策本部会議を開催した。", "shift_jis"),
        ("人工知能のモデルを学習させるには大量のデータが必要です。", "euc_jp"),
        ("人工知能のモデルを学習させるには大量のデータが必要です。", "iso2022_jp"),
        ("人工智能模型需要大量数据。用户可以在自己的电脑上训练模型。", "gb18030"),
        ("春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。", "gbk"),
        ("台北市政府昨日召開記者會，宣布捷運票價調整方案。", "big5"),
        ("옛날 옛적에 호랑이가 담배 피우던 시절, 어느 산골 마을에 나무꾼이 살았습니다.", "euc_kr"),
    ],
)
def test_a_short_text_in_another_old_encoding_is_read(tmp_path, text, encoding):
    assert said(made(tmp_path, "a.txt", text.encode(encoding))) == [text]
    row = json.dumps({"prompt": "q", "completion": f"{text} \\"}, ensure_ascii=False)
    assert said(made(tmp_path, "a.jsonl", row.encode(encoding))) == [[("user", "q"), ("assistant", f"{text} \\")]]


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<p>10<sup>6</sup> м<sup>2</sup>, H<sub>2</sub>O, 10<sup>−3</sup></p>", "10⁶ м², H₂O, 10⁻³"),
        ("<p>x<sup>k+1</sup> a<sub>i</sub> 1<sup>st</sup></p>", "x^(k+1) a_i 1st"),
        ("<p>so <math alttext='{\\displaystyle E=mc^{2}}'><mi>E</mi></math>!</p>", "so $E=mc^{2}$!"),
        (
            "<p><math><semantics><mi>x</mi><annotation encoding='application/x-tex'>x_1</annotation></semantics></math> y</p>",
            "$x_1$ y",
        ),
        ("<p><ruby>漢<rt>かん</ruby>字</p>", "漢字"),
        ("<details><summary>More</summary>hidden</details>", "More\n\nhidden"),
        ("<ol start=3><li>three<li>four</ol>", "3. three\n4. four"),
    ],
)
def test_a_page_keeps_what_stands_above_its_line_and_its_formulas(tmp_path, page, text):
    assert said(made(tmp_path, "a.html", f"<html><body>{page}</body></html>")) == [text]


@pytest.mark.parametrize(
    "code",
    [
        "<p><code>def f(x):</code></p>\n<p><code>    return x</code></p>",
        "<p><strong><code>def f(x):</code></strong></p>\n<p><emphasis><code>    return x</code></emphasis></p>",
        "<p><code><style name='k'>def</style> f(x):</code></p><p><code>&#160;&#160;&#160; <style name='k'>return</style> x</code></p>",
        "<p><code>def </code><code>f(x):</code></p><p><code>    </code><code>return x</code></p>",
    ],
)
def test_a_fictionbook_keeps_the_lines_of_code(tmp_path, code):
    book = f"<FictionBook><book-title>A &amp; B</book-title><body><section><p>Так:</p>{code}</section></body></FictionBook>"
    card = made(tmp_path, "a.fb2", book)
    assert rows_of(card) == [{"text": "Так:\n\n```\ndef f(x):\n    return x\n```", "fields": {"title": "A & B"}}]


def test_a_fictionbook_keeps_empty_lines_in_code_and_words_with_a_style(tmp_path):
    code = "<p><code>a()</code></p><p><code/></p><empty-line/><p><code>  b()</code></p>"
    words = "<p>Раз <style name='x'>два</style> три.</p><p><code>f</code> и <code>g</code></p><p><code>h</code> и <code>i</code></p>"
    book = f"<FictionBook><body><section>{words}{code}</section></body></FictionBook>"
    assert said(made(tmp_path, "a.fb2", book)) == ["Раз два три.\n\nf и g\n\nh и i\n\n```\na()\n\n  b()\n```"]


def test_subtitles_lose_their_drawings_and_notes_their_front_matter_of_toml(tmp_path):
    spoken = [
        r"Dialogue: 0,0:00:01.00,0:00:02.00,S,,0,0,0,,{\pos(1,2)\p1}m 0 0 l 100 0{\p0}",
        r"Dialogue: 0,0:00:03.00,0:00:04.00,S,,0,0,0,,Да\h—{\i1}вот",
    ]
    assert said(made(tmp_path, "a.ass", "\n".join(["[Script Info]", "[Events]", *spoken]))) == ["Да —вот"]
    note = '+++\ntitle = "T"\ndraft = false\n+++\n# A\n\nwords\n'
    assert rows_of(made(tmp_path, "a.md", note)) == [{"text": "# A\n\nwords", "fields": {"title": "T"}}]


def test_formulas_of_a_word_document_stand_in_their_sentence(tmp_path):
    def part(name, *parts):
        return f"<m:{name}>{''.join(parts)}</m:{name}>"

    def sign(words):
        return f"<m:r><w:rPr/><m:t>{words}</m:t></m:r>"

    power = part("sSup", "<m:sSupPr><m:ctrlPr/></m:sSupPr>", part("e", sign("c")), part("sup", sign("2")))
    ratio = part("f", part("num", sign("a+b")), part("den", sign("n")))
    total = part("nary", '<m:naryPr><m:chr m:val="∑"/></m:naryPr>', part("sub", sign("i=1")), part("e", sign("i")))
    root = part("rad", part("deg"), part("e", sign("x")))
    formulas = "".join(f"<m:oMath>{formula}</m:oMath>" for formula in (sign("E=m") + power, ratio, total, root))
    words = "<w:r><w:t>Так: </w:t></w:r>"
    math = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
    document = f"<w:document {W} {math}><w:body><w:p>{words}{formulas}</w:p></w:body></w:document>"
    assert said(made(tmp_path, "a.docx", archive([("word/document.xml", document), *WORD_PARTS]))) == [
        "Так: E=mc^2(a+b)/n∑_(i=1) i√(x)"
    ]


WORD_PARTS = [
    (
        "[Content_Types].xml",
        '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Override PartName="/word/document.xml" '
        'ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>',
    ),
    (
        "_rels/.rels",
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r" Target="word/document.xml" '
        'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"/></Relationships>',
    ),
]


def test_names_that_stand_over_several_columns_are_no_header(tmp_path):
    rows = [["Клиент", None, "Заказ", None], ["имя", "вопрос", "номер", "ответ"], ["Иван", "q", "7", "a"]]
    pair = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    assert rows_of(made(tmp_path, "a.xlsx", book({"1": rows}))) == [pair | {"fields": {"имя": "Иван", "номер": "7"}}]
    assert rows_of(made(tmp_path, "b.xlsx", book({"1": [["Вопрос", None, "Ответ"], ["q", None, "a"]]}))) == [pair]


def test_slides_come_in_the_order_of_the_talk_with_the_steps_of_their_lists(tmp_path):
    def paragraph(words, more=""):
        return f"<a:p>{more}<a:r><a:t>{words}</a:t></a:r></a:p>"

    def slide(*paragraphs, table=""):
        return f"<p:sld {SLIDE}><p:sp><p:txBody>{''.join(paragraphs)}</p:txBody></p:sp>{table}</p:sld>"

    number = '<a:pPr><a:buAutoNum type="arabicPeriod"/></a:pPr>'
    cells = ["А", "", "В</a:t></a:r></a:p><a:p><a:r><a:t>В2"]
    table = "".join(f"<a:tc>{paragraph(words)}</a:tc>" for words in cells)
    data = archive([
        ("ppt/presentation.xml", '<p><p:sldId id="1" r:id="r2"/><p:sldId id="2" r:id="r1"/></p>'),
        ("ppt/_rels/presentation.xml.rels", '<Relationship Id="r1" Target="slides/slide1.xml"/><Relationship Id="r2" Target="slides/slide2.xml"/>'),
        ("ppt/slides/slide1.xml", slide(paragraph("раз", number), paragraph("в нём", '<a:pPr lvl="1"/>'), paragraph("два", number))),
        ("ppt/slides/slide2.xml", slide(paragraph("Начало"), table=f"<p:graphicFrame><a:tbl><a:tr>{table}</a:tr></a:tbl></p:graphicFrame>")),
    ])  # fmt: skip
    assert said(made(tmp_path, "a.pptx", data)) == ["Начало\n\nА |  | В В2\n\n1. раз\n  - в нём\n2. два"]


def test_a_text_of_libreoffice_keeps_raised_digits_and_lists_in_cells(tmp_path):
    style = '<style:style style:name="T" style:family="text"><style:text-properties style:text-position="super 58%"/></style:style>'
    cell = "<table:table-cell><text:list><text:list-item><text:p>в ячейке</text:p></text:list-item></text:list></table:table-cell>"
    table = f"<table:table><table:table-row>{cell}{cell}</table:table-row></table:table>"
    text = f'<text:p>10 м<text:span text:style-name="T">2</text:span></text:p>{table}'
    content = f'<office:document-content {OFFICE} xmlns:style="s">{style}<office:text>{text}</office:text></office:document-content>'
    data = archive([("mimetype", "application/vnd.oasis.opendocument.text"), ("content.xml", content)])
    assert said(made(tmp_path, "a.odt", data)) == ["10 м²\n\nв ячейке | в ячейке"]


def test_a_book_whose_package_file_has_single_quotes_is_read_whole(tmp_path):
    items = "".join(f"<item id='c{at}' href='{at}.xhtml'/>" for at in (1, 2))
    data = archive([
        ("META-INF/container.xml", "<rootfile full-path='a.opf'/>"),
        ("a.opf", f"<package>{items}<spine><itemref idref='c2'/><itemref idref=\"c1\"/></spine></package>"),
        *((f"{at}.xhtml", f"<html><body><p>Глава {at}</p></body></html>") for at in (1, 2)),
    ])  # fmt: skip
    assert said(made(tmp_path, "a.epub", data)) == ["Глава 2", "Глава 1"]


def claude(*turns):
    return [{"name": "", "chat_messages": [{"sender": sender, "text": ""} | fields for sender, fields in turns]}]


def test_files_that_were_read_and_artifacts_stay_in_a_dialogue_of_claude(tmp_path):
    artifact = {"type": "tool_use", "name": "artifacts", "input": {"type": "text/html", "content": "<p>"}}
    asked = {
        "content": [{"type": "text", "text": "q"}],
        "attachments": [{"file_name": "a", "extracted_content": "data"}],
    }
    older = '<antThinking>h</antThinking><antArtifact type="application/vnd.ant.code" language="python">\nx = 1\n</antArtifact> ok'
    chat = claude(
        ("human", asked | {"files": [{"file_name": "a"}]}),
        ("assistant", {"content": [{"type": "text", "text": "Вот:"}, artifact, {"type": "text", "text": "Готово."}]}),
        ("human", {"text": "q2"}),
        ("assistant", {"text": older}),
    )
    assert said(made(tmp_path, "a.json", json.dumps(chat))) == [
        [
            ("user", "q\n\ndata"), ("assistant", "Вот:\n\n```html\n<p>\n```\n\nГотово."),
            ("user", "q2"), ("assistant", "```python\nx = 1\n``` ok"),
        ]
    ]  # fmt: skip


def test_marks_of_sources_are_no_words_of_chatgpt():
    assert (
        assistant_exports.CITATION.sub("", "Да 【3†source】. Два:contentReference[oaicite:0]{index=0}!") == "Да. Два!"
    )


def test_a_message_that_is_waited_for_is_none(tmp_path):
    lines = [
        "31.12.2023, 23:58 - Аня: q",
        "31.12.2023, 23:59 - Боря: Ожидание сообщения. Это может занять некоторое время.",
        "31.12.2023, 23:59 - Боря: a",
    ]
    assert said(made(tmp_path, "a.txt", "\n".join(lines))) == [[("user", "q"), ("assistant", "a")]]


@pytest.mark.parametrize(
    ("row", "turns"),
    [
        ({"conversation": [{"system": "s", "input": "q", "output": "a"}]}, [("system", "s"), ("user", "q"), ("assistant", "a")]),
        ({"conversation": [{"human": "q", "assistant": "a"}]}, [("user", "q"), ("assistant", "a")]),
        ({"instruction": "q", "output": ["a", "worse"]}, [("user", "q"), ("assistant", "a")]),
        ({"question": "q", "choices": ["x", "a"], "answer": 1}, [("user", "q\n\nx\na"), ("assistant", "a")]),
        (
            {"message_tree_id": "1", "prompt": {"text": "q", "role": "prompter", "replies": [
                {"text": "b", "role": "assistant", "rank": 1}, {"text": "a", "role": "assistant", "rank": 0, "replies": []},
            ]}},
            [("user", "q"), ("assistant", "a")],
        ),
    ],
)  # fmt: skip
def test_other_forms_of_a_question_and_its_answer(tmp_path, row, turns):
    assert said(made(tmp_path, "a.jsonl", json.dumps(row) + "\n" + json.dumps(row))) == [turns, turns]


def test_json_with_comments_and_commas_too_many_is_read(tmp_path):
    data = '[\n{"text": "раз, // }", "n": [1, 2,],}, // да\n/* , */ {"text": "https://a.b/",},\n]\n'
    card = made(tmp_path, "a.json", data)
    assert (said(card), card["rows_set_aside"]) == (["раз, // }", "https://a.b/"], 0)


def test_older_macros_and_tags_of_roleplay_are_names_and_turns(tmp_path):
    chat = [
        {"user_name": "u", "character_name": "c"},
        {"name": "Иван", "is_user": True, "mes": "q"},
        {"name": "Ася", "is_user": False, "mes": "{{User}}, это <BOT>"},
    ]
    assert said(made(tmp_path, "a.jsonl", lines(chat))) == [[("user", "q"), ("assistant", "Иван, это Ася")]]
    settings = {"opmode": 4, "instruct_starttag": "\\n### Instruction:\\n", "instruct_endtag": "\\n### Response:\\n"}
    story = {"gamestarted": True, "prompt": "\n### Instruction:\nq\n### Response:\n", "actions": ["a"]}
    card = made(tmp_path, "b.json", json.dumps(story | {"savedsettings": settings}))
    assert said(card) == [[("user", "q"), ("assistant", "a")]]


def test_a_question_stays_with_the_reply_behind_an_empty_one(tmp_path):
    asked, empty, reply = (
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": "a"},
    )
    nothing = {"role": "user", "content": None}
    rows = [
        [asked, empty | {"tool_calls": []}, reply],
        [asked, empty, asked | {"content": "r"}, reply],
        [nothing, reply],
        [reply, asked, reply],
    ]
    card = made(tmp_path, "a.jsonl", lines([{"messages": turns} for turns in rows]))
    assert said(card) == [
        [("user", "q"), ("assistant", "a")],
        [("user", "r"), ("assistant", "a")],
        [("assistant", "a"), ("user", "q"), ("assistant", "a")],
    ]
    assert card["reasons"] == {"empty_question": 1}


def test_the_prompt_of_a_pair_may_be_its_context(tmp_path):
    sides = {"chosen": {"role": "assistant", "text": "a"}, "rejected": {"role": "assistant", "text": "b"}}
    card = made(tmp_path, "a.jsonl", lines([{"context": [{"role": "user", "text": "q"}]} | sides]))
    assert [row["messages"] for row in rows_of(card)] == [[{"role": "user", "content": "q"}]]
