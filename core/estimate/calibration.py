"""What this machine has shown: predicted and measured figures of every run, and the correction that follows.

The trainer's process calls `record(...)` once a run has taken its first steps; estimates of the same model, card and
attention then carry `correction(...)`, which the page shows as such.
"""

import json
import statistics
import time
from dataclasses import dataclass

from core import paths

RUN, CHECK = "run", "check"
LEAST, MOST = 0.2, 5.0  # a ratio beyond is a mistake in the record, not a property of the machine


@dataclass(frozen=True)
class Correction:
    """By how much this machine's runs differed from their estimates, and how many runs say so."""

    memory: float = 1.0
    seconds: float = 1.0
    runs: int = 0
    exact: bool = False  # the same model, not just the same card


def file():
    return paths.home() / "estimates" / "runs.jsonl"


def record(
    *,
    model: str,
    card: str,
    attention: str,
    method: str,
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
        lines = file().read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    records = {}
    for at, line in enumerate(lines):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            measured = tuple(row.get(name) for name in ("model", "card", "attention", "method"))
            records[measured if row.get("origin") == CHECK else at] = row
    return list(records.values())


def correction(model: str, card: str, attention: str) -> Correction:
    """The median ratio of this model's runs with this card and attention; else of all runs of the card.

    A check trains a tiny model, whose time is mostly that of starting kernels: it says nothing of other models.
    """
    same_card = [row for row in rows() if row.get("card") == card]
    same = [row for row in same_card if row.get("model") == model and row.get("attention") == attention]
    runs = [row for row in same_card if row.get("origin") != CHECK]
    for chosen, exact in ((same, True), (runs, False)):
        memory, seconds = _ratios(chosen, "bytes"), _ratios(chosen, "seconds")
        if memory or seconds:
            return Correction(
                statistics.median(memory) if memory else 1.0,
                statistics.median(seconds) if seconds else 1.0,
                len(chosen),
                exact,
            )
    return Correction()


def _ratios(chosen: list[dict], unit: str) -> list[float]:
    ratios = []
    for row in chosen:
        predicted, measured = row.get(f"predicted_{unit}") or 0, row.get(f"measured_{unit}") or 0
        if predicted > 0 and LEAST < measured / predicted < MOST:
            ratios.append(measured / predicted)
    return ratios
