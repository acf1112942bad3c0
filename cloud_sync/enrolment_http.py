"""The enrolment service's face: three addresses over TLS 1.3, and no other way in.

``GET /v1/root.pem``, ``POST /v1/enrol`` (with a claim), ``POST /v1/renew`` (over a connection with the present
certificate). Who is refused hears a reason; who asks nonsense hears no more than that.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from edge import log
from edge.enrolment import (
    ENROL_PATH,
    MAX_BODY_BYTES,
    RENEW_PATH,
    ROOT_PATH,
    Enrolled,
    EnrolRequest,
    Refusal,
    Renewed,
    RenewRequest,
)
from edge.errors import ConfigError, LastmileError, VerificationError
from edge.serve_http import serve

CONNECTION_S = 30.0
"""A connection lives no longer, whatever it says: a slow link needs two seconds for the three kilobytes."""
MAX_CLIENTS = 64
"""Connections at once; whoever comes above that is turned away and tries again after a pause."""
BAD_REQUEST, REFUSED, TOO_LARGE, OURS = 400, 403, 413, 503

_PEER = "lastmile.peer"
T = TypeVar("T")
_log = log.get_logger("enrolment")


class Desk(Protocol):
    """``cloud_sync.enrolment_desk_sql.EnrolmentDesk``, as nodes see it. Blocks; is called in threads."""

    def enrol(self, asked: EnrolRequest) -> Enrolled: ...

    def renew(self, asked: RenewRequest, peer: bytes) -> Renewed: ...


def build_enrolment(desk: Desk, root: bytes) -> Starlette:
    """The service. ``root`` (PEM) is what nodes pin by its fingerprint."""

    async def give_root(_request: Request) -> Response:
        return Response(root, media_type="application/x-pem-file")

    async def enrol(request: Request) -> Response:
        return await _answered(request, EnrolRequest, desk.enrol)

    async def renew(request: Request) -> Response:
        peer = request.scope.get(_PEER)
        if peer is None:
            return _reply(REFUSED, Refusal("no_certificate", "no client certificate", "connect with the present one"))
        pem = ssl.DER_cert_to_PEM_cert(peer).encode()
        return await _answered(request, RenewRequest, lambda asked: desk.renew(asked, pem))

    return Starlette(
        routes=[
            Route(ROOT_PATH, give_root),
            Route(ENROL_PATH, enrol, methods=["POST"]),
            Route(RENEW_PATH, renew, methods=["POST"]),
        ]
    )


async def _answered(request: Request, shape: type[T], work: Callable[[T], msgspec.Struct]) -> Response:
    try:
        asked = msgspec.json.decode(await _body(request), type=shape)
    except (ClientDisconnect, _TooLarge):
        return Response(status_code=TOO_LARGE)
    except (msgspec.DecodeError, RecursionError):
        return _reply(BAD_REQUEST, Refusal("malformed", "not such a request", "use the release of this service"))
    try:
        return _reply(200, await asyncio.to_thread(work, asked))
    except VerificationError as refusal:
        _log.warning("enrolment.refused", reason=refusal.reason, what=refusal.what)
        return _reply(REFUSED, Refusal(refusal.reason, refusal.what, refusal.remedy))
    except LastmileError as error:
        # Ours to mend; the caller learns no more than that it may try again.
        _log.error("enrolment.failed", what=error.what, remedy=error.remedy, fault=error.fault.value)
        return _reply(OURS, Refusal("out_of_service", "the service cannot answer now", "try again later"))


class _TooLarge(Exception):
    pass


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise _TooLarge
    return bytes(body)


def _reply(status: int, said: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(said), status_code=status, media_type="application/json")


class _Connection(H11Protocol):
    """Hands the client's certificate on, which uvicorn does not, and ends a connection that lasts."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        peer, inner = tls.getpeercert(binary_form=True) if tls else None, self.app
        self._deadline = asyncio.get_running_loop().call_later(CONNECTION_S, transport.abort)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await inner({**scope, _PEER: peer}, receive, send)

        self.app = app

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        super().connection_lost(exc)


def server_context(certificate: Path, root: Path) -> ssl.SSLContext:
    """TLS 1.3. ``certificate`` holds key and chain; a client may show one of ours (``root``), and no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_OPTIONAL
    try:
        context.load_verify_locations(root)
        context.load_cert_chain(certificate)
    except OSError as error:
        raise ConfigError(f"{certificate}, {root}: {error}", remedy="name the files that `enrol init` made") from error
    return context


async def serve_enrolment(app: Starlette, listener: socket.socket, context: ssl.SSLContext) -> None:
    """Serve until cancelled. A certificate that is loaded into ``context`` later counts for later connections."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        http=_Connection,
        ws="none",
        h11_max_incomplete_event_size=16 * 1024,
        limit_concurrency=MAX_CLIENTS,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
        ssl_context_factory=lambda _config, _default: context,
    )
    await serve(config, listener)
