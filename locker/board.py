"""The port to lock boards of any make: what a driver is, what a bus owner asks of it, and what boards say.

A driver is an entry point of the group ``lastmile.lock_board``, named by its kind: a ``SerialDriver`` for boards on a
serial bus, which brings a pure codec and leaves the bus to ``locker.board_serial``, or a ``DirectDriver`` for whatever
else holds doors shut. ``docs/drivers.md`` tells how to write one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Protocol, TypeVar, runtime_checkable

import msgspec

from edge.clock import Clock
from edge.errors import ConfigError
from edge.settings import Settings
from locker.latch import Latch, LockBoards, Reading

ENTRY_POINTS: Final = "lastmile.lock_board"
"""The group under which drivers are found."""

COIL_MOST: Final = 1.0
"""Seconds a coil may be driven for one unlock: cabinet locks are made for a tenth of it."""

CoilMs = Annotated[int, msgspec.Meta(ge=10, le=1000)]
"""Milliseconds that a board drives a coil, in a driver's options."""


class Query(msgspec.Struct, frozen=True):
    """A frame that asks ``board`` for ``count`` latches from lock ``first`` on. Without an answer it is sent again."""

    frame: bytes
    board: int
    first: int
    count: int

    def answered_by(self, told: Latches) -> bool:
        """Whether ``told`` is what was asked for: the same board and the same locks."""
        return (told.board, told.first, len(told.readings)) == (self.board, self.first, self.count)


class Latches(msgspec.Struct, frozen=True):
    """What ``board`` said of its latches from lock ``first`` on, read by the board's calibration."""

    board: int
    first: int
    readings: tuple[Reading, ...]


class CoilTime(msgspec.Struct, frozen=True):
    """What ``board`` said of the time it drives a coil, in seconds."""

    board: int
    seconds: float


class SetUp(msgspec.Struct, frozen=True):
    """What ``board`` said of its own settings or relays: frames that put right what is wrong, none where nothing is."""

    board: int
    amends: tuple[bytes, ...]


class Pushed(msgspec.Struct, frozen=True):
    """``board`` told by itself that something moved. Only a query says how a door stands, so it is counted alone."""

    board: int


class Stranger(msgspec.Struct, frozen=True):
    """A valid answer of a board that is not wired here."""

    address: int


class Word(msgspec.Struct, frozen=True):
    """What proves nothing: a frame of our own that an adapter echoes, or what a board says to an unlock.

    On many boards the two are the same bytes, and "done" means that a coil was driven, never that a door moved.
    """

    raw: bytes


class Malformed(msgspec.Struct, frozen=True):
    """Something that began like a frame and was none. ``checksum``: all but its checksum was right."""

    checksum: bool


Event = Latches | CoilTime | SetUp | Pushed | Stranger | Word | Malformed


class BusCodec(Protocol):
    """The wire of all boards on one bus: commands to bytes, bytes to events. Pure; it keeps only unfinished frames.

    Boards and locks go by the cabinet's numbers, both from 0. Addresses, numbering on the wire and calibration are the
    codec's own affair: built from the boards' options by number, it raises ``ConfigError`` for what cannot be.
    """

    @property
    def locks(self) -> Mapping[int, int]:
        """Locks wired on each board, by its number."""
        ...

    @property
    def coil(self) -> float:
        """Seconds after which a coil is surely off again, without another frame: at most ``COIL_MOST``.

        A board that does not switch its coils off by itself has no place on a bus: whoever died between two frames
        would leave one burning.
        """
        ...

    def queries(self, board: int) -> Sequence[Query]:
        """What to ask, one after the other, to learn of every wired latch once."""
        ...

    def unlock(self, latch: Latch) -> bytes:
        """One pulse for one lock. Raises ``ConfigError`` for a latch that is not wired; nothing here means "all"."""
        ...

    def feed(self, data: bytes) -> Sequence[Event]:
        """The events that ``data`` completes, in their order on the wire. Raises nothing, whatever the bytes."""
        ...

    def reset(self) -> None:
        """Forget an unfinished frame, as before a new transaction."""
        ...


