"""What a locker needs done beside its doors: copies of the ledger, counted refusals, hold times after an outage."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from edge.clock import Clock
from locker import contract
from locker.contract import Reason, draft
from locker.ledger_file import newest_copy, read_ledger, write_copy
from locker.ledger_sql import LedgerStore, SqlLedger

COPY_PAUSE_S = 0.2
"""Between two copies: changes in a rush share one, and none is missing for longer."""
SWEEP_S = 10.0
OUTAGE_S = 60.0
"""A pause of the node that counts as an outage; a restart takes a few seconds."""


class LockerUpkeep:
    """Tasks of the role agent; none of them is on the path of a pickup."""

    def __init__(self, database: Path, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._changed = asyncio.Event()
        self._outage_looked_at = False

    def changed(self) -> None:
        """The ledger is not what the copies say any more."""
        self._changed.set()

    async def write_copies(self) -> None:
        """Write a copy after every change, for ever."""
        newest = await asyncio.to_thread(newest_copy, self._database)
        number = newest.number if newest else 0
        while True:
            await self._changed.wait()
            self._changed.clear()
            number += 1
            await asyncio.to_thread(_copy, self._database, number)
            await self._clock.sleep(COPY_PAUSE_S)

    async def sweep(self, store: LedgerStore) -> None:
        """Every few seconds: running time, refusals of the minutes that are over, and what an outage moved."""
        while True:
            await store.keep(self._sweep)
            await self._clock.sleep(SWEEP_S)

    def _sweep(self, ledger: SqlLedger) -> None:
        if ledger.stamp.trusted and not self._outage_looked_at:
            self._outage_looked_at = True
            outage = ledger.stamp.wall - ledger.floor() if ledger.floor() else 0.0
            if outage > OUTAGE_S:
                ledger.prolong(outage)
        ledger.save_running()
        for kind, reason, minute, count in ledger.finished_tallies():
            if kind == "code":
                event: contract.Event = contract.CodeRefused(reason=Reason(reason), minute=minute, count=count)
            else:
                event = contract.BadgeRefused(cause=reason, minute=minute, count=count)
            ledger.append(draft(event))


def _copy(database: Path, number: int) -> None:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, isolation_level=None, timeout=5.0)
    try:
        write_copy(database, read_ledger(connection, number))
    finally:
        connection.close()
