"""What the role agent has to say beside events: the results of commands, live samples, and ``reported``."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from cloud_sync.ports import FAILURE, BrokerConnection
from cloud_sync.topics import NodeTopics
from edge.errors import ProtocolError
from edge.link import Out

MAX_OUTGOING = 256
"""Results and live samples that wait for a connection. A result that falls out is recorded in the journal, and the
issuer asks again."""


class Outgoing:
    """``refused`` hears of what was not published: the kind, and the broker's reason code; 0 for what has no topic."""

    def __init__(self, refused: Callable[[str, int], None]) -> None:
        self._refused = refused
        self._queue: deque[Out] = deque(maxlen=MAX_OUTGOING)
        self._due = asyncio.Event()
        self.reported: bytes | None = None
        """The last one; presence keeps it at the broker."""

    def put(self, out: Out, *, connected: bool) -> None:
        if out.kind == "reported":
            if out.payload == self.reported:
                return  # the role agent says it again at each HELLO
            self.reported = out.payload
        if out.kind in {"live", "reported"} and not connected:
            return  # only the newest is worth anything, and a connection begins with ``reported``
        self._queue.append(out)
        self._due.set()

    async def carry(self, connection: BrokerConnection, topics: NodeTopics) -> None:
        """As long as the connection lasts. What it has not taken goes by the next one."""
        while True:
            self._due.clear()
            while self._queue:
                first = self._queue[0]
                await self._send(connection, topics, first)
                if self._queue[0] is first:  # else it has fallen out of the full queue meanwhile
                    self._queue.popleft()
            await self._due.wait()

    async def _send(self, connection: BrokerConnection, topics: NodeTopics, out: Out) -> None:
        try:
            match out.kind:
                case "res":
                    self._watch("res", await connection.send(topics.result(out.name), out.payload))
                case "live":
                    _ = await connection.send(topics.live(out.name), out.payload, qos=0)
                case "reported":
                    self._watch("reported", await connection.send(topics.reported, out.payload, retain=True))
                case _:
                    self._refused("unknown_out", 0)
        except ProtocolError:
            self._refused("unknown_out", 0)

    def _watch(self, kind: str, puback: Awaitable[int]) -> None:
        """Nobody waits for it: the next result shall not wait for a slow broker's word on this one."""

        def answered(done: asyncio.Future[int]) -> None:
            if not done.cancelled() and done.exception() is None and done.result() >= FAILURE:
                self._refused(kind, done.result())

        asyncio.ensure_future(puback).add_done_callback(answered)
