"""Deposits and pickups at one site whose agent is killed in every life; then everything is collected and counted."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections import Counter
from pathlib import Path

from tests.crash.bench import Bench, NotInTimeError
from tests.crash.history import (
    JAMMED,
    OPENED,
    REQUESTED,
    UNKNOWN,
    Call,
    History,
    lock_of,
)
from tests.crash.journal_file import Entry, chain_faults

COLLECTED = "parcel.collected"
DEPOSITED = "parcel.deposited"


@dataclasses.dataclass(frozen=True)
class Plan:
    """Where a life ends. ``boundary`` "" with ``after`` seconds: at random, counted from the call, or with
    ``recovering`` from the start of the life. ``stuck``: the lock does not yield to its first three pulses.
    """

    boundary: str = ""
    nth: int = 1
    recovering: bool = False
    stuck: bool = False
    after: float | None = None


NAMED = (
    Plan(f"before:{REQUESTED}"),
    Plan(f"after:{REQUESTED}"),
    Plan(f"after:{REQUESTED}"),
    Plan("before:pulse"),
    Plan("before:pulse"),
    Plan("before:pulse"),
    Plan(f"after:{REQUESTED}", nth=2, stuck=True),
    Plan("after:pulse"),
    Plan("after:pulse", nth=3, stuck=True),
    Plan(f"before:{OPENED}"),
    Plan(f"before:{UNKNOWN}", recovering=True),
    Plan(f"before:{JAMMED}", stuck=True),
    Plan(f"after:{JAMMED}", stuck=True),
    Plan(f"after:{OPENED}"),
    Plan(f"before:{COLLECTED}"),
    Plan(f"after:{COLLECTED}"),
    Plan("before:ack"),
    Plan("after:ack"),
)
RANDOM = 5
"""Kills at random in each site, besides one at every named boundary."""
RECOVERING = 2
"""Of them, in a life that is still finding out what the one before left."""
KILLS = 1 + len(NAMED) + RANDOM
"""In each site; the first ends the life in which the first parcels came."""


@dataclasses.dataclass
class Toll:
    """What came of a suite: how many kills fell into each window, and all that should not have been."""

    windows: Counter[str] = dataclasses.field(default_factory=Counter)
    faults: list[str] = dataclasses.field(default_factory=list)

    def add(self, other: Toll) -> None:
        self.windows += other.windows
        self.faults += other.faults

    def table(self) -> str:
        return "\n".join(f"{count:>6}  {window}" for window, count in self.windows.most_common())


class Killing:
    """One site from its first deposit to its last event held."""

    def __init__(self, bench: Bench, seed: int) -> None:
        self._bench = bench
        self._chance = random.Random(seed)
        self.toll = Toll()
        self._entries: list[Entry] = []
        self._booked = 0
        self._asked = False
        self._requests_before = 0

    async def run(self, plans: list[Plan]) -> Toll:
        """Every plan in some order; ends at the first life that broke a promise."""
        await self._begin_with_parcels()
        for plan in plans:
            await self._one_life(plan)
            if self.toll.faults:
                return self.toll
        await self._finish()
        return self.toll

    def plans(self) -> list[Plan]:
        """All named boundaries and some random moments, shuffled."""
        moments = [Plan(after=self._chance.uniform(0.0, 0.15)) for _ in range(RANDOM - RECOVERING)]
        moments += [Plan(after=self._chance.uniform(0.05, 0.7), recovering=True) for _ in range(RECOVERING)]
        plans = [*NAMED, *moments]
        self._chance.shuffle(plans)
        return plans

    # -- a life ------------------------------------------------------------------------------------------------------

    async def _begin_with_parcels(self) -> None:
        await self._bench.begin()
        await self._bench.serving()
        for _ in range(3):
            await self._visit(self._next_booking())
        self._bench.kill()
        await self._count_kill()

    async def _one_life(self, plan: Plan) -> None:
        """Serve until the plan's kill has come, then hold everything against everything."""
        bench = self._bench
        self._asked = False
        boundary = plan.boundary
        await bench.begin(boundary, plan.nth, armed=plan.recovering and bool(boundary))
        killer = self._later(plan.after) if plan.recovering and plan.after is not None else None
        await bench.serving()
        if not bench.life.dead:
            self._check(bench.history())
        while not bench.life.dead:
            if killer is None:
                killer = self._arm(plan)
            await self._visit(self._next_visit(), stuck=plan.stuck)
            if plan.recovering and boundary:
                bench.kill()  # there was nothing to recover: the kill is a random one
        if killer is not None:
            killer.cancel()
        await self._count_kill()

    def _arm(self, plan: Plan) -> asyncio.TimerHandle | None:
        if plan.boundary:
            self._bench.arm()
            return None
        return self._later(plan.after or 0.0)

    def _later(self, seconds: float) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, self._bench.kill)

    async def _count_kill(self) -> None:
        bench = self._bench
        await bench.death()
        entries = bench.entries()
        history = bench.history(entries)
        acknowledged = bench.consumer.acknowledged
        self.toll.windows[
            history.window(asked=self._asked, requests_before=self._requests_before, acknowledged=acknowledged)
        ] += 1
        if entries[: len(self._entries)] != self._entries:
            self._fault("events that were in the journal are no longer there")
        self._entries = entries
        for lock in bench.open_locks():
            if self._chance.random() < 0.5:
                bench.board.call("close_door", board=0, lock=lock)

    # -- people ------------------------------------------------------------------------------------------------------

    def _next_booking(self) -> str:
        self._booked += 1
        return f"parcel-{self._booked}"

    def _next_visit(self) -> str:
        """A parcel that lies here; a new booking where few are left."""
        waiting = self._waiting()
        return self._next_booking() if len(waiting) < 2 else self._chance.choice(waiting)

    def _waiting(self) -> list[str]:
        """Parcels with a code whose door was not seen open since."""
        entries = self._bench.entries()
        used = self._bench.history(entries).used()
        return [parcel for parcel in self._bench.codes(entries) if parcel not in used]

    async def _visit(self, parcel: str, *, stuck: bool = False) -> None:
        """A person comes for ``parcel``, or brings it; shuts what stands open first. Ends early when the agent dies."""
        bench = self._bench
        await self._tidy()
        history = bench.history()
        known = parcel in bench.codes(bench.entries())
        self._requests_before = history.requested()
        if stuck:
            lock = next((lock_of(e["data"]["door"]) for e in history.journal if _concerns(e, parcel)), None)
            for one in range(16) if lock is None else [lock]:
                bench.board.call("fault", kind="stuck", board=0, lock=one, pulses=3)
        self._asked = True
        if known:
            call = await bench.collect(parcel, confirm=history.doubted(parcel))
        else:
            call = await bench.deposit(parcel)
        if call.status == 202:
            await self._at_the_door(call)
        elif call.status != 0:
            self._fault(f"{call.what} of {parcel} (confirm={call.confirm}) answered {call.status} {call.answer}")
            bench.kill()
        self._asked = self._asked and bench.life.dead
        bench.board.call("heal")

    async def _at_the_door(self, call: Call) -> None:
        bench, door = self._bench, call.answer["door"]
        session = call.answer["session"]

        async def over() -> bool:
            status, view = await bench.ask("GET", f"/api/sessions/{session}")
            return status == 200 and view["state"] != "unlocking"

        if not await bench.until_dead_or("the outcome", over):
            return
        if lock_of(door) not in bench.open_locks():
            return  # jammed
        item = "put_item" if call.what == "deposit" else "take_item"
        bench.board.call(item, board=0, lock=lock_of(door))
        await self._shut_and_wait(door)

    async def _tidy(self) -> None:
        for lock in self._bench.open_locks():
            await self._shut_and_wait(f"{lock + 1:02d}")

    async def _shut_and_wait(self, door: str) -> None:
        bench = self._bench
        await bench.shut(door)

        async def closed() -> bool:
            status, answer = await bench.ask("GET", "/api/doors")
            return status == 200 and all(one["state"] != "open" for one in answer["doors"])

        await bench.until_dead_or(f"door {door} to be seen closed", closed)

    # -- the count ---------------------------------------------------------------------------------------------------

    def _check(self, history: History) -> None:
        self.toll.faults += history.faults()

    def _fault(self, what: str) -> None:
        self.toll.faults.append(what)

    async def _finish(self) -> None:
        """A life without a kill: all parcels are collected, no used code works, every event is held."""
        bench = self._bench
        await bench.begin()
        await bench.serving()
        await self._tidy()
        while not self.toll.faults and (waiting := self._waiting()):
            await self._visit(waiting[0])
        await self._try_used_codes()
        entries = bench.entries()
        self._check(bench.history(entries))
        self._check_held(entries, all_held=await bench.consumer.until_all_held(len(entries), 20.0))
        bench.kill()
        await bench.death()

    async def _try_used_codes(self) -> None:
        history = self._bench.history()
        for parcel in sorted(history.used()):
            call = await self._bench.collect(parcel, confirm=True)
            if (call.status, call.answer.get("reason")) != (410, "used"):
                self._fault(f"the used code of {parcel} answered {call.status} {call.answer}")

    def _check_held(self, entries: list[Entry], *, all_held: bool) -> None:
        consumer = self._bench.consumer
        self.toll.faults += consumer.faults + chain_faults(entries)
        if not all_held:
            self._fault(f"{consumer.acknowledged} of {len(entries)} events are held")
        if consumer.entries[: len(entries)] != entries:
            self._fault("the consumer does not hold the node's journal")


def _concerns(event: dict[str, object], parcel: str) -> bool:
    data = event["data"]
    return isinstance(data, dict) and data.get("parcel") == parcel and "door" in data


async def run_suite(directory: Path, *, sites: int, at_once: int = 4, mutant: str = "") -> Toll:
    """Kill at ``sites`` sites, ``at_once`` of them beside each other; stops beginning new ones after a fault."""
    toll = Toll()
    turn = asyncio.Semaphore(at_once)

    async def one(seed: int) -> None:
        async with turn:
            if toll.faults:
                return
            async with Bench(directory / f"site-{seed}", mutant) as bench:
                killing = Killing(bench, seed)
                try:
                    await killing.run(killing.plans())
                except NotInTimeError as late:
                    killing.toll.faults.append(str(late))
            toll.add(killing.toll)

    await asyncio.gather(*(one(seed) for seed in range(sites)))
    return toll
