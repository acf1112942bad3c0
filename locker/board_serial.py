"""The one owner of a bus of lock boards: one transaction at a time, and only a status query says what is so."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import heapq
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Protocol, TypeVar

import msgspec

from edge import log
from edge.clock import Clock
from edge.errors import ConfigError, DeviceError, DeviceSilent
from locker.board import (
    BusCodec,
    BusTiming,
    CoilTime,
    CoilTimed,
    Latches,
    Malformed,
    Pushed,
    SetRight,
    SetUp,
    Stranger,
    Word,
)
from locker.latch import Hook, Latch, Reading

Answer = TypeVar("Answer", Latches, CoilTime, SetUp)

_log = log.get_logger("locker.board_serial")

COIL_CLOSE = 0.005
"""Seconds by which a board's word on its unlock time may miss what it was told: half the finest step on a wire."""


AMEND_AGAIN = 60.0
"""Seconds until a board that could not be put right is told again: its memory bears some 100,000 writes, and the log a
line a minute."""


class Line(Protocol):
    """The bytes a bus is made of; ``edge.serial_asyncio.SerialPort`` is one. All may raise ``DeviceError``."""

    def drain(self) -> bytes: ...

    async def read(self, seconds: float) -> bytes: ...

    async def write(self, data: bytes) -> None: ...


class BusCounters(msgspec.Struct):
    """What happened on one bus since the start; for health. Noise that never began like a frame is not counted."""

    answers: int = 0
    timeouts: int = 0
    pulses: int = 0
    bad_checksums: int = 0
    resyncs: int = 0
    """Bytes that began like a frame and were none, bad checksums included."""
    words: int = 0
    """Own frames handed back by an adapter that echoes, and what boards say to an unlock. Harmless."""
    pushes: int = 0
    """Doors' moves that boards told by themselves."""
    strays: int = 0
    """Valid answers nobody waited for: late ones, a chatty board, or two boards with one address."""
    contradictions: int = 0
    """Two different answers to one query: two boards with one address, or a damaged frame that still added up."""
    amends: int = 0
    """Frames that put a board's settings right."""
    unfit: int = 0
    """Times a board's settings could not be put right, so that it was not read."""
    device_errors: int = 0


