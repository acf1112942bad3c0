"""A cabinet as it stands: every door with its place on the front, made from the plan that describes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from edge.errors import ConfigError
from locker.compartment import LOW_MM, Climate, Compartment, Place, Size
from locker.latch import Latch
from locker.plan import Column, DoorPlan, Plan, Row, Zone

MOST_DOORS: Final = 256
"""Sixteen boards of sixteen locks; the ledger's copies are made for as many."""


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """The front, seen by a person before it. ``screen`` is where its panel is, None where the plan names none."""

    compartments: tuple[Compartment, ...]
    width_mm: int
    height_mm: int
    """Of the highest column, above the floor."""
    columns: tuple[str, ...]
    screen: Place | None
    blanks: tuple[Place, ...]
    zones: tuple[Zone, ...]

    def doors(self) -> frozenset[str]:
        return frozenset(each.door for each in self.compartments)

    def of_zone(self, zone: str) -> list[str]:
        """The doors that are kept at the temperature of ``zone``."""
        return [each.door for each in self.compartments if each.zone == zone]


def lay_out(plan: Plan) -> Layout:
    """Raises ``ConfigError`` for a door or latch that stands twice, and for what is named and not there."""
    zones = {zone.name: zone for zone in plan.zones}
    compartments: list[Compartment] = []
    panels: list[tuple[Row, Place]] = []
    left, top = 0, 0
    for number, column in enumerate(plan.columns):
        _require(column.zone in {"", *zones}, f"column {column.name!r} is in zone {column.zone!r}, which is not there")
        names, latches = iter(column.door_names()), iter(column.parsed_latches())
        for row, place in _places(plan, column, number, left):
            top = max(top, place.y_mm + place.height_mm)
            if row.size is None:
                panels.append((row, place))
                continue
            door = next(names)
            compartments.append(_compartment(plan, column, door, next(latches), row.size, place, zones))
        left += column.width_mm or plan.column_mm
    _require_sound(plan, compartments)
    screens = [place for row, place in panels if row.screen]
    _require(len(screens) <= 1, f"{len(screens)} screens stand in the rows")
    return Layout(
        compartments=tuple(compartments),
        width_mm=left,
        height_mm=top,
        columns=tuple(column.name for column in plan.columns),
        screen=screens[0] if screens else None,
        blanks=tuple(place for row, place in panels if not row.screen),
        zones=plan.zones,
    )


def _places(plan: Plan, column: Column, number: int, left: int) -> list[tuple[Row, Place]]:
    """The rows in the order in which they are written, each with its place."""
    rows = column.parsed_rows()
    from_floor = rows if plan.rows_from == "floor" else rows[::-1]
    base = plan.base_mm if column.base_mm is None else column.base_mm
    heights = {Size.S: plan.door_mm.S, Size.M: plan.door_mm.M, Size.L: plan.door_mm.L}
    places = []
    for index, row in enumerate(from_floor):
        mm = row.mm if row.mm is not None or row.size is None else heights[row.size]
        written = index if plan.rows_from == "floor" else len(rows) - 1 - index
        places.append((row, Place(number, written, left, base, column.width_mm or plan.column_mm, mm or 0)))
        base += mm or 0
    return places if plan.rows_from == "floor" else places[::-1]


def _compartment(
    plan: Plan, column: Column, door: str, latch: Latch, size: Size, place: Place, zones: dict[str, Zone]
) -> Compartment:
    own = plan.doors.get(door, DoorPlan())
    zone = column.zone if own.zone is None else own.zone
    _require(zone in {"", *zones}, f"door {door!r} is in zone {zone!r}, which is not there")
    return Compartment(
        door,
        _own_latch(own) or latch,
        size,
        place.y_mm + place.height_mm // 2 if own.handle_mm is None else own.handle_mm,
        climate=Climate(zones[zone].climate) if zone else Climate.AMBIENT,
        zone=zone,
        place=place,
    )


def _own_latch(own: DoorPlan) -> Latch | None:
    if not own.latch:
        return None
    board, lock = own.latch.split(":")
    return Latch(int(board), int(lock))


def _require_sound(plan: Plan, compartments: Sequence[Compartment]) -> None:
    doors = Counter(each.door for each in compartments)
    latches = Counter(f"board {each.latch.board} lock {each.latch.lock}" for each in compartments)
    for what, names in (("door", doors), ("latch", latches), ("zone", Counter(zone.name for zone in plan.zones))):
        twice = [name for name, count in names.items() if count > 1]
        _require(not twice, f"{what} {twice[0] if twice else ''!r} stands twice")
    unknown = sorted(set(plan.doors) - set(doors))
    _require(not unknown, f"door {unknown[0] if unknown else ''!r} is told about and is in no column")
    _require(0 < len(compartments) <= MOST_DOORS, f"{len(compartments)} doors; a cabinet has 1 to {MOST_DOORS}")


def _require(sound: bool, what: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not sound:
        raise ConfigError(f"locker.cabinet: {what}", remedy="correct it under [locker.cabinet]")


def out_of_reach(layout: Layout) -> Iterator[str]:
    """What a seated person cannot reach of this cabinet: every size should have a door in reach, and so the screen."""
    for size in Size:
        doors = [each for each in layout.compartments if each.size is size]
        if doors and not any(each.low for each in doors):
            yield f"no {size.value} door is in reach of a seated person ({LOW_MM.start} to {LOW_MM.stop - 1} mm)"
    screen = layout.screen
    if screen is not None and screen.y_mm + screen.height_mm // 2 not in LOW_MM:
        yield f"the screen's middle is {screen.y_mm + screen.height_mm // 2} mm above the floor, out of reach"
