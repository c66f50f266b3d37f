"""Which column of a file without known names is its text: the only one of strings, and only where it reads as prose."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from statistics import median

from core.corpus import schema
from core.corpus.sources import Bad, Record

SAMPLE = 200  # records that are looked at
FEW = 3  # records; of fewer each must be a long text
LONG = 200  # characters
WORDS = 4  # that the text in the middle must have
LETTERS = 0.75  # least share of letters and spaces: addresses, numbers and code have less
VARIETY = 0.5  # least share of different texts, digits apart: the messages of a log are few


def ahead(records: Iterator[Record | Bad]) -> tuple[Iterator[Record | Bad], str]:
    """The same records, and the name of the column that is their text; "" where their names are known or none is."""
    held: list[Record | Bad] = []
    for record in records:
        held.append(record)
        if len(held) == SAMPLE or (isinstance(record, Record) and schema.guess(record.value)["schema"]):
            break
    return chain(held, records), of([record.value for record in held if isinstance(record, Record)])


def mapping(value: object, column: str) -> dict | None:
    """How a record is read that has such a column, and no names that are known."""
    unnamed = isinstance(value, dict) and column in value and not schema.guess(value)["schema"]
    return {"schema": "text", "text": column} if unnamed else None


def of(values: list) -> str:
    """The text column of some records by its evidence; "" for none."""
    records = [value for value in values if isinstance(value, dict) and not schema.guess(value)["schema"]]
    only = Counter(name for record in records if (name := _only_string(record)) is not None)
    if not only:
        return ""
    name, count = only.most_common(1)[0]
    texts = [record[name] for record in records if isinstance(record.get(name), str) and record[name].strip()]
    proper = count >= 0.9 * len(records) and name.strip().lower() not in schema.NAMES["no_text"]
    return name if proper and texts and _reads_as_prose(texts) else ""


def _only_string(record: dict) -> str | None:
    strings = [key for key, value in record.items() if isinstance(value, str) and key not in schema.OURS]
    # In a table numbers and dates are strings as well.
    names = [key for key in strings if any(map(str.isalpha, record[key]))] if len(strings) > 1 else strings
    return names[0] if len(names) == 1 else None


def _reads_as_prose(texts: list[str]) -> bool:
    if len(texts) < FEW and min(map(len, texts)) < LONG:
        return False
    whole = "".join(texts)
    letters = sum(char.isalpha() or char.isspace() for char in whole)
    different = len({re.sub(r"\d+", "", text) for text in texts})
    words = median(len(text.split()) for text in texts)
    return words >= WORDS and letters >= LETTERS * len(whole) and different >= VARIETY * len(texts)
