"""A matrix of keys as it is scanned: which key was meant, where contacts bounce, several are down, or one hangs."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

import msgspec

from locker.terminal import Key

STEADY_S: Final = 0.02
"""A key counts once it has been down, alone, for so long: contacts bounce for 5 to 10 ms."""
STUCK_S: Final = 20.0
"""Held for longer, a key hangs, by dirt or by a coin. The others go on without it until it comes up."""

Spot = tuple[int, int]
"""Row and column, from 0."""

_KEYS: Final = {"*": Key.ERASE, "#": Key.ENTER, "C": Key.CANCEL}


class Fault(enum.Enum):
    STUCK = "stuck"
    FREE = "free"
    """A key that hung has come up."""


class Pressed(msgspec.Struct, frozen=True):
    """A digit or a ``Key``."""

    key: Key | str


class Noticed(msgspec.Struct, frozen=True):
    """For health: a key at ``spot`` hangs, or no longer does."""

    fault: Fault
    spot: Spot


class Keypad:
    """Scans to keys. Times are monotonic seconds.

    One key at a time: without a diode at each, three keys of a rectangle look like four. So what is down together with
    another is nothing, until all but those that hang are up again.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        """``keys`` as ``locker.gpio_wiring.Keypad`` has them."""
        self._keys = keys
        self._down: frozenset[Spot] = frozenset()
        self._since = 0.0
        self._told = False
        self._stuck: set[Spot] = set()

    def scanned(self, down: frozenset[Spot], now: float) -> list[Pressed | Noticed]:
        """What follows from the keys that are ``down`` now. Call it some fifty times a second."""
        noticed: list[Pressed | Noticed] = [Noticed(Fault.FREE, spot) for spot in sorted(self._stuck - down)]
        self._stuck &= down
        down -= self._stuck
        if down != self._down:
            # Of several that come up one by one the last is not meant either.
            self._told = bool(down) and (self._told or len(down) > 1)
            self._down, self._since = down, now
        elif now - self._since >= STUCK_S:
            noticed += [Noticed(Fault.STUCK, spot) for spot in sorted(down)]
            self._stuck |= down
        elif len(down) == 1 and not self._told and now - self._since >= STEADY_S:
            self._told = True
            noticed += self._meant(next(iter(down)))
        return noticed

    def _meant(self, spot: Spot) -> list[Pressed | Noticed]:
        name = self._keys[spot[0]][spot[1]]
        return [] if name == " " else [Pressed(_KEYS.get(name, name))]
