"""The Corpus tab without a browser: its handlers give what the page shows."""

import json

import gradio as gr
import pytest

from core.corpus import corpus
from tests import tiny_tokenizers
from tests.test_corpus_formats import lines, made, messages
from ui import corpora, corpora_files, corpora_new, corpora_quality
from ui.text import Say

SAY = Say("ru")


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_the_tab_is_built_in_both_languages(lang):
    with gr.Blocks(), gr.Tab("x"):
        given = corpora.build(Say(lang))
    assert isinstance(given["corpora"], gr.Dropdown)
    assert isinstance(given["changed"], gr.State)
    listing, step = given["load"](None)
    assert (listing["choices"], step) == ([], "")


def last(steps):
    *_, final = steps
    return final


def last_of(handler, *values):
    return last(handler(*values))


@pytest.mark.slow
def test_a_sample_is_taken_looked_through_and_deleted():
    first, *_ = corpora.on_take(SAY, "kuznets-ru")
    assert first[0]["selected"] == corpora.CHECK  # where the progress is
    step, listing, changed, progress, cancel = last(corpora.on_take(SAY, "kuznets-ru"))
    (card,) = corpus.listed()
    shown = (step["selected"], listing["value"], progress, cancel["visible"], changed > 0)
    assert shown == (corpora.READ, card["id"], "", False, True)
    about, inside, folded, aside, _, pager, _, page, table, pages, row, *_ = corpora.on_choose(SAY, card["id"])
    assert f"Прочитано записей: {card['rows']} = сохранено {card['rows']} + отложено 0." in about
    assert (inside["visible"], folded["visible"], aside, pager["visible"]) == (True, False, "", False)
    assert (page, row) == (1, (card["id"], 0))
    assert ([cells[0] for cells in table], pages) == ([str(at) for at in range(1, 51)], "из 4")
    table, _ = corpora.on_page(SAY, card["id"], 4, "")
    assert len(table) == card["rows"] - 150
    asking, question, asked = corpora.on_delete(SAY, card["id"])
    assert (asking["visible"], "Удалить «Кузнец" in question, asked) == (True, True, card["id"])
    assert corpus.listed() != []
    listing, _, _ = corpora.on_delete_yes(SAY, card["id"])
    assert (corpus.listed(), listing["value"]) == ([], None)
    assert "Корпусов пока нет" in corpora.on_choose(SAY, card["id"])[0]


@pytest.mark.parametrize("length", [corpora.EXCERPT, corpora.EXCERPT + 1, 9999])
def test_what_the_table_leaves_out_of_a_row_is_marked(tmp_path, length):
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"text": "ж" * length}) + "\n", encoding="utf-8")
    ((_, _, characters, said),), _ = corpora.on_page(SAY, corpus.create([file], "a")["id"], 1, "")
    whole = length == corpora.EXCERPT
    assert (characters, said) == (SAY.number(length, 9), "ж" * (corpora.EXCERPT - (not whole)) + "…" * (not whole))


def test_trouble_of_an_import_is_told_in_the_persons_language(tmp_path):
    empty = tmp_path / "пусто.txt"
    empty.write_bytes(b"")
    settings = ([], "auto", None, None, "auto", "", True, True, False, [], "", "", "", "")
    step, _, _, said, cancel = last(corpora.on_create(SAY, [str(empty)], None, [], "", *settings))
    assert said == (
        '<div class="trouble" role="alert">В пусто.txt не нашлось ни текстов, ни переписок: пустой файл. '
        "Выберите другие файлы или укажите столбцы.</div>"
    )
    assert (step["selected"], cancel["visible"]) == (corpora.CHECK, False)
    with pytest.raises(gr.Error, match="Не выбран ни один файл"):
        last(corpora.on_create(SAY, None, None, [], "", *settings))
    with pytest.raises(gr.Error, match="Не выбран ни один файл"):
        corpora_new.on_read(SAY, None, None)


@pytest.mark.slow
def test_a_double_click_makes_one_corpus_and_says_so(tmp_path, monkeypatch):
    file = tmp_path / "a.txt"
    file.write_text("Слова о разном.", "utf-8")
    settings = ([], "auto", None, None, "auto", "", True, True, False, [], "", "", "", "")
    told = []
    monkeypatch.setattr(corpora, "inform", told.append)
    ids = [last(corpora.on_create(SAY, [str(file)], None, [], "", *settings))[1]["value"] for _ in range(2)]
    assert (ids, [card["id"] for card in corpus.listed()]) == (["a", "a"], ["a"])
    assert [sentence.partition(" (")[0] for sentence in told] == [
        "Корпус «a» готов, строк: 1.", "Такой корпус «a» с теми же строками",
    ]  # fmt: skip
    assert corpus.create([file], "другой")["id"] == "другой"
    file.write_text("Другие слова.", "utf-8")
    assert corpus.create([file], "a")["id"] == "a-2"


