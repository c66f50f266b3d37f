"""The index in the database over runs and their events; it can be rebuilt from the run directories."""

import json
import sqlite3
import time
from contextlib import suppress
from dataclasses import asdict

from sqlite_utils import Database

from core import events, files, paths
from core.arena import verdict
from core.errors import UserError
from core.models import models
from core.runs import curves as runs_curves
from core.runs import runs, starts
from core.runs.database import DatabaseRebuilt, opened
from core.training.config import EARLIER_NAMES


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


_ENDED = _same("peak_memory_gib", "stopped_early") | {
    "time": "ended_at",
    "step_seconds": "seconds_per_step",
    "step_tokens": "tokens_per_step",
    "kept_step": "adapter_step",
}
# What an event changes in the row of its run: {event: {its key: column}}. Steps and evaluations have tables besides.
COPIED = {
    "started": {"time": "started_at"},
    "preparing": {"stage": "stage", "done": "stage_done", "total": "stage_total"},
    "loading": _same("corpus_hash"),
    "data": _same("rows_train", "rows_eval", "tokens_train", "tokens_learned") | {"longest": "longest_row_tokens"},
    "forecast": {"predicted_bytes": "predicted_memory_bytes", "predicted_seconds": "predicted_seconds_per_step"},
    "model": _same("parameters", "trainable_parameters", "device", "precision", "attention"),
    "request_seen": _same("request", "requested_at") | {"time": "request_seen_at", "step": "request_seen_step"},
    "checkpoint": {"step": "checkpoint_step"},
    "step": _same("step", "max_steps", "loss", "tokens_per_second", "seconds_left", "memory_gib"),
    "eval": _same("eval_loss"),
    **dict.fromkeys(events.FINAL, _ENDED),
    "failed": _ENDED | {"trouble": "error", "message": "error_message"},
}
# Values that an event sets whatever it says.
SET = {
    "started": {
        "stage": "starting",
        "ended_at": None,
        "error": None,
        "error_values": None,
        "error_message": None,
        "disk_shortage": None,
        "skipped": None,
        "adapter_step": None,
    },
    "loading": {"stage": "loading"},
    "data": {"stage": "loading"},  # of the model
    "step": {"stage": "training"},
    "disk_free": {"disk_shortage": None},
    **{event: {"stage": None, "seconds_left": None, "disk_shortage": None} for event in events.FINAL},
}
MEASUREMENTS = {"samples": "eval_samples", "forgetting": "forgetting_meter"}  # event: the field that switches it on
CHUNK_BYTES = 1 << 20
SPARK_POINTS = 30  # of a small curve
OPENING_SECONDS = 1.5  # how long the page may read a log that is new to it; the rest is read at later calls


def sync(run_id: str, seconds: float = OPENING_SECONDS) -> dict:
    """Bring the row of a run up to its events and return it: reads only what was added since the last time.

    After so many seconds it leaves the rest of a long log to the next call; events_offset says how far it came.
    """
    with opened() as db:
        _without_fsync(db)
        return _sync(db, run_id, time.monotonic() + seconds)


def sync_all(seconds: float = OPENING_SECONDS) -> list[dict]:
    """Bring every run up to date, drop the rows of deleted ones, and return the rows of runs, newest first."""
    try:
        return _sync_all(seconds)
    except DatabaseRebuilt:
        return _sync_all(seconds)


def _sync_all(seconds: float) -> list[dict]:
    with opened() as db:
        _without_fsync(db)
        present = runs.listed()
        known = {row["id"]: row["files_fingerprint"] for row in db.query("select id, files_fingerprint from runs")}
        deadline = time.monotonic() + seconds
        for run_id in present:
            try:
                if not known.get(run_id) or known[run_id] != _fingerprint(run_id):
                    _sync(db, run_id, deadline)
            except (runs.RunGone, runs.RunDamaged):  # just deleted; or core/damage.py names the file
                continue
            except (UserError, OSError, ValueError, TypeError, KeyError):  # one damaged run does not hide the others
                files.note_damage(paths.run(run_id), "unreadable")
        for run_id in known:
            if run_id not in present:
                _forget(db, run_id)
        return list(db["runs"].rows_where(order_by="created_at desc, id desc"))


