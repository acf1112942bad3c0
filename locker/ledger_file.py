"""Two alternating copies of the ledger beside the database: small, checksummed, written after each change.

They are what a rebuilt database begins with, so a copy holds whatever is needed to open an occupied compartment and to offer none.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from pathlib import Path
from typing import Any

import msgspec

from locker.compartment import LedgerState
from locker.ledger_sql import LEDGER_TABLES


class Copy(msgspec.Struct, frozen=True):
    """The ledger's rows by table, and how far the audit journal had come: ``audit_seq`` of ``epoch``."""

    number: int
    epoch: str
    audit_seq: int
    tables: dict[str, list[list[Any]]]


def copy_paths(database: Path) -> tuple[Path, Path]:
    """The two files; the higher ``number`` inside is the newer one."""
    return database.with_suffix(".ledger-a"), database.with_suffix(".ledger-b")


def read_ledger(connection: sqlite3.Connection, number: int) -> Copy:
    """The ledger as it stands in the database, read in one transaction."""
    connection.execute("BEGIN")
    try:
        tables = {
            table.name: [list(row) for row in connection.execute(f"SELECT * FROM {table.name}")]
            for table in LEDGER_TABLES
        }
        epoch, audit_seq = connection.execute(
            """SELECT epoch.id, coalesce((SELECT max(seq) FROM event WHERE epoch_no = epoch.no AND class = 0), 0)
               FROM epoch ORDER BY no DESC LIMIT 1"""
        ).fetchone()
    finally:
        connection.execute("COMMIT")
    return Copy(number, epoch, audit_seq, tables)


def write_copy(database: Path, copy: Copy) -> None:
    """Write the copy whose turn it is; the other one stays whole whatever happens meanwhile."""
    body = msgspec.msgpack.encode(copy)
    path = copy_paths(database)[copy.number % 2]
    with path.open("wb") as file:
        file.write(hashlib.sha256(body).digest() + body)
        file.flush()
        os.fsync(file.fileno())


def newest_copy(database: Path) -> Copy | None:
    """The newer of the copies that are whole; None when neither is."""
    whole = []
    for path in copy_paths(database):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue
        digest, body = content[:32], content[32:]
        if hashlib.sha256(body).digest() == digest:
            whole.append(msgspec.msgpack.decode(body, type=Copy))
    return max(whole, key=lambda copy: copy.number, default=None)


def rebuild_ledger(connection: sqlite3.Connection, copy: Copy | None) -> None:
    """Fill a fresh database from ``copy``. A compartment is offered again only if the copy is proven to be the last word.

    Without that proof its *free* means nothing: a parcel may have been put in after it was written.
    """
    connection.execute("BEGIN IMMEDIATE")
    if copy is not None:
        for table in LEDGER_TABLES:
            rows = copy.tables.get(table.name, [])
            marks = ", ".join("?" * len(table.columns))
            connection.executemany(f"INSERT OR REPLACE INTO {table.name} VALUES ({marks})", rows)
    if copy is None or not _is_last_word(connection, copy):
        connection.execute(
            "UPDATE compartment SET state = ? WHERE state = ?", (LedgerState.UNKNOWN.value, LedgerState.FREE.value)
        )
    connection.execute("COMMIT")


def _is_last_word(connection: sqlite3.Connection, copy: Copy) -> bool:
    """Whether the salvaged journal reaches exactly as far as the copy: nothing happened after it was written."""
    row = connection.execute(
        """SELECT max(seq) FROM event WHERE class = 0
           AND epoch_no = (SELECT no FROM epoch WHERE id = ? AND no = (SELECT max(no) FROM epoch))""",
        (copy.epoch,),
    ).fetchone()
    return row is not None and row[0] is not None and int(row[0]) == copy.audit_seq
