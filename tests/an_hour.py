"""An hour of everything at once: `python -m tests.an_hour --minutes 60 --json`.

Twenty visitors of a shared link ask without a pause, runs are trained one after another, corpora are written one after
another, and a window of the page watches. Every question carries its visitor's name and number, so that a turn that
reached another conversation shows. Memory is sampled by process; growth is taken between the first and the last third.
"""

import argparse
import json
import os
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import psutil

from core import events, jobs, paths, process
from core.corpus import corpus
from core.runs import runs
from core.sharing.sharing import Limits
from core.synth import synth_jobs
from tests import share_probe
from ui import sharing_server as links

SAMPLE_SECONDS = 5
ROLES = {  # of a process, by what its command line holds
    "share": "ui.sharing_process",
    "chat": "core.chat.server",
    "foreign": "core.foreign",
    "page": "app.py",
}


class Log:
    """What happened; every thread writes it."""

    def __init__(self):
        self.counts, self.wrong, self.over = {}, [], threading.Event()
        self.memory: list[dict[str, int]] = []
        self._lock = threading.Lock()

    def count(self, name: str, more: int = 1) -> None:
        with self._lock:
            self.counts[name] = self.counts.get(name, 0) + more

    def report(self, words: str) -> None:
        with self._lock:
            self.wrong.append(words)
        print(words, file=sys.stderr, flush=True)


def until_over(log: Log, work) -> None:
    """Do some work again and again until the time is over; what it raises is noted."""
    number = 0
    while not log.over.is_set():
        try:
            work(number)
        except Exception as error:
            if not log.over.is_set():
                log.report(f"{work}: {type(error).__name__}: {error}"[:300])
                time.sleep(1)
        number += 1


def visit(log: Log, guest: share_probe.Guest, name: str, number: int) -> None:
    """One conversation of three turns; each box must hold this visitor's own words in their order."""
    guest.session, asked = "g" + secrets.token_hex(6), []
    for turn in range(3):
        if log.over.is_set():
            return
        asked.append(f"{name} number {number} turn {turn}")
        note, boxes = guest.ask(asked[-1])
        if not boxes or not boxes[0]:
            if not log.over.is_set():
                log.count("replies_lost")
                log.report(f"no reply to {asked[-1]}: {note}")
            return
        for box in boxes:
            said = [words for words in box if re.match(r"guest\d+ number", words)]
            log.count("replies")
            if said == asked[:-1]:
                log.count("replies_lost")
                log.report(f"no reply to {asked[-1]}: {note}")
                return
            if said != asked:
                log.count("replies_mixed_up")
                log.report(f"{name} asked {asked} and was shown {said}")


def train(log: Log, first: str, steps: int, number: int) -> None:
    config = runs.config(first)
    run_id = runs.start(config.__class__(**{**vars(config), "max_steps": steps}), f"hour {number}")
    while runs.state(run_id) in runs.ACTIVE and not log.over.is_set():
        time.sleep(1)
    if log.over.is_set():
        runs.stop(run_id)
        return
    logged = [event["step"] for event in events.read(paths.run(run_id))[0] if event["event"] == "step"]
    if runs.state(run_id) != "finished" or logged[-1:] != [steps]:
        log.report(f"run {run_id}: {runs.state(run_id)} after step {logged[-1:]}")
    log.count("runs_finished")


def write(log: Log, tokens: int, number: int) -> None:
    directory = synth_jobs.create(
        {"recipe": "fractals-en", "tokens": tokens, "seed": number + 1, "name": f"hour {number}"}
    )
    with (directory / "log.txt").open("ab") as output:
        done = subprocess.run(
            [sys.executable, "-m", "core.synth", "--job", str(directory)], cwd=process.ROOT, stdout=output, stderr=output,
            check=False,
        )  # fmt: skip
    last = events.last(directory)
    if done.returncode or last["event"] != "finished":
        log.report(f"synthesis {directory.name}: {last}")
        return
    rows = sum(1 for _ in corpus.rows(last["corpus"], 0, 10**6))
    if not rows or jobs.state(directory) != "finished":
        log.report(f"synthesis {directory.name}: {rows} rows")
    log.count("corpora_written")


