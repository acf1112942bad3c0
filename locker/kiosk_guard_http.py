"""What stands in front of the kiosk's API: Host, Origin, token and rate are checked before anything is read."""

from __future__ import annotations

import hmac
import math
import re
from typing import TYPE_CHECKING, Final

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from edge.errors import ConfigError
from locker.kiosk import SUBPROTOCOL, Allowance

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from edge.clock import Clock

TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{32,128}")
"""At least 192 bits in base64url, and nothing that a header or a URL's fragment would have to escape."""

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
)

HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=(), serial=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Sent with every answer. The page needs its own files and nothing else."""


class Denial(msgspec.Struct, frozen=True):
    """Why a request goes no further: HTTP status, one stable word, seconds after which it may be tried again."""

    status: int
    reason: str
    retry_after: float | None = None


def reply(status: int, reason: str, retry_after: float | None = None) -> Response:
    """A refusal as every ``/api`` answer words it."""
    body = msgspec.json.encode({"reason": reason, "retry_after": retry_after})
    response = Response(body, status, media_type="application/json")
    if retry_after is not None:
        response.headers["Retry-After"] = str(math.ceil(retry_after))
    return response


def check_token(token: str) -> str:
    """``token`` if it is fit to guard a kiosk; raises ``ConfigError`` if it is too short or not base64url."""
    if not TOKEN.fullmatch(token):
        raise ConfigError(
            "the kiosk token is not 32 to 128 characters of base64url",
            remedy="let the agent make it, or write one with `openssl rand -hex 32`",
        )
    return token


class Guard:
    """ASGI middleware for one kiosk.

    ``token`` is the secret of this boot, ``hosts`` the exact ``Host`` values that are us (``127.0.0.1:8080``): a page
    that reaches us under another name has been rebound to us. The page's own files are served without the token,
    because they hold nothing; it travels in a header or, for a WebSocket, as a subprotocol, and so stands in no URL.
    ``allowance`` bounds what the token's holder may ask; strangers are refused before they can use it up.
    """

    def __init__(self, app: ASGIApp, *, token: str, hosts: frozenset[str], allowance: Allowance, clock: Clock) -> None:
        self._app = app
        self._token = token.encode("ascii")
        self._hosts = hosts
        self._origins = frozenset(f"http://{host}" for host in hosts)
        self._allowance = allowance
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        denial = self._judge(scope)
        if scope["type"] == "websocket":
            if denial is None:
                await self._app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008, "reason": denial.reason})
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                _dress(MutableHeaders(scope=message), scope["path"])
            await send(message)

        answer = self._app if denial is None else reply(denial.status, denial.reason, denial.retry_after)
        await answer(scope, receive, send_guarded)

    def _judge(self, scope: Scope) -> Denial | None:
        headers = Headers(scope=scope)
        denial = self._judge_sender(headers)
        if denial is not None or not _is_api(scope["path"]):
            return denial
        if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            return Denial(403, "wrong_origin")
        if not self._has_token(scope, headers):
            return Denial(401, "token_needed")
        wait = self._allowance.take(self._clock.mono())
        return Denial(429, "wait", wait) if wait else None

    def _judge_sender(self, headers: Headers) -> Denial | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return Denial(421, "wrong_host")
        if len(origins) > 1 or not self._origins.issuperset(origins):
            return Denial(403, "wrong_origin")
        return None

    def _has_token(self, scope: Scope, headers: Headers) -> bool:
        if scope["type"] == "websocket":
            offers = scope["subprotocols"]
            given = [offer.removeprefix("token.") for offer in offers if offer.startswith("token.")]
            given = given if SUBPROTOCOL in offers else []
        else:
            scheme, _, value = headers.get("authorization", "").partition(" ")
            given = [value] if scheme.lower() == "bearer" and len(headers.getlist("authorization")) == 1 else []
        return len(given) == 1 and hmac.compare_digest(given[0].encode("utf-8"), self._token)


def _is_api(path: str) -> bool:
    return path == "/api" or path.startswith("/api/")


def _dress(headers: MutableHeaders, path: str) -> None:
    for name, value in HEADERS.items():
        headers[name] = value
    if path.startswith("/assets/"):
        headers["Cache-Control"] = "public, max-age=31536000, immutable"  # their names carry a hash of their bytes
    else:
        headers["Cache-Control"] = "no-store" if _is_api(path) else "no-cache"
