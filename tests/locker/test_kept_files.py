"""Databases that an earlier release has left behind are taken up as they are, once and for good."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from edge.schema_sql import migrate
from locker.contract import CodeUse
from locker.ledger import HeldCode
from locker.ledger_codes_sql import SqlCodes
from locker.ledger_sql import LOCKER_STEPS
from locker.pickup_code import CodeHashes

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
        assert rows(sql, "SELECT door FROM compartment WHERE cause IS NULL") == [("01",), ("02",), ("03",), ("04",)]
        assert rows(sql, "SELECT * FROM audit") == rows(sql, "SELECT * FROM audited") == []
    sql.close()


def test_a_locker_of_the_release_before_vouchers_keeps_its_bookings_and_every_code(tmp_path: Path) -> None:
    sql = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    sql.executescript((KEPT / "state-v5.sql").read_text())
    for _ in range(2):
        migrate(sql, LOCKER_STEPS)
        assert rows(sql, "PRAGMA user_version") == [(len(LOCKER_STEPS),)]
        assert rows(sql, "SELECT booking, state, hold_hours, grouped FROM booking ORDER BY booking") == [
            ("p-later", "expected", 24, None),
            ("p-old", "stored", 72, None),
        ]
        assert rows(sql, "SELECT rev FROM revision") == [(3,)]
        codes = SqlCodes(sql)
        assert codes.find_code(b"\x11") == HeldCode("p-old", CodeUse.PICKUP)
        assert (codes.live_codes(), codes.further_code_count(), codes.voucher_gen("p-old")) == (1, 0, 0)
    codes.save_further_code(HeldCode("p-old", CodeUse.PICKUP, 1), CodeHashes(b"\x31", b"\x32"))
    assert codes.find_code(b"\x32") == HeldCode("p-old", CodeUse.PICKUP, 1)
    assert codes.live_codes() == 2
    sql.close()
