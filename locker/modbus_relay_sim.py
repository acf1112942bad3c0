"""Simulated Modbus RTU relay boards with inputs on a pseudo-terminal. Written from field notes and the maker's wiki.

They share no codec, constant or import with the driver: an error in one of the two is then seen by the other. Relay n
feeds the coil of lock n, input n is its hook switch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from locker.bench_sim import Bench, BenchConfig, refuse_impossible
from locker.cabinet_sim import Happening, Spot
from locker.hands_sim import run_bench

PATIENCE = 0.05
"""Seconds of silence after which a board forgets the beginning of a frame. True ones take 4 ms at 9600 baud; the
processes here may be kept waiting for longer than that."""

SIZES = (8, 16, 32)
"""Relays a board can have."""

SPEEDS = (4800, 9600, 19200, 38400, 57600, 115200)

ON, OFF, FLIP = 0xFF00, 0x0000, 0x5500
"""The values a relay can be written with."""

EVERY = 0x00FF
"""The number that stands for all relays."""

NO_FUNCTION, NO_ADDRESS, NO_VALUE = 1, 2, 3
"""What a board says to a request that it will not do."""


@dataclasses.dataclass(frozen=True)
class SimConfig(BenchConfig):
    """Boards 1 to 247; each is the smallest that has room for its locks."""

    locks: int = 8
    first: int = 1
    inputs: bool = True
    """Whether the boards have inputs at all."""
    linked: bool = False
    """Whether relays follow their inputs until told otherwise, as some come from the factory."""


async def run_board_simulator(config: SimConfig, ready: Callable[[], None] | None = None) -> None:
    """Simulate until cancelled. ``ready`` is called once the port and the control socket can be used.

    Raises ``ConfigError`` as ``electronics`` does.
    """
    await run_bench(config, electronics(config), ready)


def electronics(config: SimConfig) -> Callable[[Bench], RelayBoards]:
    """What is laid on the bench. Raises ``ConfigError`` for impossible boards, locks or baud rate."""
    refuse_impossible(config, addresses=range(1, 248), locks=max(SIZES), speeds=SPEEDS)
    return lambda bench: RelayBoards(bench, config)


class Heard(NamedTuple):
    """A whole request."""

    raw: bytes

    @property
    def to(self) -> int:
        return self.raw[0]

    @property
    def verb(self) -> int:
        return self.raw[1]

    @property
    def where(self) -> int:
        return self.raw[2] << 8 | self.raw[3]

    @property
    def value(self) -> int:
        return self.raw[4] << 8 | self.raw[5]


class Ear:
    """Finds requests between silences."""

    def __init__(self) -> None:
        self._kept = b""
        self._last = 0.0

    def hear(self, data: bytes, now: float) -> list[Heard]:
        if now - self._last > PATIENCE:
            self._kept = b""
        self._last = now
        found = []
        for byte in data:
            self._kept = (self._kept + bytes([byte]))[-8:]
            if len(self._kept) == 8 and remainder(self._kept[:6]) == self._kept[6:]:  # noqa: PLR2004 - all that we know
                found.append(Heard(self._kept))
                self._kept = b""
        return found


class RelayBoards:
    """``locker.bench_sim.Electronics``: the boards on one bus.

    Their own faults: ``flash_ignored`` {board}, an old firmware that confirms a timed pulse and does nothing;
    ``linked`` {board}, relays follow their inputs until told otherwise; ``welded`` {board, lock}, a relay that, once
    on, stays on whatever its board believes.
    """

    def __init__(self, bench: Bench, config: SimConfig) -> None:
        self._bench = bench
        self._relays = min(size for size in SIZES if size >= config.locks)
        self._config = config
        self._on: dict[Spot, float] = {}
        """Until when relays are on that are."""
        self._linked: set[Spot] = set()
        self._ignoring: set[int] = set()
        self._welded: set[Spot] = set()
        self._ear = Ear()
        if config.linked:
            self._linked.update(Spot(board, relay) for board in bench.numbers for relay in range(self._relays))

    def hear(self, data: bytes, now: float) -> None:
        for request in self._ear.hear(data, now):
            if request.verb <= 4:  # noqa: PLR2004 - functions up to 4 read
                self._bench.asked(request.to)
            else:
                relay = request.where % 256 if request.where != EVERY and request.verb == 5 else None  # noqa: PLR2004
                self._bench.commanded(request.to, relay, request.raw)
            for board in self._bench.obeying(request.to or None):
                answer = self._obey(board, request, now)
                if request.to:  # what is said to all is answered by none
                    self._bench.answer(sealed(bytes([self._bench.address[board]]) + answer))

    def notice(self, happening: Happening) -> None:
        spot = happening.spot
        if happening.what in {"opened", "closed"} and spot in self._linked and spot.board not in self._bench.dead:
            self._follow(spot, happening.t)

    def inflict(self, kind: str, board: int, lock: int | None, how: dict[str, Any]) -> bool:  # noqa: ARG002
        match kind:
            case "flash_ignored":
                self._ignoring.add(board)
            case "linked":
                for relay in range(self._relays):
                    self._linked.add(Spot(board, relay))
                    self._follow(Spot(board, relay), self._bench.now())
            case "welded" if lock is not None:
                self._welded.add(Spot(board, lock))
            case _:
                return False
        return True

    def heal(self) -> None:
        """Mended boards stand as after power-up: every relay off, in the mode they were made with."""
        on = {*self._on, *self._welded}
        self._ignoring.clear()
        self._welded.clear()
        if not self._config.linked:
            self._linked.clear()
        for spot in on:
            self._switch(spot, OFF, self._bench.now())

    def _obey(self, board: int, request: Heard, now: float) -> bytes:
        """The answer, without address and CRC."""
        match request.verb:
            case 1:
                on = sum((self._on.get(Spot(board, k), 0.0) > now) << k for k in range(self._relays))
                return self._bits(request, on)
            case 2 if self._config.inputs:
                return self._bits(request, self._bench.cabinet.switches(board))
            case 3:
                return self._registers(board, request)
            case 5:
                return self._write(board, request, now)
            case 6:
                return self._set_mode(board, request, now)
            case _:
                return refusal(request, NO_FUNCTION)

    def _bits(self, request: Heard, bits: int) -> bytes:
        if request.value == 0 or request.where + request.value > self._relays:
            return refusal(request, NO_ADDRESS)
        told = bits >> request.where & (1 << request.value) - 1
        count = -(-request.value // 8)
        return bytes([request.verb, count]) + told.to_bytes(count, "little")

    def _registers(self, board: int, request: Heard) -> bytes:
        first = request.where - 0x1000
        if request.where == 0x4000 and request.value == 1:  # noqa: PLR2004 - the register of the address
            return bytes([3, 2, 0, self._bench.address[board]])
        if not (self._config.inputs and 0 <= first < first + request.value <= self._relays):
            return refusal(request, NO_ADDRESS)
        modes = [Spot(board, relay) in self._linked for relay in range(first, first + request.value)]
        return bytes([3, 2 * len(modes)]) + b"".join(bytes([0, mode]) for mode in modes)

    def _write(self, board: int, request: Heard, now: float) -> bytes:
        where, value = request.where, request.value
        if where == EVERY or where < self._relays:
            if value not in {ON, OFF, FLIP}:
                return refusal(request, NO_VALUE)
            for relay in range(self._relays) if where == EVERY else [where]:
                self._switch(Spot(board, relay), value, now)
        elif 0x200 <= where < 0x200 + self._relays and 0 < value < 0x8000:  # noqa: PLR2004 - as the notes have it
            if board not in self._ignoring:
                self._power(Spot(board, where - 0x200), value / 10, now)
        else:
            return refusal(request, NO_ADDRESS)
        return request.raw[1:6]

    def _set_mode(self, board: int, request: Heard, now: float) -> bytes:
        relay = request.where - 0x1000
        if request.where == 0x4000 and 1 <= request.value <= 255:  # noqa: PLR2004 - the register of the address
            self._bench.address[board] = request.value
        elif not (self._config.inputs and 0 <= relay < self._relays):
            return refusal(request, NO_ADDRESS)
        elif request.value > 3:  # noqa: PLR2004 - of four modes two are simulated
            return refusal(request, NO_VALUE)
        elif request.value == 1:
            self._linked.add(Spot(board, relay))
            self._follow(Spot(board, relay), now)
        else:
            self._linked.discard(Spot(board, relay))
        return request.raw[1:6]

    def _switch(self, spot: Spot, value: int, now: float) -> None:
        is_on = self._on.get(spot, 0.0) > now
        if value == ON or (value == FLIP and not is_on):
            self._power(spot, math.inf, now)
        else:
            self._on.pop(spot, None)
            if spot not in self._welded:
                self._bench.let_go(*spot, now)

    def _follow(self, spot: Spot, now: float) -> None:
        """A linked relay is on while its input has current."""
        active = spot in self._bench.cabinet and self._bench.cabinet.switches(spot.board) >> spot.lock & 1
        self._switch(spot, ON if active else OFF, now)

    def _power(self, spot: Spot, seconds: float, now: float) -> None:
        self._on[spot] = now + seconds
        self._bench.drive(*spot, math.inf if spot in self._welded else seconds, now)


def refusal(request: Heard, reason: int) -> bytes:
    return bytes([request.verb | 0x80, reason])


def sealed(body: bytes) -> bytes:
    return body + remainder(body)


def remainder(body: Iterable[int]) -> bytes:
    """What a division by x^16 + x^15 + x^2 + 1 leaves of ``body``, each byte's lowest bit first, all ones before it."""
    left = 0xFFFF
    for byte in body:
        left = left << 8 & 0xFFFF ^ LEAVES[left >> 8 ^ TURNED[byte]]
    return bytes([TURNED[left >> 8], TURNED[left & 255]])


def _leaves(byte: int) -> int:
    left = byte << 8
    for _ in range(8):
        left = left << 1 & 0xFFFF ^ (0x8005 if left >> 15 else 0)
    return left


TURNED = [int(f"{byte:08b}"[::-1], 2) for byte in range(256)]
LEAVES = [_leaves(byte) for byte in range(256)]
"""What the division leaves of each byte alone."""
