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
    # ``locker.contract.BlockCause`` while it is blocked; NULL in rows of releases that did not keep it.
    Column("cause", Text),
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
    # Those that were put in together share it; NULL in rows of releases that put in one at a time.
    Column("batch", Text),
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
    # ``locker.contract.Word``: what was said at the door. NULL in rows of releases that forgot it.
    Column("word", Text),
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
    # The pseudonym of whoever gets this parcel and others: together they can be collected in one visit.
    Column("grouped", Text),
    # ``locker.contract.BookingKind``; NULL in rows of releases that knew deliveries alone.
    Column("kind", Text),
    # The booking of what has to be given back before this one's parcel is handed out.
    Column("exchange", Text),
    # ``locker.compartment.Climate``; NULL where nothing cools or heats it.
    Column("climate", Text),
)
_further_code = Table(
    "further_code",
    _metadata,
    # The booking's id.
    Column("subject", Text, primary_key=True),
    # ``locker.contract.CodeUse``.
    Column("use", Text, primary_key=True),
    # Counts them from 1; 0 where there is one alone.
    Column("which", Integer, primary_key=True),
    Column("plain", LargeBinary, nullable=False, unique=True),
    Column("extended", LargeBinary, nullable=False, unique=True),
    sqlite_with_rowid=False,
)
_voucher = Table(
    "voucher",
    _metadata,
    Column("booking", Text, primary_key=True),
    # The highest edition seen: an older one is out of force.
    Column("gen", Integer, nullable=False),
    sqlite_with_rowid=False,
)
_audit = Table(
    "audit",
    _metadata,
    Column("one", Integer, primary_key=True),
    Column("command", Text, nullable=False),
    # Running seconds of the node when its time is over.
    Column("until", Float, nullable=False),
)
_audited = Table(
    "audited",
    _metadata,
    Column("door", Text, primary_key=True),
    # ``locker.contract.AuditOutcome``; NULL until somebody has looked.
    Column("outcome", Text),
    sqlite_with_rowid=False,
)

_FIRST_TABLES = (_compartment, _parcel, unlocking_table, _budget, _badge, _tally, _remote)
LEDGER_TABLES = (*_FIRST_TABLES, _booking, revision_table, _further_code, _voucher, _audit, _audited)
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


def create_codes(connection: sqlite3.Connection) -> None:
    """The step that introduces further codes, vouchers' editions, parcels put in together and those of one group."""
    create(connection, (_further_code, _voucher))
    _add_column(connection, "parcel", "batch")
    _add_column(connection, "booking", "grouped")


def create_words(connection: sqlite3.Connection) -> None:
    """The step that keeps what was said at a door."""
    _add_column(connection, "unlocking", "word")


def create_drops(connection: sqlite3.Connection) -> None:
    """The step that introduces parcels which customers bring."""
    _add_column(connection, "booking", "kind")
    _add_column(connection, "booking", "exchange")


def add_climate(connection: sqlite3.Connection) -> None:
    """The step that lets a booking ask for a compartment that is kept cold, frozen or heated."""
    _add_column(connection, "booking", "climate")


def create_audits(connection: sqlite3.Connection) -> None:
    """The step that keeps why a compartment is blocked, and how far an audit has come."""
    create(connection, (_audit, _audited))
    _add_column(connection, "compartment", "cause")


def _add_column(connection: sqlite3.Connection, table: str, name: str) -> None:
    """A text column in a table that may have it: where the steps before have just made the table as it is now."""
    columns = connection.execute(f"PRAGMA table_info({table})")
    if name not in {column for _, column, *_ in columns}:
        connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} TEXT")
