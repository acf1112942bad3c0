"""Two alternating copies of the ledger beside the database: small, checksummed, written after each change.

They are what a rebuilt database begins with, so a copy holds whatever is needed to open an occupied compartment and to
offer none.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from pathlib import Path
from typing import Any

import msgspec

from edge import log
from edge.event import SEALED
from edge.schema_sql import AUDIT, last_seq, place
from locker.compartment import LedgerState
from locker.ledger_schema_sql import LEDGER_TABLES

_SEAL = f'"type":"{SEALED}"'.encode()


_log = log.get_logger("locker.ledger_file")


class Rows(msgspec.Struct, frozen=True):
    """One table: its columns by name, because the release that reads a copy may know others, and its rows."""

    columns: list[str]
    rows: list[list[Any]]


class Copy(msgspec.Struct, frozen=True):
    """The ledger's rows by table, and how far the audit journal had come: ``audit_seq`` of ``epoch``."""

    number: int
    epoch: str
    audit_seq: int
    tables: dict[str, Rows]


def copy_paths(database: Path) -> tuple[Path, Path]:
    """The two files; the higher ``number`` inside is the newer one."""
    return database.with_suffix(".ledger-a"), database.with_suffix(".ledger-b")


def read_ledger(connection: sqlite3.Connection, number: int) -> Copy:
    """The ledger as it stands in the database, read in one transaction."""
    connection.execute("BEGIN")
    try:
        tables = {
            table.name: _rows(connection, table.name, [str(column.name) for column in table.columns])
            for table in LEDGER_TABLES
        }
        epoch, epoch_no = connection.execute("SELECT id, no FROM epoch ORDER BY no DESC LIMIT 1").fetchone()
        audit_seq = last_seq(connection, epoch_no, AUDIT)
    finally:
        connection.execute("COMMIT")
    return Copy(number, epoch, audit_seq, tables)


def _rows(connection: sqlite3.Connection, table: str, columns: list[str]) -> Rows:
    found = connection.execute(f"SELECT {', '.join(columns)} FROM {table}")  # noqa: S608 - our own names
    return Rows(columns, [list(row) for row in found])


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
    return max(_whole_copies(database), key=lambda copy: copy.number, default=None)


def _whole_copies(database: Path) -> list[Copy]:
    """The copies that can be used. An unreadable sector or a strange shape is damage like any other."""
    whole = []
    for path in copy_paths(database):
        try:
            content = path.read_bytes()
            digest, body = content[:32], content[32:]
            if hashlib.sha256(body).digest() == digest:
                whole.append(msgspec.msgpack.decode(body, type=Copy))
        except FileNotFoundError:
            continue
        except (OSError, msgspec.DecodeError) as error:
            _log.error("ledger.copy_unusable", file=path.name, fault=str(error))
    return whole


def rebuild_ledger(connection: sqlite3.Connection, database: Path) -> None:
    """Fill the tables from the copies of ``database``; offer a compartment again only if it is proven to be free.

    A copy's word that it is free is proven where nothing can have been put in after it: no deposit's door is pulsed
    before a copy has it (``locker.ledger.Store.copied``), so the newer of two whole copies is the last word. Where one
    is damaged it may have been the newer one; then the salvaged journal must show that nothing happened since.
    """
    connection.execute("BEGIN IMMEDIATE")
    _restore(connection, database)
    connection.execute("COMMIT")


def overtake_ledger(connection: sqlite3.Connection, database: Path) -> bool:
    """Within a transaction: restore the copies where they are ahead of a database that somebody has put back.

    Returns whether they were: a copy never leads, so one that knows of later events proves the database to be older.
    """
    copy = newest_copy(database)
    if copy is None:
        return False
    known = connection.execute("SELECT no FROM epoch WHERE id = ?", (copy.epoch,)).fetchone()
    if known is not None and last_seq(connection, known[0], AUDIT) >= copy.audit_seq:
        return False
    _restore(connection, database)
    return True


def _restore(connection: sqlite3.Connection, database: Path) -> None:
    copies = sorted(_whole_copies(database), key=lambda copy: copy.number)
    if copies:
        _load(connection, copies[-1])
    if len(copies) < len(copy_paths(database)) and not (copies and _is_last_word(connection, copies[-1])):
        connection.execute(
            "UPDATE compartment SET state = ? WHERE state = ?", (LedgerState.UNKNOWN.value, LedgerState.FREE.value)
        )
        connection.execute("UPDATE budget SET rows_lost = 1")


def _load(connection: sqlite3.Connection, copy: Copy) -> None:
    for table in LEDGER_TABLES:
        connection.execute(f"DELETE FROM {table.name}")  # noqa: S608 - our own names
        _fill(connection, table.name, {column.name for column in table.columns}, copy.tables.get(table.name))


def _fill(connection: sqlite3.Connection, table: str, known: set[str], kept: Rows | None) -> None:
    """Write a copy's rows back, the columns that this release has."""
    if kept is None:
        return
    places = [index for index, column in enumerate(kept.columns) if column in known]
    columns = ", ".join(kept.columns[index] for index in places)
    marks = ", ".join("?" * len(places))
    connection.executemany(
        f"INSERT INTO {table} ({columns}) VALUES ({marks})",  # noqa: S608 - our own names
        ([row[index] for index in places] for row in kept.rows),
    )


def _is_last_word(connection: sqlite3.Connection, copy: Copy) -> bool:
    """Whether the salvaged journal shows that nothing happened to the ledger after ``copy``.

    It must reach as far as the copy, go on without a gap, and hold nothing but seals since.
    """
    newest, epoch = connection.execute("SELECT no, id FROM epoch ORDER BY no DESC LIMIT 1").fetchone() or (0, "")
    if epoch != copy.epoch:
        return False
    rows = connection.execute(
        "SELECT seq, body FROM event WHERE place >= ? AND place < ? ORDER BY place",
        (place(newest, AUDIT, copy.audit_seq), place(newest, AUDIT + 1)),
    ).fetchall()
    if [seq for seq, _ in rows] != list(range(copy.audit_seq, copy.audit_seq + len(rows))):
        return False
    return bool(rows) and all(_SEAL in body for _, body in rows[1:])
