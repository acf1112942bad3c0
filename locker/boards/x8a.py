"""The wire of "0x8A" lock boards (8 to 32 ways, many sellers): commands to bytes, bytes to events.

RS-485, half duplex, 9600 8N1. A frame is ``HDR BOARD LOCK FUNC BCC``, BCC the XOR of the bytes before it; a board's
answer about all its locks has three or four status bytes instead, the highest locks first. Boards count from 1, locks
too. The frames rest on five public drivers, the meaning of a status bit on none: they contradict each other, and even
within one of them a lock's own status is read with the opposite sense of the board's. So both are calibrated.

LOCK 00 means all of them: a lock below 1 cannot be said. Nor can the timed unlock of one to nine seconds, "open
several" (90), or "hold" (9A), which keeps a coil driven until somebody ends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec

from edge.errors import ConfigError
from edge.settings import Settings
from locker.board import (
    BusTiming,
    CoilMs,
    Event,
    Latches,
    Malformed,
    Query,
    SerialDriver,
    Stranger,
    Word,
    numbers_by_address,
    wiring_of,
)
from locker.latch import Hook, Latch, Reading

ADDRESSES: Final = range(1, 100)
"""By the switches 1 to 32; a seller's sheet says up to 99."""

LOCKS: Final = range(1, 33)
"""Numbers on the wire of the largest board's locks. Never 0."""

_UNLOCK: Final = 0x8A
_STATUS: Final = 0x80

_OPEN_ONE: Final = 0x11
_ASK: Final = 0x33
_STATES: Final = (0x00, 0x11)
"""What one lock's status, and the answer to an unlock, can be."""

_SHORT: Final = 5
"""Bytes of every frame but a whole board's status."""

_FUNCTION: Final = 3
"""Offset of FUNC in it."""

_AROUND: Final = 4
"""Bytes around the status bytes of a whole board: header and board before, ``33`` and BCC after."""


def ask_board(address: int) -> bytes:
    """The query for all locks of a board. Raises ``ConfigError`` outside 1..99."""
    # The only frame with a LOCK of 00: with this header it asks, and no single damaged byte makes it open.
    return _frame(_STATUS, _number("board", address, ADDRESSES), 0, _ASK)


def ask_lock(address: int, lock: int) -> bytes:
    """The query for one lock, counted from 1. Raises ``ConfigError`` outside 1..99 and 1..32."""
    return _frame(_STATUS, _number("board", address, ADDRESSES), _number("lock", lock, LOCKS), _ASK)


def unlock(address: int, lock: int) -> bytes:
    """One pulse for one lock, counted from 1. Raises ``ConfigError`` outside 1..99 and 1..32: 0 would open all."""
    return _frame(_UNLOCK, _number("board", address, ADDRESSES), _number("lock", lock, LOCKS), _OPEN_ONE)


class Wiring(Settings, frozen=True):
    """One board as it was installed and calibrated: open a door, look what changes in its status."""

    address: Annotated[int, msgspec.Meta(ge=1, le=99)]
    """As the board's switches say."""
    locks: Annotated[int, msgspec.Meta(ge=1, le=32)] = 24
    """Locks wired from the board's first on; lock 0 of the configuration is the one that the board calls 1."""
    asked: Literal["board", "lock"] = "board"
    """By its whole status, or lock by lock, which takes as many queries as there are locks."""
    closed_bit: Literal[0, 1] | None = None
    """The bit that a closed hook gives in the whole board's status."""
    closed_single: Literal["00", "11"] | None = None
    """The byte that one lock's own status gives for a closed hook. It need not agree with ``closed_bit``."""
    status_bytes: Literal[3, 4] = 3
    """Of the whole board's status: 4 on a board of 32 ways."""
    coil_ms: CoilMs = 300
    """The board's pulse; 300 ms from the factory."""

    def __post_init__(self) -> None:
        if self.asked == "board" and self.closed_bit is None:
            raise ValueError("a board that is asked as a whole needs closed_bit, 0 or 1: open a door and look")
        if self.asked == "lock" and self.closed_single is None:
            raise ValueError('a board that is asked by lock needs closed_single, "00" or "11": open a door and look')
        if self.locks > 8 * self.status_bytes:
            raise ValueError(f"{self.locks} locks need more than {self.status_bytes} status_bytes")


