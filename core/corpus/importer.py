"""Make a corpus out of files: read, repair, write, count; it appears when it is whole."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

from filelock import FileLock

from core import errors, paths
from core.corpus import hub, reading, sources, storage
from core.corpus.formats import detection
from core.corpus.reading import Options, Row, SetAside
from core.errors import UserError

Progress = Callable[[int, int, int], None]  # bytes read, bytes in all, rows so far
EVERY = 50  # rows between two reports of progress
MOST_FILES = 2000  # that a card describes
DOUBLE = timedelta(minutes=1)  # in which the same corpus made once more is a double click
EXAMPLES = 20  # repaired lines that are shown with their original


class NothingGiven(UserError):
    template = "No file was given. Drop files or a folder, or choose a sample."


class CorpusEmpty(UserError):
    template = (
        "Nothing in {files} could be read as text or chats: {reasons}. Choose other files, or name their columns."
    )


def create(
    files: list[Path],
    name: str,
    *,
    options: Options | None = None,
    progress: Progress | None = None,
    out: Path | None = None,
) -> dict:
    """Import files and folders as a new corpus and return its card.

    Rows in are rows kept plus rows set aside, always. With `out` the corpus becomes that directory instead of one
    among the person's corpora. Where a corpus of this name and content was made within a minute, its card comes back,
    with "made_already".

    Raises:
        NothingGiven, FileMissing, NameTaken, CorpusEmpty, CorpusDiskFull: see their sentences.
    """
    given, options = [Path(file) for file in files], options or Options()
    if not given:
        raise NothingGiven()
    for path in given:
        if not path.exists() and hub.place(str(path)) is None:
            raise errors.named("FileMissing", path=path)
    if out is not None and out.exists():
        raise errors.named("NameTaken", path=out)

    def write(writer: storage.Writer) -> dict:
        tally, report = Tally(writer), _sizes(given, progress)
        for file in reading.opened(given, options):
            tally.read(file, options, report)
        if not writer.rows:
            raise _nothing_kept(given, tally)
        return tally.card() | {"parent": None}

    return _new_corpus(name, out, write)


def create_from_rows(
    rows: Iterable[dict],
    name: str,
    *,
    parent: str | None,
    note: dict,
    out: Path | None = None,
    set_aside: Iterable[SetAside] = (),
) -> dict:
    """A new corpus of rows that were rows already: cleaned, filtered, generated or voted on."""

    def write(writer: storage.Writer) -> dict:
        tally = Tally(writer)
        for row in rows:
            writer.row({key: value for key, value in row.items() if key != "id"})
        if not writer.rows:
            raise errors.named("NoRowsLeft", name=name)
        for record in set_aside:
            tally.put_aside(record)
        return tally.card() | {"rows_in": writer.rows + tally.set_aside, "parent": parent} | note

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
        if out is not None:
            card = writer.finish(card | {"id": out.name, "name": name.strip() or out.name})
            directory.rename(out)
            return card
        with FileLock(f"{parent}.lock"):  # two that end at once would both be the first
            identity = storage.free_name(parent, name)
            card = writer.finish(card | {"id": identity, "name": name.strip() or identity})
            if twin := _twin(card):
                return twin | {"made_already": True}
            directory.rename(parent / identity)
    return card


def _twin(card: dict) -> dict | None:
    """The card of a corpus of the same name, content and origin that was made a moment ago."""
    same = ("name", "content_hash", "parent", "rows_in")
    since = (datetime.fromisoformat(card["created"]) - DOUBLE).isoformat(timespec="milliseconds")
    newer = (other for other in storage.cards(paths.corpora()) if (other.get("created") or "") >= since)
    return next((other for other in newer if all(other.get(key) == card[key] for key in same)), None)


def make_place(directory: Path) -> None:
    """Make a directory for what will be written."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise errors.named("PlaceUnwritable", path=directory, reason=error.strerror) from error
    if not os.access(directory, os.W_OK):
        raise errors.named("PlaceUnwritable", path=directory, reason="no permission")


