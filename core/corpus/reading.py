"""From files and folders to normal rows: what could not become one comes out beside it, with its place and reason."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from core import process
from core.corpus import archives, hub, mojibake, personal, schema, sources, templated, text_columns, turns
from core.corpus.formats import detection, turn_rows
from core.corpus.formats.notes import NEXUS, conversation_of, joined
from core.corpus.sources import Bad, Record, Source

ARCHIVES = {"zip": archives.of_zip, "tar": archives.of_tar}
DEEPEST = 2  # archives inside archives
EXCERPT = 200  # characters
ROW_BYTES = 16  # that a row counts for beside its texts
MOST_CONVERSATIONS = 100_000  # whose notes are kept in mind to be joined


@dataclass(frozen=True)
class Options:
    """How records become rows; what is left out is guessed from the records."""

    mapping: dict | None = None  # see schema.guess; None: by the names of the fields
    roles: dict = field(default_factory=dict)  # role name in the file -> user, assistant, system or tool
    encoding: str = ""  # "": found from the bytes
    repair_turns: bool = True
    repair_text: bool = True
    replace_personal: bool = False  # e-mail addresses, phones and the like become typed placeholders
    me: str = ""  # the name of the speaker who is the assistant in exports of a messenger; "": guessed
    most_rows: int = 100_000  # that are read of a data set of the hub; 0: all
    given_up: dict = field(default_factory=dict)  # name of a file that took too much to read -> reason


@dataclass(frozen=True)
class SetAside:
    """What could not become a row."""

    file: str
    place: str
    reason: str
    detail: str
    excerpt: str


class Row(NamedTuple):
    """A normal row with its file and place, and the codes of what was repaired on the way."""

    row: dict
    file: str
    place: str
    repairs: tuple[str, ...]
    before: str = ""  # a spoilt line as it was, when one was repaired
    after: str = ""
    raw: bytes = b""  # the row as JSON, where the file has it so and nothing was repaired


def opened(paths: list[Path], options: Options) -> Iterator[detection.Opened]:
    """Every source under these paths with its format: files, packed files, members of archives, folders.

    Notes of one conversation come last, joined.
    """
    notes: dict[str, list[Source]] = {}
    for file in each(paths, options):
        try:
            conversation = conversation_of(file.source) if file.format == NEXUS.name else ""
            source = file.source if file.source.path or not conversation else sources.held(file.source)
        except Exception:  # a damaged file raises what it likes: the reader will say so
            conversation = ""
        if conversation and (conversation in notes or len(notes) < MOST_CONVERSATIONS):
            notes.setdefault(conversation, []).append(source)
        else:
            yield file
    for group in notes.values():
        for source, records in zip(group, joined(group), strict=True):
            yield detection.Opened(source, NEXUS.name, source.encoding, records)


def each(paths: list[Path], options: Options) -> Iterator[detection.Opened]:
    """Every source under these paths in its place."""
    for path in paths:
        if not path.exists() and (place := hub.place(str(path))):
            yield hub.opened(place, options.most_rows)
            continue
        for source in sources.of_folder(path) if path.is_dir() else [sources.of_path(path)]:
            yield from _opened(source, options, sources.readable(path.name))


def _opened(source: Source | Bad, options: Options, name: str, depth: int = 0) -> Iterator[detection.Opened]:
    if isinstance(source, Bad):
        place = source.place
        full = place if place.startswith(name) else "/".join(part for part in (name, place) if part)
        yield _unknown(Source(full, lambda: None), source.reason, source.excerpt)
        return
    if reason := options.given_up.get(source.name):
        yield _unknown(source, reason)
        return
    process.opening(source.name)
    try:
        file = detection.open_source(replace(source, me=options.me), options.encoding)
    except sources.PackedTooMuch:
        file = _unknown(source, "packed_too_much")
    except Exception:  # the first bytes of a damaged packed file raise what they like
        file = _unknown(source, "file_damaged")
    if file.format not in ARCHIVES or depth >= DEEPEST:
        yield file
        return
    for member in ARCHIVES[file.format](source):
        yield from _opened(member, options, source.name, depth + 1)


def _unknown(source: Source, reason: str, excerpt: str = "") -> detection.Opened:
    return detection.Opened(source, "unknown", "", iter([Bad("", reason, excerpt)]))


def read(file: detection.Opened, options: Options) -> Iterator[Row | SetAside]:
    """Each record of a source as a Row or a SetAside: never both, never neither.

    A source ends where more came out of it than an honest one of its size holds: a page, a text or a column that is there
    once can be named a million times.
    """
    left = sources.most_unpacked(file.source.size)
    for row in _read(file, options):
        yield row
        left -= ROW_BYTES
        if isinstance(row, Row):
            left -= len(row.raw) or sum(map(len, turns.texts(row.row)))
        if left < 0 < file.source.size:
            yield SetAside(file.source.name, row.place, "packed_too_much", "", "")
            return


def _read(file: detection.Opened, options: Options) -> Iterator[Row | SetAside]:
    repairer, name = mojibake.Repairer(), file.source.name
    records, text = text_columns.ahead(file.records)
    owed: tuple[str, ...] = ()  # what was dropped of the file, where the record that tells it became no row
    for record in records:
        if isinstance(record, Bad):
            yield SetAside(name, record.place, record.reason, "", record.excerpt[:EXCERPT])
            continue
        notes: list[str] = []
        record = record._replace(repairs=(*owed, *record.repairs)) if owed else record
        told, owed = tuple(code for code in record.repairs if code.endswith("_dropped")), ()
        try:
            mapping = options.mapping or (text_columns.mapping(record.value, text) if text else None)
            row = schema.convert(record.value, mapping, options.roles, notes)
            if "text" in row and file.format in turn_rows.FORMATS and options.mapping is None:
                row = templated.read(row, notes)
            if notes:
                record = record._replace(repairs=(*record.repairs, *notes))
            if record.repairs or options.replace_personal or not _is_normal(row):
                yield _repaired_row(row, record, name, options, repairer)
            else:
                yield Row(row, name, record.place, (), "", "", record.raw if row is record.value else b"")
        except schema.Unfit as unfit:
            owed = told
            yield SetAside(name, record.place, unfit.reason, unfit.detail, _excerpt(record.value))
        except RecursionError:
            yield SetAside(name, record.place, "nested_too_deep", "", "")


def _repaired_row(row: dict, record: Record, name: str, options: Options, repairer: mojibake.Repairer) -> Row:
    repairs, before, after, nothing_asked = list(record.repairs), record.before, record.after, False
    if options.repair_text:
        row, lines, *example = _repaired(row, repairer)
        before, after = (before, after) if before else example
        repairs += ["mojibake"] * lines
    if "lone_surrogate" not in repairs and any("\ufffd" in text for text in turns.texts(row)):
        repairs.append("characters_lost")
    if options.repair_turns and "messages" in row:
        nothing_asked = any(turn["role"] == "user" and not turn["content"].strip() for turn in row["messages"])
        row, done = turns.repair_row(row)
        repairs += done
    if "messages" in row and not any(map(turns.is_learned, row.get("chosen") or turns.as_chat(row)["messages"])):
        raise schema.Unfit("no_reply")
    if nothing_asked and all(turn["role"] != "user" for turn in row["messages"]):
        raise schema.Unfit("empty_question")
    if options.replace_personal:
        row, count = _without_personal(row)
        repairs += ["personal_replaced"] * count
    return Row(row, name, record.place, tuple(repairs), before, after)


def _is_normal(row: dict) -> bool:
    """Whether there is nothing to repair in a row: most rows are left here."""
    if "text" in row:
        return not mojibake.is_suspect(row["text"])
    if "chosen" in row or not row["messages"] or row["messages"][-1].get("weight") == 0:
        return False
    return turns.is_sound(row["messages"]) and not any(mojibake.is_suspect(turn["content"]) for turn in row["messages"])


def _without_personal(row: dict) -> tuple[dict, int]:
    names: dict = {}  # of what was replaced: one row has the same placeholders throughout
    total = 0

    def replaced(text: str) -> str:
        nonlocal total
        text, counts = personal.replaced(text, names)
        total += counts.total()
        return text

    return turns.mapped(row, replaced), total


def _repaired(row: dict, repairer: mojibake.Repairer) -> tuple[dict, int, str, str]:
    total, before, after = 0, "", ""

    def repaired(text: str) -> str:
        nonlocal total, before, after
        fixed, lines = repairer.text(text)
        if lines:
            total, before, after = total + lines, before or text, after or fixed
        return fixed

    fixed = turns.mapped(row, repaired)
    return (fixed if total else row), total, before, after


def _excerpt(value: object) -> str:
    if isinstance(value, dict) and set(value) == {"text"}:
        return str(value["text"])[:EXCERPT]
    try:
        return json.dumps(value, ensure_ascii=False, default=str)[:EXCERPT]
    except (ValueError, RecursionError):
        return ""
