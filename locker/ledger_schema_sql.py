"""The ledger's tables in the node's database, and the steps that made them."""

from __future__ import annotations

import sqlite3

import msgspec
from sqlalchemy import Column, Float, Integer, LargeBinary, MetaData, Table, Text

from edge.inbox_sql import revision_table
from edge.schema_sql import create
from locker.attempts import Attempts

_metadata = MetaData()

_compartment = Table(
    "compartment",
    _metadata,
    Column("door", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("uses", Integer, nullable=False),
    sqlite_with_rowid=False,
)
_parcel = Table(
    "parcel",
    _metadata,
    Column("parcel", Text, primary_key=True),
    Column("door", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("courier", Text, nullable=False),
    Column("run", Text, nullable=False),
    Column("expires", Float),
    Column("stored_at", Float),
    Column("plain", LargeBinary, unique=True),
    Column("extended", LargeBinary, unique=True),
)
unlocking_table = Table(
    "unlocking",
    _metadata,
    Column("door", Text, primary_key=True),
    Column("attempt", Text, nullable=False),
    Column("session", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("parcel", Text, nullable=False),
    Column("cause_id", Text, nullable=False),
    Column("pulses", Integer, nullable=False),
    Column("ended", Integer, nullable=False),
    Column("opened", Integer, nullable=False),
    sqlite_with_rowid=False,
)
_budget = Table(
    "budget",
    _metadata,
    Column("one", Integer, primary_key=True),
    Column("running", Float, nullable=False),
    Column("attempts", LargeBinary, nullable=False),
    # The trusted wall clock's last word, and the running seconds when it spoke.
    Column("last_wall", Float),
    Column("last_running", Float),
    # 1: doors that the ledger does not know are not new, their rows are lost.
    Column("rows_lost", Integer, nullable=False, server_default="0"),
)
_badge = Table("badge", _metadata, Column("badge", Text, primary_key=True), Column("tries", Integer, nullable=False))
_tally = Table(
    "tally",
    _metadata,
    Column("kind", Text, primary_key=True),
    Column("reason", Text, primary_key=True),
    Column("minute", Integer, primary_key=True),
    Column("count", Integer, nullable=False),
    sqlite_with_rowid=False,
)
_remote = Table(
    "remote_opening", _metadata, Column("no", Integer, primary_key=True), Column("running", Float, nullable=False)
)

_booking = Table(
    "booking",
    _metadata,
    Column("booking", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("size", Text, nullable=False),
    Column("low", Integer, nullable=False),
    Column("hold_hours", Integer, nullable=False),
    # Running seconds of the node when it was last expected.
    Column("since", Float, nullable=False),
)

_FIRST_TABLES = (_compartment, _parcel, unlocking_table, _budget, _badge, _tally, _remote)
LEDGER_TABLES = (*_FIRST_TABLES, _booking, revision_table)
"""What a ledger copy holds, in an order in which it can be written back."""


def create_ledger(connection: sqlite3.Connection) -> None:
    """The locker's own step."""
    create(connection, _FIRST_TABLES)
    connection.execute("CREATE INDEX parcel_door ON parcel (door)")
    connection.execute(
        "INSERT INTO budget (one, running, attempts) VALUES (1, 0.0, ?)", (msgspec.json.encode(Attempts()),)
    )


def create_bookings(connection: sqlite3.Connection) -> None:
    """The step that introduces bookings."""
    create(connection, (_booking,))
