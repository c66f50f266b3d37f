"""The database: what core/runs/store.py keeps of the runs, which can be rebuilt; the arena's votes and the Playground's
conversations, which cannot.

The tables are described in core/runs/migrations/m007_described.sql, and inside the database in each CREATE TABLE.
Every function opens its own connection: Gradio calls from many threads. Readers and writers do not block each other (WAL).
A damaged file is set aside, and what can be read of its votes and conversations is put into a new one.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

from filelock import FileLock
from sqlite_utils import Database, Migrations

from core import damage, files, paths
from core.errors import UserError

VOTE = ("match_id", "prompt_index", "voter")  # what a vote is known by
RESCUED = {"votes": VOTE, "chats": ("id",)}  # tables that nothing can rebuild, and what a row of each is known by
ATTEMPTS = 4  # to open the database on a disk that refuses
DAMAGE = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
HEADER_BYTES = 100  # of an SQLite file; a shorter one counts as a new database
SETTLED_SECONDS = 2  # a database that is being made is empty for a moment


class DatabaseRebuilt(UserError):
    template = "The database was damaged. It was set aside as {file} and is rebuilt from the runs. Do this once more."


class DatabaseStuck(UserError):
    template = "The database {path} cannot be used: {reason}. Free some space on its disk. Trainings go on meanwhile."


def _run_script(file: Path, db: Database) -> None:
    """Execute a migration statement by statement: executescript() would commit the transaction that it runs in."""
    statement = ""
    for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            db.conn.execute(statement)
            statement = ""


migrations = Migrations("soulsmith")
for _file in sorted((Path(__file__).parent / "migrations").glob("m*.sql")):
    migrations(name=_file.stem)(partial(_run_script, _file))


@contextmanager
def opened() -> Iterator[Database]:
    """The database with all tables, foreign keys enforced; closed on exit. A damaged file is set aside and a new one made.

    Raises:
        DatabaseStuck: if the disk refuses.
        DatabaseRebuilt: if the damage came to light inside the block; a second call finds a new database.
    """
    paths.database().parent.mkdir(parents=True, exist_ok=True)
    if _is_in_the_way():
        _set_aside()
    try:
        connection = _connected()
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise
        _set_aside()
        connection = _connected()
    try:
        yield Database(connection)
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise
        connection.close()
        raise DatabaseRebuilt(file=_set_aside() or paths.database()) from error
    finally:
        connection.close()


def _connected() -> sqlite3.Connection:
    """A connection to the database, its schema up to date."""
    connection = sqlite3.connect(paths.database(), timeout=30)
    try:
        _make_ready(Database(connection))
        # After the migrations: dropping an old table must not delete what refers to it.
        connection.execute("pragma foreign_keys=on")
    except BaseException:
        connection.close()
        raise
    return connection


def _is_damage(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGE  # the lowest byte of an extended code


def _is_in_the_way() -> bool:
    """Whether no database can be opened here, or something has emptied the one that was here."""
    path = paths.database()
    with suppress(FileNotFoundError):
        stat = path.stat()
        emptied = stat.st_size < HEADER_BYTES and time.time() - stat.st_mtime > SETTLED_SECONDS
        return not path.is_file() or emptied or not os.access(path, os.R_OK | os.W_OK)
    return False


def _set_aside() -> str | None:
    """Rename a damaged database and rescue RESCUED into a new one; its new name, or None if another process did so.

    Raises:
        DatabaseStuck: where it cannot be renamed.
    """
    path = paths.database()
    with FileLock(path.with_suffix(".lock")):
        if not _is_in_the_way() and _is_whole(path):
            return None
        try:
            aside = files.set_aside(path)
            # The log goes with its database: it would be played into the new one.
            for ending in ("-wal", "-shm"):
                with suppress(FileNotFoundError):
                    path.with_name(path.name + ending).rename(aside.with_name(aside.name + ending))
        except OSError as error:
            raise DatabaseStuck(path=path, reason=error.strerror or error) from error
    counts, complete = {}, True
    for table, key in RESCUED.items():
        rows, whole = _readable(aside, table, key)
        counts[table], complete = len(rows), complete and whole
        if rows:
            with opened() as db, db.conn:
                columns = db[table].columns_dict
                known = [{name: value for name, value in row.items() if name in columns} for row in rows]
                db[table].upsert_all(known, pk=key)
    record = paths.home() / damage.SET_ASIDE
    one = {"file": aside.name, "time": round(time.time(), 3), **counts, "complete": complete}
    files.write_json(record, [*files.read_json(record, list), one])
    return aside.name


def _is_whole(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute("pragma quick_check(1)").fetchone() == ("ok",)
    except sqlite3.DatabaseError as error:
        return not _is_damage(error)


def _readable(aside: Path, table: str, key: tuple[str, ...]) -> tuple[list[dict], bool]:
    """The rows of a table of a damaged database that can still be read, from both ends, and whether they are all.

    An older database may not have had the table: nothing is missing then.
    """
    rows, whole = {}, False
    with suppress(sqlite3.Error), closing(sqlite3.connect(aside)) as old:
        old.row_factory = sqlite3.Row
        tables = {row["name"] for row in old.execute("select name from sqlite_master")}
        if table not in tables:
            return [], "runs" in tables
        for order in ("asc", "desc"):
            with suppress(sqlite3.Error):
                for row in old.execute(f"select * from {table} order by rowid {order}"):
                    rows.setdefault(tuple(row[name] for name in key), dict(row))
                whole = True
    return list(rows.values()), whole


def _make_ready(db: Database) -> None:
    """Bring the schema up to date; what the disk refuses is tried again, as it may be full for a moment only."""
    for attempt in range(ATTEMPTS):
        try:
            # An empty file is not read without the lock: the switch to WAL fails while there is a reader.
            if not _has_content() or migrations.pending(db):
                _migrate(db)
            return
        except sqlite3.OperationalError as error:
            if "disk" not in str(error):  # "disk I/O error", "database or disk is full"
                raise
            if attempt == ATTEMPTS - 1:
                reason = f"{error} ({error.sqlite_errorname})"
                raise DatabaseStuck(path=paths.database(), reason=reason) from error
        time.sleep(0.1)


def _has_content() -> bool:
    with suppress(FileNotFoundError):
        return paths.database().stat().st_size > 0
    return False


def _migrate(db: Database) -> None:
    """Apply the pending migrations under a lock: a page that opens asks from several threads at once."""
    with FileLock(paths.database().with_suffix(".lock")):
        if migrations.pending(db):
            db.conn.execute("pragma journal_mode=wal")  # stored in the file
            migrations.apply(db)
