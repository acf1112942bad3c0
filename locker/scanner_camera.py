"""Barcodes in the frames of a camera, by zxing-cpp. The only file that speaks to it; it runs in a process of its own.

A decoder of images is a large program in C++ that reads what strangers hold before it. So whoever takes it over has a
process without keys, network or database, that can hand one string at a time to the role agent, as a scanner could.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edge.errors import ConfigError
from locker.terminal import SCAN_LIMIT

GONE_S = 2.0
"""A code that has not been seen for so long has been taken away; shown again it is a new scan."""

Decoder = Callable[[bytes, int, int], list[bytes]]
"""The grey bytes of a frame, its width and height in pixels -> what each code on it says, in their bytes."""


def open_decoder() -> Decoder:
    """Raises ``ConfigError`` where zxing-cpp is not installed."""
    try:
        import zxingcpp
    except ImportError as error:
        raise ConfigError(
            "a camera is configured and zxing-cpp is not installed", remedy="install lastmile-edge[camera]"
        ) from error
    kinds = zxingcpp.BarcodeFormat
    # What vouchers, badges and parcel labels are printed in. Each further kind is more code that strangers can feed.
    formats = (kinds.QRCode, kinds.Aztec, kinds.DataMatrix, kinds.PDF417, kinds.Code128)

    def decode(grey: bytes, width: int, height: int) -> list[bytes]:
        picture = memoryview(grey).cast("B", (height, width))
        found = zxingcpp.read_barcodes(picture, formats=formats)  # type: ignore[arg-type]  # its types lag behind
        return [bytes(code.bytes)[: SCAN_LIMIT + 1] for code in found]

    return decode


class InView:
    """Which of the codes in a frame are new. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._seen: dict[bytes, float] = {}

    def new(self, codes: Sequence[bytes], now: float) -> list[bytes]:
        """Those that have come into view: each is told once, until it has been out of view for ``GONE_S``."""
        self._seen = {code: at for code, at in self._seen.items() if now - at < GONE_S}
        fresh = [code for code in dict.fromkeys(codes) if code and code not in self._seen]
        self._seen |= dict.fromkeys(codes, now)
        return fresh