def _without_fsync(db: Database) -> None:
    """Do not wait for the disk at each commit: what a power cut takes is read from the events once more."""
    db.conn.execute("pragma synchronous=normal")


def rename(run_id: str, name: str, note: str, tags: list[str] | None = None) -> None:
    """Change a run's name, note and (unless None) tags."""
    runs.rename(run_id, name, note, tags)
    sync(run_id)


def delete(run_id: str) -> None:
    """Delete a run's directory and its rows; votes on it stay."""
    runs.delete(run_id)
    with opened() as db:
        _forget(db, run_id)


def choices(rows: list[dict]) -> list[tuple[str, str]]:
    """(name, id) of runs, for a list to choose from."""
    return runs.disambiguate([(row["name"], row["id"]) for row in rows])


def some_wait() -> bool:
    """Whether a run was queued at its last sync: cheap, unlike runs.needs_worker over hundreds of runs."""
    with opened() as db:
        return bool(db.execute("select 1 from runs where state = 'queued' limit 1").fetchone())


def curves(run_id: str) -> dict[str, list[dict]]:
    """The series of a run over its whole length, thinned: see core.runs.curves."""
    with opened() as db:
        return runs_curves.curves(db, run_id)


def sparks() -> dict[str, list[float]]:
    """The mean training loss of every run in at most SPARK_POINTS parts of its length, by run."""
    query = """with ends as (select run_id, max(bucket) + 1 width from curve_buckets group by run_id)
        select run_id, sum(loss_sum) / sum(loss_count) loss from curve_buckets join ends using (run_id)
        where loss_count > 0 group by run_id, bucket * :points / width order by run_id, min(bucket)"""
    found: dict[str, list[float]] = {}
    with opened() as db:
        for row in db.query(query, {"points": SPARK_POINTS}):
            if row["loss"] is not None:  # NaN is null in the database
                found.setdefault(row["run_id"], []).append(row["loss"])
    return found


def samples(run_id: str) -> list[dict]:
    """Every reply to the person's prompts: {"step", "prompt", "reply"}, by prompt and step."""
    query = "select step, prompt, reply from samples where run_id = ? order by prompt_index, prompt, step"
    with opened() as db:
        return list(db.query(query, [run_id]))


def forgetting(run_id: str) -> list[dict]:
    """The measurements of the forgetting meter: {"step", "score": nats a token, "foreign_share"}, by step."""
    with opened() as db:
        return list(
            db.query("select step, score, foreign_share from forgetting where run_id = ? order by step", [run_id])
        )


def arena(run_id: str) -> dict | None:
    """What a person's votes say of a run or its checkpoints against one opponent; None without such votes.

    {"opponent": id, "name", "wins", "votes": that have a winner, "share": of them won, "low", "high": its 95 %
    interval}. The opponent is a base model where one was voted on, else the one with the most votes. Ties, "both bad"
    and votes between weights of the run itself have no part in it.
    """
    query = """select model_a, model_b, verdict, count(*) votes from votes
        where voter = 'person' and verdict in ('a', 'b') and (substr(model_a || '/', 1, length(:run)) = :run)
            <> (substr(model_b || '/', 1, length(:run)) = :run)
        group by model_a, model_b, verdict"""
    won: dict[str, list[int]] = {}
    with opened() as db:
        for row in db.query(query, {"run": f"run:{run_id}/"}):
            ours = "a" if f"{row['model_a']}/".startswith(f"run:{run_id}/") else "b"
            opponent = row["model_b" if ours == "a" else "model_a"].partition("/checkpoint-")[0]
            counts = won.setdefault(opponent, [0, 0])
            counts[0] += row["votes"] * (row["verdict"] == ours)
            counts[1] += row["votes"]
    if not won:
        return None
    opponent, (wins, votes) = max(won.items(), key=lambda item: (item[0].startswith("base:"), item[1][1]))
    low, high = verdict.interval(wins, votes)
    share = {
        "wins": wins,
        "votes": votes,
        "share": round(wins / votes, 4),
        "low": round(low, 4),
        "high": round(high, 4),
    }
    return {"opponent": opponent, "name": _opponent(opponent), **share}


