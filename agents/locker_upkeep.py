"""What a locker needs done beside its doors: copies of the ledger, counted refusals, hold times after an outage."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

from edge import log
from edge.clock import Clock
from edge.errors import StoreError
from locker import auditing, bookings, contract
from locker.contract import Reason, draft
from locker.ledger_file import newest_copy, read_ledger, write_copy
from locker.ledger_sql import LedgerStore, SqlLedger

COPY_PAUSE_S = 0.2
"""From a change to its copy: changes in a rush share one, and a pickup just committed is not disturbed."""
COPY_S = 3.0
"""For a copy that a deposit waits for before its pulse: a slower disk must not keep collections waiting."""
COPY_RETRY_S = 1.0
"""Until the next try where the disk did not take a copy."""
SWEEP_S = 10.0
OUTAGE_S = 60.0
"""A pause of the node that counts as an outage; a restart takes a few seconds."""


class LockerUpkeep:
    """Tasks of the role agent; none of them is on the path of a pickup."""

    def __init__(self, database: Path, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._log = log.get_logger("agents.locker_upkeep")
        self._changed = asyncio.Event()
        self._wanted = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []

    def changed(self) -> None:
        """The ledger is not what the copies say any more."""
        self._changed.set()

    async def copied(self) -> None:
        """Return when a copy holds all that was written by now.

        Raises ``StoreError`` if the disk does not take it within ``COPY_S``.
        """
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._changed.set()
        self._wanted.set()
        patience = asyncio.ensure_future(self._clock.sleep(COPY_S))
        try:
            await asyncio.wait({waiter, patience}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            patience.cancel()
        if not waiter.done():
            waiter.cancel()
            raise StoreError(f"no copy of the ledger within {COPY_S:.0f} s", remedy="look at the disk")
        waiter.result()

    async def write_copies(self) -> None:
        """Write a copy now and after every change, for ever."""
        newest = await asyncio.to_thread(newest_copy, self._database)
        number = newest.number if newest else 0
        while True:
            self._changed.clear()
            self._wanted.clear()
            if not await self._write_copy(number + 1):
                await self._clock.sleep(COPY_RETRY_S)
                continue
            number += 1
            await self._changed.wait()
            await self._pause()

    async def _write_copy(self, number: int) -> bool:
        """Whether the disk took it. Whoever waited for it hears, also when this task dies of something else."""
        waiting, self._waiting = self._waiting, []
        fault = "its task has died"
        try:
            await asyncio.to_thread(_copy, self._database, number)
            fault = ""
        except (OSError, sqlite3.Error) as error:
            fault = str(error)
            self._log.error("ledger.not_copied", fault=fault)
        finally:
            _answer(waiting, fault)
        return not fault

    async def _pause(self) -> None:
        """Let a rush of changes pass, unless somebody waits for the copy."""
        pause = asyncio.ensure_future(self._clock.sleep(COPY_PAUSE_S))
        wanted = asyncio.ensure_future(self._wanted.wait())
        try:
            await asyncio.wait({pause, wanted}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            pause.cancel()
            wanted.cancel()

    async def sweep(self, store: LedgerStore, serviceable: Callable[[], set[str]]) -> None:
        """Every few seconds: running time, refusals of the minutes that are over, hold times that did not run.

        ``serviceable`` tells which doors can be opened; behind the others a customer cannot collect.
        """
        last = self._clock.mono()
        while True:
            now = self._clock.mono()
            works, passed, last = serviceable(), now - last, now
            if await store.keep(lambda ledger: _sweep(ledger, works, passed)):  # noqa: B023 - awaited at once
                self.changed()
            await self._clock.sleep(SWEEP_S)


def _answer(waiting: list[asyncio.Future[None]], fault: str) -> None:
    for waiter in waiting:
        if waiter.done():
            continue
        if fault:
            failed = StoreError(f"the ledger could not be copied: {fault}", remedy="free disk space; it is tried again")
            waiter.set_exception(failed)
        else:
            waiter.set_result(None)


def _sweep(ledger: SqlLedger, works: set[str], passed: float) -> bool:
    """Returns whether the copies should have what changed."""
    outage = ledger.save_running()
    changed = outage > OUTAGE_S and ledger.prolong(outage)
    shut = [row.door for row in ledger.compartments() if row.door not in works]
    if shut and passed > 0:
        changed = ledger.prolong(passed, shut) or changed
    for kind, reason, minute, count in ledger.finished_tallies():
        changed = True
        ledger.append(draft(_refused(kind, reason, minute, count)))
    changed = bookings.lapse(ledger) or changed
    changed = auditing.lapse(ledger) or changed
    ledger.forget_old()
    return changed


def _refused(kind: str, reason: str, minute: int, count: int) -> contract.Event:
    if kind == "code":
        return contract.CodeRefused(reason=Reason(reason), minute=minute, count=count)
    if kind == "voucher":
        return contract.VoucherRefused(reason=Reason(reason), minute=minute, count=count)
    return contract.BadgeRefused(cause=reason, minute=minute, count=count)


def _copy(database: Path, number: int) -> None:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, isolation_level=None, timeout=5.0)
    try:
        write_copy(database, read_ledger(connection, number))
    finally:
        connection.close()
