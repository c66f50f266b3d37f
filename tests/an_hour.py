"""An hour of everything at once: `python -m tests.an_hour --minutes 60 --json`; in short: `--minutes 3 --visitors 6`.

SIGTERM ends it early, with the figures so far.

Twenty visitors of a shared link ask without a pause, runs are trained one after another, corpora are written one after
another, and a window of the page watches. Every question carries its visitor's name, and the same question after the
same words has the same reply, so that a turn that reached another conversation shows. Memory is sampled by process.
"""

import argparse
import atexit
import json
import os
import re
import signal
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
TELL_SECONDS = 300
PATIENCE = 3600  # seconds for a reply: twenty visitors on a busy machine
ROLES = {  # of a process, by what its command line holds
    "share": "ui.sharing_process",
    "chat": "core.chat --serve",
    "foreign": "core.foreign",
    "page": "app.py",
}
CONVERSATIONS = 5  # that a visitor has, again and again


class Log:
    """What happened; every thread writes it."""

    def __init__(self):
        self.counts, self.wrong, self.over = {}, [], threading.Event()
        self.memory: list[dict[str, int]] = []
        self.replies: dict[tuple, str] = {}  # by box and what was said before
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
    """One conversation of three turns."""
    if not guest.clear():
        log.report(f"{name}: the boxes are not empty at the beginning of conversation {number}")
    said = [[], []]
    for turn in range(3):
        if log.over.is_set():
            return
        words = f"{name} conversation {number % CONVERSATIONS} turn {turn}"
        log.count("calls")
        note, boxes = guest.ask(words)
        if log.over.is_set():
            return
        outcome = judge(words, said, boxes, log.replies)
        log.count(outcome)
        if outcome != "replies":
            log.report(f"{outcome}: {words} ({note}) after {said}: {boxes}"[:900])
            return
        said = boxes


def judge(words: str, said: list[list], boxes: list[list], known: dict[tuple, str]) -> str:
    """What became of a question after what was said before: "replies", "replies_lost" or "replies_mixed_up".

    `known` holds the replies to the same words before; what is new is added.
    """
    asked = [[*box, words] for box in said]
    if not boxes or boxes in (said, asked):
        return "replies_lost"  # the page says why in its note
    for column, (box, before) in enumerate(zip(boxes, asked, strict=True)):
        if box[:-1] != before:
            return "replies_mixed_up"
        if box[-1] != known.setdefault((column, *box[:-1]), box[-1]):
            return "replies_mixed_up"
    return "replies"


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
    """A window of the page that goes over its tabs; what it complains of is noted, and its heap is sampled as `window`."""
    from playwright.sync_api import sync_playwright

    from tests.test_browser import CHROMIUM, FLAGS

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, "--enable-precise-memory-info"])
        window = chromium.new_context(locale="en-US").new_page()
        window.on("pageerror", lambda error: log.report(f"the page: {error}"[:300]))
        window.goto(address, timeout=300_000)
        window.get_by_role("tab").first.wait_for(timeout=300_000)
        while not log.over.is_set():
            for tab in ("Training", "Runs", "Share", "Training"):
                try:
                    window.get_by_role("tab", name=tab, exact=True).click(timeout=30_000)
                    log.count("tabs_opened")
                except Exception:  # a busy machine is slow; the next turn tries again
                    log.count("tabs_not_opened")
                for words in window.locator(".toast-body.error").all_inner_texts():
                    log.report(f"the page says: {words}"[:300])
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


def course(memory: list[dict[str, int]]) -> dict[str, dict]:
    """By role: megabytes at the start, in the middle and at the end (medians of a tenth of the time), and the most.

    The first tenth is left out: everything is still being loaded.
    """
    found = {}
    for role in (*ROLES, "window"):
        sizes = [one[role] / 1e6 for one in memory if role in one]
        tenth = len(sizes) // 10
        if tenth:
            parts = {"start": sizes[tenth : 2 * tenth], "middle": sizes[5 * tenth : 6 * tenth], "end": sizes[-tenth:]}
            medians = {name: round(statistics.median(part), 1) for name, part in parts.items()}
            found[role] = medians | {"most": round(max(sizes), 1)}
    return found


def wait(log: Log, minutes: float) -> float:
    """Wait so many minutes, or until SIGTERM, and tell now and then how it stands; how many minutes it was."""
    enough, began = threading.Event(), time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: enough.set())
    while (left := 60 * minutes + began - time.monotonic()) > 0 and not enough.wait(min(left, TELL_SECONDS)):
        told = {"minutes": round((time.monotonic() - began) / 60, 1), "load": os.getloadavg()[0], **log.counts}
        told |= next((one for one in reversed(log.memory) if "share" in one), {})
        print(json.dumps(told), file=sys.stderr, flush=True)
    return round((time.monotonic() - began) / 60, 1)


def start(home: Path) -> tuple[subprocess.Popen, str]:
    """The page: its process and its address."""
    command = [sys.executable, "app.py", "--no-browser", "--no-token", "--port", "next", "--lang", "en"]
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
    atexit.register(server.kill)
    links.START_SECONDS = links.SILENT_SECONDS = PATIENCE
    many = 10**9
    limits = Limits(visitors=args.visitors, messages=many, tokens=many, messages_in_all=many, tokens_in_all=many,
                    reply_tokens=16)  # fmt: skip
    opened = links.open_chat(first, "own", limits, "en")
    guests = [share_probe.Guest(opened.port, opened.share.password) for _ in range(args.visitors)]
    for guest in guests:
        guest.client.timeout = PATIENCE
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
    minutes = wait(log, args.minutes)
    alive = server.poll() is None
    log.over.set()
    end = time.monotonic() + 90
    for thread in threads:
        thread.join(max(0, end - time.monotonic()))
    restarts = opened.share.restarts
    links.end()
    answered = httpx.get(address, timeout=60).status_code if alive else 0
    server.terminate()
    with suppress(subprocess.TimeoutExpired):  # on a busy machine
        server.wait(60)
    log.wrong += re.findall(r"^Traceback.*(?:\n .*)*\n.*", (home / "page.log").read_text(), re.MULTILINE)
    result = {"minutes": minutes, "visitors": args.visitors, "page_answers": answered, "share_restarts": restarts}
    result |= {"replies_lost": 0, "replies_mixed_up": 0, "tabs_not_opened": 0} | log.counts
    result |= {"load": os.getloadavg(), "wrong": log.wrong, "memory_mb": course(log.memory)}
    print(json.dumps(result, indent=None if args.json else 2), flush=True)
    scratch.cleanup()


if __name__ == "__main__":
    main()
