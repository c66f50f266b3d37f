"""The server: OpenAI's own client talks to a base and to runs, and gets what OpenAI's interface promises."""

import json
import os
import signal
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import httpx
import openai
import pytest

from core import jobs, paths
from core.chat import chat
from core.chat.types import Question, Reply, Sampling
from core.runs import gpu_access, runs
from core.serve import api, replies, requests, serve
from core.training import environment
from tests.conftest import raises
from tests.test_chat import stubborn_adapter  # noqa: F401 (a fixture)
from ui import export, export_serve
from ui.text import Say

ASK = [{"role": "user", "content": "lamp?"}]


class Ended(Exception):
    """The test is over."""


@contextmanager
def listening():
    """The address of a server in this process; the chat's process ends with it."""
    heard, over = threading.Event(), threading.Event()
    found = {}

    def report(_, address):
        found["address"] = address
        heard.set()

    def look():
        if over.is_set():
            raise Ended

    def run():
        with suppress(Ended):
            serve.listen(serve.HOST, 0, report, look)

    thread = threading.Thread(target=run)
    thread.start()
    assert heard.wait(20)
    try:
        yield found["address"]
    finally:
        over.set()
        thread.join(20)
        with suppress(OSError, ValueError):
            os.kill(json.loads(chat.address_file().read_text())["pid"], signal.SIGKILL)


@pytest.fixture(scope="module")
def server(trained, stubborn_adapter, tiny_model, tiny_corpus, tmp_path_factory):  # noqa: F811 (the fixture)
    """(address, key, ids of the base and of a run that says "storm") of a server over the trained run's home."""
    import shutil

    from core.training.config import TrainConfig
    from tests.conftest import home_at

    home = tmp_path_factory.mktemp("served") / "дом"
    shutil.copytree(trained[0], home)
    with home_at(home):
        run_id = runs.create(TrainConfig(base_model=tiny_model, corpus=tiny_corpus, method="lora"), "storm")
        shutil.copytree(stubborn_adapter, paths.run(run_id) / "adapter")
        with listening() as address:
            yield address, serve.new_key(), f"base:{tiny_model}", f"run:{run_id}", home


@pytest.fixture(autouse=True)
def served_home(request, home, monkeypatch):
    """The server's data directory, where a test takes the server: it is in this process."""
    if "server" in request.fixturenames:
        monkeypatch.setenv("SOULSMITH_HOME", str(request.getfixturevalue("server")[4]))


def client(server, **more) -> openai.OpenAI:
    return openai.OpenAI(base_url=server[0], api_key=server[1], max_retries=0, **more)


def test_models_are_the_base_and_the_runs(server):
    found = {model.id: model for model in client(server).models.list()}
    assert {server[2], server[3]} <= found.keys()
    assert (found[server[3]].name, found[server[3]].owned_by) == ("storm", "soulsmith")
    assert client(server).models.retrieve(server[2]).id == server[2]


@pytest.mark.slow
def test_adapters_are_switched_by_the_request(server):
    said = {
        id: client(server).chat.completions.create(model=id, messages=ASK, temperature=0, max_tokens=12)
        for id in (server[3], server[2], server[3])
    }
    assert "storm storm" in said[server[3]].choices[0].message.content
    assert "storm" not in said[server[2]].choices[0].message.content
    assert said[server[3]].choices[0].finish_reason in ("stop", "length")
    usage = said[server[2]].usage
    assert usage.completion_tokens == 12
    assert usage.total_tokens == usage.prompt_tokens + 12


