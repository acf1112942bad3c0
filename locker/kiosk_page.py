"""Whether the page on the screen lives: a browser whose thread hangs shows a picture that looks well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

import msgspec

QUIET_S: Final = 30.0
"""A page that has drawn nothing new for so long is hung; it tells of a frame every 5 s."""


class AliveRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/alive``: the number of the frame that the browser has drawn last, since the page was loaded."""

    frame: Annotated[int, msgspec.Meta(ge=0)]


class Drawn:
    """Calls ``progress`` for every frame that is a new one."""

    def __init__(self, progress: Callable[[], None]) -> None:
        self._progress = progress
        self._last = -1

    def frame(self, number: int) -> None:
        """Of a page that was loaded anew the numbers begin again."""
        if number != self._last:
            self._last = number
            self._progress()
