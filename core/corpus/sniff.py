"""A first look into files before they are imported: what they are, how their fields map, five rows of the result."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

from core import foreign
from core.corpus import reading, schema, suggestions, text_columns
from core.corpus.reading import Options, SetAside
from core.corpus.sources import Record

SAMPLE = 200  # records of each file
SHOWN = 5  # converted rows
FILES = 20


def look(paths: list[Path], options: Options | None = None, wait: Callable[[], None] = lambda: None) -> dict:
    """look_in() in a process of its own with little memory and time; what `wait()` raises ends it.

    Raises:
        TookTooLong, TookTooMuch, ReaderBroke: naming the file.
    """
    names = ", ".join(path.name for path in paths[:3])
    return foreign.ask("look", list(paths), asdict(options or Options()), file=names, look=wait)


def look_at(paths: list[str], options: dict) -> dict:
    return look_in([Path(path) for path in paths], Options(**options))


def look_in(paths: list[Path], options: Options | None = None) -> dict:
    """What the first records of some files look like.

    {"files": [{"file", "format", "encoding", "bytes"}], "more_files": whether there are others, "columns", "mapping": the
    one that fits most, "unknown_roles": counts by name, "speakers", "records": how many were looked at, "aside": of these,
    counts by reason, "rows": the first SHOWN converted ones, "suggestions": see suggestions.py, where there are none}.
    """
    options = options or Options()
    files, columns, mappings, roles, speakers, aside = [], Counter(), Counter(), Counter(), Counter(), Counter()
    rows: list[dict] = []
    values: list = []
    count_in = 0
    sources = reading.each(paths, options)
    for source in islice(sources, FILES):
        files.append(
            {
                "file": source.source.name,
                "format": source.format,
                "encoding": source.encoding,
                "bytes": source.source.size,
            }
        )
        records = list(islice(source.records, SAMPLE))
        found = [record.value for record in records if isinstance(record, Record)]
        values += found
        text = text_columns.of(found)
        for value in found:
            if isinstance(value, dict):
                columns.update(name for name in map(str, value) if name != "learn_as")  # which is the reader's
                speakers.update(_speakers(value))
            mappings[json.dumps(text_columns.mapping(value, text) or schema.guess(value))] += 1
            roles.update(name for name in schema.roles_in(value) if not schema.knows(name, options.roles))
        for row in reading.read(replace(source, records=iter(records)), options):
            count_in += 1
            if isinstance(row, SetAside):
                aside[row.reason] += 1
            elif len(rows) < SHOWN:
                rows.append({**row._asdict(), "raw": ""})
    best = json.loads(mappings.most_common(1)[0][0]) if mappings else {"schema": ""}
    return {
        "files": files,
        "more_files": next(sources, None) is not None,
        "columns": list(columns),
        "mapping": options.mapping or best,
        "unknown_roles": dict(roles.most_common(20)),
        "speakers": [name for name, _ in speakers.most_common(20)],
        "records": count_in,
        "aside": dict(aside.most_common()),
        "rows": rows,
        "suggestions": [] if rows else suggestions.of(values[:SAMPLE], options.roles),
    }


def _speakers(value: dict) -> list[str]:
    """The names beside the turns of a messenger's chat."""
    turns = value.get("messages")
    if not isinstance(turns, list):
        return []
    names = [turn.get("name") if isinstance(turn, dict) else None for turn in turns]
    return [name for name in names if name] if all(isinstance(name, str) for name in names) else []
