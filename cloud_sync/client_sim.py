"""The connections of simulated nodes: MQTT 5 over TLS on asyncio's own transports, thousands in one process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast

from cloud_sync import packets_sim
from cloud_sync.packets_sim import Packet, Reader
from cloud_sync.ports import FAILURE, MAX_IN_FLIGHT, BrokerLost, BrokerRefused, Message, Will
from edge.errors import ProtocolError

T = TypeVar("T")

PING_SHARE = 0.75
"""Of the keepalive after which a PINGREQ goes: a broker waits one and a half times as long."""
SESSION_EXPIRY_S = 7 * 86_400
LARGEST_PACKET = 268_435_455
"""Bytes, by MQTT itself (section 2.1.4), where the broker names no limit."""
_LOOK = "look at the broker and the way to it"


class SimBroker:
    """``cloud_sync.ports.Broker``. ``context`` makes the TLS context of one connection, None for plain TCP."""

    def __init__(
        self,
        host: str,
        port: int,
        client_id: str,
        context: Callable[[], ssl.SSLContext | None],
        *,
        keepalive_s: int = 60,
        timeout_s: float = 30.0,
        shaken: Callable[[], None] = lambda: None,
    ) -> None:
        """``shaken`` is called after each TLS handshake that was completed."""
        self._host = host
        self._port = port
        self._client_id = client_id
        self._context = context
        self._keepalive = keepalive_s
        self._timeout = timeout_s
        self._shaken = shaken

    async def connect(self, will: Will | None) -> SimConnection:
        """Raises ``BrokerLost`` or ``BrokerRefused``."""
        hello = packets_sim.connect(
            self._client_id,
            keepalive=self._keepalive,
            session_expiry=SESSION_EXPIRY_S,
            receive_maximum=MAX_IN_FLIGHT,
            will=will,
        )
        try:
            async with asyncio.timeout(self._timeout):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: SimConnection(self._keepalive), self._host, self._port, ssl=self._context()
                )
                self._shaken()
                await connection.open(hello)
        except (OSError, TimeoutError) as error:
            raise BrokerLost(f"{self._host}:{self._port}: {error!r}", remedy=_LOOK) from error
        return connection


class SimConnection(asyncio.Protocol):
    """``cloud_sync.ports.BrokerConnection``."""

    def __init__(self, keepalive_s: int) -> None:
        self.window = MAX_IN_FLIGHT
        self.max_packet = LARGEST_PACKET
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._keepalive = keepalive_s
        self._reader = Reader()
        self._transport: asyncio.Transport | None = None
        self._opened: asyncio.Future[None] = loop.create_future()
        self._ended: BrokerLost | None = None
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._number = 0
        self._pubacks: dict[int, asyncio.Future[int]] = {}
        self._subacks: dict[int, asyncio.Future[tuple[int, ...]]] = {}
        self._waiting: deque[Message] = deque()
        self._arrived = asyncio.Event()
        self._pinging: asyncio.TimerHandle | None = None
        self._answered = True

    # What the port asks for.

    async def open(self, hello: bytes) -> None:
        """CONNECT, until the broker has answered. Raises ``BrokerLost`` or ``BrokerRefused``."""
        self._write(hello)
        answered = False
        try:
            await self._opened
            answered = True
        finally:
            if not answered:
                self._end(BrokerLost("given up", remedy=_LOOK))
        self._slots = asyncio.Semaphore(self.window)
        self._ping()

    async def send(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> Awaitable[int]:
        """See ``cloud_sync.ports.BrokerConnection.send``."""
        answer: asyncio.Future[int] = self._loop.create_future()
        if not qos:
            self._write(packets_sim.publish(topic, payload, qos=0, retain=retain, packet_id=0))
            answer.set_result(0)
            return answer
        await self._slots.acquire()
        number = self._next_number()
        self._write(packets_sim.publish(topic, payload, qos=1, retain=retain, packet_id=number))
        self._pubacks[number] = answer
        return answer

    async def subscribe(self, filters: Sequence[str]) -> tuple[int, ...]:
        number = self._next_number()
        self._write(packets_sim.subscribe(filters, number))
        answer: asyncio.Future[tuple[int, ...]] = self._loop.create_future()
        self._subacks[number] = answer
        return await answer

    async def next_messages(self, most: int) -> Sequence[Message]:
        while not self._waiting:
            self._require_alive()
            self._arrived.clear()
            await self._arrived.wait()
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def ack(self, message: Message) -> None:
        if message.qos:
            self._write(packets_sim.puback(message.mid))

    async def close(self) -> None:
        if self._ended is None:
            with contextlib.suppress(BrokerLost):
                self._write(packets_sim.GOODBYE)
            self._end(BrokerLost("closed by us", remedy="connect again"))

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        try:
            for packet in self._reader.feed(data):
                self._take(packet)
        except ProtocolError as error:
            self._end(BrokerLost(error.what, remedy=error.remedy))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(BrokerLost(f"the connection ended: {exc!r}", remedy=_LOOK))

    # Inside.

    def _take(self, packet: Packet) -> None:
        match packet.kind:
            case packets_sim.CONNACK:
                self._accepted(packet.body)
            case packets_sim.PUBLISH:
                came = packets_sim.read_published(packet)
                self._waiting.append(Message(came.topic, came.payload, came.qos, came.retain, came.packet_id))
                self._arrived.set()
            case packets_sim.PUBACK:
                number, code = packets_sim.read_puback(packet.body)
                answer = self._pubacks.pop(number, None)
                if answer is not None:
                    self._slots.release()
                    _tell(answer, code)
            case packets_sim.SUBACK:
                number, codes = packets_sim.read_suback(packet.body)
                if (waiting := self._subacks.pop(number, None)) is not None:
                    _tell(waiting, codes)
            case packets_sim.PINGRESP:
                self._answered = True
            case packets_sim.DISCONNECT:
                self._end(BrokerLost("the broker said goodbye", remedy=_LOOK))

    def _accepted(self, body: bytes) -> None:
        code, properties = packets_sim.read_connack(body)
        if code >= FAILURE:
            self._end(BrokerRefused(f"CONNACK {code:#x}", remedy="check certificate, rights and protocol version"))
            return
        self.window = min(MAX_IN_FLIGHT, properties.get(packets_sim.RECEIVE_MAXIMUM, MAX_IN_FLIGHT))
        self.max_packet = properties.get(packets_sim.MAXIMUM_PACKET, LARGEST_PACKET)
        _tell(self._opened, None)

    def _ping(self) -> None:
        if self._ended is None and not self._answered:
            self._end(BrokerLost("no answer to a PINGREQ", remedy=_LOOK))
        elif self._ended is None:
            self._answered = False
            self._write(packets_sim.PING)
            self._pinging = self._loop.call_later(self._keepalive * PING_SHARE, self._ping)

    def _next_number(self) -> int:
        while True:
            self._number = self._number % 0xFFFF + 1
            if self._number not in self._pubacks and self._number not in self._subacks:
                return self._number

    def _write(self, data: bytes) -> None:
        self._require_alive()
        if self._transport is not None:
            self._transport.write(data)

    def _require_alive(self) -> None:
        if self._ended is not None:
            raise self._ended.with_traceback(None)

    def _end(self, why: BrokerLost) -> None:
        """Once: whoever waits hears why."""
        if self._ended is not None:
            return
        self._ended = why
        if self._pinging is not None:
            self._pinging.cancel()
        waiting: list[asyncio.Future[Any]] = [self._opened, *self._pubacks.values(), *self._subacks.values()]
        for each in waiting:
            if not each.done():
                each.set_exception(why)
                each.exception()  # whoever has stopped waiting does not ask for it
        for _ in range(self.window):
            self._slots.release()
        self._arrived.set()
        if self._transport is not None:
            self._transport.close()


def _tell(waiting: asyncio.Future[T], answer: T) -> None:
    if not waiting.done():
        waiting.set_result(answer)
