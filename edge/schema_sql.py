"""The tables of the journal, and the way any node's database goes from one version to the next.

Statements are written with SQLAlchemy Core and compiled once; the hot ones then go straight to the driver.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from sqlalchemy import Column, ForeignKey, Integer, LargeBinary, MetaData, Table, Text
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql import ClauseElement

from edge.errors import StoreError
from edge.event import EventClass

CLASS_NUMBERS = {EventClass.AUDIT: 0, EventClass.STATE: 1, EventClass.TELEMETRY: 2}

_dialect = sqlite.dialect(paramstyle="named")

metadata = MetaData()

epoch = Table(
    "epoch",
    metadata,
    Column("no", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("previous", Text, nullable=False),
    Column("instance", Text, nullable=False),
)

event = Table(
    "event",
    metadata,
    Column("epoch_no", Integer, ForeignKey("epoch.no"), primary_key=True),
    Column("class", Integer, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("hash", LargeBinary),
    sqlite_with_rowid=False,
)

newest_state = Table(
    "newest_state",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("epoch_no", Integer, nullable=False),
    Column("seq", Integer, nullable=False),
    sqlite_with_rowid=False,
)

gap = Table(
    "gap",
    metadata,
    Column("epoch_no", Integer, primary_key=True),
    Column("class", Integer, primary_key=True),
    Column("first", Integer, primary_key=True),
    Column("last", Integer, nullable=False),
    Column("count", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    sqlite_with_rowid=False,
)

cursor = Table(
    "cursor",
    metadata,
    Column("consumer", Text, primary_key=True),
    Column("epoch_no", Integer, primary_key=True),
    Column("class", Integer, primary_key=True),
    Column("starts", Integer, nullable=False),
    Column("seq", Integer, nullable=False),
    sqlite_with_rowid=False,
)

fact = Table("fact", metadata, Column("name", Text, primary_key=True), Column("value", Text, nullable=False))


def compiled(statement: ClauseElement) -> str:
    """SQL text with ``:name`` parameters, for the driver."""
    return str(statement.compile(dialect=_dialect))


def create(connection: sqlite3.Connection, tables: Sequence[Table]) -> None:
    """Create ``tables`` as they are defined now; only for the step that introduces them."""
    for table in tables:
        connection.execute(str(CreateTable(table).compile(dialect=_dialect)))


Step = Callable[[sqlite3.Connection], None]


def create_journal(connection: sqlite3.Connection) -> None:
    """The first step of every node's database."""
    create(connection, (epoch, event, newest_state, gap, cursor, fact))


def migrate(connection: sqlite3.Connection, steps: Sequence[Step]) -> None:
    """Bring the database to version ``len(steps)``, all in one transaction or not at all.

    Raises ``StoreError`` for a database that a newer release has written.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(steps):
        raise StoreError(
            f"the database has version {version}, this release knows {len(steps)}",
            remedy="install the release that wrote it; nothing was changed",
        )
    if version == len(steps):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in steps[version:]:
            step(connection)
        connection.execute(f"PRAGMA user_version = {len(steps)}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
