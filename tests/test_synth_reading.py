"""Rows kept or rejected, recipes edited on the page, and a person's own texts: what comes of them."""

import json

import gradio as gr
import pytest

from core import events, paths
from core.corpus import corpus, importer, storage, turns
from core.errors import UserError
from core.synth import chain_templates, material, preview, prompts, recipes, synth_jobs, votes, worker
from tests.conftest import raises
from tests.endpoint_server import answer, serving
from ui import synth_form, synth_reading, synth_recipe
from ui.errors import Refused
from ui.text import Say

CHAIN = """
kind: chain
lang: en
steps:
  - name: line
    write: "Write a line about a harbour."
  - name: read
    judge: {of: [line], rubric: "Score: {{ line }}", scores: [good]}
rows: [{text: "{{ line }}"}]
"""


@pytest.fixture
def serve(monkeypatch):
    yield from serving(monkeypatch)


def test_fifty_rows_are_read_and_a_vote_can_be_taken_back():
    say = Say("ru")
    reading, shown, *_ = synth_reading.on_open(say, "fractals-ru", None)
    assert len(reading["rows"]) == synth_jobs.READ
    assert say("synth.reading.at", number=1, of=50, kept=0, rejected=0) in shown
    first, second = reading["rows"][:2]
    reading, *_ = synth_reading.on_vote(say, True, reading)
    reading, *_ = synth_reading.on_vote(say, False, reading)
    reading, shown, *_ = synth_reading.on_vote(say, True, reading)
    assert say("synth.reading.at", number=4, of=50, kept=2, rejected=1) in shown
    reading, shown, *_ = synth_reading.on_vote(say, None, reading)
    assert say("synth.reading.at", number=3, of=50, kept=1, rejected=1) in shown
    known = votes.known("fractals-ru")
    assert {name: one["kept"] for name, one in known.items()} == {
        votes.identity(first): True,
        votes.identity(second): False,
    }
    assert synth_reading.on_open(say, "fractals-ru", None)[0]["at"] == 2
    assert votes.examples("fractals-ru") == {"kept": [first["text"][:600]], "rejected": [second["text"][:600]]}


