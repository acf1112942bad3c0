"""What a doctor may do on a bus: ask, at any speed and address, and one pulse. All that knows a kind of board."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from agents.settings import Board, Locker
from edge.clock import Clock
from edge.errors import DeviceError
from edge.serial_asyncio import SerialPort
from locker.board_serial import BusTiming, SerialBoards, Wiring
from locker.boards import kerong
from locker.latch import Latch, Reading

BAUDS: Final[tuple[int, ...]] = (19200, 9600, 57600, 115200)
"""What boards in the field are set to, the usual first."""


class Scan(msgspec.Struct, frozen=True):
    """How thoroughly a bus is questioned."""

    timing: BusTiming = BusTiming()
    asked: int = 3
    """Times an address is asked for twins: two answers that fall on each other are one ruin, and another time two."""
    addresses: tuple[int, ...] = tuple(range(kerong.BOARDS))
    """Every one that a board can have."""


SCAN: Final = Scan()


class Heard(msgspec.Struct, frozen=True):
    """What one address said. ``answers``: the most that came to one query; ``ruins``: frames that were damaged."""

    board: int
    answers: int
    ruins: int
    echoed: bool


class Calibration(msgspec.Struct, frozen=True):
    """An option of a board and a value of it. ``is_set``: so it stands in the configuration."""

    option: str
    value: int
    is_set: bool


class DoctorBus:
    """One serial line in the doctor's hands: nobody else has it meanwhile. ``close`` gives it back."""

    def __init__(self, path: Path, baud: int, boards: dict[int, Board], clock: Clock, scan: Scan = SCAN) -> None:
        self.path = path
        self.baud = baud
        self.boards = boards
        self._clock = clock
        self.scan = scan
        self._port = SerialPort(str(self.path), baud=self.baud, clock=clock)

    def open(self) -> None:
        """Raises ``DeviceError``: missing, in use by the agent, or not to be opened."""
        self._port.open()

    def close(self) -> None:
        self._port.close()

    def at(self, baud: int) -> DoctorBus:
        """The same line at another speed, once this one is closed."""
        return DoctorBus(self.path, baud, self.boards, self._clock, self.scan)

    async def ask(self, board: int) -> Heard:
        """Ask one address for its status a few times. Moves nothing. Raises ``DeviceError`` without a port."""
        owner = self._owner(Wiring(board))
        answers = 0
        for _ in range(self.scan.asked):
            answers = max(answers, await owner.answers(board))
            if not answers and not owner.counters.resyncs:
                break
        counters = owner.counters
        return Heard(board, answers, counters.bad_checksums + counters.resyncs, counters.echoes > 0)

    def calibrations(self, board: int) -> Iterator[Calibration]:
        """Every way to read a board of this kind that has to be found out, with each value that it may have."""
        for value in (0, 1):
            yield Calibration("closed_bit", value, is_set=self.boards[board].closed_bit == value)

    async def read(self, board: int, calibration: Calibration) -> tuple[Reading, ...]:
        """All latches of ``board`` as they read under ``calibration``; UNKNOWN where none came."""
        told = self.boards[board]
        bit: Literal[0, 1] = 1 if calibration.value else 0
        wiring = Wiring(board, told.locks, closed_bit=bit, item_sensors=told.item_sensors)
        return await self._owner(wiring).readings(board)

    async def pulse(self, latch: Latch) -> None:
        """One pulse. Raises ``DeviceError`` where it did not go out."""
        await self._owner(Wiring(latch.board)).pulse(latch)

    def _owner(self, wiring: Wiring) -> SerialBoards:
        return SerialBoards(self._port, self._clock, [wiring], self.scan.timing)


def buses_of(locker: Locker, base: Path, clock: Clock, scan: Scan = SCAN) -> list[DoctorBus]:
    """Every serial bus of the configuration. Nothing is opened yet."""
    boards = {each.address: each for each in locker.boards}
    return [DoctorBus(base / locker.bus.port, locker.bus.baud, boards, clock, scan)]


async def heard_at(bus: DoctorBus, bauds: Sequence[int] = BAUDS) -> int | None:
    """The speed at which a configured board answers, the configured one excepted; None where none does.

    Only addresses of the configuration are asked. The bus must be closed, and is left so.
    """
    for baud in bauds:
        if baud != bus.baud and await _anybody(bus.at(baud)):
            return baud
    return None


async def _anybody(bus: DoctorBus) -> bool:
    try:
        for board in bus.boards:
            if (await bus.ask(board)).answers:
                return True
    except DeviceError:
        return False
    finally:
        bus.close()
    return False
