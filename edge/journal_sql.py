"""The journal on SQLite: one writer thread, many callers, one fsync for all who wait.

While the thread writes one transaction the next one gathers, and whoever is ready in the same turn of the event loop is
in it. Under load the batches grow by themselves; a lone caller waits for nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from edge.clock import Clock
from edge.errors import StoreCorrupt, StoreError
from edge.event import Draft, EventClass
from edge.journal import Head, Need
from edge.journal_writer_sql import Item, SqlTransaction, Writer

__all__ = ["SqlJournal", "SqlTransaction"]

T = TypeVar("T")

MAX_BATCH = 2000
"""Pieces of work in one transaction: above about 1000 rows the fsync no longer shows, and the first caller waits for
all.
"""

_AUDIT = EventClass.AUDIT


class SqlJournal:
    """``edge.journal.Journal`` on an open database. ``edge.journal_open_sql.open_journal`` makes one."""

    def __init__(self, writer: Writer, clock: Clock, suspect: Path) -> None:
        self._writer = writer
        self._clock = clock
        self._suspect = suspect
        self._waiting: list[Item] = []
        self._gathering = False
        self._batches: queue.SimpleQueue[list[Item] | None] = queue.SimpleQueue()
        self._writing: list[Item] = []
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: StoreError | None = None
        self.on_growth: Callable[[], None] = lambda: None
        """Called in the event loop after each commit that added events."""

    @property
    def head(self) -> Head:
        """The growing end. The writer thread moves it: read it elsewhere only for display, or inside ``work``."""
        return self._writer.head

    @property
    def session(self) -> str:
        """The random id of this run."""
        return self._writer.session

    def start(self) -> None:
        """Start the writer thread for the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Write what waits, then end the thread and close the database."""
        if self._over is None and self._thread is not None:
            last = self.write(lambda _: None)
            self._over = StoreError("the journal is closed", remedy="nothing was done; the process is stopping")
            with contextlib.suppress(StoreError):
                await last
        if self._thread is not None:
            self._batches.put(None)
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join)
            self._thread = None
        self._writer.close()

    def append(self, draft: Draft) -> asyncio.Future[None]:
        """Await the result: the event is on the disk. Raises ``StoreError`` or ``ProtocolError``."""
        future, need = self._future(), Need.COLLECTION if draft.event_class is _AUDIT else Need.EXTRA
        self._waiting.append(Item(None, draft, need, future))
        self._gather()
        return future

    def write(self, work: Callable[[SqlTransaction], T], need: Need = Need.COLLECTION) -> asyncio.Future[T]:
        """Await the result of ``work``; see ``edge.journal.Journal.write``."""
        future = self._future()
        self._waiting.append(Item(work, None, need, future))
        self._gather()
        return future

    async def seal_if_due(self) -> None:
        """Seal what has waited long enough; a supervised task calls this a few times a second."""
        if self.head.seal_due(self._clock.mono()):
            await self.write(lambda _: None)

    def condemn(self, damage: StoreCorrupt) -> None:
        """The database is damaged: mark it, so that the next start rebuilds it, and write nothing more."""
        self._end(damage)
        self._suspect.touch()

    def _future(self) -> asyncio.Future[Any]:
        if self._over is not None:
            raise self._over.with_traceback(None)
        if self._loop is None:
            raise StoreError("the journal is not started", remedy="nothing was done; call start first")
        return self._loop.create_future()

    def _gather(self) -> None:
        """Hand over at the end of this turn of the loop, so that all who are ready in it share the transaction."""
        if self._loop is not None and not self._gathering and not self._writing:
            self._gathering = True
            self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        self._gathering = False
        self._writing, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
        if self._writing:
            self._batches.put(self._writing)

    def _run(self) -> None:
        """The writer thread."""
        alive = False
        try:
            while (batch := self._batches.get()) is not None:
                grew = self._writer.write(batch)
                self._tell(self._answer, grew)
            alive = True
        finally:
            # Whatever killed the thread, nobody waits for it any longer; the hook of the interpreter tells what it was.
            if not alive:
                lost = StoreError("the journal's writer has died", remedy="the process restarts; see the log")
                self._tell(self._end, lost)

    def _tell(self, what: Callable[[Any], None], about: object) -> None:
        # The loop is closed only when the process stops without having closed the journal.
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(what, about)

    def _answer(self, grew: bool) -> None:  # noqa: FBT001  the loop hands it on by position
        batch, self._writing = self._writing, []
        for item in batch:
            future = item.future
            if future is None or future.done():
                continue
            if item.error is None:
                future.set_result(item.result)
            else:
                future.set_exception(item.error)
        if isinstance(self._writer.failure, StoreCorrupt):
            self.condemn(self._writer.failure)
        elif self._writer.failure is not None:
            self._end(self._writer.failure)
        elif self._waiting:
            self._gather()
        if grew:
            self.on_growth()

    def _end(self, error: StoreError) -> None:
        """Nothing is written any more. Whoever waits hears why, and so does whoever comes later."""
        if self._over is None:
            self._over = error
        left, self._writing, self._waiting = self._writing + self._waiting, [], []
        for item in left:
            if item.future is not None and not item.future.done():
                item.future.set_exception(error)
