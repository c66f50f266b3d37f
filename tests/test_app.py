"""The page as a server: one address in two languages, bound to this machine."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request

import app
from core.runs import runs, store
from core.training.config import TrainConfig
from tests.conftest import wait_for
from ui import history, pages
from ui.text import Say

ROOT = Path(__file__).parent.parent


def language_of(answer) -> str:
    return "ru" if "Дообучите" in answer.text else "en" if "Retrain a language model" in answer.text else "?"


@pytest.mark.parametrize(
    ("header", "cookie", "expected"),
    [
        ("ru-RU,ru;q=0.9,en;q=0.8", None, "ru"),
        ("en-US,en;q=0.9,ru;q=0.8", None, "en"),
        ("de-DE,ru;q=0.5", None, "ru"),
        ("de", None, "en"),
        ("", None, "en"),
        ("en", "ru", "ru"),
        ("ru", "nonsense", "ru"),
    ],
)
def test_the_page_speaks_the_browser_s_language_until_another_is_clicked(page, header, cookie, expected):
    headers = {"accept-language": header} | ({"cookie": f"{pages.COOKIE}={cookie}"} if cookie else {})
    assert language_of(page.get("/", headers=headers)) == expected


def test_the_flag_wins_over_the_browser():
    def asked(*headers) -> Request:
        return Request({"type": "http", "headers": [(b"accept-language", b"en"), *headers]})

    assert pages.language(asked(), "ru") == "ru"
    assert pages.language(asked((b"cookie", f"{pages.COOKIE}=en".encode())), "ru") == "en"


@pytest.mark.parametrize("path", ["app.py", "/etc/passwd", "core/training/config.py", "../soulsmith.db"])
def test_files_are_not_served(page, path):
    assert page.get(f"/gradio_api/file={path}").status_code in (403, 404)


def test_a_port_in_use_is_named_with_the_next_one():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(app.PortInUse, match=f"Port {port} is in use.*--port {port + 1}"):
            app.listening(port)


def test_the_next_free_port_is_taken_when_asked(monkeypatch):
    taken = {7860, 7861}

    def listening(number):
        if number in taken:
            raise app.PortInUse(port=number, next=number + 1)
        return number

    monkeypatch.setattr(app, "listening", listening)
    assert app.next_free() == 7862
    taken |= set(range(7860, 7900))
    with pytest.raises(app.PortInUse, match="7860-7879"):
        app.next_free()
    assert (app.parse(["--port", "next"]).port, app.parse([]).port) == (0, 7860)


def ended_by(what: signal.Signals) -> str:
    """The last line of a page that is ended with a window open; the signal goes to all that it began, as Ctrl+C does."""
    command = [sys.executable, "app.py", "--no-browser", "--port", "next", "--lang", "ru"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "encoding": "utf-8"}
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True, **pipes) as page:
        address, _, words = page.stdout.readline().removeprefix("Soulsmith: ").partition("  ")
        assert "обучение продолжается" in words
        window = httpx.Client(timeout=60)
        window.get(address)
        with window.stream("GET", httpx.URL(address).join("/gradio_api/heartbeat/window")):
            os.killpg(page.pid, what)
            said, complaints = page.communicate(timeout=60)
    assert (page.returncode, "Traceback" in complaints) == (0, False)
    return said.splitlines()[-1]


@pytest.mark.slow
def test_the_system_ends_the_page_as_ctrl_c_does(home):
    assert ended_by(signal.SIGTERM) == "Страница закрыта."


@pytest.mark.slow
def test_ctrl_c_ends_the_page_says_that_training_goes_on_and_it_does(home, tiny_model, tiny_corpus):
    run_id = runs.create(TrainConfig(base_model=tiny_model, corpus=tiny_corpus, method="lora", max_steps=2))
    assert ended_by(signal.SIGINT) == (
        "Страница закрыта. Обучение продолжается; чтобы увидеть его, запустите страницу снова."
    )
    wait_for(run_id, "finished")


def test_the_page_asks_no_other_host(page):
    hosts = set(re.findall(r"(?:src|href)=\"https?://([^/\"]+)", page.get("/").text))
    assert hosts == set()


def test_both_pages_have_the_same_parts(page_config):
    kinds = [[block["type"] for block in page_config[lang]["components"]] for lang in ("en", "ru")]
    assert kinds[0] == kinds[1]
    assert len(kinds[0]) > 100


def test_a_run_s_cells_stand_under_their_headers(trained_run):
    row = history.cells(Say("en"), store.sync(trained_run), [])
    assert (row["name"], row["state"], row["steps"], row["method"], row["id"]) == (
        "первый запуск",
        "finished",
        "6 / 6",
        "lora",
        trained_run,
    )
    assert float(row["loss"]) < float(row["base_loss"])
