"""Make a corpus out of files: read, repair, write, count; it appears when it is whole."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from core import paths
from core.corpus import reading, storage
from core.corpus.reading import Options, Row, SetAside
from core.errors import UserError

Progress = Callable[[int, int, int], None]  # bytes read, bytes in all, rows so far
EVERY = 1000  # rows between two reports of progress
EXAMPLES = 20  # repaired lines that are shown with their original


class NothingGiven(UserError):
    template = "No file was given. Drop files or a folder, or choose a sample."


class FileMissing(UserError):
    template = "There is no file {path}. Check the path."


class PlaceUnwritable(UserError):
    template = "Nothing can be written in {path}: {reason}. Choose another place."


class CorpusEmpty(UserError):
    template = (
        "Nothing in {files} could be read as text or chats: {reasons}. Choose other files, or name their columns."
    )


class NoRowsLeft(UserError):
    template = 'No row would be left for "{name}". Loosen what is filtered.'


class NameTaken(UserError):
    template = "The directory {path} exists already. Choose another name."


def create(
    sources: list[Path],
    name: str,
    *,
    options: Options | None = None,
    progress: Progress | None = None,
    out: Path | None = None,
) -> dict:
    """Import files and folders as a new corpus and return its card.

    Rows in are rows kept plus rows set aside, always. With `out` the corpus becomes that directory instead of one
    among the person's corpora.

    Raises:
        NothingGiven, FileMissing, NameTaken, CorpusEmpty, CorpusDiskFull: see their sentences.
    """
    given, options = [Path(source) for source in sources], options or Options()
    if not given:
        raise NothingGiven()
    for path in given:
        if not path.exists():
            raise FileMissing(path=path)
    if out is not None and out.exists():
        raise NameTaken(path=out)

    def write(writer: storage.Writer) -> dict:
        tally = _written(reading.opened(given, options), writer, options, _sizes(given, progress))
        if not writer.rows:
            raise _nothing_kept(given, tally)
        return tally.card(writer.rows) | {"parent": None}

    return _new_corpus(name, out, write)


def create_from_rows(
    rows: Iterable[dict], name: str, *, parent: str | None, note: dict, out: Path | None = None
) -> dict:
    """A new corpus of rows that were rows already: cleaned, filtered or generated ones."""

    def write(writer: storage.Writer) -> dict:
        for row in rows:
            writer.row({key: value for key, value in row.items() if key != "id"})
        if not writer.rows:
            raise NoRowsLeft(name=name)
        return Tally().card(writer.rows) | {"rows_in": writer.rows, "parent": parent} | note

    return _new_corpus(name, out, write)


def _new_corpus(name: str, out: Path | None, write: Callable[[storage.Writer], dict]) -> dict:
    """Let `write` fill a corpus and give its card; the corpus appears when it is whole."""
    parent = out.parent if out is not None else paths.corpora()
    make_place(parent)
    with storage.unfinished(parent) as directory:
        writer = storage.Writer(directory)
        try:
            card = write(writer)
        finally:
            writer.close()
        identity = out.name if out is not None else storage.free_name(parent, name)
        card = writer.finish(card | {"id": identity, "name": name.strip() or identity})
        directory.rename(parent / identity)
    return card


def make_place(directory: Path) -> None:
    """Make a directory for what will be written."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PlaceUnwritable(path=directory, reason=error.strerror) from error
    if not os.access(directory, os.W_OK):
        raise PlaceUnwritable(path=directory, reason="no permission")


def _nothing_kept(given: list[Path], tally) -> CorpusEmpty:
    codes = tally.reasons.most_common(4)
    words = json.loads((paths.assets() / "locales" / "en.json").read_text(encoding="utf-8"))["words"]
    return CorpusEmpty(
        files=", ".join(path.name for path in given[:4]) + ("…" if len(given) > 4 else ""),
        reasons="; ".join(f"{words.get(f'corpora.reason.{code}', code)} ({count})" for code, count in codes)
        or "no records",
        codes=" ".join(code for code, _ in codes),
    )


class Tally:
    """Counts what was read, file by file."""

    def __init__(self):
        self.rows_in = self.set_aside = 0
        self.reasons, self.repairs, self.encodings, self.formats = Counter(), Counter(), Counter(), Counter()
        self.roles: Counter = Counter()
        self.files: list[dict] = []
        self.examples: list[dict] = []

    def card(self, kept: int) -> dict:
        """The part of a card that says what was read."""
        return {
            "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "rows_in": self.rows_in,
            "rows_kept": kept,
            "rows_set_aside": self.set_aside,
            "reasons": dict(self.reasons.most_common()),
            "unknown_roles": dict(self.roles.most_common(20)),
            "repairs": dict(self.repairs.most_common()),
            "repaired": self.examples,
            "encodings": dict(self.encodings.most_common()),
            "formats": dict(self.formats.most_common()),
            "sources": self.files,
        }


def _written(opened: Iterator, writer: storage.Writer, options: Options, tell: Callable) -> Tally:
    tally = Tally()
    for one in opened:
        tally.formats[one.format] += 1
        if one.encoding:
            tally.encodings[one.encoding] += 1
        before = writer.rows, tally.set_aside
        _write_rows(one, writer, tally, options, tell)
        tell(one.source, writer.rows, done=True)
        kept, aside = writer.rows - before[0], tally.set_aside - before[1]
        if len(tally.files) < 2000:
            tally.files.append(
                {"file": one.source.name, "format": one.format, "encoding": one.encoding, "bytes": one.source.size,
                 "rows": kept, "set_aside": aside}
            )  # fmt: skip
    return tally


def _write_rows(one, writer: storage.Writer, tally: Tally, options: Options, tell: Callable) -> None:
    for found in reading.read(one, options):
        tally.rows_in += 1
        if isinstance(found, SetAside):
            _put_aside(found, writer, tally)
        else:
            writer.row(found.row, {"file": found.file, "line": found.place}, found.raw)
            if found.repairs:
                tally.repairs.update(found.repairs)
                if found.before and len(tally.examples) < EXAMPLES:
                    tally.examples.append(_example(found))
        if tally.rows_in % EVERY == 0:
            tell(one.source, writer.rows)


def _put_aside(found: SetAside, writer: storage.Writer, tally: Tally) -> None:
    tally.set_aside += 1
    tally.reasons[found.reason] += 1
    if found.reason == "unknown_role":
        tally.roles[found.detail] += 1
    excerpt = found.excerpt.encode("utf-8", errors="replace").decode()
    detail = found.detail.encode("utf-8", errors="replace").decode()
    writer.set_aside(
        {"file": found.file, "line": found.place, "reason": found.reason, "detail": detail, "excerpt": excerpt}
    )


def _example(found: Row) -> dict:
    pairs = zip(found.before.split("\n"), found.after.split("\n"), strict=False)
    before, after = next(((one, other) for one, other in pairs if one != other), ("", ""))
    return {"file": found.file, "line": found.place, "before": before[:160], "after": after[:160]}


def _sizes(given: list[Path], progress: Progress | None) -> Callable:
    """A function that reports how far the reading of all files is."""
    if progress is None:
        return lambda source, rows, done=False, at=0: None
    total = sum(
        sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else path.stat().st_size
        for path in given
    )
    finished = [0]

    def tell(source, rows: int, done: bool = False, at: int = 0) -> None:
        if done:
            finished[0] += source.size if source.path is not None or source.at() else 0
            progress(min(finished[0], total), total, rows)
        else:
            progress(min(finished[0] + (at or source.at()), total), total, rows)

    return tell
