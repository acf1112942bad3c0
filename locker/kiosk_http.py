"""The kiosk's server: the page, and the API by which it collects, deposits and follows one door."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from edge import log
from edge.errors import ConfigError, LastmileError
from edge.serve_http import listen, serve
from locker.contract import Reason
from locker.inputs_http import inputs_route
from locker.kiosk import (
    STATUS,
    SUBPROTOCOL,
    Allowance,
    CollectRequest,
    DepositRequest,
    Desk,
    EndRequest,
    SessionView,
)
from locker.kiosk_answers_http import as_json, as_verdict, read_request
from locker.kiosk_guard_http import Guard, check_token, reply
from locker.staff_http import staff_routes
from locker.staffing import Staff
from locker.websocket_http import first_of, until_gone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from edge.clock import Clock
    from locker.inputs_asyncio import Inputs

_log = log.get_logger("locker.kiosk")
_encode: Final = msgspec.json.Encoder().encode

UNKNOWN_SESSION: Final = 4404
"""WebSocket close code (private range, RFC 6455 section 7.4.2): this session is not known (any more)."""


class KioskLimits(msgspec.Struct, frozen=True):
    """What one kiosk may use. A page polls once a second and watches one session; the rest is room for tools."""

    requests_per_second: float = 50.0
    burst: int = 100
    watchers: int = 16
    """WebSockets at a time."""
    body_seconds: float = 5.0
    """For a whole request body, which on the loopback arrives at once."""


def build_kiosk(  # noqa: PLR0913 - the parts of a server of which a locker may lack some
    desk: Desk,
    *,
    token: str,
    static: Path,
    hosts: frozenset[str],
    clock: Clock,
    limits: KioskLimits | None = None,
    inputs: Inputs | None = None,
    staff: Staff | None = None,
    page: Sequence[Route] = (),
) -> Starlette:
    """The ASGI application for ``desk``, and for ``staff``; ``inputs`` are the terminal's keypad and scanners, where it
    has any, ``page`` what the page tells of itself (``locker.page_http``).

    ``static`` is the folder of the built page, ``hosts`` the exact Host values under which the page is reached, such as
    ``{"127.0.0.1:8080"}``; ``token`` is what the page has to show (see ``Guard``).
    Raises ``ConfigError`` if the page is not built or the token is weak.

    Every answer of ``/api`` is JSON; a refusal is ``{"reason", "retry_after"}``. Reasons of the desk and their statuses
    are ``locker.kiosk.STATUS``; this server adds ``bad_request`` (400), ``token_needed`` (401), ``wrong_origin`` (403),
    ``not_found`` and ``no_such_session`` (404), ``wrong_method`` (405), ``too_slow`` (408), ``too_large`` (413),
    ``json_only`` (415) and ``wrong_host`` (421).
    """
    if not (static / "index.html").is_file():
        raise ConfigError(f"there is no kiosk page in {static}", remedy="build it with `make setup`")
    limits = limits or KioskLimits()
    allowance = Allowance(limits.requests_per_second, limits.burst)
    guard = Middleware(Guard, token=check_token(token), hosts=hosts, allowance=allowance, clock=clock)
    handlers = {HTTPException: _http_refusal, LastmileError: _desk_failed, ClientDisconnect: _gone}
    api = _Api(desk, limits, inputs)
    for_staff = [] if staff is None else [Mount("/staff", routes=staff_routes(staff, limits.body_seconds))]
    routes = [
        Mount("/api", routes=[*for_staff, *api.routes(), *page]),
        Mount("/", app=StaticFiles(directory=static, html=True)),
    ]
    return Starlette(routes=routes, middleware=[guard], exception_handlers=handlers)


class _Api:
    """The handlers of ``/api``, each one question to the desk."""

    def __init__(self, desk: Desk, limits: KioskLimits, inputs: Inputs | None) -> None:
        self._desk = desk
        self._inputs = inputs
        self._limits = limits
        self._watchers = 0

    def routes(self) -> list[Route | WebSocketRoute]:
        return [
            Route("/collect", self.collect, methods=["POST"]),
            Route("/deposit", self.deposit, methods=["POST"]),
            Route("/doors", self.doors, methods=["GET"]),
            Route("/shown", self.shown, methods=["GET"]),
            Route("/sessions/current", self.current, methods=["GET"]),
            Route("/sessions/{session}", self.session, methods=["GET"]),
            Route("/sessions/{session}/end", self.end, methods=["POST"]),
            Route("/sessions/{session}/next", self.next, methods=["POST"]),
            WebSocketRoute("/sessions/{session}/watch", self.watch),
            *([] if self._inputs is None else [inputs_route(self._inputs)]),
        ]

    async def collect(self, request: Request) -> Response:
        asked = await read_request(request, CollectRequest, self._limits.body_seconds)
        if asked.voucher is not None:
            return as_verdict(await self._desk.collect_by_voucher(self._token(asked.voucher), asked.confirm))
        return as_verdict(await self._desk.collect(asked.code or "", asked.extension, asked.confirm))

    async def deposit(self, request: Request) -> Response:
        asked = await read_request(request, DepositRequest, self._limits.body_seconds)
        badge = self._token(asked.badge)
        bookings = (asked.booking, *asked.also)
        return as_verdict(await self._desk.deposit(badge, asked.pin, bookings, asked.size, asked.low))

    async def doors(self, _request: Request) -> Response:
        desk = self._desk
        return as_json({"doors": desk.doors(), "languages": desk.languages(), "front": desk.front()})

    async def shown(self, _request: Request) -> Response:
        return as_json(self._desk.shown())

    async def current(self, _request: Request) -> Response:
        view = self._desk.current()
        return Response(status_code=204) if view is None else as_json(view)

    async def session(self, request: Request) -> Response:
        return _view(self._desk.session(request.path_params["session"]))

    async def end(self, request: Request) -> Response:
        asked = await read_request(request, EndRequest, self._limits.body_seconds)
        return _view(await self._desk.end(request.path_params["session"], asked.word))

    async def next(self, request: Request) -> Response:
        verdict = await self._desk.next(request.path_params["session"])
        return _view(None) if verdict is None else as_verdict(verdict)

    async def watch(self, ws: WebSocket) -> None:
        """Send the session and its changes as JSON text, then close with 1000; what the page sends closes with 1003."""
        session = ws.path_params["session"]
        await ws.accept(subprotocol=SUBPROTOCOL)
        if self._desk.session(session) is None:
            await ws.close(UNKNOWN_SESSION)
        elif self._watchers >= self._limits.watchers:
            await ws.close(1013)
        else:
            self._watchers += 1
            try:
                await first_of(_tell(ws, self._desk.watch(session)), until_gone(ws))
            finally:
                self._watchers -= 1

    def _token(self, given: str) -> str:
        """What was scanned, where ``given`` is the reference that the page has of it."""
        return given if self._inputs is None else self._inputs.resolve(given)


def _view(view: SessionView | None) -> Response:
    return reply(404, "no_such_session") if view is None else as_json(view)


async def _tell(ws: WebSocket, views: AsyncIterator[SessionView]) -> None:
    async for view in views:
        await ws.send_text(_encode(view).decode())
    await ws.close(1000)


_WORDS: Final = {404: "not_found", 405: "wrong_method"}


async def _http_refusal(_conn: HTTPConnection, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return reply(error.status_code, _WORDS.get(error.status_code, error.detail))


async def _desk_failed(conn: HTTPConnection, error: Exception) -> Response:
    """The store or the bus let the desk down: nothing was promised, so the answer is the honest refusal."""
    if not isinstance(error, LastmileError):
        raise error
    _log.error("kiosk.desk_failed", what=error.what, remedy=error.remedy, fault=error.fault.value)
    if isinstance(conn, WebSocket):
        await conn.close(1011)
    return reply(STATUS[Reason.OUT_OF_SERVICE], Reason.OUT_OF_SERVICE.value)


async def _gone(_conn: HTTPConnection, _error: Exception) -> Response:
    return Response(status_code=400)  # nobody is there to read it


def listen_kiosk(host: str, port: int) -> socket.socket:
    """Take the kiosk's address, as ``edge.serve_http.listen`` does."""
    return listen(host, port, what="the kiosk")


async def serve_kiosk(app: Starlette, listener: socket.socket) -> None:
    """Serve ``app`` on ``listener`` until cancelled; then running answers get 2 s, and the socket is closed.

    There is no access log, because a list of who typed a code when is personal, and the headers carry the token.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        http="h11",
        ws="websockets-sansio",
        ws_max_size=1024,
        h11_max_incomplete_event_size=16 * 1024,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
    )
    await serve(config, listener)