@pytest.mark.slow
def test_a_stream_is_the_reply_in_pieces(server):
    asked = {"model": server[2], "messages": ASK, "temperature": 0, "max_completion_tokens": 30}
    whole = client(server).chat.completions.create(**asked)
    chunks = list(client(server).chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "length"
    assert (chunks[-1].choices, chunks[-1].usage) == ([], whole.usage)
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    plain = list(client(server).chat.completions.create(**asked, stream=True))
    assert [chunk.usage for chunk in plain] == [None] * len(plain)


@pytest.mark.slow
def test_a_seed_repeats_a_reply_and_none_does_not(server):
    def said(**more):
        asked = {"model": server[2], "messages": ASK, "max_tokens": 24, "temperature": 1.5}
        return client(server).chat.completions.create(**asked, **more).choices[0].message.content

    assert said(seed=-3) == said(seed=-3)
    assert len({said() for _ in range(4)}) > 1


@pytest.mark.slow
def test_a_reply_ends_before_a_stop_word_also_in_a_stream(server):
    asked = {"model": server[3], "messages": ASK, "temperature": 0, "max_tokens": 20}
    whole = client(server).chat.completions.create(**asked).choices[0].message.content
    stop = whole[7:14]
    cut = client(server).chat.completions.create(**asked, stop=[stop, "nothing of the kind"])
    assert cut.choices[0].message.content == whole[: whole.index(stop)]
    assert cut.choices[0].finish_reason == "stop"
    stream = client(server).chat.completions.create(**asked, stop=stop, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(pieces) == whole[: whole.index(stop)]


@pytest.mark.slow
def test_log_probabilities_are_those_of_the_model(server, tiny_model):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    asked = {"model": server[2], "messages": ASK, "temperature": 0.7, "seed": 3, "max_tokens": 5}
    asked |= {"logprobs": True, "top_logprobs": 3}
    noted = client(server).chat.completions.create(**asked).choices[0].logprobs.content
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    dtype, near = (torch.bfloat16, 0.02) if environment.processor_has_bf16() else (torch.float32, 2e-3)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=dtype)
    ids = tokenizer(tokenizer.apply_chat_template(ASK, tokenize=False, add_generation_prompt=True))["input_ids"]
    texts = [tokenizer.decode([id]) for id in range(len(tokenizer))]
    for one in noted:
        with torch.inference_mode():
            wanted = model(torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)
        top = wanted.topk(3)
        assert [other.logprob for other in one.top_logprobs] == pytest.approx(top.values.tolist(), abs=near)
        if "\ufffd" not in one.token:
            assert bytes(one.bytes).decode() == one.token
        ids.append(
            min(
                (id for id, text in enumerate(texts) if text == one.token), key=lambda id: abs(wanted[id] - one.logprob)
            )
        )
        assert one.logprob == pytest.approx(float(wanted[ids[-1]]), abs=near)
    streamed = client(server).chat.completions.create(**asked, stream=True)
    again = [token for chunk in streamed if chunk.choices[0].logprobs for token in chunk.choices[0].logprobs.content]
    assert again == noted


@pytest.mark.slow
def test_a_system_prompt_changes_the_reply(server):
    def tokens(messages):
        made = client(server).chat.completions.create(model=server[2], messages=messages, max_tokens=1)
        return made.usage.prompt_tokens

    parts = [{"type": "text", "text": "lamp"}, {"type": "text", "text": "?"}]
    assert tokens([{"role": "user", "content": parts}]) == tokens(ASK)
    one = tokens([{"role": "system", "content": "sea\n\nfog"}, *ASK])
    assert one > tokens(ASK)
    assert tokens([{"role": "system", "content": "sea"}, {"role": "developer", "content": "fog"}, *ASK]) == one


def test_without_the_key_nothing_is_answered(server):
    for key in ("wrong", "sk-soulsmith-", "ключ"):
        answer = httpx.get(f"{server[0]}/models", headers={"authorization": f"Bearer {key}".encode()})
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=server[0], api_key="wrong").models.list()
    assert httpx.post(f"{server[0]}/nothing").status_code == 401


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "kind", "param", "code"),
    [
        ({"model": "run:nothing"}, openai.NotFoundError, "model", "model_not_found"),
        ({"model": "base:/etc"}, openai.NotFoundError, "model", "model_not_found"),
        ({"messages": []}, openai.BadRequestError, "messages", "missing_required_parameter"),
        ({"messages": [{"role": "cat", "content": "a"}]}, openai.BadRequestError, "messages[0].role", "invalid_value"),
        ({"temperature": 3}, openai.BadRequestError, "temperature", "invalid_value"),
        ({"temperature": "hot"}, openai.BadRequestError, "temperature", "invalid_type"),
        ({"max_tokens": 10**400}, openai.BadRequestError, "max_tokens", "invalid_value"),
        ({"max_tokens": 0}, openai.BadRequestError, "max_tokens", "invalid_value"),
        ({"n": 2}, openai.BadRequestError, "n", "unsupported_parameter"),
        ({"top_logprobs": 2}, openai.BadRequestError, "top_logprobs", "invalid_value"),
        ({"stop": [""]}, openai.BadRequestError, "stop", "invalid_value"),
        ({"presence_penalty": 1}, openai.BadRequestError, "presence_penalty", "unsupported_parameter"),
        (
            {"messages": [{"role": "user", "content": "море " * 3000}]},
            openai.BadRequestError,
            None,
            "context_length_exceeded",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_are_openai_s(server, fields, kind, param, code, stream):
    asked = {"model": server[2], "messages": ASK, "max_tokens": 2, "stream": stream} | fields
    with pytest.raises(kind) as caught:
        client(server).chat.completions.create(**asked)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert caught.value.body["message"]


@pytest.mark.slow
def test_bodies_that_are_too_large_or_no_json_are_refused(server):
    headers, url = {"authorization": f"Bearer {server[1]}"}, f"{server[0]}/chat/completions"
    large = httpx.post(url, content=b" " * (api.MOST_BYTES + 1), headers=headers)
    assert (large.status_code, large.json()["error"]["code"]) == (413, "bad_body")
    for body in (b"{", b"\xff", b"[]", b"1", b'{"seed": 1' + b"0" * 5000 + b"}"):
        answer = httpx.post(url, content=body, headers=headers)
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_request_error"
    lost = httpx.get(f"{server[0]}/embeddings", headers=headers)
    assert (lost.status_code, lost.json()["error"]["code"]) == (404, "unknown_url")


@pytest.mark.slow
def test_replies_come_in_the_order_of_the_questions(server):
    ended = []

    def ask(number: int) -> None:
        client(server).chat.completions.create(model=server[2 + number % 2], messages=ASK, max_tokens=40, seed=1)
        ended.append(number)

    with ThreadPoolExecutor(6) as clients:
        for number in range(6):
            clients.submit(ask, number)
            time.sleep(0.1)
    assert ended == list(range(6))


@pytest.mark.slow
def test_hanging_up_ends_the_reply_and_the_next_is_served(server):
    endless = {"model": server[2], "messages": ASK, "max_tokens": 900, "temperature": 0}  # it repeats itself
    stream = client(server).chat.completions.create(**endless, stream=True)
    next(iter(stream))
    stream.close()
    with pytest.raises(openai.APITimeoutError):
        client(server, timeout=0.3).chat.completions.create(**endless)
    with client(server).chat.completions.create(**endless, stream=True) as going:
        next(iter(going))
        with pytest.raises(openai.APITimeoutError):  # this one only waits
            client(server, timeout=0.3).chat.completions.create(**endless)
    began = time.monotonic()
    client(server).chat.completions.create(model=server[2], messages=ASK, max_tokens=2)
    assert time.monotonic() - began < 2


@pytest.mark.slow
def test_a_run_that_has_the_card_is_a_busy_server(server, monkeypatch, trained):
    monkeypatch.setattr(gpu_access, "busy", lambda **_: trained[1])
    monkeypatch.setattr(gpu_access.runs, "label", lambda _: {"name": "ночной"})
    with pytest.raises(openai.InternalServerError, match="ночной") as caught:
        client(server).chat.completions.create(model=server[2], messages=ASK)
    assert (caught.value.status_code, caught.value.code) == (503, "card_busy")
    assert caught.value.response.headers["retry-after"] == "5"


@pytest.mark.slow
def test_more_requests_than_wait_are_turned_away(server, monkeypatch):
    monkeypatch.setattr(api, "MOST_WAITING", 0)
    with pytest.raises(openai.RateLimitError):
        client(server).chat.completions.create(model=server[2], messages=ASK)


def test_the_key_is_a_file_of_this_user_and_a_new_one_holds_at_once(home):
    first = serve.new_key()
    assert serve.key() == first
    if os.name == "posix":
        assert stat.S_IMODE(serve.key_file().stat().st_mode) == 0o600
    assert serve.new_key() != first
    served = api.Api(serve.key)
    request = api.Request({"type": "http", "headers": [(b"authorization", f"Bearer {first}".encode())]})
    assert not served._has_key(request)


def test_no_key_at_all_opens_nothing(home):
    request = api.Request({"type": "http", "headers": [(b"authorization", b"Bearer ")]})
    assert not api.Api(serve.key)._has_key(request)


def test_what_may_begin_a_stop_word_waits():
    assert replies.settled("abc<|", ("<|im_end|>",)) == 3
    assert replies.settled("abc", ("<|im_end|>", "c!")) == 2
    assert replies.settled("abc", ()) == 3
    assert requests.read({"model": "m", "messages": ASK, "top_p": 0}).sampling.temperature == 0
    assert replies.reason(Reply(finish_reason="context")) == "length"


def test_log_probabilities_that_come_meanwhile_are_not_lost():
    class Growing(list):
        def __getitem__(self, at):
            found = super().__getitem__(at)
            self.append({"token": "b", "logprob": -1.0, "top": []})
            return found

    asked = requests.read({"model": "m", "messages": ASK, "logprobs": True})
    answer, reply = replies.Answer(asked), Reply(logprobs=Growing([{"token": "a", "logprob": -1.0, "top": []}]))
    seen = [token["token"] for _ in range(2) for token in answer._logprobs(reply)["content"]]
    assert seen == ["a", "b"]


def test_a_reply_keeps_the_log_probabilities_that_it_came_with(monkeypatch):
    told = [{"replies": {"a": {"text": text, "logprobs": [text]}}} for text in ("x", "y")]
    monkeypatch.setattr(chat, "_ask", lambda *_: iter(told))
    asked = {"a": Question("base:m", ASK)}
    assert [len(one["a"].logprobs) for one in list(chat.talk(asked, Sampling(), on_cpu=True))] == [1, 2]


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.2", "127.0.0.2"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("::", "[::1]")]
)
def test_the_address_is_that_of_the_host_that_was_given(host, shown, home):
    def report(_, address):
        assert address.rpartition(":")[0] == f"http://{shown}"
        raise Ended

    with pytest.raises(Ended):
        serve.listen(host, 0, report)


@pytest.mark.slow
def test_the_server_is_a_job_that_its_switch_ends(home):
    directory = serve.start(port=0)
    for event in jobs.follow(directory):
        if event["event"] == "listening":
            assert httpx.get(f"{event['address']}/models").status_code == 401
            answer = httpx.get(f"{event['address']}/models", headers={"authorization": f"Bearer {serve.key()}"})
            assert answer.json() == {"object": "list", "data": []}
            assert serve.start() == directory
            serve.stop()
    assert jobs.state(directory) == "stopped"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{jobs.progress(directory)['listening']['address']}/models")
    assert serve.key() not in "".join(file.read_text() for file in directory.iterdir())


def test_the_page_shows_who_may_connect_to_the_server_that_runs(home):
    """A box that can be unticked would tell of a server that is closed, and it stays open."""
    say, quiet = Say("en"), [False, {"interactive": True}, {"interactive": True}]

    def fields() -> list:
        switch, *others = export_serve.shown(say)[:3]
        return [switch, *({k: v for k, v in one._constructor_args[0].items()} for one in others)]

    assert fields() == quiet
    for host, wide in ((serve.NETWORK, True), (serve.HOST, False)):
        directory = jobs.create(paths.serve(), {"name": "serve", "host": host, "port": 7999})
        assert fields() == [True, {"value": wide, "interactive": False}, {"value": 7999, "interactive": False}]
        probe, drawn = export._look(), export.draw(say, None)
        assert len(export.on_tick(say, None, probe)) == len(drawn)
        jobs.run(directory, lambda *_: {})
        assert fields() == quiet
        jobs.delete(directory)


@pytest.mark.slow
def test_a_port_that_is_taken_is_said(server):
    port = int(server[0].split(":")[2].split("/")[0])
    with raises("ServePortTaken", match="cannot be listened at"):
        serve._bound(serve.HOST, port) and serve.listen(serve.HOST, port, lambda *_, **__: None)
