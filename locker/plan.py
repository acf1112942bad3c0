"""A cabinet as it is written down: columns of doors from left to right, in as few words as a drawing would need.

``locker.layout`` makes doors with places of it. Words in a line stand apart by spaces; a range is ``FIRST..LAST``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Final, Literal

import msgspec

from edge.settings import Settings
from locker.compartment import Size
from locker.latch import Latch

Millimetres = Annotated[int, msgspec.Meta(ge=1, le=4000)]
DoorKey = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9-]{1,16}\Z")]
ZoneName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]{1,32}\Z")]

_ROW: Final = re.compile(r"(?P<what>S|M|L|screen|blank)(?::(?P<mm>[1-9][0-9]{0,3}))?")
_LATCH: Final = re.compile(r"(?P<board>[0-9]{1,3}):(?P<first>[0-9]{1,3})(?:\.\.(?P<last>[0-9]{1,3}))?")
_DOORS: Final = re.compile(r"(?P<stem>[A-Za-z0-9-]*?)(?P<first>[0-9]+)\.\.(?P=stem)(?P<last>[0-9]+)")
_DOOR: Final = re.compile(r"[A-Za-z0-9-]{1,16}")
_LONGEST_RANGE: Final = 256
"""More doors than a cabinet may have; a slip of the finger must not become a million of them."""


class Row(msgspec.Struct, frozen=True):
    """One place of a column. ``size`` is None for what has no door; ``mm`` is None where the size says how high."""

    size: Size | None
    mm: int | None
    screen: bool = False


class Zone(Settings, frozen=True):
    """Compartments that are kept at a temperature, and what watches it."""

    name: ZoneName
    climate: Literal["cold", "frozen", "heated"]
    low_c: Annotated[float, msgspec.Meta(ge=-60, le=100)]
    high_c: Annotated[float, msgspec.Meta(ge=-60, le=100)]
    sensor: ZoneName
    """One of ``[[locker.sensors]]`` that measures a temperature."""
    alarm_minutes: Annotated[int, msgspec.Meta(ge=1, le=1440)] = 15
    """Out of range for so long is an alarm: a door that stands open while it is loaded is none."""

    def __post_init__(self) -> None:
        if self.low_c >= self.high_c:
            raise ValueError(f"zone {self.name!r} ends at {self.high_c} below its beginning at {self.low_c}")


class Column(Settings, frozen=True):
    """One column, its rows in the order of ``Plan.rows_from``."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9-]{0,12}\Z")]
    """Its doors are called ``A1``, ``A2`` ... in the order of the rows, unless ``doors`` names them."""
    rows: str
    """``L M S S screen:600 blank:50``: a size, with a height of its own as in ``S:90``, or what has no door."""
    latches: str = ""
    """``0:0..7 1:4``: board and locks, one for each door in the order of the rows, numbered from 0 as on the wire."""
    doors: str = ""
    """``01..08`` or ``A1 A2 B7``."""
    width_mm: Millimetres | None = None
    base_mm: Annotated[int, msgspec.Meta(ge=0, le=4000)] | None = None
    zone: str = ""

    def __post_init__(self) -> None:
        doors = sum(row.size is not None for row in self.parsed_rows())
        for what, found in (("latches", len(self.parsed_latches())), ("names of doors", len(self.door_names()))):
            if found != doors:
                raise ValueError(f"column {self.name!r} has {doors} doors in its rows and {found} {what}")

    def parsed_rows(self) -> list[Row]:
        """Raises ``ValueError`` for a word that is no row, or no row at all."""
        return [_row(word) for word in _words(self.rows, "rows")]

    def parsed_latches(self) -> list[Latch]:
        """Raises ``ValueError`` for a word that names no latch."""
        return [latch for word in self.latches.split() for latch in latches_of(word)]

    def door_names(self) -> list[str]:
        """Raises ``ValueError`` for a word that names no door."""
        if self.doors:
            return [name for word in self.doors.split() for name in _names(word)]
        doors = [row for row in self.parsed_rows() if row.size is not None]
        return [f"{self.name}{number}" for number in range(1, len(doors) + 1)]


class DoorPlan(Settings, frozen=True):
    """Where one door differs from what its column says of it."""

    latch: str = ""
    """``1:7``: it is wired elsewhere."""
    handle_mm: Annotated[int, msgspec.Meta(ge=0, le=4000)] | None = None
    """Of its handle above the floor; the middle of the door where nothing is said."""
    zone: str | None = None

    def __post_init__(self) -> None:
        if self.latch and len(latches_of(self.latch)) != 1:
            raise ValueError(f"{self.latch!r} is no single latch")


class DoorHeights(Settings, frozen=True):
    """How high a door of each size is, with its share of the frame, mm."""

    S: Millimetres
    M: Millimetres
    L: Millimetres


class Plan(Settings, frozen=True):
    """``[locker.cabinet]``: seen from the front."""

    door_mm: DoorHeights
    columns: Annotated[tuple[Column, ...], msgspec.Meta(min_length=1, max_length=64)]
    base_mm: Annotated[int, msgspec.Meta(ge=0, le=4000)]
    """From the floor to the lower edge of the lowest row."""
    column_mm: Millimetres
    """Width of a column that says nothing else."""
    rows_from: Literal["floor", "top"] = "floor"
    """Where each column's ``rows`` begin."""
    zones: Annotated[tuple[Zone, ...], msgspec.Meta(max_length=16)] = ()
    doors: dict[DoorKey, DoorPlan] = {}  # noqa: RUF012 - msgspec makes a new one for each plan


def _row(word: str) -> Row:
    match = _ROW.fullmatch(word)
    if match is None:
        raise ValueError(f"{word!r} is no row; write S, M, L, S:90, screen:600 or blank:50")
    mm = int(match["mm"]) if match["mm"] else None
    if match["what"] in {"screen", "blank"}:
        if mm is None:
            raise ValueError(f"{word!r} needs its height, as in {word}:600")
        return Row(None, mm, screen=match["what"] == "screen")
    return Row(Size(match["what"]), mm)


def latches_of(word: str) -> list[Latch]:
    """``0:3`` or ``0:0..7``, downwards too. Raises ``ValueError`` for anything else."""
    match = _LATCH.fullmatch(word)
    if match is None:
        raise ValueError(f"{word!r} names no latch; write BOARD:LOCK or BOARD:FIRST..LAST")
    first = int(match["first"])
    return [Latch(int(match["board"]), lock) for lock in _range(first, int(match["last"] or first))]


def _names(word: str) -> Iterator[str]:
    match = _DOORS.fullmatch(word)
    if match is not None:
        width = len(match["first"])
        for number in _range(int(match["first"]), int(match["last"])):
            yield f"{match['stem']}{number:0{width}}"
    elif _DOOR.fullmatch(word):
        yield word
    else:
        raise ValueError(f"{word!r} names no door; up to 16 letters, digits and dashes, or a range as in 01..08")


def _range(first: int, last: int) -> range:
    if abs(last - first) >= _LONGEST_RANGE:
        raise ValueError(f"{first}..{last} is longer than any cabinet has doors")
    return range(first, last + 1) if last >= first else range(first, last - 1, -1)


def _words(text: str, what: str) -> list[str]:
    words = text.split()
    if not words:
        raise ValueError(f"no {what}")
    return words
