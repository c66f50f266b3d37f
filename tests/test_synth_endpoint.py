"""The endpoint against a real local server that misbehaves in every way that servers do."""

import random
import time

import pytest

from core import events
from core.corpus import corpus, storage
from core.synth import endpoint, prompts, recipes, replies, synth_jobs, worker
from core.synth.endpoint import Endpoint
from core.synth.replies import Reply
from tests.conftest import raises
from tests.endpoint_server import Server, answer, serving

RECIPE = """
kind: grid
lang: en
axes:
  who: [a baker, a pilot, a clerk, a nurse, a miner]
  what: [the sea, a debt, the snow, a key]
prompt: "Write a note by {who} about {what}."
"""


@pytest.fixture
def serve(monkeypatch):
    yield from serving(monkeypatch)


def test_a_reply_comes_with_its_tokens_and_the_key_is_sent(serve):
    server = serve(lambda number, body: (200, {}, answer("The sea is late.")))
    reply = Endpoint(server.url, "m").ask([{"role": "user", "content": "hi"}], temperature=0.5)
    assert reply == Reply("The sea is late.", "stop", 9, 5)
    assert server.asked == [
        {"path": "/v1/chat/completions", "key": "Bearer k-1", "model": "m", "stream": False, "temperature": 0.5,
         "messages": [{"role": "user", "content": "hi"}]}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "wrong"),
    [
        (b"<html><body>nginx</body></html>", "html"),
        (b'{"choices": [{"message": {"cont', "half_json"),
        (b'{"choices": []}', "no_choices"),
        (b"[]", "no_choices"),
        (b"", "half_json"),
    ],
)
def test_a_broken_reply_is_named_and_does_not_end_anything(serve, raw, wrong):
    server = serve(lambda number, body: (200, {}, raw))
    assert Endpoint(server.url, "m").ask([]).wrong == wrong


def test_too_many_requests_and_hang_ups_are_waited_out(serve):
    script = [
        (429, {"Retry-After": "0.1"}, b"slow down"),
        (503, {}, b""),
        None,
        (200, {}, answer("at last, an answer")),
    ]
    server = serve(lambda number, body: script[number])
    began = time.monotonic()
    assert Endpoint(server.url, "m").ask([]).text == "at last, an answer"
    assert len(server.asked) == 4
    assert time.monotonic() - began >= 0.1


def test_a_server_that_hangs_is_given_up_with_its_address(serve, monkeypatch):
    monkeypatch.setattr(endpoint, "ATTEMPTS", 2)
    monkeypatch.setattr(endpoint, "SECONDS", 0.1)
    server = serve(lambda number, body: time.sleep(1) or (200, {}, answer("too late")))
    with pytest.raises(endpoint.EndpointDown, match=r"http://127.0.0.1:\d+/v1/chat/completions did not answer in 2"):
        Endpoint(server.url, "m").ask([])


@pytest.mark.parametrize(("status", "trouble"), [(401, "EndpointRefused"), (404, "EndpointMissing")])
def test_a_refusal_stops_at_once_with_the_address(serve, status, trouble):
    server = serve(lambda number, body: (status, {}, b'{"error": {"message": "no such thing."}}'))
    with raises(trouble, match=rf"{server.url}/chat/completions.*{status}.*no such thing"):
        Endpoint(server.url, "m").ask([])
    assert len(server.asked) == 1


def test_what_is_no_address_is_refused():
    with raises("EndpointNotAnAddress", match="localhost:11434 is not the address"):
        Endpoint("localhost:11434", "m")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply("The ferry leaves at six.", "length"), "cut"),
        (Reply("<think>hm</think>The ferry leaves at six."), ""),
        (Reply("<think>The ferry leaves at six."), "thinking"),
        (Reply("I'm sorry, but I can't write that."), "refusal"),
        (Reply("К сожалению, я не могу этого написать."), "refusal"),
        (Reply("Write a note by a baker about the sea, please do."), "copy"),
        (Reply("Да."), "short"),
        (Reply("  "), "empty"),
        (Reply("The ferry leaves 六点出发 at six."), "other_language"),
    ],
)
def test_replies_are_set_aside_with_the_reason(reply, reason):
    text, found = replies.checked(reply, "Write a note by a baker about the sea, please do.", "en")
    assert (found, text) == (reason, "" if reason else "The ferry leaves at six.")


