"""Waiting for something to happen, on the injected clock, and living from one connection to the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, cast

from cloud_sync.ports import BrokerLost, first_of
from cloud_sync.session import FIRST_PAUSE, LONGEST_PAUSE, STABLE_AFTER
from edge.backoff import Backoff
from edge.clock import Clock
from edge.errors import ConfigError, LastmileError, StoreError


async def within(clock: Clock, seconds: float, event: asyncio.Event) -> bool:
    """Whether ``event`` was set within ``seconds`` of running time."""
    if event.is_set():
        return True
    tasks = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(clock.sleep(seconds))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    return event.is_set()


async def alone(work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` in a task of its own and raise what it raises; whoever is cancelled meanwhile is cancelled.

    For loops around a ``TaskGroup``: on Python 3.11 one whose tasks fail while it is cancelled tells of their failure
    alone, and the loop would go on for ever.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task])
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # nobody asks for it any more
    task.result()


async def one_after_another(
    connection: Callable[[], Coroutine[Any, Any, None]],
    *,
    clock: Clock,
    random: Callable[[], float],
    lost: Callable[[LastmileError], None],
    between: Callable[[], None] = lambda: None,
) -> NoReturn:
    """Live through one ``connection`` after another until cancelled, with pauses that grow while none is stable.

    ``lost`` hears why one ended, ``between`` is called after each, and ``random`` gives floats in [0, 1).
    """
    backoff = Backoff(random, first_s=FIRST_PAUSE, cap_s=LONGEST_PAUSE, stable_s=STABLE_AFTER)
    while True:
        began = clock.mono()
        try:
            await alone(connection())
        except* (BrokerLost, StoreError, ConfigError) as ended:
            lost(cast("LastmileError", first_of(ended)))
        between()
        await clock.sleep(backoff.after(clock.mono() - began))
