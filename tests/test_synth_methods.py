"""Every way in which a model writes rows, run against a server that answers as models do and misbehaves as servers do."""

import json
import threading
import time

import pytest

from core import events, jobs
from core.corpus import corpus, storage
from core.synth import prompts, recipes, synth_jobs, worker, writers
from tests.conftest import raises
from tests.endpoint_server import Server, answer, serving

WORDS = [
    "salt",
    "rope",
    "tide",
    "gull",
    "lamp",
    "oil",
    "brass",
    "fog",
    "storm",
    "bread",
    "coffee",
    "stair",
    "window",
    "light",
    "keeper",
    "door",
    "copper",
    "basin",
    "ferry",
    "winter",
    "garden",
    "violin",
    "letter",
    "orchard",
    "anvil",
    "meadow",
    "lantern",
    "harbour",
    "pepper",
    "saddle",
]
SEEDS = ["The keeper counts ships.", "Bread rises slowly here.", "How is a socket checked?", "Why does ice float?"]


@pytest.fixture
def serve(monkeypatch):
    yield from serving(monkeypatch)


def sentence(number: int) -> str:
    """Thirty words in an order of the number's own."""
    return " ".join(WORDS[(number * 11 + at * (number % 7 + 1) + at * at) % len(WORDS)] for at in range(30)) + "."


def model(number: int, body: dict) -> str:
    """What a well-behaved model would say to a prompt."""
    asked, said = body["messages"][-1]["content"], sentence(number)
    if asked.startswith("Rate this text"):
        return "Score: 3" if "salt rope" in asked else "8"
    if "Question: …" in asked:
        return f"**Question:** Where is {said[:40]}?\n**Answer:** {said}"
    if "“A:” or “B:”" in asked:
        return f"A: {said[:60]}\nB: {said[60:120]}\nA: {said[120:]}"
    if "probability | answer" in asked:
        return f"0.6 | common\n0.3 | likely words\n0.05 | {said}"
    return said


def job(tmp_path, server: Server, text: str, **more) -> "object":
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    request = {"recipe": str(path), "tokens": 1000, "seed": 5, "endpoint": server.url, "endpoint_model": "m"}
    return synth_jobs.create(request | more)


def rows_of(directory) -> list[dict]:
    return list(storage.all_rows(corpus.directory(events.last(directory)["corpus"])))


def written(method: str, more: str = "") -> str:
    seeds = "".join(f"  - {json.dumps(seed)}\n" for seed in SEEDS)
    return f"kind: model\nlang: en\nmethod: {method}\nstyle: as a sailor\n{more}seeds:\n{seeds}"


SHAPES = {"continue": 0, "rewrite": 0, "summarise": 0, "critique": 0, "voice": 0, "dialogue": 3}  # turns; 0 for a text


