"""The walls of the page on this machine: its token, the pages of others, and what a model's text may make it fetch."""

import asyncio
import inspect
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import gradio as gr
import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

import app
from core import events, jobs, paths, process
from core.arena import matches
from core.chat import profiles
from core.chat.types import NoAdapter
from core.corpus import corpus
from core.runs import runs
from core.sharing import own_page, walls
from core.sharing.sharing import Limits
from tests.test_browser import CHROMIUM, Server, browser  # noqa: F401 - a fixture
from ui import calculator, pages, playground, playground_arena, run_html
from ui import playground_show as show
from ui import sharing as sharing_tab
from ui import sharing_server as links
from ui.text import Say

TOKEN = "a" * 32
HOST = "127.0.0.1:7860"
SAME = {"sec-fetch-site": "same-origin", "origin": f"http://{HOST}"}


def client(token: str | None = TOKEN) -> TestClient:
    wall = own_page.OwnPage(PlainTextResponse("inside"), token, pages.asks_for_token)
    return TestClient(wall, base_url=f"http://{HOST}")


@pytest.fixture
def known() -> TestClient:
    """A browser that has opened the address with the token."""
    window = client()
    answer = window.get(f"/?token={TOKEN}")
    assert (answer.status_code, "inside" in answer.text) == (200, False)
    assert 'http-equiv="refresh" content="0;url=/"' in answer.text
    assert 'location.replace("/" + location.hash)' in answer.text  # the tab and the run of a bookmark
    assert answer.headers["set-cookie"] == f"soulsmith_page_7860={TOKEN}; HttpOnly; Path=/; SameSite=strict"
    return window


@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/info", "/gradio_api/file=a", "/?token=" + "b" * 32])
def test_nothing_answers_without_the_token_but_a_page_in_both_languages(path):
    answer = client().get(path)
    assert (answer.status_code, "inside" in answer.text) == (401, False)
    words = [Say(lang)("page.token") for lang in ("en", "ru")]
    assert [one.replace('"', "&#34;") in answer.text for one in words] == [
        path.startswith(("/?", "/")) and path[1:2] in ("", "?")
    ] * 2
    for path in ("/gradio_api/queue/join", "/gradio_api/upload", "/gradio_api/run/x"):
        assert client().post(path, json={}).status_code == 401


def test_the_cookie_opens_everything(known):
    for path in ("/", "/config", "/gradio_api/heartbeat/x"):
        assert known.get(path, headers=SAME).text == "inside"
    assert known.post("/gradio_api/queue/join", json={}, headers=SAME).text == "inside"


@pytest.mark.parametrize("pasted", [TOKEN, f" {TOKEN}\n", f"http://{HOST}/?token={TOKEN}"])
def test_the_token_or_the_whole_address_can_be_pasted(pasted):
    window = client()
    assert window.post("/token", data={"token": pasted}, headers=SAME).status_code == 200
    assert window.get("/").text == "inside"


def test_a_wrong_or_a_long_paste_does_not_open():
    for pasted in ("", "b" * 32, "a" * 31, "a" * 5000):
        window = client()
        refused = window.post("/token", data={"token": pasted}, headers=SAME)
        assert (refused.status_code, "<form" in refused.text) == (413 if len(pasted) > 1000 else 401, True)
        assert window.get("/").status_code == 401


def test_a_paste_that_never_ends_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(walls, "BODY_SECONDS", 0.05)
    sent = []

    async def receive():
        if sent:
            await asyncio.sleep(20)
        sent.append(1)
        return {"type": "http.request", "body": b"token=", "more_body": True}

    async def send(message):
        sent.append(message.get("status"))

    headers = [(b"host", HOST.encode())]
    scope = {"type": "http", "method": "POST", "path": "/token", "query_string": b"", "headers": headers}
    asyncio.run(own_page.OwnPage(PlainTextResponse("inside"), TOKEN)(scope, receive, send))
    assert sent[1] == 408


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/gradio_api/upload", {"origin": "http://127.0.0.1:8000"}),  # another port of this machine
        ("POST", "/gradio_api/upload", {"origin": "null"}),
        ("POST", "/gradio_api/queue/join", {"origin": "https://evil.example"}),
        ("POST", "/gradio_api/queue/join", {"sec-fetch-site": "cross-site"}),
        ("GET", "/config", {"sec-fetch-site": "same-site"}),
        ("GET", "/config", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}),
        ("GET", "/", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}),
        ("GET", "/", {"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}),
        ("POST", "/", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}),
    ],
)
@pytest.mark.parametrize("token", [TOKEN, None])
def test_another_page_is_refused_even_with_the_cookie(method, path, headers, token):
    window = client(token)
    window.cookies.set("soulsmith_page_7860", TOKEN)
    assert window.request(method, path, headers=headers).status_code == 403


