"""The wire of "WKLY" lock boards (Yunchuan): commands to bytes, bytes to events.

RS-485, half duplex, 9600 8N1. A frame is ``57 4B 4C 59 LEN ADDR CMD data.. XOR``: the letters WKLY, LEN the bytes of
the whole frame, XOR over all bytes before it. Locks count from 1. Frames from a vendor's examples in public tests; what
the state byte means is disputed between public drivers and so is the calibration's affair.

One lock per command, one pulse, is all this module can say. "Open several" (80), "open all in turn" (86), "open a list
in turn" (87), "hold" (88) and its end (89) have no function here. "Status of one" (83) would take a second for all
locks; "blink" (81) is left out because no source shows its data.

A XOR does not notice the same bit turned in two bytes. That makes an unlock one of another lock, and "status of all"
(84) "open all in turn", whatever a driver does: where there is a choice, another make is the safer one.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec

from edge.errors import ConfigError
from edge.settings import Settings
from locker import board as port
from locker.board import BusTiming, CoilMs, Query, SerialDriver, numbers_by_address, wiring_of
from locker.latch import Hook, Latch, Reading

BOARDS: Final = 32
"""Addresses a board can have, from 0 on."""

LOCKS: Final = 24
"""Locks the largest board has; others have 12 or 7. On the wire they are 1 to 24."""

_START: Final = b"WKLY"


class _Code(enum.IntEnum):
    """The CMD byte."""

    OPEN_SEVERAL = 0x80
    BLINK = 0x81
    OPEN = 0x82
    STATUS_OF_ONE = 0x83
    STATUS_OF_ALL = 0x84
    MOVED = 0x85
    OPEN_ALL_IN_TURN = 0x86
    OPEN_LIST_IN_TURN = 0x87
    HOLD = 0x88
    HOLD_NO_MORE = 0x89


_HEAD: Final = len(_START) + 3
"""Bytes before the data: start, length, address and command."""

_FRAMING: Final = _HEAD + 1
"""Bytes of a frame beside its data."""

_REQUESTS: Final[dict[int, range]] = {
    _Code.OPEN_SEVERAL: range(2, LOCKS + 2),
    _Code.BLINK: range(1, 2),
    _Code.OPEN: range(1, 2),
    _Code.STATUS_OF_ONE: range(1, 2),
    _Code.STATUS_OF_ALL: range(1),
    _Code.OPEN_ALL_IN_TURN: range(1),
    _Code.OPEN_LIST_IN_TURN: range(2, LOCKS + 2),
    _Code.HOLD: range(1, 2),
    _Code.HOLD_NO_MORE: range(1, 2),
}
"""Data bytes of commands: a lock, none, or a count and so many locks."""

_REPLIES: Final[dict[int, range]] = {
    _Code.OPEN: range(3, 4),
    _Code.STATUS_OF_ONE: range(3, 4),
    _Code.STATUS_OF_ALL: range(3, LOCKS + 3),
    _Code.MOVED: range(2, 3),
}
"""Data bytes of what boards say: result, lock, state; result, count and so many states; lock, state."""

FRAME_MOST: Final = _FRAMING + LOCKS + 2
"""Bytes of the longest frame."""

_GOOD: Final = 0x00
"""The result byte of a command that was carried out."""


class Status(msgspec.Struct, frozen=True):
    """A board's answer about all its locks: one raw state byte a lock, ``states[0]`` that of lock 1."""

    board: int
    states: bytes


class Moved(msgspec.Struct, frozen=True):
    """What a board tells unasked when a switch moves, also between a command and its answer."""

    board: int
    lock: int
    state: int


class Said(msgspec.Struct, frozen=True):
    """What a board says that proves nothing: to an unlock, to a query that is not ours, or that it could not answer."""

    raw: bytes


class Request(msgspec.Struct, frozen=True):
    """A command frame, which no board sends: our own, handed back by an adapter that echoes."""

    raw: bytes


class Flaw(enum.Enum):
    """Why bytes were refused."""

    COMMAND = "no command of this family"
    LENGTH = "a length that its command does not have"
    COUNT = "a count that its length belies"
    CHECKSUM = "wrong checksum"


class Malformed(msgspec.Struct, frozen=True):
    """Something that began like a frame and was none. The decoder goes on one byte later."""

    flaw: Flaw


Event = Status | Moved | Said | Request | Malformed


def ask_status(board: int) -> bytes:
    """The query for all locks of ``board``. Raises ``ConfigError`` outside 0..31."""
    return _frame(board, _Code.STATUS_OF_ALL)


def unlock(board: int, lock: int) -> bytes:
    """One pulse for one lock. Raises ``ConfigError`` for a board outside 0..31 or a lock outside 1..24."""
    if type(lock) is not int or not 1 <= lock <= LOCKS:
        raise ConfigError(f"lock {lock!r} does not exist", remedy=f"wire it as an integer 1..{LOCKS}")
    return _frame(board, _Code.OPEN, bytes((lock,)))


