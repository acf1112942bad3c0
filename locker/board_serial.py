"""The one owner of a bus of Kerong lock boards: one transaction at a time, and only a status query says what is so."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import heapq
import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Protocol, TypeVar

import msgspec

from edge.clock import Clock
from edge.errors import ConfigError, DeviceError, DeviceSilent
from locker.boards import kerong
from locker.latch import Hook, Latch, Reading

Answer = TypeVar("Answer", kerong.Status, kerong.CoilTime)


class Line(Protocol):
    """The bytes a bus is made of; ``edge.serial_asyncio.SerialPort`` is one. All may raise ``DeviceError``."""

    def drain(self) -> bytes: ...

    async def read(self, seconds: float) -> bytes: ...

    async def write(self, data: bytes) -> None: ...


class Wiring(msgspec.Struct, frozen=True):
    """One board as it was installed and calibrated: open a door, look which way its bit moves."""

    board: int
    """Address on the bus, 0..15."""
    locks: int = kerong.LOCKS
    """Locks wired from number 0 on: 12 on a CU12."""
    closed_bit: int = 1
    """The bit that a closed hook gives: 1 from the factory, 0 where the switches are wired the other way."""
    item_sensors: bool = False
    """Whether infrared sensors are fitted; unfitted inputs read like empty compartments."""


class BusTiming(msgspec.Struct, frozen=True):
    """Seconds a bus is given. The defaults suit 19200 baud behind a USB adapter."""

    answer: float = 0.15
    """From a query to its whole answer: 8 ms of bytes, an adapter's 16 ms latency timer, and the board's own time,
    of which public drivers say only that 25 ms are too few after an unlock. Also the longest a pulse waits for a
    board that does not answer."""
    late: float = 0.15
    """Silence after a missing answer: an answer carries no number, so one that comes late would be taken for the
    next. Pulses do not keep it."""
    settle: float = 0.05
    """From an unlock frame to the next query: twice the time reported as too early."""
    coil_gap: float = 0.5
    """Between two unlock frames: one coil at a time, as the supply is sized for one, and the factory's pulse of at
    most 500 ms must have ended."""
    tries: int = 3
    """Times a query is sent before its board counts as silent. An unlock is sent once; more is its caller's say."""


class BusCounters(msgspec.Struct):
    """What happened on one bus since the start; for health. Noise that never began like a frame is not counted."""

    answers: int = 0
    timeouts: int = 0
    pulses: int = 0
    bad_checksums: int = 0
    resyncs: int = 0
    """Bytes that began like a frame and were none, bad checksums included."""
    echoes: int = 0
    """Own commands handed back: the adapter echoes. Harmless."""
    strays: int = 0
    """Valid answers nobody waited for: late ones, a chatty board, or two boards with one address."""
    contradictions: int = 0
    """Two different answers to one query: two boards with one address, or a damaged frame that still added up."""
    device_errors: int = 0


