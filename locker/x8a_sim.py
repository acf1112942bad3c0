"""Simulated "0x8A" lock boards on a pseudo-terminal. Written from the field notes alone.

They share no codec, constant or import with the driver: an error in one of the two is then seen by the other.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from locker.bench_sim import Bench, BenchConfig, refuse_impossible
from locker.cabinet_sim import Happening
from locker.hands_sim import run_bench

PATIENCE = 0.05
"""Seconds of silence within a frame after which a board forgets its beginning."""

TURN_GAP = 0.1
"""Seconds between two locks where a board opens several in turn."""

LENGTHS = {0x80: (5,), 0x8A: (5, 6), 0x90: (6,), 0x9A: (5,), 0x9B: (5,), 0x9D: (5,)}
"""Bytes of the commands: status; open one or, with LOCK 00, all, and the same for some seconds; open several; hold; let
go; test all."""


@dataclasses.dataclass(frozen=True)
class SimConfig(BenchConfig):
    """Up to 99 boards of up to 32 locks."""

    locks: int = 24
    first: int = 1
    ways: int = 24
    """Of the board: with more than 24 its status has a fourth byte."""
    shut_single: int = 0x11
    """What a shut door gives in the status of one lock and in the answer to an unlock: 00 or 11."""
    busy: bool = False
    """Whether a board hears nothing while it drives a coil."""


async def run_board_simulator(config: SimConfig, ready: Callable[[], None] | None = None) -> None:
    """Simulate until cancelled. ``ready`` is called once the port and the control socket can be used.

    Raises ``ConfigError`` as ``electronics`` does.
    """
    await run_bench(config, electronics(config), ready)


def electronics(config: SimConfig) -> Callable[[Bench], X8aBoards]:
    """What is laid on the bench. Raises ``ConfigError`` for impossible boards, locks or baud rate."""
    refuse_impossible(config, addresses=range(1, 100), locks=config.ways, speeds=(9600,))
    return lambda bench: X8aBoards(bench, config)


class Heard(NamedTuple):
    """A whole command."""

    raw: bytes

    @property
    def verb(self) -> int:
        return self.raw[0]

    @property
    def to(self) -> int:
        return self.raw[1]

    @property
    def lock(self) -> int:
        """From 1; 0 for all."""
        return self.raw[2]

    @property
    def is_query(self) -> bool:
        return self.verb == 0x80  # noqa: PLR2004 - the header of every status

    @property
    def seconds(self) -> int | None:
        """Of a timed unlock."""
        return self.raw[4] if self.verb == 0x8A and len(self.raw) == 6 else None  # noqa: PLR2004


class Ear:
    """Finds commands in what the line carries."""

    def __init__(self) -> None:
        self._kept = b""
        self._last = 0.0

    def hear(self, data: bytes, now: float) -> list[Heard]:
        if now - self._last > PATIENCE:
            self._kept = b""
        self._last = now
        self._kept += data
        commands = []
        while self._kept:
            lengths = LENGTHS.get(self._kept[0], ())
            size = next((size for size in lengths if self._is_command(self._kept[:size], size)), 0)
            if size:
                commands.append(Heard(self._kept[:size]))
                self._kept = self._kept[size:]
            elif len(self._kept) < max(lengths, default=0):
                break
            else:
                self._kept = self._kept[1:]
        return commands

    @staticmethod
    def _is_command(frame: bytes, size: int) -> bool:
        if len(frame) < size or folded(frame) != 0:
            return False
        match frame[0]:
            case 0x80:
                return frame[3] == 0x33  # noqa: PLR2004 - "status"
            case 0x8A:
                return frame[3] == 0x11 and (size == 5 or 1 <= frame[4] <= 9)  # noqa: PLR2004 - open, seconds
            case 0x9A | 0x9B:
                return frame[3] in {0x10, 0x11}
            case 0x9D:
                return frame[2:4] in {b"\x02\x10", b"\x02\x11", b"\x01\x33"}  # public drivers differ
            case _:
                return True


class X8aBoards:
    """``locker.bench_sim.Electronics``: the boards on one bus. They have no fault of their own."""

    def __init__(self, bench: Bench, config: SimConfig) -> None:
        self._bench = bench
        self._config = config
        self._busy_until = dict.fromkeys(bench.numbers, 0.0)
        self._ear = Ear()

    def hear(self, data: bytes, now: float) -> None:
        for command in self._ear.hear(data, now):
            if command.is_query:
                self._bench.asked(command.to)
            else:
                one = command.lock - 1 if command.verb == 0x8A and command.lock else None  # noqa: PLR2004
                self._bench.commanded(command.to, one, command.raw)
            for board in self._bench.obeying(command.to):
                if not (self._config.busy and now < self._busy_until[board]):
                    self._obey(board, command, now)

    def notice(self, happening: Happening) -> None:
        """These boards speak when they are asked."""

    def inflict(self, kind: str, board: int, lock: int | None, how: dict[str, Any]) -> bool:  # noqa: ARG002
        return False

    def heal(self) -> None:
        """They have no fault of their own."""

    def _obey(self, board: int, command: Heard, now: float) -> None:
        match command.verb:
            case 0x80 if command.lock:
                self._say_one(board, 0x80, command.lock)
            case 0x80:
                self._say_all(board)
            case 0x8A if command.lock:
                seconds = command.seconds or self._config.coil_ms / 1000
                self._drive_in_turn(board, [command.lock - 1], seconds, now)
                # It says how it went when it is over.
                self._bench.time.call_at(now + seconds, functools.partial(self._say_one, board, 0x8A, command.lock))
            case 0x8A | 0x9D:
                self._drive_in_turn(board, range(self._config.ways), self._config.coil_ms / 1000, now)
            case 0x90:
                wanted = int.from_bytes(command.raw[2:5], "little")
                locks = [lock for lock in range(24) if wanted >> lock & 1]
                self._drive_in_turn(board, locks, self._config.coil_ms / 1000, now)
            case 0x9A:
                self._bench.drive(board, command.lock - 1, math.inf, now)
            case 0x9B:
                self._bench.let_go(board, command.lock - 1, now)
            case _:
                pass

    def _drive_in_turn(self, board: int, locks: Iterable[int], seconds: float, now: float) -> None:
        for count, lock in enumerate(locks):
            then = now + count * (seconds + TURN_GAP)
            self._busy_until[board] = then + seconds
            if count:
                self._bench.time.call_at(then, functools.partial(self._drive_later, board, lock, seconds))
            else:
                self._bench.drive(board, lock, seconds, now)

    def _drive_later(self, board: int, lock: int, seconds: float) -> None:
        self._bench.drive(board, lock, seconds, self._bench.now())

    def _say_one(self, board: int, verb: int, lock: int) -> None:
        said = self._config.shut_single if self._shut(board) >> lock - 1 & 1 else 0x11 - self._config.shut_single
        self._bench.answer(spelt([verb, self._bench.address[board], lock, said]))

    def _say_all(self, board: int) -> None:
        size = 3 if self._config.ways <= 24 else 4  # noqa: PLR2004 - three bytes of eight
        bits = self._shut(board) if self._config.shut_bit else ~self._shut(board) & (1 << 8 * size) - 1
        self._bench.answer(spelt([0x80, self._bench.address[board], *bits.to_bytes(size, "big"), 0x33]))

    def _shut(self, board: int) -> int:
        """Bit n: the door of lock n is shut. Where none is wired there is an open switch."""
        switches = self._bench.cabinet.switches(board)
        return switches if self._config.shut_bit else ~switches & (1 << self._config.locks) - 1


def spelt(frame: list[int]) -> bytes:
    return bytes([*frame, folded(frame)])


def folded(frame: Iterable[int]) -> int:
    return functools.reduce(operator.xor, frame, 0)
