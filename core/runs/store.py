"""The database: an index over runs and events that can be rebuilt from the run directories.

Every function opens its own connection: Gradio calls from many threads. Readers and writers do not block each other (WAL).
"""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict

from filelock import FileLock
from sqlite_utils import Database, Migrations

from core import events, paths
from core.errors import UserError
from core.runs import curves as runs_curves
from core.runs import runs
from core.runs.curves import STEP

# How an event changes the row of its run; steps and evaluations have tables of their own besides.
KEPT = {
    "loading": ("corpus_hash",),
    "data": ("rows_train", "rows_eval", "tokens_train", "tokens_learned", "longest"),
    "forecast": ("predicted_bytes", "predicted_seconds"),
    "model": ("parameters", "trainable_parameters", "device", "precision", "attention"),
    "heard": ("request", "asked"),
    "checkpoint": ("checkpoint_step",),
    "step": ("step", "max_steps", "loss", "tokens_per_second", "seconds_left", "memory_gib"),
    "eval": ("eval_loss",),
    "failed": ("trouble", "message"),
}
WATCHES = {"samples": "film_strip", "forgetting": "forgetting_meter"}  # event: the field that asks for it
ENDING = ("step_seconds", "step_tokens", "peak_memory_gib", "kept_step", "stopped_early")
CHUNK_BYTES = 1 << 20
OPENING_SECONDS = 1.5  # how long the page may read a log that nobody looked at before; the rest comes with later looks

TRIES = 4  # of opening the database on a disk that refuses


class DatabaseStuck(UserError):
    template = "The database {path} cannot be used: {reason}. Free some space on its disk. Trainings go on meanwhile."


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


@migrations()
def m003_watching(db: Database) -> None:
    """Marks by which a long run is drawn, replies and scores of every evaluation, tags, and what a person asked for."""
    texts, numbers = "tags request waiting stamp changes", "asked heard event_at step_seconds step_tokens"
    counts = "mark_width checkpoint_step heard_step longest kept_step stopped_early"
    for kind, names in {str: texts, float: numbers + " peak_memory_gib", int: counts}.items():
        for name in names.split():
            db["runs"].add_column(name, kind)
    db["marks"].create(
        {"run": str, "mark": int, "count": int, "total": float, "low": str, "high": str, "steep": str, "last": str},
        pk=("run", "mark"),
    )
    db["samples"].create(
        {"run": str, "step": int, "number": int, "prompt": str, "reply": str}, pk=("run", "step", "number")
    )
    db["forgetting"].create(
        {"run": str, "step": int, "score": float, "foreign": float, "parts": str}, pk=("run", "step")
    )
    db.conn.execute("update runs set offset = 0")  # all events are read once more, for the new tables


@migrations()
def m004_votes(db: Database) -> None:
    """Votes of the arena with the texts they were cast on: the one table that no run directory can rebuild."""
    texts = "match voter topic question system verdict left a b text_a text_b note"
    columns = dict.fromkeys(texts.split(), str) | {"prompt": int, "created": float}
    db["votes"].create(columns, pk=("match", "prompt", "voter"))


@migrations()
def m005_disk(db: Database) -> None:
    """What each run occupies; every run is looked at once more for it."""
    db["runs"].add_column("disk_bytes", int)
    db.conn.execute("update runs set stamp = null")


@migrations()
def m006_skipped(db: Database) -> None:
    """What memory did not suffice for beside the training, and at which step: {"film_strip": 40}."""
    db["runs"].add_column("skipped", str)
    db.conn.execute("update runs set stamp = null")


@contextmanager
def opened() -> Iterator[Database]:
    """The database, with every table there."""
    path = paths.database()
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=30)
    try:
        db = Database(connection)
        _make_ready(db)
        yield db
    finally:
        connection.close()


def _make_ready(db: Database) -> None:
    """See to it that every table is there. What the disk refuses is tried again: it may be short for a moment only."""
    for attempt in range(TRIES):
        try:
            # A database that is not there yet is looked at by one alone: the switch to WAL bears no reader beside it.
            if not _has_content() or migrations.pending(db):
                _lay_tables(db)
            return
        except sqlite3.OperationalError as error:
            if "disk" not in str(error):  # "disk I/O error", "database or disk is full"
                raise
            if attempt == TRIES - 1:
                reason = f"{error} ({error.sqlite_errorname})"
                raise DatabaseStuck(path=paths.database(), reason=reason) from error
        time.sleep(0.1)


def _has_content() -> bool:
    with suppress(FileNotFoundError):
        return paths.database().stat().st_size > 0
    return False


def _lay_tables(db: Database) -> None:
    """Bring the schema up to date, one at a time: a page that opens asks from several threads at once."""
    with FileLock(paths.database().with_suffix(".lock")):
        if migrations.pending(db):
            db.conn.execute("pragma journal_mode=wal")  # kept in the file from then on
            migrations.apply(db)