def _opponent(id: str) -> str:
    """What an opponent in the arena is called; a run that was deleted by its id."""
    kind, _, name = id.partition(":")
    if kind != "run":
        return models.title(name)
    with suppress(UserError):
        return runs.label(name)["name"]
    return name


def _sync(db: Database, run_id: str, deadline: float) -> dict:
    late = time.monotonic() > deadline  # then only the state is read, and the log at a later call
    while True:
        row, more = _advance(db, run_id, 0 if late else CHUNK_BYTES)
        if late or not more or time.monotonic() > deadline:
            return row


def _advance(db: Database, run_id: str, most_bytes: int) -> tuple[dict, bool]:
    """Read one chunk of a run's events; its row, and whether there is more to read."""
    row = next(db["runs"].rows_where("id = ?", [run_id]), None) or _new_row(db, run_id)
    state, fingerprint = runs.state(run_id), _fingerprint(run_id)  # before the events, so that an end is not missed
    fresh, offset = events.read(paths.run(run_id), row["events_offset"], most_bytes)
    label = runs.label(run_id)
    changed = dict(row, state=state, events_offset=offset, name=label["name"], note=label["note"])
    changed |= {"tags": " ".join(label["tags"]), "config_changes": json.dumps(label.get("changes", []))}
    changed |= _of_config(runs.config(run_id))
    changed["start_name"] = (
        next((entry["name"] for entry in starts.ancestry(run_id)), None) if changed["start"] else None
    )
    more = events.size(paths.run(run_id)) > offset and (offset > row["events_offset"] or not most_bytes)
    # A run that is over is not read again until one of its files changes.
    damaged = files.is_damaged(paths.run(run_id) / "label.json")
    changed["files_fingerprint"] = None if more or damaged or state in runs.ACTIVE else fingerprint
    step, taken_at = label.get("taken", (None, 0))
    promoted = {"adapter_step": step} if taken_at > (row["started_at"] or 0) else {}
    if not fresh and changed | promoted == row:
        return row, False
    if state not in runs.ACTIVE or any(event["event"] == "checkpoint" for event in fresh):
        changed["disk_bytes"] = runs.disk_bytes(run_id)
    try:
        _record(db, run_id, changed, fresh, label.get("taken", (None, 0)))
    except sqlite3.OperationalError as error:
        if "full" not in str(error):
            raise
        return changed, False  # a full disk: returned as it is, stored when there is room
    return changed, more


def _record(db: Database, run_id: str, changed: dict, fresh: list[dict], taken: tuple[int | None, float]) -> None:
    """Insert events into the tables and change the run's row by them, and by the checkpoint (step, when) taken since."""
    with db.conn:  # rows and offset in one transaction: an event is counted once or not at all
        db.conn.execute("insert or ignore into runs (id) values (?)", [run_id])  # the other tables refer to it
        for event in fresh:
            if event["event"] == "started" and changed["started_at"]:
                _insert(db, run_id, changed, fresh[: fresh.index(event)])
                resumed = event.get("resumed_from")
                runs_curves.go_back(db, run_id, changed, int(resumed.split("-")[1]) if resumed else 0)
                fresh = fresh[fresh.index(event) :]
            fold(changed, event)
        _insert(db, run_id, changed, fresh)
        if taken[1] > (changed["started_at"] or 0):
            changed["adapter_step"] = taken[0]
        if changed["adapter_step"] is not None:  # the loss is that of the weights that are there
            loss = "select eval_loss from evals where run_id = ? and step = ?"
            changed["eval_loss"] = (db.conn.execute(loss, [run_id, changed["adapter_step"]]).fetchone() or [None])[0]
        db["runs"].upsert(changed, pk="id")


