"""The ledger's compartments, the last attempt at each door, and the audit of them that is under way."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

import msgspec

from locker.compartment import LedgerState
from locker.contract import AuditOutcome, BlockCause, Cause, Word
from locker.ledger import Audit, CompartmentRow, Unlocking
from locker.ledger_schema_sql import unlocking_table

_COMPARTMENT = "SELECT door, state, uses, cause FROM compartment"
_UNLOCKING = (
    "SELECT door, attempt, session, cause, before, parcel, cause_id, pulses, ended, opened, word FROM unlocking"
)
_UNLOCKING_COLUMNS = [column.name for column in unlocking_table.columns]
_BEGIN_UNLOCKING = (
    f"INSERT INTO unlocking VALUES ({', '.join('?' * len(_UNLOCKING_COLUMNS))}) ON CONFLICT (door) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _UNLOCKING_COLUMNS[1:])
)


class SqlDoors:
    """The part of ``locker.ledger.Ledger`` that is about doors."""

    _sql: sqlite3.Connection

    def compartments(self) -> list[CompartmentRow]:
        return [_compartment_of(row) for row in self._sql.execute(_COMPARTMENT)]

    def compartment(self, door: str) -> CompartmentRow:
        return _compartment_of(self._sql.execute(f"{_COMPARTMENT} WHERE door = ?", (door,)).fetchone())

    def add_compartments(self, doors: Iterable[str]) -> None:
        """Doors that are new in the configuration begin free; after a loss of the ledger they may be full: unknown."""
        (lost,) = self._sql.execute("SELECT rows_lost FROM budget").fetchone()
        begins = LedgerState.UNKNOWN if lost else LedgerState.FREE
        self._sql.executemany(
            "INSERT OR IGNORE INTO compartment (door, state, uses) VALUES (?, ?, 0)",
            [(door, begins.value) for door in doors],
        )
        self._sql.execute("UPDATE budget SET rows_lost = 0")

    def set_compartment(self, door: str, state: LedgerState, cause: BlockCause | None = None) -> None:
        self._sql.execute(
            "UPDATE compartment SET state = ?1, cause = CASE ?1 WHEN ?2 THEN coalesce(?3, cause) END WHERE door = ?4",
            (state.value, LedgerState.BLOCKED.value, cause.value if cause else None, door),
        )

    def count_use(self, door: str) -> None:
        self._sql.execute("UPDATE compartment SET uses = uses + 1 WHERE door = ?", (door,))

    def begin_unlocking(self, unlocking: Unlocking) -> None:
        row = msgspec.structs.astuple(unlocking)
        values = [value.value if isinstance(value, Cause) else value for value in row]
        self._sql.execute(_BEGIN_UNLOCKING, values)

    def count_pulse(self, attempt: str, pulses: int) -> None:
        self._sql.execute("UPDATE unlocking SET pulses = ? WHERE attempt = ?", (pulses, attempt))

    def unlocking(self, door: str) -> Unlocking | None:
        row = self._sql.execute(f"{_UNLOCKING} WHERE door = ?", (door,)).fetchone()
        return None if row is None else _unlocking_of(row)

    def end_unlocking(self, attempt: str, *, opened: bool) -> None:
        self._sql.execute(
            "UPDATE unlocking SET ended = 1, opened = max(opened, ?) WHERE attempt = ?", (opened, attempt)
        )

    def note_word(self, attempt: str, word: Word) -> None:
        self._sql.execute("UPDATE unlocking SET word = ? WHERE attempt = ?", (word.value, attempt))

    def opened_by_command(self, jti: str) -> bool:
        """Whether the door that this command opened last was seen to open."""
        return self._sql.execute("SELECT 1 FROM unlocking WHERE cause_id = ? AND opened", (jti,)).fetchone() is not None

    def open_unlockings(self) -> list[Unlocking]:
        return [_unlocking_of(row) for row in self._sql.execute(f"{_UNLOCKING} WHERE ended = 0 ORDER BY door")]

    def begin_audit(self, audit: Audit) -> None:
        self.end_audit()
        self._sql.execute("INSERT INTO audit VALUES (1, ?, ?)", (audit.command, audit.until))
        self._sql.executemany("INSERT INTO audited VALUES (?, NULL)", [(door,) for door in audit.doors])

    def audit(self) -> Audit | None:
        row = self._sql.execute("SELECT command, until FROM audit").fetchone()
        if row is None:
            return None
        doors = self._sql.execute("SELECT door, outcome FROM audited ORDER BY door")
        outcomes = {door: AuditOutcome(outcome) if outcome else None for door, outcome in doors}
        return Audit(command=row[0], until=row[1], doors=outcomes)

    def note_audited(self, door: str, outcome: AuditOutcome) -> None:
        self._sql.execute("UPDATE audited SET outcome = ? WHERE door = ?", (outcome.value, door))

    def end_audit(self) -> None:
        self._sql.execute("DELETE FROM audit")
        self._sql.execute("DELETE FROM audited")


def _compartment_of(row: tuple[str, str, int, str | None]) -> CompartmentRow:
    door, state, uses, cause = row
    return CompartmentRow(door, LedgerState(state), uses, BlockCause(cause) if cause else None)


def _unlocking_of(row: tuple[str, str, str, str, str, str, str, int, int, int, str | None]) -> Unlocking:
    door, attempt, session, cause, before, parcel, cause_id, pulses, ended, opened, word = row
    return Unlocking(
        door=door,
        attempt=attempt,
        session=session,
        cause=Cause(cause),
        before=before,
        parcel=parcel,
        cause_id=cause_id,
        pulses=pulses,
        ended=bool(ended),
        opened=bool(opened),
        word=word or "",
    )
