"""The main job in a real browser, on the starter's real weights: corpus, training, reload in mid-run, chat.

`--screenshots DIR` keeps the pictures.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from core.runs import store
from ui.text import Say

ROOT = Path(__file__).parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium here: apt-get install chromium"),
]


class Server:
    """The page in a process of its own, on a free port."""

    def __init__(self, home: Path, environment: dict | None = None):
        self.home, self.process, self.environment = home, None, environment
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = ""

    def start(self, *flags: str) -> None:
        command = [sys.executable, "app.py", "--no-browser", "--port", str(self.port), *flags]
        environment = {**(self.environment or os.environ), "SOULSMITH_HOME": str(self.home)}
        with (self.home / "page.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        for _ in range(720):  # a busy machine takes minutes
            printed = re.findall(r"^Soulsmith: (\S+)", (self.home / "page.log").read_text(), re.MULTILINE)
            with suppress(OSError):
                if printed and urllib.request.urlopen(printed[-1], timeout=5).read():
                    self.address = printed[-1]
                    return
            time.sleep(0.25)
        pytest.fail((self.home / "page.log").read_text()[-2000:])

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=60_000)  # the engine of a chat may take longer to start than the library's five seconds
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def server(starter_home, monkeypatch):
    monkeypatch.setenv("SOULSMITH_HOME", str(starter_home))
    server = Server(starter_home)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def picture(request):
    """Keep a picture of the page, where a directory for pictures was given."""
    folder = request.config.getoption("--screenshots")

    def take(page, name: str) -> None:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=Path(folder) / f"{name}.png")

    return take


def opened(browser, server, locale: str):
    """A window of the page, which fails the test when the page asks another host or complains."""
    page = browser.new_context(locale=locale, viewport={"width": 1280, "height": 960}).new_page()
    page.foreign = []
    page.on("request", lambda request: _note_foreign(page, request.url))
    page.set_default_timeout(60_000)
    page.goto(server.address)
    page.get_by_role("tab").first.wait_for()
    return page


def _note_foreign(page, url: str) -> None:
    if not re.match(r"(http://127\.0\.0\.1:\d+/|data:|blob:)", url):
        page.foreign.append(url)


def open_tab(page, say: Say, name: str) -> None:
    page.get_by_role("tab", name=say(f"page.{name}"), exact=True).click()


def open_playground(page, say: Say) -> None:
    """The chat, with the base and the newest run chosen to reply."""
    from playwright.sync_api import expect

    open_tab(page, say, "playground")
    for number, kind in ((1, "base"), (2, "run")):
        shown = page.get_by_label(say("playground.who", number=number), exact=True)
        expect(shown).to_have_value(re.compile(say(f"chat_model.{kind}")))


def latest_run() -> dict:
    return store.sync_all()[0]


def wait_until(condition, seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, json.dumps(latest_run(), ensure_ascii=False)
        time.sleep(0.5)


def test_the_main_job(browser, server, picture):
    say = Say("en")
    page = opened(browser, server, "en-US")
    take_sample(page, say, "lighthouse")
    picture(page, "corpus-en")

    open_tab(page, say, "training")
    page.get_by_text(say("training.more"), exact=True).click()
    page.get_by_label(say("training.max_steps")).fill("6")  # of ten seconds each on a plain processor
    page.get_by_label(say("training.eval_steps")).fill("6")
    page.get_by_label(say("training.validation_share")).fill("0.04")  # ten rows, which take as long as two steps
    page.get_by_text(say("training.more"), exact=True).click()
    page.get_by_role("button", name=say("training.train"), exact=True).click()
    wait_until(lambda: store.sync_all() and (latest_run()["step"] or 0) >= 1)

    page.reload()  # in mid-run: nothing of the run hangs on the page
    open_tab(page, say, "training")
    page.get_by_text("running: training").wait_for()
    page.locator(".js-plotly-plot .scatterlayer path.js-line").first.wait_for()
    page.context.close()
    server.kill()  # nor on the server
    wait_until(lambda: latest_run()["step"] >= 2)
    server.start()
    page = opened(browser, server, "en-US")
    open_tab(page, say, "training")
    page.get_by_text(re.compile(r"step\s*\d+ / 6")).wait_for()
    page.locator(".js-plotly-plot .scatterlayer path.js-line").first.wait_for()
    wait_until(lambda: latest_run()["step"] >= 4)
    time.sleep(3)
    picture(page, "training-en")
    wait_until(lambda: latest_run()["state"] == "finished")
    page.locator("div.state").get_by_text("finished", exact=True).wait_for()
    assert latest_run()["eval_loss"] < 0.95 * latest_run()["base_eval_loss"]

    chat(page, say, "Who are you, and what do you do all day?")
    picture(page, "playground-en")
    open_tab(page, say, "runs")
    page.get_by_label(say("runs.pick"), exact=True).click()
    page.get_by_role("option", name=latest_run()["name"]).click()
    page.get_by_text(latest_run()["corpus_hash"]).wait_for()
    picture(page, "runs-en")
    assert page.foreign == []
    page.context.close()


def test_the_page_in_russian(browser, server, picture):
    say = Say("ru")
    page = opened(browser, server, "ru-RU")
    take_sample(page, say, "kuznets")
    picture(page, "corpus-ru")
    for tab in ("calculator", "synth", "training", "playground", "runs"):
        open_tab(page, say, tab)
        page.wait_for_timeout(1500)
        picture(page, f"{tab}-ru")
    page.get_by_role("link", name="English").click()
    page.get_by_text("Retrain a language model on your own machine").wait_for()
    assert page.foreign == []
    page.context.close()


def take_sample(page, say: Say, name: str) -> None:
    open_tab(page, say, "corpus")
    from core.corpus import corpus

    sample = next(sample for sample in corpus.samples() if sample["id"].startswith(name))
    page.get_by_role("tab", name=say("corpora.step.take")).click()
    words = say("corpora.take_sample", title=sample["title"][say.lang])
    page.get_by_role("button", name=words, exact=True).click()
    wait_until(
        lambda: any(name in card["name"] or sample["title"][say.lang] in card["name"] for card in corpus.listed())
    )
    page.wait_for_timeout(1500)


def chat(page, say: Say, prompt: str) -> None:
    """Send a prompt and wait until both columns have replied."""
    open_playground(page, say)
    page.get_by_label(say("playground.prompt"), exact=True).fill(prompt)
    page.get_by_role("button", name=say("playground.send"), exact=True).click()
    facts = page.get_by_text(re.compile(r"tokens: \d+ · [\d.]+ tokens/s · .*(ended by itself|cut at)"))
    facts.nth(1).wait_for(timeout=300_000)
    replies = page.locator(".bot.message").all_inner_texts()
    assert len(replies) == 2
    assert all(reply.strip() for reply in replies)
    assert replies[0] != replies[1]
