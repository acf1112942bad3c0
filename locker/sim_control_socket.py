"""Reaching into a running simulator: JSON lines over a Unix socket, the server and a client for tests and demo."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from edge.errors import ConfigError, DeviceError, DeviceMissing, DeviceSilent, LastmileError

Answer = dict[str, object]
Handler = Callable[[Answer], Awaitable[Answer]]

LINE_LIMIT = 65536
"""Bytes of one request."""

CONNECT_PAUSE = 0.01
"""Seconds between tries while the simulator is still starting."""


@contextlib.asynccontextmanager
async def served(path: Path, handler: Handler) -> AsyncIterator[None]:
    """Answer every line on the socket ``path`` with what ``handler`` returns, until the block ends.

    A connection's requests are answered in order; connections do not wait for each other.
    """
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            connections.add(task)
            task.add_done_callback(connections.discard)
        with contextlib.suppress(ConnectionError, ValueError, asyncio.CancelledError):
            async for line in reader:
                writer.write(json.dumps(await _answer(line, handler)).encode() + b"\n")
                await writer.drain()
        writer.close()

    _remove(path)
    server = await asyncio.start_unix_server(connected, path, limit=LINE_LIMIT)
    try:
        yield
    finally:
        server.close()
        for task in connections:
            task.cancel()
        if connections:
            await asyncio.wait(connections)
        _remove(path)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


async def _answer(line: bytes, handler: Handler) -> Answer:
    try:
        request = json.loads(line)
        if not isinstance(request, dict):
            raise ConfigError("a request that is no object", remedy='send {"do": ...}')
        return {"ok": True, **await handler(request)}
    except LastmileError as error:
        return {"ok": False, "error": str(error)}
    except (KeyError, TypeError, ValueError) as error:
        return {"ok": False, "error": f"malformed request: {error!r}"}


class SimControl:
    """A synchronous client: one call, one answer. Use as a context manager, or close it."""

    def __init__(self, path: Path | str, timeout: float = 10.0) -> None:
        """Nothing is connected yet. ``timeout`` in seconds holds for the start and for each answer."""
        self._path = str(path)
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def call(self, do: str, **arguments: object) -> Answer:
        """Ask the simulator to ``do`` something, waiting for it to start where it has not yet.

        Raises ``DeviceMissing`` if there is no simulator, ``DeviceSilent`` if it does not answer in time,
        ``DeviceError`` if it refuses, with its reason.
        """
        connection = self._connected()
        try:
            connection.sendall(json.dumps({"do": do, **arguments}).encode() + b"\n")
            answer = json.loads(self._line(connection))
        except TimeoutError as cause:
            self.close()
            raise DeviceSilent(
                f"the simulator did not answer {do!r} {arguments} in {self._timeout} s", remedy="read its log"
            ) from cause
        if not isinstance(answer, dict) or not answer.pop("ok", False):
            raise DeviceError(f"the simulator refused {do!r}: {answer}", remedy="correct the request")
        return answer

    def wait(self, what: str, board: int | None = None, lock: int | None = None, *, count: int = 1) -> Answer:
        """Return once ``what`` has happened at least ``count`` times since the simulator's start.

        Counted are that board and lock alone, or all of them; what happened before the call counts, so that nothing
        can be missed.
        """
        return self.call("wait", what=what, board=board, lock=lock, count=count)

    def _line(self, connection: socket.socket) -> bytes:
        while b"\n" not in self._rest:
            data = connection.recv(LINE_LIMIT)
            if not data:
                self.close()
                raise DeviceMissing("the simulator has ended", remedy="start it again")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _connected(self) -> socket.socket:
        deadline = time.monotonic() + self._timeout
        while self._socket is None:
            attempt = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            attempt.settimeout(self._timeout)
            try:
                attempt.connect(self._path)
            except OSError as cause:
                attempt.close()
                if time.monotonic() > deadline:
                    raise DeviceMissing(f"no simulator at {self._path}", remedy="start it") from cause
                time.sleep(CONNECT_PAUSE)
            else:
                self._socket, self._rest = attempt, b""
        return self._socket
