"""The machine's own clock."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

SYNCHRONISED = Path("/run/systemd/timesync/synchronized")
"""systemd-timesyncd touches this file at its first synchronisation of the boot (systemd-timesyncd.service(8))."""


BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""A random id that the kernel draws at each boot (random(4))."""


def boot_id() -> str:
    """Names this boot: what is said of the monotonic clock holds within it alone."""
    return BOOT_ID.read_text().strip()


class SystemClock:
    """``edge.clock.Clock`` on this machine."""

    def __init__(self, synchronised: Path = SYNCHRONISED) -> None:
        self._synchronised = synchronised
        self._seen = False

    def wall(self) -> float:
        return time.time()

    def mono(self) -> float:
        return time.monotonic()

    def trusted(self) -> bool:
        # Once a boot is enough, so the file is not looked for again.
        self._seen = self._seen or self._synchronised.exists()
        return self._seen

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0.0))
