"""The lock boards that a configuration names: their drivers, loaded by kind, and what joins them to one cabinet."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from agents.settings import BoardPlace, Bus, Locker
from edge.clock import Clock
from edge.errors import ConfigError
from edge.serial_asyncio import SerialPort
from edge.settings import convert_settings
from locker.board import ENTRY_POINTS, BusCodec, BusTiming, DirectDriver, Driver, SerialDriver
from locker.board_serial import SerialBoards
from locker.joined_asyncio import JoinedBoards, Part


class PlannedBus(NamedTuple):
    """A serial bus and what its boards speak."""

    bus: Bus
    codec: BusCodec
    baud: int
    timing: BusTiming


class PlannedParts(NamedTuple):
    """Boards of one kind that stand on no bus: their options by number."""

    driver: DirectDriver
    options: Mapping[int, Any]


class Plan(NamedTuple):
    """All boards of a cabinet, nothing of it opened."""

    buses: tuple[PlannedBus, ...]
    direct: tuple[PlannedParts, ...]

    @property
    def locks(self) -> dict[int, int]:
        """Locks wired on each board, by its number."""
        found = {number: locks for each in self.buses for number, locks in each.codec.locks.items()}
        for each in self.direct:
            found |= {number: each.driver.locks(options) for number, options in each.options.items()}
        return found


class _Board(NamedTuple):
    place: BoardPlace
    driver: Driver
    options: Any


def load_driver(kind: str) -> Driver:
    """The driver whose entry point is called ``kind``. Raises ``ConfigError`` where no installed package has one."""
    found = [point for point in entry_points(group=ENTRY_POINTS) if point.name == kind]
    if not found:
        known = sorted({point.name for point in entry_points(group=ENTRY_POINTS)})
        raise ConfigError(
            f"no installed package drives lock boards of the kind {kind!r}",
            remedy=f"install its driver, or choose among {', '.join(known) or 'none'}",
        )
    try:
        driver = found[0].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"the driver of {kind!r} cannot be loaded ({error})", remedy="install what it needs"
        ) from error
    if not isinstance(driver, SerialDriver | DirectDriver):
        raise ConfigError(f"{found[0].value} is no driver of lock boards", remedy="see docs/drivers.md")
    return driver


def plan_boards(locker: Locker, *, source: str, text: str = "") -> Plan:
    """What ``[[locker.buses]]`` and ``[[locker.boards]]`` say.

    Raises ``ConfigError`` for a kind without a driver, an option that it does not know, a bus that is not there, is
    shared by two kinds or has no boards, and for a board that stands twice. ``source`` and ``text`` are the file's
    name and content, for messages.
    """
    buses = {bus.name: bus for bus in locker.buses}
    _refuse_twins([bus.name for bus in locker.buses], f"{source}: locker.buses.name")
    _refuse_twins([bus.port for bus in locker.buses], f"{source}: locker.buses.port")
    boards = [_board(each, place, source, text) for place, each in enumerate(locker.boards)]
    _refuse_twins([each.place.board for each in boards], f"{source}: locker.boards.board")
    on_buses: dict[str, list[_Board]] = {name: [] for name in buses}
    for each in boards:
        if isinstance(each.driver, SerialDriver):
            if each.place.bus not in buses:
                raise ConfigError(
                    f"{source}: board {each.place.board} is on bus {each.place.bus!r}, which is not there",
                    remedy="name a bus of [[locker.buses]]",
                )
            on_buses[each.place.bus].append(each)
        elif each.place.bus:
            raise ConfigError(f"{source}: board {each.place.board} needs no bus", remedy="take its bus out")
    return Plan(
        tuple(_planned(buses[name], on_bus, source) for name, on_bus in on_buses.items()),
        tuple(_direct([each for each in boards if isinstance(each.driver, DirectDriver)])),
    )


def connect(plan: Plan, clock: Clock, base: Path) -> tuple[JoinedBoards, tuple[SerialBoards, ...]]:
    """The cabinet's boards, and those among them that share buses. ``base``: the configuration's directory."""
    buses = tuple(
        SerialBoards(SerialPort(str(base / each.bus.port), baud=each.baud, clock=clock), clock, each.codec, each.timing)
        for each in plan.buses
    )
    parts = [Part(bus, bus.boards, bus.coil) for bus in buses]
    for each in plan.direct:
        coil = max(each.driver.coil(options) for options in each.options.values())
        parts.append(Part(each.driver.boards(each.options, clock), each.options, coil))
    return JoinedBoards(parts, clock), buses


def _board(table: Mapping[str, Any], place: int, source: str, text: str) -> _Board:
    at = ("locker", "boards", place)
    common = {key: table[key] for key in BoardPlace.__struct_fields__ if key in table}
    where = convert_settings(common, BoardPlace, source=source, text=text, at=at)
    driver = load_driver(where.kind)
    own = {key: value for key, value in table.items() if key not in common}
    return _Board(where, driver, convert_settings(own, driver.options, source=source, text=text, at=at))


def _planned(bus: Bus, boards: list[_Board], source: str) -> PlannedBus:
    kinds = sorted({each.place.kind for each in boards})
    if len(kinds) != 1:
        what = f"boards of {' and '.join(kinds)}" if kinds else "no boards"
        raise ConfigError(f"{source}: bus {bus.name!r} has {what}", remedy="give each kind of board a bus of its own")
    driver = boards[0].driver
    assert isinstance(driver, SerialDriver)  # noqa: S101 - only such are on buses
    timing = driver.timing
    if bus.answer_ms is not None:
        timing = msgspec.structs.replace(timing, answer=bus.answer_ms / 1000, late=bus.answer_ms / 1000)
    codec = driver.codec({each.place.board: each.options for each in boards})
    return PlannedBus(bus, codec, bus.baud or driver.baud, timing)


def _direct(boards: list[_Board]) -> list[PlannedParts]:
    by_kind: dict[str, list[_Board]] = {}
    for each in boards:
        by_kind.setdefault(each.place.kind, []).append(each)
    return [
        PlannedParts(driver, {each.place.board: each.options for each in alike})
        for alike in by_kind.values()
        if isinstance(driver := alike[0].driver, DirectDriver)
    ]


def _refuse_twins(values: list[Any], what: str) -> None:
    for place, value in enumerate(values):
        if value in values[:place]:
            raise ConfigError(f"{what}: {value!r} stands twice", remedy="give each its own")
