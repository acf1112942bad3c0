"""The wire of Modbus RTU relay boards with inputs: commands to bytes, bytes to events.

RS-485, half duplex, 9600 8N1. A frame is ``ADDR FUNCTION data.. CRC``, CRC-16/MODBUS with its low byte first. Facts
from the maker's public wiki (Waveshare Modbus RTU Relay (D), 8 relays and 8 inputs, and its larger kin) and five public
drivers. Relay n drives the coil of lock n, input n reads its hook.

A pulse is timed by the board itself: "flash on", a write to coil 0200 + n whose value is the time. The Modbus standard
knows only FF00 and 0000 there, so no Modbus library sends it. Switching a relay on and off again is not said here:
whoever dies in between leaves a coil burning. "All on" (coil 00FF), the broadcast address 0 and the address register
have no function either. (LC-Tech's relays, address 255, use the same frames without "flash on": they cannot be driven.)
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from edge.errors import ConfigError

BOARDS: Final = range(1, 248)
"""Addresses a board can have. 0 would be all of them."""

RELAYS: Final = 32
"""Relays the largest board has; others have 8 or 16. On the wire they count from 0."""

COIL_MOST: Final = 1.0
"""Seconds a coil may be driven. Boards accept 54 minutes."""

COIL_STEP: Final = 0.1
"""Seconds per unit of a flash on the wire."""

MODES_AT_ONCE: Final = 8
"""Relays whose mode one query asks for."""

NORMAL: Final = 0
"""The mode in which a relay obeys the bus alone. In 1 it follows its input, so that a door that is shut drives its own
coil; in 2 and 3 each edge of the input switches it."""

_FLASH: Final = 0x0200
"""Added to a relay's number: switch it on for so many steps."""

_ALL: Final = 0x00FF
"""The coil that stands for all relays."""

_MODE: Final = 0x1000
"""The register with relay 0's mode."""


class _Function(enum.IntEnum):
    """The FUNCTION byte."""

    READ_RELAYS = 0x01
    READ_INPUTS = 0x02
    READ_REGISTERS = 0x03
    WRITE_RELAY = 0x05
    WRITE_REGISTER = 0x06


_REFUSED: Final = 0x80
"""Added to a function's number by a board that will not."""

_REQUEST: Final = 8
"""Bytes of every request here, and of the answer to a write, which is the same bytes."""

_EXCEPTION: Final = 5
"""Bytes of a refusal."""

_COUNTED: Final = 5
"""Bytes of an answer to a read beside its data: address, function, count and CRC."""

FRAME_MOST: Final = _COUNTED + 2 * MODES_AT_ONCE
"""Bytes of the longest frame."""


class Inputs(msgspec.Struct, frozen=True):
    """A board's answer about its inputs: bit n is input n, raw. ``width`` is how many bits came, a multiple of 8."""

    board: int
    bits: int
    width: int


class Relays(msgspec.Struct, frozen=True):
    """A board's answer about its relays: bit n is set where it says that relay n is on."""

    board: int
    bits: int
    width: int


class Modes(msgspec.Struct, frozen=True):
    """A board's answer about the modes of eight relays (``NORMAL``)."""

    board: int
    modes: tuple[int, ...]


class Written(msgspec.Struct, frozen=True):
    """A write, as a board confirms it and as an adapter echoes it: the same bytes. It proves nothing."""

    raw: bytes


class Refused(msgspec.Struct, frozen=True):
    """A board's exception: it knows no such function (1), address (2) or value (3), or has another reason."""

    board: int
    function: int
    code: int


class Request(msgspec.Struct, frozen=True):
    """A query, which no board sends: our own, handed back by an adapter that echoes."""

    raw: bytes


class Flaw(enum.Enum):
    """Why bytes were refused."""

    COUNT = "a count of bytes that no answer has"
    CHECKSUM = "wrong checksum"


class Malformed(msgspec.Struct, frozen=True):
    """Something that began like a frame and was none. The decoder goes on one byte later."""

    flaw: Flaw


Event = Inputs | Relays | Modes | Written | Refused | Request | Malformed


def ask_inputs(board: int, count: int) -> bytes:
    """The query for the first ``count`` inputs. Raises ``ConfigError`` but for board 1..247 and count 1..32."""
    return _frame(board, _Function.READ_INPUTS, 0, _counted(count))


def ask_relays(board: int, count: int) -> bytes:
    """The query for the first ``count`` relays; as ``ask_inputs``."""
    return _frame(board, _Function.READ_RELAYS, 0, _counted(count))


def ask_modes(board: int, first: int) -> bytes:
    """The query for the modes of eight relays from ``first`` on. Raises ``ConfigError`` where one of them cannot be."""
    _relay(first + MODES_AT_ONCE - 1)
    return _frame(board, _Function.READ_REGISTERS, _MODE + _relay(first), MODES_AT_ONCE)