class Codec:
    """``locker.board.BusCodec``."""

    def __init__(self, wirings: Mapping[int, Wiring]) -> None:
        """Raises ``ConfigError`` for an address that stands twice."""
        self.locks = {number: wiring.locks for number, wiring in wirings.items()}
        self.coil = max(wiring.coil_ms for wiring in wirings.values()) / 1000
        self._wirings = dict(wirings)
        self._numbers = numbers_by_address(wirings)
        self._queries = {number: _queries(number, wiring) for number, wiring in wirings.items()}
        self._pending = bytearray()

    def queries(self, board: int) -> tuple[Query, ...]:
        return self._queries[board]

    def unlock(self, latch: Latch) -> bytes:
        wiring = wiring_of(self._wirings, latch)
        return unlock(wiring.address, latch.lock + 1)

    def feed(self, data: bytes) -> list[Event]:
        self._pending += data
        events: list[Event] = []
        while (event := self._next()) is not None:
            events.append(event)
        return events

    def reset(self) -> None:
        self._pending.clear()

    def _next(self) -> Event | None:
        """The next event, or None while more bytes are needed. Takes the bytes it has judged."""
        start = next((at for at, byte in enumerate(self._pending) if byte in (_STATUS, _UNLOCK)), len(self._pending))
        del self._pending[:start]
        if len(self._pending) < _SHORT:
            return None
        number = self._numbers.get(self._pending[1])
        if self._pending[0] == _STATUS and number is not None and self._wirings[number].asked == "board":
            return self._next_of_board(number, self._wirings[number])
        return self._next_short(number)

    def _next_of_board(self, number: int, wiring: Wiring) -> Event | None:
        """An answer of a board that is asked as a whole, or our own query, which the answer can begin like."""
        size = wiring.status_bytes + _AROUND
        if len(self._pending) < size:
            return None
        frame = bytes(self._pending[:size])
        if frame[-2] == _ASK and _adds_up(frame):
            del self._pending[:size]
            bits = int.from_bytes(frame[2:-2], "big")
            hooks = (bits >> lock & 1 for lock in range(wiring.locks))
            return Latches(number, 0, tuple(_READINGS[bit == wiring.closed_bit] for bit in hooks))
        if frame[_FUNCTION] == _ASK and _adds_up(frame[:_SHORT]):
            del self._pending[:_SHORT]
            return Word(frame[:_SHORT])
        return self._refuse(checksum=frame[-2] == _ASK)

    def _next_short(self, number: int | None) -> Event:
        frame = bytes(self._pending[:_SHORT])
        header, address, lock, function, _ = frame
        known = function in _STATES or (header == _STATUS and function == _ASK)
        if not known or not _adds_up(frame) or lock not in LOCKS:
            return self._refuse(checksum=known and lock in LOCKS)
        del self._pending[:_SHORT]
        if header == _UNLOCK or function == _ASK:
            return Word(frame)
        if number is None or lock > self.locks[number]:
            return Stranger(address)
        closed = self._wirings[number].closed_single == f"{function:02x}"
        return Latches(number, lock - 1, (_READINGS[closed],))

    def _refuse(self, *, checksum: bool) -> Malformed:
        # Only the first byte goes: the true frame may begin inside what was taken for one.
        del self._pending[0]
        return Malformed(checksum)


_READINGS: Final = {True: Reading(Hook.CLOSED), False: Reading(Hook.OPEN)}


def _queries(number: int, wiring: Wiring) -> tuple[Query, ...]:
    if wiring.asked == "board":
        return (Query(ask_board(wiring.address), number, 0, wiring.locks),)
    return tuple(Query(ask_lock(wiring.address, lock + 1), number, lock, 1) for lock in range(wiring.locks))


def _number(what: str, number: int, those: range) -> int:
    if type(number) is not int or number not in those:
        raise ConfigError(f"{what} {number!r} does not exist", remedy=f"wire it as an integer {those[0]}..{those[-1]}")
    return number


def _frame(header: int, address: int, lock: int, function: int) -> bytes:
    return bytes((header, address, lock, function, header ^ address ^ lock ^ function))


def _adds_up(frame: bytes) -> bool:
    total = 0
    for byte in frame:
        total ^= byte
    return total == 0


DRIVER: Final = SerialDriver(
    options=Wiring,
    codec=Codec,
    baud=9600,
    # An answer takes 8 ms of bytes and an adapter's 16; public drivers wait for 50 to 800 ms without saying why. To an
    # unlock a board speaks when its pulse of 300 ms is over, and a query before that would talk into its answer.
    timing=BusTiming(answer=0.3, late=0.15, settle=0.35),
)
"""The entry point ``0x8a``."""
