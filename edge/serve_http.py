"""uvicorn as one task of a process: takes an address first, serves until it is cancelled, and leaves signals alone."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Generator

import uvicorn

from edge.errors import ConfigError, DeviceBusy


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield  # signals belong to the process, and the server is only one of its tasks


def listen(host: str, port: int, *, what: str) -> socket.socket:
    """Take an address, so that clients may already connect; port 0 takes any free one (``getsockname`` tells).

    ``what`` names the server in messages. Raises ``DeviceBusy`` if the port is taken and ``ConfigError`` if it cannot
    be ours.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise DeviceBusy(
                f"{what}'s port {host}:{port} is in use", remedy="end the other process or set another port"
            ) from error
        raise ConfigError(
            f"{what} cannot listen on {host}:{port}: {error.strerror}", remedy="set an address of this machine"
        ) from error
    return listener


async def serve(config: uvicorn.Config, listener: socket.socket) -> None:
    """Serve on ``listener`` until cancelled; then running answers end, and the socket is closed."""
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
        raise
