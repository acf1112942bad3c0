"""The machine's own clock."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

SYNCHRONISED = Path("/run/systemd/timesync/synchronized")
"""systemd-timesyncd touches this file at its first synchronisation of the boot (systemd-timesyncd.service(8))."""


class SystemClock:
    """``edge.clock.Clock`` on this machine."""

    def __init__(self, synchronised: Path = SYNCHRONISED) -> None:
        self._synchronised = synchronised

    def wall(self) -> float:
        return time.time()

    def mono(self) -> float:
        return time.monotonic()

    def trusted(self) -> bool:
        return self._synchronised.exists()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0.0))
