"""The writer's half of the journal: turns whatever waits into one transaction, in a thread of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
from sqlalchemy.dialects.sqlite import insert as upsert

from edge import schema_sql
from edge.clock import Clock
from edge.errors import ProtocolError, StoreCorrupt, StoreError, StoreFull
from edge.event import (
    BEGUN,
    SEALED,
    Draft,
    Envelope,
    EventClass,
    JournalBegun,
    JournalSealed,
    Origin,
    Stamp,
    link_hash,
    with_signature,
)
from edge.identifiers import Randomness, uuid7, uuid7_run
from edge.journal import Head, Need, Sealer
from edge.reserve_file import Reserve
from edge.schema_sql import AUDIT, CLASS_NUMBERS, STATE, compiled, place

REBUILT = "rebuilt"
"""The fact that marks a database built from a damaged one, until the epoch that tells of it has begun."""

_INSERT_EVENT = "INSERT INTO event (place, body, hash) VALUES (?, ?, ?)"
_AT_ONCE = 50
"""Rows of one statement where there are so many: a third cheaper than one by one, and more would gain little."""
_INSERT_EVENTS = _INSERT_EVENT + ", (?, ?, ?)" * (_AT_ONCE - 1)
_VALUES = 3
_newest = upsert(schema_sql.newest_state)
_NEWEST_STATE = compiled(
    _newest.on_conflict_do_update(index_elements=["subject"], set_={"place": _newest.excluded.place})
)
_CALLERS_OWN = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH}
"""What one caller's statement can do wrong without any harm to the transaction around it."""
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PASSING = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
"""After these a COMMIT is known not to have happened, and the next one may."""


class Item(msgspec.Struct, gc=False):
    """One caller's work and where its answer goes. ``draft`` alone is the short way for a single event."""

    work: Callable[[SqlTransaction], Any] | None
    draft: Draft | None
    need: Need
    future: asyncio.Future[Any] | None = None
    result: Any = None
    error: BaseException | None = None


class SqlTransaction:
    """What ``work`` sees: ``append``, and the driver's connection for tables kept with the journal."""

    def __init__(self, connection: sqlite3.Connection, writer: Writer) -> None:
        self.sql = connection
        self._writer = writer

    def append(self, draft: Draft) -> None:
        self._writer.append(draft)

    @property
    def stamp(self) -> Stamp:
        """The time that all events of this transaction carry."""
        return self._writer.stamp

    def require(self, need: Need) -> None:
        """For work that finds out what it needs only from what it reads. Raises ``StoreFull``, and nothing is kept."""
        self._writer.require(need)

    @property
    def head(self) -> Head:
        """Where the journal ends, the events of this transaction among it. To be read only."""
        return self._writer.head

    def begin_epoch(self, cause: str, *, previous: str, last_seq: int | None) -> None:
        """Give no further number of the present epoch; see ``edge.event.JournalBegun``."""
        self._writer.begin_epoch(cause, previous, last_seq)


