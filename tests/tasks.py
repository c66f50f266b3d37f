"""What a newcomer does on the page, with the clicks each task takes: `python -m tests.tasks`; by keyboard with --keyboard.

25 tasks in both languages, on a desk and on a phone. Nothing is trained: the data directory has a corpus and two recorded
runs. What is typed or chosen by words is no click; opening the menu of tabs on a phone is one.
"""

import argparse
import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.screenshots import DESK, LOCALES, PHONE
from ui.text import Say

SIZES = {"desk": DESK, "phone": PHONE}
TASKS: dict[str, tuple[int, Callable]] = {}  # name: the most clicks on a desk, and how it is done
MENU = 1  # click more on a phone, where some tabs stand behind a button
MOST_TABS = 200  # presses of Tab on the way to something: more, and it cannot be reached
# Where the focus is, seen from an element: on it, before it, after it, or in the group that arrows go through with it.
STANDS = """(wanted) => {
  const now = document.activeElement, group = "[role=tablist], [role=radiogroup], fieldset";
  if (now === wanted) return "here";
  const fellow = wanted.type === "radio" ? now.name === wanted.name && now.type === "radio" : wanted.tabIndex < 0;
  const after = now.compareDocumentPosition(wanted) & Node.DOCUMENT_POSITION_FOLLOWING ? "after" : "before";
  return fellow && now.closest(group) && now.closest(group) === wanted.closest(group) ? "fellow " + after : after;
}"""
KEYS = {"before": "Shift+Tab", "after": "Tab", "fellow before": "ArrowLeft", "fellow after": "ArrowRight"}


def task(most: int):
    """A task of the script, in the order in which they are written here."""

    def add(do: Callable) -> Callable:
        TASKS[do.__name__.replace("_", " ")] = (most, do)
        return do

    return add


def furnish(home: Path) -> None:
    """A corpus, and two runs of it that have ended: their events, no weights."""
    from core import events, paths
    from core.corpus import corpus
    from core.runs import runs
    from core.training.config import TrainConfig
    from tests.test_runs import write_steps

    home.mkdir(parents=True, exist_ok=True)
    os.environ["SOULSMITH_HOME"] = str(home)
    sample = next(sample for sample in corpus.samples() if sample["id"] == "lighthouse-en")
    made = corpus.create([sample["path"]], "lighthouse")
    for at, rate in enumerate((2e-4, 1e-3)):
        run_id = runs.create(TrainConfig("starter", made["id"], learning_rate=rate, max_steps=60), f"lamp {at + 1}")
        events.append(paths.run(run_id), "started", resumed_from=None)
        write_steps(run_id, 1, 60, of=60, loss=lambda step: 3 - step / 40)
        for step in (0, 30, 60):
            events.append(paths.run(run_id), "eval", step=step, eval_loss=3 - step / 60)
            said = [{"prompt": "Who are you?", "reply": f"I keep the lamp: {step}."}]
            events.append(paths.run(run_id), "samples", step=step, samples=said)
        events.append(paths.run(run_id), "finished", steps=60, max_steps=60, eval_loss=2.0)


class Newcomer:
    """Who does the tasks: counts what is clicked, or pressed where there is only a keyboard."""

    def __init__(self, page, say: Say, *, keyboard: bool = False):
        self.page, self.say, self.keyboard, self.clicks = page, say, keyboard, 0

    def click(self, what, key: str = "Enter") -> None:
        self.clicks += 1
        if not self.keyboard:
            return what.click()
        self.reach(what)
        if not what.evaluate("(one) => one.type === 'radio' && one.checked"):  # arrows choose as they go
            self.page.keyboard.press(key)

    def reach(self, what) -> None:
        """Bring the focus to it: by Tab, and by arrows within a group of tabs or choices, where there is no mouse."""
        if not self.keyboard:
            return what.focus()
        for _ in range(MOST_TABS):
            where = what.evaluate(STANDS)
            if where == "here":
                return
            self.page.keyboard.press(KEYS[where])
        raise AssertionError(f"not reached by {MOST_TABS} keys: {what}")

    def type(self, field, words: str) -> None:
        """Put words into a field in place of what it holds, key by key."""
        self.reach(field)
        self.page.keyboard.press("Control+a")
        self.page.keyboard.type(words) if words else self.page.keyboard.press("Delete")

    def button(self, key: str, **values):
        return self.page.get_by_role("button", name=self.say(key, **values), exact=True).filter(visible=True).first

    def field(self, key: str, **values):
        words = r"\s+".join(map(re.escape, self.say(key, **values).split()))
        label = re.compile(rf"^\s*{words}")  # its sentence of help may follow
        return self.page.get_by_label(label).filter(visible=True).first

    def text(self, words: str):
        return self.page.get_by_text(words).filter(visible=True).first

    def tab(self, name: str) -> None:
        found = self.page.locator(f"button[role=tab][data-tab-id={name}]").filter(visible=True)
        if not found.count():
            self.click(self.page.locator(".overflow-menu button").first)
            self.click(self.page.locator(".overflow-dropdown button", has_text=self.say(f"page.{name}")).first)
        else:
            self.click(found.first)
        self.page.locator(f"[role=tab][aria-selected=true][data-tab-id={name}]").first.wait_for(state="attached")

    def fold(self, key: str) -> None:
        """Open what is folded away."""
        self.click(self.page.locator("button.label-wrap", has_text=self.say(key)).filter(visible=True).first)

    def choose(self, field, words: str) -> None:
        """Choose from a list by typing, once what was typed is marked in it."""
        self.type(field, words)
        self.page.locator("[role=option].active").filter(has_text=words, visible=True).first.wait_for()
        self.page.keyboard.press("Enter")


