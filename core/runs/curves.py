"""The series of a run in the database: every step, and buckets of steps, from which the whole run is drawn at once.

A bucket holds four of its steps as they were logged: those of the lowest and of the highest loss, of the highest
gradient norm, and the last one; besides, the sum of its losses. No peak is lost, and a run of a million steps is drawn
from a few hundred rows.
"""

import json
import math

import orjson
from sqlite_utils import Database

STEP = ("step", "loss", "grad_norm", "learning_rate", "tokens_per_second", "memory_gib")
PREFERENCES = ("margin", "accuracy", "chosen_logp", "rejected_logp")
BUCKETS = 400  # in a whole run
FEWEST_POINTS = 4  # from which a curve is continued
NEARLY_OVER = 0.95  # of the steps: nothing is left to forecast
OUTLOOK_POINTS = 20
_STEP_COLUMNS = ", ".join(STEP)
_BUCKET_STEPS = ("lowest_loss", "highest_loss", "highest_grad_norm", "last_step")
_BUCKET_COLUMNS = f"run_id, bucket, loss_count, loss_sum, {', '.join(_BUCKET_STEPS)}"


def add(db: Database, run_id: str, row: dict, fresh: list[dict]) -> None:
    """Insert the step events of a run; `row` is the run's own, which holds the width of its buckets."""
    if not fresh:
        return
    width = max(1, math.ceil((fresh[-1].get("max_steps") or 1) / BUCKETS))
    steps = [tuple(event.get(key) for key in STEP) for event in fresh]
    insert = f"insert or replace into steps (run_id, {_STEP_COLUMNS}) values (?, {', '.join('?' * len(STEP))})"
    db.conn.executemany(insert, ((run_id, *step) for step in steps))
    if row["bucket_steps"] != width:
        row["bucket_steps"] = width
        db.conn.execute("delete from curve_buckets where run_id = ?", [run_id])
        steps = _steps(db, run_id, 0)
    _fill_buckets(db, run_id, width, steps)


def go_back(db: Database, run_id: str, row: dict, step: int) -> None:
    """Delete what a run did after the step that it is resumed from: it is done again."""
    for table in ("steps", "evals", "samples", "forgetting", "preferences"):
        db.conn.execute(f"delete from {table} where run_id = ? and step > ?", [run_id, step])
    best = """select step, eval_loss from evals where run_id = ? and eval_loss is not null
        order by eval_loss, step limit 1"""
    row["best_step"], row["best_eval_loss"] = db.conn.execute(best, [run_id]).fetchone() or (None, None)
    if width := row["bucket_steps"]:
        bucket = step // width
        db.conn.execute("delete from curve_buckets where run_id = ? and bucket >= ?", [run_id, bucket])
        _fill_buckets(db, run_id, width, _steps(db, run_id, bucket * width))


def curves(db: Database, run_id: str) -> dict[str, list[dict]]:
    """A run over its whole length.

    {"steps": the logged steps of all buckets; "ends": the last step of each bucket; "steep": that of the highest
    gradient norm; "means": last step and mean loss of each bucket; "evals": all evaluations; "preferences": what they
    and the logged steps measured, {"train": the means of each bucket, "eval": all}}.
    """
    logged, ends, steep, means = {}, [], [], []
    query = f"select {_BUCKET_COLUMNS} from curve_buckets where run_id = ? order by bucket"
    for _, _, count, total, *chosen in db.conn.execute(query, [run_id]):
        low, high, peak, last = map(orjson.loads, chosen)
        logged |= {step[0]: step for step in (low, high, peak, last)}
        ends.append(last)
        steep.append(peak)
        means.append({"step": last[0], "loss": total / count if count else None})
    evals = []
    for row in db.query(
        "select step, eval_loss, by_corpus, recall_loss from evals where run_id = ? order by step", [run_id]
    ):
        losses = row.pop("by_corpus")
        evals.append(row | ({"by_corpus": json.loads(losses)} if losses else {}))
    parts = {"steps": [logged[step] for step in sorted(logged)], "ends": ends, "steep": steep}
    named = {name: [dict(zip(STEP, step, strict=True)) for step in part] for name, part in parts.items()}
    return named | {"means": means, "evals": evals, "preferences": _preferences(db, run_id)}


