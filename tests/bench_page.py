"""What the page costs: `python -m tests.bench_page --json`: bytes, calls and work on opening, and what idling costs.

A bare gradio page with one text box is measured beside it in the same browser.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import psutil

from tests.screenshots import TABS, fill, to_tab
from tests.test_browser import CHROMIUM, FLAGS, Server
from ui.text import Say

QUIET_MS = 1000  # without a call: the page is at rest
IDLE_SECONDS = 30
SAY = Say("en")
BYTES = """() => {
  const [page] = performance.getEntriesByType('navigation');
  return [page.decodedBodySize, page.encodedBodySize];
}"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench_page", description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print the figures as one line of JSON")
    parser.add_argument(
        "--idle", type=float, default=IDLE_SECONDS, metavar="SECONDS", help="how long idling is watched"
    )
    args = parser.parse_args()
    found = measure(args.idle)
    print(json.dumps(found) if args.json else "\n".join(f"{name}: {value}" for name, value in found.items()))


def measure(idle_seconds: float) -> dict:
    """Figures by name: bytes, calls, seconds, MB of the browser's heap, shares of a core."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        home = Path(scratch) / "home"
        home.mkdir()
        os.environ["SOULSMITH_HOME"] = str(home)
        fill(home)
        server = Server(home)
        server.start()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            found = {"server_idle_no_page": server_share(server, idle_seconds)}
            opening(browser, server.address)  # warms the caches of the server and the disk
            page, opened = opening(browser, server.address)
            found |= opened | after(page, server, idle_seconds)
        finally:
            browser.close()
            server.kill()
    return found


def opening(browser, address: str) -> tuple:
    """Open the page anew; it, and its bytes, calls, seconds to the road and to rest, and the browser's work."""
    page = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 900}).new_page()
    calls = watch(page)
    cdp = page.context.new_cdp_session(page)
    cdp.send("Performance.enable")
    start = time.monotonic()
    page.goto(address)
    page.locator(".road a").first.wait_for()
    road = time.monotonic() - start
    rest(page, calls)
    html_bytes, sent_bytes = page.evaluate(BYTES)
    figures = {one["name"]: one["value"] for one in cdp.send("Performance.getMetrics")["metrics"]}
    return page, {
        "html_bytes": html_bytes,
        "sent_bytes": sent_bytes,
        "calls": len(calls),
        "road_s": round(road, 2),
        "rest_s": round((calls[-1] if calls else start + road) - start, 2),
        "browser_work_s": round(figures["TaskDuration"], 2),
        "heap_mb": round(figures["JSHeapUsedSize"] / 1e6),
    }


def watch(page) -> list[float]:
    """The moments of all calls that the page makes from now on."""
    calls = []
    page.on("request", lambda request: "/queue/join" in request.url and calls.append(time.monotonic()))
    return calls


def rest(page, calls: list) -> None:
    """Wait until the page has made no call for a second."""
    seen = None
    while seen != len(calls):
        seen = len(calls)
        page.wait_for_timeout(QUIET_MS)


def after(page, server: Server, idle_seconds: float) -> dict:
    """What the page and the server do when every tab was seen once and nobody touches anything."""
    calls, cdp = watch(page), page.context.new_cdp_session(page)
    cdp.send("Performance.enable")
    before = work(cdp)
    for tab in (*TABS, "opening"):
        to_tab(page, SAY, tab)
        rest(page, calls)
    visits, spent, calls[:] = len(calls), round(work(cdp) - before, 2), []
    share = server_share(server, idle_seconds, page)
    return {"calls_of_all_tabs": visits, "tabs_work_s": spent, "idle_calls": len(calls), "server_idle": share}


def work(cdp) -> float:
    """Seconds that the browser has worked on the page."""
    return next(one["value"] for one in cdp.send("Performance.getMetrics")["metrics"] if one["name"] == "TaskDuration")


def server_share(server: Server, seconds: float, page=None) -> float:
    """The share of a core that the server takes while nobody asks it anything."""
    process = psutil.Process(server.process.pid)
    before = sum(process.cpu_times()[:2])
    page.wait_for_timeout(seconds * 1000) if page else time.sleep(seconds)
    return round((sum(process.cpu_times()[:2]) - before) / seconds, 4)


if __name__ == "__main__":
    main()
