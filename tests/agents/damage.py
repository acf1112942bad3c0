"""What can befall the files of a node: copies, damage of several kinds, and a disk that fills up."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
from pathlib import Path


def copied(database: Path, to: Path) -> None:
    """As a backup takes it, while the agent works."""
    with (
        contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as live,
        contextlib.closing(sqlite3.connect(to)) as kept,
    ):
        live.backup(kept)


def settled(database: Path) -> None:
    """Bring the log into the file, so that damage to the file is damage to what was kept."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def overwritten(database: Path) -> None:
    settled(database)
    size = database.stat().st_size
    with database.open("r+b") as file:
        file.seek(size // 3)
        file.write(random.Random(1).randbytes(size // 3))


def truncated(database: Path) -> None:
    settled(database)
    os.truncate(database, database.stat().st_size // 2)


def garbage(database: Path) -> None:
    settled(database)
    database.write_bytes(random.Random(2).randbytes(database.stat().st_size))


def fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
