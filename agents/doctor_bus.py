"""What a doctor may do on a bus: ask, at any speed and address, and one pulse. All that knows a kind of board."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from agents.lock_boards import PlannedBus, load_driver, plan_boards
from agents.settings import BoardPlace, Locker
from edge.clock import Clock
from edge.errors import ConfigError, DeviceError
from edge.serial_asyncio import SerialPort
from locker.board import BusTiming, SerialDriver
from locker.board_serial import SerialBoards
from locker.latch import Latch, Reading

BAUDS: Final[tuple[int, ...]] = (19200, 9600, 57600, 115200)
"""What boards in the field are set to, the usual first."""
HIGHEST: Final = 32
"""The highest address that is looked at beside those of the configuration: switches on boards go up to it."""

CALIBRATED: Final[Mapping[str, tuple[tuple[int | str, ...], Mapping[str, str]]]] = {
    "closed_bit": ((0, 1), {"asked": "board"}),
    "closed_state": ((0, 1), {}),
    "closed_single": (("00", "11"), {"asked": "lock"}),
}
"""Options of drivers that say how a shut door reads: their values, and how a board is asked where they are used."""


class Scan(msgspec.Struct, frozen=True):
    """How thoroughly a bus is questioned."""

    timing: BusTiming | None = None
    """None for what its driver says."""
    asked: int = 3
    """Times an address is asked for twins: two answers that fall on each other are one ruin, and another time two."""
    highest: int = HIGHEST


SCAN: Final = Scan()


class Heard(msgspec.Struct, frozen=True):
    """What one address said. ``board`` is what the configuration calls it, None where it does not know it.

    ``answers``: the most that came to one query; ``ruins``: frames that were damaged.
    """

    address: int
    board: int | None
    answers: int
    ruins: int
    echoed: bool


class Calibration(msgspec.Struct, frozen=True):
    """An option of a board and a value of it. ``configured`` is the value that the file has, None for none."""

    option: str
    value: int | str
    configured: int | str | None


class DoctorBus:
    """One serial line in the doctor's hands: nobody else has it meanwhile. ``close`` gives it back."""

    def __init__(
        self, planned: PlannedBus, driver: SerialDriver, boards: dict[int, Any], base: Path, clock: Clock
    ) -> None:
        """``boards`` are the options of its boards by their numbers."""
        self.path = base / planned.bus.port
        self.baud = planned.baud
        self.boards = boards
        self._planned = planned
        self._driver = driver
        self._base = base
        self._clock = clock
        self._port = SerialPort(str(self.path), baud=self.baud, clock=clock)

    def open(self) -> None:
        """Raises ``DeviceError``: missing, in use by the agent, or not to be opened."""
        self._port.open()

    def close(self) -> None:
        self._port.close()

    def at(self, baud: int) -> DoctorBus:
        """The same line at another speed, once this one is closed."""
        other = self._planned._replace(baud=baud)
        return DoctorBus(other, self._driver, self.boards, self._base, self._clock)

    def addresses(self, scan: Scan) -> list[int]:
        """Those of the configuration, and every usual one that a board of this kind can have."""
        own = {options.address for options in self.boards.values()}
        possible = {address for address in range(scan.highest + 1) if self._at_address(address) is not None}
        return sorted(own | possible)

    async def ask(self, address: int, scan: Scan) -> Heard:
        """Ask one address for its status a few times. Moves nothing. Raises ``DeviceError`` without a port."""
        owner = self._owner(0, self._at_address(address), scan.timing)
        answers = 0
        for _ in range(scan.asked):
            answers = max(answers, await owner.answers(0))
            if not answers and not owner.counters.resyncs:
                break
        told = owner.counters
        board = next((number for number, each in self.boards.items() if each.address == address), None)
        return Heard(address, board, answers, told.bad_checksums + told.resyncs, told.words > 0)

    def calibrations(self, board: int) -> Iterator[Calibration]:
        """Every way to read a board of this kind that has to be found out, with each value that it may have."""
        for option, (values, _) in CALIBRATED.items():
            if option in self._driver.options.__struct_fields__:
                for value in values:
                    yield Calibration(option, value, getattr(self.boards[board], option))

    async def read(self, board: int, calibration: Calibration) -> tuple[Reading, ...]:
        """All latches of ``board`` as they read under ``calibration``; UNKNOWN where none came."""
        options = self.boards[board]
        asked = {key: way for key, way in CALIBRATED[calibration.option][1].items() if hasattr(options, key)}
        changed = msgspec.structs.replace(options, **{calibration.option: calibration.value}, **asked)
        return await self._owner(board, changed).readings(board)

    async def pulse(self, latch: Latch) -> None:
        """One pulse. Raises ``DeviceError`` where it did not go out."""
        await self._owner(latch.board, self.boards[latch.board]).pulse(latch)

    def _at_address(self, address: int) -> Any:
        """A board of this kind at ``address``, None where there can be none."""
        some = next(iter(self.boards.values()))
        told = {**msgspec.to_builtins(some), "address": address}
        try:
            return msgspec.convert({key: each for key, each in told.items() if each is not None}, self._driver.options)
        except msgspec.ValidationError:
            return None

    def _owner(self, number: int, options: Any, timing: BusTiming | None = None) -> SerialBoards:
        codec = self._driver.codec({number: options})
        return SerialBoards(self._port, self._clock, codec, timing or self._planned.timing)


def buses_of(locker: Locker, base: Path, clock: Clock, source: str) -> list[DoctorBus]:
    """Every serial bus of the configuration. Nothing is opened yet. Raises ``ConfigError`` as ``plan_boards`` does."""
    buses = []
    for planned in plan_boards(locker, source=source).buses:
        tables = [each for each in locker.boards if each.get("bus") == planned.bus.name]
        driver = load_driver(tables[0]["kind"])
        if not isinstance(driver, SerialDriver):
            raise ConfigError(f"{source}: bus {planned.bus.name!r} has boards of no bus", remedy="correct their kind")
        own = {each["board"]: _options(each, driver) for each in tables}
        buses.append(DoctorBus(planned, driver, own, base, clock))
    return buses


def _options(table: Mapping[str, Any], driver: SerialDriver) -> Any:
    common = BoardPlace.__struct_fields__
    return msgspec.convert({key: value for key, value in table.items() if key not in common}, driver.options)


async def heard_at(bus: DoctorBus, scan: Scan, bauds: Sequence[int] = BAUDS) -> int | None:
    """The speed at which a configured board answers, the configured one excepted; None where none does.

    Only addresses of the configuration are asked. The bus must be closed, and is left so.
    """
    for baud in bauds:
        if baud != bus.baud and await _anybody(bus.at(baud), scan):
            return baud
    return None


async def _anybody(bus: DoctorBus, scan: Scan) -> bool:
    try:
        for options in bus.boards.values():
            if (await bus.ask(options.address, scan)).answers:
                return True
    except DeviceError:
        return False
    finally:
        bus.close()
    return False
