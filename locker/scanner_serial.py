"""A barcode scanner on a serial port: bytes in, whole scans out."""

from __future__ import annotations

from collections.abc import Callable

from serial.tools import list_ports

from edge import log
from edge.clock import Clock
from edge.errors import DeviceError
from edge.serial_asyncio import SerialPort
from locker.scan_frames import ScanFrames

NOTHING_S = 0.5
"""Between two looks while nothing is scanned; a first byte ends the wait at once."""
AGAIN_S = 1.0
"""Until a scanner that was unplugged is looked for again."""

_log = log.get_logger("locker.scanner")


async def read_serial_scanner(port: SerialPort, scanned: Callable[[bytes], None], clock: Clock) -> None:
    """Hand each whole scan to ``scanned``, for ever; a scanner that goes away comes back by itself."""
    frames, missing = ScanFrames(), False
    while True:
        now = clock.mono()
        wait = NOTHING_S if frames.due is None else max(0.0, frames.due - now)
        try:
            frames.feed(await port.read(wait), clock.mono())
            missing = False
        except DeviceError as error:
            if not missing:
                _log.warning("scanner.missing", what=error.what, remedy=error.remedy)
            missing = True
            await clock.sleep(AGAIN_S)
        if (scan := frames.take(clock.mono())) is not None:
            scanned(scan)


def serial_ports() -> list[tuple[str, str]]:
    """Every serial port of this machine with what its adapter calls itself, for a person who looks for a scanner."""
    return sorted((port.device, port.description) for port in list_ports.comports())
