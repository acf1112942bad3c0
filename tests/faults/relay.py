"""A TCP relay that does to bytes what bad links do: late, in drops, not at all, or into a hole."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct

CHUNK = 16 * 1024
DROP = 48
"""Bytes of a trickle: less than any MQTT packet that carries an event."""
DROP_S = 0.002


class Way(enum.Enum):
    """How the link is."""

    CLEAN = "clean"
    LATE = "late"
    """Every piece takes its time; the order stays."""
    STALLED = "stalled"
    """Nothing passes; what waits is delivered when it is over."""
    CUT = "cut"
    """Connections are reset, new ones too."""
    HOLE = "hole"
    """Half open: connections stand, new ones are taken, and every byte vanishes."""
    TRICKLE = "trickle"


class Relay:
    """Between whoever connects to ``listener`` and the port ``onward`` of this loopback."""

    def __init__(self, listener: socket.socket, onward: int) -> None:
        self._listener = listener
        self._onward = onward
        self._way = Way.CLEAN
        self._late_s = 0.0
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._swallowed: set[asyncio.StreamWriter] = set()
        """Of these a byte has vanished: such a connection cannot be mended."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, sock=self._listener)

    async def stop(self) -> None:
        self._server.close()
        self._reset(self._writers)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def become(self, way: Way, late_s: float = 0.0) -> None:
        self._way, self._late_s = way, late_s
        if way is Way.STALLED:
            self._open.clear()
        else:
            self._open.set()
        if way is Way.CUT:
            self._reset(self._writers)

    def heal(self, *, forget_dead: bool) -> None:
        """Clean again. What a hole has swallowed is lost: such connections are reset, or stay dead for good."""
        self.become(Way.CLEAN)
        if not forget_dead:
            self._reset(self._swallowed)

    def _reset(self, writers: set[asyncio.StreamWriter]) -> None:
        for writer in list(writers):
            with contextlib.suppress(OSError):
                whole: socket.socket = writer.get_extra_info("socket")
                whole.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            if self._way is Way.CUT:
                self._reset({writer})
                return
            await self._join(reader, writer)
        except (OSError, asyncio.CancelledError):
            return
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._swallowed.discard(writer)
            self._tasks.discard(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner = await asyncio.open_connection("127.0.0.1", self._onward)
        self._writers.add(inner)
        both = {writer, inner}
        try:
            out = asyncio.ensure_future(self._carry(reader, inner, both))
            back = asyncio.ensure_future(self._carry(inner_reader, writer, both))
            try:
                await asyncio.wait({out, back}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in (out, back):
                    one.cancel()
                await asyncio.gather(out, back, return_exceptions=True)
        finally:
            inner.transport.abort()
            self._writers.discard(inner)
            self._swallowed.discard(inner)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, both: set[asyncio.StreamWriter]
    ) -> None:
        while data := await reader.read(CHUNK):
            if self._way is Way.HOLE or writer in self._swallowed:
                self._swallowed |= both
                continue
            await self._open.wait()
            if self._way is Way.LATE:
                await asyncio.sleep(self._late_s)
            if self._way is Way.TRICKLE:
                await _in_drops(writer, data)
            else:
                writer.write(data)
            await writer.drain()


async def _in_drops(writer: asyncio.StreamWriter, data: bytes) -> None:
    for at in range(0, len(data), DROP):
        writer.write(data[at : at + DROP])
        await writer.drain()
        await asyncio.sleep(DROP_S)
