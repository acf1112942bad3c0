"""Where a scan ends: scanners send a burst of bytes, mostly with an end of line; hostile barcodes hold some inside."""

from __future__ import annotations

from typing import Final

from locker.terminal import SCAN_LIMIT

QUIET_S: Final = 0.03
"""Silence after an end of line until the scan is whole. What comes sooner is still of the same barcode: scanners send
a byte each 1 to 8 ms and pause between scans for a tenth of a second at least."""
IDLE_S: Final = 0.15
"""Silence that ends a scan without an end of line."""

_ENDS: Final = b"\r\n"


class ScanFrames:
    """Bytes to whole scans. Times are monotonic seconds.

    An end of line within a scan is left in it, so that a barcode of several lines is one scan, and a foreign one: none
    of its lines counts. Of what is too long only the beginning is kept, which is enough to see that it is.
    """

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._due: float | None = None

    @property
    def due(self) -> float | None:
        """When ``take`` will have a scan unless more bytes come; None while there are none."""
        return self._due

    def feed(self, data: bytes, now: float) -> None:
        if not data:
            return
        self._bytes += data[: SCAN_LIMIT + 3 - len(self._bytes)]
        self._due = now + (QUIET_S if data[-1] in _ENDS else IDLE_S)

    def take(self, now: float) -> bytes | None:
        """The scan that has ended by ``now``, without its last end of line; None where none has, or it was empty."""
        if self._due is None or now < self._due:
            return None
        whole = bytes(self._bytes)
        self._bytes.clear()
        self._due = None
        return whole.removesuffix(b"\n").removesuffix(b"\r") or None