def test_a_link_to_the_page_opens_it(known):
    navigation = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert known.get("/", headers=navigation).text == "inside"


def test_only_this_machine_s_own_name_is_answered(known):
    assert known.get("/", headers={"host": "evil.example"}).status_code == 421
    assert [client(None).get("/", headers={"host": host}).text for host in ("localhost:1", "[::1]", HOST)] == [
        "inside"
    ] * 3


def test_every_answer_keeps_frames_and_other_hosts_out(known):
    for answer in (known.get("/"), client().get("/"), known.get("/", headers={"host": "evil.example"})):
        assert {name: answer.headers[name] for name in own_page.HEADERS} == own_page.HEADERS
    rules = dict(rule.split(" ", 1) for rule in walls.CONTENT_SECURITY_POLICY.split("; "))
    assert (rules["frame-ancestors"], rules["img-src"]) == ("'none'", "'self' data: blob:")
    assert not re.search(r"https?:|\*", walls.CONTENT_SECURITY_POLICY)


def test_a_token_is_kept_for_this_user_and_made_anew_when_it_is_damaged(home):
    home.mkdir()
    token, file = own_page.token(), home / "page.token"
    assert (len(token), own_page.token(), stat.S_IMODE(file.stat().st_mode)) == (32, token, 0o600)
    for damage in (
        lambda: file.write_text(""),
        lambda: file.write_bytes(b"\xff" * 32),
        lambda: (file.unlink(), file.mkdir()),
    ):
        damage()
        assert own_page.TOKEN.fullmatch(own_page.token())
        assert own_page.token() not in ("", token)


@pytest.fixture
def own_environment(monkeypatch):
    """Where temporary files go, as it was before when the test is over."""
    monkeypatch.setenv("SOULSMITH_HOME", os.environ["SOULSMITH_HOME"])
    for name in ("GRADIO_TEMP_DIR", "TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, "before")
    monkeypatch.setattr(tempfile, "tempdir", tempfile.gettempdir())


@pytest.mark.parametrize("is_there", [False, True])
def test_the_home_its_uploads_and_temporary_files_are_this_user_s_alone(home, own_environment, is_there, monkeypatch):
    monkeypatch.setattr(app, "LONGEST_TEMPORARY", 500)
    if is_there:
        home.mkdir(mode=0o755)
    old = paths.uploads() / "old"
    app.prepare_home()
    for left in (old, home / "tmp" / "old", home / "tmp" / "a week old"):
        left.mkdir()
        os.utime(left, (0, 0) if left.name == "old" else (time.time() - 7 * 86400,) * 2)
    (home / "tmp" / "file").touch()
    os.utime(home / "tmp" / "file", (0, 0))
    (paths.uploads() / "new").mkdir()
    app.prepare_home()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (home, home / "uploads", home / "tmp")] == [0o700] * 3
    assert (os.environ["GRADIO_TEMP_DIR"], tempfile.gettempdir()) == (str(home / "uploads"), str(home / "tmp"))
    child = [sys.executable, "-c", "import tempfile; print(tempfile.gettempdir())"]
    assert subprocess.check_output(child, env=process.environment(), text=True).strip() == str(home / "tmp")
    assert [path.name for path in (*paths.uploads().iterdir(), *(home / "tmp").iterdir())] == ["new", "a week old"]


def test_temporary_files_stay_where_they_were_if_a_socket_would_not_fit_into_the_home(tmp_path, own_environment):
    os.environ["SOULSMITH_HOME"], before = str(tmp_path / ("long" * 20)), tempfile.gettempdir()
    app.prepare_home()
    assert (os.environ["TMPDIR"], tempfile.gettempdir()) == ("before", before)


