"""A cabinet in memory: what its boards are wired to, as a physical model on a clock moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from edge.clock_sim import ManualClock
from edge.errors import DeviceMissing
from locker.cabinet_sim import Ailment, Happening, Mechanics, Spot
from locker.cabinet_sim import Cabinet as Physical
from locker.latch import Hook, Latch, LockBoards, Reading

SILENCE_S = 0.6
"""What asking a board that does not answer costs on a real bus: three tries and the silence after each."""
COIL_S = 0.3
LOCKS = 4
SIZES = ("S", "S", "M", "L")


class Bench(LockBoards):
    """The boards and what they are wired to. It outlives every crash of the agent."""

    def __init__(self, clock: ManualClock, boards: int = 1) -> None:
        self.clock = clock
        self.physical = Physical(boards, LOCKS, Mechanics(swing=0.04))
        self.log: list[Happening] = []
        self.mute: set[int] = set()
        """Boards that obey and do not answer."""
        self.dead: set[int] = set()
        self.unplugged = False
        self.item_sensors = False
        self.on_pulse: Callable[[Latch], None] = lambda _: None
        self.before_pulse: asyncio.Event | None = None
        """A frame is held back until it is set: the time between commit and pulse."""

    async def readings(self, board: int) -> tuple[Reading, ...]:
        if board in self.mute | self.dead or self.unplugged:
            await self.clock.sleep(SILENCE_S)
            return (Reading(Hook.UNKNOWN),) * LOCKS
        self._look()
        switches, items = self.physical.switches(board), self.physical.sensors(board)
        return tuple(
            Reading(
                Hook.CLOSED if switches >> lock & 1 else Hook.OPEN,
                bool(items >> lock & 1) if self.item_sensors else None,
            )
            for lock in range(LOCKS)
        )

    async def pulse(self, latch: Latch) -> None:
        if self.before_pulse is not None:
            await self.before_pulse.wait()
        if self.unplugged:
            raise DeviceMissing("the adapter is unplugged", remedy="plug it in")
        self.on_pulse(latch)
        if latch.board not in self.dead:
            self.log += self.physical.drive(Spot(latch.board, latch.lock), COIL_S, self.clock.mono())

    def happened(self, what: str) -> list[Spot]:
        self._look()
        return [each.spot for each in self.log if each.what == what]

    def ailment(self, door: str) -> Ailment:
        return self.physical.ailment(spot(door))

    def shut(self, door: str) -> None:
        self.log += self.physical.shut(spot(door), self.clock.mono())

    def force(self, door: str) -> None:
        self.log += self.physical.force(spot(door), self.clock.mono())

    def put(self, door: str) -> None:
        self.log += self.physical.move_item(spot(door), self.clock.mono(), inside=True)

    def take(self, door: str) -> None:
        self.log += self.physical.move_item(spot(door), self.clock.mono(), inside=False)

    def stands(self, door: str) -> tuple[bool, bool]:
        """Whether the door is open, and whether something is inside, as a person sees it."""
        self._look()
        found = next(
            one for one in self.physical.doors() if Spot(int(str(one["board"])), int(str(one["lock"]))) == spot(door)
        )
        return bool(found["open"]), bool(found["item"])

    def _look(self) -> None:
        self.log += self.physical.advance(self.clock.mono())


def spot(door: str) -> Spot:
    board, lock = divmod(int(door) - 1, LOCKS)
    return Spot(board, lock)


def door_at(where: Spot) -> str:
    return f"{where.board * LOCKS + where.lock + 1:02d}"
