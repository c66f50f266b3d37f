"""Databases of older versions: a copy of every schema is kept in tests/schemas and opened by this version.

After a new migration, `python -m tests.test_upgrades` adds its copy.
"""

import json
import re
import sqlite3
from pathlib import Path

import pytest
from sqlite_utils import Database

from core import events, files, jobs, paths
from core.corpus import import_presets
from core.runs import database, runs, store
from core.training.config import TrainConfig

COPIES = Path(__file__).parent / "schemas"
RUN = {"id": "20260101-000000-old", "name": "старый запуск", "state": "finished", "base_model": "starter"}
# Names of columns and tables before m007_described.
RENAMED_TABLES = {"marks": "curve_buckets"}
RENAMED = {
    "runs": {
        "trouble": "error",
        "trouble_values": "error_values",
        "message": "error_message",
        "created": "created_at",
        "started": "started_at",
        "ended": "ended_at",
        "seconds": "duration_seconds",
        "offset": "events_offset",
        "asked": "requested_at",
        "heard": "request_seen_at",
        "heard_step": "request_seen_step",
        "waiting": "disk_shortage",
        "stamp": "files_fingerprint",
        "changes": "config_changes",
        "event_at": "last_event_at",
        "step_seconds": "seconds_per_step",
        "step_tokens": "tokens_per_step",
        "longest": "longest_row_tokens",
        "kept_step": "adapter_step",
        "predicted_bytes": "predicted_memory_bytes",
        "predicted_seconds": "predicted_seconds_per_step",
        "mark_width": "bucket_steps",
    },
    "marks": {
        "mark": "bucket",
        "count": "loss_count",
        "total": "loss_sum",
        "low": "lowest_loss",
        "high": "highest_loss",
        "steep": "highest_grad_norm",
        "last": "last_step",
    },
    "samples": {"number": "prompt_index"},
    "forgetting": {"foreign": "foreign_share", "parts": "score_parts"},
    "votes": {
        "match": "match_id",
        "prompt": "prompt_index",
        "left": "left_side",
        "a": "model_a",
        "b": "model_b",
        "created": "created_at",
    },
}


def names() -> list[str]:
    return [migration.name for migration in database.migrations._migrations]


def schema(connection: sqlite3.Connection) -> dict[str, dict[str, str]]:
    """The columns of every table, with their types."""
    db = Database(connection)
    return {table: {c.name: c.type for c in db[table].columns} for table in sorted(db.table_names())}


def as_of(name: str) -> sqlite3.Connection:
    """A database in memory after the migrations up to one, with a run and a step of it."""
    db, following = Database(memory=True), [*names(), None][names().index(name) + 1]
    database.migrations.apply(db, stop_before=following)
    db["runs"].insert(RUN)
    run = "run" if "run" in db["steps"].columns_dict else "run_id"
    db["steps"].insert({run: RUN["id"], "step": 1, "loss": 3.5})
    return db.conn


def open_copy(copy: Path, place: Path | None = None) -> sqlite3.Connection:
    """Put a database of an older version in a place, or where this version looks for it."""
    paths.home().mkdir(exist_ok=True)
    old = sqlite3.connect(place or paths.database())
    old.executescript(copy.read_text(encoding="utf-8"))
    return old


def fill(db: Database) -> dict[str, dict]:
    """A row with a value in every column of every table: {table: row}."""
    rows = {}
    for table in sorted(set(db.table_names()) - {"_sqlite_migrations"}):
        values = {str: "текст {}", float: 0.5, int: 7}
        row = {name: values[kind] for name, kind in db[table].columns_dict.items()}
        row = {name: v.format(name) if isinstance(v, str) else v for name, v in row.items()}
        row |= {name: RUN["id"] for name in ("id" if table == "runs" else "run", "run_id") if name in row}
        db[table].insert(row, replace=True)
        rows[table] = row
    return rows


def renamed(table: str, row: dict) -> dict:
    """A row from before m007_described under its present names."""
    names = {"run": "run_id"} | RENAMED.get(table, {})
    return {names.get(name, name): value for name, value in row.items()}


every_copy = pytest.mark.parametrize("copy", sorted(COPIES.glob("*.sql")), ids=lambda path: path.stem)


def test_every_schema_has_a_copy():
    assert sorted(path.stem for path in COPIES.glob("*.sql")) == sorted(names())


@every_copy
def test_an_older_database_is_brought_up_to_date_and_keeps_its_rows(copy):
    open_copy(copy).close()
    with store.opened() as db:
        kept = next(db["runs"].rows)
        assert {key: kept[key] for key in RUN} == RUN
        assert next(db["steps"].rows)["loss"] == 3.5
        assert schema(db.conn) == schema(as_of(names()[-1]))


@every_copy
def test_an_older_database_keeps_every_value_of_every_column(copy):
    """Names, notes, tags, figures, curves, replies and votes alike."""
    old = open_copy(copy)
    with old:
        old.execute("delete from steps")
        filled = fill(Database(old))
    old.close()
    with store.opened() as db:
        for table, row in filled.items():
            expected = row if copy.stem >= "m007" else renamed(table, row)
            if table == "runs" and copy.stem < "m003":
                expected["events_offset"] = 0  # all events are read once more
            if table == "runs" and copy.stem < "m006":
                expected["files_fingerprint"] = None
            (found,) = db[table if copy.stem >= "m007" else RENAMED_TABLES.get(table, table)].rows
            assert {name: found.get(name) for name in expected} == expected, table


