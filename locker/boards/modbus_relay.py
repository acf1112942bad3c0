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
from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec

from edge.errors import ConfigError
from edge.settings import Settings
from locker import board as port
from locker.board import COIL_MOST, BusTiming, Query, SerialDriver, numbers_by_address, wiring_of
from locker.latch import Hook, Latch, Reading

BOARDS: Final = range(1, 248)
"""Addresses a board can have. 0 would be all of them."""

SIZES: Final = (8, 16, 32)
"""Relays, and inputs, that a board can have. On the wire they count from 0."""

COIL_STEP: Final = 0.1
"""Seconds per unit of a flash on the wire."""

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

FRAME_MOST: Final = _COUNTED + 2 * max(SIZES)
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
    """A board's answer about the modes of its relays (``NORMAL``)."""

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


def ask_inputs(board: int, size: int) -> bytes:
    """The query for all inputs of a board with ``size`` of them.

    Raises ``ConfigError`` for a board outside 1..247 and a size other than 8, 16 and 32, as do the next two.
    """
    return _frame(board, _Function.READ_INPUTS, 0, _sized(size))


def ask_relays(board: int, size: int) -> bytes:
    """The query whether relays are on."""
    return _frame(board, _Function.READ_RELAYS, 0, _sized(size))


def ask_modes(board: int, size: int) -> bytes:
    """The query for the modes of all relays."""
    return _frame(board, _Function.READ_REGISTERS, _MODE, _sized(size))


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
    registers = function == _Function.READ_REGISTERS
    request = (_REQUEST,) if third == (_MODE >> 8 if registers else 0) else ()
    answer = (_COUNTED + third,) if third in {2 * size if registers else size // 8 for size in SIZES} else ()
    return request + answer


def _relay(number: int) -> int:
    if type(number) is not int or not 0 <= number < max(SIZES):
        raise ConfigError(f"relay {number!r} does not exist", remedy=f"wire it as an integer 0..{max(SIZES) - 1}")
    return number


def _sized(size: int) -> int:
    if size not in SIZES:
        raise ConfigError(f"a board with {size!r} relays", remedy=f"choose among {SIZES}")
    return size


def _frame(board: int, function: _Function, address: int, value: int) -> bytes:
    if type(board) is not int or board not in BOARDS:
        raise ConfigError(f"board {board!r} does not exist", remedy=f"wire it as an integer {BOARDS[0]}..{BOARDS[-1]}")
    return _sealed(bytes((board, function)) + address.to_bytes(2, "big") + value.to_bytes(2, "big"))


def _sealed(body: bytes) -> bytes:
    return body + _crc(body).to_bytes(2, "little")


def _crc(data: bytes | bytearray) -> int:
    """CRC-16/MODBUS: from FFFF on, polynomial A001, low bit first ("MODBUS over serial line", V1.02, 6.2.2)."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


class Wiring(Settings, frozen=True):
    """One board as it was installed and calibrated: open a door, look which way its input moves."""

    address: Annotated[int, msgspec.Meta(ge=BOARDS.start, lt=BOARDS.stop)]
    """As its register 4000 says. Boards come with 1, so set them one by one before they share a bus."""
    closed_bit: Literal[0, 1]
    """The input's bit while its door is shut: a matter of how the hook switches were wired, so nothing is assumed."""
    locks: Annotated[int, msgspec.Meta(ge=1, le=max(SIZES))] = 8
    """Locks wired from relay and input 0 on."""
    size: Literal[8, 16, 32] = 8
    """Relays and inputs that the board has."""
    coil_ms: Annotated[int, msgspec.Meta(ge=100, le=1000, multiple_of=100)] = 300
    """How long the board is told to drive a coil."""


class Codec:
    """``locker.board.BusCodec`` and ``SetRight``."""

    def __init__(self, wirings: Mapping[int, Wiring]) -> None:
        """Raises ``ConfigError`` for more locks than a board has relays, and for an address that stands twice."""
        for number, wiring in wirings.items():
            if wiring.locks > wiring.size:
                raise ConfigError(
                    f"board {number} has {wiring.locks} locks and {wiring.size} relays", remedy="correct one of the two"
                )
        self.locks = {number: wiring.locks for number, wiring in wirings.items()}
        self.coil = max(wiring.coil_ms for wiring in wirings.values()) / 1000
        self._wirings = dict(wirings)
        self._numbers = numbers_by_address(wirings)
        self._queries = {
            number: (Query(ask_inputs(wiring.address, wiring.size), number, 0, wiring.locks),)
            for number, wiring in wirings.items()
        }
        self._decoder = Decoder()

    def queries(self, board: int) -> tuple[Query, ...]:
        return self._queries[board]

    def unlock(self, latch: Latch) -> bytes:
        wiring = wiring_of(self._wirings, latch)
        return flash(wiring.address, latch.lock, wiring.coil_ms / 1000)

    def calm(self, board: int) -> bytes:
        return all_off(self._wirings[board].address)

    def ask_set_up(self, board: int) -> tuple[bytes, ...]:
        wiring = self._wirings[board]
        return ask_relays(wiring.address, wiring.size), ask_modes(wiring.address, wiring.size)

    def feed(self, data: bytes) -> list[port.Event]:
        return [self._told(event) for event in self._decoder.feed(data)]

    def reset(self) -> None:
        self._decoder.reset()

    def _told(self, event: Event) -> port.Event:
        """``event`` by the cabinet's numbers."""
        match event:
            case Request(raw) | Written(raw):
                return port.Word(raw)
            case Malformed(flaw):
                return port.Malformed(checksum=flaw is Flaw.CHECKSUM)
            case _ if event.board not in self._numbers:
                return port.Stranger(event.board)
            case Inputs(address, bits, width):
                return self._latches(self._numbers[address], bits, width)
            case Refused(address, function, code) if function not in {_Function.READ_RELAYS, _Function.READ_REGISTERS}:
                return port.Word(_sealed(bytes((address, function + _REFUSED, code))))
            case Relays() | Modes() | Refused():
                return port.SetUp(self._numbers[event.board], _amends(event))

    def _latches(self, number: int, bits: int, width: int) -> port.Latches | port.Word:
        wiring = self._wirings[number]
        if width != wiring.size:  # a board of another size has answered no question of ours
            size = width // 8
            return port.Word(
                _sealed(bytes((wiring.address, _Function.READ_INPUTS, size)) + bits.to_bytes(size, "little"))
            )
        hooks = [Hook.CLOSED if bits >> lock & 1 == wiring.closed_bit else Hook.OPEN for lock in range(wiring.locks)]
        return port.Latches(number, 0, tuple(Reading(hook) for hook in hooks))


def _amends(said: Relays | Modes | Refused) -> tuple[bytes, ...]:
    """What puts a board right that has said this of itself."""
    match said:
        case Relays(board, bits) if bits:
            return (all_off(board),)
        case Modes(board, modes):
            return tuple(set_normal(board, relay) for relay, mode in enumerate(modes) if mode != NORMAL)
        case _:
            return ()  # all is off, or it has no such settings that could be wrong


TIMING: Final = BusTiming(answer=0.2, late=0.2)
"""Seconds. At 9600 baud the longest query, for 32 modes, and its answer are 80 ms of bytes; that for inputs 18."""

DRIVER: Final = SerialDriver(options=Wiring, codec=Codec, baud=9600, timing=TIMING)
"""The entry point ``modbus-relay``."""
