"""Sensors that the kernel shows as files: voltage flags, power supplies, thermometers."""

from __future__ import annotations

from pathlib import Path

from edge.errors import ProtocolError
from locker.sensor_text import Format, parse

MOST_BYTES = 256
"""A ``w1_slave`` has 74."""


def read_sensor(pattern: str, how: Format) -> float | None:
    """One reading; None where the file is not there, cannot be read or says nothing. Blocks: 0.8 s for a 1-wire one.

    ``pattern`` may hold ``*``: the kernel numbers its devices anew at each boot. The first match is read.
    """
    place = Path(pattern)
    try:
        path = min(Path(place.anchor or ".").glob(str(place.relative_to(place.anchor))), default=None)
        if path is None:
            return None
        with path.open("rb") as file:
            return parse(file.read(MOST_BYTES).decode("ascii", "replace"), how)
    except (OSError, ProtocolError):
        return None
