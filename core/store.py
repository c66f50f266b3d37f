"""The database: an index over runs and events that can be rebuilt from the run directories.

Every function opens its own connection: Gradio calls from many threads. Readers and writers do not block each other (WAL).
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict

from filelock import FileLock
from sqlite_utils import Database, Migrations

from core import events, paths, runs
from core.trouble import Trouble

# How an event changes the row of its run; steps and evaluations have tables of their own besides.
KEPT = {
    "loading": ("corpus_hash",),
    "data": ("rows_train", "rows_eval", "tokens_train", "tokens_learned"),
    "forecast": ("predicted_bytes", "predicted_seconds"),
    "model": ("parameters", "trainable_parameters", "device", "precision", "attention"),
    "step": ("step", "max_steps", "loss", "tokens_per_second", "seconds_left", "memory_gib"),
    "eval": ("eval_loss",),
    "failed": ("trouble", "message"),
}
STEP = ("step", "loss", "grad_norm", "learning_rate", "tokens_per_second", "memory_gib")
PLOT_POINTS = 500

migrations = Migrations("soulsmith")


@migrations()
def m001_runs(db: Database) -> None:
    """Runs, and the two series that are plotted."""
    texts = "id name note state base_model corpus corpus_hash method config stage device precision attention"
    texts += " trouble message trouble_values rows_left_out"
    numbers = "created started ended seconds loss base_eval_loss eval_loss best_eval_loss tokens_per_second"
    numbers += " seconds_left memory_gib stage_done stage_total"
    counts = "offset step max_steps best_step rows_train rows_eval tokens_train tokens_learned parameters"
    counts += " trainable_parameters"
    kinds = {str: texts, float: numbers, int: counts}
    db["runs"].create({name: kind for kind, names in kinds.items() for name in names.split()}, pk="id")
    db["steps"].create({"run": str} | {name: int if name == "step" else float for name in STEP}, pk=("run", "step"))
    db["evals"].create({"run": str, "step": int, "eval_loss": float}, pk=("run", "step"))


@migrations()
def m002_forecast(db: Database) -> None:
    """What the calculator expected: reserved bytes at the peak, seconds of a step of the longest rows."""
    db["runs"].add_column("predicted_bytes", float)
    db["runs"].add_column("predicted_seconds", float)


@contextmanager
def opened() -> Iterator[Database]:
    """The database, with every table there."""
    path = paths.database()
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=30)
    try:
        db = Database(connection)
        if migrations.pending(db):
            _lay_tables(db)
        yield db
    finally:
        connection.close()


def _lay_tables(db: Database) -> None:
    """Bring the schema up to date, one at a time: a page that opens asks from several threads at once."""
    with FileLock(paths.database().with_suffix(".lock")):
        if migrations.pending(db):
            db.conn.execute("pragma journal_mode=wal")  # kept in the file from then on
            migrations.apply(db)


def sync(run_id: str) -> dict:
    """Bring the row of a run up to its events and return it: reads only what was added since the last time."""
    with opened() as db:
        return _sync(db, run_id)


def sync_all() -> list[dict]:
    """Bring every run up to date, forget those that are gone, and return the rows, newest first."""
    with opened() as db:
        there = runs.listed()
        for run_id in there:
            with suppress(Trouble, OSError, ValueError):  # one damaged or just deleted run does not hide the others
                _sync(db, run_id)
        for row in list(db["runs"].rows):
            if row["id"] not in there:
                _forget(db, row["id"])
        return list(db["runs"].rows_where(order_by="created desc, id desc"))


def rename(run_id: str, name: str, note: str) -> None:
    """Call a run something else, or note something about it."""
    runs.rename(run_id, name, note)
    sync(run_id)


def delete(run_id: str) -> None:
    """Delete a run's directory and its rows."""
    runs.delete(run_id)
    with opened() as db:
        _forget(db, run_id)


