"""How many doors may stand open together before somebody should know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from locker.contract import DoorState
from locker.contract_cabinet import ManyDoorsOpen

MOST_OPEN: Final = 4
"""One door is opened at a time, and a family collects three parcels with all doors still open. In a known attack all
doors of thousands of lockers opened within an hour, and operators heard of it from passers-by."""


STANDS_OPEN: Final = frozenset({DoorState.OPEN, DoorState.AJAR, DoorState.FORCED})
"""The states in which a door is known to stand open."""


class Crowd:
    """Tells once when more than ``most`` doors stand open, and again only after they were ``most`` or fewer."""

    def __init__(self, most: int = MOST_OPEN) -> None:
        self._most = most
        self._told = False

    def saw(self, doors: Sequence[str]) -> ManyDoorsOpen | None:
        """Take the doors that stand open now."""
        many = len(doors) > self._most
        news, self._told = many and not self._told, many
        return ManyDoorsOpen(doors=tuple(doors), most=self._most) if news else None
