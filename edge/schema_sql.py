"""The tables of the journal, and the way any node's database goes from one version to the next.

Statements are written with SQLAlchemy Core and compiled once; the hot ones then go straight to the driver.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from sqlalchemy import Column, Computed, Integer, LargeBinary, MetaData, Table, Text
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql import ClauseElement

from edge.errors import StoreError
from edge.event import EventClass

CLASS_NUMBERS = {each: each.number for each in EventClass}
AUDIT, STATE, TELEMETRY = CLASS_NUMBERS.values()

_SEQ_BITS = 46
_CLASS_BITS = 2
SEQ_MASK = (1 << _SEQ_BITS) - 1
"""2**46 numbers a class: two thousand years at a thousand a second. 2**15 epochs are left."""


def place(epoch_no: int, kind: int, seq: int = 0) -> int:
    """Where an event lies: epoch, class and seq in one integer, the row's own key.

    So a lone event costs one page and no index, and the rows of a class lie side by side. ``kind`` is one of
    ``CLASS_NUMBERS``; ``place(no, kind)`` lies before a class's first row, ``place(no, kind + 1)`` behind its last.
    """
    return (epoch_no << _CLASS_BITS | kind) << _SEQ_BITS | seq


def epoch_no_of(at: int) -> int:
    """The epoch of an event that lies at ``at``."""
    return at >> _SEQ_BITS + _CLASS_BITS


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
    Column("place", Integer, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("hash", LargeBinary),
    # For people who look into the file; the program's own statements ask for ranges of ``place``.
    Column("epoch_no", Integer, Computed(f"place >> {_SEQ_BITS + _CLASS_BITS}", persisted=False)),
    Column("class", Integer, Computed(f"(place >> {_SEQ_BITS}) & {(1 << _CLASS_BITS) - 1}", persisted=False)),
    Column("seq", Integer, Computed(f"place & {SEQ_MASK}", persisted=False)),
)

newest_state = Table(
    "newest_state",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("place", Integer, nullable=False),
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


def read_fact(connection: sqlite3.Connection, name: str) -> str | None:
    """The one value kept under ``name``, None when there is none."""
    row = connection.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def write_fact(connection: sqlite3.Connection, name: str, value: str) -> None:
    connection.execute("INSERT OR REPLACE INTO fact (name, value) VALUES (?, ?)", (name, value))


def last_seq(connection: sqlite3.Connection, epoch_no: int, kind: int) -> int:
    """The highest seq ever given in an epoch and class, whether its row is still there or not."""
    (last,) = connection.execute(
        """SELECT max(coalesce((SELECT max(place) FROM event WHERE place BETWEEN :low AND :high), 0) & :mask,
                      coalesce((SELECT max(last) FROM gap WHERE epoch_no = :no AND class = :kind), 0),
                      coalesce((SELECT max(seq) FROM cursor WHERE epoch_no = :no AND class = :kind), 0))""",
        {
            "low": place(epoch_no, kind),
            "high": place(epoch_no, kind, SEQ_MASK),
            "mask": SEQ_MASK,
            "no": epoch_no,
            "kind": kind,
        },
    ).fetchone()
    return int(last)


Step = Callable[[sqlite3.Connection], None]


def create_journal(connection: sqlite3.Connection) -> None:
    """The first step of every node's database."""
    create(connection, (epoch, event, newest_state, gap, cursor, fact))


def migrate(connection: sqlite3.Connection, steps: Sequence[Step]) -> None:
    """Bring the database to version ``len(steps)``, all in one transaction or not at all.

    Raises ``StoreError`` for a database that a newer release has written, and for a step that does not go through.
    Damage shows as the driver's ``DatabaseError``.
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
        # Another process may have been quicker.
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        for step in steps[version:]:
            step(connection)
        connection.execute(f"PRAGMA user_version = {len(steps)}")
    except BaseException as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
            raise StoreError(
                f"the database cannot go from version {version} to {len(steps)}: {error}",
                remedy="install the release that wrote it; nothing was changed",
            ) from error
        raise
    connection.execute("COMMIT")
