"""Keeps what the node knows of time in its database, so that a restart forgets neither the floor nor a step."""

from __future__ import annotations

from functools import partial

import msgspec

from edge.floored_clock import FlooredClock, Memory
from edge.journal_sql import SqlJournal, SqlTransaction
from edge.schema_sql import read_fact, write_fact

LOOK_EVERY_S = 10.0
"""A step is noted this soon, also when nothing else looks at the clock."""

_TIME = "time"


async def resume_time(journal: SqlJournal, clock: FlooredClock) -> None:
    """Give the clock what earlier runs have stored; before that it trusts nobody."""
    stored = await journal.write(lambda transaction: read_fact(transaction.sql, _TIME))
    clock.resume(Memory() if stored is None else msgspec.json.decode(stored, type=Memory))


async def keep_time(journal: SqlJournal, clock: FlooredClock) -> None:
    """For ever: store what the clock has learnt, when that is worth a write."""
    stored = Memory()
    while True:
        if clock.worth_storing(stored):
            stored = clock.memory
            await journal.write(partial(_store, msgspec.json.encode(stored).decode()))
        await clock.sleep(LOOK_EVERY_S)


def _store(told: str, transaction: SqlTransaction) -> None:
    write_fact(transaction.sql, _TIME, told)
