"""The Corpus tab in a real browser: files of a person, a folder with folders in it, an import that is cancelled."""

import json
import re
import shutil
import time
from pathlib import Path

import psutil
import pytest

from core import paths
from core.corpus import corpus
from tests.test_browser import CHROMIUM, FLAGS, Server, open_tab, opened
from tests.test_foreign import RECURSIVE_PDF
from ui.text import Say

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium here: apt-get install chromium"),
]


@pytest.fixture
def server(home):
    home.mkdir(exist_ok=True)
    server = Server(home)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def picture(request):
    """Keep a picture of the page, where a directory for pictures was given."""
    folder = request.config.getoption("--screenshots")
    return lambda page, name: page.screenshot(path=Path(folder) / f"{name}.png", full_page=True) if folder else None


@pytest.mark.parametrize(("lang", "locale"), [("en", "en-US"), ("ru", "ru-RU")])
def test_files_and_folders_are_imported_and_an_import_is_cancelled(browser, server, tmp_path, picture, lang, locale):
    say = Say(lang)
    page = opened(browser, server, locale)
    open_tab(page, say, "corpus")
    _import_dirty_file(page, say, tmp_path)
    picture(page, f"import-{lang}")
    _import_folder(page, say, tmp_path)
    picture(page, f"folder-{lang}")
    _cancel_import(page, say, tmp_path)
    picture(page, f"cancelled-{lang}")
    assert page.foreign == []


@pytest.mark.parametrize(("lang", "locale"), [("en", "en-US"), ("ru", "ru-RU")])
def test_a_look_says_that_it_reads_is_cancelled_and_shows_what_it_saw(browser, server, tmp_path, picture, lang, locale):
    say = Say(lang)
    page = opened(browser, server, locale)
    open_tab(page, say, "corpus")
    (tmp_path / "долгий.pdf").write_bytes(RECURSIVE_PDF)  # read until its time is over
    (tmp_path / "слова.txt").write_text("Смотритель зажёг лампу.", "utf-8")
    files = page.locator("input[type=file]:not([webkitdirectory])").first
    files.set_input_files(tmp_path / "долгий.pdf")
    page.get_by_text(say("corpora.look.reading"), exact=True).wait_for()
    picture(page, f"look-{lang}")
    children = psutil.Process(server.process.pid).children(recursive=True)
    (reader,) = [child for child in children if "core.foreign" in child.cmdline()]
    page.get_by_role("button", name=say("corpora.cancel"), exact=True).click()
    page.get_by_text(say("corpora.look.cancelled")).wait_for()
    page.get_by_role("button", name=say("corpora.cancel"), exact=True).wait_for(state="hidden")
    picture(page, f"look-cancelled-{lang}")
    assert psutil.wait_procs([reader], timeout=10)[1] == []
    page.reload()
    open_tab(page, say, "corpus")
    page.locator("input[type=file]:not([webkitdirectory])").first.set_input_files(tmp_path / "слова.txt")
    page.get_by_text("Смотритель зажёг лампу.").first.wait_for()
    page.get_by_role("button", name=say("corpora.create"), exact=True).wait_for()
    picture(page, f"look-seen-{lang}")


def _import_dirty_file(page, say: Say, folder: Path) -> None:
    file = folder / "разговоры.jsonl"
    good = [
        {"conversations": [{"from": "human", "value": f"Вопрос {n}"}, {"from": "gpt", "value": "Ответ"}]}
        for n in range(3)
    ]
    lines = [json.dumps(row, ensure_ascii=False) for row in good]
    file.write_text("\n".join([*lines, '{"conversations": [{"from": "hum']) + "\n", encoding="utf-8")
    page.locator("input[type=file]:not([webkitdirectory])").first.set_input_files(file)
    page.get_by_text(say("corpora.look.rows")).wait_for()
    page.get_by_role("button", name=say("corpora.create"), exact=True).dblclick()
    summed = say("corpora.summed", rows_in="4", kept="3", aside="1")
    page.get_by_text(summed).wait_for()
    page.get_by_role("button", name=say("corpora.aside.count", count="1")).click()
    page.get_by_text(say("corpora.reason.bad_json")).locator("visible=true").first.wait_for()
    (card,) = corpus.listed()
    assert (card["rows_in"], card["rows_kept"], card["reasons"]) == (4, 3, {"bad_json": 1})


def _import_folder(page, say: Say, folder: Path) -> None:
    page.reload()
    page.get_by_role("tab").first.wait_for()
    open_tab(page, say, "corpus")
    page.get_by_role("tab", name=say("corpora.step.take")).click()
    vault = folder / "Хранилище"
    for name in ("Дневник/заметка.md", "Книги/заметка.md", ".obsidian/app.json"):
        (vault / name).parent.mkdir(parents=True, exist_ok=True)
        (vault / name).write_text(f"# {name}\n\nСлова о разном.\n", encoding="utf-8")
    page.locator("input[type=file][webkitdirectory]").first.set_input_files(vault)
    page.get_by_text("Дневник/заметка.md").first.wait_for()
    page.get_by_role("button", name=say("corpora.create"), exact=True).click()
    page.get_by_text(say("corpora.summed", rows_in="2", kept="2", aside="0")).wait_for()
    card = corpus.listed()[0]
    assert (card["name"], [one["file"] for one in card["sources"]]) == (
        "Хранилище", ["Дневник/заметка.md", "Книги/заметка.md"],
    )  # fmt: skip


def _cancel_import(page, say: Say, folder: Path) -> None:
    page.reload()
    page.get_by_role("tab").first.wait_for()
    open_tab(page, say, "corpus")
    page.get_by_role("tab", name=say("corpora.step.take")).click()
    before = sorted(path.name for path in paths.corpora().iterdir())
    file = folder / "много.csv"  # read row by row: tens of seconds
    with file.open("w", encoding="utf-8") as out:
        out.write("вопрос,ответ\n")
        out.writelines(f"Сколько будет {n} и {n}?,{2 * n}\n" for n in range(1_500_000))
    page.locator("input[type=file]:not([webkitdirectory])").first.set_input_files(file)
    page.get_by_text(say("corpora.look.rows")).wait_for()
    page.get_by_role("button", name=say("corpora.create"), exact=True).click()
    rate = say("corpora.progress", rows="ROWS", share="1", rate="1", left="1")
    page.get_by_text(re.compile(re.escape(rate.partition("ROWS")[0] or "MB/s"))).first.wait_for()
    end = time.monotonic() + 60
    while not any(path.name.startswith(".unfinished") for path in paths.corpora().iterdir()):
        assert time.monotonic() < end
        time.sleep(0.1)
    page.get_by_role("button", name=say("corpora.cancel"), exact=True).click()
    page.get_by_text(say("corpora.cancelled")).wait_for()
    while sorted(path.name for path in paths.corpora().iterdir()) != before:
        assert time.monotonic() < end + 30, list(paths.corpora().iterdir())
        time.sleep(0.1)
    assert shutil.disk_usage(folder).free  # the page lives on
    open_tab(page, say, "calculator")
