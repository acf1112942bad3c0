"""Contacts on the node's own pins: a lid's switch, a power supply's relay."""

from __future__ import annotations

from edge.errors import DeviceError
from locker.gpio_wiring import Pull
from locker.pins import Pins


class GpioContact:
    """One input. Its bouncing is the watch's affair, which wants everything to last."""

    def __init__(self, pins: Pins, line: int, pull: Pull) -> None:
        self._pins = pins
        self._line = line
        self._pull = pull
        self._sensing = False

    async def read(self) -> float | None:
        """Its level, None while the chip cannot be asked."""
        try:
            if not self._sensing:
                self._pins.sense(self._line, self._pull)
                self._sensing = True
            return float(self._pins.read(self._line))
        except DeviceError:
            self._sensing = False
            return None
