"""Encodings, repair of wrongly decoded text, copies, checks, gauges, the report and the cleaned corpus."""

import json
import random

import pytest

from core.corpus import (
    checks,
    cleaning,
    corpus,
    diversity_metrics,
    duplicates,
    mojibake,
    personal,
    preview,
    report,
    tokens,
)
from core.models import tokenizer
from core.training import corpus_rows
from tests import test_corpus_formats as samples
from tests import tiny_tokenizers

POEM = [
    "Кузнец раздувает горн и ждёт, пока железо не станет алым, как закат над рекой.",
    "Потом он берёт молот и бьёт ровно, не спеша, прислушиваясь к звону наковальни.",
    "Искры летят во все стороны, но он не щурится: за сорок лет привык к огню.",
    "— Хорошая вещь не терпит суеты, — говорит он ученику и смеётся в усы.",
]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1251", "koi8-r", "cp866", "mac-cyrillic"]
)
@pytest.mark.parametrize("count", [1, 4])
def test_russian_text_is_read_in_every_encoding(tmp_path, encoding, count):
    text = "\n".join(POEM[:count])
    card = samples.made(tmp_path, "poem.txt", text.replace("—", "-").encode(encoding))
    assert samples.said(card) == [text.replace("—", "-")]
    assert list(card["encodings"]) == [encoding]
    assert card["repairs"] == {}


def test_a_table_of_numbers_is_no_text_in_utf16(tmp_path):
    # The index of a file of fortunes: big-endian numbers, whose upper halves are mostly zero.
    counts, starts = (2, 7, 185, 87, 0, 0x25000000), (0, 112, 201, 343, 530, 638, 804, 893)
    numbers = b"".join(number.to_bytes(4, "big") for number in (*counts, *starts))
    text = tmp_path / "a.txt"
    text.write_text(POEM[0], "utf-8")
    (tmp_path / "a.dat").write_bytes(numbers)
    card = corpus.create([tmp_path / "a.dat", text], "a")
    assert (samples.said(card), card["reasons"]) == ([POEM[0]], {"unknown_format": 1})


def test_short_lines_of_old_windows_files_are_not_taken_for_macintosh(tmp_path):
    # https://github.com/chardet/chardet/issues/132
    data = "товар;цена\nГвозди;120 руб.\nМолоток;450 руб.\nПИЛА;1 200 руб.\n"
    card = samples.made(tmp_path, "price.csv", data.encode("cp1251"), mapping={"schema": "text", "text": "товар"})
    assert samples.said(card) == ["Гвозди", "Молоток", "ПИЛА"]


def test_an_ansi_file_with_utf8_lines_is_read_line_by_line(tmp_path):
    good, old = [f'{{"text": "{line}"}}\n' for line in POEM[:3]], f'{{"text": "{POEM[0]}"}}\n'.encode("cp1251")
    data = "".join(good).encode() + old + b'{"text": "\xff\xfe\xfa"}\n'
    card = samples.made(tmp_path, "a.jsonl", data)
    assert samples.said(card) == [*POEM[:3], POEM[0]]
    assert (card["reasons"], card["repairs"]) == ({"bad_bytes": 1}, {"line in cp1251": 1})


@pytest.mark.parametrize("pair", mojibake.WRONG_DECODINGS, ids="-".join)
def test_wrongly_decoded_lines_are_repaired(pair):
    taken_for, really = pair
    for line in POEM[:3]:
        spoilt = "".join(mojibake._char(byte, taken_for) for byte in line.encode(really))
        assert mojibake.Repairer().line(spoilt) == line


GOOD = [
    *POEM, "Größe und Maß für äöüß, naïve façade — œuvre “été”…", "ÄÖÜ ÉÈÊ «ÀÇ» Î", "Καλημέρα κόσμε, τι κάνεις;",
    "УВАЖАЕМЫЕ ПАССАЖИРЫ! СССР, РСФСР, КПСС", "Доброго ранку, як справи? Їжак, ґанок", "中文文本,你好世界", "5 °C ± 2 µm ≠ ∞",
    "Ça va? Où êtes-vous? — Là-bas…", "Příliš žluťoučký kůň úpěl ďábelské ódy", "Pchnąć w tę łódź jeża", "İstanbul'da çok şey",
    "Đẹp quá! Tiếng Việt có dấu", "ЁЖИК В ТУМАНЕ", "Ó", "é", "ООО «РСТ», ИНН, КПП, ОГРН", "αβγ → δ ∑ ∏ ∂", "Привет 🙂 🍸",
    "日本語のテキスト", "한국어 텍스트", "שלום עולם", "مرحبا بالعالم", "Ўзбек тили, қазақ тілі, српски језик", "№1 ₽ €",
]  # fmt: skip


