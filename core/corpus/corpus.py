"""Corpora: files in, immutable rows on disk, what is in them and what a model will learn from them.

Run it: `python -m core.corpus import FILE… --name NAME`, `report`, `export`, `preview`, `list`, `delete`.
"""

import json
import shutil
from pathlib import Path

from core import paths
from core.corpus import importer, sniff, storage
from core.corpus.reading import Options
from core.errors import UserError


class NoSuchCorpus(UserError):
    template = 'There is no corpus "{name}". It was deleted or renamed: choose another one.'


def create(
    sources: list[Path],
    name: str,
    *,
    options: Options | None = None,
    progress: importer.Progress | None = None,
    out: Path | None = None,
) -> dict:
    """Import files and folders as a new corpus and return its card.

    Rows in are rows kept plus rows set aside, always. With `out` the corpus becomes that directory instead of one
    among the person's corpora.

    Raises:
        NothingGiven, FileMissing, CorpusEmpty, CorpusDiskFull, NameTaken: see their sentences.
    """
    return importer.create(sources, name, options=options or Options(), progress=progress, out=out)


def look(sources: list[Path], options: Options | None = None, count: int = 5) -> dict:
    """What the first records of some files look like: columns, mapping, unknown roles and converted rows."""
    return sniff.look([Path(source) for source in sources], options or Options(), count)


def samples() -> list[dict]:
    """The corpora that come with the program: id, path, and a title and a description in each language."""
    folder = paths.assets() / "samples"
    try:
        words = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        words = {}
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        about = words.get(path.stem, {})
        title, description = about.get("title") or {"en": path.stem, "ru": path.stem}, about.get("description") or {}
        found.append({"id": path.stem, "path": path, "title": title, "description": description})
    return found


def listed() -> list[dict]:
    """The cards of all corpora, newest first; a directory without a readable card is none."""
    cards = []
    for path in paths.corpora().iterdir():
        if path.name.startswith(".") or path.is_symlink() or not (path / "card.json").is_file():
            continue
        try:
            cards.append(storage.read_card(path) | {"id": path.name})
        except storage.CorpusDamaged:
            continue
    return sorted(cards, key=lambda card: card.get("created", ""), reverse=True)


def directory(corpus_id: str) -> Path:
    """The directory of a corpus that exists."""
    path = paths.corpus(corpus_id)
    if not (path / "card.json").is_file():
        raise NoSuchCorpus(name=corpus_id)
    return path


def card(corpus_id: str) -> dict:
    return storage.read_card(directory(corpus_id)) | {"id": corpus_id}


def rows(corpus_id: str, start: int = 0, count: int = 50) -> list[dict]:
    """Some rows by their number, counted from 0."""
    return storage.rows(directory(corpus_id), start, count)


def find(corpus_id: str, words: str, start: int = 0, count: int = 50) -> tuple[list[tuple[int, dict]], int]:
    """Rows whose text contains the words, in any case, with their numbers; and how many there are in all."""
    wanted, found, total = words.lower(), [], 0
    for number, row in enumerate(storage.all_rows(directory(corpus_id))):
        texts = [row["text"]] if "text" in row else [turn["content"] for turn in row["messages"]]
        if any(wanted in text.lower() for text in texts):
            if start <= total < start + count:
                found.append((number, row))
            total += 1
    return found, total


def set_aside(corpus_id: str, start: int = 0, count: int = 50) -> list[dict]:
    """What could not become rows: file, line or record, reason, detail and the first 200 characters."""
    path, found = directory(corpus_id) / "set_aside.jsonl", []
    if not path.is_file():
        return found
    with path.open(encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines):
            if number >= start + count:
                break
            if number >= start:
                found.append(json.loads(line))
    return found


def delete(corpus_id: str) -> None:
    """Delete a corpus; it disappears at once, its files right after."""
    path = directory(corpus_id)
    gone = path.with_name(f".deleted-{path.name}")
    shutil.rmtree(gone, ignore_errors=True)
    path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