def test_the_token_stands_in_no_command_line(home, monkeypatch):
    opened, address = [], f"http://{HOST}/?token={TOKEN}"
    monkeypatch.setattr(app.webbrowser, "open", opened.append)
    app.open_browser(home, address)
    page = home / "open.html"
    assert (opened, stat.S_IMODE(page.stat().st_mode)) == ([page.as_uri()], 0o600)
    assert f'http-equiv="refresh" content="0;url={address}"' in page.read_text()
    page.unlink()
    page.mkdir()  # whatever is in the way
    app.open_browser(home, address)
    assert TOKEN in page.read_text()
    app.open_browser(home, f"http://{HOST}/")
    assert opened[-1] == f"http://{HOST}/"


def test_the_page_says_how_large_a_file_the_browser_uploads():
    limit = inspect.signature(pages.serve).parameters["max_file_size"].default
    for lang, unit in (("en", "GB"), ("ru", "ГБ")):
        assert f"{limit.removesuffix('gb')} {unit}" in Say(lang)("corpora.big").replace("\u00a0", " ")


def test_a_plan_to_take_away_lies_where_no_other_user_can_write_or_read(monkeypatch):
    packed, pack = [], calculator.plan.pack
    monkeypatch.setattr(calculator.pieces, "plan", lambda *_: "")
    monkeypatch.setattr(calculator.plan, "pack", lambda config, out: packed.append(out) or pack(config, out))
    for _ in range(2):
        calculator.on_plan(Say("en"), {"base_model": "a/b", "method": "lora"}, "lora", "RTX 4090", None, "auto")
    assert packed[0] == packed[1]
    assert stat.S_IMODE(packed[0].parents[1].stat().st_mode) == 0o700


def test_a_directory_that_is_merely_named_keeps_its_mode(tmp_path, monkeypatch, own_environment):
    somebodys = tmp_path / "somebody's"
    monkeypatch.setenv("SOULSMITH_HOME", str(somebodys))
    somebodys.mkdir(mode=0o755)
    (somebodys / "letter.txt").touch()
    app.prepare_home()
    assert stat.S_IMODE(somebodys.stat().st_mode) == 0o755


def test_a_run_that_has_nothing_to_say_is_not_offered(trained, home):
    shutil.copytree(trained[0], home)
    trained_run = trained[1]
    silent = shutil.copytree(paths.run(trained_run), paths.runs() / "29990101-000000-silent")
    shutil.rmtree(silent / "adapter")
    for checkpoint in silent.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    offered, *_ = sharing_tab.on_load(Say("en"), None)
    assert ([id for _, id in offered.choices], offered.value) == ([trained_run], trained_run)
    with pytest.raises(NoAdapter):
        links.open_chat(silent.name, "own", Limits())
    assert links.current() is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```mermaid\ngraph TD\n```", "```\u200bmermaid\ngraph TD\n```"),
        ("~~~ Mermaid\ngraph TD\n~~~", "~~~\u200b Mermaid\ngraph TD\n~~~"),
        ("````mer&#109;aid\nx\n````", "````\u200bmer&#109;aid\nx\n````"),
        ("```python\nprint(1)\n```", "```python\nprint(1)\n```"),
        ("```c++\nint a;\n```", "```c++\nint a;\n```"),
        ("\\`![a](http://x)`", "\\`!\\[a](http://x)`"),
    ],
)
def test_a_diagram_is_shown_as_its_source(text, expected):
    assert show.literal(text) == expected
    assert show.written(show.typed(text)) == text


HOSTILE = """![a]({sink}/markdown) <img src="{sink}/img"> <svg><image href="{sink}/svg"/></svg>

<link rel="prefetch" href="{sink}/prefetch"> <div style="background: url({sink}/css)">a</div>
<style>body {{ background: url({sink}/style) }}</style> <iframe src="{sink}/frame"></iframe> <audio src="{sink}/audio">

\\`![a]({sink}/escaped)` [![a]({sink}/linked)]({sink}/link) ![b][ref]

[ref]: {sink}/reference

```mermaid
graph TD; A["<img src='{sink}/mermaid'>"] --> B["![x]({sink}/label)"]
```

~~~mermaid
%%{{init: {{"themeCSS": "@import url({sink}/theme);"}}}}%%
graph TD; A["<img src='{sink}/tilde'>"]
~~~

> ```mermaid
> graph TD; A["<img src='{sink}/quoted'>"]
> ```

$$\\includegraphics{{{sink}/latex}}$$
"""