@pytest.mark.parametrize("method", prompts.METHODS)
def test_each_method_makes_rows_of_its_shape_though_the_server_misbehaves(serve, tmp_path, method):
    broken = [
        (200, {}, b"<html>busy</html>"),
        (200, {}, b'{"choices": [{"mess'),
        (200, {}, b'{"choices": []}'),
        (429, {"Retry-After": "0"}, b"slow"),
        (500, {}, b"oops"),
        None,
    ]

    def script(number, body):
        return broken[number // 4 % len(broken)] if number % 4 == 3 else (200, {}, answer(model(number, body)))

    server = serve(script)
    directory = job(tmp_path, server, written(method))
    assert worker.run(directory) == "finished"
    rows, last = rows_of(directory), events.last(directory)
    turns = SHAPES.get(method, 2)
    assert {len(row.get("messages", [])) for row in rows} == {turns}
    assert set(last["aside"]) == {"html", "half_json", "no_choices"}
    assert all(row["recipe"]["model"] == "m" and row["recipe"]["prompt"] for row in rows)
    asked = [body["messages"][-1]["content"] for body in server.asked]
    assert all(any(seed in text for text in asked) for seed in SEEDS)


def test_a_judge_sets_low_rows_aside_and_its_score_is_kept(serve, tmp_path):
    server = serve(lambda number, body: (200, {}, answer(model(number, body))))
    directory = job(tmp_path, server, written("free", "judge: true\n"), parallel=1)
    assert worker.run(directory) == "finished"
    rows = rows_of(directory)
    assert {row["recipe"]["score"] for row in rows} == {8.0}
    assert events.last(directory).get("aside", {}).get("low_score", 0) == sum(
        "salt rope" in one["excerpt"] for one in corpus.set_aside(events.last(directory)["corpus"])
    )


def test_a_verdict_without_a_number_keeps_the_row(serve, tmp_path):
    def script(number, body):
        judge = body["messages"][-1]["content"].startswith("Rate")
        return 200, {}, answer("I would rather not say." if judge else sentence(number))

    directory = job(tmp_path, serve(script), written("free", "judge: true\n"))
    assert worker.run(directory) == "finished"
    assert "score" not in rows_of(directory)[0]["recipe"]


def test_seeds_of_a_corpus_are_the_parents_of_their_rows(serve, tmp_path):
    natural = tmp_path / "notes.jsonl"
    texts = [f"Note {n}: the {WORDS[n]} came in late and the {WORDS[n + 7]} stayed dry." for n in range(12)]
    natural.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    card = corpus.create([natural], "notes")
    server = serve(lambda number, body: (200, {}, answer(model(number, body))))
    text = "kind: model\nlang: en\nmethod: questions\n"
    directory = job(tmp_path, server, text, corpus=card["id"])
    assert worker.run(directory) == "finished"
    ids = {row["id"] for row in storage.all_rows(corpus.directory(card["id"]))}
    assert {row["recipe"]["parent"] for row in rows_of(directory)} <= ids


def test_personas_take_turns_and_are_kept(serve, tmp_path):
    server = serve(lambda number, body: (200, {}, answer(model(number, body))))
    directory = job(
        tmp_path, server, written("free"), personas=prompts.read_personas("- a pilot\n\na baker\na pilot\n")
    )
    assert worker.run(directory) == "finished"
    assert {body["messages"][0]["content"] for body in server.asked} == {"You are a pilot.", "You are a baker."}
    assert {row["recipe"]["persona"] for row in rows_of(directory)} == {"a pilot", "a baker"}


def test_personas_replace_those_of_a_grid():
    recipe = recipes.load("grid-ru")
    source = writers.FromModel(recipe, 1, {"endpoint": "http://127.0.0.1:9/v1", "personas": ["стекольщик", "прачка"]})
    cells = [source.prompt(number)["cell"]["persona"] for number in range(8)]
    source.close()
    assert set(cells) == {"стекольщик", "прачка"}


def test_one_persona_is_too_few_and_a_grammar_takes_none():
    with raises("PersonaAlone", match='only one persona, "a pilot"'):
        prompts.read_personas("a pilot\n")
    with raises("PersonasUnused", match='"fractals-en" has no use for personas'):
        synth_jobs.create({"recipe": "fractals-en", "tokens": 2000, "personas": ["a", "b"]})


def test_a_pause_waits_for_the_replies_in_flight_and_none_is_asked_twice(serve, tmp_path):
    asked, gate = [], threading.Event()

    def script(number, body):
        asked.append(body["seed"])
        if number >= 5:
            gate.wait(10)
        return 200, {}, answer(sentence(body["seed"] % 1_000_003))

    directory = job(tmp_path, serve(script), written("free"), parallel=4, tokens=2000)
    running = threading.Thread(target=worker.run, args=(directory,))
    running.start()
    while len(asked) < 6:
        time.sleep(0.005)
    jobs.ask(directory, "pause")
    gate.set()
    running.join()
    assert events.last(directory)["event"] == "paused"
    before = len(asked)
    assert events.last(directory)["made"] == before
    (directory / "control.json").unlink()
    assert worker.run(directory) == "finished"
    assert len(asked) == len(set(asked)) > before


def test_replies_that_came_in_before_a_failure_are_not_asked_for_again(serve, tmp_path):
    asked, broken = [], [True]

    def script(number, body):
        row = body["seed"] - 5 * 1_000_003
        asked.append(row)
        if row == 2 and broken[0]:
            time.sleep(0.2)  # the others are in by then
            return 401, {}, b"who are you"
        return 200, {}, answer(sentence(row))

    directory = job(tmp_path, serve(script), written("free"), parallel=4)
    assert worker.run(directory) == "failed"
    broken[0] = False
    assert worker.run(directory) == "finished"
    assert [row for row in set(asked) if asked.count(row) > 1] == [2]
    numbers = [row["recipe"]["row"] for row in rows_of(directory)]
    assert numbers == sorted(set(numbers) & set(asked))