def watch(log: Log, address: str) -> None:
    """A window of the page that goes over its tabs; the browser's heap is sampled as `window`."""
    from playwright.sync_api import sync_playwright

    from tests.test_browser import CHROMIUM, FLAGS

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, "--enable-precise-memory-info"])
        window = chromium.new_context(locale="en-US").new_page()
        window.on("pageerror", lambda error: log.report(f"the page: {error}"[:300]))
        window.goto(address)
        window.get_by_role("tab").first.wait_for(timeout=60_000)
        while not log.over.is_set():
            for tab in ("Training", "Runs", "Share", "Training"):
                with suppress(Exception):  # a busy machine is slow; the next turn tries again
                    window.get_by_role("tab", name=tab, exact=True).click(timeout=30_000)
                    log.count("tabs_opened")
                log.over.wait(5)
            with suppress(Exception):
                heap = window.evaluate("() => { if (window.gc) gc(); return performance.memory.usedJSHeapSize }")
                log.memory.append({"window": heap})
        chromium.close()


def sample(log: Log, server: psutil.Process) -> None:
    """Bytes by role, every few seconds."""
    while not log.over.wait(SAMPLE_SECONDS):
        sizes: dict[str, int] = {}
        for one in psutil.process_iter(["cmdline", "environ"]):
            with suppress(psutil.Error):
                words = " ".join(one.info["cmdline"] or ())
                ours = (one.info["environ"] or {}).get("SOULSMITH_HOME") == os.environ["SOULSMITH_HOME"]
                role = next((role for role, mark in ROLES.items() if mark in words), "")
                if role and (ours or one.pid == server.pid):
                    sizes[role] = sizes.get(role, 0) + one.memory_info().rss
        log.memory.append(sizes)


def growth(log: Log) -> dict[str, dict]:
    """By role: megabytes in the first and in the last third (medians), and the most."""
    found = {}
    for role in (*ROLES, "window"):
        sizes = [one[role] / 1e6 for one in log.memory if role in one]
        third = len(sizes) // 3
        if third:
            first, last = statistics.median(sizes[third // 2 : third]), statistics.median(sizes[-third:])
            found[role] = {"first": round(first, 1), "last": round(last, 1), "most": round(max(sizes), 1)}
    return found


def start(home: Path) -> tuple[subprocess.Popen, str, int, str]:
    """The page with a share: its process, its address, the share's port and password."""
    command = [
        sys.executable,
        "app.py",
        "--no-browser",
        "--no-token",
        "--port",
        "next",
        "--lang",
        "en",
        "--share",
        "own",
    ]
    with (home / "page.log").open("ab") as output:
        server = subprocess.Popen(command, cwd=process.ROOT, stdout=output, stderr=output, env=process.environment())
    for _ in range(1000):
        text = (home / "page.log").read_text(encoding="utf-8")
        if address := re.search(r"^Soulsmith: (http://127\.0\.0\.1:\d+/)", text, re.MULTILINE):
            return server, address[1]
        time.sleep(0.5)
    raise SystemExit((home / "page.log").read_text()[-2000:])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.an_hour", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--steps", type=int, default=100, help="of each run")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    scratch = tempfile.TemporaryDirectory(prefix="hour-", ignore_cleanup_errors=True)
    home = Path(scratch.name) / "home"
    home.mkdir()
    os.environ["SOULSMITH_HOME"] = str(home)
    first = share_probe.make_run(home)
    server, address = start(home)
    many = 10**9
    limits = Limits(visitors=args.visitors, messages=many, tokens=many, messages_in_all=many, tokens_in_all=many,
                    reply_tokens=16)  # fmt: skip
    opened = links.open_chat(first, "own", limits, "en")
    guests = [share_probe.Guest(opened.port, opened.share.password) for _ in range(args.visitors)]
    log = Log()
    work = [
        *(partial(until_over, log, partial(visit, log, guest, f"guest{at}")) for at, guest in enumerate(guests)),
        partial(until_over, log, partial(train, log, first, args.steps)),
        partial(until_over, log, partial(write, log, 20_000)),
        partial(until_over, log, lambda _: watch(log, address)),
        partial(sample, log, psutil.Process(server.pid)),
    ]
    threads = [threading.Thread(target=one, daemon=True) for one in work]
    for thread in threads:
        thread.start()
    time.sleep(60 * args.minutes)
    alive = server.poll() is None
    log.over.set()
    for thread in threads:
        thread.join(90)
    restarts = opened.share.restarts
    links.end()
    answered = httpx.get(address, timeout=60).status_code if alive else 0
    server.terminate()
    server.wait(60)
    result = {"minutes": args.minutes, "visitors": args.visitors, "page_answers": answered, "share_restarts": restarts}
    result |= log.counts
    result |= {"replies_mixed_up": log.counts.get("replies_mixed_up", 0), "wrong": log.wrong, "memory_mb": growth(log)}
    print(json.dumps(result, indent=None if args.json else 2), flush=True)
    scratch.cleanup()


if __name__ == "__main__":
    main()
