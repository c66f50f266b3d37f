"""Keys: each goes to the host that it was given for, across no redirect, and into nothing that is written."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from core import errors, events, jobs
from core.arena import judging
from core.corpus import corpus, report, storage
from core.models import models
from core.synth import endpoint, worker
from tests import test_synth_endpoint
from tests.endpoint_server import answer, serving

serve = pytest.fixture(serving)
KEY, TOKEN = "sk-very-secret-0123456789", "hf_very_secret_0123456789"


@pytest.mark.parametrize(
    ("variables", "url", "sent"),
    [
        ({"OPENAI_API_KEY": KEY}, "https://api.openai.com/v1", True),
        ({"OPENAI_API_KEY": KEY}, "http://api.openai.com/v1", False),  # in the clear
        ({"OPENAI_API_KEY": KEY}, "https://api.openai.com.evil.example/v1", False),
        ({"OPENAI_API_KEY": KEY}, "http://127.0.0.1:11434/v1", False),
        ({"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "https://a.example/v1"}, "https://a.example/v1", True),
        ({"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "https://a.example/v1"}, "https://api.openai.com/v1", False),
        ({"SOULSMITH_API_KEY": KEY}, "https://a.example/v1", False),
        ({"SOULSMITH_API_KEY": KEY, "SOULSMITH_API_URL": "http://a.example:80"}, "http://a.example/v1", True),
        ({"SOULSMITH_API_KEY": KEY, "SOULSMITH_API_URL": "http://a.example"}, "http://a.example:8080/v1", False),
        ({"SOULSMITH_API_KEY": KEY, "SOULSMITH_API_URL": "http://a.example:x"}, "http://a.example/v1", False),
    ],
)
def test_a_key_goes_to_the_host_that_it_was_given_for(variables, url, sent, monkeypatch):
    for name in (*endpoint.KEYS, "SOULSMITH_API_URL", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert endpoint.Endpoint(url, "m").headers.get("Authorization") == (f"Bearer {KEY}" if sent else None)


def test_no_key_follows_a_redirect(serve, monkeypatch):
    sink = serve(lambda number, body: (200, {}, answer("1")))
    server = serve(lambda number, body: (307, {"Location": f"{sink.url}/chat/completions"}, b""))
    monkeypatch.setattr(endpoint, "ATTEMPTS", 1)
    reply = endpoint.Endpoint(server.url, "m").ask([{"role": "user", "content": "a"}])
    assert (reply.wrong, server.asked[0]["key"], sink.asked) == ("bad_request", "Bearer k-1", [])


def test_a_judge_that_echoes_the_key_leaves_no_trace_of_it(serve, home, monkeypatch, capfd):
    monkeypatch.setenv("SOULSMITH_API_KEY", KEY)
    server = serve(lambda number, body: (200, {}, answer(f"I saw {KEY}")))
    home.mkdir()
    job = jobs.create(home, {"name": "judge"})

    def work(directory, request, report):
        said = judging.opinion(endpoint.Endpoint(server.url, "m"), "a", "b", "c")[1]
        report("progress", said=f"{said} {KEY}")
        raise ValueError(f"{said} {KEY}")

    assert jobs.run(job, work) == "failed"
    printed = capfd.readouterr()
    assert server.asked[0]["key"] == f"Bearer {KEY}"
    assert "[key]" in json.dumps(events.last(job))
    for text in (printed.out, printed.err, *(path.read_text() for path in job.iterdir())):
        assert KEY not in text


def test_a_writer_that_echoes_the_key_leaves_no_trace_of_it_in_what_is_made(serve, home, monkeypatch, tmp_path, capfd):
    monkeypatch.setenv("SOULSMITH_API_KEY", KEY)
    home.mkdir()

    def script(number: int, body: dict) -> tuple:
        if number % 4 == 3:
            return 200, {}, f"<html>{KEY}".encode()
        return 200, {}, answer(f"{test_synth_endpoint.varied(number)} {KEY}", finish=KEY, id=KEY)

    server = serve(script)
    directory = test_synth_endpoint.job(tmp_path, server)
    assert worker.run(directory) == "finished"
    rows = list(storage.all_rows(corpus.directory(events.last(directory)["corpus"])))
    assert (server.asked[0]["key"], "[key]" in json.dumps(rows)) == (f"Bearer {KEY}", True)
    card = corpus.card(events.last(directory)["corpus"])
    report.make(corpus.directory(card["id"]))
    printed = capfd.readouterr()
    written = {str(path): path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert [name for name, content in written.items() if KEY.encode() in content] == []
    assert KEY not in printed.out + printed.err


class Hub(BaseHTTPRequestHandler):
    """A hub that sends a visitor elsewhere, or quotes what it was sent."""

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        if self.server.sends_to:
            self.send_response(307)
            self.send_header("Location", self.server.sends_to + self.path)
            self.end_headers()
        else:
            self.send_response(401)
            self.send_header("X-Error-Message", f"wrong token {self.headers.get('Authorization')}")
            self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    """A function that starts a server; it may redirect to another host."""
    started = []

    def start(sends_to: str = "") -> ThreadingHTTPServer:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
        server.asked, server.sends_to = [], sends_to
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.shutdown()


@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_hub_s_token_goes_to_the_hub_alone_and_into_no_words(hub, elsewhere, monkeypatch, tmp_path):
    import huggingface_hub.constants as constants

    sink = hub()
    first = hub(f"http://localhost:{sink.server_port}" if elsewhere else "")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{first.server_port}")
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        f"http://127.0.0.1:{first.server_port}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(errors.UserError) as trouble:
        models.download("a/b", ["config.json"])
    assert f"Bearer {TOKEN}" in [key for _, key in first.asked]
    assert ([key for _, key in sink.asked if key], bool(sink.asked)) == ([], elsewhere)
    assert TOKEN not in json.dumps(errors.to_dict(trouble.value))


def test_what_looks_like_a_key_is_hidden_too(monkeypatch):
    for name in errors.KEYS:
        monkeypatch.delenv(name, raising=False)
    text = f"a {'hf_' + 'a' * 34} b sk-{'b' * 40}, hf_cache sk-short"
    assert errors.without_keys(text) == "a [key] b [key], hf_cache sk-short"


def test_each_secret_variable_is_hidden(monkeypatch):
    assert "SOULSMITH_HUB_TOKEN" in errors.KEYS
    for name in errors.KEYS:
        monkeypatch.setenv(name, f"secret of {name}")
        assert errors.without_keys(f"a secret of {name} b") == "a [key] b"
        monkeypatch.delenv(name)