def curves(run_id: str, points: int = PLOT_POINTS) -> dict[str, list[dict]]:
    """The series of a run, {"steps": rows, "evals": rows}, thinned evenly over the whole run to about `points` rows."""
    with opened() as db:
        count = db["steps"].count_where("run = ?", [run_id])
        every = max(1, count // points)
        # Numbered by row, not by step: with logging_steps 10 the steps themselves are ten apart.
        query = f"""select {", ".join(STEP)} from (
            select *, row_number() over (order by step) as n from steps where run = :run
        ) where (n - 1) % :every = 0 or n = :count order by step"""
        steps = list(db.query(query, {"run": run_id, "every": every, "count": count}))
        evals = list(db.query("select step, eval_loss from evals where run = ? order by step", [run_id]))
    return {"steps": steps, "evals": evals}


def _sync(db: Database, run_id: str) -> dict:
    found = list(db["runs"].rows_where("id = ?", [run_id]))
    row = found[0] if found else _new_row(run_id)
    state = runs.state(run_id)  # before the events: a run that ends in between is seen ending at the next look
    fresh, offset = events.read(paths.run(run_id), row["offset"])
    label = runs.label(run_id)
    changed = dict(row, state=state, offset=offset, name=label["name"], note=label["note"])
    for event in fresh:
        fold(changed, event)
    if changed == row and found:
        return row
    with db.conn:  # rows and offset in one transaction: an event is counted once or not at all
        db["runs"].upsert(changed, pk="id")
        steps = [event for event in fresh if event["event"] == "step"]
        db["steps"].upsert_all([{"run": run_id} | {key: e.get(key) for key in STEP} for e in steps], pk=("run", "step"))
        evals = [{"run": run_id, "step": e["step"], "eval_loss": e["eval_loss"]} for e in fresh if e["event"] == "eval"]
        db["evals"].upsert_all(evals, pk=("run", "step"))
    return changed


def fold(row: dict, event: dict) -> None:
    """Change the row of a run by what one event says."""
    kind = event["event"]
    row.update({key: event[key] for key in KEPT.get(kind, ()) if key in event})
    if kind == "started":
        row.update(started=event["time"], ended=None, stage="starting", trouble=None, message=None)
    elif kind == "preparing":
        row.update(stage=event["stage"], stage_done=event["done"], stage_total=event["total"])
    elif kind in ("loading", "step"):
        row["stage"] = {"loading": "loading", "step": "training"}[kind]
    elif kind == "data":
        row["rows_left_out"] = json.dumps(event["rows_left_out"])
    elif kind == "eval":
        if event["step"] == 0:
            row["base_eval_loss"] = event["eval_loss"]
        if event["eval_loss"] is not None and (row["best_eval_loss"] or float("inf")) > event["eval_loss"]:
            row.update(best_eval_loss=event["eval_loss"], best_step=event["step"])
    elif kind in events.FINAL:
        row.update(
            ended=event["time"],
            stage=None,
            seconds_left=None,
            seconds=row["started"] and event["time"] - row["started"],
        )
        if kind == "failed":
            row["trouble_values"] = json.dumps(event.get("values"))


def _new_row(run_id: str) -> dict:
    config, names = runs.config(run_id), [column for column in _columns() if column != "id"]
    return (
        {"id": run_id}
        | dict.fromkeys(names)
        | {
            "offset": 0,
            "created": runs.label(run_id)["created"],
            "base_model": config.base_model,
            "corpus": config.corpus,
            "method": config.method,
            "config": json.dumps(asdict(config), ensure_ascii=False),
        }
    )


def _columns() -> list[str]:
    with opened() as db:
        return list(db["runs"].columns_dict)


def _forget(db: Database, run_id: str) -> None:
    with db.conn:
        db["steps"].delete_where("run = ?", [run_id])
        db["evals"].delete_where("run = ?", [run_id])
        db["runs"].delete_where("id = ?", [run_id])
