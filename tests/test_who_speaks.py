"""Are voices told apart: the three tasks, a judge by marks, a judge that is a model, and judges that are wrong."""

import json
from pathlib import Path

import pytest

from core.synth import lemmas, recipes, who_speaks
from core.synth.who_speaks import Item, Said
from tests.endpoint_server import answer, serving

VOICES = json.loads((Path(__file__).parent / "meaning_rows.json").read_text(encoding="utf-8"))["voices"]
NOTES = [Said(voice, str(at), text) for voice, texts in VOICES.items() for at, text in enumerate(texts)]


@pytest.fixture
def serve(monkeypatch):
    yield from serving(monkeypatch)


def shares(said: list[Said], lang: str, judge) -> dict[str, float]:
    return {task: one["share"] for task, one in who_speaks.measure(said, lang, judge)["tasks"].items()}


def test_the_voices_of_the_notes_are_told_apart_in_each_task():
    measured = who_speaks.measure(NOTES, "ru", who_speaks.by_marks("ru"))
    assert {task: one["of"] for task, one in measured["tasks"].items()} == {"card": 24, "badge": 24, "pair": 48}
    assert all(one["share"] >= one["wanted"] for one in measured["tasks"].values())


@pytest.mark.parametrize("lang", ["ru", "en"])
def test_the_voices_that_need_no_model_are_told_apart(lang):
    said, found = who_speaks.read(f"archetypes-{lang}", "ru", 250)
    assert (found, {one.voice for one in said}) == (lang, set(who_speaks.cards(lang)))
    measured = who_speaks.measure(said, lang, who_speaks.by_marks(lang))
    assert all(one["share"] >= one["wanted"] for one in measured["tasks"].values())


def test_replies_under_others_names_are_not():
    moved = [Said(NOTES[at - 2].voice, one.question, one.text) for at, one in enumerate(NOTES)]
    assert shares(moved, "ru", who_speaks.by_marks("ru"))["card"] < 0.5
    same = [Said(one.voice, one.question, "Нужно узнать дату и взять разбор работы.") for one in NOTES]
    assert shares(same, "ru", who_speaks.by_marks("ru"))["card"] < 0.5


def test_a_judge_that_reads_badges_is_found_out():
    known = who_speaks.cards("ru")

    def follows(item: Item) -> str:
        if item.task == "pair":
            return "no"
        said = {id: sum(lemmas.counted(item.texts[0], known[id]["plus"], "ru").values()) for id in item.options}
        return max(said, key=said.get)

    assert shares(NOTES, "ru", follows)["badge"] == 0


def test_an_item_hides_the_words_of_its_cards_and_offers_the_one_that_is_alike():
    made = who_speaks.items(NOTES, "ru", seed=3)
    known = who_speaks.cards("ru")
    for item in made:
        if item.task == "card":
            words = [word for id in item.options for word in known[id]["plus"]]
            assert set(lemmas.counted(item.texts[0], words, "ru").values()) == {0}
            assert (len(set(item.options)), item.answer in item.options) == (4, True)
            assert all(set(pair) <= set(item.options) for pair in who_speaks.ALIKE if item.answer in pair)
    assert made == who_speaks.items(NOTES, "ru", seed=3)


def test_a_model_is_asked_and_its_mistakes_are_counted(serve, tmp_path, capsys):
    wrong = json.dumps({"answer": "mocker"})

    def script(_, body):
        asked = body["messages"][-1]["content"]
        return 200, {}, answer(json.dumps({"answer": "Yes"}) if "Один ли человек" in asked else wrong)

    server, file = serve(script), tmp_path / "replies.json"
    file.write_text(json.dumps(VOICES, ensure_ascii=False), encoding="utf-8")
    asked = [str(file), "--endpoint", server.url, "--endpoint-model", "m", "--json"]
    assert who_speaks.main(asked) == 0
    measured = json.loads(capsys.readouterr().out)
    assert (measured["judge"], measured["lang"], measured["replies"], measured["unreadable"]) == ("m", "ru", 24, 0)
    assert measured["tasks"]["pair"]["share"] == 0.5
    assert measured["taken_for"]["weigher"] == {"mocker": 2}
    assert measured["tasks"]["card"]["right"] == 2
    first = server.asked[0]["messages"][-1]["content"]
    assert "Сначала видит: " in first
    assert "Итого" not in first


def test_a_corpus_of_chats_names_its_voices(tmp_path):
    rows = [
        {
            "messages": [
                {"role": "system", "content": "Голос: сторож."},
                {"role": "user", "content": "Как?"},
                {"role": "assistant", "content": "Обойдём."},
            ]
        },
        {
            "messages": [{"role": "user", "content": "Как?"}, {"role": "assistant", "content": "Считаем."}],
            "recipe": {"part": "weigher"},
        },
        {
            "messages": [{"role": "user", "content": "Как?"}, {"role": "assistant", "content": "Так."}],
            "recipe": {"part": "plain"},
        },
        {"text": "Сторож спит."},
    ]
    assert who_speaks.of_rows(rows, "ru") == [Said("watchman", "Как?", "Обойдём."), Said("weigher", "Как?", "Считаем.")]


def test_what_names_no_voice_is_refused_in_words(capsys):
    assert who_speaks.main(["style-ru"]) == 1
    assert '"style-ru" has no replies whose voice is known' in capsys.readouterr().err


def test_each_voice_has_marks_and_they_are_no_words_of_its_card():
    for lang in ("ru", "en"):
        marks, known = who_speaks._marks(lang), who_speaks.cards(lang)
        assert marks.keys() == known.keys() == recipes.load(f"voices-{lang}").values["cards"]["voices"].keys()
        assert all(len(some) >= 9 for some in marks.values())
