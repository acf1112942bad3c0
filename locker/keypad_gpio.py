"""Scans a matrix keypad on GPIO lines."""

from __future__ import annotations

from collections.abc import Callable

from edge import log
from edge.clock import Clock
from edge.errors import DeviceError
from locker.gpio_wiring import Keypad as Wiring
from locker.gpio_wiring import Pull
from locker.keypad import Keypad, Pressed, Spot
from locker.pins import Pins
from locker.terminal import Key

SCAN_S = 0.02
"""A person holds a key for a tenth of a second at least."""
AGAIN_S = 5.0
"""Until a chip that could not be used is tried again."""

_log = log.get_logger("locker.keypad")


async def read_keypad(wiring: Wiring, pins: Pins, pressed: Callable[[Key | str], None], clock: Clock) -> None:
    """Hand each key to ``pressed``, for ever."""
    keypad, matrix, told = Keypad(wiring.keys), Matrix(wiring, pins), ""
    while True:
        try:
            down = matrix.down()
            told = ""
        except DeviceError as error:
            if error.what != told:
                _log.warning("keypad.missing", what=error.what, remedy=error.remedy)
            told = error.what
            await clock.sleep(AGAIN_S)
            continue
        for each in keypad.scanned(down, clock.mono()):
            if isinstance(each, Pressed):
                pressed(each.key)
            else:
                _log.warning("keypad.fault", fault=each.fault.value, row=each.spot[0], column=each.spot[1])
        await clock.sleep(SCAN_S)


class Matrix:
    """The lines of a keypad.

    Columns are pulled up. A row is driven low or is an input, never high: two keys of one column would join a low row
    with a high one, which no pin bears. While no key is down all rows are low, so that a look is one reading a column.
    """

    def __init__(self, wiring: Wiring, pins: Pins) -> None:
        """Nothing is touched yet."""
        self._wiring = wiring
        self._pins = pins
        self._resting = False

    def down(self) -> frozenset[Spot]:
        """The keys that are down. Raises ``DeviceError`` where the chip cannot be used."""
        if not self._resting:
            for column in self._wiring.columns:
                self._pins.sense(column, Pull.UP)
            self._rest()
        if not self._low():
            return frozenset()
        self._resting = False
        for line in self._wiring.rows:
            self._pins.sense(line, Pull.UP)
        found: set[Spot] = set()
        for row, line in enumerate(self._wiring.rows):
            self._pins.drive(line, 0)
            found.update((row, column) for column in self._low())
            self._pins.sense(line, Pull.UP)
        self._rest()
        return frozenset(found)

    def _low(self) -> list[int]:
        return [at for at, column in enumerate(self._wiring.columns) if self._pins.read(column) == 0]

    def _rest(self) -> None:
        for line in self._wiring.rows:
            self._pins.drive(line, 0)
        self._resting = True
