"""Keeps what the node knows of time in its database, so that a restart forgets neither the floor nor a step."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import cast

import msgspec

from edge.command import Command
from edge.command_desk import Act, Ended, Take
from edge.floored_clock import STEP_S, FlooredClock, Memory
from edge.journal_sql import SqlJournal, SqlTransaction
from edge.result import Status
from edge.schema_sql import read_fact, write_fact
from edge.time_command import SetTime, require_agreement

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


def set_time(journal: SqlJournal, clock: FlooredClock) -> Act:
    """What the command ``time`` does: the clock's new memory is kept with the command, then taken up."""

    async def act(command: Command, args: msgspec.Struct, take: Take, _: Ended) -> None:
        said = cast("SetTime", args)
        require_agreement(said, command.claims.subject, clock.machine_wall(), STEP_S)
        righted = clock.righted(said.wall)

        def work(transaction: SqlTransaction) -> None:
            _store(msgspec.json.encode(righted).decode(), transaction)
            take(transaction, Status.DONE)

        def taken_up(done: asyncio.Future[None]) -> None:
            if not done.cancelled() and done.exception() is None:
                clock.resume(righted)

        written = journal.write(work)
        written.add_done_callback(taken_up)
        # The writer goes on when whoever offered the command is cut off, and so must the clock.
        await asyncio.shield(written)

    return act


def _store(told: str, transaction: SqlTransaction) -> None:
    write_fact(transaction.sql, _TIME, told)
