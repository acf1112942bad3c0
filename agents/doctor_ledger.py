"""Which compartments are proven to be empty, read from the ledger and its copy without touching either."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from edge.errors import StoreError
from locker.compartment import LedgerState
from locker.ledger_file import Copy, newest_copy
from locker.parcel import PRESENT

_PRESENT = {state.value for state in PRESENT}


def proven_empty(database: Path) -> frozenset[str] | None:
    """The doors that the database calls free with no parcel behind them, and its newest copy too.

    None where there has never been a ledger. Raises ``StoreError`` where there is one that cannot be read.
    """
    copy = newest_copy(database)
    if not database.exists() and copy is None:
        return None
    found = _in_database(database)
    if copy is None:
        return found
    taken = {row["door"] for row in _rows(copy, "parcel") if row["state"] in _PRESENT}
    free = {row["door"] for row in _rows(copy, "compartment") if row["state"] == LedgerState.FREE.value}
    return found & (free - taken)


def _rows(copy: Copy, table: str) -> list[dict[str, Any]]:
    kept = copy.tables[table]
    return [dict(zip(kept.columns, row, strict=True)) for row in kept.rows]


def _in_database(database: Path) -> frozenset[str]:
    # Without a log nobody has it open, and opening it as it stands makes no file that the agent could not use.
    how = "mode=ro" if Path(f"{database}-wal").exists() else "mode=ro&immutable=1"
    try:
        connection = sqlite3.connect(f"file:{database}?{how}", uri=True, timeout=5.0)
        try:
            free = connection.execute("SELECT door FROM compartment WHERE state = ?", (LedgerState.FREE.value,))
            doors = {door for (door,) in free}
            marks = ", ".join("?" * len(_PRESENT))
            taken = connection.execute(
                f"SELECT door FROM parcel WHERE state IN ({marks})",  # noqa: S608 - only question marks
                tuple(_PRESENT),
            )
            return frozenset(doors - {door for (door,) in taken})
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StoreError(
            f"{database}: {error}", remedy="start the agent once, so that it repairs its store; until then open nothing"
        ) from error
