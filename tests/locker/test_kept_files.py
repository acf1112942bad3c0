"""Databases that an earlier release has left behind are taken up as they are, once and for good."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from edge.schema_sql import migrate
from locker.ledger_sql import LOCKER_STEPS

KEPT = Path(__file__).parent / "kept"


def rows(sql: sqlite3.Connection, query: str) -> list[Any]:
    return sql.execute(query).fetchall()


def test_a_locker_of_the_release_before_bookings_keeps_parcels_commands_and_budgets(tmp_path: Path) -> None:
    sql = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    sql.executescript((KEPT / "state-v3.sql").read_text())
    for _ in range(2):
        migrate(sql, LOCKER_STEPS)
        assert rows(sql, "PRAGMA user_version") == [(len(LOCKER_STEPS),)]
        assert rows(sql, "SELECT door, state, uses FROM compartment ORDER BY door") == [
            ("01", "occupied", 3),
            ("02", "free", 1),
            ("03", "blocked", 0),
            ("04", "free", 0),
        ]
        assert rows(sql, "SELECT parcel, state, plain FROM parcel ORDER BY parcel") == [
            ("p-gone", "collected", b"\x21"),
            ("p-old", "stored", b"\x11"),
        ]
        assert rows(sql, "SELECT status, result FROM command") == [("done", b"\x01\x02")]
        assert rows(sql, "SELECT count(*) FROM remote_opening") == [(1,)]
        assert rows(sql, "SELECT * FROM booking") == rows(sql, "SELECT * FROM revision") == []
        assert rows(sql, "SELECT count(*) FROM parcel WHERE batch IS NULL") == [(2,)]
        assert rows(sql, "SELECT * FROM further_code") == rows(sql, "SELECT * FROM voucher") == []
    sql.close()
