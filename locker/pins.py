"""The port to general-purpose lines, by the numbers that their chip gives them."""

from __future__ import annotations

from typing import Protocol

from locker.gpio_wiring import Pull


class Pins(Protocol):
    """Levels are 0 and 1 on the wire. Every call may raise ``edge.errors.DeviceError``: no chip, or a line in use."""

    def drive(self, line: int, level: int) -> None:
        """Put ``level`` on ``line``, making it an output where it is none."""
        ...

    def sense(self, line: int, pull: Pull) -> None:
        """Make ``line`` an input."""
        ...

    def read(self, line: int) -> int:
        """The level of ``line``, which ``sense`` has made an input."""
        ...