class Decoder:
    """What comes from the bus, as events. Incremental: bytes may arrive in any portions.

    It raises nothing: what is no frame becomes ``Malformed`` where all of the start was there, and is skipped silently
    where it was not. It keeps fewer bytes than the longest frame.
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
        self._skip_to_start()
        if len(self._pending) < _HEAD:
            return None
        size, _, code = self._pending[len(_START) : _HEAD]
        length = size - _FRAMING
        if code not in _REQUESTS and code not in _REPLIES:
            return self._refuse(Flaw.COMMAND)
        is_request = length in _REQUESTS.get(code, ())
        if not is_request and length not in _REPLIES.get(code, ()):
            return self._refuse(Flaw.LENGTH)
        if len(self._pending) < size:
            return None
        if self._pending[size - 1] != _xor(self._pending[: size - 1]):
            return self._refuse(Flaw.CHECKSUM)
        return self._take(size, is_request=is_request)

    def _skip_to_start(self) -> None:
        """Let go of bytes until a start, or what may yet become one. A byte that breaks one off may begin the next."""
        while (at := self._pending.find(_START[0])) >= 0:
            del self._pending[:at]
            if self._pending.startswith(_START) or _START.startswith(self._pending):
                return
            del self._pending[0]
        self._pending.clear()

    def _refuse(self, flaw: Flaw) -> Malformed:
        # Only the start byte goes: the true frame may begin inside what was taken for one.
        del self._pending[0]
        return Malformed(flaw)

    def _take(self, size: int, *, is_request: bool) -> Event:
        frame = bytes(self._pending[:size])
        event = Request(frame) if is_request else _said(frame)
        if event is None:
            return self._refuse(Flaw.COUNT)
        del self._pending[:size]
        return event


def _said(frame: bytes) -> Event | None:
    """What a board says with ``frame``, or None where the count of locks and the length disagree."""
    board, code, data = frame[5], frame[6], frame[_HEAD:-1]
    if code == _Code.MOVED:
        return Moved(board, data[0], data[1])
    if code != _Code.STATUS_OF_ALL:
        return Said(frame)
    result, count, states = data[0], data[1], data[2:]
    if count != len(states):
        return None
    return Status(board, states) if result == _GOOD else Said(frame)


def _frame(board: int, code: _Code, data: bytes = b"") -> bytes:
    if type(board) is not int or not 0 <= board < BOARDS:
        raise ConfigError(f"board {board!r} does not exist", remedy=f"wire it as an integer 0..{BOARDS - 1}")
    body = _START + bytes((_FRAMING + len(data), board, code)) + data
    return body + bytes((_xor(body),))


def _xor(data: bytes | bytearray) -> int:
    result = 0
    for byte in data:
        result ^= byte
    return result


class Wiring(Settings, frozen=True):
    """One board as it was installed and calibrated: open a door, look which way its byte moves."""

    address: Annotated[int, msgspec.Meta(ge=0, lt=BOARDS)]
    """As the board's switches say."""
    closed_state: Literal[0, 1]
    """The state of a closed lock. Public drivers contradict each other, so nothing is assumed."""
    locks: Annotated[int, msgspec.Meta(ge=1, le=LOCKS)] = LOCKS
    """Locks wired from the first on: 24, 12 or 7."""
    coil_ms: CoilMs = 1000
    """How long the board drives a coil. No source says: the most that a lock bears, until it has been measured."""


class Codec:
    """``locker.board.BusCodec``."""

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
        return unlock(wiring.address, latch.lock + 1)

    def feed(self, data: bytes) -> list[port.Event]:
        return [self._told(event) for event in self._decoder.feed(data)]

    def reset(self) -> None:
        self._decoder.reset()

    def _told(self, event: Event) -> port.Event:
        """``event`` by the cabinet's numbers."""
        match event:
            case Request(raw) | Said(raw):
                return port.Word(raw)
            case Malformed(flaw):
                return port.Malformed(checksum=flaw is Flaw.CHECKSUM)
            case Status() | Moved() if event.board not in self._numbers:
                return port.Stranger(event.board)
            case Moved(address):
                return port.Pushed(self._numbers[address])
            case Status(address, states):
                number = self._numbers[address]
                wiring = self._wirings[number]
                # A board that has fewer locks than are wired has answered no question of ours.
                return port.Latches(number, 0, tuple(_reading(each, wiring) for each in states[: wiring.locks]))


def _reading(state: int, wiring: Wiring) -> Reading:
    if state not in {0, 1}:
        return Reading(Hook.UNKNOWN)
    return Reading(Hook.CLOSED if state == wiring.closed_state else Hook.OPEN)


TIMING: Final = BusTiming(answer=0.25, late=0.25)
"""Seconds. At 9600 baud a query and the answer of 24 locks are 45 ms of bytes, and pushes may come in between."""

DRIVER: Final = SerialDriver(options=Wiring, codec=Codec, baud=9600, timing=TIMING)
"""The entry point ``wkly``."""
