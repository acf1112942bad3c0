"""What the journal needs done beside the path of a pickup: seals in time, the anchor, checkpoints, deleting, thinning."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

from edge.anchor_file import Anchor, write_anchor
from edge.clock import Clock
from edge.event import EventClass
from edge.journal import Limits
from edge.journal_keep_sql import delete_acknowledged, thin
from edge.journal_open_sql import Place
from edge.journal_sql import SqlJournal
from edge.reserve_file import Reserve

TICK_S = 0.25
"""A seal is due after 2 s; looking four times a second keeps it near."""
CHECKPOINT_EVERY = 4
SWEEP_EVERY = 40
"""Ticks between two looks at what may be deleted: 10 s."""
WAL_BYTES = 4 * 1024 * 1024
"""SQLite's own default of 1000 pages: beyond it a reader's look-ups in the log grow slow."""


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
        self._anchored = Anchor("", 0)

    async def run(self) -> None:
        """For ever; also a seal's two seconds are counted here, because nobody else looks at the clock."""
        tick = 0
        while True:
            await self._journal.seal_if_due()
            await self.anchor()
            if tick % CHECKPOINT_EVERY == 0:
                await asyncio.to_thread(_checkpoint, self._place.database)
            if tick % SWEEP_EVERY == 0:
                await self._sweep()
            tick += 1
            await self._journal.write(lambda _: None)
            self._progress()
            await self._clock.sleep(TICK_S)

    async def anchor(self) -> None:
        """Write down how far the journal has come, once that is on the disk."""
        head = self._journal.head
        now = await self._journal.write(lambda _: Anchor(head.epoch, head.last[EventClass.AUDIT]))
        if now != self._anchored:
            await asyncio.to_thread(write_anchor, self._place.anchor, now)
            self._anchored = now

    async def _sweep(self) -> None:
        limits = self._limits
        while await self._journal.write(lambda transaction: delete_acknowledged(transaction, limits)):
            await self._clock.sleep(0)
        while await self._journal.write(lambda transaction: thin(transaction, limits)):
            await self._clock.sleep(0)
        await asyncio.to_thread(Reserve(self._place.reserve, limits.reserve_bytes).hold)


def _checkpoint(database: Path) -> None:
    """Bring the log into the database on a connection of its own: a PASSIVE checkpoint waits for nobody."""
    try:
        if Path(f"{database}-wal").stat().st_size < WAL_BYTES:
            return
    except FileNotFoundError:
        return
    connection = sqlite3.connect(database, isolation_level=None, timeout=0.0)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    except sqlite3.OperationalError:
        return  # busy or full: the next round tries again, and the writer's own bound holds meanwhile
    finally:
        connection.close()
