"""A barcode scanner that pretends to be a keyboard, taken away from everybody else: the browser never sees its keys."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from edge import log
from edge.clock import Clock
from edge.errors import DeviceBusy, DeviceError, DeviceMissing
from locker.hid_keys import EVENT, KeyDecoder
from locker.scan_frames import ScanFrames

EVIOCGRAB = 0x40044590
"""_IOW('E', 0x90, int) of linux/input.h: events go to this descriptor alone, until it is closed."""
EVIOCGNAME = 0x81004506
"""_IOR('E', 0x06, char[256]): what the device calls itself."""

READ_CHUNK = 64 * EVENT.size
NOTHING_S = 0.5
AGAIN_S = 1.0
"""Until a scanner that was unplugged is looked for again."""

_log = log.get_logger("locker.scanner")


def grab(descriptor: int) -> None:
    """Have the device's events to ourselves. Raises ``DeviceBusy`` where another process has grabbed it.

    A scanner that cannot be grabbed is not used: what it types would also reach the browser.
    """
    try:
        fcntl.ioctl(descriptor, EVIOCGRAB, 1)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise DeviceBusy("the scanner is grabbed by another process", remedy="stop that process") from error
        raise DeviceError(
            f"the scanner cannot be grabbed ({error.strerror})", remedy="name its device below /dev/input"
        ) from error


class HidScanner:
    """One device below ``/dev/input``; a link in ``by-id`` stays the same over unplugs."""

    def __init__(
        self, path: str, scanned: Callable[[bytes], None], clock: Clock, *, grab: Callable[[int], None] = grab
    ) -> None:
        """Nothing is opened yet."""
        self._path = path
        self._scanned = scanned
        self._clock = clock
        self._grab = grab
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Hand each whole scan on, for ever; a scanner that goes away comes back by itself."""
        told = ""
        while True:
            try:
                descriptor = self._open()
                _log.info("scanner.grabbed", device=self._path)
                told = ""
                try:
                    await self._read(descriptor)
                finally:
                    os.close(descriptor)
            except DeviceError as error:
                if error.what != told:
                    _log.warning("scanner.missing", what=error.what, remedy=error.remedy)
                told = error.what
            await self._clock.sleep(AGAIN_S)

    def _open(self) -> int:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except PermissionError as error:
            raise DeviceError(
                f"{self._path} may not be opened", remedy="put the service's user into the group input"
            ) from error
        except OSError as error:
            raise DeviceMissing(
                f"{self._path} is not there", remedy="plug the scanner in, or correct its path"
            ) from error
        try:
            self._grab(descriptor)
        except DeviceError:
            os.close(descriptor)
            raise
        return descriptor

    async def _read(self, descriptor: int) -> None:
        """Until the device goes away: raises ``DeviceMissing``."""
        frames, keys = ScanFrames(), KeyDecoder()
        loop = asyncio.get_running_loop()
        loop.add_reader(descriptor, self._news.set)
        try:
            while True:
                await self._wait(NOTHING_S if frames.due is None else max(0.0, frames.due - self._clock.mono()))
                frames.feed(keys.feed(self._arrived(descriptor)), self._clock.mono())
                if (scan := frames.take(self._clock.mono())) is not None:
                    self._scanned(scan)
        finally:
            loop.remove_reader(descriptor)

    def _arrived(self, descriptor: int) -> bytes:
        self._news.clear()
        try:
            data = os.read(descriptor, READ_CHUNK)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            raise DeviceMissing(f"{self._path} went away", remedy="plug the scanner in again; it is then found")
        return data

    async def _wait(self, seconds: float) -> None:
        """Return when something can be read or ``seconds`` of the injected clock have passed."""
        waits = [asyncio.ensure_future(self._news.wait()), asyncio.ensure_future(self._clock.sleep(seconds))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


def input_devices(below: Path = Path("/dev/input/by-id")) -> list[tuple[str, str]]:
    """Every keyboard-like device with what it calls itself, for a person who looks for a scanner."""
    found = []
    for path in sorted(below.glob("*-event-kbd")):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            found.append((str(path), error.strerror or "cannot be opened"))
            continue
        try:
            name = fcntl.ioctl(descriptor, EVIOCGNAME, bytes(256)).split(b"\0")[0].decode(errors="replace")
        except OSError as error:
            name = error.strerror or "no input device"
        finally:
            os.close(descriptor)
        found.append((str(path), name))
    return found
