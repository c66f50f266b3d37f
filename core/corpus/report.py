"""The report on a corpus: copies, checks, gauges and tokens; each row's attributes are written beside the rows."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from core import files, process
from core.corpus import checks, diversity_metrics, duplicates, storage, tokens, turns

ATTRIBUTES = "attributes.jsonl"
EXAMPLES = 5  # pairs of copies that are shown with both texts

Report = Callable[[str, int, int], None]  # stage, done, total


def make(
    directory: Path,
    *,
    tokenizer=None,
    model: str = "",
    max_length: int = 1024,
    learn: str = "assistant",
    tell: Report | None = None,
) -> dict:
    """Everything that is worth knowing of a corpus; kept as report.json in its directory."""
    card = storage.read_card(directory)
    tell = tell or (lambda stage, done, total: None)
    copies = duplicates.find(_said(directory, card["rows"], tell))
    grouped = copies.grouped()
    flags, languages, personal, sources = Counter(), Counter(), Counter(), Counter()
    sample: list[dict] = []
    every = max(1, card["rows"] // tokens.SAMPLE)
    lengths = array("I")
    with files.replaced(directory / ATTRIBUTES) as out:
        for number, row in enumerate(storage.all_rows(directory)):
            checked = checks.check(row)
            flags.update(checked["flags"])
            languages[checked["lang"]] += 1
            personal.update(checked.get("personal", {}))
            sources[(row.get("source") or {}).get("file", "")] += 1
            lengths.append(checked["chars"])
            kind = duplicates.KINDS[copies.kind[number]]
            copy = {"copy": kind, "of": int(copies.first[number])} if kind else {}
            copy |= {"group": int(copies.group[number])} if grouped[number] else {}
            out.write(orjson.dumps(checked | copy) + b"\n")
            if number % every == 0 and len(sample) < tokens.SAMPLE:
                sample.append(row)
            if number % 1000 == 0:
                tell("checks", number, card["rows"])
    tell("gauges", 0, 1)
    xray = diversity_metrics.measure(
        [turns.learned(row) for row in diversity_metrics.spaced(sample, diversity_metrics.SAMPLE)]
    )
    report = {
        "corpus": card["id"],
        "rows": card["rows"],
        "copies": copies.counts() | {"clusters": copies.clusters()},
        "pairs": _pairs(directory, copies),
        "flags": {name: flags[name] for name in checks.FLAGS},
        "personal": dict(personal.most_common()),
        "languages": dict(languages.most_common()),
        "sources": dict(sources.most_common(20)),
        "lengths": tokens.histogram(list(lengths[:: max(1, len(lengths) // 200_000)])),
        "xray": xray,
        "natural": diversity_metrics.natural(xray["lang"]),
    }
    if tokenizer is not None:
        tell("tokens", 0, 1)
        process.opening(model)
        measured = tokens.measure(sample, card["rows"], tokenizer, max_length=max_length, learn=learn)
        report["tokens"] = measured | {"epoch_seconds": tokens.epoch_seconds(measured, model)}
    files.write_json(directory / "report.json", report)
    return report


def attributes(directory: Path) -> Iterator[dict]:
    """The attributes of each row, in order; make() has to be called before."""
    return files.lines(directory / ATTRIBUTES)


def _said(directory: Path, count: int, tell: Report) -> Iterator[duplicates.Said]:
    for number, row in enumerate(storage.all_rows(directory)):
        if number % 1000 == 0:
            tell("copies", number, count)
        yield duplicates.said(row)


def _pairs(directory: Path, copies: duplicates.Copies) -> list[dict]:
    """Some rows that are near or normalised copies, with the row that they are copies of."""
    numbers = [int(at) for at in (copies.kind == 3).nonzero()[0][:EXAMPLES]]
    numbers += [int(at) for at in (copies.kind == 2).nonzero()[0][: EXAMPLES - len(numbers)]]
    pairs = []
    for number in numbers:
        first = int(copies.first[number])
        row, other = storage.rows(directory, first, 1)[0], storage.rows(directory, number, 1)[0]
        pairs.append(
            {"first": first, "copy": number, "kind": duplicates.KINDS[copies.kind[number]],
             "similarity": round(float(copies.similarity[number]), 3),
             "texts": [duplicates.text_of(row)[:600], duplicates.text_of(other)[:600]]}
        )  # fmt: skip
    return pairs
