"""Other inputs of the kinds that were once read wrongly: copies, personal data, refusals, formats."""

import random

import pytest

from core.corpus import checks, duplicates, mojibake, personal
from core.training import leakage
from tests.test_corpus_formats import made, said
from tests.test_corpus_importers import rows_of

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
        ("これはテストです。日本語の文章を書いています。", "shift_jis"),
    ],
)
def test_a_short_text_in_another_old_encoding_is_read(tmp_path, text, encoding):
    assert said(made(tmp_path, "a.txt", text.encode(encoding))) == [text]


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


def test_a_fictionbook_keeps_the_lines_of_code(tmp_path):
    code = "<p><code>def f(x):</code></p>\n<p><code>    return x</code></p>"
    book = f"<FictionBook><book-title>A &amp; B</book-title><body><section><p>Так:</p>{code}</section></body></FictionBook>"
    card = made(tmp_path, "a.fb2", book)
    assert rows_of(card) == [{"text": "Так:\n\n```\ndef f(x):\n    return x\n```", "fields": {"title": "A & B"}}]


def test_subtitles_lose_their_drawings_and_notes_their_front_matter_of_toml(tmp_path):
    spoken = [
        r"Dialogue: 0,0:00:01.00,0:00:02.00,S,,0,0,0,,{\pos(1,2)\p1}m 0 0 l 100 0{\p0}",
        r"Dialogue: 0,0:00:03.00,0:00:04.00,S,,0,0,0,,Да\h—{\i1}вот",
    ]
    assert said(made(tmp_path, "a.ass", "\n".join(["[Script Info]", "[Events]", *spoken]))) == ["Да —вот"]
    note = '+++\ntitle = "T"\ndraft = false\n+++\n# A\n\nwords\n'
    assert rows_of(made(tmp_path, "a.md", note)) == [{"text": "# A\n\nwords", "fields": {"title": "T"}}]
