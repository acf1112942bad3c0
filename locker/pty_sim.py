"""The simulated boards' end of a serial line: a pseudo-terminal behind a symlink, which can be unplugged."""

from __future__ import annotations

import asyncio
import contextlib
import os
import termios
import tty
from collections.abc import Callable
from pathlib import Path

SPEEDS = {
    4800: termios.B4800,
    9600: termios.B9600,
    19200: termios.B19200,
    38400: termios.B38400,
    57600: termios.B57600,
    115200: termios.B115200,
}
"""Baud rates that boards can be set to, some of them to a few only."""


class PtyPort:
    """Plugged in by ``plug``, pulled out by ``unplug``, as often as wanted."""

    def __init__(self, link: Path, baud: int) -> None:
        """``link`` is kept at its path over unplugs; ``baud`` is the boards' own."""
        self._link = link
        self._speed = SPEEDS[baud]
        self._ends: tuple[int, int] | None = None

    @property
    def plugged(self) -> bool:
        return self._ends is not None

    @property
    def garbles(self) -> bool:
        """Whether the agent's end was set to another speed than the boards'."""
        return self._ends is not None and termios.tcgetattr(self._ends[1])[4] != self._speed

    def plug(self, heard: Callable[[bytes], None]) -> None:
        """Begin to hand over what the agent sends."""
        outer, inner = self._ends = os.openpty()
        tty.setraw(inner)
        os.set_blocking(outer, False)
        asyncio.get_running_loop().add_reader(outer, self._readable, outer, heard)
        fresh = self._link.with_name(self._link.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(os.ttyname(inner))
        fresh.replace(self._link)

    def unplug(self) -> None:
        if self._ends is None:
            return
        asyncio.get_running_loop().remove_reader(self._ends[0])
        self._link.unlink(missing_ok=True)
        for end in self._ends:
            os.close(end)
        self._ends = None

    def send(self, data: bytes) -> None:
        """Bytes towards the agent. A line that nobody reads loses them, as a wire does."""
        if self._ends is not None:
            with contextlib.suppress(BlockingIOError):
                os.write(self._ends[0], data)

    @staticmethod
    def _readable(outer: int, heard: Callable[[bytes], None]) -> None:
        with contextlib.suppress(BlockingIOError):
            heard(os.read(outer, 4096))