class SerialBoards:
    """``locker.latch.LockBoards`` over one serial line.

    A waiting pulse goes before waiting queries and is written without asking anything first. A query is repeated, an
    unlock frame never. Cancelling a caller leaves the bus usable.
    """

    def __init__(self, line: Line, clock: Clock, boards: Sequence[Wiring], timing: BusTiming | None = None) -> None:
        """Raises ``ConfigError`` for a board that cannot exist or is named twice. Nothing is opened yet."""
        self.counters = BusCounters()
        self._line = line
        self._clock = clock
        self._timing = timing or BusTiming()
        self._boards = _checked(boards)
        self._decoder = kerong.Decoder()
        self._turn = _Turn()
        self._coil = asyncio.Lock()
        self._coil_free_at = 0.0
        self._quiet_until = 0.0

    async def readings(self, board: int) -> tuple[Reading, ...]:
        """All latches of ``board``, index = lock; all UNKNOWN where no valid answer came or the port is gone.

        Raises ``ConfigError`` for a board that is not wired.
        """
        wiring = self._wiring(board)
        status = await self._query(kerong.ask_status(board), kerong.Status, board)
        if status is None:
            return (Reading(Hook.UNKNOWN),) * wiring.locks
        return tuple(_reading(status, lock, wiring) for lock in range(wiring.locks))

    async def pulse(self, latch: Latch) -> None:
        """Put one unlock frame on the wire; what the door did, only a later reading tells.

        Waits for an answer that is under way and for the coil before (``BusTiming``), for nothing else. Raises
        ``DeviceError`` when the frame did not go out, its kind ``DeviceSilent`` when only a part did, and
        ``ConfigError`` for a latch that is not wired.
        """
        if latch.lock >= self._wiring(latch.board).locks:
            raise ConfigError(f"board {latch.board} has no lock {latch.lock}", remedy="correct latch or board")
        frame = kerong.unlock(latch.board, latch.lock)
        async with self._coil:
            await self._clock_reaches(self._coil_free_at)
            async with self._turn.taken(_Rank.PULSE):
                await self._write(frame)
                now = self._clock.mono()
                self._coil_free_at = now + self._timing.coil_gap
                self._quiet_until = max(self._quiet_until, now + self._timing.settle)
                self.counters.pulses += 1

    async def answers(self, board: int) -> int:
        """How many answers one status query gets: 0 = silent, 1 = right, more = boards share the address.

        Two such boards open two doors for one pulse: ask at installation and at start, when all doors are shut.
        Raises ``DeviceError`` when the port cannot be used, ``ConfigError`` for a board that is not wired.
        """
        self._wiring(board)
        async with self._quiet_turn():
            return len(await self._ask(kerong.ask_status(board), kerong.Status, board, whole=True))

    async def coil_time(self, board: int) -> float | None:
        """Seconds ``board`` drives a coil, or None where it does not say. Raises ``ConfigError`` if not wired."""
        self._wiring(board)
        answer = await self._query(kerong.ask_coil_time(board), kerong.CoilTime, board)
        return None if answer is None else answer.seconds

    async def set_coil_time(self, board: int, seconds: float) -> None:
        """Have ``board`` drive its coils for ``seconds``, 0.01 to 1, and ask it whether it will.

        Raises ``DeviceSilent`` when the board does not confirm the value, ``DeviceError`` when nothing went out and
        ``ConfigError`` outside the range or if the board is not wired.
        """
        self._wiring(board)
        async with self._quiet_turn():
            await self._write(kerong.set_coil_time(board, seconds))
            self._quiet_until = self._clock.mono() + self._timing.settle
        said = await self.coil_time(board)
        if said is None or abs(said - seconds) > kerong.COIL_STEP / 2:
            raise DeviceSilent(
                f"board {board} was told an unlock time of {seconds} s and says {said}",
                remedy="set it with the maker's tool",
            )

    async def _query(self, request: bytes, kind: type[Answer], board: int) -> Answer | None:
        """The answer to ``request``, asking up to ``tries`` times and letting pulses in between."""
        for _ in range(self._timing.tries):
            async with self._quiet_turn():
                try:
                    found = await self._ask(request, kind, board, whole=False)
                except DeviceError:
                    self.counters.device_errors += 1
                    return None
            if any(answer != found[0] for answer in found):
                self.counters.contradictions += 1
            elif found:
                self.counters.answers += 1
                return found[0]
            else:
                self.counters.timeouts += 1
        return None

    async def _ask(self, request: bytes, kind: type[Answer], board: int, *, whole: bool) -> list[Answer]:
        """One transaction: what ``board`` answers until the first answer, or, if ``whole``, in all the time it has."""
        await self._write(request)
        deadline = self._clock.mono() + self._timing.answer
        found: list[Answer] = []
        while (left := deadline - self._clock.mono()) > 0 and (whole or not found):
            events = self._decode(await self._line.read(left))
            wanted = [event for event in events if isinstance(event, kind) and event.board == board]
            self.counters.strays += len(events) - len(wanted)
            found += wanted
        self.counters.strays += max(len(found) - 1, 0)
        if not found:
            self._quiet_until = self._clock.mono() + self._timing.late
        return found

    async def _write(self, frame: bytes) -> None:
        """Send ``frame`` on a line on which nothing of an earlier transaction is left."""
        self.counters.strays += len(self._decode(self._line.drain()))
        self._decoder.reset()
        await self._line.write(frame)

    def _decode(self, data: bytes) -> list[kerong.Status | kerong.CoilTime]:
        """The boards' answers in ``data``; everything else is only counted."""
        answers: list[kerong.Status | kerong.CoilTime] = []
        for event in self._decoder.feed(data):
            match event:
                case kerong.Request():
                    self.counters.echoes += 1
                case kerong.Malformed(flaw):
                    self.counters.resyncs += 1
                    self.counters.bad_checksums += flaw is kerong.Flaw.CHECKSUM
                case _:
                    answers.append(event)
        return answers

    @contextlib.asynccontextmanager
    async def _quiet_turn(self) -> AsyncIterator[None]:
        """A turn on the bus when the silence after a pulse or a missing answer is over.

        The silence is waited for without the turn, so that it never holds up a pulse.
        """
        while True:
            await self._clock_reaches(self._quiet_until)
            async with self._turn.taken(_Rank.QUERY):
                if self._clock.mono() >= self._quiet_until:
                    yield
                    return

    async def _clock_reaches(self, mono: float) -> None:
        while (left := mono - self._clock.mono()) > 0:
            await self._clock.sleep(left)

    def _wiring(self, board: int) -> Wiring:
        try:
            return self._boards[board]
        except KeyError:
            raise ConfigError(f"board {board} is not wired", remedy="name it among the bus's boards") from None


