"""A first look into files before they are imported: what they are, how their fields map, five rows of the result."""

from collections import Counter
from itertools import islice
from pathlib import Path

from core.corpus import reading, schema
from core.corpus.reading import Options, Row
from core.corpus.sources import Record

SAMPLE = 200  # records of each file
FILES = 20


def look(paths: list[Path], options: Options, count: int) -> dict:
    """Formats, encodings, the columns of the records, the mapping that fits most, unknown roles, converted rows."""
    files, columns, mappings, roles, speakers = [], Counter(), Counter(), Counter(), Counter()
    shown: list[dict] = []
    troubled = 0
    by_key: dict[str, dict] = {}
    for one in islice(reading.each(paths, options), FILES):
        files.append(
            {"file": one.source.name, "format": one.format, "encoding": one.encoding, "bytes": one.source.size}
        )
        records = list(islice(one.records, SAMPLE))
        for record in records:
            if not isinstance(record, Record):
                continue
            if isinstance(record.value, dict):
                columns.update(map(str, record.value))
                speakers.update(_speakers(record.value))
            mapping = schema.guess(record.value)
            key = repr(sorted(mapping.items()))
            by_key[key] = mapping
            mappings[key] += 1
            unknown = [name for name in schema.roles_in(record.value) if name.strip().lower() not in schema.ROLE_OF]
            roles.update(name for name in unknown if name not in options.roles)
        for found in reading.read(type(one)(one.source, one.format, one.encoding, iter(records)), options):
            if not isinstance(found, Row):
                troubled += 1
            elif len(shown) < count:
                shown.append(found._asdict())
    best = by_key[mappings.most_common(1)[0][0]] if mappings else {"schema": ""}
    return {
        "files": files,
        "columns": list(columns),
        "mapping": options.mapping or best,
        "unknown_roles": dict(roles.most_common(20)),
        "speakers": [name for name, _ in speakers.most_common(20)],
        "rows": shown,
        "troubled": troubled,
    }


def _speakers(value: dict) -> list[str]:
    """The names beside the turns of a messenger's chat."""
    turns = value.get("messages")
    return [turn["name"] for turn in turns if turn.get("name")] if isinstance(turns, list) and _named(turns) else []


def _named(turns: list) -> bool:
    return all(isinstance(turn, dict) and isinstance(turn.get("name"), str) for turn in turns)
