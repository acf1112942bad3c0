"""SQLite so that what was committed survives a power cut, also on a disk that has failed before."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from edge.atomic_file import sync_directory
from edge.errors import StoreError
from edge.journal_log_file import renew_log
from edge.journal_place_file import Place


def make_durable(connection: sqlite3.Connection) -> None:
    """Log ahead, sync every commit, and have on the disk what the first commit will stand on.

    For each new connection that writes, before its first transaction. After a sync that failed the kernel goes on
    showing pages that never reached the disk, and takes them for written. If the process ends then, SQLite finds them
    in the log, and every commit behind them is lost with them at the next power cut: so they are written once more. It
    also passes over a failed sync of the directory in which it made the log: so that is done here again.

    Waits for other writers up to the connection's time-out. Raises ``StoreError`` when the disk does not take it, and
    the driver's errors.
    """
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    (name,) = connection.execute("SELECT file FROM pragma_database_list WHERE name = 'main'").fetchone()
    # Nobody may write meanwhile: what was read could be put over what has just been committed.
    connection.execute("BEGIN IMMEDIATE")
    try:
        renew_log(Place(Path(name)).log)
        sync_directory(Path(name).parent)
    except OSError as error:
        raise StoreError(f"{name}: {error.strerror}", remedy="look at the disk; nothing was lost by this") from error
    finally:
        connection.execute("ROLLBACK")