@pytest.mark.parametrize("line", GOOD)
def test_good_text_in_any_language_is_left_alone(line):
    assert mojibake.Repairer().line(line) is line


def test_an_emoji_alone_is_read_as_its_file_is():
    def spoil(text):
        return "".join(mojibake._char(byte, "mac_roman") for byte in text.encode())

    text = "\n".join([POEM[0], "✅ ok — 🧠", "plain ascii"])
    assert mojibake.Repairer().text(spoil(text)) == (text, 2)


def test_copies_are_found_and_short_texts_are_not_copies_of_each_other():
    texts = [
        "да", "нет", "ок", "ага", POEM[0], POEM[0], POEM[0].upper().replace("Ё", "Е"), f"{POEM[0]} ",
        POEM[1] + " " + POEM[2], POEM[1] + " " + POEM[2].replace("сорок лет", "сорок зим"), "...", "!!!", "", "",
    ]  # fmt: skip
    found = duplicates.find(texts)
    assert found.first.tolist() == [0, 1, 2, 3, 4, 4, 4, 4, 8, 8, 10, 11, 12, 12]
    assert [duplicates.KINDS[kind] for kind in found.kind] == [
        "", "", "", "", "", "exact", "normalised", "normalised", "", "near", "", "", "", "exact",
    ]  # fmt: skip
    assert (found.counts(), found.clusters()) == ({"exact": 2, "normalised": 2, "near": 1}, 3)
    assert 0.7 <= found.similarity[9] < 1


def test_near_copies_are_the_same_however_many_rows_are_looked_at_once(monkeypatch):
    """A chain of texts that each differ a little from the one before, and others, in every order of batches."""
    words = [f"word{number}" for number in range(90)]
    texts = [" ".join(words[at : at + 60]) for at in range(30)]
    texts = [*texts[::2], "quite another thing", *texts[1::2], texts[4].upper(), texts[7], ""]
    whole = duplicates.find(texts)
    assert whole.counts()["near"] > 20
    monkeypatch.setattr(duplicates, "PAIRS", 3)
    monkeypatch.setattr(duplicates, "BATCH_CHARACTERS", 1000)
    parts = duplicates.find(texts)
    for name in ("first", "kind", "similarity"):
        assert getattr(parts, name).tolist() == getattr(whole, name).tolist()
    marks = duplicates.signatures(duplicates.text_normalization.many(texts))
    real = [(marks[at] == marks[first]).mean() if first != at else 1 for at, first in enumerate(whole.first)]
    assert whole.similarity.tolist() == pytest.approx(real)


def test_a_row_that_begins_with_one_endless_word_is_like_no_other():
    other = " ".join(f"word{number}" for number in range(80))
    found = duplicates.find(["x" * duplicates.MOST_CHARACTERS + " a" * 60, other])
    assert found.counts() == {"exact": 0, "normalised": 0, "near": 0}


def test_long_texts_are_compared_by_words():
    rng = random.Random(3)
    words = [f"слово{number}" for number in range(400)]
    one = rng.choices(words, k=300)
    other = [*one[:150], "вставка", *one[150:]]
    apart = rng.choices(words, k=300)
    assert duplicates.find([" ".join(text) for text in (one, apart, other)]).first.tolist() == [0, 1, 0]
    assert duplicates.find([]).counts() == {"exact": 0, "normalised": 0, "near": 0}


