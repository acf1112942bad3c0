"""What a lock board's driver is tried on: the driver, a simulated cabinet behind the hardware, a hand in both, a log.

``Rig`` is what a driver's author writes, ``SerialRig`` all of it for boards on a serial bus but four facts about their
simulator. Time is simulated: a million doors can be opened in an hour.
"""

from __future__ import annotations

import abc
import dataclasses
import heapq
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from edge.clock import Clock
from edge.errors import DeviceMissing
from locker.bench_sim import Bench, BenchConfig, Electronics
from locker.board import SerialDriver
from locker.board_serial import SerialBoards
from locker.cabinet_sim import Spot
from locker.door import Outcome
from locker.hands_sim import Hands
from locker.joined_asyncio import JoinedBoards, Part
from locker.latch import Latch, LockBoards
from locker.witness_file import Witness

CLOSE = 1e-9
"""Seconds by which sums of floating-point times may differ."""


LATE_MARGIN_MS: Final = 10.0
"""The longest answer of all takes this long on the wire, which is not simulated."""

DOOR_KINDS: Final = frozenset({"stuck", "deaf", "weak", "slow_door", "cut"})
"""Of a lock, its wire, its door or its switch: every hardware can have them."""

LINE_KINDS: Final = frozenset({"lost_reply", "half_frame", "bad_sum", "noise", "late_reply", "echo"})
"""Of a line on which boards answer."""

BUS_KINDS: Final = frozenset({"dead", "unplug", "garbled_baud", "duplicate_address"})
"""Of a board on a serial line, or of all of it."""


class Seen(NamedTuple):
    """Something that physically happened at ``latch``, by the simulator's own log: see ``cabinet_sim.Happening``."""

    t: float
    what: str
    latch: Latch


@dataclasses.dataclass(frozen=True)
class Trouble:
    """Something that can be wrong, and what may come of an attempt to open a door meanwhile."""

    kind: str
    how: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    outcomes: frozenset[Outcome] = frozenset({Outcome.OPENED})
    opens: bool | None = True
    """Whether the door then opens; None where that is chance."""
    blind: bool = False
    """Whether its switch tells nothing true, so that an open door may be taken for one that jams."""


class Rig(abc.ABC):
    """One kind of lock board: a few boards with locks, wired to a simulated cabinet.

    Nothing of the driver may reach the simulator but through the hardware's own bytes or lines, and the simulator may
    share no code with the driver.
    """

    boards: LockBoards
    """The driver under trial, behind ``JoinedBoards``, as the product uses it."""
    clock: Clock
    """The driver's time, which passes while somebody sleeps on it."""
    latches: Sequence[Latch]
    """Every latch that is wired, on two boards at least."""
    coil: float
    """Seconds after a pulse at which its coil is surely off."""
    kinds: frozenset[str] = DOOR_KINDS
    """Kinds of trouble, of those that the suite knows, which this hardware can have."""
    own: Sequence[Trouble] = ()
    """What can be wrong with this hardware alone, and with no other."""
    late_ms: float = 0.0
    """How late an answer may be at most and still do no harm, where answers carry no number."""

    @abc.abstractmethod
    def inflict(self, trouble: Trouble, latch: Latch) -> None:
        """Begin ``trouble``, at ``latch``, at its board, or on the line, as its kind is."""

    @abc.abstractmethod
    def heal(self) -> None:
        """End all troubles; doors stay as they are."""

    @abc.abstractmethod
    def shut(self, latch: Latch) -> None:
        """Push a door shut."""

    @abc.abstractmethod
    def force(self, latch: Latch) -> None:
        """Open a door with a crowbar."""

    @abc.abstractmethod
    def is_open(self, latch: Latch) -> bool:
        """Whether the door stands open, as a person sees it."""

    @abc.abstractmethod
    def seen(self) -> list[Seen]:
        """What has happened since this was last asked for."""

    @abc.abstractmethod
    async def answers(self, board: int) -> int:
        """How many boards answer to this one's address; 1 where there is nothing to share."""


class JumpClock:
    """``edge.clock.Clock`` on which sleeping takes no time at all: for one task at a time."""

    def __init__(self) -> None:
        self._mono = 0.0

    def wall(self) -> float:
        return 1_800_000_000.0 + self._mono

    def mono(self) -> float:
        return self._mono

    def trusted(self) -> bool:
        return True

    async def sleep(self, seconds: float) -> None:
        self._mono += max(seconds, 0.0)


class _Timer:
    """One thing that is due; a cancelled one is passed over."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class BenchTime:
    """``locker.bench_sim.Time`` that catches up with a clock whenever somebody looks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._now = clock.mono()
        self._order = itertools.count()
        self._due: list[tuple[float, int, _Timer]] = []

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[[], object], /) -> _Timer:
        timer = _Timer(callback)
        heapq.heappush(self._due, (when, next(self._order), timer))
        return timer

    def due(self) -> float | None:
        """When the next thing is due, or None."""
        while self._due and self._due[0][2].callback is None:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def catch_up(self) -> None:
        """Do what was due by now, each at its own time."""
        now = self._clock.mono()
        while self._due and self._due[0][0] <= now + CLOSE:
            due, _, timer = heapq.heappop(self._due)
            if timer.callback:
                self._now = max(self._now, due)
                timer.callback()
        self._now = max(self._now, now)


