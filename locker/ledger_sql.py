"""The ledger in the node's database: one transaction of it in the journal's writer thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

import msgspec

from edge.clock import Clock
from edge.event import Draft, Stamp
from edge.inbox_sql import create_inbox, create_revisions
from edge.journal import Need
from edge.journal_sql import SqlJournal, SqlTransaction
from edge.schema_sql import Step, create_journal
from locker.attempts import Attempts
from locker.booking import BookingState
from locker.compartment import Climate
from locker.contract import BookingKind
from locker.ledger import Booking, Ledger, Parcel
from locker.ledger_codes_sql import SqlCodes
from locker.ledger_doors_sql import SqlDoors
from locker.ledger_schema_sql import (
    add_climate,
    create_audits,
    create_bookings,
    create_codes,
    create_drops,
    create_ledger,
    create_words,
)
from locker.parcel import PRESENT, ParcelState

T = TypeVar("T")

_PARCEL = "SELECT parcel, door, state, courier, run, batch, expires, stored_at, plain IS NOT NULL FROM parcel"
_BOOKING = "SELECT booking, state, size, low, hold_hours, since, grouped, kind, exchange, climate FROM booking"
_GONE = tuple(state.value for state in ParcelState if state not in PRESENT)
_IS_GONE = f"state IN ({', '.join('?' * len(_GONE))})"
_OVER = (BookingState.CANCELLED.value, BookingState.ENDED.value)
_PRESENT = tuple(state.value for state in PRESENT)
_IS_PRESENT = f"state IN ({', '.join('?' * len(_PRESENT))})"
_MINUTE = 60.0
_DAY = 86_400.0
KEPT_GONE = 500
"""Parcels and bookings remembered after they are gone: a used code hears *used*, and the ledger's copies stay small."""
KEPT_BADGES = 500
"""Badges whose wrong PINs are remembered: more than a locker sees in the 16 hours that one lives."""


LOCKER_STEPS: tuple[Step, ...] = (
    create_journal,
    create_inbox,
    create_ledger,
    create_revisions,
    create_bookings,
    create_codes,
    create_words,
    create_drops,
    add_climate,
    create_audits,
)
"""A locker's database, version by version: append only."""


class RunningTime:
    """Accumulated running seconds: what was stored, and what has passed since this process began."""

    def __init__(self, stored: float, clock: Clock) -> None:
        self._stored = stored
        self._clock = clock
        self._began = clock.mono()

    def now(self) -> float:
        return self._stored + self._clock.mono() - self._began


