"""Answers ``GET /health`` (JSON) and ``GET /metrics`` (Prometheus text) on a Unix socket, for local users alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import TypeAlias

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from edge.clock import Clock
from edge.health import Health

REQUEST_BYTES = 8192
"""A scraper's request with its headers has a few hundred."""

REQUEST_S = 5.0
"""For the request to arrive; a local client needs milliseconds."""

MAX_CLIENTS = 8
"""At once: a scraper, a doctor, a person. Whoever comes above that is turned away."""


class CountedBy(Collector):
    """A counter ``name`` with the labels ``what`` and ``reason``, read from ``totals`` at each scrape."""

    def __init__(self, name: str, about: str, totals: Callable[[], Mapping[tuple[str, str], int]]) -> None:
        self._name = name
        self._about = about
        self._totals = totals

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self._name, self._about, labels=["what", "reason"])
        for labels, count in sorted(self._totals().items()):
            family.add_metric(labels, count)
        yield family


_Answer: TypeAlias = tuple[HTTPStatus, str, bytes]


async def serve_health(path: Path, health: Health, registry: CollectorRegistry, clock: Clock) -> None:
    """Serve until cancelled. One request a connection (HTTP/1.0). The socket is made with mode 0660."""
    pages: dict[bytes, Callable[[], _Answer]] = {
        b"/health": lambda: _health(health, clock),
        b"/metrics": lambda: (HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry)),
    }
    clients: set[asyncio.StreamWriter] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clients.add(writer)
        try:
            if len(clients) <= MAX_CLIENTS:
                writer.write(_message(*await _page(reader, pages)))
                await writer.drain()
        except (ConnectionError, TimeoutError):
            pass  # a client that went away or never asked; nobody is owed an answer
        finally:
            clients.discard(writer)
            writer.close()

    server = await asyncio.start_unix_server(answer, path, limit=REQUEST_BYTES)
    _share_with_group(path)
    try:
        # Not serve_forever: from Python 3.12 its end waits for every client, and a stalled one would be waited for.
        await asyncio.Event().wait()
    finally:
        server.close()
        for writer in clients:
            writer.transport.abort()  # its reader sees the end, and ``answer`` returns by itself


def _share_with_group(path: Path) -> None:
    path.chmod(0o660)


async def _page(reader: asyncio.StreamReader, pages: dict[bytes, Callable[[], _Answer]]) -> _Answer:
    plain = "text/plain; charset=utf-8"
    try:
        async with asyncio.timeout(REQUEST_S):
            request = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return HTTPStatus.BAD_REQUEST, plain, b"not an HTTP request\n"
    words = request.split(b"\r\n", 1)[0].split(b" ")
    page = pages.get(words[1]) if len(words) == len(("GET", "path", "version")) and words[0] == b"GET" else None
    if page is None:
        return HTTPStatus.NOT_FOUND, plain, b"GET /health or /metrics\n"
    return page()


def _health(health: Health, clock: Clock) -> _Answer:
    report = health.report(clock.mono())
    status = HTTPStatus.OK if report.healthy else HTTPStatus.SERVICE_UNAVAILABLE
    return status, "application/json", msgspec.json.encode(report) + b"\n"


def _message(status: HTTPStatus, kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.0 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body