def _nothing_kept(given: list[Path], tally: "Tally") -> CorpusEmpty:
    codes = tally.reasons.most_common(4)
    words = json.loads((paths.assets() / "locales" / "en.json").read_text(encoding="utf-8"))["words"]
    return CorpusEmpty(
        files=", ".join(path.name for path in given[:4]) + ("…" if len(given) > 4 else ""),
        reasons="; ".join(f"{words.get(f'corpora.reason.{code}', code)} ({count})" for code, count in codes)
        or "no records",
        codes=" ".join(code for code, _ in codes),
    )


class Tally:
    """Writes what is read, and counts it file by file."""

    def __init__(self, writer: storage.Writer):
        self.writer = writer
        self.rows_in = self.set_aside = 0
        self.reasons, self.repairs, self.encodings, self.formats = Counter(), Counter(), Counter(), Counter()
        self.roles, self.learned_as = Counter(), Counter()
        self.files: list[dict] = []
        self.examples: list[dict] = []

    def card(self) -> dict:
        """The part of a card that says what was read."""
        return {
            "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "rows_in": self.rows_in,
            "rows_kept": self.writer.rows,
            "rows_set_aside": self.set_aside,
            "reasons": dict(self.reasons.most_common()),
            "unknown_roles": dict(self.roles.most_common(20)),
            "learned_as": dict(self.learned_as.most_common(20)),
            "repairs": dict(self.repairs.most_common()),
            "repaired": self.examples,
            "encodings": dict(self.encodings.most_common()),
            "formats": dict(self.formats.most_common()),
            "sources": self.files,
        }

    def read(self, file: detection.Opened, options: Options, progress: Callable) -> None:
        """Write the rows of a file."""
        source, rows, set_aside = file.source, self.writer.rows, self.set_aside
        self.formats[file.format] += 1
        if file.encoding:
            self.encodings[file.encoding] += 1
        for record in reading.read(file, options):
            self.rows_in += 1
            if isinstance(record, SetAside):
                self.put_aside(record)
            else:
                self.writer.row(record.row, {"file": record.file, "line": record.place}, record.raw)
                if "fields" in record.row and (name := record.row["fields"].get("learn_as")):
                    self.learned_as[name] += 1
                if record.repairs:
                    self.repairs.update(record.repairs)
                if record.before and len(self.examples) < EXAMPLES:
                    self.examples.append(_example(record))
            if self.rows_in % EVERY == 0:
                progress(source, self.writer.rows)
        progress(source, self.writer.rows, done=True)
        if len(self.files) < MOST_FILES:
            about = {
                "file": source.name,
                "format": file.format,
                "encoding": file.encoding,
                "bytes": source.size,
            } | file.about
            self.files.append(about | {"rows": self.writer.rows - rows, "set_aside": self.set_aside - set_aside})

    def put_aside(self, record: SetAside) -> None:
        """Keep what became no row, with its reason."""
        self.set_aside += 1
        self.reasons[record.reason] += 1
        if record.reason == "unknown_role":
            self.roles[record.detail] += 1
        values = {"file": record.file, "line": record.place, "reason": record.reason}
        for name in ("detail", "excerpt"):  # half a surrogate pair cannot be written
            values[name] = getattr(record, name).encode("utf-8", errors="replace").decode()
        self.writer.set_aside(values)


def _example(row: Row) -> dict:
    """The first line of a row that was repaired, before and after."""
    pairs = zip(row.before.split("\n"), row.after.split("\n"), strict=False)
    before, after = next(((old, new) for old, new in pairs if old != new), ("", ""))
    return {"file": row.file, "line": row.place, "before": before[:160], "after": after[:160]}


def _sizes(given: list[Path], progress: Progress | None) -> Callable:
    """A function that reports how far the reading of all files is."""
    if progress is None:
        return lambda source, rows, done=False: None
    files = chain.from_iterable(path.rglob("*") if path.is_dir() else [path] for path in given)
    total = sum(file.stat().st_size for file in files if file.is_file())
    finished = 0

    def report(source: sources.Source, rows: int, done: bool = False) -> None:
        nonlocal finished
        if done:
            finished += source.size if source.path is not None or source.at() else 0
        progress(min(finished + (0 if done else source.at()), total), total, rows)

    return report