def test_what_was_set_aside_is_paged_through_to_its_end(tmp_path):
    card = made(tmp_path, "a.jsonl", lines([{"text": "да"}]) + '{"text": "обрыв\n' * 112)
    _, _, folded, table, start, pager, place, *_ = corpora.on_choose(SAY, card["id"])
    assert (folded["label"], pager["visible"], start, place) == ("Отложено: 112", True, 0, "1–50 из 112")
    assert table.count("<tr>") == 51
    _, start, _, place = corpora.on_aside(SAY, 50, card["id"], 50)
    assert (start, place) == (100, "101–112 из 112")
    table, start, *_ = corpora.on_aside(SAY, 50, card["id"], 100)
    assert (start, table.count("<tr>")) == (100, 13)
    assert corpora.on_aside(SAY, -50, card["id"], 0)[1] == 0
    assert "·PNG····" in corpora.on_choose(SAY, _picture(tmp_path)["id"])[3]


def _picture(folder):
    """A corpus beside whose text a picture was set aside."""
    (folder / "в").mkdir()
    (folder / "в" / "a.txt").write_text("Слова.", "utf-8")
    (folder / "в" / "b.txt").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(300))
    return corpus.create([folder / "в"], "в")


def test_lists_say_how_much_they_do_not_show(tmp_path):
    for number in range(25):
        (tmp_path / f"{number:02}.txt").write_text(f"Слова {number}.", "utf-8")
    seen = last_of(corpora_new.on_files, SAY, [str(path) for path in sorted(tmp_path.iterdir())], None)[2]
    assert "Показано: 10 из 20." in seen
    assert "Просмотрены не все файлы, а только первые: 20. Остальные прочтутся при создании корпуса." in seen
    assert "Просмотрено записей: 20; вышло строк: 20." in seen
    file = tmp_path / "b.jsonl"
    file.write_text(
        lines([{"messages": messages([("user", "q" * 300), ("assistant", "a")] * 3)}, {"text": ""}]), "utf-8"
    )
    seen = last_of(corpora_new.on_files, SAY, [str(file)], None)[2]
    assert ("q" * 200 + "…" in seen, "Показано: 4 из 6." in seen, "Отложено: пустой текст — 1." in seen) == (True,) * 3


