"""One run: a world, a plan, and the count; everything in processes of its own, so that nothing of it stays behind."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import signal
import sqlite3
import time
import traceback
from collections.abc import Generator, Iterator
from pathlib import Path

import msgspec

from edge.errors import LastmileError
from tests.crash.bench import NotInTimeError
from tests.crash.journal_file import Entry
from tests.faults import births, judge, linux, network
from tests.faults.hostile import Hostile
from tests.faults.judge import Count
from tests.faults.network import Network
from tests.faults.people import People
from tests.faults.plan import Moment, Plan, Powers, draw_plan
from tests.faults.store import AwayError, make_template
from tests.faults.strikes import Strikes
from tests.faults.tables import Tables
from tests.faults.yard import Ground, Yard

HELD_S = 30.0
"""From the last fault until everything is held: the longest back-off and keepalive of these settings, and patience."""
LOOK_S = 0.05


class Outcome(msgspec.Struct):
    """What came of one run; ``faults`` is empty when every promise held."""

    seed: int
    faults: list[str] = []
    struck: dict[str, int] = {}
    left_out: dict[str, int] = {}
    count: Count = Count()
    acts: int = 0
    honest: int = 0
    """Acts that no fault could keep from success."""
    failed: list[str] = []
    """Of these, the ones that did not succeed."""
    unknown: int = 0
    seconds: float = 0.0
    healed_s: float = 0.0
    """From the last fault until all was held."""
    story: list[str] = []


class Run:
    """Plays one plan in one world."""

    def __init__(self, yard: Yard, hostile: Hostile, plan: Plan) -> None:
        self._yard = yard
        self._hostile = hostile
        self._plan = plan
        self._strikes = Strikes(yard, hostile, plan)
        self._people = People(yard, self._strikes.forgotten)
        self.outcome = Outcome(plan.seed)
        self._began = time.monotonic()

    async def play(self) -> Outcome:
        """Every act with its faults; then all is healed, brought to rest and counted."""
        try:
            for step in self._plan.steps:
                await self._strikes.take_copies()

                async def strike(moment: Moment, faults=step.faults) -> None:
                    for fault in faults:
                        if fault.moment is moment:
                            self._say(f"  {fault.kind.value} ({fault.side}, {moment.value})")
                            await self._strikes.strike(fault)

                self._say(step.act.value)
                await self._people.act(step, strike)
                self._say(f"  -> {self._people.done[-1].told}")
                await self._strikes.after_act()
                self._look()
                if self.outcome.faults:
                    break
            else:
                await self._finish()
        except (NotInTimeError, LastmileError, AssertionError) as error:
            self.outcome.faults.append(f"{type(error).__name__}: {error}")
        self._tell()
        return self.outcome

    def _say(self, what: str) -> None:
        """Into the story, also beside the logs: there it is seen while the run still goes on."""
        line = f"{time.monotonic() - self._began:7.3f}  {what}"
        self.outcome.story.append(line)
        with (self._yard.site.directory / "logs" / "story.log").open("a") as out:
            out.write(f"{time.monotonic():.3f} {line}\n")

    def _look(self) -> None:
        """While faults are about only this can be said: no cursor leads."""
        if self._strikes.consumer_lost:
            return
        try:
            self.outcome.faults += judge.leading_cursors(self._yard.tables())
        except (sqlite3.Error, AwayError):
            return  # one of the two is being restarted, or its disk fails

    async def _finish(self) -> None:
        yard = self._yard
        await self._strikes.heal_all()
        began = time.monotonic()
        await yard.serving()
        if yard.foreign:
            # What the clone made the collector hold is another history, and a run that began an epoch does not give
            # it up: the operator who is told of a clone starts the node again.
            await yard.kill("locker")
            await yard.again("locker")
        self._say("all is healed")
        await self._undisturbed()
        self._say("everybody has gone")
        await self._all_held()
        self._say("all is held")
        self.outcome.healed_s = time.monotonic() - began
        await self._judge()

    async def _undisturbed(self) -> None:
        """With everything healed a customer collects, and no used code opens anything."""
        people, yard = self._people, self._yard

        async def nothing(_: Moment) -> None: ...

        await people._tidy()
        yard.touched = set(yard.struck)
        if waiting := people.waiting():
            await people.collect(waiting[0], nothing)
        await people.try_used()

    async def _all_held(self) -> None:
        yard = self._yard

        async def held() -> bool:
            await asyncio.sleep(LOOK_S)
            try:
                tables, entries = yard.tables(), yard.present()
            except (sqlite3.Error, AwayError):
                return False
            if not self._strikes.consumer_lost:
                self.outcome.faults += judge.leading_cursors(tables)
            wrong = [
                *judge.unheld(entries, tables),
                *self._plain_faults(entries, tables),
            ]
            wrong += await self._presence_faults(tables)
            wrong += judge.untold_forks(entries, tables)
            return not wrong or bool(self.outcome.faults)

        if not await yard.until_true("everything to be held", held, HELD_S):
            self.outcome.faults.append(f"not everything is held {HELD_S:.0f} s after the last fault")

    async def _judge(self) -> None:
        yard = self._yard
        now, told = await yard.read(), yard.entries()
        tables, history = yard.tables(), yard.history(told)
        self.outcome.count = judge.count(told, now, tables, history)
        self.outcome.unknown = judge.counted_outcomes(history)[1]
        lost = judge.lost_attempts(told, now) if yard.went_back else set()
        self.outcome.faults += [fault for fault in history.faults() if not self._forgotten(fault, lost)]
        self.outcome.faults += judge.journal_faults(
            told, now, tables, self.outcome.count, put_back=yard.went_back, foreign=yard.foreign
        )
        self.outcome.faults += self._plain_faults(now, tables)
        self.outcome.faults += await self._presence_faults(tables)
        self.outcome.faults += judge.command_faults(history, self._people.results)

    def _plain_faults(self, now: list[Entry], tables: Tables) -> list[str]:
        lost, forked = self._strikes.consumer_lost, judge.forked_epochs(now, tables)
        return list(judge.plain_faults(tables, consumer_lost=lost, forked=forked))

    async def _presence_faults(self, tables: Tables) -> list[str]:
        """Whoever has a copy of the card may be believed to be the node: it has begun the newest epoch."""
        session = await self._yard.session()
        return [] if self._yard.foreign else list(judge.presence_faults(tables, session))

    def _forgotten(self, fault: str, lost: set[str]) -> bool:
        """Whether only the lab can know it, because an older database was put back: used codes are taken again."""
        again = any(f"the code of {parcel} was accepted" in fault for parcel in self._strikes.forgotten)
        return again or any(f"attempt {name} " in fault for name in lost)

    def _tell(self) -> None:
        out, acts = self.outcome, self._people.done
        out.faults += self._yard.faults
        out.struck, out.left_out = dict(self._strikes.done), dict(self._strikes.left_out)
        out.acts = len(acts)
        out.honest = sum(not act.hit for act in acts)
        out.failed = [f"{act.act}: {act.told}" for act in acts if not act.hit and not act.fine]


def prepare(directory: Path, powers: Powers, template: Path | None) -> Ground:
    """Everything that has to be made before the first thread and the first event loop."""
    if powers.disk:
        linux.private_mounts()
    if powers.network:
        network.own_network()
    networks = {side: Network() for side in ("node", "cloud")} if powers.network else {}
    births.hurry(directory / "synchronised")
    return Ground(directory, births.Nursery(), powers, networks, template)


def play(seed: int, directory: Path, powers: Powers, template: Path | None) -> Outcome:
    """In a process of its own: leaves mounts, networks and children to end with it."""
    began = time.monotonic()
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    (directory / "synchronised").touch()
    ground = prepare(directory, powers, template)
    plan = draw_plan(seed)

    async def whole() -> Outcome:
        async with Yard(ground, seed) as yard, Hostile(yard) as hostile:
            return await Run(yard, hostile, plan).play()

    try:
        outcome = asyncio.run(whole())
    except Exception as error:  # noqa: BLE001  whatever ends a run is what came of it
        outcome = Outcome(seed, [f"the run broke off: {error!r}", traceback.format_exc()])
    ground.nursery.close()
    for each in ground.networks.values():
        each.close()
    outcome.seconds = time.monotonic() - began
    return outcome


class Playing(msgspec.Struct):
    """A run that goes on in a process of its own."""

    seed: int
    pid: int
    pipe: int
    directory: Path
    began: float
    told: bytes = b""


RUN_S = 180.0
"""A run takes some five seconds; one that hangs is a failure."""


def play_all(seeds: Iterator[int], directory: Path, powers: Powers, jobs: int, *, keep: bool) -> Generator[Outcome]:
    """Play ``jobs`` runs beside each other; outcomes as they come. Files of a run that went well stay with ``keep``."""
    running: dict[int, Playing] = {}
    seeds_left = True
    try:
        while seeds_left or running:
            while seeds_left and len(running) < jobs:
                seed = next(seeds, None)
                seeds_left = seed is not None
                if seed is not None:
                    template = _template(directory) if powers.postgres and draw_plan(seed).postgres else None
                    begun = _begin(seed, directory / f"run-{seed}", powers, template)
                    running[begun.pipe] = begun
            for pipe in _readable(running):
                outcome = _hear(running[pipe])
                if outcome is not None:
                    done = running.pop(pipe)
                    if not outcome.faults and not outcome.failed and not keep:
                        shutil.rmtree(done.directory, ignore_errors=True)
                    yield outcome
    finally:
        for each in running.values():  # nobody asks for them any more
            os.killpg(each.pid, signal.SIGKILL)
            os.waitpid(each.pid, 0)
            os.close(each.pipe)


def _template(directory: Path) -> Path:
    """Made for the first world that needs it."""
    made = directory / "postgres"
    return made if made.exists() else make_template(made)


def _begin(seed: int, directory: Path, powers: Powers, template: Path | None) -> Playing:
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        os.setsid()
        linux.end_with_parent()
        outcome = play(seed, directory, powers, template)
        with os.fdopen(theirs, "wb") as out:
            out.write(msgspec.json.encode(outcome))
        os._exit(0)
    os.close(theirs)
    return Playing(seed, pid, ours, directory, time.monotonic())


def _readable(running: dict[int, Playing]) -> list[int]:
    if not running:
        return []
    ready, _, _ = select.select(list(running), [], [], 1.0)
    late = [pipe for pipe, each in running.items() if time.monotonic() - each.began > RUN_S]
    for pipe in late:
        os.killpg(running[pipe].pid, signal.SIGKILL)
    return ready


def _hear(playing: Playing) -> Outcome | None:
    """None while there is more to come."""
    data = os.read(playing.pipe, 1 << 20)
    playing.told += data
    if data:
        return None
    os.close(playing.pipe)
    os.waitpid(playing.pid, 0)
    if playing.told:
        return msgspec.json.decode(playing.told, type=Outcome)
    return Outcome(playing.seed, [f"the run died; see {playing.directory}"])
