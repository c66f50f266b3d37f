"""The corpora of this machine: made, listed, read and deleted."""

import json
import shutil
from itertools import islice
from pathlib import Path

from core import errors, files, paths
from core.corpus import storage, turns
from core.corpus.importer import create as create
from core.corpus.reading import Options as Options
from core.corpus.sniff import look as look

SET_ASIDE = {"file": str, "line": str | int, "reason": str, "detail": str, "excerpt": str}  # the shape of a line


def samples() -> list[dict]:
    """The corpora that come with the program: id, path, and a title and a description in each language."""
    folder = paths.assets() / "samples"
    described = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
    return [{"id": name, "path": folder / f"{name}.jsonl"} | words for name, words in sorted(described.items())]


def listed() -> list[dict]:
    """The cards of all corpora, newest first; a directory without a readable card is none."""
    return sorted(storage.cards(paths.corpora()), key=lambda card: card.get("created") or "", reverse=True)


def locate(name: str) -> Path:
    """The directory of a corpus given by its directory or its id.

    Raises:
        NoSuchCorpus: where it is neither.
    """
    path = Path(name)
    if (path / "card.json").is_file():
        return path
    if path.name != name:
        raise errors.named("NoSuchCorpus", name=name)
    return directory(name)


def directory(corpus_id: str) -> Path:
    """The directory of a corpus that exists."""
    path = paths.corpus(corpus_id)
    if not (path / "card.json").is_file():
        raise errors.named("NoSuchCorpus", name=corpus_id)
    return path


def card(corpus_id: str) -> dict:
    return storage.read_card(directory(corpus_id)) | {"id": corpus_id}


def rows(corpus_id: str, start: int = 0, count: int = 50) -> list[dict]:
    """Some rows by their number, counted from 0."""
    return storage.rows(directory(corpus_id), start, count)


def find(corpus_id: str, words: str, start: int = 0, count: int = 50) -> tuple[list[tuple[int, dict]], int]:
    """Rows whose text contains the words, in any case, with their numbers; and how many there are in all."""
    wanted, matches, total = words.lower(), [], 0
    for number, row in enumerate(storage.all_rows(directory(corpus_id))):
        if any(wanted in text.lower() for text in turns.texts(row)):
            if start <= total < start + count:
                matches.append((number, row))
            total += 1
    return matches, total


def set_aside(corpus_id: str, start: int = 0, count: int = 50) -> list[dict]:
    """What could not become rows: file, line or record, reason, detail and the first 200 characters."""
    lines = files.undamaged_lines(directory(corpus_id) / "set_aside.jsonl")
    return list(islice((one for one in lines if files.fits(one, SET_ASIDE)), start, start + count))


def delete(corpus_id: str) -> None:
    """Delete a corpus; it disappears at once, its files right after."""
    path = directory(corpus_id)
    deleted = path.with_name(f".deleted-{path.name}")
    shutil.rmtree(deleted, ignore_errors=True)
    path.rename(deleted)
    shutil.rmtree(deleted, ignore_errors=True)