def test_replies_take_the_shape_that_was_asked_for():
    pair = {"shape": "pair"}
    assert replies.to_row("Вопрос: Где море?\nОтвет: За дюной.", pair) == {
        "messages": [{"role": "user", "content": "Где море?"}, {"role": "assistant", "content": "За дюной."}]
    }
    assert replies.to_row("no shape at all", pair) is None
    assert replies.to_row("A: hi\nB: hello\nA: bye", {"shape": "turns"})["messages"] == [
        {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}, {"role": "user", "content": "bye"},
    ]  # fmt: skip
    assert replies.rarest("0.6 | rain\n20% | snow\n0,05 | frogs") == "frogs"


def test_the_grid_is_covered_evenly():
    recipe = recipes.read(RECIPE, "grid.yaml")
    cells = [tuple(prompts.of_grid(recipe, 3, number)["cell"].values()) for number in range(40)]
    assert len(set(cells[:20])) == len(set(cells[20:])) == 20
    assert cells[:20] != cells[20:]
    assert cells == [tuple(prompts.of_grid(recipe, 3, number)["cell"].values()) for number in range(40)]


def test_an_axis_of_one_value_is_refused():
    recipe = recipes.read(RECIPE.replace("[a baker, a pilot, a clerk, a nurse, a miner]", "[a baker]"), "grid.yaml")
    with raises("TooFewSeeds", match="who: 1 found, at least 2"):
        prompts.check(recipe, [])


def job(tmp_path, server: Server, tokens: int = 1000) -> "object":
    recipe = tmp_path / "grid.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    return synth_jobs.create(
        {"recipe": str(recipe), "tokens": tokens, "seed": 5, "endpoint": server.url, "endpoint_model": "m"}
    )


def varied(number: int) -> str:
    draw = random.Random(number)
    return " ".join("".join(draw.choices("aeioubdgklmnprst", k=draw.randint(2, 9))) for _ in range(30)) + f" {number}."


def test_a_job_keeps_good_replies_and_sets_bad_ones_aside(serve, tmp_path):
    def script(number, body):
        if number % 5 == 4:
            return 200, {}, answer("I cannot help with that.")
        return 200, {}, answer(varied(number))

    directory = job(tmp_path, serve(script))
    assert worker.run(directory) == "finished"
    last = events.last(directory)
    assert (last["rows"] > 15, last["aside"]["refusal"] >= 3, last["tokens"] >= 1000) == (True, True, True)
    rows = list(storage.all_rows(corpus.directory(last["corpus"])))
    assert len(rows) == last["rows"]
    assert rows[0]["messages"][0]["content"] == rows[0]["recipe"]["prompt"][0]["content"]
    assert {key: rows[0]["recipe"][key] for key in ("seed", "row", "model", "tokens_in", "tokens_out", "temperature")} == {
        "seed": 5, "row": 0, "model": "m", "tokens_in": 9, "tokens_out": 5, "temperature": 0.9,
    }  # fmt: skip
    assert len({row["recipe"]["row"] for row in rows}) == len(rows)
    aside = corpus.set_aside(last["corpus"])
    assert len(aside) == corpus.card(last["corpus"])["rows_set_aside"] == last["aside"]["refusal"]
    assert (aside[0]["reason"], aside[0]["excerpt"]) == ("refusal", "I cannot help with that.")


def test_a_job_pauses_when_nothing_new_is_said(serve, tmp_path):
    directory = job(tmp_path, serve(lambda number, body: (200, {}, answer(varied(number % 3)))), tokens=50_000)
    assert worker.run(directory) == "paused"
    assert events.last(directory)["reason"] == "repeats"


def test_a_job_fails_at_once_with_the_address_when_the_key_is_wrong(serve, tmp_path):
    server = serve(lambda number, body: (401, {}, b"bad key"))
    directory = job(tmp_path, server)
    assert worker.run(directory) == "failed"
    assert f"{server.url}/chat/completions refused with 401: bad key" in events.last(directory)["message"]


def test_a_job_pauses_while_the_server_is_down_and_goes_on(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(endpoint, "ATTEMPTS", 1)
    down = [True]
    server = serve(lambda number, body: (503, {}, b"") if down[0] else (200, {}, answer(varied(number))))
    directory = job(tmp_path, server)
    assert worker.run(directory) == "paused"
    assert events.last(directory)["reason"] == "EndpointDown"
    down[0] = False
    assert worker.run(directory) == "finished"


def test_replies_that_are_all_bad_pause_the_job(serve, tmp_path):
    directory = job(tmp_path, serve(lambda number, body: (200, {}, b"<html>sleeping</html>")))
    assert worker.run(directory) == "paused"
    assert events.last(directory)["aside"] == {"html": 25}