def changed(seed: int, words: int) -> tuple[str, str, float]:
    """A text of 300 words, the same with so many of them replaced, and the Jaccard similarity of their shingles."""
    draw = random.Random(seed)
    one = draw.choices([f"word{number}" for number in range(400)], k=300)
    other = list(one)
    for at in range(words):
        other[(at + 1) * 300 // (words + 1)] = f"other{at}"
    first, second = ({tuple(said[at : at + 5]) for at in range(296)} for said in (one, other))
    return " ".join(one), " ".join(other), len(first & second) / len(first | second)


def test_near_copies_share_seven_shingles_of_five_words_in_ten():
    pairs = [(seed, words) for words in (7, 8, 12) for seed in range(8)]
    near = {}
    for seed, words in pairs:
        one, other, similarity = changed(seed, words)
        found = duplicates.find([one, other])
        near[seed, words] = found.kind[1] > 0
        if found.kind[1]:
            assert found.similarity[1] == pytest.approx(similarity, abs=0.1)
    assert sum(near[seed, words] for seed, words in pairs if words < 12) >= 14  # 0.76 and 0.79: nearly all of sixteen
    assert sum(near[seed, words] for seed, words in pairs if words == 12) <= 2  # 0.66: chance finds one or two


def test_exact_copies_are_counted_to_the_letter():
    assert duplicates.find(["a", "b", "a", "A", "a"], near=False).kind.tolist() == [0, 0, 1, 2, 1]


def test_chats_are_compared_by_all_that_is_said():
    rows = [{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": said}]} for said in "ab"]
    assert duplicates.text_of(rows[0]) == "hi\na"
    assert duplicates.find(map(duplicates.text_of, rows)).first.tolist() == [0, 1]


def test_personal_data_is_found_by_its_checksum_and_replaced():
    text = (
        "Пиши на ivan@example.com или ivan@example.com, звони +7 (912) 345-67-89. Карта 4111 1111 1111 1111, "
        "СНИЛС 112-233-445 95, ИНН 7707083893, ключ hf_abcdefghijklmnopqrstuvwx."
    )
    said, counts = personal.replaced(text)
    assert said == (
        "Пиши на [EMAIL_1] или [EMAIL_1], звони [PHONE_1]. Карта [CARD_1], СНИЛС [SNILS_1], ИНН [INN_1], ключ [KEY_1]."
    )
    assert dict(counts) == {"email": 2, "phone": 1, "card": 1, "snils": 1, "inn": 1, "key": 1}
    wrong = "Заказ 7707083893. Карта 4111 1111 1111 1112, СНИЛС 112-233-445 96, ИНН 7707083894, дом 12, 192.168.0.1"
    assert personal.find(wrong) == []


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": POEM[0]}, ("ru", [])),
        ({"text": "Это хорошо, 但是 не очень."}, ("ru", ["cjk"])),
        ({"text": "<think>так</think>Да"}, ("ru", ["think"])),
        ({"text": "Как языковая модель, я не могу."}, ("ru", ["refusal"])),
        ({"text": "The end of it<|im_end|>"}, ("en", ["special"])),
        ({"text": "врeменные трудности"}, ("ru", ["mixed"])),
        ({"text": "IKEA и USB-кабель, v2_тест"}, ("mixed", [])),
        ({"text": "Їжак і ґанок"}, ("uk", [])),
        ({"text": "Ўсё добра"}, ("be", [])),
        ({"text": "12 345"}, ("none", [])),
        ({"text": "你好世界"}, ("zh", [])),
        ({"messages": [{"role": "user", "content": "As an AI?"}, {"role": "assistant", "content": "Нет."}]}, None),
    ],
)
def test_a_row_is_checked(row, expected):
    found = checks.check(row)
    assert (found["lang"], found["flags"]) == (expected or (found["lang"], []))


def test_latin_letters_in_cyrillic_words_are_put_right():
    # https://github.com/UniversalDependencies/UD_Russian-SynTagRus/issues/1
    assert (
        checks.without_lookalikes("врeменные песcимисты, IKEA, USB-кабель") == "временные пессимисты, IKEA, USB-кабель"
    )


def template_corpus(count):
    rng = random.Random(1)
    words = [f"слово{number}" for number in range(90)]
    form = "Сегодня {} мастер взял {} молот и сказал: {} день настал, пора ковать {} меч для {} князя."
    return [form.format(*rng.choices(words, k=5)) for _ in range(count)]


def test_a_template_corpus_comes_out_red():
    found = diversity_metrics.measure(template_corpus(400))
    lights = {name: one["light"] for name, one in found["gauges"].items()}
    assert found["verdict"] == "red"
    assert {name for name, colour in lights.items() if colour == "red"} >= {
        "shared_4grams",
        "vendi",
        "self_bleu",
        "distinct_3",
    }


def test_natural_text_comes_out_green():
    path = next(sample["path"] for sample in corpus.samples() if sample["id"] == "kuznets-ru")
    with path.open(encoding="utf-8") as lines:
        texts = [json.loads(line)["messages"][0]["content"] for line in lines]  # what people asked, in their own words
    found = diversity_metrics.measure(texts)
    assert {name: one["light"] for name, one in found["gauges"].items()} == dict.fromkeys(
        diversity_metrics.LIMITS, "green"
    )


def test_long_texts_share_phrases_and_are_no_template():
    rng = random.Random(2)
    words = [f"слово{number}" for number in range(1000)]
    often = [1 / (rank + 2) for rank in range(1000)]  # as in a language: few words are common, most are rare
    texts = [" ".join(rng.choices(words, often, k=400)) for _ in range(300)]
    found = diversity_metrics.measure(texts)
    assert diversity_metrics.shared([text.split() for text in texts], 4) > 0.7
    assert (found["gauges"]["shared_4grams"]["light"], found["gauges"]["distinct_3"]["light"]) == ("green", "green")


def test_english_is_held_beside_natural_english():
    path = next(sample["path"] for sample in corpus.samples() if sample["id"] == "lighthouse-en")
    with path.open(encoding="utf-8") as lines:
        texts = [json.loads(line)["messages"][0]["content"] for line in lines]
    found = diversity_metrics.measure(texts)
    assert (
        found["lang"],
        diversity_metrics.natural("en")["compression"] < diversity_metrics.natural("ru")["compression"],
    ) == ("en", True)
    assert diversity_metrics.light("compression", 3.9, "ru") == "green"
    assert diversity_metrics.light("compression", 3.9, "en") == "amber"


def test_one_canned_opening_and_copies_are_seen():
    canned = [f"Конечно, вот ответ! {POEM[at % 4]} {at}" for at in range(100)]
    found = diversity_metrics.measure(canned)["gauges"]
    assert (found["commonest_opening"]["value"], found["commonest_opening"]["example"]) == (1.0, "конечно вот ответ")
    assert diversity_metrics.measure(["да"] * 10)["verdict"] == "none"
    assert diversity_metrics.measure([])["gauges"] == {}


@pytest.fixture
def checked(tmp_path):
    """A corpus with copies and personal data, and its report."""
    rows = [{"text": text} for text in [*POEM, POEM[0], POEM[1] + "!", "Пиши на a@b.ru", "Да<|im_end|>нет", "врeменно"]]
    rows.append({"messages": samples.messages([("system", "s"), *samples.TURNS[0]])})
    card = samples.made(tmp_path, "a.jsonl", samples.lines(rows))
    light = tokenizer.load(tiny_tokenizers.build(tmp_path / "model", "mistral-v0.1"))
    return card, report.make(corpus.directory(card["id"]), tokenizer=light, max_length=40)


def test_a_report_counts_copies_checks_and_tokens(checked):
    card, found = checked
    assert found["copies"] == {"exact": 1, "normalised": 1, "near": 0, "clusters": 2}
    assert {name: count for name, count in found["flags"].items() if count} == {"personal": 1, "special": 1, "mixed": 1}
    assert found["personal"] == {"email": 1}
    assert (found["tokens"]["rows"], found["tokens"]["wrong"]["template_refused"]) == (10, 1)
    assert found["tokens"]["wrong"]["loses_end"] >= 4
    assert sum(count for _, _, count in found["tokens"]["histogram"]) == 9
    assert found["pairs"][0]["texts"] == [POEM[1], POEM[1] + "!"]
    assert corpus.card(card["id"]) == card


def test_a_cleaned_corpus_names_its_parent_and_keeps_clusters_together(checked):
    card, _ = checked
    directory = corpus.directory(card["id"])
    rules = cleaning.Rules(
        leave_out=("exact",), replace_personal=True, fix_lookalikes=True, remove_special=True, fold_system=True
    )
    assert cleaning.kept(directory, rules) == {"kept": 9, "exact": 1}
    clean = cleaning.clean(directory, "чистый", rules)
    assert (clean["parent"], clean["rows"], clean["left_out"]) == (card["id"], 9, {"exact": 1})
    rows = corpus.rows(clean["id"])
    assert samples.said(clean)[4:] == [
        POEM[1] + "!", "Пиши на [EMAIL_1]", "Данет", "временно",
        [("user", "s\n\nКак дела?"), samples.TURNS[0][1]],
    ]  # fmt: skip
    assert rows[1]["cluster"] == rows[4]["cluster"]
    for share in (0.1, 0.2, 0.3, 0.5):
        parts = corpus_rows.split(rows, share)
        clusters = [{row["cluster"] for row in part if "cluster" in row} for part in parts]
        assert not clusters[0] & clusters[1]


def test_a_copy_stays_where_the_first_goes_for_a_reason_of_its_own(tmp_path):
    signed = POEM[0] + " Пиши на a@b.ru"
    texts = [signed, POEM[0] + " Пиши на почту", signed, POEM[1], POEM[1]]
    card = samples.made(tmp_path, "a.jsonl", samples.lines([{"text": text} for text in texts]))
    directory = corpus.directory(card["id"])
    assert report.make(directory)["copies"] == {"exact": 2, "normalised": 0, "near": 1, "clusters": 2}
    rules = cleaning.Rules(leave_out=("exact", "normalised", "near", "personal"))
    assert cleaning.kept(directory, rules) == {"kept": 2, "personal": 1, "exact": 2}
    assert samples.said(cleaning.clean(directory, "чистый", rules)) == [texts[1], POEM[1]]


def test_long_texts_are_split_and_nothing_is_lost(tmp_path):
    text = " ".join(POEM * 30)
    card = samples.made(tmp_path, "a.jsonl", samples.lines([{"text": text}, {"text": "да"}]))
    clean = cleaning.clean(corpus.directory(card["id"]), "куски", cleaning.Rules(split_texts=500))
    pieces = samples.said(clean)[:-1]
    assert (" ".join(pieces), max(map(len, pieces)) <= 500) == (text, True)
    assert len({row["cluster"] for row in corpus.rows(clean["id"])[:-1]}) == 1


def test_a_difference_shows_what_was_changed():
    assert cleaning.difference("раз два три", "раз три четыре") == [
        ("=", "раз"),
        ("-", "два"),
        ("=", "три"),
        ("+", "четыре"),
    ]


def test_totals_of_a_sample_are_scaled_and_long_runs_end(tmp_path):
    light = tokenizer.load(tiny_tokenizers.build(tmp_path / "model", "chatml"))
    found = tokens.measure([{"text": "Привет"}, {"text": "а" * 300_000}], 20, light, max_length=10_000)
    assert (found["estimated"], found["rows"], found["wrong"]["measured_in_part"]) == (True, 20, 10)
    assert tokens.measure([], 0, light, max_length=9)["tokens"] == 0
    assert preview.specials_in({"text": "x<|im_end|>"}, light) == ["<|im_end|>"]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("de", "Das ist ein einfacher deutscher Satz über das Wetter von heute."),
        ("fr", "Le chat est sur la table et il dort depuis ce matin."),
        ("bg", "Това е едно съвсем обикновено изречение на български език за времето навън."),
        ("kk", "Бұл қазақ тіліндегі қарапайым сөйлем."),
        ("uk", "Це звичайне речення про погоду, її сьогодні хвалять."),
        ("ru", "Мама мала раму, папа пил чай; на столе стоят чашка и ложка, за окном идёт снег."),
        ("ru", "Да"),
        ("ja", "こんにちは、今日はいい天気ですね"),
        ("ko", "안녕하세요 오늘 날씨가 좋네요"),
        ("latin", "Hm, na"),
        ("mixed", "print(слово) или word и слово word"),
        ("none", "1 + 2 = 3"),
    ],
)
def test_the_language_of_a_text_is_told_or_left_open(code, text):
    from core.corpus import languages

    assert languages.of(text) == code
