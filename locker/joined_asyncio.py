"""Every board of a cabinet, whatever its kind and wherever it is connected; and one coil at a time in all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from edge.clock import Clock
from edge.errors import ConfigError, DeviceError, DeviceSilent
from locker.latch import Latch, LockBoards, Reading

COIL_MARGIN: Final = 0.05
"""Seconds by which one frame may reach its board later than the next one: an adapter's latency timer of 16 ms, bytes
on a slow wire, and a board that looks at its inputs now and then."""


class Part(NamedTuple):
    """Boards with one owner."""

    owner: LockBoards
    boards: Iterable[int]
    coil: float
    """Seconds after a pulse at which its coil is surely off."""


class JoinedBoards:
    """``locker.latch.LockBoards`` over all parts of a cabinet.

    Readings of different parts are taken side by side. A pulse waits until the coil before it is surely off, wherever
    that was: the supply is sized for one, and two doors must not move for one customer.
    """

    def __init__(self, parts: Iterable[Part], clock: Clock) -> None:
        """Raises ``ConfigError`` where two parts have a board of the same number."""
        self._clock = clock
        self._parts = _by_board(parts)
        self._coil = asyncio.Lock()
        # A process that was killed may have pulsed the moment before this one began.
        self._coil_free_at = clock.mono() + self.coil

    @property
    def coil(self) -> float:
        """Seconds after any pulse at which its coil is surely off."""
        return COIL_MARGIN + max(part.coil for part in self._parts.values())

    async def readings(self, board: int) -> tuple[Reading, ...]:
        """All latches of ``board``. Raises ``ConfigError`` for a board that no part has."""
        return await self._part(board).owner.readings(board)

    async def pulse(self, latch: Latch) -> None:
        """One pulse, when no other coil is driven. Raises what the board's owner does."""
        part = self._part(latch.board)
        async with self._coil:
            while (left := self._coil_free_at - self._clock.mono()) > 0:
                await self._clock.sleep(left)
            try:
                await part.owner.pulse(latch)
            except (ConfigError, DeviceError) as error:
                if isinstance(error, DeviceSilent):  # a part of the frame went out
                    self._driven(part)
                raise
            except asyncio.CancelledError:
                self._driven(part)  # nobody knows whether it went out
                raise
            self._driven(part)

    def _driven(self, part: Part) -> None:
        self._coil_free_at = self._clock.mono() + part.coil + COIL_MARGIN

    def _part(self, board: int) -> Part:
        part = self._parts.get(board)
        if part is None:
            raise ConfigError(f"board {board} is not wired", remedy="name it among the cabinet's boards")
        return part


def _by_board(parts: Iterable[Part]) -> Mapping[int, Part]:
    found: dict[int, Part] = {}
    for part in parts:
        for board in part.boards:
            if board in found:
                raise ConfigError(f"board {board} stands twice", remedy="give each board a number of its own")
            found[board] = part
    return found
