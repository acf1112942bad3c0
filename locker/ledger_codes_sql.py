"""The ledger's pickup codes and vouchers: hashes to look a typed code up by, and the editions of vouchers seen."""

from __future__ import annotations

import sqlite3

from locker.contract import CodeUse
from locker.ledger import HeldCode
from locker.parcel import PRESENT
from locker.pickup_code import CodeHashes

_PICKUP = CodeUse.PICKUP.value
_FIND = f"""SELECT parcel, '{_PICKUP}', 0 FROM parcel WHERE plain = ?1 OR extended = ?1
            UNION ALL SELECT subject, "use", which FROM further_code WHERE plain = ?1 OR extended = ?1"""
_PRESENT = tuple(state.value for state in PRESENT)
_HERE = f"FROM parcel WHERE state IN ({', '.join('?' * len(_PRESENT))})"
_FURTHER = f"""SELECT count(*) FROM further_code
               WHERE ("use" = '{_PICKUP}' AND subject IN (SELECT parcel {_HERE})) OR ("use" <> '{_PICKUP}'
                      AND subject IN (SELECT booking FROM booking WHERE state IN ('expected', 'stored')))"""


class SqlCodes:
    """The part of ``locker.ledger.Ledger`` that is about codes and vouchers.

    A parcel's own code stands in its row, where releases without further codes look for it.
    """

    def __init__(self, sql: sqlite3.Connection) -> None:
        self._sql = sql

    def find_code(self, digest: bytes) -> HeldCode | None:
        row = self._sql.execute(_FIND, (digest,)).fetchone()
        return None if row is None else HeldCode(row[0], CodeUse(row[1]), row[2])

    def save_code(self, parcel: str, hashes: CodeHashes) -> None:
        self._sql.execute(
            "UPDATE parcel SET plain = ?, extended = ? WHERE parcel = ?", (hashes.plain, hashes.extended, parcel)
        )

    def save_further_code(self, code: HeldCode, hashes: CodeHashes) -> None:
        self._sql.execute(
            "INSERT INTO further_code VALUES (?, ?, ?, ?, ?)",
            (code.subject, code.use.value, code.which, hashes.plain, hashes.extended),
        )

    def further_codes(self, subject: str, use: CodeUse) -> list[HeldCode]:
        rows = self._sql.execute('SELECT which FROM further_code WHERE subject = ? AND "use" = ?', (subject, use.value))
        return [HeldCode(subject, use, which) for (which,) in rows]

    def forget_further_code(self, code: HeldCode) -> None:
        self._sql.execute(
            'DELETE FROM further_code WHERE subject = ? AND "use" = ? AND which = ?',
            (code.subject, code.use.value, code.which),
        )

    def forget_code(self, parcel: str) -> None:
        self._sql.execute("UPDATE parcel SET plain = NULL, extended = NULL WHERE parcel = ?", (parcel,))
        self._sql.execute('DELETE FROM further_code WHERE subject = ? AND "use" = ?', (parcel, _PICKUP))

    def live_codes(self) -> int:
        (parcels,) = self._sql.execute(f"SELECT count(*) {_HERE}", _PRESENT).fetchone()
        return int(parcels) + self.further_code_count()

    def further_code_count(self) -> int:
        (count,) = self._sql.execute(_FURTHER, _PRESENT).fetchone()
        return int(count)

    def voucher_gen(self, booking: str) -> int:
        row = self._sql.execute("SELECT gen FROM voucher WHERE booking = ?", (booking,)).fetchone()
        return 0 if row is None else int(row[0])

    def save_voucher_gen(self, booking: str, gen: int) -> None:
        self._sql.execute("INSERT OR REPLACE INTO voucher VALUES (?, ?)", (booking, gen))

    def forget_old_codes(self) -> None:
        """Drop what belongs to no parcel and no booking any more."""
        gone = "NOT IN (SELECT parcel FROM parcel UNION ALL SELECT booking FROM booking)"
        self._sql.execute(f"DELETE FROM further_code WHERE subject {gone}")
        self._sql.execute(f"DELETE FROM voucher WHERE booking {gone}")