# ---------------------------------------------------------------------------------------------------------------------
# The tasks


@task(0)
def see_what_comes_next(who: Newcomer):
    who.page.locator(".road a[aria-current=step]").first.wait_for()


@task(0)
def see_the_latest_runs(who: Newcomer):
    who.page.locator(".latest a", has_text="lamp 2").wait_for()


@task(1)
def open_a_run_from_the_start(who: Newcomer):
    who.click(who.page.locator(".latest a", has_text="lamp 1"))
    who.page.wait_for_function("location.hash.startsWith('#runs/')")


@task(0)
def go_back(who: Newcomer):
    who.page.go_back()
    who.page.locator("[role=tab][aria-selected=true][data-tab-id=opening]").first.wait_for(state="attached")


@task(1)
def see_what_a_model_needs(who: Newcomer):
    who.tab("calculator")
    who.page.locator(".mosaic").first.wait_for()


@task(1)
def ask_about_another_model(who: Newcomer):
    tile = who.page.locator(".mosaic .tile:not([aria-current])").first
    name = tile.get_attribute("aria-label").split(":")[0]
    who.click(tile)
    who.page.wait_for_function(
        "(name) => document.querySelector('.tile[aria-current]')?.ariaLabel.startsWith(name)", arg=name
    )


@task(1)
def take_the_plan_along(who: Newcomer):
    who.click(who.button("calculator.plan.open"))
    who.page.locator("[role=tab][aria-selected=true][data-tab-id=training]").first.wait_for(state="attached")


@task(1)
def find_a_setting(who: Newcomer):
    who.fold("training.more")
    who.type(who.field("training.find"), "lora_rank")
    who.field("training.lora_rank").wait_for()


@task(0)
def change_it_and_see_that_it_differs(who: Newcomer):
    who.type(who.field("training.lora_rank"), "32")
    who.page.locator("#setting-lora_rank.differs").wait_for()


@task(0)
def find_out_what_a_rank_is(who: Newcomer):
    who.reach(who.page.locator("#setting-lora_rank dfn[data-term=rank]").first)
    who.text(who.page.evaluate("glossary.rank[1]")).wait_for()
    who.page.keyboard.press("Escape")
    who.page.locator("#term-told").wait_for(state="detached")


@task(1)
def put_it_back(who: Newcomer):
    who.click(who.page.locator("#setting-lora_rank .setting-reset"))
    who.page.locator("#setting-lora_rank:not(.differs)").wait_for()


@task(1)
def see_the_exact_config(who: Newcomer):
    who.fold("training.exact")
    who.text("lora_alpha").wait_for()


@task(1)
def read_the_replies_of_a_run(who: Newcomer):
    who.fold("eval_samples.title")
    who.text("I keep the lamp").wait_for()


@task(1)
def look_at_the_corpora(who: Newcomer):
    who.tab("corpus")
    who.text("lighthouse").wait_for()


@task(2)
def make_a_corpus_of_a_sample(who: Newcomer):
    from playwright.sync_api import expect

    before = who.field("corpora.yours").input_value()
    who.click(who.page.get_by_role("tab", name=who.say("corpora.step.take")).first)
    words = who.say("corpora.take_sample", title="|").split("|")[0]
    who.click(who.page.get_by_role("button", name=words).filter(visible=True).last)
    expect(who.field("corpora.yours")).not_to_have_value(before, timeout=180_000)


@task(2)
def see_ten_rows_of_a_recipe(who: Newcomer):
    who.tab("synth")
    who.click(who.button("synth.show"))
    who.page.locator(".synth-row").filter(visible=True).first.wait_for()