class Writer:
    """Owns the connection and the head; everything here runs in one thread at a time."""

    def __init__(  # noqa: PLR0913  everything it touches is handed in
        self,
        connection: sqlite3.Connection,
        *,
        head: Head,
        source: str,
        session: str,
        clock: Clock,
        random: Randomness,
        sealer: Sealer,
        reserve: Reserve,
        consumers: Iterable[str],
    ) -> None:
        self.head = head
        self.session = session
        self.stamp = Stamp(0.0, 0.0, trusted=False)
        self.failure: StoreError | None = None
        """Why nothing may be written any more; the process has to start anew."""
        self._connection = connection
        self._source = source
        self._clock = clock
        self._random = random
        self._sealer = sealer
        self._reserve = reserve
        self._consumers = tuple(consumers)
        self._transaction = SqlTransaction(connection, self)
        self._rows: list[int | bytes | None] = []
        self._states: list[dict[str, Any]] = []
        self._ids: Iterator[str] = iter(())
        self._open_envelope()

    def write(self, batch: list[Item]) -> bool:
        """Do the work of all in one transaction; each finds its result or its error. Returns whether events came."""
        before, committing = self.head.mark(), False
        try:
            self._work(batch)
            committing = True
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._undo(before)
            self._answer(batch, error, committing=committing)
        return self.head.mark() != before

    def require(self, need: Need) -> None:
        """``SqlTransaction.require``."""
        if need is not Need.COLLECTION and not self._reserve.held:
            raise _full("the disk reserve is in use")

    def begin_epoch(self, cause: str, previous: str, last_seq: int | None) -> None:
        """Within ``work``: leave the present epoch as it is and begin the next with ``node.journal.begun``."""
        head, sql, names = self.head, self._connection, self._consumers
        self._flush()
        told = JournalBegun(previous, last_seq, cause, head.audit, head.hash.hex() if head.audit else "")
        epoch = uuid7(self.stamp.wall, self._random(10))
        head.begin(epoch, insert_epoch(sql, epoch, previous, self._sealer.kid, names), dict.fromkeys(names, 1))
        sql.execute("DELETE FROM fact WHERE name = ?", (REBUILT,))
        self._open_envelope()
        self.append(Draft(EventClass.AUDIT, BEGUN, "journal", told))

    def append(self, draft: Draft) -> None:
        """Number, chain and encode an event of the transaction under way."""
        kind = draft.event_class.number
        self._keep(draft, kind, self._encode(draft, kind))

    def close(self) -> None:
        self._connection.close()

    def _work(self, batch: list[Item]) -> None:
        clock, held = self._clock, self._reserve.held
        self.stamp = Stamp(clock.wall(), clock.mono(), clock.trusted())
        self._ids = uuid7_run(self.stamp.wall, self._random(10))
        self._open_envelope()
        self._connection.execute("BEGIN IMMEDIATE")
        for item in batch:
            if not held and item.need is not Need.COLLECTION:
                item.error = _full("the disk reserve is in use")
            elif item.draft is not None:
                self._do_draft(item, item.draft)
            elif item.work is not None:
                self._do_work(item, item.work, alone=len(batch) == 1)
        if self.head.seal_due(self.stamp.mono):
            self._seal()
        self._flush()

    def _answer(self, batch: list[Item], error: sqlite3.Error, *, committing: bool) -> None:
        """Tell everybody what went wrong, or do again what may use the reserve."""
        if _code(error) == sqlite3.SQLITE_FULL and self._reserve.release():
            self._retry_on_reserve(batch)
            return
        told = store_error(error)
        if isinstance(told, StoreCorrupt) or (committing and _code(error) not in _PASSING):
            # After a COMMIT that failed, only opening the file again shows what is in it.
            self.failure = told
        for item in batch:
            item.error = told

    def _retry_on_reserve(self, batch: list[Item]) -> None:
        """The disk was full and the reserve is given up: write only what may use it."""
        urgent = []
        for item in batch:
            item.error = None if item.need is Need.COLLECTION else _full("the disk is full")
            if item.error is None:
                urgent.append(item)
        if urgent:
            self.write(urgent)

    def _do_draft(self, item: Item, draft: Draft) -> None:
        try:
            self.append(draft)
            item.error = None
        except (ProtocolError, TypeError, ValueError) as error:
            item.error = error

    def _do_work(self, item: Item, work: Callable[[SqlTransaction], Any], *, alone: bool) -> None:
        """One caller's work; in a savepoint, unless nobody shares the transaction."""
        connection = self._connection
        if not alone:
            self._flush()
            connection.execute("SAVEPOINT item")
        mark = self.head.mark()
        try:
            item.result = work(self._transaction)
            item.error = None
            self._flush()
        except Exception as error:
            # Raised again in the caller, who alone knows what it means.
            if isinstance(error, sqlite3.Error) and _code(error) not in _CALLERS_OWN:
                raise
            item.error = error
            self._undo(mark, "ROLLBACK" if alone else "ROLLBACK TO item")
            if alone:
                connection.execute("BEGIN IMMEDIATE")
        if not alone:
            connection.execute("RELEASE item")

    def _open_envelope(self) -> None:
        head = self.head
        self._envelope = Envelope(Origin(self._source, head.epoch, self.session), self.stamp)
        self._bases = [place(head.epoch_no, kind) for kind in CLASS_NUMBERS.values()]

    def _encode(self, draft: Draft, kind: int) -> bytes:
        head = self.head
        return self._envelope.encode(
            draft, event_id=next(self._ids), seq=head.last[kind] + 1, prev=head.hash if kind == AUDIT else None
        )

    def _keep(self, draft: Draft, kind: int, body: bytes) -> None:
        head, digest = self.head, None
        seq = head.last[kind] = head.last[kind] + 1
        at = self._bases[kind] + seq
        if kind == AUDIT:
            digest = head.hash = link_hash(head.hash, body)
            if head.unsealed_since is None:
                head.unsealed_since = self.stamp.mono
        elif kind == STATE:
            self._states.append({"subject": draft.subject, "place": at})
        self._rows += (at, body, digest)

    def _seal(self) -> None:
        """End the unsealed run with the role key's signature over the chain."""
        head = self.head
        data = JournalSealed(head.first_unsealed, self._sealer.kid, head.starts)
        draft = Draft(EventClass.AUDIT, SEALED, "journal", data)
        unsigned = self._encode(draft, AUDIT)
        self._keep(draft, AUDIT, with_signature(unsigned, self._sealer.sign(unsigned)))
        head.first_unsealed = head.audit + 1
        head.unsealed_since = None

    def _flush(self) -> None:
        rows, execute = self._rows, self._connection.execute
        if rows:
            many = len(rows) - len(rows) % (_AT_ONCE * _VALUES)
            for at in range(0, many, _AT_ONCE * _VALUES):
                execute(_INSERT_EVENTS, rows[at : at + _AT_ONCE * _VALUES])
            for at in range(many, len(rows), _VALUES):
                execute(_INSERT_EVENT, rows[at : at + _VALUES])
            rows.clear()
        if self._states:
            self._connection.executemany(_NEWEST_STATE, self._states)
            self._states.clear()

    def _undo(self, mark: tuple[Any, ...], statement: str = "ROLLBACK") -> None:
        self._rows.clear()
        self._states.clear()
        self.head.rewind(mark)
        self._open_envelope()
        if self._connection.in_transaction:
            self._connection.execute(statement)


def insert_epoch(
    connection: sqlite3.Connection, epoch: str, previous: str, instance: str, consumers: Iterable[str]
) -> int:
    """Write a new epoch and a cursor at its beginning for every consumer; returns the epoch's number in this file."""
    number = connection.execute(
        "INSERT INTO epoch (id, previous, instance) VALUES (?, ?, ?)", (epoch, previous, instance)
    ).lastrowid
    connection.executemany(
        "INSERT INTO cursor (consumer, epoch_no, class, starts, seq) VALUES (?, ?, ?, 1, 0)",
        [(consumer, number, kind) for consumer in consumers for kind in CLASS_NUMBERS.values()],
    )
    return int(number or 0)


def store_error(error: sqlite3.Error) -> StoreError:
    """What the driver's error means for the caller."""
    code = _code(error)
    if code == sqlite3.SQLITE_FULL:
        return _full("the disk is full")
    if code in _DAMAGE:
        return StoreCorrupt(f"the database is damaged: {error}", remedy="the node restarts and rebuilds it")
    return StoreError(f"the database did not take it: {error}", remedy="nothing was done; look at the disk")


def _full(what: str) -> StoreFull:
    return StoreFull(what, remedy="free disk space on the node; collections go on from the reserve")


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; SQLITE_ERROR for what the driver refused by itself."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
