"""Where things live; SOULSMITH_HOME moves it all."""

import os
import re
import unicodedata
from contextlib import suppress
from pathlib import Path

from core.errors import UserError


class NotOurs(UserError):
    template = '"{name}" is not a name of something that Soulsmith keeps. Choose it from the list.'


def home() -> Path:
    """The data directory: SOULSMITH_HOME, or soulsmith/ in the user's home."""
    return Path(os.environ.get("SOULSMITH_HOME") or Path.home() / "soulsmith").expanduser().absolute()


def expanded(name: str | Path) -> Path:
    """A path that a person wrote; its ~ stays where there is no such user."""
    with suppress(RuntimeError):
        return Path(name).expanduser()
    return Path(name)


def assets() -> Path:
    """The read-only files that come with the program."""
    return Path(__file__).parent.parent / "assets"


def database() -> Path:
    return home() / "soulsmith.db"


def runs() -> Path:
    return _made(home() / "runs")


def corpora() -> Path:
    return _made(home() / "corpora")


def models() -> Path:
    return _made(home() / "models")


def exports() -> Path:
    return _made(home() / "exports")


def adapters() -> Path:
    """Where the adapters are that were imported from the hub."""
    return _made(home() / "adapters")


def synth() -> Path:
    return _made(home() / "synth")


def arena() -> Path:
    return _made(home() / "arena")


def prompt_searches() -> Path:
    return _made(home() / "prompt-searches")


def checks() -> Path:
    return _made(home() / "checks")


def demos() -> Path:
    return _made(home() / "demos")


def hub() -> Path:
    """Where the jobs are that push to the hub and import from it."""
    return _made(home() / "hub")


def serve() -> Path:
    return _made(home() / "serve")


def uploads() -> Path:
    """Where the page keeps the files that it was given, until they are imported."""
    return home() / "uploads"


def make_private(path: Path) -> Path:
    """Create a directory with mode 0700; the mode of another user's directory is left as it is."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    with suppress(OSError):
        path.chmod(0o700)
    return path


def run(run_id: str) -> Path:
    """The directory of a run, inside runs() whatever the id says."""
    return _inside(runs(), run_id)


def corpus(corpus_id: str) -> Path:
    """The directory of a corpus, inside corpora() whatever the id says."""
    return _inside(corpora(), corpus_id)


def corpus_of_run(corpus: str) -> Path:
    """Where the corpus of a run is: it is named by its id among the corpora, or by an absolute path."""
    return Path(corpus) if Path(corpus).is_absolute() else _inside(corpora(), corpus)


def slug(name: str) -> str:
    """A short directory name made of a person's words: letters of any script, digits and hyphens."""
    words = re.findall(r"[^\W_]+", unicodedata.normalize("NFC", name).lower())
    return "-".join(words)[:40].strip("-") or "untitled"


def _inside(parent: Path, name: str) -> Path:
    # No resolve(): a link among the runs is refused below, not followed.
    if not name or name != Path(name).name or name.startswith(".") or "\x00" in name or "\\" in name:
        raise NotOurs(name=name)
    path = parent / name
    if path.is_symlink():
        raise NotOurs(name=name)
    return path


def _made(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path
