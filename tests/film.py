"""The short film of the README: `python -m tests.film --out assets`.

The starter learns a bundled sample, its trainer is killed in the middle, the run goes on from its checkpoint, and two
replies are voted on blind. The page is driven in English and photographed in both languages; each becomes an animated
WebP. On two cores it takes about ten minutes.
"""

import argparse
import io
import os
import re
import tempfile
from functools import partial
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tests.screenshots import LOCALES, SETTLE_MS
from ui.text import Say

STEPS, EVERY = 12, 3  # of the run, and between its checkpoints
WINDOW = {"width": 1280, "height": 1022}  # ends between two lines of what is in most pictures
WIDTH, BAR = 960, 44  # pixels of a picture, and of the caption under it
FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
QUESTION, LONGEST = "I can't sleep. What should I do?", 100  # tokens of a reply that is voted on
CAPTIONS = {
    "corpus": ("A corpus: here a bundled sample, or any files of yours", "Корпус: готовый образец или любые ваши файлы"),
    "train": ("Training in the background, drawn live", "Обучение идёт в фоне, графики обновляются сами"),
    "killed": ("The trainer was killed: press Resume", "Процесс обучения убит: нажмите «Продолжить»"),
    "resumed": ("It goes on from its last checkpoint", "Обучение идёт дальше с последней контрольной точки"),
    "finished": ("Before and after, and what comes next", "До и после — и что делать дальше"),
    "vote": ("A blind vote: who replied stays hidden", "Слепое голосование: кто отвечал, не видно"),
    "verdict": ("The verdict: who was who, and what the votes say", "Итог: кто есть кто и что говорят голоса"),
}  # fmt: skip
# Whatever is shot can be scrolled to the top, and below the card of a run are no directories of this machine.
LONG_PAGE = (
    ".gradio-container, .block:has(.learned-card) { margin-bottom: 1000px !important; } * { scroll-margin: 8px; }"
)
IN_SIGHT = """(words) => [...document.querySelectorAll('body *')].some((one) => {
    const { top, bottom, height } = one.getBoundingClientRect();
    const texts = [one.value, ...[...one.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data)];
    return height && bottom > 0 && top < innerHeight && texts.some((text) => String(text).includes(words));
})"""


class Camera:
    """A window of the page in each language, and what was photographed in it."""

    def __init__(self, browser, address: str, home: Path):
        self.home, self.pages, self.frames = home, {}, {lang: [] for lang in LOCALES}
        for lang, locale in LOCALES.items():
            page = browser.new_context(locale=locale, viewport=WINDOW).new_page()
            page.set_default_timeout(300_000)  # a busy machine
            page.goto(address)
            page.get_by_role("tab").first.wait_for()
            self.pages[lang] = page

    def show(self, place: str, langs=tuple(LOCALES)) -> None:
        """Open an address of the page, such as training/RUN, anew."""
        for lang in langs:
            page = self.pages[lang]
            page.goto(f"{page.url.partition('#')[0]}#{place}")
            page.reload()
            page.get_by_role("tab").first.wait_for()
            page.add_style_tag(content=LONG_PAGE)

    def shoot(self, scene: str, seconds: float, find=None) -> None:
        """A picture in each language; what `find` finds by page and words is at its top."""
        for at, (lang, page) in enumerate(self.pages.items()):
            if find:
                shown = find(page, Say(lang))
                shown.wait_for()
            page.mouse.move(0, 0)  # a plot shows its buttons under a pointer
            page.wait_for_timeout(SETTLE_MS)
            if find:
                shown.evaluate("(one) => one.scrollIntoView()")
            page.wait_for_timeout(500)
            for path in (self.home, Path(__file__).parent.parent):
                assert not page.evaluate(IN_SIGHT, str(path)), (scene, lang, path)
            picture = captioned(Image.open(io.BytesIO(page.screenshot())), CAPTIONS[scene][at])
            self.frames[lang].append((picture, round(1000 * seconds)))

    def write(self, out: Path) -> list[Path]:
        """film-LANG.webp of each language, of pictures that are whole: changes alone leave traces of the one before."""
        made = []
        for lang, frames in self.frames.items():
            pictures, durations = zip(*frames, strict=True)
            made.append(out / f"film-{lang}.webp")
            whole = {"quality": 70, "method": 6, "kmin": 0, "kmax": 1}
            pictures[0].save(
                made[-1], save_all=True, append_images=pictures[1:], duration=list(durations), loop=0, **whole
            )
        return made