@runtime_checkable
class CoilTimed(Protocol):
    """A codec whose boards can be asked and told how long they drive a coil."""

    def ask_coil_time(self, board: int) -> bytes:
        """The query that a ``CoilTime`` answers."""
        ...

    def set_coil_time(self, board: int, seconds: float) -> bytes:
        """Raises ``ConfigError`` outside what a lock bears or the wire can safely say."""
        ...


@runtime_checkable
class SetRight(Protocol):
    """A codec whose boards keep settings, or relays, that somebody else may have left so that doors open by themselves.

    A board is read only after it was found right: before it is first read, and again when it comes back from a silence,
    because it may be another one.
    """

    def calm(self, board: int) -> bytes:
        """The frame that switches every coil off. Sent once, before anything is asked."""
        ...

    def ask_set_up(self, board: int) -> Sequence[bytes]:
        """Queries that a ``SetUp`` answers each."""
        ...


class BusTiming(msgspec.Struct, frozen=True):
    """Seconds a bus is given. The defaults suit 19200 baud behind a USB adapter."""

    answer: float = 0.15
    """From a query to its whole answer: 8 ms of bytes, an adapter's 16 ms latency timer, and the board's own time,
    of which public drivers say only that 25 ms are too few after an unlock. Also the longest a pulse waits for a
    board that does not answer."""
    late: float = 0.15
    """Silence after a missing answer: an answer carries no number, so one that comes late would be taken for the
    next. Pulses do not keep it."""
    settle: float = 0.05
    """From an unlock frame to the next query: twice the time reported as too early."""
    tries: int = 3
    """Times a query is sent before its board counts as silent. An unlock is sent once; more is its caller's say."""


@dataclasses.dataclass(frozen=True)
class SerialDriver:
    """Boards of one kind on a serial bus."""

    options: type[Settings]
    """What stands in a board's table beside ``board``, ``kind`` and ``bus``; a key it does not know is an error."""
    codec: Callable[[Mapping[int, Any]], BusCodec]
    """Makes the codec of one bus from its boards' options by number."""
    baud: int
    """As the factory sets it; 8 data bits, no parity, 1 stop bit."""
    timing: BusTiming


@dataclasses.dataclass(frozen=True)
class DirectDriver:
    """Whatever is no serial bus. It looks after one transaction at a time itself."""

    options: type[Settings]
    boards: Callable[[Mapping[int, Any], Clock], LockBoards]
    """Makes the owner of all boards of this kind from their options by number. Nothing is opened yet."""
    locks: Callable[[Any], int]
    """Locks wired on a board with these options."""
    coil: Callable[[Any], float]
    """As ``BusCodec.coil``, for a board with these options."""


Driver = SerialDriver | DirectDriver


class _Addressed(Protocol):
    @property
    def address(self) -> int: ...


def numbers_by_address(wirings: Mapping[int, _Addressed]) -> dict[int, int]:
    """The cabinet's number of each board by its address. Raises ``ConfigError`` where two boards share one."""
    numbers: dict[int, int] = {}
    for number, wiring in wirings.items():
        other = numbers.setdefault(wiring.address, number)
        if other != number:
            raise ConfigError(
                f"boards {other} and {number} have one address, {wiring.address}, on one bus",
                remedy="give each board an address of its own: two would open two doors",
            )
    return numbers


class _Wired(_Addressed, Protocol):
    @property
    def locks(self) -> int: ...


_W = TypeVar("_W", bound=_Wired)


def wiring_of(wirings: Mapping[int, _W], latch: Latch) -> _W:
    """The board that ``latch`` is wired to. Raises ``ConfigError`` for a board or a lock that is not wired."""
    wiring = wirings.get(latch.board)
    if wiring is None or latch.lock not in range(wiring.locks):
        raise ConfigError(f"no lock is wired at {latch}", remedy="correct latch or board")
    return wiring
