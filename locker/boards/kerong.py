"""The wire of Kerong CU12 and CU16 lock boards: commands to bytes, bytes to events.

RS-485, half duplex, 19200 8N1 from the factory. A frame is ``02 ADDR CMD data.. 03 SUM``, ADDR = board << 4 | lock,
SUM the low byte of the sum of all bytes before it. Facts from five independent public drivers of these boards.

One lock per command is all this module can say: "unlock all" (33) has no function here, nor have delayed unlocking
(39), the baud rate (40), or any command to the broadcast address: "status of all boards" (32) makes them all speak at
once on one wire. The version query (F5 B6) is left out because no source shows its answer.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec

from edge.errors import ConfigError
from edge.settings import Settings
from locker import board as port
from locker.board import COIL_MOST, BusTiming, CoilMs, Query, SerialDriver, numbers_by_address, wiring_of
from locker.latch import Hook, Latch, Reading

BOARDS: Final = 16
"""Addresses a board can have: the high nibble of ADDR."""

LOCKS: Final = 16
"""Locks a CU16 has: the low nibble of ADDR. A CU12 has 12."""

COIL_STEP: Final = 0.01
"""Seconds per unit of the unlock time on the wire."""

TREACHEROUS: Final = frozenset({0x31, 0x33, 0x39})
"""Unlock times in steps that must not be sent. SUM does not notice lost zeros: ``02 00 37 00 31 03 6D`` without its
two is ``02 37 31 03 6D``, an unlock of board 3, lock 7; 33 would unlock all of them, and 39 is the delayed unlock."""

_START: Final = 0x02
_END: Final = 0x03


class _Code(enum.IntEnum):
    """The CMD byte."""

    ASK_STATUS = 0x30
    UNLOCK = 0x31
    ASK_ALL = 0x32
    UNLOCK_ALL = 0x33
    STATUS = 0x35
    STATUS_OF_ALL = 0x36
    COIL_TIME = 0x37
    COIL_TIME_IS = 0x38


_FIRST_DATA: Final = 3
"""Offset of the first data byte, after start, address and command."""

_FRAMING: Final = 5
"""Bytes of a frame beside its data."""

_DATA_LENGTHS: Final[dict[int, tuple[int, ...]]] = {
    _Code.ASK_STATUS: (0,),
    _Code.UNLOCK: (0,),
    _Code.ASK_ALL: (0,),
    _Code.UNLOCK_ALL: (0,),
    _Code.STATUS: (4,),
    _Code.STATUS_OF_ALL: (4,),
    _Code.COIL_TIME: (0, 2),
    _Code.COIL_TIME_IS: (2,),
}
"""Data bytes by command. 37 without data asks for the unlock time, with two it sets it."""

FRAME_MOST: Final = _FRAMING + max(max(lengths) for lengths in _DATA_LENGTHS.values())
"""Bytes of the longest frame."""


class Status(msgspec.Struct, frozen=True):
    """A board's answer about all its locks. Bit n belongs to lock n.

    ``hooks`` are raw switch bits; which value means closed is the wiring's affair. ``items`` has 1 where the infrared
    sensor sees something.
    """

    board: int
    hooks: int
    items: int


class CoilTime(msgspec.Struct, frozen=True):
    """A board's answer about its unlock time, in seconds."""

    board: int
    seconds: float


class Request(msgspec.Struct, frozen=True):
    """A command frame, which no board sends: our own, handed back by an adapter that echoes."""

    raw: bytes


class Flaw(enum.Enum):
    """Why bytes were refused."""

    COMMAND = "no command of this family"
    END = "no end byte where the frame must end"
    CHECKSUM = "wrong checksum"
    LOCK = "a board's answer that names a lock"


class Malformed(msgspec.Struct, frozen=True):
    """Something that began like a frame and was none. The decoder goes on one byte later."""

    flaw: Flaw


Event = Status | CoilTime | Request | Malformed


def ask_status(board: int) -> bytes:
    """The query for all hooks and sensors of ``board``. Raises ``ConfigError`` outside 0..15."""
    return _frame(_address(board), _Code.ASK_STATUS)


def unlock(board: int, lock: int) -> bytes:
    """One pulse for one lock. Raises ``ConfigError`` outside 0..15: a wrong nibble would open another door."""
    return _frame(_address(board, lock), _Code.UNLOCK)


def ask_coil_time(board: int) -> bytes:
    """The query for how long ``board`` drives a coil. Raises ``ConfigError`` outside 0..15."""
    return _frame(_address(board), _Code.COIL_TIME)


def set_coil_time(board: int, seconds: float) -> bytes:
    """How long ``board`` is to drive a coil, in steps of 10 ms.

    Raises ``ConfigError`` outside 0.01..1 s, and for 0.49, 0.51 and 0.57 s (``TREACHEROUS``).
    """
    if not COIL_STEP <= seconds <= COIL_MOST:
        raise ConfigError(
            f"an unlock time of {seconds} s", remedy=f"choose {COIL_STEP} to {COIL_MOST} s; longer burns the coil"
        )
    steps = round(seconds / COIL_STEP)
    if steps in TREACHEROUS:
        raise ConfigError(
            f"an unlock time of {seconds} s, whose frame can turn into an unlock", remedy="choose 10 ms more or less"
        )
    return _frame(_address(board), _Code.COIL_TIME, steps.to_bytes(2, "big"))


class Decoder:
    """What comes from the bus, as events. Incremental: bytes may arrive in any portions.

    It raises nothing: what is no frame becomes ``Malformed`` where it began like one, and is skipped silently where it
    did not. It keeps fewer bytes than the longest frame.
    """

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[Event]:
        """The events that ``data`` completes, in their order on the wire."""
        self._pending += data
        events: list[Event] = []
        while (event := self._next()) is not None:
            events.append(event)
        return events

    def reset(self) -> None:
        """Forget an unfinished frame, as before a new transaction."""
        self._pending.clear()

    def _next(self) -> Event | None:
        """The next event, or None while more bytes are needed. Takes the bytes it has judged."""
        start = self._pending.find(_START)
        del self._pending[: start if start >= 0 else len(self._pending)]
        if len(self._pending) < _FIRST_DATA:
            return None
        lengths = _DATA_LENGTHS.get(self._pending[2])
        if lengths is None:
            return self._refuse(Flaw.COMMAND)
        flaw = Flaw.END
        for length in lengths:
            size = _FRAMING + length
            if len(self._pending) < size:
                return None
            if self._pending[size - 2] != _END:
                continue
            if self._pending[size - 1] == sum(self._pending[: size - 1]) & 0xFF:
                return self._take(size)
            flaw = Flaw.CHECKSUM
        return self._refuse(flaw)

    def _refuse(self, flaw: Flaw) -> Malformed:
        # Only the start byte goes: the true frame may begin inside what was taken for one.
        del self._pending[0]
        return Malformed(flaw)

    def _take(self, size: int) -> Event:
        frame = bytes(self._pending[:size])
        code, data = frame[2], frame[_FIRST_DATA : size - 2]
        if code not in {_Code.STATUS, _Code.STATUS_OF_ALL, _Code.COIL_TIME_IS}:
            del self._pending[:size]
            return Request(frame)
        board, lock = divmod(frame[1], LOCKS)
        if lock:
            return self._refuse(Flaw.LOCK)
        del self._pending[:size]
        if code == _Code.COIL_TIME_IS:
            return CoilTime(board, int.from_bytes(data, "big") * COIL_STEP)
        return Status(board, int.from_bytes(data[:2], "little"), int.from_bytes(data[2:], "little"))


def _address(board: int, lock: int = 0) -> int:
    for what, number, count in (("board", board, BOARDS), ("lock", lock, LOCKS)):
        if type(number) is not int or not 0 <= number < count:
            raise ConfigError(f"{what} {number!r} does not exist", remedy=f"wire it as an integer 0..{count - 1}")
    return board << 4 | lock


def _frame(address: int, code: _Code, data: bytes = b"") -> bytes:
    body = bytes((_START, address, code)) + data + bytes((_END,))
    return body + bytes((sum(body) & 0xFF,))


class Wiring(Settings, frozen=True):
    """One board as it was installed and calibrated: open a door, look which way its bit moves."""

    address: Annotated[int, msgspec.Meta(ge=0, lt=BOARDS)]
    """As the board's switches say."""
    locks: Annotated[int, msgspec.Meta(ge=1, le=LOCKS)] = LOCKS
    """Locks wired from number 0 on: 12 on a CU12."""
    closed_bit: Literal[0, 1] = 1
    """The bit that a closed hook gives: 1 from the factory, 0 where the switches are wired the other way."""
    item_sensors: bool = False
    """Whether infrared sensors are fitted; unfitted inputs read like empty compartments."""
    coil_ms: CoilMs = 500
    """The board's unlock time as it is set; from the factory at most 500 ms."""


class Codec:
    """``locker.board.BusCodec`` and ``CoilTimed``."""

    def __init__(self, wirings: Mapping[int, Wiring]) -> None:
        """Raises ``ConfigError`` for an address that cannot be or stands twice."""
        self.locks = {number: wiring.locks for number, wiring in wirings.items()}
        self.coil = max(wiring.coil_ms for wiring in wirings.values()) / 1000
        self._wirings = dict(wirings)
        self._numbers = numbers_by_address(wirings)
        self._queries = {
            number: (Query(ask_status(wiring.address), number, 0, wiring.locks),) for number, wiring in wirings.items()
        }
        self._decoder = Decoder()

    def queries(self, board: int) -> tuple[Query, ...]:
        return self._queries[board]

    def unlock(self, latch: Latch) -> bytes:
        wiring = wiring_of(self._wirings, latch)
        return unlock(wiring.address, latch.lock)

    def ask_coil_time(self, board: int) -> bytes:
        return ask_coil_time(self._wirings[board].address)

    def set_coil_time(self, board: int, seconds: float) -> bytes:
        return set_coil_time(self._wirings[board].address, seconds)

    def feed(self, data: bytes) -> list[port.Event]:
        return [self._told(event) for event in self._decoder.feed(data)]

    def reset(self) -> None:
        self._decoder.reset()

    def _told(self, event: Event) -> port.Event:
        """``event`` by the cabinet's numbers."""
        match event:
            case Request(raw):
                return port.Word(raw)
            case Malformed(flaw):
                return port.Malformed(checksum=flaw is Flaw.CHECKSUM)
            case Status() | CoilTime() if event.board not in self._numbers:
                return port.Stranger(event.board)
            case CoilTime(address, seconds):
                return port.CoilTime(self._numbers[address], seconds)
            case Status(address):
                number = self._numbers[address]
                wiring = self._wirings[number]
                readings = tuple(_reading(event, lock, wiring) for lock in range(wiring.locks))
                return port.Latches(number, 0, readings)


def _reading(status: Status, lock: int, wiring: Wiring) -> Reading:
    closed = (status.hooks >> lock & 1) == wiring.closed_bit
    item = bool(status.items >> lock & 1) if wiring.item_sensors else None
    return Reading(Hook.CLOSED if closed else Hook.OPEN, item)


DRIVER: Final = SerialDriver(options=Wiring, codec=Codec, baud=19200, timing=BusTiming())
"""The entry point ``kerong``."""