def _insert(db: Database, run_id: str, row: dict, fresh: list[dict]) -> None:
    """Insert the events that have tables of their own."""
    runs_curves.add(db, run_id, row, [event for event in fresh if event["event"] == "step"])
    evals = [
        (
            run_id,
            event["step"],
            event["eval_loss"],
            json.dumps(event["by_corpus"]) if "by_corpus" in event else None,
            event.get("recall_loss"),
        )
        for event in fresh
        if event["event"] == "eval"
    ]
    samples = [
        (run_id, event["step"], index, sample["prompt"], sample["reply"])
        for event in fresh
        if event["event"] == "samples"
        for index, sample in enumerate(event["samples"])
    ]
    scores = [
        (run_id, event["step"], event["score"], event["foreign"], json.dumps(event["parts"]))
        for event in fresh
        if event["event"] == "forgetting"
    ]
    preferences = [
        tuple({"run_id": run_id, **event}[name] for name in ("run_id", "part", "step", *runs_curves.PREFERENCES))
        for event in fresh
        if event["event"] == "preference"
    ]
    for table, columns, rows in (
        ("preferences", f"run_id, part, step, {', '.join(runs_curves.PREFERENCES)}", preferences),
        ("evals", "run_id, step, eval_loss, by_corpus, recall_loss", evals),
        ("samples", "run_id, step, prompt_index, prompt, reply", samples),
        ("forgetting", "run_id, step, score, foreign_share, score_parts", scores),
    ):
        values = ", ".join("?" * len(columns.split(", ")))
        db.conn.executemany(f"insert or replace into {table} ({columns}) values ({values})", rows)


def _fingerprint(run_id: str) -> str:
    """Sizes and times of the files that a run's row is made from."""
    path, parts = paths.run(run_id), []
    for name in ("events.jsonl", "label.json", "control.json", "control.stop", "control.pause", "config.json"):
        try:
            stat = (path / name).stat()
            parts.append(f"{stat.st_size}.{stat.st_mtime_ns}")
        except OSError:
            parts.append("-")
    return " ".join(parts)


def fold(row: dict, event: dict) -> None:
    """Change the row of a run by one event."""
    kind = event["event"]
    row["last_event_at"] = event["time"]
    row.update(SET.get(kind, {}))
    for key, column in COPIED.get(kind, {}).items():
        if key in event:
            row[column] = event[key]
    if kind == "data":
        row["rows_left_out"] = json.dumps(event["rows_left_out"])
    elif kind == "waiting":
        row["disk_shortage"] = json.dumps({"needed": event["needed"], "free": event["free"]})
    elif kind == "eval":
        _fold_eval(row, event["step"], event["eval_loss"])
    elif kind in events.FINAL:
        row["duration_seconds"] = row["started_at"] and event["time"] - row["started_at"]
        row["error_values"] = json.dumps(event.get("values")) if kind == "failed" else None
    elif kind in MEASUREMENTS or kind == "skipped":
        skipped = json.loads(row["skipped"] or "{}")
        skipped.pop(MEASUREMENTS.get(kind), None)
        skipped |= {EARLIER_NAMES.get(event["what"], event["what"]): event["step"]} if kind == "skipped" else {}
        row["skipped"] = json.dumps(skipped) if skipped else None


def _fold_eval(row: dict, step: int, eval_loss: float | None) -> None:
    if step == 0:
        row["base_eval_loss"] = eval_loss
    if eval_loss is not None and (row["best_eval_loss"] or float("inf")) > eval_loss:
        row.update(best_eval_loss=eval_loss, best_step=step)


def _new_row(db: Database, run_id: str) -> dict:
    row = dict.fromkeys(db["runs"].columns_dict)
    return row | {"id": run_id, "events_offset": 0, "created_at": runs.label(run_id)["created"]}


def _of_config(config) -> dict:
    return {
        "base_model": config.base_model,
        "corpus": config.corpus,
        "method": config.method,
        "start": config.start or None,
        "config": json.dumps(asdict(config), ensure_ascii=False),
    }


def _forget(db: Database, run_id: str) -> None:
    """Delete a run's row, and by the foreign keys all that refers to it."""
    with db.conn:
        db["runs"].delete_where("id = ?", [run_id])
