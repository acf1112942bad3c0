"""Time is injected: everything that needs it is handed a ``Clock``."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """What a node knows of time.

    ``wall`` may be wrong or jump: it is for people and for validity periods, and only believed when ``trusted``.
    ``mono`` never goes back and stands still while the node is off: budgets and time-outs run on it.
    """

    def wall(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        ...

    def mono(self) -> float:
        """Seconds of running time since an arbitrary start in this boot."""
        ...

    def trusted(self) -> bool:
        """Whether NTP or GNSS has set the wall clock in this boot."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` of running time; 0 or less gives other tasks one turn."""
        ...
