"""The inputs of one terminal as one stream: keypad, scanners and camera go in, the connected page hears them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from edge import log
from edge.clock import Clock
from locker.terminal import Input, Key, KeyPressed, ScanKind, Terminal

UNHEARD: int = 64
"""Inputs kept for a page that does not read; a person keys in fewer before they see that nothing happens."""

_log = log.get_logger("locker.inputs")


class Inputs:
    """Whatever is used, it is one session: the newest page hears all of it, and what nobody hears is forgotten."""

    def __init__(self, terminal: Terminal, clock: Clock) -> None:
        self._terminal = terminal
        self._clock = clock
        self._heard: asyncio.Queue[Input | None] | None = None
        self.refused = {"foreign": 0}
        """Scans that nothing is done with, for the metrics."""
        self.attended = asyncio.Event()
        """Set while somebody listens."""

    def press(self, key: Key | str) -> None:
        """A key of the keypad: a digit or a ``Key``."""
        self._tell(KeyPressed(key.value if isinstance(key, Key) else key))

    def scan(self, data: bytes) -> None:
        """One whole scan of any scanner, without its end of line."""
        scanned = self._terminal.scan(data, self._clock.mono())
        if scanned is None:
            return
        if scanned.scan is ScanKind.FOREIGN:
            self.refused["foreign"] += 1
            _log.info("inputs.foreign_scan", bytes=len(data))  # never what it was
        self._tell(scanned)

    def resolve(self, text: str) -> str:
        """The token behind a reference, as ``Terminal.resolve``."""
        return self._terminal.resolve(text, self._clock.mono())

    async def listen(self) -> AsyncIterator[Input]:
        """Inputs from now on, until somebody else listens."""
        mine: asyncio.Queue[Input | None] = asyncio.Queue(UNHEARD)
        self._end(self._heard)
        self._heard = mine
        self.attended.set()
        try:
            while (heard := await mine.get()) is not None:
                yield heard
        finally:
            if self._heard is mine:
                self._heard = None
                self.attended.clear()

    def _tell(self, heard: Input) -> None:
        if self._heard is not None and not self._heard.full():
            self._heard.put_nowait(heard)

    @staticmethod
    def _end(listener: asyncio.Queue[Input | None] | None) -> None:
        if listener is None:
            return
        if listener.full():
            listener.get_nowait()
        listener.put_nowait(None)