def test_votes_become_pairs_of_the_same_question_or_of_whole_rows():
    def chat(question: str, reply: str) -> dict:
        return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]}

    for row, kept in [
        (chat("Why?", "Because."), True), (chat("Why?", "No idea."), False),
        (chat("Where?", "There."), True), (chat("When?", "Never."), False),
    ]:  # fmt: skip
        votes.vote("archetypes-en", row, kept)
    card = votes.make_corpus("archetypes-en", "pairs")
    assert (card["kind"], card["rows"]) == ("preference", 2)
    rows = list(storage.all_rows(corpus.directory(card["id"])))
    said = [
        (row["messages"][-1]["content"][:4], row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows
    ]
    assert said == [("Why?", "Because.", "No idea."), ("One ", "Where?\n\nThere.", "When?\n\nNever.")]
    with raises("VotesOneSided", match="0 are kept and 0 rejected"):
        votes.make_corpus("resonance-en", "none")


def test_a_judge_is_shown_what_was_kept_and_rejected(serve, tmp_path):
    path = tmp_path / "harbour.yaml"
    path.write_text(CHAIN, encoding="utf-8")
    votes.vote(str(path), {"text": "The gull had its own key."}, True)
    votes.vote(str(path), {"text": "The sea is a mirror of the soul."}, False)
    words = [
        "harbour",
        "pepper",
        "meadow",
        "letter",
        "orchard",
        "violin",
        "copper",
        "winter",
        "gull",
        "tide",
        "storm",
        "coffee",
    ]

    def script(number, body):
        judging = "Score:" in body["messages"][-1]["content"]
        own = " ".join(words[(number * 5 + at * 7) % 12] for at in range(9))
        return 200, {}, answer('{"good": 9}' if judging else f"The {own} came home number {number}.")

    server = serve(script)
    directory = synth_jobs.create(
        {"recipe": str(path), "tokens": 1000, "seed": 1, "endpoint": server.url, "endpoint_model": "m"}
    )
    worker.run(directory)
    asked = [body["messages"][-1]["content"] for body in server.asked]
    judged = [text for text in asked if "Score:" in text]
    assert judged
    assert all("<kept>\nThe gull had its own key.\n</kept>" in text for text in judged)
    assert all("<rejected>\nThe sea is a mirror of the soul.\n</rejected>" in text for text in judged)
    assert not any("<kept>" in text for text in asked if "Score:" not in text)


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_a_recipe_is_checked_as_it_is_typed_and_saved_as_ones_own(lang):
    say = Say(lang)
    text, name, said, shown = synth_recipe.on_new(say)
    assert say("synth.text.reads") in said
    assert shown.count('class="synth-row"') == preview.FIRST
    broken, shown = synth_recipe.on_text(say, text.replace("{thing", "{thingy", 1), name)
    assert "thingy" in broken
    assert shown == gr.skip()
    update, _ = synth_recipe.on_save(say, text, name)
    path = paths.home() / "recipes" / f"{paths.slug(name)}.yaml"
    assert update["value"] == str(path)
    assert recipes.load(path).text == text
    assert (path.name, str(path)) in synth_recipe.choices(say)
    assert synth_recipe.on_recipe(say, str(path))[2:] == (text, path.stem)
    with pytest.raises(gr.Error):
        synth_recipe.on_save(say, "kind: poem", name)
    assert recipes.load(path).text == text


@pytest.mark.parametrize("name", [one["name"] for one in recipes.listed()])
def test_every_recipe_shows_five_rows_or_what_is_asked_before_anything_is_pressed(name):
    shown = preview.first(recipes.load(name))
    texts = [text for row in shown["rows"] for text in turns.texts(row)]
    assert 1 <= len(shown["rows"]) <= preview.FIRST
    assert all(text.strip() for text in texts)
    if shown["kind"] == "rows":
        assert len(shown["rows"]) == preview.FIRST
        assert not any("{" in text for text in texts)


@pytest.mark.parametrize(
    ("change", "russian"),
    [
        ("{of: [nobody], rubric: x, scores: [a]}", "«nobody» не создаёт ни один шаг до него"),
        ("{of: [line], scores: [a]}", "судье нужны rubric"),
        ("{of: [line], rubric: x, scores: [a], wish: 1}", "поля «wish» у судьи нет"),
        ("{of: [line], rubric: '{{ line', scores: [a]}", "шаблон не разобрать"),
        ("{of: [line], rubric: '{% include x %}', scores: [a]}", "include в рецептах нельзя"),
        ("text", "пары «имя: значение»"),
    ],
)
def test_what_is_wrong_with_a_chain_is_said_in_russian(change, russian):
    text = CHAIN.replace('{of: [line], rubric: "Score: {{ line }}", scores: [good]}', change)
    with pytest.raises(UserError) as found:
        recipes.from_text(text, "x.yaml")
    assert found.value.name in ("StepWrong", "StepNameUnknown")
    assert russian in Say("ru").trouble(found.value)
    assert "{" not in Say("en").trouble(found.value).replace("{{", "")


def test_an_error_within_an_error_is_translated_on_the_far_side_of_a_pipe():
    from core import errors

    inner = chain_templates.TemplateWrong("LoopsTooDeep", most=2)
    error = errors.named("StepWrong", file="x.yaml", step="a", verb="write", reason=inner)
    told = errors.from_dict(json.loads(json.dumps(errors.to_dict(error))))
    assert Say("ru").trouble(told) == Say("ru").trouble(error)
    assert "циклов внутри циклов больше 2" in Say("ru").trouble(told)


def test_yaml_is_complained_of_in_russian():
    with raises("RecipeUnreadable") as found:
        recipes.read("lang: en\nrules:\n  text: [a, b\n  c: d\n", "x.yaml")
    assert not set("abcdefghijklmnopqrstuvw") & set(Say("ru").trouble(found.value).split("YAML")[1])


TEXT = (
    "# Сад\n\nЯблоню посадил дед Игнат. "
    + "Она растёт у воды и не спешит. " * 120
    + "\n\n## Пруд\n\nПруд вырыл Лука. "
    + "ы" * 4000
)


def test_passages_hold_every_letter_and_end_where_sentences_do():
    found = material.passages(TEXT)
    assert "".join("".join(found).split()) == "".join(TEXT.split())
    assert max(map(len, found)) <= material.MOST + len("## Пруд\n\n")
    assert all(piece.rstrip()[-1] in ".ы" for piece in found)
    assert found[0].startswith("# Сад\n\nЯблоню")
    assert material.passages("short") == ["short"]
    assert material.passages("") == []


@pytest.fixture
def vault():
    """A corpus of two notes, with 2 and 3 passages."""
    notes = {
        "сад/Яблоня.md": "Яблоню посадил дед Игнат. " * 120,
        "сад/Пруд.md": "# Пруд\n\n" + "У пруда жил дед Игнат. " * 170,
    }
    rows = [{"text": text, "source": {"file": name, "line": 1}} for name, text in notes.items()]
    return importer.create_from_rows(rows, "vault", parent=None, note={})["id"]


def test_every_passage_of_a_corpus_is_a_seed_and_topics_can_be_pruned(vault):
    topics = material.topics(vault)
    assert topics == {"сад › Яблоня": 2, "сад › Пруд": 3}
    recipe = recipes.load("questions-ru")
    from core.synth import writers

    seeds = writers.seeds_of(recipe, {"corpus": vault})
    assert len(seeds) == 5
    assert len({seed["id"] for seed in seeds}) == 5
    pruned = writers.seeds_of(recipe, {"corpus": vault, "topics": ["сад › Пруд"]})
    assert {seed["topic"] for seed in pruned} == {"сад › Пруд"}
    assert material.names(seeds, "ru") == ["Игнат"]
    asked = [prompts.of_method(recipe, seeds, 1, number)["messages"][-1]["content"] for number in range(5)]
    assert all(any(seed["text"] in text for text in asked) for seed in seeds)
    update = synth_form.on_corpus(Say("ru"), vault)
    assert (update["value"], update["visible"]) == (list(topics), True)


def test_all_topics_ticked_are_every_passage_and_none_is_refused(vault, monkeypatch):
    say, topics = Say("ru"), list(material.topics(vault))
    assert synth_form.chosen_topics(say, vault, topics[:1]) == topics[:1]
    assert synth_form.chosen_topics(say, vault, topics) is None
    assert synth_form.chosen_topics(say, "", []) is None
    with pytest.raises(Refused, match="Не отмечена ни одна тема"):
        synth_form.chosen_topics(say, vault, [])
    monkeypatch.setattr(material, "MOST_TOPICS", 1)  # one is offered and ticked, and nobody unticked the other
    assert synth_form.chosen_topics(say, vault, synth_form.on_corpus(say, vault)["value"]) is None


def test_a_chain_with_material_writes_of_each_passage_once(serve, vault, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(
        "kind: chain\nlang: ru\nmaterial: true\nsteps:\n  - name: line\n"
        "    write: 'Скажи о {{ passage.topic }}, имена {{ names|join }}: {{ passage.text }}'\nrows: [{text: '{{ line }}'}]\n",
        encoding="utf-8",
    )
    words = [
        "паром",
        "хлеб",
        "чайка",
        "якорь",
        "труба",
        "колокол",
        "берег",
        "лодка",
        "фонарь",
        "канат",
        "пекарь",
        "парус",
    ]
    server = serve(
        lambda number, body: (200, {}, answer(" ".join(words[(number * 5 + at * 7) % 12] for at in range(9))))
    )
    request = {"recipe": str(path), "tokens": 1000, "seed": 1, "endpoint": server.url, "endpoint_model": "m"}
    with raises("SeedsMissing"):
        preview.preview(recipes.load(path), 1, request)
    made = preview.preview(recipes.load(path), 1, request | {"corpus": vault, "parallel": 1})
    assert made["rows"]
    asked = [body["messages"][-1]["content"] for body in server.asked if body["messages"][-1]["content"] != "."]
    assert len(set(asked)) == len(asked)
    assert all("имена Игнат:" in text for text in asked)


def test_natural_text_is_mixed_in_and_short_rows_come_first():
    words = [
        f"word{number} stone{number * 7 % 1000} gull{number * 13 % 997} rope{number * 29 % 991}"
        for number in range(900)
    ]
    rows = [{"text": " ".join(words[at : at + 5])} for at in range(0, 900, 2)]
    natural = importer.create_from_rows(rows, "natural", parent=None, note={})["id"]
    wanted = {"recipe": "fractals-en", "tokens": 8000, "seed": 1, "replay": 30, "replay_corpus": natural}
    directory = synth_jobs.create(wanted | {"curriculum": True})
    assert worker.run(directory) == "finished"
    card = corpus.card(events.last(directory)["corpus"])
    made = list(storage.all_rows(corpus.directory(card["id"])))
    tokens = [(row["recipe"]["tokens"], row["recipe"]["part"] == natural) for row in made]
    share = sum(count for count, is_natural in tokens if is_natural) / sum(count for count, _ in tokens)
    assert abs(share - 0.3) < 0.01
    assert [count for count, _ in tokens] == sorted(count for count, _ in tokens)
    assert (card["synth"]["replay"], card["synth"]["curriculum"]) == (30, True)
    with raises("ReplayNeedsCorpus", match="30 % of natural text needs a corpus"):
        synth_jobs.create(wanted | {"replay_corpus": None})
    with raises("ReplayNeedsGrammar", match='"questions-en" is no grammar'):
        synth_jobs.create(wanted | {"recipe": "questions-en"})
