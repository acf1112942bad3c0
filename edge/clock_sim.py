"""A clock that stands still until it is moved: for tests, and for playing a day in a second."""

from __future__ import annotations

import asyncio
import heapq
import itertools

TURNS = 20
"""Turns of the event loop given to tasks after each wake-up, so that what a sleeper starts can settle."""


class ManualClock:
    """``edge.clock.Clock`` moved by hand. ``mono`` starts at 0 s, ``wall`` at the time given."""

    def __init__(self, wall: float = 1_800_000_000.0, *, trusted: bool = True) -> None:
        self._wall = wall
        self._mono = 0.0
        self._trusted = trusted
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def wall(self) -> float:
        return self._wall

    def mono(self) -> float:
        return self._mono

    def trusted(self) -> bool:
        return self._trusted

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._mono + seconds, next(self._order), waiter))
        await waiter

    async def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass, waking sleepers in the order of their deadlines."""
        end = self._mono + seconds
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            deadline, _, waiter = heapq.heappop(self._sleepers)
            self._move_to(deadline)
            if not waiter.done():
                waiter.set_result(None)
            await self._settle()
        self._move_to(end)

    def step_wall(self, seconds: float) -> None:
        """Jump the wall clock alone, as a bad time server or a dead battery does."""
        self._wall += seconds

    def trust(self, trusted: bool) -> None:  # noqa: FBT001  reads as a sentence at every call
        self._trusted = trusted

    def _move_to(self, mono: float) -> None:
        self._wall += mono - self._mono
        self._mono = mono

    @staticmethod
    async def _settle() -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)