def test_steps_of_a_run_that_is_gone_do_not_stop_an_upgrade():
    old = open_copy(COPIES / "m006_skipped.sql")
    with old:
        old.execute("insert into steps (run, step, loss) values ('deleted long ago', 1, 2.0)")
        old.execute(
            """insert into votes ("match", prompt, voter, a) values ('m', 0, 'person', 'run:deleted long ago')"""
        )
    old.close()
    with store.opened() as db:
        assert [(row["run_id"], row["step"]) for row in db["steps"].rows] == [(RUN["id"], 1)]
        assert [row["model_a"] for row in db["votes"].rows] == ["run:deleted long ago"]


def test_an_upgrade_that_breaks_off_changes_nothing_and_is_done_at_the_next_opening(monkeypatch):
    open_copy(COPIES / "m006_skipped.sql").close()
    is_complete = sqlite3.complete_statement

    def interrupted(statement: str) -> bool:
        if statement.endswith("DROP TABLE old_runs;\n"):
            raise KeyboardInterrupt
        return is_complete(statement)

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "complete_statement", interrupted)
        with pytest.raises(KeyboardInterrupt), store.opened():
            pass
    old = sqlite3.connect(paths.database())
    assert schema(old) == schema(as_of("m006_skipped"))
    old.close()
    with store.opened() as db:
        assert next(db["runs"].rows)["name"] == RUN["name"]


def test_a_database_describes_its_tables_and_columns():
    with store.opened() as db:
        for table in set(db.table_names()) - {"_sqlite_migrations"}:
            sql = db[table].schema
            assert re.match(rf"CREATE TABLE {table} \(  -- \w", sql), table
            for column in db[table].columns_dict:
                assert re.search(rf"\n    {column} [A-Z].*  -- \w|\b{column} /\* \w", sql), (table, column)


def test_a_setting_of_an_older_version_goes_under_its_present_name(tiny_corpus, no_worker):
    """In the database, in the run's own config, and in what its log says was skipped."""
    config = TrainConfig(base_model="base", corpus=tiny_corpus)
    run_id = runs.create(config)
    path = paths.run(run_id)
    values = {"film_strip" if key == "eval_samples" else key: value for key, value in vars(config).items()}
    files.write_json(path / "config.json", values | {"film_strip": True})
    events.append(path, "started", pid=1)
    events.append(path, "skipped", step=4, what="film_strip")
    assert runs.config(run_id).eval_samples
    assert json.loads(store.sync(run_id)["skipped"]) == {"eval_samples": 4}
    old = open_copy(COPIES / "m007_described.sql", paths.home() / "old.db")
    with old:
        old.execute("""update runs set config = '{"film_strip": true}', skipped = '{"film_strip": 2}'""")
    database.migrations.apply(Database(old))
    assert old.execute("select config, skipped from runs").fetchall() == [
        ('{"eval_samples": true}', '{"eval_samples": 2}')
    ]


def test_events_and_files_of_an_older_version_are_read_under_their_present_names(tmp_path):
    events.append(tmp_path, "heard", step=2, request="stop", asked=5.0)
    events.append(tmp_path, "room", free=7)
    assert [{**event, "time": 0} for event in events.read(tmp_path)[0]] == [
        {"event": "request_seen", "time": 0, "step": 2, "request": "stop", "requested_at": 5.0},
        {"event": "disk_free", "time": 0, "free": 7},
    ]
    paths.home().mkdir()
    files.write_json(paths.home() / "remembered.json", {"shapes": {'["q"]': {"encoding": "cp1251"}}, "roles": {}})
    assert import_presets.recall(["q"]) == {"encoding": "cp1251", "roles": {}}
    files.write_json(tmp_path / "life.json", {"boot": "b", "pid": 3, "starts": 2})
    assert jobs.last_process(tmp_path) == {"boot_id": "b", "pid": 3, "starts": 2}


def test_votes_stay_when_a_run_is_deleted(tiny_corpus, no_worker):
    run_id = runs.create(TrainConfig(base_model="base", corpus=tiny_corpus))
    store.sync(run_id)
    with store.opened() as db, db.conn:
        vote = {"match_id": "m", "prompt_index": 0, "voter": "person", "model_a": f"run:{run_id}", "verdict": "a"}
        db["votes"].insert(vote)
    store.delete(run_id)
    assert store.sync_all() == []
    with store.opened() as db:
        assert [row["model_a"] for row in db["votes"].rows] == [f"run:{run_id}"]


def main() -> None:
    COPIES.mkdir(exist_ok=True)
    for name in names():
        path = COPIES / f"{name}.sql"
        if not path.exists():
            path.write_text("\n".join(as_of(name).iterdump()) + "\n", encoding="utf-8")
            print(path)


if __name__ == "__main__":
    main()
