"""A serial port that opens itself when it is needed, says what is wrong with it, and comes back after an unplug.

Opened and configured by pyserial; read and written on its descriptor by the event loop. pyserial-asyncio-fast is not
used here: its transport cannot be opened again, delivers bytes by call-back where a bus owner wants to wait for them,
and waits by polling when it closes.
"""

from __future__ import annotations

import asyncio
import errno
import os

import serial

from edge.clock import Clock
from edge.errors import DeviceBusy, DeviceError, DeviceMissing, DeviceSilent

RETRY_FIRST = 0.1
"""Seconds until the next try after the first failure: a USB adapter needs about that long to come back."""

RETRY_MOST = 2.0
"""Seconds between tries in the long run. Opening costs microseconds, and a customer may stand at the door."""

WRITE_DEADLINE = 1.0
"""Seconds a device may refuse bytes: 2000 bytes at 19200 baud would have left by then."""

READ_CHUNK = 4096
"""Bytes per read, the size of the kernel's tty buffer."""

INBOX_LIMIT = 65536
"""Bytes kept for a reader that does not come: 34 s of a saturated line at 19200 baud. The oldest go first."""

_GONE = frozenset({errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.EIO, errno.ENOTDIR})
_HELD = frozenset({errno.EBUSY, errno.EAGAIN})


class SerialPort:
    """Bytes in and out of one serial device, 8 data bits, no parity, 1 stop bit.

    Every call opens the port first where it is not open; between failed tries it repeats the last error without
    touching the device, for 0.1 s doubling to 2 s. A try is also made to last: only received bytes reset that pause.
    One owner at a time: the device is locked (``flock``), so a second process or port object hears ``DeviceBusy``.
    The lock goes with its holder, however it dies; ``TIOCEXCL`` would outlive a killed process on a pty.
    """

    def __init__(self, path: str, *, baud: int, clock: Clock) -> None:
        """``path`` may be a symlink: it is followed anew at each opening. Nothing is opened yet."""
        self.path = path
        self._baud = baud
        self._clock = clock
        self._device: serial.Serial | None = None
        self._inbox = bytearray()
        self._news = asyncio.Event()
        self._pause = RETRY_FIRST
        self._retry_at = 0.0
        self._trouble: DeviceError | None = None

    @property
    def is_open(self) -> bool:
        return self._device is not None

    @property
    def trouble(self) -> DeviceError | None:
        """Why the port is not open, or None while it is or has not been asked for; for health."""
        return self._trouble

    def open(self) -> None:
        """Open the port unless it is open.

        Raises ``DeviceMissing`` or ``DeviceBusy``, or ``DeviceError`` where neither fits (rights, not a tty).
        """
        if self._device is not None:
            return
        if self._trouble is not None and self._clock.mono() < self._retry_at:
            raise self._trouble.with_traceback(None)
        try:
            # timeout=0 makes pyserial leave the descriptor non-blocking.
            device = serial.Serial(self.path, self._baud, timeout=0, write_timeout=0, exclusive=True)
        except (OSError, ValueError) as cause:
            raise self._failed(self._explain(cause)) from cause
        self._device, self._trouble = device, None
        self._inbox.clear()
        self._news.clear()
        asyncio.get_running_loop().add_reader(device.fileno(), self._readable)

    def close(self) -> None:
        """Release the device; a later call opens it again. Unread bytes are dropped."""
        device, self._device = self._device, None
        if device is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(device.fileno())
            loop.remove_writer(device.fileno())
            device.close()
        self._inbox.clear()
        self._news.set()

    def drain(self) -> bytes:
        """Everything received and not yet read, at once; empty while the port is closed."""
        data = bytes(self._inbox)
        self._inbox.clear()
        self._news.clear()
        return data

    async def read(self, seconds: float) -> bytes:
        """The bytes received so far, waiting up to ``seconds`` for the first; empty when none came.

        Raises ``DeviceMissing`` when the device goes away meanwhile, and what ``open`` raises.
        """
        self.open()
        if not self._inbox:
            await self._wait(self._news, seconds)
            if self._trouble is not None:
                raise self._trouble.with_traceback(None)
        return self.drain()

    async def write(self, data: bytes) -> None:
        """Hand ``data`` to the device; the first attempt happens before anything else can run.

        Raises ``DeviceMissing`` when the device is gone, ``DeviceSilent`` when it took only a part within 1 s (it is
        then closed, as nobody knows what it has sent), and what ``open`` raises.
        """
        self.open()
        rest = data[self._push(data) :]
        deadline = self._clock.mono() + WRITE_DEADLINE
        while rest:
            left = deadline - self._clock.mono()
            if left <= 0:
                raise self._lost(DeviceSilent(f"{self.path} takes no more bytes", remedy="check adapter and wiring"))
            await self._writable(left)
            rest = rest[self._push(rest) :]

    def _push(self, data: bytes) -> int:
        """Bytes the device took now."""
        if self._device is None:
            raise self._trouble or self._gone()
        try:
            return os.write(self._device.fileno(), data)
        except BlockingIOError:
            return 0
        except OSError as cause:
            raise self._lost(self._gone()) from cause

    def _readable(self) -> None:
        if self._device is None:
            return
        try:
            data = os.read(self._device.fileno(), READ_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # a tty that is readable and has nothing has hung up
            self._lost(self._gone())
            return
        self._pause = RETRY_FIRST
        self._inbox += data
        del self._inbox[:-INBOX_LIMIT]
        self._news.set()

    async def _writable(self, seconds: float) -> None:
        if self._device is None:
            return
        room = asyncio.Event()
        loop, descriptor = asyncio.get_running_loop(), self._device.fileno()
        loop.add_writer(descriptor, room.set)
        try:
            await self._wait(room, seconds)
        finally:
            if self._device is not None:
                loop.remove_writer(descriptor)

    async def _wait(self, event: asyncio.Event, seconds: float) -> None:
        """Return when ``event`` is set or ``seconds`` of the injected clock have passed."""
        waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._clock.sleep(seconds))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _lost(self, error: DeviceError) -> DeviceError:
        self.close()
        return self._failed(error)

    def _failed(self, error: DeviceError) -> DeviceError:
        """Remember ``error`` and leave the device alone for a while."""
        self._trouble = error
        self._retry_at = self._clock.mono() + self._pause
        self._pause = min(self._pause * 2, RETRY_MOST)
        return error

    def _gone(self) -> DeviceMissing:
        return DeviceMissing(f"{self.path} went away", remedy="plug the adapter in again; it is then opened by itself")

    def _explain(self, cause: OSError | ValueError) -> DeviceError:
        """What a failed opening means, by its errno (pyserial keeps it, also for a lock it did not get)."""
        number = cause.errno if isinstance(cause, OSError) else None
        if number in _GONE:
            return DeviceMissing(f"{self.path} is not there", remedy="plug the adapter in, or correct its path")
        if number in _HELD:
            return DeviceBusy(
                f"{self.path} is in use by another process",
                remedy=f"see who holds it with `fuser {self.path}` and stop it; two owners would garble the bus",
            )
        if number in {errno.EACCES, errno.EPERM}:
            return DeviceError(f"{self.path} may not be opened", remedy="put the service's user into group dialout")
        return DeviceError(f"{self.path} is no usable serial port ({cause})", remedy="correct its path or baud rate")
