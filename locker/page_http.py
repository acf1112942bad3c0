"""What the page tells of itself: that it draws, and what its screen is to be read out as."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from locker.kiosk_answers_http import read_request
from locker.kiosk_page import AliveRequest, Drawn
from locker.speech import VOICES, Saying, SpeakRequest, saying

BODY_S: Final = 5.0
"""Seconds for a whole body, which on the loopback arrives at once."""

Say = Callable[[Saying], Awaitable[None]]


def page_routes(drawn: Drawn, say: Say | None) -> list[Route]:
    """``POST /alive`` with the number of the last frame; ``GET`` and ``POST /speak`` where the locker has a voice.

    A body that is not what ``AliveRequest`` or ``SpeakRequest`` says is 400 with ``bad_request``.
    """

    async def alive(request: Request) -> Response:
        drawn.frame((await read_request(request, AliveRequest, BODY_S)).frame)
        return JSONResponse({})

    async def voices(_request: Request) -> Response:
        return JSONResponse({"languages": sorted(VOICES)})

    async def speak(request: Request) -> Response:
        said = saying(await read_request(request, SpeakRequest, BODY_S))
        spoken = None if said is None or say is None else BackgroundTask(say, said)
        return JSONResponse({}, background=spoken)

    routes = [Route("/alive", alive, methods=["POST"])]
    if say is not None:
        routes += [Route("/speak", voices, methods=["GET"]), Route("/speak", speak, methods=["POST"])]
    return routes
