"""The rule for when a node may believe its wall clock; it needs no clock of its own.

A time server can be wrong or hostile and a battery empty, so a clock that says it is synchronised is held against two
things that cannot be set from outside: a stored floor that only rises, and the monotonic clock.
"""

from __future__ import annotations

import msgspec

from edge.clock import Clock

STEP_S = 3600.0
"""A wall clock this far from what the monotonic clock lets expect was set, not corrected: NTP slews below 128 ms, and
a first correction of a drifting crystal after days without a network is seconds."""

FLOOR_EVERY_S = 600.0
"""How much later the floor has to be before it is worth a write to the disk."""


class Memory(msgspec.Struct, frozen=True):
    """What has to outlive the process.

    ``floor`` is the latest trusted wall time. For the boot named ``boot``, ``offset`` is what the wall clock was ahead
    of the monotonic one when it was first trusted; ``stepped``, whether it has been caught stepping since.
    """

    floor: float = 0.0
    boot: str = ""
    offset: float | None = None
    stepped: bool = False


class FlooredClock:
    """``edge.clock.Clock`` that takes another one's word only while nothing speaks against it.

    Until ``resume`` it is not trusted. Once caught stepping it stays untrusted for this boot, until it is resumed with
    what ``righted`` says.
    """

    def __init__(self, inner: Clock, boot: str) -> None:
        self._inner = inner
        self._boot = boot
        self._memory: Memory | None = None

    def resume(self, stored: Memory) -> None:
        """Take up what an earlier run has stored; what it knew of another boot's monotonic clock says nothing here."""
        self._memory = stored if stored.boot == self._boot else Memory(floor=stored.floor, boot=self._boot)

    def righted(self, wall: float) -> Memory:
        """What is to be stored, and then resumed, when somebody entitled says what time it is.

        That may be below the floor. Later time is held against it.
        """
        return Memory(floor=wall, boot=self._boot, offset=wall - self._inner.mono())

    def machine_wall(self) -> float:
        """What the inner clock shows, whether it is trusted or not."""
        return self._inner.wall()

    @property
    def memory(self) -> Memory:
        """What to store now."""
        return self._looked() or Memory()

    def worth_storing(self, stored: Memory) -> bool:
        """Whether ``memory`` says more than ``stored`` does."""
        now = self.memory
        return msgspec.structs.replace(now, floor=0.0) != msgspec.structs.replace(stored, floor=0.0) or (
            abs(now.floor - stored.floor) >= FLOOR_EVERY_S
        )

    def trusted(self) -> bool:
        memory = self._looked()
        return memory is not None and memory.offset is not None and not memory.stepped and self._inner.trusted()

    def wall(self) -> float:
        """The inner clock's time while it is trusted; else the best that is known, and never before the floor."""
        wall, memory = self._inner.wall(), self._looked()
        if memory is None:
            return wall
        if memory.stepped and memory.offset is not None:
            wall = self._inner.mono() + memory.offset
        return wall if self.trusted() else max(wall, memory.floor)

    def mono(self) -> float:
        return self._inner.mono()

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)

    def _looked(self) -> Memory | None:
        """The memory after a look at the inner clock."""
        memory = self._memory
        if memory is None or memory.stepped or not self._inner.trusted():
            return memory
        wall, offset = self._inner.wall(), self._inner.wall() - self._inner.mono()
        if memory.offset is None:
            stepped = wall < memory.floor - STEP_S
            offset_now = None if stepped else offset
        else:
            stepped = abs(offset - memory.offset) > STEP_S
            offset_now = memory.offset
        floor = memory.floor if stepped else max(memory.floor, wall)
        looked = Memory(floor=floor, boot=self._boot, offset=offset_now, stepped=stepped)
        if self._memory is memory:  # the writer's thread looks too, and may have been faster
            self._memory = looked
        return looked
