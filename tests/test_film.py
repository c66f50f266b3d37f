"""The film of the README: its captions, its pictures, the two files, and the whole of it made anew."""

import json
import os
import shutil
import signal
from contextlib import suppress

import pytest
from PIL import Image

from core import paths
from core.runs import eval_samples
from tests import film
from tests.conftest import home_at
from tests.screenshots import LOCALES
from tests.test_browser import CHROMIUM, Server, browser  # noqa: F401 (a fixture)

LETTERS = pytest.mark.skipif(not os.path.exists(film.FONT), reason="no DejaVu here: apt-get install fonts-dejavu")
SIZE = (film.WIDTH, round(film.WIDTH * film.WINDOW["height"] / film.WINDOW["width"]) + film.BAR)
LARGEST = 400_000  # bytes of a film


def durations(path) -> list[int]:
    """How long each picture of a film is shown, in ms; each is of the film's size."""
    with Image.open(path) as shown:
        assert shown.size == SIZE
        found = []
        for at in range(shown.n_frames):
            shown.seek(at)
            shown.load()
            found.append(shown.info["duration"])
    return found


@LETTERS
def test_a_film_shows_each_picture_as_long_as_it_was_given(tmp_path):
    camera = film.Camera.__new__(film.Camera)
    blank = tuple(film.WINDOW.values())
    pictures = [film.captioned(Image.new("RGB", blank, colour), "слова") for colour in ("red", "white")]
    camera.frames = {lang: list(zip(pictures, (1500, 3000), strict=True)) for lang in LOCALES}
    made = camera.write(tmp_path)
    assert [path.name for path in made] == ["film-en.webp", "film-ru.webp"]
    assert [durations(path) for path in made] == [[1500, 3000]] * 2


@LETTERS
def test_a_caption_fits_its_bar():
    blank = Image.new("RGB", tuple(film.WINDOW.values()))
    plain = film.captioned(blank, "")
    edge = (film.WIDTH - 8, 0, *plain.size)
    for words in (words for captions in film.CAPTIONS.values() for words in captions):
        shown = film.captioned(blank, words)
        assert shown != plain, words
        assert shown.crop(edge) == plain.crop(edge), words


def test_the_films_of_the_readme_are_animated_and_small():
    readme = (paths.assets().parent / "README.md").read_text(encoding="utf-8")
    for lang in LOCALES:
        path = paths.assets() / f"film-{lang}.webp"
        assert readme.count(f"(assets/{path.name})") == 1
        assert len(durations(path)) >= len(film.CAPTIONS)
        assert path.stat().st_size < LARGEST


@pytest.fixture
def server(request, starter_home, tmp_path, monkeypatch):
    """The page over a data directory of its own, where nothing but the starter model is ready."""
    if not request.config.getoption("--screenshots"):
        pytest.skip("a film takes ten minutes and more, and its scenes have tests of their own: --screenshots DIR")
    home = tmp_path / "дом"
    with home_at(starter_home):
        ready = paths.models()
    with home_at(home):
        shutil.copytree(ready, paths.models(), copy_function=os.link, dirs_exist_ok=True)
        eval_samples.keep([film.QUESTION])
    monkeypatch.setenv("SOULSMITH_HOME", str(home))
    server = Server(home)
    server.start()
    yield server
    server.kill()
    with suppress(OSError, ValueError):
        os.kill(json.loads((home / "chat.json").read_text())["pid"], signal.SIGKILL)


@LETTERS
@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no chromium here: apt-get install chromium")
def test_a_film_is_made(browser, server, tmp_path, monkeypatch):  # noqa: F811 (a fixture)
    """With a shorter training than that of the README's."""
    monkeypatch.setattr(film, "STEPS", 8)
    monkeypatch.setattr(film, "EVERY", 2)
    made = film.film(browser, server.address, server.home, tmp_path)
    assert [len(durations(path)) >= len(film.CAPTIONS) for path in made] == [True, True]
