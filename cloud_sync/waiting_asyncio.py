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


def heed_cancel() -> None:
    """Raise ``CancelledError`` where the running task was told to end.

    To be asked after each ``except*`` around a ``TaskGroup``: one whose tasks fail while it is cancelled tells of their
    failure alone (Python 3.11), and a loop around it would go on for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
