"""Latches on the Raspberry Pi's own pins: coils through the pulser, switches read here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from edge import log
from edge.clock import Clock
from edge.errors import ConfigError, DeviceError
from locker import pulser
from locker.board import DirectDriver
from locker.gpio_wiring import GpioBoard, GpioLock
from locker.latch import Hook, Latch, Reading
from locker.pins import Pins
from locker.pins_gpio import own_pins
from locker.pulser_socket import PulserClient

_log = log.get_logger("locker.latch")


class GpioTiming(msgspec.Struct, frozen=True):
    """Seconds."""

    settle: float = 0.005
    """Between two looks at a switch: contacts bounce for 1 to 10 ms, relays on a shared supply spike for less."""
    looks: int = 5
    """Looks at most, until two in a row are alike; a contact that flaps for longer is not to be trusted."""
    rest: float = 0.05
    """Between the end of the pulser's own rest and the next question to it."""


class GpioBoards:
    """``locker.latch.LockBoards`` on GPIO lines.

    Without its pulser a board is no board: its readings are UNKNOWN, so that nobody is promised a door.
    """

    def __init__(
        self,
        boards: Mapping[int, GpioBoard],
        pins: Pins,
        client: PulserClient,
        clock: Clock,
        timing: GpioTiming | None = None,
    ) -> None:
        """Nothing is opened yet."""
        self._boards = dict(boards)
        self._pins = pins
        self._pulser = client
        self._clock = clock
        self._timing = timing or GpioTiming()
        self._sensed: set[int] = set()
        self._turn = asyncio.Lock()
        self._coil = asyncio.Lock()
        self._coil_free_at = 0.0
        self._trouble: str | None = None

    async def readings(self, board: int) -> tuple[Reading, ...]:
        """All latches of ``board``, index = lock; UNKNOWN where a switch flaps, or chip or pulser cannot be reached.

        Raises ``ConfigError`` for a board that is not wired.
        """
        locks = self._board(board).locks
        try:
            async with self._turn:
                await self._pulser.connected()
            levels = await self._levels(locks)
        except DeviceError as error:
            self._tell(error)
            return (Reading(Hook.UNKNOWN),) * len(locks)
        self._trouble = None
        return tuple(Reading(_hook(lock, level)) for lock, level in zip(locks, levels, strict=True))

    async def pulse(self, latch: Latch) -> None:
        """Have the coil driven; returns when it is. Raises ``DeviceError`` where it is not, or nobody knows.

        Raises ``ConfigError`` for a latch that is not wired.
        """
        board = self._board(latch.board)
        if not 0 <= latch.lock < len(board.locks):
            raise ConfigError(f"board {latch.board} has no lock {latch.lock}", remedy="correct latch or board")
        async with self._coil:
            while (left := self._coil_free_at - self._clock.mono()) > 0:
                await self._clock.sleep(left)
            async with self._turn:
                await self._pulser.pulse(board.locks[latch.lock].coil, board.pulse_ms)
            self._coil_free_at = self._clock.mono() + coil_time(board) + self._timing.rest

    def close(self) -> None:
        """Leave the pulser, which switches off whatever is driven."""
        self._pulser.close()

    async def _levels(self, locks: Sequence[GpioLock]) -> list[int | None]:
        """The level of each switch once two looks in a row agree; None where they do not."""
        before = [self._look(lock) for lock in locks]
        settled: list[int | None] = [None] * len(locks)
        for _ in range(self._timing.looks - 1):
            await self._clock.sleep(self._timing.settle)
            now = [self._look(lock) for lock in locks]
            settled = [level if level == was else None for level, was in zip(now, before, strict=True)]
            if None not in settled:
                break
            before = now
        return settled

    def _look(self, lock: GpioLock) -> int:
        if lock.hook not in self._sensed:
            self._pins.sense(lock.hook, lock.hook_pull)
            self._sensed.add(lock.hook)
        return self._pins.read(lock.hook)

    def _board(self, board: int) -> GpioBoard:
        try:
            return self._boards[board]
        except KeyError:
            raise ConfigError(f"board {board} is not wired", remedy="name it among the boards") from None

    def _tell(self, error: DeviceError) -> None:
        """Once for each new trouble: boards are read ten times a second."""
        if self._trouble != error.what:
            self._trouble = error.what
            _log.warning("gpio.unreachable", what=error.what, remedy=error.remedy)


def open_boards(boards: Mapping[int, GpioBoard], clock: Clock) -> GpioBoards:
    """The boards of a configuration, on this machine's pins or on a simulator's. Nothing is opened yet.

    Raises ``ConfigError`` where they have more than one pulser.
    """
    paths = {board.pulser for board in boards.values()}
    if len(paths) != 1:
        raise ConfigError("GPIO boards with several pulsers", remedy="name one: a Pi has one set of pins")
    return GpioBoards(boards, own_pins(), PulserClient(Path(paths.pop())), clock)


def coil_time(board: GpioBoard) -> float:
    """Seconds after a pulse until the pulser drives another coil, which is longer than the coil is on."""
    return board.pulse_ms / 1000 + pulser.REST_S


def _hook(lock: GpioLock, level: int | None) -> Hook:
    if level is None:
        return Hook.UNKNOWN
    return Hook.CLOSED if level == lock.closed_level else Hook.OPEN


DRIVER = DirectDriver(options=GpioBoard, boards=open_boards, locks=lambda options: len(options.locks), coil=coil_time)