def sync(run_id: str, seconds: float = OPENING_SECONDS) -> dict:
    """Bring the row of a run up to its events and return it: reads only what was added since the last time.

    After so many seconds it leaves the rest of a long log to the next look; the row's offset says how far it came.
    """
    with opened() as db:
        _without_waiting(db)
        return _sync(db, run_id, time.monotonic() + seconds)


def sync_all(seconds: float = OPENING_SECONDS) -> list[dict]:
    """Bring every run up to date, forget those that are gone, and return the rows, newest first."""
    with opened() as db:
        _without_waiting(db)
        there, known = runs.listed(), {row["id"]: row["stamp"] for row in db.query("select id, stamp from runs")}
        until = time.monotonic() + seconds
        for run_id in there:
            with suppress(UserError, OSError, ValueError):  # one damaged or just deleted run does not hide the others
                if not known.get(run_id) or known[run_id] != _stamp(run_id):
                    _sync(db, run_id, until)
        for run_id in known:
            if run_id not in there:
                _forget(db, run_id)
        return list(db["runs"].rows_where(order_by="created desc, id desc"))


def _without_waiting(db: Database) -> None:
    """Do not wait for the disk at each commit: what a power cut takes is read from the events once more."""
    db.conn.execute("pragma synchronous=normal")


def rename(run_id: str, name: str, note: str, tags: list[str] | None = None) -> None:
    """Call a run something else, note something about it, or give it tags."""
    runs.rename(run_id, name, note, tags)
    sync(run_id)


def delete(run_id: str) -> None:
    """Delete a run's directory and its rows."""
    runs.delete(run_id)
    with opened() as db:
        _forget(db, run_id)


def choices(rows: list[dict]) -> list[tuple[str, str]]:
    """(name, id) of runs, for a list to choose from."""
    return runs.disambiguate([(row["name"], row["id"]) for row in rows])


def some_wait() -> bool:
    """Whether a run waited when it was last looked at: a cheap question, unlike runs.needs_worker of hundreds of runs."""
    with opened() as db:
        return bool(db.execute("select 1 from runs where state = 'queued' limit 1").fetchone())


def curves(run_id: str) -> dict[str, list[dict]]:
    """The series of a run over its whole length, thinned: see core.runs.curves."""
    with opened() as db:
        return runs_curves.curves(db, run_id)


def film(run_id: str) -> list[dict]:
    """Every reply of the film strip: {"step", "number", "prompt", "reply"}, by prompt and step."""
    query = "select step, number, prompt, reply from samples where run = ? order by number, prompt, step"
    with opened() as db:
        return list(db.query(query, [run_id]))


def forgetting(run_id: str) -> list[dict]:
    """The scores of the forgetting meter by step."""
    query = 'select step, score, "foreign", parts from forgetting where run = ? order by step'
    with opened() as db:
        return [row | {"parts": json.loads(row["parts"])} for row in db.query(query, [run_id])]


def arena(run_id: str) -> dict | None:
    """{"votes", "share": of the votes that a run or its checkpoints won, a draw counted half}; None without a vote."""
    query = """select sum(case when verdict in ('tie', 'bad') then 0.5 else verdict = side end) won, count(*) votes from (
        select verdict, 'a' side from votes where substr(a || '/', 1, length(:run)) = :run
        union all select verdict, 'b' side from votes where substr(b || '/', 1, length(:run)) = :run
    ) where verdict in ('a', 'b', 'tie', 'bad')"""
    with opened() as db:
        found = next(db.query(query, {"run": f"run:{run_id}/"}))
    return {"votes": found["votes"], "share": round(found["won"] / found["votes"], 4)} if found["votes"] else None


def _sync(db: Database, run_id: str, until: float) -> dict:
    late = time.monotonic() > until  # then a run is listed by its state, and its log is left to a later look
    while True:
        row, more = _advance(db, run_id, 0 if late else CHUNK_BYTES)
        if late or not more or time.monotonic() > until:
            return row


def _advance(db: Database, run_id: str, most_bytes: int) -> tuple[dict, bool]:
    """Read one chunk of a run's events; its row, and whether there is more to read."""
    found = list(db["runs"].rows_where("id = ?", [run_id]))
    row = found[0] if found else _new_row(db, run_id)
    state, stamp = runs.state(run_id), _stamp(run_id)  # before the events: an end in between is seen at the next look
    fresh, offset = events.read(paths.run(run_id), row["offset"], most_bytes)
    label, config = runs.label(run_id), runs.config(run_id)
    changed = dict(row, state=state, offset=offset, name=label["name"], note=label["note"])
    changed |= {"tags": " ".join(label["tags"]), "changes": json.dumps(label.get("changes", []))}
    changed |= _of_config(config)
    more = events.size(paths.run(run_id)) > offset and (offset > row["offset"] or not most_bytes)
    # A run that is over is not looked at again until one of its files changes.
    changed["stamp"] = None if more or state in runs.ACTIVE else stamp
    if not fresh and changed == row:
        return row, False
    if state not in runs.ACTIVE or any(event["event"] == "checkpoint" for event in fresh):
        changed["disk_bytes"] = runs.disk_bytes(run_id)
    try:
        _record(db, run_id, changed, fresh)
    except sqlite3.OperationalError as error:
        if "full" not in str(error):
            raise
        return changed, False  # a full disk: shown as it is, put in when there is room
    return changed, more


