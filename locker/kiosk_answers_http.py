"""How the kiosk's server reads a request's body and says an answer."""

from __future__ import annotations

import asyncio
from typing import Final, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from locker.kiosk import BODY_LIMIT, STATUS, Accepted, Refused
from locker.kiosk_guard_http import reply

_encode: Final = msgspec.json.Encoder().encode
_T = TypeVar("_T")


async def read_request(request: Request, kind: type[_T], seconds: float) -> _T:
    """The body as ``kind``, if it comes within ``seconds``. Raises ``HTTPException`` with the word of the refusal."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "json_only")
    try:
        async with asyncio.timeout(seconds):
            body = await _body(request)
        return msgspec.json.decode(body, type=kind)
    except TimeoutError:
        raise HTTPException(408, "too_slow") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Without its cause: a decoder's message may quote what was typed.
        raise HTTPException(400, "bad_request") from None


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_LIMIT:
            raise HTTPException(413, "too_large")
    return body


def as_json(value: object, status: int = 200) -> Response:
    return Response(_encode(value), status, media_type="application/json")


def as_verdict(verdict: Accepted | Refused) -> Response:
    if isinstance(verdict, Accepted):
        return as_json(verdict, 202)
    return reply(STATUS[verdict.reason], verdict.reason.value, verdict.retry_after)
