"""Databases of older versions: a copy of every schema is kept in tests/schemas and opened by this version.

After a new migration, `python -m tests.test_upgrades` adds its copy.
"""

import sqlite3
from pathlib import Path

import pytest
from sqlite_utils import Database

from core import paths
from core.runs import store

COPIES = Path(__file__).parent / "schemas"
RUN = {"id": "20260101-000000-old", "name": "старый запуск", "state": "finished", "base_model": "starter"}
STEP = {"run": RUN["id"], "step": 1, "loss": 3.5}


def names() -> list[str]:
    return [migration.name for migration in store.migrations._migrations]


def schema(connection: sqlite3.Connection) -> dict[str, dict[str, str]]:
    """The columns of every table, with their types."""
    db = Database(connection)
    return {table: {c.name: c.type for c in db[table].columns} for table in sorted(db.table_names())}


def as_of(name: str) -> sqlite3.Connection:
    """A database in memory after the migrations up to one, with a run in it."""
    db, following = Database(memory=True), [*names(), None][names().index(name) + 1]
    store.migrations.apply(db, stop_before=following)
    db["runs"].insert(RUN)
    db["steps"].insert(STEP)
    return db.conn


def test_every_schema_has_a_copy():
    assert sorted(path.stem for path in COPIES.glob("*.sql")) == sorted(names())


@pytest.mark.parametrize("copy", sorted(COPIES.glob("*.sql")), ids=lambda path: path.stem)
def test_an_older_database_is_brought_up_to_date_and_keeps_its_rows(copy):
    paths.home().mkdir()
    old = sqlite3.connect(paths.database())
    old.executescript(copy.read_text(encoding="utf-8"))
    old.close()
    with store.opened() as db:
        kept = next(db["runs"].rows)
        assert {key: kept[key] for key in RUN} == RUN
        assert next(db["steps"].rows)["loss"] == STEP["loss"]
        assert schema(db.conn) == schema(as_of(names()[-1]))


def main() -> None:
    COPIES.mkdir(exist_ok=True)
    for name in names():
        path = COPIES / f"{name}.sql"
        if not path.exists():
            path.write_text("\n".join(as_of(name).iterdump()) + "\n", encoding="utf-8")
            print(path)


if __name__ == "__main__":
    main()
