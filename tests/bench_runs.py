"""How runs scale: `python -m tests.bench_runs`; with `--browser MINUTES` also the page's memory while it ticks.

A run of a million logged steps is opened and ticked, five hundred runs are listed, the trainer's work on events is
timed against a step of a real (tiny) training, and a Chromium watches a run that logs twice a second.
"""

import argparse
import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import psutil
from filelock import FileLock

from core import events, jobs, paths
from core.runs import runs, store
from core.training.config import TrainConfig
from ui import history, run_view
from ui.text import Say

ROOT = Path(__file__).parent.parent
CONFIG = TrainConfig(base_model="starter", corpus="corpus", method="lora", max_steps=1_000_000)
SAY = Say("en")


@contextmanager
def empty_home():
    """A data directory of the benchmark's own."""
    folder = tempfile.mkdtemp(prefix="bench-runs-")
    os.environ["SOULSMITH_HOME"] = folder
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def step(number: int, of: int) -> dict:
    """A step as the trainer logs it."""
    return {
        "event": "step",
        "time": 1e9 + number,
        "step": number,
        "max_steps": of,
        "epoch": number / of,
        "loss": 2 + 3 / (1 + number / 1e4) + (number * 2654435761 % 1000) / 1e4,
        "grad_norm": 1 + (number * 40503 % 1000) / 1e3,
        "learning_rate": 2e-4 * (1 - number / of),
        "tokens": 4096 * number,
        "tokens_per_second": 1000 + number % 7,
        "seconds_left": float(of - number),
        "memory_gib": 5.25,
    }


def write_steps(run_id: str, first: int, last: int, of: int) -> None:
    with events.file(paths.run(run_id)).open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(step(number, of)) + "\n" for number in range(first, last + 1))