def flash(board: int, relay: int, seconds: float) -> bytes:
    """One pulse for one relay, ended by the board itself after ``seconds``, in steps of 100 ms.

    Raises ``ConfigError`` outside 0.1..1 s, for a board outside 1..247 or a relay outside 0..31.
    """
    if not COIL_STEP <= seconds <= COIL_MOST:
        raise ConfigError(
            f"a pulse of {seconds} s", remedy=f"choose {COIL_STEP} to {COIL_MOST} s; longer burns the coil"
        )
    return _frame(board, _Function.WRITE_RELAY, _FLASH + _relay(relay), round(seconds / COIL_STEP))


def all_off(board: int) -> bytes:
    """Every relay of ``board`` off, whatever switched it on. Raises ``ConfigError`` outside 1..247."""
    return _frame(board, _Function.WRITE_RELAY, _ALL, 0)


def set_normal(board: int, relay: int) -> bytes:
    """Have one relay obey the bus alone. Raises ``ConfigError`` for a board or relay that cannot be."""
    return _frame(board, _Function.WRITE_REGISTER, _MODE + _relay(relay), NORMAL)


class Decoder:
    """What comes from the bus, as events. Incremental: bytes may arrive in any portions.

    A frame has no start of its own, and the silence that ends it does not survive an adapter: address, function,
    length and CRC have to tell. It raises nothing: what is no frame becomes ``Malformed`` where it began like one, and
    is skipped silently where it did not. It keeps fewer bytes than the longest frame.
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
        if len(self._pending) < 3:  # noqa: PLR2004 - address, function and what tells the length
            return None
        sizes = _sizes(self._pending[1], self._pending[2])
        for size in sizes:
            if len(self._pending) < size:
                return None
            if _crc(self._pending[: size - 2]) == int.from_bytes(self._pending[size - 2 : size], "little"):
                return self._take(size)
        # Only the first byte goes: the true frame may begin inside what was taken for one.
        del self._pending[0]
        return Malformed(Flaw.CHECKSUM if sizes else Flaw.COUNT)

    def _skip_to_start(self) -> None:
        """Let go of bytes that are not an address before a function."""
        for at, (address, function) in enumerate(zip(self._pending, self._pending[1:], strict=False)):
            if address in BOARDS and function in _KNOWN:
                del self._pending[:at]
                return
        del self._pending[:-1]

    def _take(self, size: int) -> Event:
        frame = bytes(self._pending[:size])
        del self._pending[:size]
        board, function, data = frame[0], frame[1], frame[3:-2]
        if function >= _REFUSED:
            return Refused(board, function - _REFUSED, frame[2])
        if function in {_Function.WRITE_RELAY, _Function.WRITE_REGISTER}:
            return Written(frame)
        if size == _REQUEST:
            return Request(frame)
        if function == _Function.READ_REGISTERS:
            return Modes(board, tuple(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)))
        kind = Inputs if function == _Function.READ_INPUTS else Relays
        return kind(board, int.from_bytes(data, "little"), 8 * len(data))


_KNOWN: Final = frozenset({*_Function, *(function + _REFUSED for function in _Function)})


def _sizes(function: int, third: int) -> tuple[int, ...]:
    """The sizes a frame with this function and third byte may have, the shorter first; none if there is no such frame.

    The third byte is a read's count of bytes in an answer, and the high half of an address in a request.
    """
    if function >= _REFUSED:
        return (_EXCEPTION,)
    if function in {_Function.WRITE_RELAY, _Function.WRITE_REGISTER}:
        return (_REQUEST,)
    if function == _Function.READ_REGISTERS:
        return (_REQUEST, FRAME_MOST) if third == _MODE >> 8 else ()
    if third == 0:
        return (_REQUEST,)
    return (_COUNTED + third,) if third <= RELAYS // 8 else ()


def _relay(number: int) -> int:
    if type(number) is not int or not 0 <= number < RELAYS:
        raise ConfigError(f"relay {number!r} does not exist", remedy=f"wire it as an integer 0..{RELAYS - 1}")
    return number


def _counted(count: int) -> int:
    return _relay(count - 1) + 1


def _frame(board: int, function: _Function, address: int, value: int) -> bytes:
    if type(board) is not int or board not in BOARDS:
        raise ConfigError(f"board {board!r} does not exist", remedy=f"wire it as an integer {BOARDS[0]}..{BOARDS[-1]}")
    body = bytes((board, function)) + address.to_bytes(2, "big") + value.to_bytes(2, "big")
    return body + _crc(body).to_bytes(2, "little")


def _crc(data: bytes | bytearray) -> int:
    """CRC-16/MODBUS: from FFFF on, polynomial A001, low bit first ("MODBUS over serial line", V1.02, 6.2.2)."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc
