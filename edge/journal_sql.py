"""The journal on SQLite: one writer thread, many callers, one fsync for all who wait.

The thread takes whatever is waiting, writes it as one transaction and wakes the callers together. Under load the
batches grow by themselves; a lone caller waits for nobody.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from sqlalchemy.dialects.sqlite import insert as upsert

from edge import schema_sql
from edge.clock import Clock
from edge.errors import ProtocolError, StoreCorrupt, StoreError, StoreFull
from edge.event import (
    BEGUN,
    SEALED,
    Draft,
    EventClass,
    JournalBegun,
    JournalSealed,
    Origin,
    Stamp,
    encode,
    link_hash,
    with_signature,
)
from edge.identifiers import Randomness, uuid7
from edge.journal import Head, Need, Sealer
from edge.reserve_file import Reserve
from edge.schema_sql import CLASS_NUMBERS, compiled

T = TypeVar("T")

MAX_BATCH = 2000
"""Pieces of work in one transaction: above about 1000 rows the fsync no longer shows, and the first caller waits for
all.
"""

_INSERT_EVENT = "INSERT INTO event VALUES (?, ?, ?, ?, ?)"
_newest = upsert(schema_sql.newest_state)
_NEWEST_STATE = compiled(
    _newest.on_conflict_do_update(
        index_elements=["subject"], set_={"epoch_no": _newest.excluded.epoch_no, "seq": _newest.excluded.seq}
    )
)
_AUDIT = EventClass.AUDIT


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


class _Item:
    """One caller's work and where its answer goes. ``draft`` alone is the short way for a single event."""

    __slots__ = ("draft", "error", "future", "need", "result", "work")

    def __init__(
        self,
        work: Callable[[SqlTransaction], Any] | None,
        draft: Draft | None,
        need: Need,
        future: asyncio.Future[Any] | None,
    ) -> None:
        self.work = work
        self.draft = draft
        self.need = need
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None


class SqlTransaction:
    """What ``work`` sees: ``append``, and the driver's connection for tables kept with the journal."""

    def __init__(self, connection: sqlite3.Connection, journal: SqlJournal) -> None:
        self.sql = connection
        self._journal = journal

    def append(self, draft: Draft) -> None:
        self._journal._append(draft)  # noqa: SLF001  the two halves of one class

    @property
    def stamp(self) -> Stamp:
        """The time that all events of this transaction carry."""
        return self._journal._stamp  # noqa: SLF001