class SqlLedger(SqlCodes, SqlDoors):
    """``locker.ledger.Ledger`` on one transaction of the journal."""

    def __init__(self, transaction: SqlTransaction, running: RunningTime) -> None:
        super().__init__(transaction.sql)
        self.transaction = transaction
        self._running = running

    @property
    def stamp(self) -> Stamp:
        return self.transaction.stamp

    def append(self, draft: Draft) -> None:
        self.transaction.append(draft)

    def require(self, need: Need) -> None:
        self.transaction.require(need)

    def running(self) -> float:
        return self._running.now()

    def attempts(self) -> Attempts:
        (attempts,) = self._sql.execute("SELECT attempts FROM budget").fetchone()
        return msgspec.json.decode(attempts, type=Attempts)

    def save_attempts(self, attempts: Attempts) -> None:
        self._sql.execute(
            "UPDATE budget SET attempts = ?, running = ?", (msgspec.json.encode(attempts), self.running())
        )

    def save_running(self) -> float:
        """Store how long the node has run, and the wall clock's word while it is trusted.

        Returns the wall seconds since its last word in which the node did not run: switched off, or not knowing that
        time went by. 0.0 on an untrusted clock, which may tell later.
        """
        running, wall = self.running(), self.stamp.wall
        if not self.stamp.trusted:
            self._sql.execute("UPDATE budget SET running = ?", (running,))
            return 0.0
        last_wall, last_running = self._sql.execute("SELECT last_wall, last_running FROM budget").fetchone()
        self._sql.execute("UPDATE budget SET running = ?1, last_wall = ?2, last_running = ?1", (running, wall))
        if last_wall is None:
            return 0.0
        return max(0.0, (wall - float(last_wall)) - max(0.0, running - float(last_running)))

    def floor(self) -> float:
        (wall,) = self._sql.execute("SELECT last_wall FROM budget").fetchone()
        return 0.0 if wall is None else float(wall)

    def prolong(self, seconds: float, doors: Iterable[str] | None = None) -> bool:
        """Nobody could collect for ``seconds`` (behind ``doors``, or at all): hold times end that much later.

        Returns whether there were any.
        """
        held = f"UPDATE parcel SET expires = expires + ? WHERE expires IS NOT NULL AND {_IS_PRESENT}"
        if doors is None:
            return self._sql.execute(held, (seconds, *_PRESENT)).rowcount > 0
        changed = [self._sql.execute(f"{held} AND door = ?", (seconds, *_PRESENT, door)).rowcount for door in doors]
        return any(changed)

    def forget_old(self) -> None:
        """Drop what no rule asks for any more."""
        self._sql.execute(
            f"""DELETE FROM parcel WHERE {_IS_GONE} AND rowid NOT IN
                (SELECT rowid FROM parcel WHERE {_IS_GONE} ORDER BY rowid DESC LIMIT {KEPT_GONE})""",
            (*_GONE, *_GONE),
        )
        self._sql.execute(
            f"""DELETE FROM booking WHERE state IN (?1, ?2) AND rowid NOT IN
                (SELECT rowid FROM booking WHERE state IN (?1, ?2) ORDER BY rowid DESC LIMIT {KEPT_GONE})""",
            _OVER,
        )
        self._sql.execute(
            f"DELETE FROM badge WHERE rowid NOT IN (SELECT rowid FROM badge ORDER BY rowid DESC LIMIT {KEPT_BADGES})"
        )
        self._sql.execute("DELETE FROM remote_opening WHERE running <= ?", (self.running() - _DAY,))
        self.forget_old_codes()

    def parcel(self, parcel: str) -> Parcel | None:
        return next(iter(self._parcels("parcel = ?", parcel)), None)

    def parcels_at(self, door: str) -> list[Parcel]:
        return self._parcels(f"door = ? AND {_IS_PRESENT}", door, *_PRESENT)

    def parcels_here(self) -> list[Parcel]:
        return self._parcels(_IS_PRESENT, *_PRESENT)

    def put_in_with(self, parcel: str) -> list[Parcel]:
        return self._parcels("parcel = ?1 OR batch = (SELECT batch FROM parcel WHERE parcel = ?1)", parcel)

    def add_parcel(self, parcel: Parcel) -> None:
        self._sql.execute(
            "INSERT OR REPLACE INTO parcel (parcel, door, state, courier, run, batch) VALUES (?, ?, ?, ?, ?, ?)",
            (parcel.parcel, parcel.door, parcel.state.value, parcel.courier, parcel.run, parcel.batch or None),
        )

    def move_parcel(self, parcel: str, before: ParcelState, after: ParcelState) -> bool:
        # The last to go is the last to be forgotten, however long it lay here.
        last = ", rowid = (SELECT max(rowid) + 1 FROM parcel)" if after.value in _GONE else ""
        changed = self._sql.execute(
            f"UPDATE parcel SET state = ?{last} WHERE parcel = ? AND state = ?", (after.value, parcel, before.value)
        )
        return changed.rowcount == 1

    def store_parcel(self, parcel: str, *, expires: float | None) -> None:
        self._sql.execute(
            "UPDATE parcel SET expires = ?, stored_at = ? WHERE parcel = ?", (expires, self.running(), parcel)
        )

    def set_expiry(self, parcel: str, expires: float) -> None:
        self._sql.execute("UPDATE parcel SET expires = ? WHERE parcel = ?", (expires, parcel))

    def pin_tries(self, badge: str) -> int:
        row = self._sql.execute("SELECT tries FROM badge WHERE badge = ?", (badge,)).fetchone()
        return 0 if row is None else int(row[0])

    def save_pin_tries(self, badge: str, tries: int) -> None:
        self._sql.execute("INSERT OR REPLACE INTO badge (badge, tries) VALUES (?, ?)", (badge, tries))

    def tally(self, kind: str, reason: str) -> None:
        self._sql.execute(
            """INSERT INTO tally (kind, reason, minute, count) VALUES (?, ?, ?, 1)
               ON CONFLICT (kind, reason, minute) DO UPDATE SET count = count + 1""",
            (kind, reason, int(self.stamp.wall // _MINUTE)),
        )

    def finished_tallies(self) -> list[tuple[str, str, int, int]]:
        # "Not this minute" rather than "before": after a jump of the wall clock a row may lie in the future.
        minute = int(self.stamp.wall // _MINUTE)
        rows = self._sql.execute(
            "DELETE FROM tally WHERE minute <> ? RETURNING kind, reason, minute, count", (minute,)
        ).fetchall()
        return sorted((str(kind), str(reason), int(at), int(count)) for kind, reason, at, count in rows)

    def booking(self, booking: str) -> Booking | None:
        row = self._sql.execute(f"{_BOOKING} WHERE booking = ?", (booking,)).fetchone()
        return None if row is None else _booking_of(row)

    def save_booking(self, booking: Booking) -> None:
        terms = (booking.size, booking.low, booking.hold_hours, booking.since)
        climate = None if booking.climate == Climate.AMBIENT.value else booking.climate
        what = (booking.group or None, booking.kind.value, booking.exchange or None, climate)
        self._sql.execute(
            """INSERT OR REPLACE INTO booking (booking, state, size, low, hold_hours, since, grouped, kind, exchange,
               climate) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            (booking.booking, booking.state.value, *terms, *what),
        )

    def bookings(self, state: BookingState) -> list[Booking]:
        rows = self._sql.execute(f"{_BOOKING} WHERE state = ? ORDER BY since", (state.value,))
        return [_booking_of(row) for row in rows]

    def group(self, group: str) -> list[Booking]:
        return [_booking_of(row) for row in self._sql.execute(f"{_BOOKING} WHERE grouped = ? ORDER BY since", (group,))]

    def note_remote_opening(self) -> None:
        self._sql.execute("INSERT INTO remote_opening (running) VALUES (?)", (self.running(),))

    def remote_openings(self, seconds: float) -> int:
        (count,) = self._sql.execute(
            "SELECT count(*) FROM remote_opening WHERE running > ?", (self.running() - seconds,)
        ).fetchone()
        return int(count)

    def _parcels(self, where: str, *values: object) -> list[Parcel]:
        rows = self._sql.execute(f"{_PARCEL} WHERE {where} ORDER BY parcel", values)
        return [_parcel_of(row) for row in rows]


def _parcel_of(row: tuple[str, str, str, str, str, str | None, float | None, float | None, int]) -> Parcel:
    parcel, door, state, courier, run, batch, expires, stored_at, coded = row
    return Parcel(
        parcel=parcel,
        door=door,
        state=ParcelState(state),
        courier=courier,
        run=run,
        batch=batch or "",
        expires=expires,
        stored_at=stored_at,
        coded=bool(coded),
    )


def _booking_of(row: tuple[str, str, str, int, int, float, str | None, str | None, str | None, str | None]) -> Booking:
    booking, state, size, low, hold_hours, since, group, kind, exchange, climate = row
    return Booking(
        booking=booking,
        state=BookingState(state),
        size=size,
        low=bool(low),
        hold_hours=hold_hours,
        since=since,
        group=group or "",
        kind=BookingKind(kind) if kind else BookingKind.DELIVERY,
        exchange=exchange or "",
        climate=climate or Climate.AMBIENT.value,
    )


class Copies(Protocol):
    """Whoever writes the ledger's copies."""

    def changed(self) -> None:
        """The ledger is not what the copies say any more."""
        ...

    async def copied(self) -> None:
        """``locker.ledger.Store.copied``."""
        ...


class LedgerStore:
    """``locker.ledger.Store`` on the node's journal. ``copies`` hears of each transaction that changed the ledger."""

    def __init__(self, journal: SqlJournal, running: RunningTime, copies: Copies) -> None:
        self._journal = journal
        self._running = running
        self._copies = copies

    async def write(self, work: Callable[[Ledger], T], need: Need = Need.COLLECTION) -> T:
        changed = False

        def counted(transaction: SqlTransaction) -> T:
            nonlocal changed
            before = transaction.sql.total_changes
            result = work(SqlLedger(transaction, self._running))
            changed = transaction.sql.total_changes != before
            return result

        def tell(done: asyncio.Future[T]) -> None:
            if changed and not done.cancelled() and done.exception() is None:
                self._copies.changed()

        future = self._journal.write(counted, need)
        future.add_done_callback(tell)
        # The writer goes on when the caller leaves, such as one who was cut off from the link; so the copies must hear.
        return await asyncio.shield(future)

    async def copied(self) -> None:
        await self._copies.copied()

    async def keep(self, work: Callable[[SqlLedger], T]) -> T:
        """Housekeeping: what no rule of the locker asks for, and no copy is needed of."""
        return await self._journal.write(lambda transaction: work(SqlLedger(transaction, self._running)))
