"""What the journal needs done beside the path of a pickup: seals in time, anchor, checkpoints, deleting, thinning."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

from edge.anchor_file import Anchor, write_anchor
from edge.clock import Clock
from edge.errors import StoreCorrupt, StoreFull
from edge.journal import Limits
from edge.journal_keep_sql import delete_acknowledged, thin
from edge.journal_log_file import LOG_BYTES, lengthen_log, log_bytes
from edge.journal_place_file import Place
from edge.journal_sql import SqlJournal, SqlTransaction
from edge.journal_writer_sql import store_error
from edge.reserve_file import NO_SPACE, Reserve
from edge.schema_sql import write_fact

TICK_S = 0.25
"""A seal is due after 2 s; looking four times a second keeps it near."""
CHECKPOINT_EVERY = 4
SWEEP_EVERY = 40
"""Ticks between two looks at what may be deleted: 10 s."""
LONG_LOG = LOG_BYTES // 2
"""Bytes from which the log is brought into the database: what comes until then still finds room in its file."""


class Upkeep:
    """One per journal. ``progress`` is called after every round that the journal's writer has answered."""

    def __init__(
        self, journal: SqlJournal, place: Place, limits: Limits, clock: Clock, progress: Callable[[], None]
    ) -> None:
        self._journal = journal
        self._place = place
        self._limits = limits
        self._clock = clock
        self._progress = progress
        self._anchored = Anchor("", 0, 0, 0)

    async def run(self) -> None:
        """For ever. Raises ``StoreError`` when the journal has ended: then the process must.

        A full disk ends nothing: what did not go this time is tried again.
        """
        house = asyncio.create_task(self._keep_house(), name="journal-house")
        try:
            while not house.done():
                with contextlib.suppress(StoreFull):
                    await self._journal.seal_if_due()
                await self._clock.sleep(TICK_S)
            await house
        finally:
            house.cancel()
            await asyncio.wait([house])

    async def _keep_house(self) -> None:
        tick = 0
        while True:
            with contextlib.suppress(StoreFull):
                await self.anchor(every_class=tick % SWEEP_EVERY == 0)
                if tick % CHECKPOINT_EVERY == 0:
                    await self._checkpoint()
                if tick % SWEEP_EVERY == 0:
                    await self._sweep()
            tick += 1
            # Whatever the answer is, it says that the writer lives.
            with contextlib.suppress(StoreFull):
                await self._journal.write(lambda _: None)
            self._progress()
            await self._clock.sleep(TICK_S)

    async def anchor(self, *, every_class: bool) -> None:
        """Write down how far the journal has come, once that is on the disk.

        State and telemetry alone are worth a write only now and then: it costs as much as their own.
        """

        def come(transaction: SqlTransaction) -> Anchor:
            return Anchor(transaction.head.epoch, *transaction.head.last)

        now, before = await self._journal.write(come), self._anchored
        if now != before and (every_class or (now.epoch, now.audit) != (before.epoch, before.audit)):
            try:
                await asyncio.to_thread(write_anchor, self._place.anchor, now)
            except OSError as error:
                if error.errno not in NO_SPACE:
                    raise
                return  # the old one stands: it never leads
            self._anchored = now

    async def _checkpoint(self) -> None:
        await asyncio.to_thread(lengthen_log, self._place.log)
        try:
            brought = await asyncio.to_thread(checkpoint, self._place.database)
        except StoreCorrupt as damage:
            self._journal.condemn(damage)
            return
        if brought:
            # The first commit after it begins the log anew, which costs a sync more: that one shall be no customer's.
            await self._journal.write(lambda transaction: write_fact(transaction.sql, "log/begun", ""))

    async def _sweep(self) -> None:
        limits = self._limits
        while await self._journal.write(lambda transaction: delete_acknowledged(transaction, limits)):
            await self._clock.sleep(0)
        while await self._journal.write(lambda transaction: thin(transaction, limits)):
            await self._clock.sleep(0)
        await asyncio.to_thread(Reserve(self._place.reserve, limits.reserve_bytes).hold)


def checkpoint(database: Path) -> bool:
    """Bring a long log into the database on a connection of its own: a PASSIVE checkpoint waits for nobody.

    Returns whether all of it was brought. Raises ``StoreCorrupt`` for a damaged database. If it is busy, or the disk
    full, the next round tries again; the writer's own bound on the log holds meanwhile.
    """
    if log_bytes(Place(database).log) < LONG_LOG:
        return False
    connection = sqlite3.connect(database, isolation_level=None, timeout=0.0)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        busy, long, brought = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.Error as error:
        told = store_error(error)
        if isinstance(told, StoreCorrupt):
            raise told from error
        return False
    finally:
        connection.close()
    return not busy and long == brought
