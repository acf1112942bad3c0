"""Duplicate, stale, reordered and crashing commands by the thousand: ``python -m tests.redteam.attack --commands N``.

The witness is the board's log: no command opens its door twice, what is told as done has opened it, what is told as
failed or refused has not, and what nobody can know is told as unknown.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import msgspec

from edge import log
from edge.errors import LastmileError
from edge.link_socket import LinkClosed
from edge.result import Status
from tests.crash.bench import NotInTimeError
from tests.crash.history import OPENED, REQUESTED, lock_of
from tests.faults.__main__ import MEMORY
from tests.faults.yard import Ground
from tests.redteam.attacker import Attacker, payload_of
from tests.redteam.cast import INSIDER
from tests.redteam.duel import Duel
from tests.redteam.honest import Honest
from tests.redteam.stage import Stage, prepare
from tests.redteam.told import Told
from tests.redteam.toll import Telling, Toll

REPEATS = 120
"""Hostile copies around each honest command: about what a broker could bring while a door opens."""
AT_ONCE = 15
"""As many as a broker may have in flight."""
MEMORY_OF = 400
"""Recordings that are brought again; the newest, and a few of the oldest."""
BOUNDARIES = (
    *(f"{side}:{what}" for side in ("before", "after") for what in (REQUESTED, OPENED, "pulse")),
    *("before:node.command.decided", "after:node.command.decided"),
)
FINAL = {Status.DONE, Status.FAILED, Status.UNKNOWN, Status.REJECTED}
SETTLED_S = 8.0
"""Three pulses at a door and their waits, several times over."""

MOST_UNSEEN = 0.01
"""Of all commands: what a machine that does other things besides may cost."""


class Command(msgspec.Struct):
    """One command of the key that may open. ``hit``: its life was killed before its last word."""

    jti: str
    door: str
    token: bytes
    status: Status | None = None
    hit: bool = False
    knowable: bool = True
    """Whether a journal or a door that stands open still says what became of it."""
    openings: int = 0
    unseen: bool = False
    """Whether the agent could not see the door in time, as on a machine that has more to do."""


class Arena(Stage):
    """A stage whose files are never put back, and are read from where they were left."""

    def __init__(self, ground: Ground, seed: int) -> None:
        super().__init__(ground, seed)
        self.told = Told(self.site.database, self.site.witness)

    def all_told(self) -> bool:
        try:
            self.told.read()
        except sqlite3.Error:
            return False
        return self.told.settled

    async def look(self) -> Told:
        """All that journal and board have told."""

        async def readable() -> bool:
            with contextlib.suppress(sqlite3.Error):
                self.told.read()
                return True
            return False

        if not await self.until_true("the journal", readable):
            raise NotInTimeError("the journal cannot be read")
        return self.told


class Attack:
    def __init__(self, arena: Arena, duel: Duel, toll: Toll, most: int, telling: Telling) -> None:
        self._arena = arena
        self._duel = duel
        self._toll = toll
        self._most = most
        self._telling = telling
        self._known: list[Command] = []
        self._seen = 0

    async def run(self) -> None:
        while self._toll.commands < self._most and not self._toll.faults:
            await self._one_life(trapped=self._duel.chance.random() < 0.7)
            if self._telling.due:
                self._sum_up()
                self._telling.tell(self._toll)
        await self._judge()

    def _sum_up(self) -> None:
        toll, known = self._toll, self._known
        toll.different = len(known)
        toll.openings = sum(each.openings for each in known)
        toll.unseen = sum(each.unseen and not each.hit for each in known)
        toll.double = sum(each.openings > 1 for each in known)
        toll.told = dict(Counter(each.status.value if each.status else "nothing" for each in known))

    # -- a life --------------------------------------------------------------------------------------------------------

    async def _one_life(self, *, trapped: bool) -> None:
        duel, stage, chance = self._duel, self._arena, self._duel.chance
        if trapped:
            stage.trap(chance.choice(BOUNDARIES), chance.choice((1, 2, 3)))
        await self._born()
        with contextlib.suppress(LinkClosed):
            await self._take_the_place()
            await self._settle_old()
            for _ in range(chance.randrange(2, 6)):
                await self._one_command(doomed=not trapped and chance.random() < 0.25)
        await duel.attacker.step_aside()
        await stage.kill("locker")
        self._toll.kills += 1
        await self._after_death()

    async def _born(self) -> None:
        stage = self._arena
        stage.up("locker")
        # Nobody but us starts the next life.
        stage.children["locker"].killed = True
        await stage.serving()

    async def _take_the_place(self) -> None:
        if self._duel.stage.life.dead:
            raise LinkClosed
        await self._duel.attacker.take_the_place()

    async def _settle_old(self) -> None:
        """The broker brings again what has no last word yet: the life after a kill knows it, or says that it cannot."""
        for each in self._known:
            if each.status is None:
                await self._bring(each)
                await self._last_word(each)

    async def _one_command(self, *, doomed: bool) -> None:
        duel = self._duel
        await self._shut_all()
        door = duel.door()
        nonce = await duel.nonce(INSIDER, "insider", door)
        token = duel.signed(INSIDER, "insider", "open", door, nonce=nonce)
        command = Command(payload_of(token)["jti"], door, token)
        self._known.append(command)
        await self._count_openings(command)
        around = self._recordings()
        await self._bring(command)
        if doomed:
            await asyncio.sleep(duel.chance.uniform(0.0, 0.08))
            await duel.stage.kill("locker")
        for at in range(0, len(around), AT_ONCE):
            await asyncio.gather(*(self._bring(each) for each in around[at : at + AT_ONCE]))
        await self._last_word(command)

    def _recordings(self) -> list[Command]:
        """Shuffled, this command's own copies among them."""
        chance = self._duel.chance
        pool = [*self._known[-MEMORY_OF:], *self._known[:20]]
        return chance.choices(pool, k=REPEATS // 2) + [self._known[-1]] * (REPEATS // 2)

    async def _bring(self, command: Command) -> None:
        self._toll.commands += 1
        for answer in await self._duel.try_all_or_die([command.token]):
            self._hear(command, answer.status)

    def _hear(self, command: Command, status: Status) -> None:
        if status is Status.ACCEPTED:
            return
        if command.status is None:
            command.status = status
        elif command.status is not status:
            self._toll.faults.append(f"{command.jti} was {command.status.value} and then {status.value}")

    async def _last_word(self, command: Command) -> None:
        deadline, read = time.monotonic() + SETTLED_S, 0
        while command.status is None:
            told = self._duel.attacker.results.get(command.jti, [])
            for token in told[read:]:
                status = self._duel.read(command.jti, token).status
                if status in FINAL:
                    self._hear(command, status)
            read = len(told)
            if self._duel.stage.life.dead:
                raise LinkClosed
            if time.monotonic() > deadline:
                self._toll.faults.append(f"{command.jti} has no last word after {SETTLED_S:.0f} s")
                return
            await asyncio.sleep(0.005)

    # -- what happened -------------------------------------------------------------------------------------------------

    async def _after_death(self) -> None:
        """Hands shut some of the doors before the next life can look; of those nobody can know any more."""
        stage, chance = self._arena, self._duel.chance
        for lock in stage.open_locks():
            if chance.random() < 0.5:
                stage.board.call("close_door", board=0, lock=lock)
        still_open = set(stage.open_locks())
        told = await stage.look()
        for each in self._known:
            if each.status is None:
                each.hit = True
                sure = each.jti not in told.decided or each.jti in told.ended
                each.knowable = sure or lock_of(each.door) in still_open

    async def _count_openings(self, command: Command) -> None:
        """Every opening belongs to the last command for its door that was brought before it."""
        opened = (await self._arena.look()).opened
        for door in opened[self._seen :]:
            owner = next((each for each in reversed(self._known) if each.door == door and each is not command), None)
            if owner is None:
                self._toll.faults.append(f"door {door} opened and nobody had asked")
            else:
                owner.openings += 1
        self._seen = len(opened)

    async def _shut_all(self) -> None:
        await self._duel.honest.shut()

    async def _judge(self) -> None:
        await self._born()
        await self._take_the_place()
        await self._settle_old()
        await self._shut_all()
        await self._count_openings(Command("", "", b""))
        for each in self._known:
            each.unseen = each.jti in self._arena.told.unseen
        self._sum_up()
        if self._toll.unseen > MOST_UNSEEN * len(self._known):
            self._toll.faults.append(f"{self._toll.unseen} doors were not seen in time")
        for each in self._known:
            self._toll.faults += [f"{each.jti} at door {each.door}: {fault}" for fault in _faults_of(each)]


def _faults_of(command: Command) -> list[str]:
    told = command.status.value if command.status else "nothing"
    found = []
    if command.openings > 1:
        found.append(f"it opened its door {command.openings} times")
    if command.status is Status.DONE and command.openings != 1:
        found.append("it was told as done, and the door did not open")
    if command.status in {Status.FAILED, Status.REJECTED} and command.openings:
        found.append(f"it was told as {told}, and the door opened")
    if not command.knowable and command.status is not Status.UNKNOWN:
        found.append(f"nobody can know what became of it, and it was told as {told}")
    seen = not (command.unseen and command.status is Status.UNKNOWN)
    if not command.hit and command.status is not Status.DONE and seen:
        found.append(f"nothing had struck it, and it was told as {told}")
    return found


def play(most: int, seed: int, directory: Path, telling: Telling, mutant: str = "") -> Toll:
    began, toll = time.monotonic(), Toll()
    ground = prepare(directory, mutant=mutant)
    log.configure(level="critical")

    async def whole() -> None:
        arena = Arena(ground, seed)
        async with arena, Attacker(arena) as attacker:
            duel = Duel(arena, attacker, Honest(arena), random.Random(seed))
            await arena.kill("cloud-sync", "locker", "collector")
            with contextlib.suppress(LinkClosed):
                await Attack(arena, duel, toll, most, telling).run()

    try:
        asyncio.run(whole())
    except (LastmileError, AssertionError) as error:
        toll.faults.append(f"the attack broke off: {error!r}")
    ground.nursery.close()
    toll.seconds = time.monotonic() - began
    return toll


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.redteam.attack", description=__doc__)
    parser.add_argument("--commands", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mutant", default="", help="a module of tests.mutants, to see the attack succeed")
    parser.add_argument("--files", help="keep the files of the run there")
    parser.add_argument("--report", help="JSON file")
    parser.add_argument("--quiet", action="store_true")
    wanted = parser.parse_args()
    telling = Telling(wanted.commands, quiet=wanted.quiet)
    with tempfile.TemporaryDirectory(prefix="lm-attack-", dir=MEMORY if MEMORY.is_dir() else None) as scratch:
        directory = Path(wanted.files or scratch) / "world"
        toll = play(wanted.commands, wanted.seed, directory, telling, wanted.mutant)
    telling.end(toll)
    if wanted.report:
        Path(wanted.report).write_bytes(msgspec.json.format(msgspec.json.encode(toll), indent=1))
    return 1 if toll.faults else 0


if __name__ == "__main__":
    # A forked child must not write what its parent had buffered.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.exit(main())