@task(1)
def ask_something_in_the_playground(who: Newcomer):
    who.tab("playground")
    composer = who.page.locator(".composer textarea").filter(visible=True).first
    who.type(composer, "Who are you?")
    who.button("playground.send").wait_for()


@task(1)
def look_at_all_runs(who: Newcomer):
    who.tab("runs")
    who.field("runs.search").wait_for()


@task(0)
def find_a_run_by_its_name(who: Newcomer):
    who.type(who.field("runs.search"), "lamp 2")
    who.page.get_by_text("lamp 1", exact=True).filter(visible=True).first.wait_for(state="detached")
    who.type(who.field("runs.search"), "")


@task(0)
def rename_it_in_place(who: Newcomer):
    from playwright.sync_api import expect

    who.choose(who.field("runs.pick"), "lamp 2")
    name = who.field("runs.name")
    expect(name).to_have_value("lamp 2", timeout=60_000)
    who.type(name, "best lamp")
    who.page.keyboard.press("Enter")
    who.text(who.say("runs.saved")).wait_for()


@task(1)
def compare_two_runs(who: Newcomer):
    who.fold("compare.title")
    chosen = who.field("compare.runs")
    for name in ("lamp 1", "best lamp"):
        who.choose(chosen, name)
    who.page.locator(".compared").get_by_text("learning_rate", exact=True).wait_for()


@task(2)
def choose_a_column(who: Newcomer):
    who.fold("runs.columns")
    who.click(who.page.get_by_label(who.say("runs.tags"), exact=True).filter(visible=True).first, "Space")
    who.page.locator("th", has_text=who.say("runs.tags")).filter(visible=True).first.wait_for()


@task(2)
def see_what_an_export_is(who: Newcomer):
    who.tab("export")
    who.click(who.page.get_by_label(who.say("export.gguf"), exact=True).filter(visible=True).first, "Space")
    who.text(who.say("export.gguf.about")[:30]).wait_for()


@task(1)
def see_how_friends_come_in(who: Newcomer):
    who.tab("share")
    who.button("sharing.open").wait_for()


@task(1)
def read_the_page_in_the_other_language(who: Newcomer):
    lang = "en" if who.say.lang == "ru" else "ru"
    who.click(who.page.locator(f".page-head a[lang={lang}]"))
    who.page.get_by_role("button", name=Say(lang)("sharing.open"), exact=True).wait_for()


# ---------------------------------------------------------------------------------------------------------------------
# The script


def walk(
    browser, address: str, lang: str, size: str, *, keyboard: bool = False, tasks=None
) -> dict[str, tuple[int, float]]:
    """Do every task, or these of them, in one window: {task: (clicks, seconds)}; raises where one cannot be done, or the page complains."""
    page = browser.new_context(locale=LOCALES[lang], viewport=SIZES[size]).new_page()
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.set_default_timeout(180_000)  # a busy machine
    page.goto(address)
    page.locator(".road a").first.wait_for()
    page.wait_for_timeout(300)  # until the tabs know how many of them have room
    who, done = Newcomer(page, Say(lang), keyboard=keyboard), {}
    for name in tasks or TASKS:
        do = TASKS[name][1]
        before, began = who.clicks, time.monotonic()
        try:
            do(who)
        except Exception as error:
            error.add_note(f"The task was: {name} ({lang}, {size}).")
            raise
        done[name] = who.clicks - before, round(time.monotonic() - began, 1)
    page.context.close()
    if complaints:
        raise AssertionError(complaints)
    return done


def main() -> None:
    from playwright.sync_api import sync_playwright

    from tests.test_browser import CHROMIUM, FLAGS, Server

    parser = argparse.ArgumentParser(prog="python -m tests.tasks", description=__doc__.split("\n")[0])
    parser.add_argument("--keyboard", action="store_true", help="Tab, Enter, Space and arrows instead of a mouse")
    parser.add_argument("--langs", nargs="+", choices=LOCALES, default=tuple(LOCALES))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=tuple(SIZES))
    args = parser.parse_args()
    table = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for lang in args.langs:
            for size in args.sizes:
                with tempfile.TemporaryDirectory() as scratch:
                    furnish(Path(scratch) / "home")
                    server = Server(Path(scratch) / "home")
                    server.start()
                    try:
                        table[f"{lang} {size}"] = walk(browser, server.address, lang, size, keyboard=args.keyboard)
                    finally:
                        server.kill()
        browser.close()
    print("| task | " + " | ".join(table) + " |\n|---|" + "---|" * len(table))
    for name in TASKS:
        print(f"| {name} | " + " | ".join(str(done[name][0]) for done in table.values()) + " |")
    print("| all | " + " | ".join(str(sum(clicks for clicks, _ in done.values())) for done in table.values()) + " |")


if __name__ == "__main__":
    main()