class _Rank(enum.IntEnum):
    """Who goes first."""

    PULSE = 0
    QUERY = 1


class _Turn:
    """A lock that goes to the best rank first, and within a rank to whoever came first."""

    def __init__(self) -> None:
        self._held = False
        self._order = itertools.count()
        self._waiting: list[tuple[_Rank, int, asyncio.Future[None]]] = []

    @contextlib.asynccontextmanager
    async def taken(self, rank: _Rank) -> AsyncIterator[None]:
        await self._take(rank)
        try:
            yield
        finally:
            self._pass_on()

    async def _take(self, rank: _Rank) -> None:
        if not self._held:
            self._held = True
            return
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (rank, next(self._order), ticket))
        try:
            await ticket
        except asyncio.CancelledError:
            if not ticket.cancelled():  # the turn had just been given to this caller
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            _, _, ticket = heapq.heappop(self._waiting)
            if not ticket.done():
                ticket.set_result(None)
                return
        self._held = False


def _checked(boards: Sequence[Wiring]) -> dict[int, Wiring]:
    wired: dict[int, Wiring] = {}
    for wiring in boards:
        kerong.ask_status(wiring.board)  # refuses an address that cannot exist
        if wiring.board in wired:
            raise ConfigError(f"board {wiring.board} is wired twice", remedy="give each board an address of its own")
        if not 1 <= wiring.locks <= kerong.LOCKS:
            raise ConfigError(f"board {wiring.board} has {wiring.locks} locks", remedy=f"wire 1 to {kerong.LOCKS}")
        if wiring.closed_bit not in {0, 1}:
            raise ConfigError(f"a closed bit of {wiring.closed_bit}", remedy="calibrate it: it is 0 or 1")
        wired[wiring.board] = wiring
    return wired


def _reading(status: kerong.Status, lock: int, wiring: Wiring) -> Reading:
    closed = (status.hooks >> lock & 1) == wiring.closed_bit
    item = bool(status.items >> lock & 1) if wiring.item_sensors else None
    return Reading(Hook.CLOSED if closed else Hook.OPEN, item)