class Wire:
    """Both ends of a serial line in one process: ``locker.bench_sim.Port`` and ``locker.board_serial.Line``."""

    def __init__(self, clock: Clock, time: BenchTime) -> None:
        self.garbles = False
        """Whether the driver's end is set to another speed."""
        self._clock = clock
        self._time = time
        self._heard: Callable[[bytes], None] | None = None
        self._inbox = bytearray()
        self.overheard: set[bytes] = set()
        """Every frame that was on the line, either way."""

    @property
    def plugged(self) -> bool:
        return self._heard is not None

    def plug(self, heard: Callable[[bytes], None]) -> None:
        self._heard = heard

    def unplug(self) -> None:
        self._heard = None
        self._inbox.clear()

    def send(self, data: bytes) -> None:
        self.overheard.add(data)
        self._inbox += data

    def drain(self) -> bytes:
        self._time.catch_up()
        data = bytes(self._inbox)
        self._inbox.clear()
        return data

    async def read(self, seconds: float) -> bytes:
        deadline = self._clock.mono() + seconds
        while True:
            self._time.catch_up()
            self._require()
            left = deadline - self._clock.mono()
            if self._inbox or left <= 0:
                return self.drain()
            due = self._time.due()
            await self._clock.sleep(left if due is None else min(left, max(due - self._clock.mono(), CLOSE)))

    async def write(self, data: bytes) -> None:
        self._time.catch_up()
        self._require()
        self.overheard.add(data)
        if self._heard:
            self._heard(data)

    def _require(self) -> None:
        if self._heard is None:
            raise DeviceMissing("the simulated line is unplugged", remedy="plug it in")


class MemoryWitness(Witness):
    """The simulator's log without a disk: a million doors would wait for it for hours."""

    def __init__(self) -> None:
        super().__init__(Path("/dev/null"))
        self.lines: list[Mapping[str, object]] = []

    def open(self) -> None:
        """There is no file."""

    def close(self) -> None:
        """There is no file."""

    def note(self, lines: Iterable[Mapping[str, object]]) -> None:
        self.lines += lines

    def count(self, what: str, board: object = None, lock: object = None) -> None:
        """Nobody waits here for counts."""


class SerialRig(Rig):
    """Two boards of one kind on a bus, in one process with their simulator, joined by their bytes alone."""

    kinds = DOOR_KINDS | LINE_KINDS | BUS_KINDS

    def __init__(
        self,
        driver: SerialDriver,
        options: Sequence[Mapping[str, Any]],
        config: BenchConfig,
        electronics: Callable[[Bench], Electronics],
        *,
        clock: Clock | None = None,
        own: Sequence[Trouble] = (),
    ) -> None:
        """``options`` as a configuration has them, one set for each simulated board in order.

        ``config`` and ``electronics`` are the simulator's; its paths are not used.
        """
        self.clock = clock or JumpClock()
        self.own = own
        time = BenchTime(self.clock)
        self.wire = Wire(self.clock, time)
        self.witness = MemoryWitness()
        self.bench = Bench(config, electronics, self.wire, self.witness, time)
        self.bench.start()
        self._time = time
        self._hands = Hands(self.bench)
        # The cabinet's numbers differ from the boards' addresses, so that one taken for the other is seen.
        self._number = {address: 7 + 2 * place for place, address in enumerate(self.bench.numbers)}
        self._address = {number: address for address, number in self._number.items()}
        wirings = dict(zip(self._address, (msgspec.convert(each, driver.options) for each in options), strict=True))
        codec = driver.codec(wirings)
        self.late_ms = 1000 * (driver.timing.answer + driver.timing.late) - LATE_MARGIN_MS
        self.driver, self.wirings, self.bus_locks = driver, wirings, codec.locks
        self.bus = SerialBoards(self.wire, self.clock, codec, driver.timing)
        joined = JoinedBoards([Part(self.bus, self.bus.boards, self.bus.coil)], self.clock)
        self.boards = joined
        self.coil = joined.coil
        self.latches = [Latch(number, lock) for number, locks in codec.locks.items() for lock in range(locks)]

    def inflict(self, trouble: Trouble, latch: Latch) -> None:
        self._time.catch_up()
        address = self._address[latch.board]
        match trouble.kind:
            case "unplug":
                self.bench.unplug()
            case "garbled_baud":
                self.wire.garbles = True
            case "duplicate_address":
                twin = next(other for other in self.bench.numbers if other != address)
                self._hands.fault("duplicate_address", twin, address=address)
            case "dead":
                self._hands.fault("dead", address)
            case "late_reply":
                self._hands.fault("late_reply", **{"amount": self.late_ms, **trouble.how})
            case kind if kind in self.bench.faults.KINDS:
                self._hands.fault(kind, **trouble.how)
            case kind:
                self._hands.fault(kind, address, latch.lock, **trouble.how)

    def heal(self) -> None:
        self._time.catch_up()
        self.bench.heal()
        self.wire.garbles = False
        self.bench.plug()

    def shut(self, latch: Latch) -> None:
        self._time.catch_up()
        self.bench.tell(self.bench.cabinet.shut(self._spot(latch), self.bench.now()))

    def force(self, latch: Latch) -> None:
        self._time.catch_up()
        self.bench.tell(self.bench.cabinet.force(self._spot(latch), self.bench.now()))

    def is_open(self, latch: Latch) -> bool:
        self._time.catch_up()
        at = self._spot(latch)
        return any(one["open"] for one in self.bench.cabinet.doors() if (one["board"], one["lock"]) == at)

    def seen(self) -> list[Seen]:
        self._time.catch_up()
        lines, self.witness.lines = self.witness.lines, []
        return [
            Seen(float(str(one["t"])), str(one["what"]), self._latch(one))
            for one in lines
            if one["what"] not in {"fault", "frame"} and one.get("lock") is not None
        ]

    async def answers(self, board: int) -> int:
        return await self.bus.answers(board)

    def _latch(self, line: Mapping[str, object]) -> Latch:
        return Latch(self._number[int(str(line["board"]))], int(str(line["lock"])))

    def _spot(self, latch: Latch) -> Spot:
        return Spot(self._address[latch.board], latch.lock)
