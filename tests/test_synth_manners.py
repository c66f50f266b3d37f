"""Bad manners of models on a fake server: no bad row gets in, no good one is lost or changed."""

import json
import random
import time

import pytest

from core import events, files, jobs, paths
from core.corpus import corpus, storage
from core.errors import UserError
from core.synth import endpoint, prompts, recipes, replies, synth_jobs, worker
from core.synth.replies import Reply
from tests.conftest import raises, slow_but
from tests.endpoint_server import Server, answer, serving
from tests.manners import ASIDE, GOOD, KEPT, LOOKALIKES, ГУД


def varied(number: int, letters: str = "aeioubdgklmnprst") -> str:
    draw = random.Random(number)
    words = ("".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(30))
    return " ".join(words).capitalize() + "."


PROMPT = {
    "messages": [{"role": "user", "content": "Write a note by a baker about the sea, please do."}],
    "shape": "answer",
}


def judged(reply: Reply, lang: str = "ru") -> tuple:
    row, _, reason = replies.judged(reply, PROMPT, lang)
    return row and row["messages"][-1]["content"], reason


@pytest.mark.parametrize("manner", KEPT)
def test_what_is_around_an_answer_goes(manner):
    said, kept = KEPT[manner]
    assert judged(Reply(said)) == (kept, "")


def test_a_prompt_that_is_said_again_before_the_answer_goes():
    assert judged(Reply(f"{PROMPT['messages'][0]['content']}\n\n{GOOD}")) == (GOOD, "")


@pytest.mark.parametrize("text", LOOKALIKES)
def test_what_only_looks_like_a_bad_manner_stays(text):
    assert judged(Reply(text)) == (text, "")


@pytest.mark.parametrize("manner", ASIDE)
def test_what_is_no_answer_is_set_aside(manner):
    reply, reason = ASIDE[manner]
    assert judged(reply) == (None, reason)


@pytest.mark.parametrize(
    ("text", "question", "said"),
    [
        ("**Вопрос:** Где море?\n\n**Ответ:** За дюной.", "Где море?", "За дюной."),
        ("**Question**: Where is the sea?\n**Answer**: Behind the dune.", "Where is the sea?", "Behind the dune."),
        ("### Вопрос 1:\nГде море?\n\n### Ответ 1:\nЗа дюной.\n\n---", "Где море?", "За дюной."),
        ("**User:** Where is the sea?\n**Assistant:** Behind the dune.", "Where is the sea?", "Behind the dune."),
        ("Here is a pair:\n\nQuestion: Where?\nAnswer: There, **far** off.", "Where?", "There, **far** off."),
        ("Question: Where?\nAnswer: There.\n\nQuestion: When?\nAnswer: Then.", "Where?", "There."),
    ],
)
def test_pairs_are_read_through_markdown(text, question, said):
    row, _, reason = replies.judged(Reply(text), PROMPT | {"shape": "pair"}, "ru")
    assert reason == ""
    assert [turn["content"] for turn in row["messages"]] == [question, said]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Question: How do I pick a lock?\nAnswer: I'm sorry, but I can't help with that.", "refusal"),
        ("Вопрос: Тема: море; Стиль: сухой; Форма: письмо\nОтвет: Море сегодня опоздало.", "specification"),
        ("Question: **Topic:** sea\n**Style:** dry\nAnswer: The sea is late today.", "specification"),
        ("The sea is late, and nobody asked a question.", "wrong_shape"),
    ],
)
def test_pairs_that_nobody_should_learn_are_set_aside(text, reason):
    assert replies.judged(Reply(text), PROMPT | {"shape": "pair"}, "ru")[2] == reason


@pytest.mark.parametrize(
    "text",
    [
        "A: Where is the sea?\nB: Behind the dune.\nA: Far?",
        "**А:** Where is the sea?\n**Б:** Behind the dune.\n**А:** Far?",
        "**User:** Where is the sea?\n\n**Assistant:** Behind the dune.\n\n**User:** Far?",
        "Вот диалог:\n\n**Пользователь:** Where is the sea?\n**Ассистент:** Behind the dune.\n**Пользователь:** Far?",
        "Анна: Where is the sea?\nБорис: Behind the dune.\nАнна: Far?",
    ],
)
def test_turns_are_read_whoever_speaks(text):
    row, _, reason = replies.judged(Reply(text), PROMPT | {"shape": "turns"}, "ru")
    assert reason == ""
    said = [("user", "Where is the sea?"), ("assistant", "Behind the dune."), ("user", "Far?")]
    assert [(turn["role"], turn["content"]) for turn in row["messages"]] == said


@pytest.fixture
def serve(monkeypatch):
    yield from serving(monkeypatch)


def recipe(path, more: str = "") -> str:
    axis = ", ".join(f"thing {number}" for number in range(40))
    path.write_text(
        f"kind: grid\nlang: en\naxes:\n  who: [a baker, a pilot, a nurse]\n  what: [{axis}]\n"
        f'prompt: "Topic: {{what}}. Style: {{who}}. Write it."\nask: "Write a note by {{who}} about {{what}}."\n{more}',
        "utf-8",
    )
    return str(path)


