"""A collector's store in one SQLite file: for one machine, with one worker or a few."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool
from sqlalchemy.schema import CreateIndex, CreateTable

from cloud_sync import collector_schema_sql as schema
from edge.durable_sql import make_durable
from edge.errors import StoreCorrupt, StoreError, StoreFull
from edge.schema_sql import migrate

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

BUSY_S = 10.0
"""Seconds to wait for another worker's transaction; a commit takes milliseconds."""

ROWS = 100
"""Rows in one statement. sqlite3 lets other threads run only while a statement does: with one row each it gives way at
every row, and a thread that reads the next batch meanwhile keeps it waiting for 5 ms each time."""

_ROW = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT = "INSERT INTO event (stream, seq, digest, prev, start, event_id, type, subject, time, body) VALUES "


class SqliteDatabase:
    """``cloud_sync.collector_sql.Database``. A transaction has the whole file to itself, so its nodes too."""

    collisions: tuple[type[StoreError], ...] = ()

    def __init__(self, path: str) -> None:
        self.place = path

    def engine(self) -> Engine:
        engine = create_engine(
            f"sqlite:///{self.place}",
            poolclass=StaticPool,
            connect_args={"check_same_thread": False, "isolation_level": None, "timeout": BUSY_S},
        )
        event.listen(engine, "connect", _tune)
        event.listen(engine, "begin", _begin)
        return engine

    def prepare(self, engine: Engine) -> None:
        connection = engine.raw_connection()
        try:
            migrate(cast("sqlite3.Connection", connection.driver_connection), STEPS)
        finally:
            connection.close()

    def migrate(self, engine: Engine) -> str:
        self.prepare(engine)
        return str(len(STEPS))

    def lock(self, sql: Connection, sources: Sequence[str], alone: frozenset[str]) -> None:
        """Nothing to do: ``_begin`` has locked the file."""

    def insert_events(self, sql: Connection, rows: list[tuple[Any, ...]]) -> None:
        for at in range(0, len(rows), ROWS):
            some = rows[at : at + ROWS]
            statement = f"{_INSERT}{', '.join([_ROW] * len(some))} ON CONFLICT DO NOTHING"
            sql.exec_driver_sql(statement, tuple(itertools.chain.from_iterable(some)))

    @contextmanager
    def telling(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise _told(error.orig, self.place) from error
        except sqlite3.Error as error:  # while rows were fetched by the driver itself
            raise _told(error, self.place) from error


def _tune(connection: Any, _record: Any) -> None:
    # A signed ack lets the node delete, so what it covers has to survive a power cut.
    make_durable(connection)
    for pragma in ("temp_store = MEMORY", "cache_size = -65536"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(sql: Connection) -> None:
    """Writers take the file at once: one that read first would find that another has written meanwhile."""
    reads = sql.get_execution_options().get("reads", False)
    sql.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _told(error: BaseException | None, path: str) -> StoreError:
    what = str(error)
    if "full" in what:
        return StoreFull(f"{path}: {what}", remedy="free disk space; nothing was acknowledged, the nodes send it again")
    if "malformed" in what or "not a database" in what:
        return StoreCorrupt(f"{path}: {what}", remedy="put the file aside; the nodes send what was not acknowledged")
    return StoreError(f"{path}: {what}", remedy="check that the file can be written by this user")


# The versions of the file. A step is never changed once released; what stands in ``collector_schema_sql`` is the sum.

_FIRST_TABLES = """
CREATE TABLE IF NOT EXISTS stream (id INTEGER NOT NULL PRIMARY KEY, source TEXT NOT NULL, epoch TEXT NOT NULL,
  class TEXT NOT NULL, seq INTEGER NOT NULL, digest BLOB NOT NULL, heard FLOAT NOT NULL, UNIQUE (source, epoch, class));
CREATE TABLE IF NOT EXISTS epoch (source TEXT NOT NULL, epoch TEXT NOT NULL, previous TEXT NOT NULL,
  cause TEXT NOT NULL, last_seq INTEGER, kept_seq INTEGER NOT NULL, kept_hash BLOB NOT NULL,
  PRIMARY KEY (source, epoch));
CREATE TABLE IF NOT EXISTS event (id INTEGER NOT NULL PRIMARY KEY, stream INTEGER NOT NULL, seq INTEGER NOT NULL,
  digest BLOB NOT NULL, prev BLOB NOT NULL, start INTEGER, event_id TEXT NOT NULL, type TEXT NOT NULL,
  subject TEXT NOT NULL, time TEXT NOT NULL, body BLOB NOT NULL, UNIQUE (stream, seq, digest));
CREATE TABLE IF NOT EXISTS dropped (stream INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
  count INTEGER NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (stream, first));
CREATE TABLE IF NOT EXISTS quarantine (id INTEGER NOT NULL PRIMARY KEY, source TEXT NOT NULL, epoch TEXT NOT NULL,
  class TEXT NOT NULL, seq INTEGER NOT NULL, digest BLOB NOT NULL, reason TEXT NOT NULL, at FLOAT NOT NULL,
  body BLOB NOT NULL, UNIQUE (source, epoch, class, seq, digest));
CREATE INDEX IF NOT EXISTS quarantine_source ON quarantine (source);
CREATE TABLE IF NOT EXISTS refused (source TEXT NOT NULL, reason TEXT NOT NULL, minute INTEGER NOT NULL,
  count INTEGER NOT NULL, PRIMARY KEY (source, reason, minute));
CREATE TABLE IF NOT EXISTS presence (source TEXT NOT NULL PRIMARY KEY, payload BLOB NOT NULL, heard FLOAT NOT NULL);
CREATE TABLE IF NOT EXISTS result (source TEXT NOT NULL, id TEXT NOT NULL, token BLOB NOT NULL, heard FLOAT NOT NULL,
  PRIMARY KEY (source, id))
"""


def _first(sql: sqlite3.Connection) -> None:
    """As the first release made them, which wrote no version: its files have them already."""
    for statement in _FIRST_TABLES.split(";"):
        sql.execute(statement)


def _several_workers(sql: sqlite3.Connection) -> None:
    """What was remembered by the one process is written down, for others to find."""
    for column in ("reach", "unproven", "pending"):
        sql.execute(f"ALTER TABLE stream ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")
    sql.execute("ALTER TABLE stream ADD COLUMN waiting FLOAT")
    sql.execute("ALTER TABLE dropped RENAME TO dropped_before")
    for table in (schema.dropped, schema.fresh, schema.wanted, schema.moved):
        _create(sql, table)
    sql.execute(
        "INSERT INTO dropped (stream, first, last, count, reason)"
        " SELECT stream, first, last, count, reason FROM dropped_before ORDER BY rowid"
    )
    sql.execute("DROP TABLE dropped_before")
    sql.execute("INSERT INTO fresh (source, stream, bytes, at) SELECT source, id, 0, heard FROM stream")
    sql.execute("DROP VIEW IF EXISTS held_event")
    sql.execute(schema.HELD_VIEW)


def _create(sql: sqlite3.Connection, table: Table) -> None:
    dialect = sqlite.dialect()
    sql.execute(str(CreateTable(table).compile(dialect=dialect)))
    for index in table.indexes:
        sql.execute(str(CreateIndex(index).compile(dialect=dialect)))


STEPS = (_first, _several_workers)