class SerialBoards:
    """``locker.latch.LockBoards`` over one serial line, whatever its boards speak.

    A waiting pulse goes before waiting queries and is written without asking anything first. A query is repeated, an
    unlock frame never. Cancelling a caller leaves the bus usable. That one coil is driven at a time is looked after
    above, for all buses together (``locker.joined_asyncio``).
    """

    def __init__(self, line: Line, clock: Clock, codec: BusCodec, timing: BusTiming) -> None:
        """Nothing is opened yet."""
        self.counters = BusCounters()
        self._line = line
        self._clock = clock
        self._codec = codec
        self._timing = timing
        self._turn = _Turn()
        self._quiet_until = 0.0
        self._coil_off_at = 0.0
        self._settable = codec if isinstance(codec, SetRight) else None
        self._calmed: set[int] = set()
        self._right: set[int] = set()
        self._unfit_until: dict[int, float] = {}

    @property
    def boards(self) -> tuple[int, ...]:
        """The numbers of the boards on this bus."""
        return tuple(self._codec.locks)

    @property
    def coil(self) -> float:
        """Seconds after a pulse at which its coil is surely off."""
        return self._codec.coil

    async def readings(self, board: int) -> tuple[Reading, ...]:
        """All latches of ``board``, index = lock; UNKNOWN where no valid answer came or the port is gone.

        Raises ``ConfigError`` for a board that is not wired.
        """
        readings = [Reading(Hook.UNKNOWN)] * self._locks(board)
        if not await self._is_right(board):
            return tuple(readings)
        for query in self._codec.queries(board):
            told = await self._query(query.frame, Latches, query.answered_by)
            if told is None:
                self._right.discard(board)
                break  # a board that does not answer once will not answer the rest, and others wait
            readings[told.first : told.first + len(told.readings)] = told.readings
        return tuple(readings)

    async def pulse(self, latch: Latch) -> None:
        """Put one unlock frame on the wire; what the door did, only a later reading tells.

        Waits for an answer that is under way (``BusTiming``), for nothing else. Raises ``DeviceError`` when the frame
        did not go out, its kind ``DeviceSilent`` when only a part did, and ``ConfigError`` for a latch that is not
        wired.
        """
        if not 0 <= latch.lock < self._locks(latch.board):
            raise ConfigError(f"board {latch.board} has no lock {latch.lock}", remedy="correct latch or board")
        frame = self._codec.unlock(latch)
        async with self._turn.taken(_Rank.PULSE):
            await self._write(frame)
            self._settle()
            self._coil_off_at = self._clock.mono() + self._codec.coil
            self.counters.pulses += 1

    async def answers(self, board: int) -> int:
        """How many answers one status query gets: 0 = silent, 1 = right, more = boards share the address.

        Two such boards open two doors for one pulse: ask at installation and at start, when all doors are shut.
        Raises ``DeviceError`` when the port cannot be used, ``ConfigError`` for a board that is not wired.
        """
        self._locks(board)
        query = self._codec.queries(board)[0]
        async with self._quiet_turn():
            return len(await self._ask(query.frame, Latches, query.answered_by, whole=True))

    @property
    def tells_coil_time(self) -> bool:
        """Whether boards of this kind can be asked for how long they drive a coil."""
        return isinstance(self._codec, CoilTimed)

    async def coil_time(self, board: int) -> float | None:
        """Seconds ``board`` drives a coil, or None where it does not say.

        Raises ``ConfigError`` if it is not wired or of a kind that cannot be asked.
        """
        self._locks(board)
        return await self._coil_time(self._coil_timed(), board)

    async def set_coil_time(self, board: int, seconds: float) -> None:
        """Have ``board`` drive its coils for ``seconds``, and ask it whether it will.

        Raises ``DeviceSilent`` when the board does not confirm the value, ``DeviceError`` when nothing went out and
        ``ConfigError`` outside the range, if the board is not wired, or of a kind that cannot be told.
        """
        self._locks(board)
        codec = self._coil_timed()
        await self._say(codec.set_coil_time(board, seconds))
        said = await self._coil_time(codec, board)
        if said is None or abs(said - seconds) > COIL_CLOSE:
            raise DeviceSilent(
                f"board {board} was told an unlock time of {seconds} s and says {said}",
                remedy="set it with the maker's tool",
            )

    async def _is_right(self, board: int) -> bool:
        """Whether nothing about ``board`` opens doors by itself, as far as it can be asked; what is wrong is amended.

        While a coil may be driven nothing is asked: a pulse of ours looks like a relay that was left on.
        """
        codec, now = self._settable, self._clock.mono()
        if codec is None or board in self._right:
            return True
        if now < self._unfit_until.get(board, 0.0):
            return False
        if self._driving():
            return True
        try:
            if board not in self._calmed and await self._amend(codec.calm(board)):
                self._calmed.add(board)
            for query in codec.ask_set_up(board):
                if not await self._amended(query, board):
                    return self._driving()
        except DeviceError:
            self.counters.device_errors += 1
            return False
        self._right.add(board)
        return True

    async def _amended(self, query: bytes, board: int) -> bool:
        """Whether ``board`` says that all is well, once more after what was wrong has been amended."""
        for _ in range(2):
            told = await self._query(query, SetUp, lambda told: told.board == board)
            if told is None:
                return False
            if not told.amends:
                return True
            for frame in told.amends:
                if not await self._amend(frame):
                    return False
                self.counters.amends += 1
            _log.warning("bus.board_amended", board=board, frames=len(told.amends))
        self.counters.unfit += 1
        self._unfit_until[board] = self._clock.mono() + AMEND_AGAIN
        remedy = "set it with its maker's tool: every relay off, and obeying the bus alone"
        _log.error("bus.board_unfit", board=board, remedy=remedy)
        return False

    async def _amend(self, frame: bytes) -> bool:
        """Whether ``frame`` was sent: not while a pulse of ours is given, which it might end."""
        async with self._quiet_turn():
            if self._driving():
                return False
            await self._write(frame)
            self._settle()
        return True

    def _driving(self) -> bool:
        """Whether a coil may be on because we said so."""
        return self._clock.mono() < self._coil_off_at

    async def _say(self, frame: bytes) -> None:
        """Send what a board confirms, if at all, in a way that proves nothing."""
        async with self._quiet_turn():
            await self._write(frame)
            self._settle()

    def _settle(self) -> None:
        self._quiet_until = max(self._quiet_until, self._clock.mono() + self._timing.settle)

    async def _coil_time(self, codec: CoilTimed, board: int) -> float | None:
        told = await self._query(codec.ask_coil_time(board), CoilTime, lambda told: told.board == board)
        return None if told is None else told.seconds

    def _coil_timed(self) -> CoilTimed:
        if not isinstance(self._codec, CoilTimed):
            raise ConfigError("boards of this kind tell no unlock time", remedy="see the board's own papers")
        return self._codec

    async def _query(self, request: bytes, kind: type[Answer], wanted: Callable[[Answer], bool]) -> Answer | None:
        """The answer to ``request``, asking up to ``tries`` times and letting pulses in between."""
        for _ in range(self._timing.tries):
            async with self._quiet_turn():
                try:
                    found = await self._ask(request, kind, wanted, whole=False)
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

    async def _ask(
        self, request: bytes, kind: type[Answer], wanted: Callable[[Answer], bool], *, whole: bool
    ) -> list[Answer]:
        """One transaction: what answers until the first answer, or, if ``whole``, in all the time there is."""
        await self._write(request)
        deadline = self._clock.mono() + self._timing.answer
        found: list[Answer] = []
        while (left := deadline - self._clock.mono()) > 0 and (whole or not found):
            told = self._decode(await self._line.read(left))
            answers = [one for one in told if isinstance(one, kind) and wanted(one)]
            self.counters.strays += len(told) - len(answers)
            found += answers
        self.counters.strays += max(len(found) - 1, 0)
        if not found:
            self._quiet_until = self._clock.mono() + self._timing.late
        return found

    async def _write(self, frame: bytes) -> None:
        """Send ``frame`` on a line on which nothing of an earlier transaction is left."""
        self.counters.strays += len(self._decode(self._line.drain()))
        self._codec.reset()
        await self._line.write(frame)

    def _decode(self, data: bytes) -> list[Latches | CoilTime | SetUp]:
        """The boards' answers in ``data``; everything else is only counted."""
        answers: list[Latches | CoilTime | SetUp] = []
        for event in self._codec.feed(data):
            match event:
                case Latches() | CoilTime() | SetUp():
                    answers.append(event)
                case Stranger():
                    self.counters.strays += 1
                case Word():
                    self.counters.words += 1
                case Pushed():
                    self.counters.pushes += 1
                case Malformed(checksum):
                    self.counters.resyncs += 1
                    self.counters.bad_checksums += checksum
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

    def _locks(self, board: int) -> int:
        try:
            return self._codec.locks[board]
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
