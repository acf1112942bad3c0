"""An event loop that knows when nothing is going on, and a clock that moves only then.

Real threads and a real socket are part of what is tested, so a number of turns of the loop would prove nothing: time
passes when the loop would sleep, no thread owes an answer, and no packet is under way.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

from edge.clock_sim import ManualClock

T = TypeVar("T")


class QuietSelector(selectors.EpollSelector):
    """Answers those who wait for quiet in the moment in which the loop would begin to sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.waiters: list[asyncio.Future[None]] = []
        self.busy: Callable[[], bool] = lambda: False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None:
            return super().select(timeout)
        if events := super().select(0):
            return events
        if not self.waiters or self.busy():
            return super().select(None)
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        return []


class QuietLoop(asyncio.SelectorEventLoop):
    """``quiet`` returns when every task waits for something that only time, or the test, can bring."""

    def __init__(self) -> None:
        self._quiet = QuietSelector()
        super().__init__(self._quiet)
        self._owed = 0
        self._watched: list[Callable[[], bool]] = []
        self._quiet.busy = self._busy

    def watch(self, busy: Callable[[], bool]) -> None:
        """Ask ``busy`` too: it stands for a thread that the loop did not start."""
        self._watched.append(busy)

    def unwatch(self, busy: Callable[[], bool]) -> None:
        self._watched.remove(busy)

    async def quiet(self) -> None:
        waiter: asyncio.Future[None] = self.create_future()
        self._quiet.waiters.append(waiter)
        await waiter

    def run_in_executor(self, executor: Executor | None, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]  # ours is the wider one
        answer: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        self._owed += 1
        answer.add_done_callback(self._paid)
        return answer

    def _paid(self, _: asyncio.Future[Any]) -> None:
        self._owed -= 1

    def _busy(self) -> bool:
        return self._owed > 0 or any(busy() for busy in self._watched)


class QuietClock(ManualClock):
    """``advance`` wakes the next sleeper when all that the last one started has come to rest."""

    @staticmethod
    async def _settle() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, QuietLoop)
        await loop.quiet()
