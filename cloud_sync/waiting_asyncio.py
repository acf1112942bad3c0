"""Waiting for something to happen, on the injected clock."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from edge.clock import Clock


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
