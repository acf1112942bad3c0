"""Waiting for something to happen, on the injected clock."""

from __future__ import annotations

import asyncio

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