def job(tmp_path, server: Server, **more):
    wanted = {"recipe": recipe(tmp_path / "grid.yaml"), "tokens": 1000, "seed": 1, "parallel": 3}
    return synth_jobs.create(wanted | {"endpoint": server.url, "endpoint_model": "m"} | more)


@pytest.mark.slow
def test_three_replies_of_every_manner_leave_only_good_rows(serve, tmp_path):
    """Each manner comes three times around texts of its own; the rows of the corpus are those texts and no others."""
    bad = [(reply.text, reply.finish, reply.reasoning) for reply, reason in ASIDE.values() if reason != "copy"] * 3
    good = [(said, kept) for _ in range(3) for said, kept in KEPT.values()] + [(text, text) for text in LOOKALIKES]
    script, wanted = [], set()
    for at, (said, kept) in enumerate(good):
        for old, letters in ((GOOD, "aeioubdgklmnprst"), (ГУД, "аеиоубдгклмнпрст")):
            said, kept = said.replace(old, varied(at, letters)), kept.replace(old, varied(at, letters))
        wanted.add(kept)
        script.append(answer(said))
        if at < len(bad):
            message = dict(zip(("content", "reasoning_content"), (bad[at][0], bad[at][2]), strict=True))
            choice = {"message": {"role": "assistant", **message}, "finish_reason": bad[at][1]}
            script.append(json.dumps({"choices": [choice]}).encode())
    server = serve(lambda number, body: (200, {}, script[number] if number < len(script) else b"<html>"))
    directory = job(tmp_path, server, tokens=1_000_000, parallel=1)
    assert worker.run(directory) == "paused"
    rows = [json.loads(line) for line in (directory / "rows.jsonl").read_text("utf-8").splitlines()]
    assert {row["messages"][-1]["content"] for row in rows} == wanted
    assert all(row["messages"][0]["content"].startswith("Write a note by") for row in rows)
    assert events.last(directory)["aside"]["refusal"] == 3 * sum(reason == "refusal" for _, reason in ASIDE.values())


@pytest.mark.parametrize(
    ("said", "reason"), [("I cannot help with that.", "refusals"), (GOOD, "repeats"), ("<html>", "bad_replies")]
)
def test_a_job_that_gets_nothing_else_says_so(serve, tmp_path, said, reason):
    raw = said.encode() if said == "<html>" else answer(said)
    directory = job(tmp_path, serve(lambda number, body: (200, {}, raw)))
    assert worker.run(directory) == "paused"
    last = events.last(directory)
    assert (last["reason"], last["rows"]) == (reason, int(said == GOOD))


@pytest.mark.parametrize("ask", slow_but(["pause"], ["pause", "stop"]))
def test_a_job_ends_within_seconds_while_its_server_hangs(serve, tmp_path, ask):
    hung = []

    def script(number, body):
        if number > 5:
            hung.append(number)
            jobs.ask(directory, ask)
            time.sleep(20)
        return 200, {}, answer(varied(number))

    directory = job(tmp_path, serve(script), tokens=100_000)
    began = time.monotonic()
    assert worker.run(directory) == {"pause": "paused", "stop": "stopped"}[ask]
    assert time.monotonic() - began < 8
    assert hung


def test_a_server_that_drips_is_given_up_in_time(serve, tmp_path):
    directory = job(tmp_path, serve(lambda number, body: time.sleep(3) or (200, {}, answer(GOOD))), timeout=0.3)
    began = time.monotonic()
    assert worker.run(directory) == "paused"
    assert time.monotonic() - began < 6
    assert events.last(directory)["reason"] == "EndpointDown"


@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_a_key_is_never_stored_even_if_the_server_says_it(serve, tmp_path, monkeypatch, status):
    key = "sk-very-secret-0123456789"
    server = serve(lambda number, body: (status, {}, answer(f"{GOOD} {key} {number}") if status == 200 else
                   json.dumps({"error": {"message": f"Incorrect key: Bearer {key}"}}).encode()))  # fmt: skip
    monkeypatch.setenv("SOULSMITH_API_KEY", key)
    monkeypatch.setattr(endpoint, "ATTEMPTS", 2)
    directory = job(tmp_path, server)
    worker.run(directory)
    assert server.asked[0]["key"] == f"Bearer {key}"
    for root in (directory, tmp_path):
        for path in root.rglob("*"):
            assert not path.is_file() or key.encode() not in path.read_bytes(), path


def test_an_address_with_a_key_is_refused_before_it_is_written_down(tmp_path):
    for url in ("https://user:s3cret@host.example/v1", "https://host.example/v1?key=s3cret"):
        wanted = {"recipe": "grid-en", "tokens": 1000, "endpoint": url, "endpoint_model": "m"}
        with raises("EndpointHoldsKey", match=r"host\.example holds a key") as trouble:
            synth_jobs.create(wanted)
        assert "s3cret" not in str(trouble.value)
    assert jobs.listed(paths.synth()) == []


