"""Latches on a Raspberry Pi's pins before the suite: the driver and the pulser's rules, in simulated time.

What only processes can show (a pulser that is killed, or hangs with a coil on) is in tests/locker/test_latch_gpio.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from edge.clock import Clock
from edge.errors import DeviceBusy, DeviceMissing, DeviceSilent
from locker.cabinet_sim import Spot
from locker.door import Outcome
from locker.gpio_sim import GpioSimConfig, WiredDoor, World
from locker.gpio_wiring import GpioBoard, GpioLock, Pull
from locker.joined_asyncio import JoinedBoards, Part
from locker.latch import Latch
from locker.latch_gpio import GpioBoards, coil_time
from locker.pulser import CAP_S, Ask, Coils, Said
from locker.pulser_gpio import Outputs
from tests.locker.conformance.rig import DOOR_KINDS, BenchTime, JumpClock, MemoryWitness, Rig, Seen, Trouble

NOWHERE: Final = Path("/nonexistent")

HIGH: Final = tuple(GpioLock(coil=coil, hook=hook) for coil, hook in ((17, 22), (27, 23), (10, 9), (11, 25)))
"""Drivers that are on while their pin is high, and switches to ground."""
LOW: Final = tuple(
    GpioLock(coil=coil, coil_active_high=False, hook=hook, hook_pull=Pull.DOWN, closed_level=1)
    for coil, hook in ((4, 12), (5, 13), (6, 16), (7, 19))
)
"""The other way round, on pins that are pulled up at boot."""


class _WorldPins:
    """``locker.pins.Pins`` of the simulated Pi."""

    def __init__(self, world: World, time: BenchTime) -> None:
        self._world = world
        self._time = time

    def drive(self, line: int, level: int) -> None:
        # The pulser's, which has its own time: it may be late to catch up with a coil that is due.
        self._world.move(line, output=True, level=level)

    def sense(self, line: int, pull: Pull) -> None:
        self._time.catch_up()
        self._world.move(line, output=False, pull=pull.value)

    def read(self, line: int) -> int:
        self._time.catch_up()
        return self._world.level(line)


class _TimedPulser:
    """The pulser in the suite's time: its own rules and outputs, and a hand that is never late."""

    def __init__(self, outputs: Outputs, time: BenchTime) -> None:
        self.gone = False
        self.mute = False
        """It does what it is asked, and no answer comes back."""
        self._outputs = outputs
        self._coils = Coils(outputs.off_levels)
        self._time = time

    async def connected(self) -> None:
        if self.gone:
            raise DeviceMissing("no pulser runs", remedy="start it")

    async def pulse(self, line: int, ms: int) -> None:
        await self.connected()
        self._time.catch_up()
        said = self._coils.ask(Ask(0, line, ms), self._time.time())
        if said is not Said.ON:
            raise DeviceBusy(f"the pulser says {said.value}", remedy="wait")
        self._outputs.on(line)
        if self._coils.until is not None:
            self._time.call_at(self._coils.until, self._over)
        if self.mute:
            raise DeviceSilent("the pulser does not answer", remedy="its guard starts it anew")

    def close(self) -> None:
        """Nothing is open."""

    def _over(self) -> None:
        line = self._coils.over(self._time.time())
        if line is not None:
            self._outputs.off(line)


class GpioRig(Rig):
    """Two boards of four latches on one set of pins."""

    kinds = DOOR_KINDS
    own = (
        Trouble("flapping", {}, frozenset({Outcome.UNKNOWN})),
        Trouble("no_pulser", {}, frozenset({Outcome.UNSENT}), opens=False),
        Trouble("mute_pulser", {}, frozenset({Outcome.OPENED})),
    )

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or JumpClock()
        self._time = BenchTime(self.clock)
        locks = {7: HIGH, 9: LOW}
        doors = [
            WiredDoor(
                lock.coil,
                lock.hook,
                driven_by=1 if lock.coil_active_high else 0,
                shut_level=1 if lock.closed_level else 0,
            )
            for board in locks.values()
            for lock in board
        ]
        self.latches = [Latch(board, lock) for board, those in locks.items() for lock in range(len(those))]
        self._witness = MemoryWitness()
        self._world = World(GpioSimConfig(NOWHERE, NOWHERE, NOWHERE, doors=doors), self._witness, self._time)
        pins = _WorldPins(self._world, self._time)
        outputs = Outputs(pins, {lock.coil: lock.off_level for those in locks.values() for lock in those})
        outputs.all_off()
        self._pulser = _TimedPulser(outputs, self._time)
        options = {board: GpioBoard(locks=those, pulser="/pulser", agent=0) for board, those in locks.items()}
        owner = GpioBoards(options, pins, self._pulser, self.clock)  # type: ignore[arg-type]  # in the client's place
        joined = JoinedBoards([Part(owner, options, coil_time(options[7]))], self.clock)
        self.boards, self.coil = joined, joined.coil

    def inflict(self, trouble: Trouble, latch: Latch) -> None:
        self._time.catch_up()
        match trouble.kind:
            case "no_pulser":
                self._pulser.gone = True
            case "mute_pulser":
                self._pulser.mute = True
            case kind:
                self._world.fault(kind, self.latches.index(latch), **trouble.how)

    def heal(self) -> None:
        self._time.catch_up()
        self._pulser.gone = self._pulser.mute = False
        self._world.heal()

    def shut(self, latch: Latch) -> None:
        self._time.catch_up()
        self._world.tell(self._world.cabinet.shut(self._spot(latch), self._world.now()))

    def force(self, latch: Latch) -> None:
        self._time.catch_up()
        self._world.tell(self._world.cabinet.force(self._spot(latch), self._world.now()))

    def is_open(self, latch: Latch) -> bool:
        self._time.catch_up()
        return bool(self._world.cabinet.doors()[self.latches.index(latch)]["open"])

    def seen(self) -> list[Seen]:
        self._time.catch_up()
        lines, self._witness.lines = self._witness.lines, []
        seen = []
        for one in lines:
            latch = self.latches[int(str(one.get("lock", 0)))]
            if one["what"] == "coil_off" and float(str(one["seconds"])) > CAP_S:
                seen.append(Seen(float(str(one["t"])), "overheated", latch))
            elif one["what"] not in {"fault", "coil_on", "coil_off", "short"}:
                seen.append(Seen(float(str(one["t"])), str(one["what"]), latch))
        return seen

    async def answers(self, board: int) -> int:
        return 1

    def _spot(self, latch: Latch) -> Spot:
        return Spot(0, self.latches.index(latch))


def gpio_rig(seed: int, clock: Clock | None = None) -> Rig:
    """Both polarities of coils and switches. Nothing here is left to chance, so the seed has nothing to do."""
    del seed
    return GpioRig(clock)