class Sink(BaseHTTPRequestHandler):
    """A stranger's server that notes what it is asked."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def sink():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    server.asked = []
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()


def page_of(text: str, say: Say) -> gr.Blocks:
    """Every place of the page that shows what a model or somebody else's prompt says."""
    turns = [{"prompt": text, "replies": {"a": {"text": f"<think>{text}</think>{text}"}}}]
    frames = [{"step": step, "prompt": text, "reply": text} for step in (0, 1)]
    with gr.Blocks() as page:
        with gr.Tabs(), gr.Tab("a"):
            _, _, box, _ = playground.build_column(say, 0)
            booth = playground_arena.build_booth(say)
            samples = gr.HTML()
        page.load(
            lambda: [
                show.messages(say, turns, "a"),
                *[playground_arena.shown(say, text)] * 2,
                run_html.eval_samples(say, frames, []),
            ],
            None,
            [box, *[booth[side] for side in matches.SIDES], samples],
        )
    return page


@contextmanager
def served(application):
    """An application on a free port, in a thread."""
    server = uvicorn.Server(uvicorn.Config(application, log_level="error"))
    listening = app.listening(0)
    threading.Thread(target=server.run, args=([listening],), daemon=True).start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    server.should_exit = True


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no chromium here: apt-get install chromium")
@pytest.mark.parametrize("walls", [1, 2])
def test_nothing_that_a_model_writes_is_fetched(browser, sink, walls):  # noqa: F811
    text = HOSTILE.format(sink=f"http://127.0.0.1:{sink.server_port}")
    inner = pages.serve(partial(page_of, text), "en")
    with served(own_page.OwnPage(inner, None) if walls == 2 else inner) as address:
        window, complaints = browser.new_context(locale="en-US").new_page(), []
        window.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        window.goto(address)
        window.get_by_text("/theme").first.wait_for()
        window.wait_for_timeout(3000)
        assert (sink.asked, complaints) == ([], [])
        # The second wall alone.
        window.evaluate(
            "source => { document.body.append(Object.assign(new Image(), {src: source})) }", f"{text[5:].split(')')[0]}"
        )
        window.wait_for_timeout(500)
        assert sink.asked == ([] if walls == 2 else ["/markdown"])
        window.context.close()


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no chromium here: apt-get install chromium")
def test_the_page_opens_by_its_address_or_a_pasted_token_and_complains_of_nothing(browser, tmp_path):  # noqa: F811
    server, say = Server(tmp_path), Say("en")
    server.start()
    try:
        window, complaints = browser.new_context(locale="en-US").new_page(), []
        window.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        window.on("pageerror", lambda error: complaints.append(str(error)))
        window.goto(server.address)
        window.get_by_role("tab").first.wait_for()
        assert "token" not in window.url
        for tab in app.TABS:
            window.get_by_role("tab", name=say(f"page.{tab}"), exact=True).click()
            window.wait_for_timeout(500)
        assert complaints == []
        other = browser.new_context().new_page()
        other.goto(window.url)
        other.get_by_label("token").fill(server.address)
        other.get_by_role("button").click()
        other.get_by_role("tab").first.wait_for()
    finally:
        server.kill()


