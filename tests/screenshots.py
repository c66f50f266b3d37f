"""Pictures of every tab in both languages and both themes: `python -m tests.screenshots --out DIR`.

Without --home, a data directory is filled here: a bundled sample, a tiny model, a finished run.
"""

import argparse
import itertools
import os
import tempfile
from pathlib import Path

from tests.test_browser import CHROMIUM, FLAGS, Server
from ui.text import Say

TABS = ("opening", "calculator", "corpus", "synth", "training", "playground", "runs", "export", "share")
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
WIDE = {"width": 1920, "height": 1080}
LOCALES = {"en": "en-US", "ru": "ru-RU"}
SETTLE_MS = 1500  # fonts, plots and the answers of the page's first questions


def fill(home: Path) -> None:
    """Put a corpus and a finished run of a tiny model into a data directory."""
    from core.corpus import corpus
    from tests.share_probe import make_run

    make_run(home)
    for sample in corpus.samples():
        corpus.create([sample["path"]], sample["title"]["en"])


def take(browser, address: str, out: Path, *, langs, schemes, tabs, size=DESK, suffix="") -> list[Path]:
    """One picture a language, scheme and tab."""
    made = []
    for lang, scheme in itertools.product(langs, schemes):
        say = Say(lang)
        context = browser.new_context(locale=LOCALES[lang], viewport=size, color_scheme=scheme)
        page = context.new_page()
        page.goto(address)
        page.get_by_role("tab").first.wait_for()
        page.wait_for_timeout(SETTLE_MS)
        for tab in tabs:
            to_tab(page, say, tab)
            page.wait_for_timeout(SETTLE_MS)
            made.append(out / f"{tab}-{lang}-{scheme}{suffix}.png")
            page.screenshot(path=made[-1], full_page=True)
        context.close()
    return made


def to_tab(page, say: Say, tab: str) -> None:
    """Open a tab; on a narrow screen it may be behind the button that holds the tabs without room."""
    page.get_by_role("tab", name=say("page.opening"), exact=True).wait_for()
    page.wait_for_timeout(300)  # until the tabs know how many of them have room
    found = page.get_by_role("tab", name=say(f"page.{tab}"), exact=True)
    if not found.first.is_visible():
        page.locator(".overflow-menu button").first.click()
        page.locator(".overflow-dropdown button", has_text=say(f"page.{tab}")).click()
        return
    found.first.click()


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(prog="python -m tests.screenshots", description=__doc__.split("\n")[0])
    parser.add_argument("--out", required=True, type=Path, help="where the pictures go")
    parser.add_argument("--home", type=Path, help="a data directory; default: one that is filled here")
    parser.add_argument("--tabs", nargs="+", choices=TABS, default=TABS)
    parser.add_argument("--langs", nargs="+", choices=LOCALES, default=tuple(LOCALES))
    parser.add_argument("--schemes", nargs="+", choices=("light", "dark"), default=("light", "dark"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        home = args.home or Path(scratch) / "дом"
        home.mkdir(exist_ok=True)
        os.environ["SOULSMITH_HOME"] = str(home)
        if not args.home:
            fill(home)
        server = Server(home)
        server.start()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            asked = {"langs": args.langs, "schemes": args.schemes}
            made = take(browser, server.address, args.out, tabs=args.tabs, **asked)
            one = {"langs": args.langs[:1], "schemes": args.schemes[:1]}
            made += take(
                browser, server.address, args.out, tabs=["opening", "training"], size=WIDE, suffix="-wide", **one
            )
            made += take(browser, server.address, args.out, tabs=["playground"], size=PHONE, suffix="-phone", **one)
        finally:
            browser.close()
            server.kill()
    print(f"{len(made)} pictures in {args.out}")


if __name__ == "__main__":
    main()