def _record(db: Database, run_id: str, changed: dict, fresh: list[dict]) -> None:
    """Put events into the tables and change the run's row by them."""
    with db.conn:  # rows and offset in one transaction: an event is counted once or not at all
        for event in fresh:
            if event["event"] == "started" and changed["started"]:
                _put_in(db, run_id, changed, fresh[: fresh.index(event)])
                resumed = event.get("resumed_from")
                runs_curves.go_back(db, run_id, changed, int(resumed.split("-")[1]) if resumed else 0)
                fresh = fresh[fresh.index(event) :]
            fold(changed, event)
        _put_in(db, run_id, changed, fresh)
        db["runs"].upsert(changed, pk="id")


def _put_in(db: Database, run_id: str, row: dict, fresh: list[dict]) -> None:
    """The rows of the tables that are filled from events."""
    runs_curves.add(db, run_id, row, [event for event in fresh if event["event"] == "step"])
    evals = [{"run": run_id, "step": e["step"], "eval_loss": e["eval_loss"]} for e in fresh if e["event"] == "eval"]
    db["evals"].upsert_all(evals, pk=("run", "step"))
    shots = [
        {"run": run_id, "step": event["step"], "number": number, **sample}
        for event in fresh
        if event["event"] == "samples"
        for number, sample in enumerate(event["samples"])
    ]
    db["samples"].upsert_all(shots, pk=("run", "step", "number"))
    scores = [
        {
            "run": run_id,
            "step": e["step"],
            "score": e["score"],
            "foreign": e["foreign"],
            "parts": json.dumps(e["parts"]),
        }
        for e in fresh
        if e["event"] == "forgetting"
    ]
    db["forgetting"].upsert_all(scores, pk=("run", "step"))


def _stamp(run_id: str) -> str:
    """Sizes and times of the files that a run's row is made from."""
    path, parts = paths.run(run_id), []
    for name in ("events.jsonl", "label.json", "control.json", "control.stop", "config.json"):
        try:
            found = (path / name).stat()
            parts.append(f"{found.st_size}.{found.st_mtime_ns}")
        except OSError:
            parts.append("-")
    return " ".join(parts)


def fold(row: dict, event: dict) -> None:
    """Change the row of a run by what one event says."""
    kind = event["event"]
    row["event_at"] = event["time"]
    row.update({key: event[key] for key in KEPT.get(kind, ()) if key in event})
    if kind == "started":
        row.update(
            started=event["time"], ended=None, stage="starting", trouble=None, message=None, waiting=None, skipped=None
        )
    elif kind == "preparing":
        row.update(stage=event["stage"], stage_done=event["done"], stage_total=event["total"])
    elif kind == "heard":
        row.update(heard=event["time"], heard_step=event["step"])
    elif kind in ("waiting", "room"):
        row["waiting"] = json.dumps({"needed": event["needed"], "free": event["free"]}) if kind == "waiting" else None
    elif kind in ("loading", "step"):
        row["stage"] = {"loading": "loading", "step": "training"}[kind]
    elif kind == "data":
        row.update(rows_left_out=json.dumps(event["rows_left_out"]), stage="loading")  # the model's turn
    elif kind in WATCHES or kind == "skipped":
        skipped = json.loads(row["skipped"] or "{}")
        skipped.pop(WATCHES.get(kind), None)
        skipped |= {event["what"]: event["step"]} if kind == "skipped" else {}
        row["skipped"] = json.dumps(skipped) if skipped else None
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
            waiting=None,
            seconds=row["started"] and event["time"] - row["started"],
        )
        row.update({key: event[key] for key in ENDING if key in event})
        if kind == "failed":
            row["trouble_values"] = json.dumps(event.get("values"))


def _new_row(db: Database, run_id: str) -> dict:
    row = {"id": run_id} | {column: None for column in db["runs"].columns_dict if column != "id"}
    return row | {"offset": 0, "created": runs.label(run_id)["created"], **_of_config(runs.config(run_id))}


def _of_config(config) -> dict:
    return {
        "base_model": config.base_model,
        "corpus": config.corpus,
        "method": config.method,
        "config": json.dumps(asdict(config), ensure_ascii=False),
    }


def _forget(db: Database, run_id: str) -> None:
    with db.conn:
        for table in ("steps", "marks", "evals", "samples", "forgetting"):
            db[table].delete_where("run = ?", [run_id])
        db["runs"].delete_where("id = ?", [run_id])