def seconds(work, times: int = 1) -> float:
    """The median time of some work."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def million() -> dict:
    """Open a run of a million steps: from the log alone, from the database, and a tick with ten new steps."""
    steps = CONFIG.max_steps
    with empty_home():
        run_id = runs.create(CONFIG, "a million steps")
        events.append(paths.run(run_id), "started", pid=0, resumed_from=None)
        write_steps(run_id, 1, steps, steps)
        shown = []
        first = seconds(lambda: shown.append(run_view.draw(SAY, run_id)))
        read = store.sync(run_id, 0)["step"]
        began = time.perf_counter()
        while store.sync(run_id)["events_offset"] < events.size(paths.run(run_id)):
            pass
        rest = time.perf_counter() - began
        opened = seconds(lambda: run_view.draw(SAY, run_id), 5)
        ticks, draws = [], []
        for number in range(20):
            write_steps(run_id, steps + 10 * number + 1, steps + 10 * number + 10, steps)
            ticks.append(seconds(lambda: run_view.on_tick(SAY, run_id)))
            draws.append(seconds(lambda: run_view.draw(SAY, run_id)))
        return {
            "log_mb": round(events.size(paths.run(run_id)) / 1e6),
            "first_opening_without_database_s": round(first, 2),
            "steps_read_by_then": read,
            "rest_of_the_log_s": round(rest, 1),
            "opening_s": round(opened, 3),
            "tick_ms": round(1e3 * statistics.median(ticks), 1),
            "tick_and_drawing_ms": round(1e3 * statistics.median(map(sum, zip(ticks, draws, strict=True))), 1),
            "worst_tick_and_drawing_ms": round(1e3 * max(map(sum, zip(ticks, draws, strict=True))), 1),
        }


def five_hundred() -> dict:
    """List five hundred finished runs of a thousand steps each."""
    with empty_home():
        for number in range(500):
            run_id = runs.create(CONFIG, f"run {number}")
            events.append(paths.run(run_id), "started", pid=0, resumed_from=None)
            write_steps(run_id, 1, 1000, 1000)
            events.append(paths.run(run_id), "finished", steps=1000, max_steps=1000, eval_loss=2.0)
        first = seconds(lambda: history.on_load(SAY, None, ""))
        rest = seconds(lambda: store.sync_all(seconds=float("inf")))
        return {
            "first_table_without_database_s": round(first, 2),
            "rest_of_the_logs_s": round(rest, 1),
            "table_s": round(seconds(lambda: history.on_load(SAY, None, ""), 5), 3),
            "search_s": round(seconds(lambda: history.on_load(SAY, None, "run 499"), 5), 3),
            "tick_ms": round(1e3 * seconds(lambda: run_view.on_tick(SAY, run_id), 10), 1),
        }


def trainer() -> dict:
    """What a step costs that is not training: one event, a look at both files of requests."""
    from core.runs.observer import Observer

    with empty_home():
        run_id = runs.create(CONFIG, "events")
        run_dir = paths.run(run_id)
        jobs.ask(run_dir, "resume")
        observer = Observer(run_dir, lambda event, **values: events.append(run_dir, event, **values))

        def a_step(number: int) -> None:
            observer.should_stop()
            observer.once_requests(number)
            values = step(number, 1_000_000)
            observer.report(values.pop("event"), **{key: value for key, value in values.items() if key != "time"})

        cost = seconds(lambda: [a_step(number) for number in range(1, 1001)], 5) / 1000
        return {"event_us_a_step": round(1e6 * cost, 1), "one_percent_of_a_step_of_ms": round(1e5 * cost, 1)}


def browser(minutes: float) -> dict:
    """Memory of the page's process and of a Chromium that watches a run, at the start and at the end."""
    from playwright.sync_api import sync_playwright

    port = "7947"
    with empty_home() as home:
        run_id = runs.create(CONFIG, "ticking")
        write_steps(run_id, 1, 20_000, 1_000_000)
        lock = FileLock(paths.run(run_id) / "run.lock")  # as if a trainer were at work
        lock.acquire()
        page_process = subprocess.Popen(
            [sys.executable, "app.py", "--no-browser", "--no-token", "--port", port],
            cwd=ROOT,
            env={**os.environ, "SOULSMITH_HOME": str(home)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for_page(port)
            with sync_playwright() as playwright:
                path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
                chromium = playwright.chromium.launch(
                    executable_path=path, args=["--no-sandbox", "--disable-gpu", "--js-flags=--expose-gc"]
                )
                return watch(chromium, page_process.pid, run_id, port, minutes)
        finally:
            page_process.kill()
            lock.release()


def wait_for_page(port: str) -> None:
    for _ in range(240):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read()
            return
        except OSError:
            time.sleep(0.25)
    sys.exit("The page did not open.")


def watch(chromium, pid: int, run_id: str, port: str, minutes: float) -> dict:
    page = chromium.new_context(locale="en-US", viewport={"width": 1280, "height": 960}).new_page()
    page.goto(f"http://127.0.0.1:{port}/")
    page.get_by_role("tab", name=SAY("page.training"), exact=True).click()
    page.get_by_text(SAY("runs.more_curves"), exact=True).first.click()
    page.locator(".js-plotly-plot").first.wait_for()
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    over, samples = threading.Event(), []
    writer = threading.Thread(target=keep_logging, args=(run_id, over))
    writer.start()
    end = time.monotonic() + 60 * minutes
    try:
        while time.monotonic() < end:
            page.wait_for_timeout(15_000)
            samples.append(memory(session, pid))
            print(samples[-1], file=sys.stderr, flush=True)
    finally:
        over.set()
        writer.join()
    third = max(1, len(samples) // 3)
    first, last = samples[third : 2 * third] or samples[:1], samples[-third:]
    hours = (len(samples) - len(samples) // 2 - third / 2) * 15 / 3600 or 1
    found = {"minutes": minutes, "samples": len(samples)}
    for name in samples[0]:
        before, after = (statistics.mean(sample[name] for sample in part) for part in (first, last))
        found |= {f"{name}_middle": round(before, 1), f"{name}_end": round(after, 1)}
        found[f"{name}_an_hour"] = round((after - before) / hours, 1)
    return found


def keep_logging(run_id: str, over: threading.Event) -> None:
    number = 20_000
    while not over.wait(0.5):
        number += 1
        events.append(paths.run(run_id), **{k: v for k, v in step(number, 1_000_000).items() if k != "time"})


def memory(session, pid: int) -> dict:
    """Live JavaScript heap after a collection, nodes of the document, and the page process's resident memory."""
    session.send("HeapProfiler.collectGarbage")
    metrics = {metric["name"]: metric["value"] for metric in session.send("Performance.getMetrics")["metrics"]}
    return {
        "heap_mb": round(metrics["JSHeapUsedSize"] / 1e6, 1),
        "nodes": int(metrics["Nodes"]),
        "listeners": int(metrics["JSEventListeners"]),
        "page_process_mb": round(psutil.Process(pid).memory_info().rss / 1e6, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench_runs", description=__doc__.split("\n")[0])
    parser.add_argument("--browser", type=float, metavar="MINUTES", default=0, help="watch the page's memory so long")
    parser.add_argument("--only-browser", action="store_true")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    parts = {} if args.only_browser else {"million": million, "five_hundred": five_hundred, "trainer": trainer}
    if args.browser:
        parts["browser"] = lambda: browser(args.browser)
    result = {}
    for name, part in parts.items():
        gc.collect()
        result[name] = part()
        if not args.json:
            print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in result[name].items()), flush=True)
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
