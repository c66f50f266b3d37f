"""The series of a run in the database: every step, and beside them marks, by which the whole run is drawn at once.

A mark stands for a stretch of steps and holds four of its rows as they were logged: those of the lowest and of the
highest loss, of the steepest gradient, and the last one; besides, the sum of its losses. No peak is lost, and a run of
a million steps is drawn from a few hundred rows.
"""

import json
import math

import orjson
from sqlite_utils import Database

STEP = ("step", "loss", "grad_norm", "learning_rate", "tokens_per_second", "memory_gib")
MARKS = 400  # stretches of a whole run
_INSERT = f"insert or replace into steps (run, {', '.join(STEP)}) values ({', '.join('?' * (len(STEP) + 1))})"


def add(db: Database, run_id: str, row: dict, fresh: list[dict]) -> None:
    """Put the step events of a run in; `row` is the run's own, which keeps the width of its marks."""
    if not fresh:
        return
    width = max(1, math.ceil((fresh[-1].get("max_steps") or 1) / MARKS))
    steps = [tuple(event.get(key) for key in STEP) for event in fresh]
    db.conn.executemany(_INSERT, ((run_id, *step) for step in steps))
    if row["mark_width"] != width:
        row["mark_width"] = width
        db.conn.execute("delete from marks where run = ?", [run_id])
        steps = _steps(db, run_id, 0)
    _mark(db, run_id, width, steps)


def go_back(db: Database, run_id: str, row: dict, step: int) -> None:
    """Forget what a run did after the step that it is resumed from: it is done again."""
    for table in ("steps", "evals", "samples", "forgetting"):
        db.conn.execute(f"delete from {table} where run = ? and step > ?", [run_id, step])
    best = "select step, eval_loss from evals where run = ? and eval_loss is not null order by eval_loss, step limit 1"
    row["best_step"], row["best_eval_loss"] = db.conn.execute(best, [run_id]).fetchone() or (None, None)
    if width := row["mark_width"]:
        first = step // width * width
        db.conn.execute("delete from marks where run = ? and mark >= ?", [run_id, step // width])
        _mark(db, run_id, width, _steps(db, run_id, first))


def curves(db: Database, run_id: str) -> dict[str, list[dict]]:
    """A run over its whole length.

    {"steps": the logged rows of all marks; "ends": one of them a mark, the last; "steep": one a mark, of the steepest
    gradient; "means": step and mean loss of each stretch; "evals": all evaluations}.
    """
    rows, ends, steep, means = {}, [], [], []
    for mark in db.query("select * from marks where run = ? order by mark", [run_id]):
        low, high, peak, last = (orjson.loads(mark[name]) for name in ("low", "high", "steep", "last"))
        rows |= {step[0]: step for step in (low, high, peak, last)}
        ends.append(last)
        steep.append(peak)
        means.append({"step": last[0], "loss": mark["total"] / mark["count"] if mark["count"] else None})
    evals = list(db.query("select step, eval_loss from evals where run = ? order by step", [run_id]))
    parts = {"steps": [rows[step] for step in sorted(rows)], "ends": ends, "steep": steep}
    named = {name: [dict(zip(STEP, step, strict=True)) for step in part] for name, part in parts.items()}
    return named | {"means": means, "evals": evals}


def _steps(db: Database, run_id: str, first: int) -> list[tuple]:
    query = f"select {', '.join(STEP)} from steps where run = ? and step >= ? order by step"
    return db.conn.execute(query, [run_id, first]).fetchall()


def _mark(db: Database, run_id: str, width: int, steps: list[tuple]) -> None:
    """Put steps into their marks; those of a mark that is there already are added to it."""
    stretches: dict[int, list[tuple]] = {}
    for step in steps:
        stretches.setdefault(step[0] // width, []).append(step)
    for number, stretch in stretches.items():
        count = [step[1] for step in stretch if step[1] is not None]
        found = db.conn.execute("select * from marks where run = ? and mark = ?", [run_id, number]).fetchone()
        total, kept = sum(count), len(count)
        if found:
            _, _, before, sum_before, *rows = found
            total, kept = total + sum_before, kept + before
            stretch = [*(tuple(json.loads(row)) for row in rows), *stretch]
        chosen = [
            min(stretch, key=lambda step: (math.inf if step[1] is None else step[1], step[0])),
            max(stretch, key=lambda step: (-math.inf if step[1] is None else step[1], -step[0])),
            max(stretch, key=lambda step: (-math.inf if step[2] is None else step[2], -step[0])),
            max(stretch, key=lambda step: step[0]),
        ]
        db.conn.execute(
            "insert or replace into marks values (?, ?, ?, ?, ?, ?, ?, ?)",
            [run_id, number, kept, total, *map(json.dumps, chosen)],
        )
