"""Keeps a process's tasks alive: a dead one is restarted with back-off or ends the process, and never goes unseen.

This is the one place with a broad ``except``: whatever kills a task, it is told here.
"""

from __future__ import annotations

import asyncio
import enum
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from edge import log
from edge.backoff import Backoff
from edge.clock import Clock
from edge.errors import LastmileError
from edge.health import Health

FIRST_WAIT_S = 0.5
CAP_S = 30.0
"""Local causes (a port, a full disk) are mended in seconds or by a person; half a minute more is not felt by either."""

STABLE_S = 300.0
"""A task that ran this long has recovered."""

STOP_S = 5.0
"""Given to the tasks to end after being cancelled; systemd's patience is 90 s, a person's is less."""


class OnDeath(enum.Enum):
    """What becomes of the process when a task that should run for ever does not."""

    RESTART = "restart"
    END = "end"


class TaskDied(LastmileError, RuntimeError):
    """A task without which the process is of no use has died. The service manager starts the process again."""


class Supervisor:
    """The tasks of one process. ``random`` gives floats in [0, 1).

    Whether a task is late is between it and ``health``; the supervisor adds its deaths and restarts.
    """

    def __init__(self, clock: Clock, random: Callable[[], float], health: Health) -> None:
        self._clock = clock
        self._random = random
        self._health = health
        self._log = log.get_logger("edge.supervisor")
        self._tasks: list[asyncio.Task[None]] = []
        self._ended = asyncio.Event()
        self._cause: TaskDied | None = None

    def keep(self, name: str, work: Callable[[], Awaitable[None]], *, on_death: OnDeath = OnDeath.RESTART) -> None:
        """Run ``work()`` now and for ever. Returning counts as dying: such work has no end of its own."""
        self._begin(name, self._keep(name, work, on_death))

    def spawn(self, name: str, work: Callable[[], Awaitable[None]], *, fatal: bool) -> None:
        """Run ``work()`` once. Its failure is logged and shown by health; a ``fatal`` one also ends the process."""
        self._begin(name, self._once(name, work, fatal=fatal))

    def stop(self) -> None:
        """Let ``run`` return. May be called from a signal handler of the loop."""
        self._ended.set()

    async def run(self) -> None:
        """Return after ``stop``, all tasks ended, the youngest first. Raises ``TaskDied`` when one of them ended it."""
        try:
            await self._ended.wait()
        finally:
            self._ended.set()
            await self._cancel_all()
        if self._cause is not None:
            raise self._cause

    async def run_until_signal(self) -> None:
        """``run``, with SIGTERM and SIGINT as ``stop``."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        try:
            await self.run()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _begin(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)

    async def _keep(self, name: str, work: Callable[[], Awaitable[None]], on_death: OnDeath) -> None:
        backoff = Backoff(self._random, first_s=FIRST_WAIT_S, cap_s=CAP_S, stable_s=STABLE_S)
        while True:
            began = self._clock.mono()
            error = await self._death(work())
            if error is None and self._ended.is_set():
                return
            self._tell(name, error)
            if on_death is OnDeath.END:
                self._end(name, error)
                return
            wait = backoff.after(self._clock.mono() - began)
            self._log.info("task.restarts", task=name, wait_s=round(wait, 3))
            await self._clock.sleep(wait)
            self._health.restarted(name, self._clock.mono())

    async def _once(self, name: str, work: Callable[[], Awaitable[None]], *, fatal: bool) -> None:
        error = await self._death(work())
        if error is None:
            return
        self._tell(name, error)
        if fatal:
            self._end(name, error)

    async def _death(self, work: Awaitable[None]) -> BaseException | None:
        """What killed ``work``, None when it returned. Our own cancellation passes through."""
        try:
            await work
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return error  # cancelled from within: a defect, and as dead as any other
        except Exception as error:  # noqa: BLE001 - whatever it was, it is told and acted on by our caller
            return error
        return None

    def _tell(self, name: str, error: BaseException | None) -> None:
        fault = "returned" if error is None else log.scrub_text(f"{type(error).__name__}: {error}")
        self._health.fail(name, fault, self._clock.mono())
        self._log.error("task.died", task=name, fault=fault, exc_info=error)

    def _end(self, name: str, error: BaseException | None) -> None:
        if self._cause is None:
            self._cause = TaskDied(f"{name} died", remedy="see task.died in the log; the service manager restarts us")
            self._cause.__cause__ = error
        self._ended.set()

    async def _cancel_all(self) -> None:
        for task in reversed(self._tasks[:]):
            await self._cancel(task)

    async def _cancel(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        patience = asyncio.ensure_future(self._clock.sleep(STOP_S))
        await asyncio.wait({task, patience}, return_when=asyncio.FIRST_COMPLETED)
        patience.cancel()
        if not task.done():
            self._log.error("task.will_not_stop", task=task.get_name())
