"""What every WebSocket that only tells has in common: it ends when the page has gone, and hears nothing."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from starlette.websockets import WebSocket, WebSocketDisconnect

if TYPE_CHECKING:
    from collections.abc import Coroutine


async def until_gone(ws: WebSocket) -> None:
    """Return when the page has left; what it sends closes with 1003."""
    message = await ws.receive()
    if message["type"] == "websocket.receive":
        await ws.close(1003)  # a watcher has nothing to say


async def first_of(*jobs: Coroutine[object, object, None]) -> None:
    """Run ``jobs`` until one is done, then end the others: a page that left must not leave a watcher behind."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    with contextlib.suppress(WebSocketDisconnect):
        for task in done:
            task.result()