def captioned(picture: Image.Image, words: str) -> Image.Image:
    """A picture of the page, smaller, with words on a bar under it."""
    height = round(WIDTH * picture.height / picture.width)
    whole = Image.new("RGB", (WIDTH, height + BAR), "#1f2937")
    whole.paste(picture.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS))
    ImageDraw.Draw(whole).text((16, height + BAR // 2), words, "white", ImageFont.truetype(FONT, 20), anchor="lm")
    return whole


def corpus(camera: Camera, say: Say) -> None:
    from tests.test_browser import take_sample

    take_sample(camera.pages["en"], say, "lighthouse")
    camera.show("corpus", ["ru"])
    camera.shoot("corpus", 3)


def training(camera: Camera, say: Say) -> str:
    """Train, kill, resume; the id of the run."""
    from core.runs import store, terminate
    from tests.test_browser import latest_run, open_tab, wait_until

    page = camera.pages["en"]
    open_tab(page, say, "training")
    page.get_by_text(say("training.more"), exact=True).click()
    for field, value in (("max_steps", STEPS), ("eval_steps", EVERY), ("validation_share", 0.04)):
        page.get_by_label(say(f"training.{field}")).fill(str(value))
    page.get_by_text(say("training.more"), exact=True).click()
    page.get_by_role("button", name=say("training.train"), exact=True).click()
    wait_until(lambda: store.sync_all() and (latest_run()["step"] or 0) >= 1)
    run = latest_run()["id"]
    camera.show(f"training/{run}")
    for step in (2, EVERY, EVERY + 2):
        shoot_step(camera, "train", step)
    terminate.trainer_of(run).kill()
    wait_until(lambda: latest_run()["state"] in ("lost", "failed"))
    for lang, shown in camera.pages.items():
        shown.get_by_role("button", name=Say(lang)("training.resume"), exact=True).wait_for()
    camera.shoot("killed", 3)
    page.get_by_role("button", name=say("training.resume"), exact=True).click()
    wait_until(lambda: latest_run()["state"] == "running")
    camera.show(f"training/{run}")
    for step in (2 * EVERY, 3 * EVERY):
        shoot_step(camera, "resumed", step)
    wait_until(lambda: latest_run()["state"] == "finished")
    return run


def result(camera: Camera, run: str) -> None:
    """What the run has learned."""
    camera.show(f"runs/{run}")
    for page in camera.pages.values():
        seen(".learned-card", page).wait_for()
    camera.shoot("finished", 3, lambda page, say: page.get_by_text(say("runs.intro"), exact=True))


def shoot_step(camera: Camera, scene: str, step: int) -> None:
    """A picture of the run at a step, or soon after it, once the curves are drawn."""
    reached = re.compile(rf"\b({'|'.join(map(str, range(step, STEPS + 1)))}) / {STEPS}\b")
    for page in camera.pages.values():
        page.get_by_text(reached).first.wait_for(timeout=900_000)
        seen(".js-plotly-plot .scatterlayer path.js-line", page).wait_for()
    camera.shoot(scene, 1.5)


def seen(selector: str, page, say: Say | None = None):
    """The first part of the page that a selector finds in sight."""
    return page.locator(selector).filter(visible=True).first


def voting(camera: Camera, say: Say, run: str) -> None:
    """A match of one question, a vote for the trained model, the verdict."""
    from core import jobs, paths
    from core.arena import matches, votes
    from tests.test_browser import wait_until

    page = camera.pages["en"]
    camera.show(f"playground/arena:{run}")
    page.get_by_text(say("arena.own"), exact=True).click()
    page.get_by_label(say("arena.own.name"), exact=True).fill("film")
    page.get_by_label(say("arena.own.text")).fill(QUESTION)
    page.get_by_role("button", name=say("arena.own.save"), exact=True).click()
    page.get_by_text(re.compile(re.escape(say("arena.own.kept", name="film")))).first.wait_for()
    page.get_by_label(say("playground.max_new_tokens")).filter(visible=True).fill(str(LONGEST))
    page.get_by_role("button", name=say("arena.start"), exact=True).click()
    wait_until(lambda: jobs.listed(paths.arena()) and jobs.state(jobs.listed(paths.arena())[0]) == "finished")
    camera.show(f"playground/arena:{run}")
    match = jobs.listed(paths.arena())[0].name
    for shown in camera.pages.values():
        shown.locator("#vote-left:not([disabled])").first.wait_for()
    camera.shoot("vote", 4, row_of_the_match)
    page.locator("#vote-left" if matches.sides(match, 0)[0] == "b" else "#vote-right").click()
    wait_until(lambda: len(votes.of_match(match)) == 1)
    camera.show(f"playground/arena:{run}")
    for lang, shown in camera.pages.items():
        shown.get_by_role("button", name=Say(lang)("arena.show"), exact=True).click()
        seen(".interval", shown).wait_for()
    camera.shoot("verdict", 4, partial(seen, "#arena-left"))


def row_of_the_match(page, say: Say):
    return page.locator(".row").filter(has=page.get_by_label(say("arena.match"), exact=True)).last


def film(browser, address: str, home: Path, out: Path) -> list[Path]:
    """Drive the page behind the address, whose data directory is `home`, and write a film a language."""
    camera, say = Camera(browser, address, home), Say("en")
    try:
        corpus(camera, say)
        run = training(camera, say)
        result(camera, run)
        voting(camera, say, run)
    finally:  # what was photographed before something went wrong shows where
        made = camera.write(out)
    return made


def main() -> None:
    from playwright.sync_api import sync_playwright

    from core.models import models
    from core.runs import eval_samples
    from tests.test_browser import CHROMIUM, FLAGS, Server

    parser = argparse.ArgumentParser(prog="python -m tests.film", description=__doc__.split("\n")[0])
    parser.add_argument("--out", required=True, type=Path, help="where the films go")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home, sync_playwright() as playwright:
        os.environ["SOULSMITH_HOME"] = home
        models.prepare(models.STARTER)
        eval_samples.keep([QUESTION])
        server = Server(Path(home))
        server.start()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            made = film(browser, server.address, Path(home), args.out)
        finally:
            browser.close()
            server.kill()
    for path in made:
        print(f"{path}: {path.stat().st_size >> 10} KiB")


if __name__ == "__main__":
    main()
