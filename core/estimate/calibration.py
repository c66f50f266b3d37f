"""What this machine has shown: predicted and measured figures of every run, and the correction that follows.

The trainer's process calls `record(...)` once a run has taken its first steps; estimates for the same card, attention and
method, of models of like size, then carry `correction(...)`, which the page shows with the runs behind it.
"""

import contextlib
import json
import math
import time
from dataclasses import dataclass

from core import files, paths
from core.errors import UserError
from core.estimate import catalogue

RUN, CHECK = "run", "check"
FAR = 1.25  # how far one run alone may move an estimate
LIKE = 4  # times a model's size: a run of one further away says nothing of it
LEAST, MOST = 0.2, 5.0  # a ratio beyond is a mistake in the record, not a property of the machine


@dataclass(frozen=True)
class Correction:
    """By how much this machine's runs differed from their estimates, and which runs say so."""

    memory: float = 1.0
    seconds: float = 1.0
    sources: tuple[dict, ...] = ()  # model, memory, seconds (ratios or None), time, weight of each

    @property
    def runs(self) -> int:
        return len(self.sources)


def file():
    return paths.home() / "estimates" / "runs.jsonl"


def record(
    *,
    model: str,
    card: str,
    attention: str,
    method: str,
    parameters: int = 0,
    predicted_least_bytes: float = 0,
    predicted_bytes: float = 0,
    measured_bytes: float = 0,
    predicted_seconds: float = 0,
    measured_seconds: float = 0,
    origin: str = RUN,
) -> None:
    """Store what was predicted for a run and what was measured: reserved bytes, seconds of an optimizer step.

    `origin` is what was measured: a run, or the few steps of a check.
    """
    row = dict(locals(), time=time.time())
    file().parent.mkdir(parents=True, exist_ok=True)
    with file().open("a", encoding="utf-8") as out:
        out.write(json.dumps(row) + "\n")


def rows() -> list[dict]:
    """All records but those of a check that a later one has repeated; a line that was cut off is passed over."""
    try:
        lines = file().read_bytes()
    except OSError:
        return []
    records = {}
    for at, row in enumerate(files.parsed(lines)):
        measured = tuple(row.get(name) for name in ("model", "card", "attention", "method"))
        records[measured if row.get("origin") == CHECK else at] = row
    return list(records.values())


def correction(model: str, card: str, attention: str, method: str, parameters: int) -> Correction:
    """What runs of this card, attention and method, of models of like size, say of a model of so many parameters.

    A run of the same model counts as one, of another the less the more their sizes differ. The correction is the middle
    of the runs' ratios; all of them that count less than one run together give only a part of it, and none goes further
    than FAR for each run that it rests on: one run on a busy machine moves little. A check trains a tiny model, whose time
    is mostly that of starting kernels: it says nothing of other models.
    """
    sources = []
    for row in rows():
        if (row.get("card"), row.get("attention"), row.get("method")) != (card, attention, method):
            continue
        same = row.get("model") == model
        weight = 1.0 if same else 0.0 if row.get("origin") == CHECK else _likeness(_size(row), parameters)
        ratios = {unit: _ratio(row, unit) for unit in ("bytes", "seconds")}
        if weight and any(ratios.values()):
            known = {"model": row.get("model"), "time": row.get("time"), "weight": weight}
            sources.append(known | {"memory": ratios["bytes"], "seconds": ratios["seconds"]})
    return Correction(_middle(sources, "memory"), _middle(sources, "seconds"), tuple(sources))


def forget(card: str, attention: str, method: str) -> int:
    """Delete what corrections of this card, attention and method rest on; how many records those were."""
    asked = (card, attention, method)
    kept = [row for row in rows() if (row.get("card"), row.get("attention"), row.get("method")) != asked]
    forgotten = len(rows()) - len(kept)
    if forgotten:
        with files.replaced(file()) as out:
            out.writelines(json.dumps(row).encode() + b"\n" for row in kept)
    return forgotten


def _size(row: dict) -> int:
    """Parameters of a record's model: its own figure, else the catalogue's; 0 where neither is known."""
    if not row.get("parameters"):
        with contextlib.suppress(UserError):
            return catalogue.shape(str(row.get("model"))).parameters
    return row.get("parameters") or 0


def _likeness(size: int, other: int) -> float:
    """1 for models of one size, half for twice or half of it, 0 beyond LIKE times."""
    if not size or not other or not 1 / LIKE <= size / other <= LIKE:
        return 0.0
    return 0.5 ** abs(math.log2(size / other))


def _middle(sources: list[dict], unit: str) -> float:
    """The weighted median of the ratios, by as much as they weigh."""
    known = sorted((math.log(source[unit]), source["weight"]) for source in sources if source[unit])
    weight = sum(each for _, each in known)
    if not known:
        return 1.0
    below, middle = 0.0, known[-1][0]
    for at, (ratio, each) in enumerate(known):
        below += each
        if below >= weight / 2:
            even = math.isclose(below, weight / 2) and at + 1 < len(known)
            middle = (ratio + known[at + 1][0]) / 2 if even else ratio
            break
    bound = weight * math.log(FAR)
    return math.exp(max(-bound, min(bound, middle)) * min(1.0, weight))


def _ratio(row: dict, unit: str) -> float | None:
    predicted, measured = row.get(f"predicted_{unit}") or 0, row.get(f"measured_{unit}") or 0
    return measured / predicted if predicted > 0 and LEAST < measured / predicted < MOST else None
