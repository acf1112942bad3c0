"""``GET /api/inputs``: the WebSocket by which the page hears keypad and scanners."""

from __future__ import annotations

from typing import Final

import msgspec
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from locker.inputs_asyncio import Inputs
from locker.kiosk import SUBPROTOCOL
from locker.websocket_http import first_of, until_gone

NEWER_PAGE: Final = 4409
"""Close code (private range, RFC 6455 section 7.4.2): another page hears the inputs now."""

_encode: Final = msgspec.json.Encoder().encode


def inputs_route(inputs: Inputs) -> WebSocketRoute:
    """Sends each input as JSON text: ``{"key"}`` or ``{"scan", "ref", "text"}``, as ``locker.terminal`` has them.

    The newest page hears all; the one before is closed with 4409. What a page sends closes with 1003.
    """

    async def hear(ws: WebSocket) -> None:
        await ws.accept(subprotocol=SUBPROTOCOL)
        await first_of(_tell(ws, inputs), until_gone(ws))

    return WebSocketRoute("/inputs", hear)


async def _tell(ws: WebSocket, inputs: Inputs) -> None:
    async for heard in inputs.listen():
        await ws.send_text(_encode(heard).decode())
    await ws.close(NEWER_PAGE)