class SqlJournal:
    """``edge.journal.Journal`` on an open database. ``edge.journal_open_sql.open_journal`` makes one."""

    def __init__(
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
    ) -> None:
        self._connection = connection
        self._head = head
        self._source = source
        self._session = session
        self._clock = clock
        self._random = random
        self._sealer = sealer
        self._reserve = reserve
        self._transaction = SqlTransaction(connection, self)
        self._rows: list[tuple[int, int, int, bytes, bytes | None]] = []
        self._states: list[dict[str, Any]] = []
        self._stamp = Stamp(0.0, 0.0, trusted=False)
        self._lock = threading.Lock()
        self._waiting: list[_Item] = []
        self._bell: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self.on_growth: Callable[[], None] = lambda: None
        """Called in the event loop after each commit that added events."""

    @property
    def head(self) -> Head:
        """The growing end. The writer thread moves it: read it elsewhere only for display, or inside ``work``."""
        return self._head

    @property
    def session(self) -> str:
        """The random id of this run."""
        return self._session

    def start(self) -> None:
        """Start the writer thread for the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Write what waits, then end the thread and close the database."""
        if self._thread is None or self._closed:
            return
        self._closed = True
        self._bell.put(False)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)
        self._connection.close()

    def append(self, draft: Draft) -> asyncio.Future[None]:
        """Await the result: the event is on the disk. Raises ``StoreError`` or ``ProtocolError``."""
        return self._enqueue(None, draft, Need.COLLECTION if draft.event_class is _AUDIT else Need.EXTRA)

    def write(self, work: Callable[[SqlTransaction], T], need: Need = Need.COLLECTION) -> asyncio.Future[T]:
        """Await the result of ``work``; see ``edge.journal.Journal.write``."""
        return self._enqueue(work, None, need)

    async def seal_if_due(self) -> None:
        """Seal what has waited long enough; a supervised task calls this a few times a second."""
        if self._head.seal_due(self._clock.mono()):
            await self.write(lambda _: None)

    def begin_epoch_now(self, *, cause: str, last_seq: int | None, consumers: Iterable[str]) -> None:
        """Before ``start``: begin a new epoch in the caller's thread. Raises ``StoreError`` when the disk does not
        take it.
        """
        item = _Item(
            lambda transaction: self.begin_epoch(transaction, cause=cause, last_seq=last_seq, consumers=consumers),
            None,
            Need.COLLECTION,
            None,
        )
        self._write_batch([item])
        if item.error is not None:
            raise item.error

    def begin_epoch(
        self, transaction: SqlTransaction, *, cause: str, last_seq: int | None, consumers: Iterable[str]
    ) -> None:
        """Inside ``work``: leave this epoch as it is and begin the next one with ``node.journal.begun``."""
        names = tuple(consumers)
        head = self._head
        self._flush()
        told = JournalBegun(
            head.epoch, last_seq, cause, head.last[_AUDIT], head.hash.hex() if head.last[_AUDIT] else ""
        )
        epoch = uuid7(self._stamp.wall, self._random(10))
        head.begin(
            epoch, insert_epoch(transaction.sql, epoch, head.epoch, self._sealer.kid, names), dict.fromkeys(names, 1)
        )
        transaction.append(Draft(_AUDIT, BEGUN, "journal", told))

    def _enqueue(
        self, work: Callable[[SqlTransaction], Any] | None, draft: Draft | None, need: Need
    ) -> asyncio.Future[Any]:
        loop = self._loop
        if loop is None or self._closed:
            raise StoreError("the journal is closed", remedy="nothing was done; the process is stopping")
        future: asyncio.Future[Any] = loop.create_future()
        item = _Item(work, draft, need, future)
        with self._lock:
            self._waiting.append(item)
            first = len(self._waiting) == 1
        if first:
            self._bell.put(True)
        return future

    def _run(self) -> None:
        try:
            while self._bell.get():
                self._serve_waiting()
            self._serve_waiting()
        finally:
            # A caller must never wait for a thread that has died: whatever is left hears that it was not done.
            self._closed = True
            lost = StoreError("the journal's writer has ended", remedy="nothing was done; the process restarts")
            for item in self._waiting:
                item.error = lost
            self._tell(self._waiting, grew=False)

    def _serve_waiting(self) -> None:
        while self._waiting:
            with self._lock:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            before = dict(self._head.last)
            self._write_batch(batch)
            self._tell(batch, grew=self._head.last != before)

    def _tell(self, batch: list[_Item], *, grew: bool) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._answer, batch, grew)

    def _answer(self, batch: list[_Item], grew: bool) -> None:  # noqa: FBT001  the loop hands it on by position
        for item in batch:
            if item.future is None or item.future.done():
                continue
            if item.error is None:
                item.future.set_result(item.result)
            else:
                item.future.set_exception(item.error)
        if grew:
            self.on_growth()

    def _write_batch(self, batch: list[_Item]) -> None:
        mark = self._head.mark()
        try:
            self._commit(batch)
        except sqlite3.Error as error:
            self._undo(mark)
            if _is_full(error) and self._reserve.held:
                self._retry_on_reserve(batch)
                return
            for item in batch:
                item.error = _store_error(error)

    def _retry_on_reserve(self, batch: list[_Item]) -> None:
        """The disk is full: give the reserve up, and write only what may use it."""
        self._reserve.release()
        urgent = [item for item in batch if item.need is Need.COLLECTION]
        for item in batch:
            if item.need is not Need.COLLECTION:
                item.error = _full("the disk is full")
        if urgent:
            self._write_batch(urgent)

    def _commit(self, batch: list[_Item]) -> None:
        clock, connection = self._clock, self._connection
        self._stamp = Stamp(clock.wall(), clock.mono(), clock.trusted())
        connection.execute("BEGIN IMMEDIATE")
        reserve_held = self._reserve.held
        for item in batch:
            if not reserve_held and item.need is not Need.COLLECTION:
                item.error = _full("the disk reserve is in use")
            elif item.draft is not None:
                self._do_draft(item, item.draft)
            elif item.work is not None:
                self._do_work(item, item.work, alone=len(batch) == 1)
        if self._head.seal_due(self._stamp.mono):
            self._seal()
        self._flush()
        connection.execute("COMMIT")

    def _do_draft(self, item: _Item, draft: Draft) -> None:
        try:
            body = self._encode(draft)
        except (ProtocolError, TypeError, ValueError) as error:
            item.error = error
        else:
            self._keep(draft, body)

    def _do_work(self, item: _Item, work: Callable[[SqlTransaction], Any], *, alone: bool) -> None:
        """One caller's work; in a savepoint, unless nobody shares the transaction."""
        connection = self._connection
        if not alone:
            self._flush()
            connection.execute("SAVEPOINT item")
        mark = self._head.mark()
        try:
            item.result = work(self._transaction)
            item.error = None
        except Exception as error:  # noqa: BLE001  raised again in the caller, who alone knows what it means
            if isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.IntegrityError):
                raise
            item.error = error
            self._undo(mark, "ROLLBACK" if alone else "ROLLBACK TO item")
            if alone:
                connection.execute("BEGIN IMMEDIATE")
        if not alone:
            self._flush()
            connection.execute("RELEASE item")

    def _append(self, draft: Draft) -> None:
        self._keep(draft, self._encode(draft))

    def _encode(self, draft: Draft) -> bytes:
        head, stamp = self._head, self._stamp
        return encode(
            draft,
            origin=Origin(self._source, head.epoch, self._session),
            stamp=stamp,
            event_id=uuid7(stamp.wall, self._random(10)),
            seq=head.last[draft.event_class] + 1,
            prev=head.hash if draft.event_class is _AUDIT else None,
        )

    def _keep(self, draft: Draft, body: bytes) -> None:
        head, event_class, digest = self._head, draft.event_class, None
        seq = head.last[event_class] = head.last[event_class] + 1
        if event_class is _AUDIT:
            digest = head.hash = link_hash(head.hash, body)
            if head.unsealed_since is None:
                head.unsealed_since = self._stamp.mono
        elif event_class is EventClass.STATE:
            self._states.append({"subject": draft.subject, "epoch_no": head.epoch_no, "seq": seq})
        self._rows.append((head.epoch_no, CLASS_NUMBERS[event_class], seq, body, digest))

    def _seal(self) -> None:
        """End the unsealed run with the role key's signature over the chain."""
        head = self._head
        if head.unsealed == 0:
            return
        draft = Draft(_AUDIT, SEALED, "journal", JournalSealed(head.first_unsealed, self._sealer.kid, head.starts))
        unsigned = self._encode(draft)
        self._keep(draft, with_signature(unsigned, self._sealer.sign(unsigned)))
        head.first_unsealed = head.last[_AUDIT] + 1
        head.unsealed_since = None

    def _flush(self) -> None:
        if self._rows:
            self._connection.executemany(_INSERT_EVENT, self._rows)
            self._rows.clear()
        if self._states:
            self._connection.executemany(_NEWEST_STATE, self._states)
            self._states.clear()

    def _undo(self, mark: tuple[Any, ...], statement: str = "ROLLBACK") -> None:
        self._rows.clear()
        self._states.clear()
        self._head.rewind(mark)
        if self._connection.in_transaction:
            self._connection.execute(statement)


def _full(what: str) -> StoreFull:
    return StoreFull(what, remedy="free disk space on the node; collections go on from the reserve")


def _is_full(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def _store_error(error: sqlite3.Error) -> StoreError:
    """What the driver's error means for the caller."""
    if _is_full(error):
        return _full("the disk is full")
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return StoreCorrupt(f"the database is damaged: {error}", remedy="the node restarts and rebuilds it")
    return StoreError(f"the database did not take it: {error}", remedy="nothing was done; look at the disk")
