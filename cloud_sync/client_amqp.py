"""aio-pika, and nothing else of the product speaks to it: a collector behind a RabbitMQ cluster's own protocol.

The nodes speak MQTT 3.1.1 to the cluster; its MQTT plugin puts every message into the exchange ``amq.topic``, with
dots for the topic's slashes. A subscription of a group is one durable quorum queue, bound there: the broker has a
message on the disks of most of its nodes before the publisher hears its PUBACK, keeps it until a worker has
acknowledged it, and survives the loss of any minority of them. A filter of our own is bound to a queue that ends with
the connection.

What we publish goes through a channel of its own, and through a new one after a negative confirmation. A channel of the
broker notes where a quorum queue's leader is when it first publishes to it, and never looks again while that fails:
one that began while a node was down is refused for as long as it stays down, though the queue has another leader.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Coroutine, Sequence
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, urlsplit

import aio_pika
import msgspec
from aio_pika.exceptions import AMQPError, DeliveryError, ProbableAuthenticationError

from cloud_sync.client_mqtt import is_loopback
from cloud_sync.ports import FAILURE, MAX_IN_FLIGHT, BrokerLost, BrokerRefused, Message, Will
from edge.errors import ConfigError

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue

EXCHANGE = "amq.topic"
"""Where RabbitMQ's MQTT plugin publishes and listens (``mqtt.exchange``)."""
MAX_QUEUE_BYTES = 8 * 1024**3
"""Of the group's queue. Above it the oldest go: the nodes have kept them, and send again what nobody signs for."""
OPENING_S = 10.0
"""Seconds for a connection to come about."""
ANSWER_S = 10.0
"""Seconds for an answer of the broker. A quorum queue without its majority gives none."""
FRESH_S = 1.0
"""Seconds for which a channel is kept though the broker refuses through it: queues without a majority refuse always."""
PROTOCOL_LIMIT = 128 * 1024 * 1024
"""Bytes of a message by RabbitMQ itself."""
LOSSES = (AMQPError, OSError, TimeoutError, RuntimeError)
"""What the library raises when the broker has gone, refused or kept silent; RuntimeError for a channel that is shut."""
_SHARED = "$share/"


class AmqpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``urls``: amqp(s)://host:port/vhost of the cluster's nodes, tried in turn; ``name``: ours, for its operator.
    ``prefetch``: messages that may come ahead of our acknowledgements. Off the loopback ``tls`` has to be there.
    """

    urls: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    name: str
    user: str = "guest"
    password: str = "guest"  # noqa: S105  RabbitMQ's own, which it takes on the loopback alone
    prefetch: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 500
    max_message: int = 256 * 1024
    tls: ssl.SSLContext | None = None


class AmqpBroker:
    """``cloud_sync.ports.Broker`` by aio-pika. Every connection goes to the next node of the cluster."""

    def __init__(self, settings: AmqpSettings) -> None:
        for each in settings.urls:
            url = urlsplit(each)
            if url.username or url.password:
                raise ConfigError("a user in amqp.urls", remedy="name it in amqp.user, its password in a file")
            if (settings.tls is None or url.scheme != "amqps") and not is_loopback(url.hostname or ""):
                raise ConfigError(f"broker {url.hostname} without TLS", remedy="name amqp.tls and an amqps:// URL")
        self._settings = settings
        self._next = 0

    async def connect(self, will: Will | None) -> AmqpConnection:
        """Raises ``BrokerLost`` or ``BrokerRefused``. A consumer has no will."""
        del will
        settings = self._settings
        where = settings.urls[self._next % len(settings.urls)]
        self._next += 1
        url = urlsplit(where)
        url = url._replace(netloc=f"{quote(settings.user, '')}:{quote(settings.password, '')}@{url.netloc}")
        try:
            async with asyncio.timeout(OPENING_S):
                connection = await aio_pika.connect(
                    url.geturl(), ssl_context=settings.tls, client_properties={"connection_name": settings.name}
                )
                channel = await connection.channel(publisher_confirms=False)
                await channel.set_qos(prefetch_count=settings.prefetch)
        except ProbableAuthenticationError as error:
            raise BrokerRefused(
                f"{where} refused: {error}", remedy="look at the collector's user and its rights"
            ) from error
        except LOSSES as error:
            raise BrokerLost(f"{where}: {error}", remedy="look at the broker and the way to it") from error
        return AmqpConnection(connection, channel, settings)


class _Outlet:
    """A channel for publishing alone, since ``opened`` (seconds of the loop)."""

    def __init__(self, channel: AbstractChannel, opened: float) -> None:
        self.channel = channel
        self.opened = opened
        self.under_way = 0
        """Messages without a confirmation: closing it would take that from them."""


class AmqpConnection:
    """``cloud_sync.ports.BrokerConnection`` by aio-pika. Used from the event loop's thread alone."""

    def __init__(self, connection: AbstractConnection, channel: AbstractChannel, settings: AmqpSettings) -> None:
        self.window = MAX_IN_FLIGHT
        self.max_packet = PROTOCOL_LIMIT
        self._connection = connection
        self._channel = channel
        self._settings = settings
        self._waiting: deque[Message] = deque()
        self._unsettled: dict[int, AbstractIncomingMessage] = {}
        self._numbers = itertools.count(1)
        self._arrived = asyncio.Event()
        self._ended: BrokerLost | None = None
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._outlet: _Outlet | None = None
        self._opening = asyncio.Lock()
        self._under_way: set[asyncio.Future[Any]] = set()
        connection.close_callbacks.add(self._on_close)
        channel.close_callbacks.add(self._on_close)

    async def send(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> Awaitable[int]:
        """Publish; what comes back is awaited for the broker's confirmation. ``retain`` has no meaning here.

        A negative one, or none in time, is a failure like a PUBACK's: queues whose leader has just died give it, and
        what is sent after it goes another way. That no queue took the message is none: a node that is away hears the
        next ack.
        """
        del retain
        self._require()
        await self._slots.acquire()
        answer = self._in_background(self._publish(routing_key(topic), payload, persistent=bool(qos)))
        answer.add_done_callback(lambda _: self._slots.release())
        return answer

    async def _publish(self, key: str, payload: bytes, *, persistent: bool) -> int:
        mode = aio_pika.DeliveryMode.PERSISTENT if persistent else aio_pika.DeliveryMode.NOT_PERSISTENT
        message = aio_pika.Message(payload, delivery_mode=mode)
        try:
            # The library's own time-out ends with the writing; a confirmation that never came would be waited for.
            async with asyncio.timeout(ANSWER_S), self._through() as channel:
                exchange = await channel.get_exchange(EXCHANGE, ensure=False)
                await exchange.publish(message, key, mandatory=False)
        except (DeliveryError, TimeoutError):
            return FAILURE
        except LOSSES as error:
            self._end(f"publish: {type(error).__name__} {error}")
            return FAILURE
        return 0

    @contextlib.asynccontextmanager
    async def _through(self) -> AsyncIterator[AbstractChannel]:
        """The channel to publish by. One through which the broker refuses is left; the last that uses it closes it."""
        loop = asyncio.get_running_loop()
        async with self._opening:
            if self._outlet is None:
                self._outlet = _Outlet(await self._connection.channel(publisher_confirms=True), loop.time())
            outlet = self._outlet
        outlet.under_way += 1
        try:
            yield outlet.channel
        except (DeliveryError, asyncio.CancelledError):  # the latter is the time-out, before it is called so
            if self._outlet is outlet and loop.time() - outlet.opened >= FRESH_S:
                self._outlet = None
            raise
        finally:
            outlet.under_way -= 1
            if outlet is not self._outlet and not outlet.under_way and self._ended is None:
                _ = self._in_background(self._leave(outlet.channel))

    async def _leave(self, channel: AbstractChannel) -> None:
        with contextlib.suppress(*LOSSES):
            async with asyncio.timeout(ANSWER_S):
                await channel.close()

    def _in_background(self, work: Coroutine[Any, Any, Any]) -> asyncio.Future[Any]:
        task = asyncio.ensure_future(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def subscribe(self, filters: Sequence[str]) -> tuple[int, ...]:
        """``$share/{group}/...`` are bound to the group's quorum queue, others to a queue of this connection."""
        groups: dict[str, list[str]] = {}
        for name in filters:
            group, topic_filter = _parted(name)
            groups.setdefault(group, []).append(topic_filter)
        async with self._losing("subscribe"):
            for group, topic_filters in groups.items():
                queue = await self._queue(group)
                for topic_filter in topic_filters:
                    await queue.bind(EXCHANGE, routing_key(topic_filter), timeout=ANSWER_S)
                await queue.consume(self._take, timeout=ANSWER_S)
        return (1,) * len(filters)

    async def next_messages(self, most: int) -> Sequence[Message]:
        while not self._waiting:
            self._require()
            self._arrived.clear()
            await self._arrived.wait()
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def ack(self, message: Message) -> None:
        came = self._unsettled.pop(message.mid, None)
        if came is not None and self._ended is None:
            _ = self._in_background(self._acknowledge(came))

    async def close(self) -> None:
        self._end("closed by us")
        for each in list(self._under_way):
            each.cancel()
        with contextlib.suppress(*LOSSES):
            async with asyncio.timeout(ANSWER_S):
                await self._connection.close()

    async def _acknowledge(self, came: AbstractIncomingMessage) -> None:
        with contextlib.suppress(*LOSSES):  # then it comes again, and is known
            await came.ack()

    async def _queue(self, group: str) -> AbstractQueue:
        if not group:
            return await self._channel.declare_queue(exclusive=True, auto_delete=True, timeout=ANSWER_S)
        limits: dict[str, Any] = {"x-queue-type": "quorum", "x-max-length-bytes": MAX_QUEUE_BYTES}
        return await self._channel.declare_queue(f"lastmile.{group}", durable=True, arguments=limits, timeout=ANSWER_S)

    async def _take(self, came: AbstractIncomingMessage) -> None:
        number = next(self._numbers)
        topic = (came.routing_key or "").replace(".", "/")
        self._unsettled[number] = came
        message = Message(topic, came.body, 1, bool(came.headers.get("x-mqtt-retain")), number)
        if len(came.body) > self._settings.max_message:
            # Acknowledged all the same, or it would come again for ever.
            self.ack(message)
            return
        self._waiting.append(message)
        self._arrived.set()

    @contextlib.asynccontextmanager
    async def _losing(self, what: str) -> AsyncIterator[None]:
        """Whatever the library raises is the end of the connection."""
        try:
            yield
        except LOSSES as error:
            self._end(f"{what}: {type(error).__name__} {error}")
            raise BrokerLost(f"{what}: {error}", remedy="tried again by itself after a pause") from error

    def _on_close(self, _sender: object, error: BaseException | None = None) -> None:
        self._end(f"the connection ended: {error}")

    def _require(self) -> None:
        if self._ended is not None:
            raise BrokerLost(self._ended.what, remedy=self._ended.remedy)

    def _end(self, what: str) -> None:
        if self._ended is None:
            self._ended = BrokerLost(what, remedy="tried again by itself after a pause")
        self._arrived.set()


def routing_key(topic: str) -> str:
    """A topic or a filter as RabbitMQ's MQTT plugin translates it. No topic of the contract has a dot."""
    return topic.replace("/", ".").replace("+", "*")


def _parted(topic_filter: str) -> tuple[str, str]:
    """The group of a shared subscription ("" for one of our own) and its filter."""
    if not topic_filter.startswith(_SHARED):
        return "", topic_filter
    group, _, rest = topic_filter.removeprefix(_SHARED).partition("/")
    return group, rest