def test_dropped_files_are_looked_into_and_their_mapping_is_asked(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text(lines([{"messages": messages([("Гость", "q"), ("Мастер", "a")])}]), "utf-8")
    step, seen, looked, mend, told, columns, *_ = shown = last_of(corpora_new.on_files, SAY, [str(file)], None)
    unknown, roles = shown[12], shown[13:-1]
    assert (step["selected"], mend["open"]) == (corpora_new.CHECK, True)
    assert (seen["visible"], told["visible"], columns, unknown) == (True, False, ["messages"], ["Гость", "Мастер"])
    assert "Ни одной строки" in looked
    assert [role["visible"] for role in roles] == [True, True, False, False]
    chosen = (["messages"], "auto", None, None, "auto", "", True, True, False, unknown, "user", "assistant", "", "")
    assert "<b>Ассистент:</b> a" in last_of(corpora_new.on_apply, SAY, [str(file)], None, [], *chosen)[0]
    card = last(corpora.on_create(SAY, [str(file)], None, [], "Гости", *chosen))[1]["value"]
    assert corpus.card(card)["rows"] == 1


@pytest.mark.slow
def test_what_was_chosen_is_chosen_again_for_files_of_the_same_shape(tmp_path):
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    row = {"вопрос клиента": "q", "реплика": "a", "чат": [{"role": "Гость", "content": "x"}]}
    first.write_text(lines([row]), "utf-8")
    second.write_text(lines([row] * 2), "utf-8")
    columns = list(row)
    chosen = (columns, "pair", columns[0], columns[1], "utf-8", "", True, True, False, ["Гость"], "user", "", "", "")
    card = last(corpora.on_create(SAY, [str(first)], None, [], "", *chosen))[1]["value"]
    assert [turn["content"] for turn in corpus.rows(card)[0]["messages"]] == ["q", "a"]
    _, _, looked, _, told, _, schema, ask, answer, encoding, *_ = last_of(
        corpora_new.on_files, SAY, [str(second)], None
    )
    assert told == gr.update(value=SAY("corpora.remembered"), visible=True)
    assert (schema, ask["value"], answer["value"], encoding) == ("pair", columns[0], columns[1], "utf-8")
    assert looked.count("<b>Ассистент:</b> a") == 2
    forgotten = (columns, "auto", None, None, "auto", "", True, True, False, [], "", "", "", "")
    corpora_new.remember(forgotten)
    assert last_of(corpora_new.on_files, SAY, [str(second)], None)[6] == "auto"


@pytest.mark.slow
def test_a_telegram_export_asks_who_one_is_and_replaces_personal_data(tmp_path):
    said = [("Аня", "u1", "Пиши на a@b.ru"), ("Боря", "u2", "Хорошо"), ("Аня", "u1", "Жду")]
    log = [
        {"type": "message", "from": name, "from_id": who, "date_unixtime": str(at), "text": text}
        for at, (name, who, text) in enumerate(said)
    ]
    file = tmp_path / "result.json"
    file.write_text(json.dumps({"name": "Аня", "type": "personal_chat", "messages": log}), "utf-8")
    shown = last_of(corpora_new.on_files, SAY, [str(file)], None)
    me, personal = shown[10], shown[11]
    assert me["choices"] == [("Автор выгрузки, а если он не указан — тот, кто написал больше всех", ""), "Аня", "Боря"]
    assert (me["visible"], personal, "Пиши на [EMAIL_1]" in shown[2]) == (True, True, True)
    for name, turns in (
        ("", [("user", "Пиши на [EMAIL_1]"), ("assistant", "Хорошо")]),
        ("Аня", [("assistant", "Пиши на [EMAIL_1]"), ("user", "Хорошо"), ("assistant", "Жду")]),
    ):
        chosen = (["messages"], "auto", None, None, "auto", name, True, True, True, [], "", "", "", "")
        card = last(corpora.on_create(SAY, [str(file)], None, [], "", *chosen))[1]["value"]
        assert corpus.rows(card)[0]["messages"] == messages(turns)
        assert corpus.card(card)["repairs"]["personal_replaced"] == 1
    assert last_of(corpora_new.on_files, SAY, [str(file)], None)[10]["value"] == "Аня"


@pytest.mark.slow
def test_a_folder_from_the_browser_keeps_the_names_of_its_folders(tmp_path):
    names = ["Vault/Дневник/a.md", "Vault/Книги/a.md", "Vault/.obsidian/app.json"]
    files = []
    for number, name in enumerate(names):
        path = tmp_path / str(number) / name.rpartition("/")[2]
        path.parent.mkdir()
        path.write_text(f"# Заметка {number}\n\nслова", "utf-8")
        files.append(str(path))
    told = corpora_files.names(json.dumps(names), files)
    assert told == names
    chosen = ([], "auto", None, None, "auto", "", True, True, False, [], "", "", "", "")
    card = corpus.card(last(corpora.on_create(SAY, None, files, told, "", *chosen))[1]["value"])
    assert (card["name"], card["rows_in"]) == ("Vault", 2)
    assert [one["file"] for one in card["sources"]] == ["Дневник/a.md", "Книги/a.md"]
    assert corpora_files.names(json.dumps(["../a.md"]), files[:1]) == []
    assert corpora_files.names("", files) == corpora_files.names("[1", files) == corpora_files.names("[]", files) == []


def test_a_row_is_shown_as_tokens_and_a_refusal_in_words(tmp_path):
    model = str(tiny_tokenizers.build(tmp_path / "model", "gemma"))
    rows = [
        {"messages": messages([*system, ("user", "<b>"), ("assistant", "да")])} for system in ([], [("system", "s")])
    ]
    card = made(tmp_path, "a.jsonl", lines(rows))
    full, tokens = corpora.on_row(SAY, (card["id"], 0), model, 64, "assistant")
    assert "&lt;b&gt;" in full
    assert '<span class="token special_learned' in tokens
    assert "Токенов:" in tokens
    _, tokens = corpora.on_row(SAY, (card["id"], 1), model, 64, "assistant")
    assert "Шаблон модели не принимает эту строку: System role not supported" in tokens
    assert corpora.on_row(SAY, None, model, 64, "all") == ("Выберите строку в таблице.",) * 2


@pytest.mark.slow
def test_a_corpus_is_checked_and_a_cleaned_one_made(tmp_path):
    card = made(tmp_path, "a.jsonl", lines([{"text": "да"}, {"text": "да"}, {"text": "Пиши на a@b.ru"}]))
    shown = last(corpora_quality.on_check(SAY, card["id"], None, 1024))
    assert "Текстов слишком мало" in shown[2]
    assert shown[6]["choices"] == [("точные копии — 1", "exact"), ("личные данные — 1", "personal")]
    assert shown[7] == "Останется строк: 2. Не войдут: точные копии — 1."
    listing, _ = corpora_quality.on_clean(SAY, card["id"], "Чистый", ["exact"], True, False, False, False, 0, 0)
    rows = corpus.rows(listing["value"])
    assert [row["text"] for row in rows] == ["да", "Пиши на [EMAIL_1]"]
    written = corpora_quality.on_export(SAY, listing["value"], "text")["value"]
    assert [path.rpartition(".")[2] for path in written] == ["txt", "md"]
    with pytest.raises(gr.Error, match="Строк, не подходящих для alpaca: 2"):
        corpora_quality.on_export(SAY, listing["value"], "alpaca")


def test_the_newest_corpus_is_shown_when_the_page_opens_unless_one_is_chosen():
    say = Say("en")
    assert "value" not in corpora.on_load(say, None)[0]
    first, second = (corpus.create([corpus.samples()[at]["path"]], f"c{at}")["id"] for at in (0, 1))
    listing, step = corpora.on_load(say, None)
    assert (listing["value"], step) == (second, str(corpora.READ))
    chosen, step = corpora.on_load(say, first)
    assert ("value" in chosen, step) == (False, "")
    assert {id for _, id in chosen["choices"]} == {first, second}