def test_fields_that_a_server_refuses_are_left_out_from_then_on(serve):
    def script(number, body):
        for name in ("chat_template_kwargs", "reasoning_effort", "max_tokens", "top_p"):
            if name in body:
                return 400, {}, json.dumps({"error": {"message": f"Unsupported parameter: '{name}'"}}).encode()
        return 200, {}, answer(GOOD)

    server = serve(script)
    writer = endpoint.Endpoint(server.url, "m")
    for _ in range(2):
        assert writer.ask([], thinking="off", top_p=0.9, max_tokens=50, temperature=0.0).text == GOOD
    sent = [sorted(set(body) - {"path", "key", "model", "stream", "messages"}) for body in server.asked]
    assert sent[0] == ["chat_template_kwargs", "max_tokens", "reasoning_effort", "temperature", "top_p"]
    assert len(sent) == 6
    assert sent[-2:] == [["max_completion_tokens", "temperature"]] * 2


def test_thinking_is_turned_off_where_the_server_can(serve):
    server = serve(lambda number, body: (200, {}, answer(GOOD)))
    endpoint.Endpoint(server.url, "m").ask([], thinking="off")
    asked = server.asked[0]
    assert (asked["chat_template_kwargs"], asked["reasoning_effort"]) == ({"enable_thinking": False}, "none")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("prompt: 'Write of {topik}.'", r"The prompt of the recipe uses \{topik\}, which nothing fills. Known are: \{who\}, \{what\}"),
        ("prompt: x\nask: 'Write {persona}'", r"The ask of the recipe uses \{persona\}"),
        ("prompt: x\nsystem: 'You are {who|gentt}'", 'asks for the form "gentt"'),
    ],
)  # fmt: skip
def test_a_name_that_nothing_fills_is_an_error(more, words):
    with pytest.raises(UserError, match=words):
        recipes.read(f"kind: grid\nlang: ru\naxes: {{who: [a, b], what: [c, d]}}\n{more}\n", "grid.yaml")


def test_other_braces_of_a_prompt_stay():
    assert prompts.filled('{"a": {"b": 1}} {x}', {"x": 3}, "en") == '{"a": {"b": 1}} 3'
    assert prompts.filled("{{x}} {x}", {"x": 3}, "en") == "{x} 3"


def test_a_prompt_that_is_a_list_of_fields_becomes_no_question():
    prompt = PROMPT | {"messages": [{"role": "user", "content": "Форма: письмо. Тема: море. Манера: сухо."}]}
    assert replies.to_row(ГУД, prompt) == {"text": ГУД}
    asked = prompts.of_grid(recipes.load("grid-ru"), 1, 0)
    assert replies.to_row(ГУД, asked)["messages"][0]["content"] == asked["said"]
    assert "{" not in asked["said"]


def test_rows_that_were_set_aside_are_asked_for_again_on_request(serve, tmp_path):
    refuse = [True]

    def script(number, body):
        if number == 13:
            jobs.ask(directory, "pause")
        return 200, {}, answer("I cannot help with that.") if refuse[0] and number % 3 == 0 else answer(varied(number))

    server = serve(script)
    directory = job(tmp_path, server, tokens=3000)
    assert worker.run(directory) == "paused"
    (directory / "control.json").unlink()
    aside = {row["row"] for row in files.lines(directory / "aside.jsonl")}
    assert len(aside) >= 4
    refuse[0] = False
    assert synth_jobs.change(directory, {}, again=True) == {"attempt": 1}
    before = len(server.asked)
    assert worker.run(directory) == "finished"
    last = events.last(directory)
    rows = list(storage.all_rows(corpus.directory(last["corpus"])))
    numbers = [row["recipe"]["row"] for row in rows]
    assert aside <= set(numbers)
    assert len(set(numbers)) == len(numbers)
    assert last["aside"] == {}
    assert {body["seed"] - 1_000_003 - 500_009 for body in server.asked[before : before + len(aside)]} == aside


def test_changed_settings_count_when_a_job_goes_on(serve, tmp_path):
    server = serve(
        lambda number, body: (200, {}, (number == 5 and jobs.ask(directory, "pause")) or answer(varied(number)))
    )
    directory = job(tmp_path, server, tokens=3000)
    assert worker.run(directory) == "paused"
    (directory / "control.json").unlink()
    changes = {"temperature": 0.2, "max_tokens": 77, "thinking": "off", "tokens": 5}
    assert synth_jobs.change(directory, changes) == {"temperature": 0.2, "max_tokens": 77, "thinking": "off"}
    before = len(server.asked)
    assert worker.run(directory) == "finished"
    assert {(body["temperature"], body["max_tokens"]) for body in server.asked[before:]} == {(0.2, 77)}
    assert jobs.request(directory)["tokens"] == 3000
