"""Simulated "WKLY" lock boards on a pseudo-terminal. Written from the field notes alone.

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
from locker.cabinet_sim import Happening, Spot
from locker.hands_sim import run_bench

PATIENCE = 0.05
"""Seconds of silence within a frame after which a board forgets its beginning."""

SIGN = (0x57, 0x4B, 0x4C, 0x59)
"""What every frame begins with."""

SIZES = (7, 12, 24)
"""Locks a board can have."""

TURN_GAP = 0.1
"""Seconds between two locks where a board opens several in turn."""


@dataclasses.dataclass(frozen=True)
class SimConfig(BenchConfig):
    """Up to 32 boards; each is the smallest that has room for its locks."""

    locks: int = 24
    pushes: bool = True
    """Whether boards tell unasked what their switches do."""


async def run_board_simulator(config: SimConfig, ready: Callable[[], None] | None = None) -> None:
    """Simulate until cancelled. ``ready`` is called once the port and the control socket can be used.

    Raises ``ConfigError`` as ``electronics`` does.
    """
    await run_bench(config, electronics(config), ready)


def electronics(config: SimConfig) -> Callable[[Bench], WklyBoards]:
    """What is laid on the bench. Raises ``ConfigError`` for impossible boards, locks or baud rate."""
    refuse_impossible(config, addresses=range(32), locks=max(SIZES), speeds=(9600,))
    return lambda bench: WklyBoards(bench, config)


class Heard(NamedTuple):
    """A whole command."""

    raw: bytes

    @property
    def to(self) -> int:
        return self.raw[5]

    @property
    def verb(self) -> int:
        return self.raw[6]

    @property
    def data(self) -> bytes:
        return self.raw[7:-1]


class Ear:
    """Finds commands byte by byte, as a small controller does: what it took for a frame it does not look at again."""

    def __init__(self) -> None:
        self._kept: list[int] = []
        self._last = 0.0

    def hear(self, data: bytes, now: float) -> list[Heard]:
        if now - self._last > PATIENCE:
            self._kept = []
        self._last = now
        return [command for byte in data if (command := self._take(byte))]

    def _take(self, byte: int) -> Heard | None:
        self._kept.append(byte)
        place = len(self._kept)
        if place <= len(SIGN) and byte != SIGN[place - 1]:
            self._kept = [byte] if byte == SIGN[0] else []
        elif place == len(SIGN) + 1 and not 8 <= byte <= 2 * max(SIZES):  # noqa: PLR2004 - a command without data
            self._kept = []
        elif place > len(SIGN) and place == self._kept[len(SIGN)]:
            frame, self._kept = bytes(self._kept), []
            return Heard(frame) if folded(frame) == 0 else None
        return None


@dataclasses.dataclass
class _Chatter:
    """A board that pushes before its next ``left`` answers (below 0: all of them)."""

    lock: int
    state: int | None
    left: int


class WklyBoards:
    """``locker.bench_sim.Electronics``: the boards on one bus.

    Their own fault is ``push`` {board, lock, state?, times?}: a push frame comes between each command and its answer,
    with the true state unless another is given.
    """

    def __init__(self, bench: Bench, config: SimConfig) -> None:
        self._bench = bench
        self._config = config
        self._ways = min(size for size in SIZES if size >= config.locks)
        self._chatter: dict[int, _Chatter] = {}
        self._ear = Ear()

    def hear(self, data: bytes, now: float) -> None:
        for command in self._ear.hear(data, now):
            if command.verb in {0x83, 0x84}:
                self._bench.asked(command.to)
            else:
                one = command.data[0] - 1 if len(command.data) == 1 else None
                self._bench.commanded(command.to, one, command.raw)
            for board in self._bench.obeying(command.to):
                self._obey(board, command, now)

    def notice(self, happening: Happening) -> None:
        spot = happening.spot
        if happening.what not in {"opened", "closed"} or not self._config.pushes or spot.board in self._bench.dead:
            return
        if self._bench.cabinet.ailment(spot).cut is None:  # a switch behind a cut cable moves nothing
            self._bench.send(self._push(spot.board, spot.lock))

    def inflict(self, kind: str, board: int, lock: int | None, how: dict[str, Any]) -> bool:
        if kind != "push" or Spot(board, lock or 0) not in self._bench.cabinet:
            return False
        self._chatter[board] = _Chatter(lock or 0, how.get("state"), how.get("times", -1))
        return True

    def heal(self) -> None:
        self._chatter.clear()

    def _obey(self, board: int, command: Heard, now: float) -> None:
        data = command.data
        match command.verb, len(data):
            case 0x84, 0:
                self._answer(board, 0x84, [0, self._ways, *self._states(board)])
            case 0x83, 1:
                self._answer(board, 0x83, [self._result(data[0]), data[0], self._state(board, data[0] - 1)])
            case 0x82, 1:
                self._answer(board, 0x82, [self._result(data[0]), data[0], self._state(board, data[0] - 1)])
                self._drive(board, data[0] - 1, now)
            case 0x80, size if size and size == data[0] + 1:
                for lock in data[1:]:
                    self._drive(board, lock - 1, now)
            case 0x87, size if size and size == data[0] + 1:
                self._drive_in_turn(board, [lock - 1 for lock in data[1:]], now)
            case 0x86, 0:
                self._drive_in_turn(board, range(self._ways), now)
            case 0x88, 1:
                self._bench.drive(board, data[0] - 1, math.inf, now)
            case 0x89, 1:
                self._bench.let_go(board, data[0] - 1, now)
            case _:
                pass  # 0x81 blinks a lamp; what is not told of an answer here, the notes do not tell either

    def _drive(self, board: int, lock: int, now: float) -> None:
        self._bench.drive(board, lock, self._config.coil_ms / 1000, now)

    def _drive_in_turn(self, board: int, locks: Iterable[int], now: float) -> None:
        for count, lock in enumerate(locks):
            then = now + count * (self._config.coil_ms / 1000 + TURN_GAP)
            self._bench.time.call_at(then, functools.partial(self._drive_later, board, lock))

    def _drive_later(self, board: int, lock: int) -> None:
        self._drive(board, lock, self._bench.now())

    def _result(self, lock: int) -> int:
        return 0x00 if 1 <= lock <= self._ways else 0xFF

    def _states(self, board: int) -> list[int]:
        """What the board reads of each lock; where none is wired, an open switch."""
        bits = self._bench.cabinet.switches(board)
        wired = [bits >> lock & 1 for lock in range(self._config.locks)]
        return wired + [1 - self._config.shut_bit] * (self._ways - len(wired))

    def _state(self, board: int, lock: int) -> int:
        return self._states(board)[lock] if 0 <= lock < self._ways else 1 - self._config.shut_bit

    def _push(self, board: int, lock: int, state: int | None = None) -> bytes:
        told = self._state(board, lock) if state is None else state
        return spelt(self._bench.address[board], 0x85, [lock + 1, told])

    def _answer(self, board: int, verb: int, data: list[int]) -> None:
        chatter = self._chatter.get(board)
        if chatter and chatter.left:
            chatter.left -= 1 if chatter.left > 0 else 0
            self._bench.send(self._push(board, chatter.lock, chatter.state))
        self._bench.answer(spelt(self._bench.address[board], verb, data))


def spelt(address: int, verb: int, data: list[int]) -> bytes:
    """A frame: the sign, its length, address, verb, data, and what makes all of it fold to nothing."""
    frame = [*SIGN, len(data) + 8, address, verb, *data]
    return bytes([*frame, folded(frame)])


def folded(frame: Iterable[int]) -> int:
    return functools.reduce(operator.xor, frame, 0)