def plant(home: Path, text: str) -> None:
    """Put a text wherever a stranger's words may stand in a data directory: names, notes, rows, replies."""
    words = {"text", "prompt", "reply", "content", "name", "title", "note", "message", "question", "detail", "excerpt"}

    def planted(value, key=""):
        if isinstance(value, dict):
            return {name: planted(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [planted(inner, key) for inner in value]
        return text if isinstance(value, str) and key in words else value

    for path in home.rglob("*.json*"):
        if (
            path.suffix not in (".json", ".jsonl")
            or {"models", "adapter"} & {*path.parts}
            or "checkpoint-" in str(path)
        ):
            continue
        lines = path.read_text("utf-8").splitlines()
        whole = path.suffix == ".json"
        values = [planted(json.loads(line)) for line in (["".join(lines)] if whole else lines)]
        path.write_text("\n".join(map(json.dumps, values)) + ("" if whole else "\n"), "utf-8")


@pytest.fixture
def hostile_home(trained, tmp_path, sink, monkeypatch):
    """A data directory with a run, a corpus, a profile and a file strip that a stranger has written all words of."""
    home = tmp_path / "home"
    shutil.copytree(trained[0], home)
    monkeypatch.setenv("SOULSMITH_HOME", str(home))
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": "A text."}) + "\n{broken\n", "utf-8")
    corpus.create([tmp_path / "rows.jsonl"], "mine")
    profiles.save(profiles.Profile(name="a", base_model=runs.config(trained[1]).base_model, system_prompt="b"))
    samples = [{"prompt": "a", "reply": "b"}]
    with events.file(paths.run(trained[1])).open("rb+") as file:
        lines = file.read().splitlines(keepends=True)
        file.seek(0)
        for step in (0, 3):
            lines.insert(
                -1, json.dumps({"event": "samples", "time": 1, "step": step, "samples": samples}).encode() + b"\n"
            )
        file.writelines(lines)
    for database in home.glob("soulsmith.db*"):
        database.unlink()
    plant(home, HOSTILE.format(sink=f"http://127.0.0.1:{sink.server_port}"))
    return home


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no chromium here: apt-get install chromium")
@pytest.mark.parametrize("lang", ["en", "ru"])
def test_no_tab_asks_another_host_whatever_a_stranger_wrote(browser, hostile_home, sink, lang):  # noqa: F811
    server, say = Server(hostile_home), Say(lang)
    server.start("--offline")
    try:
        window, asked, complaints = browser.new_context(locale={"en": "en-US", "ru": "ru-RU"}[lang]).new_page(), [], []
        window.set_default_timeout(90_000)
        window.on("request", lambda request: asked.append(request.url))
        window.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        window.goto(server.address)
        window.get_by_role("tab").first.wait_for()
        for tab in app.TABS:
            window.get_by_role("tab", name=say(f"page.{tab}"), exact=True).click()
            window.wait_for_timeout(2500)
        assert "/markdown" in window.content()  # the words are shown
        own = server.address.partition("?")[0]
        assert [url for url in asked if not url.startswith((own, "data:", f"blob:{own}"))] == []
        assert (sink.asked, complaints) == ([], [])
        assert "offline:" not in (hostile_home / "page.log").read_text()
        window.context.close()
    finally:
        server.kill()


@pytest.mark.parametrize(("lang", "words"), [("en", "may still reach other machines"), ("ru", "может обращаться")])
def test_offline_ends_what_was_started_before_it_and_names_what_goes_on(monkeypatch, capsys, lang, words):
    asked = []
    monkeypatch.setattr(app.chat, "_ask_if_there", asked.append)
    app.end_online(Say(lang))
    assert (asked, capsys.readouterr().out) == ([{"do": "leave"}], "")
    for place in (run := paths.runs() / "a", paths.home() / "synth" / "b"):
        place.mkdir(parents=True)
    with jobs.lock(run):
        app.end_online(Say(lang))
    said = capsys.readouterr().out
    assert (words in said, "runs/a" in said, "synth/b" in said) == (True, True, False)


@pytest.mark.parametrize("how", ["connect", "name", "httpx", "datagram"])
def test_offline_lets_nothing_reach_another_machine(how):
    ask = {
        "connect": "import socket; socket.create_connection(('192.0.2.1', 80), timeout=20)",
        "name": "import socket; socket.getaddrinfo('example.org', 80)",
        "httpx": "import httpx; httpx.get('https://192.0.2.1', timeout=20)",
        "datagram": "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'a', ('192.0.2.1', 53))",
    }[how]
    environment = os.environ | {"SOULSMITH_OFFLINE": "1"}
    command = [sys.executable, "-c", f"import core; {ask}"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, cwd=process.ROOT, check=False
    )
    assert done.returncode
    assert re.search(r"^offline: (192\.0\.2\.1|example\.org) was refused$", done.stderr, re.MULTILINE)
    here = "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname())"
    subprocess.run([*command[:2], f"import core; {here}"], env=environment, timeout=60, cwd=process.ROOT, check=True)
