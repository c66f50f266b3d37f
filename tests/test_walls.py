"""The walls of the page on this machine: its token, the pages of others, and what a model's text may make it fetch."""

import os
import re
import stat
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

import app
from core import paths
from core.sharing import own_page
from ui import pages
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
        assert window.post("/token", data={"token": pasted}, headers=SAME).status_code == 401
        assert window.get("/").status_code == 401


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
    rules = dict(rule.split(" ", 1) for rule in own_page.CONTENT_SECURITY_POLICY.split("; "))
    assert (rules["frame-ancestors"], rules["img-src"]) == ("'none'", "'self' data: blob:")
    assert not re.search(r"https?:|\*", own_page.CONTENT_SECURITY_POLICY)


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


def test_the_home_and_its_uploads_are_this_user_s_alone(home, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "before")
    old = paths.uploads() / "old"
    app.prepare_home()
    old.mkdir()
    os.utime(old, (0, 0))
    (paths.uploads() / "new").mkdir()
    app.prepare_home()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (home, home / "uploads")] == [0o700] * 2
    assert os.environ["GRADIO_TEMP_DIR"] == str(home / "uploads")
    assert [path.name for path in paths.uploads().iterdir()] == ["new"]


def test_a_directory_that_is_merely_named_keeps_its_mode(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "before")
    monkeypatch.setenv("SOULSMITH_HOME", str(tmp_path / "somebody's"))
    Path(tmp_path / "somebody's").mkdir(mode=0o755)
    app.prepare_home()
    assert stat.S_IMODE((tmp_path / "somebody's").stat().st_mode) == 0o755
