"""Sensors that the kernel shows as files: voltage flags, power supplies, thermometers."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path

from edge.errors import ProtocolError
from locker.sensor_text import Format, parse

MOST_BYTES = 256
"""A ``w1_slave`` has 74."""
ANSWER_S = 10.0
"""A bus of eight 1-wire thermometers, asked one after the other, is through in less. Whoever takes longer hangs."""


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


class FileSensor:
    """One such file, read beside everything else.

    A driver may hang in the middle of a reading, for ever. It then holds up no thread that anybody else needs, nor the
    end of the process; the sensor says nothing meanwhile, and is not asked again before that reading has come back.
    """

    def __init__(self, pattern: str, how: Format, answer_s: float = ANSWER_S) -> None:
        """Nothing is opened yet."""
        self._pattern = pattern
        self._how = how
        self._answer_s = answer_s
        self._under_way: asyncio.Future[float | None] | None = None

    async def read(self) -> float | None:
        """As ``read_sensor``, and None where that has not come back in time."""
        if self._under_way is None:
            self._under_way = self._begin()
        done, _ = await asyncio.wait({self._under_way}, timeout=self._answer_s)
        if not done:
            return None
        reading, self._under_way = self._under_way.result(), None
        return reading

    def _begin(self) -> asyncio.Future[float | None]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[float | None] = loop.create_future()

        def tell(reading: float | None) -> None:
            if not answer.done():
                answer.set_result(reading)

        def work() -> None:
            reading = read_sensor(self._pattern, self._how)
            with contextlib.suppress(RuntimeError):  # whoever asked has ended
                loop.call_soon_threadsafe(tell, reading)

        threading.Thread(target=work, name="sensor", daemon=True).start()
        return answer