def outlook(points: list[tuple[int, float]], last: int) -> tuple[list[float], ...] | None:
    """Where a curve may go until its last step: steps, and the lower edge, middle and upper edge of its band.

    The middle is a straight line over the logarithm of the step, fitted to the later half of the points. The band holds
    the 95% intervals of two futures, that line and a curve that levels off now: most losses end between them. None with
    fewer than four points, near the end, and where the band would be wider than the loss itself.
    """
    points = [point for point in points if point[0] > 0 and math.isfinite(point[1])]
    known = points[-max(FEWEST_POINTS, len(points) // 2) :]
    if len(points) < FEWEST_POINTS or not known[-1][0] < last * NEARLY_OVER:
        return None
    xs, ys = [math.log(step) for step, _ in known], [loss for _, loss in known]
    x_mean, y_mean, count = sum(xs) / len(xs), sum(ys) / len(ys), len(xs)
    spread = sum((x - x_mean) ** 2 for x in xs)
    slope = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / spread
    error = sum((y - y_mean - slope * (x - x_mean)) ** 2 for x, y in zip(xs, ys, strict=True)) / (count - 2)
    # The 97.5% quantile of Student's t, by a series in the inverse of the degrees of freedom.
    student = 1.96 + 2.4 / (count - 2) + 2.3 / (count - 2) ** 2 + 4.55 / (count - 2) ** 3
    first = known[-1][0]
    level = y_mean + slope * (math.log(first) - x_mean)
    steps = [first + (last - first) * at / OUTLOOK_POINTS for at in range(OUTLOOK_POINTS + 1)]
    low, middle, high = [], [], []
    for step in steps:
        ahead = math.log(step) - x_mean
        value, half = y_mean + slope * ahead, student * math.sqrt(error * (1 + 1 / count + ahead**2 / spread))
        middle.append(max(0.0, value))
        low.append(max(0.0, min(value, level) - half))
        high.append(max(value, level) + half)
    return None if high[-1] - low[-1] > y_mean else (steps, low, middle, high)


def _preferences(db: Database, run_id: str) -> dict[str, list[dict]]:
    means = ", ".join(f"avg({name}) {name}" for name in PREFERENCES)
    width = "coalesce((select bucket_steps from runs where id = :run), 1)"
    query = f"""select max(step) step, {means} from preferences where run_id = :run and part = :part
        group by case part when 'eval' then step else step / {width} end order by 1"""
    return {part: list(db.query(query, {"run": run_id, "part": part})) for part in ("train", "eval")}


def _steps(db: Database, run_id: str, first: int) -> list[tuple]:
    query = f"select {_STEP_COLUMNS} from steps where run_id = ? and step >= ? order by step"
    return db.conn.execute(query, [run_id, first]).fetchall()


def _fill_buckets(db: Database, run_id: str, width: int, steps: list[tuple]) -> None:
    """Put steps into their buckets, beside what is there already."""
    buckets: dict[int, list[tuple]] = {}
    for step in steps:
        buckets.setdefault(step[0] // width, []).append(step)
    select = f"select {_BUCKET_COLUMNS} from curve_buckets where run_id = ? and bucket = ?"
    insert = f"insert or replace into curve_buckets ({_BUCKET_COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?)"
    for bucket, members in buckets.items():
        losses = [step[1] for step in members if step[1] is not None]
        total, count = sum(losses), len(losses)
        if stored := db.conn.execute(select, [run_id, bucket]).fetchone():
            _, _, count_before, total_before, *chosen = stored
            total, count = total + total_before, count + count_before
            members = [*(tuple(json.loads(step)) for step in chosen), *members]
        chosen = [
            min(members, key=lambda step: (math.inf if step[1] is None else step[1], step[0])),
            max(members, key=lambda step: (-math.inf if step[1] is None else step[1], -step[0])),
            max(members, key=lambda step: (-math.inf if step[2] is None else step[2], -step[0])),
            max(members, key=lambda step: step[0]),
        ]
        db.conn.execute(insert, [run_id, bucket, count, total, *map(json.dumps, chosen)])
