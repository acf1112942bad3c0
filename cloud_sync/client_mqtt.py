"""paho-mqtt, and nothing else of the product speaks to it: one connection a client object, driven by the asyncio loop.

paho's own thread is not used: its death leaves a client that looks alive (thingsboard-gateway PR 2140), and calling it
from two threads is what its deadlocks were made of. Here the loop watches the socket, so a failure ends the connection
at once. A new client object for every connection means that paho itself can send nothing a second time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import math
import socket
import ssl
import struct
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from cloud_sync.ports import MAX_IN_FLIGHT, BrokerLost, BrokerRefused, Message, Will
from edge.errors import ConfigError
from edge.tls_socket import TidySocket, TlsFiles, client_context, explained

MISC_SECONDS = 1.0
"""How often paho looks at its keepalive; it has no timer of its own without its thread."""
MAX_WAITING = 2000
"""Messages that came and were not fetched yet. A broker that keeps to the Receive Maximum never gets there."""
PROTOCOL_LIMIT = 268_435_455
"""Bytes in a packet by MQTT itself (section 2.1.4), where the server names no limit."""
LONGEST_OPENING = 3
"""Connect time-outs that name look-up, TCP and TLS may take together."""
_LOOK = "look at the broker and the way to it"


class BrokerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the broker is and how to speak to it. ``tls`` may be left out only on the loopback."""

    host: Annotated[str, msgspec.Meta(min_length=1)]
    client_id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 8883
    protocol: Literal["5", "3.1.1"] = "5"
    tls: TlsFiles | None = None
    keepalive: Annotated[int, msgspec.Meta(ge=5, le=3600)] = 30
    """Seconds; a dead link is noticed after at most twice as long."""
    connect_timeout: float = 10.0
    ack_timeout: float = 60.0
    """Seconds for a PUBACK. A broker that answers pings and acknowledges nothing is left, and connected to anew."""
    session_expiry: int = 7 * 86_400
    """Seconds for which the broker keeps messages for a client that is away (MQTT 5; 3.1.1 leaves it to the broker).

    0 begins and ends with a clean session: right for a client id that is used once, whose session would else stay
    behind in a shared subscription and be given its part of the messages.
    """
    receive_maximum: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 20
    """Messages the broker may send ahead of our acknowledgements (MQTT 5)."""
    max_message: int = 256 * 1024
    """Bytes of a message that is still looked at."""


class MqttBroker:
    """``cloud_sync.ports.Broker`` by paho. Certificates are read anew for each connection: a renewed one counts."""

    def __init__(self, settings: BrokerSettings, *, clock_trusted: Callable[[], bool] = lambda: True) -> None:
        """``clock_trusted`` only decides how a certificate's dates are explained."""
        if settings.tls is None and not is_loopback(settings.host):
            raise ConfigError(
                f"broker {settings.host} without TLS", remedy="name tls.ca, tls.certificate and tls.key for it"
            )
        self._settings = settings
        self._clock_trusted = clock_trusted

    async def connect(self, will: Will | None) -> MqttConnection:
        """Raises ``BrokerLost``, ``BrokerRefused`` or ``ConfigError``."""
        settings = self._settings
        client = _new_client(settings, will)
        try:
            async with asyncio.timeout(settings.connect_timeout * LONGEST_OPENING):
                # Name look-up, TCP and TLS handshake block in paho, so a thread does them; nothing else runs there.
                await asyncio.to_thread(_open, client, settings)
                connection = MqttConnection(client, settings)
                await connection.accepted()
        except TimeoutError as error:
            raise BrokerLost(f"no CONNACK from {settings.host}", remedy=_LOOK) from error
        except OSError as error:
            what, remedy = explained(error, f"{settings.host}:{settings.port}", clock_trusted=self._clock_trusted())
            raise BrokerLost(what, remedy=remedy) from error
        return connection


class MqttConnection:
    """``cloud_sync.ports.BrokerConnection`` by paho. Used from the event loop's thread alone."""

    def __init__(self, client: Client, settings: BrokerSettings) -> None:
        self.window = MAX_IN_FLIGHT
        self.max_packet = PROTOCOL_LIMIT
        self.session_present = False
        self.dropped: Counter[str] = Counter()
        """Messages that came and were not handed on: ``oversized``, ``unreadable_topic``, ``overflow``."""
        self._paho = client
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._ended: BrokerLost | None = None
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._senders = 0
        self._acks: dict[int, tuple[asyncio.Future[int], float]] = {}
        """With the loop's time of sending, the oldest first."""
        self._subscriptions: dict[int, asyncio.Future[tuple[int, ...]]] = {}
        self._waiting: deque[Message] = deque()
        self._arrived = asyncio.Event()
        self._closed = asyncio.Event()
        self._misc = self._loop.call_later(MISC_SECONDS, self._tick)
        self._watch()

    async def accepted(self) -> None:
        """Return with the CONNACK. Closes the connection when it is refused or does not come."""
        try:
            await self._opened
        finally:
            if not self._opened.done() or self._opened.exception() is not None:
                self._end("given up before the CONNACK")

    async def send(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> asyncio.Future[int]:
        if qos:
            self._senders += 1
            try:
                await self._slots.acquire()
            finally:
                self._senders -= 1
        self._require()
        answer: asyncio.Future[int] = self._loop.create_future()
        info = self._paho.publish(topic, payload, qos=qos, retain=retain)
        if info.rc is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._end(f"paho took no message: {info.rc.name}")
            self._require()
        if qos:
            self._acks[info.mid] = answer, self._loop.time()
        else:
            answer.set_result(0)
        return answer

    async def subscribe(self, filters: Sequence[str]) -> tuple[int, ...]:
        self._require()
        options = SubscribeOptions(qos=1)
        wanted: list[Any] = [(name, options if self._settings.protocol == "5" else 1) for name in filters]
        rc, mid = self._paho.subscribe(wanted)
        if rc is not MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            self._end(f"paho took no subscription: {rc.name}")
            self._require()
        answer: asyncio.Future[tuple[int, ...]] = self._loop.create_future()
        self._subscriptions[mid or 0] = answer
        return await answer

    async def next_messages(self, most: int) -> list[Message]:
        while not self._waiting:
            self._require()
            self._arrived.clear()
            await self._arrived.wait()
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def ack(self, message: Message) -> None:
        if self._ended is None and message.qos:
            self._paho.ack(message.mid, message.qos)

    async def close(self) -> None:
        if self._ended is None and self._paho.disconnect() is MQTTErrorCode.MQTT_ERR_SUCCESS:
            # A broker that does not read finds out by itself.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MISC_SECONDS):
                    await self._closed.wait()
        self._end("closed by us")

    def _watch(self) -> None:
        paho = self._paho
        paho.on_connect = self._on_connect
        paho.on_disconnect = self._on_disconnect
        paho.on_publish = self._on_publish
        paho.on_subscribe = self._on_subscribe
        paho.on_message = self._on_message
        paho.on_socket_close = self._on_socket_close
        paho.on_socket_unregister_write = self._on_write_idle
        paho.on_socket_register_write = self._on_write_wanted
        sock = paho.socket()
        if sock is None:
            self._end("the broker closed the connection at once")
            return
        self._loop.add_reader(sock, self._readable)
        if paho.want_write():
            self._loop.add_writer(sock, self._writable)

    # What paho tells, always from within the loop's thread: note it and return.

    def _on_connect(
        self, _client: Client, _data: Any, flags: ConnectFlags, code: ReasonCode, told: Properties | None
    ) -> None:
        if self._opened.done():
            return
        if code.is_failure:
            self._opened.set_exception(
                BrokerRefused(
                    f"the broker refused: {code}", remedy="look at the node's certificate, its rights and protocol"
                )
            )
            return
        self.session_present = flags.session_present
        self.max_packet = getattr(told, "MaximumPacketSize", PROTOCOL_LIMIT)
        self.window = min(MAX_IN_FLIGHT, getattr(told, "ReceiveMaximum", MAX_IN_FLIGHT))
        self._slots = asyncio.Semaphore(self.window)
        self._opened.set_result(None)

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, code: ReasonCode, _told: Any) -> None:
        self._end(f"the connection ended: {code}")

    def _on_publish(self, _client: Client, _data: Any, mid: int, code: ReasonCode, _told: Properties) -> None:
        answer, _ = self._acks.pop(mid, (None, 0.0))
        if answer is None:
            return
        self._slots.release()
        if not answer.done():
            answer.set_result(code.value)

    def _on_subscribe(self, _client: Client, _data: Any, mid: int, codes: list[ReasonCode], _told: Properties) -> None:
        answer = self._subscriptions.pop(mid, None)
        if answer is not None and not answer.done():
            answer.set_result(tuple(code.value for code in codes))

    def _on_message(self, _client: Client, _data: Any, came: MQTTMessage) -> None:
        try:
            topic = came.topic
        except UnicodeDecodeError:
            topic = ""
        message = Message(topic, bytes(came.payload), came.qos, came.retain, came.mid)
        reason = self._refusal(message)
        if reason:
            self.dropped[reason] += 1
            # Acknowledged all the same, or it would take a place in the broker's window for ever.
            self.ack(message)
            return
        self._waiting.append(message)
        self._arrived.set()

    def _refusal(self, message: Message) -> str:
        if not message.topic:
            return "unreadable_topic"
        if len(message.payload) > self._settings.max_message:
            return "oversized"
        return "overflow" if len(self._waiting) >= MAX_WAITING else ""

    def _on_socket_close(self, _client: Client, _data: Any, sock: Any) -> None:
        self._loop.remove_reader(sock)
        self._loop.remove_writer(sock)
        self._closed.set()

    def _on_write_wanted(self, _client: Client, _data: Any, sock: Any) -> None:
        self._loop.add_writer(sock, self._writable)

    def _on_write_idle(self, _client: Client, _data: Any, sock: Any) -> None:
        self._loop.remove_writer(sock)

    # What the loop tells.

    def _readable(self) -> None:
        self._guarded(self._paho.loop_read)
        sock = self._paho.socket()
        # Bytes that TLS has decrypted already do not make the socket readable again.
        if self._ended is None and isinstance(sock, ssl.SSLSocket) and sock.pending():
            self._loop.call_soon(self._readable)

    def _writable(self) -> None:
        self._guarded(self._paho.loop_write)

    def _tick(self) -> None:
        self._guarded(self._paho.loop_misc)
        _, sent = next(iter(self._acks.values()), (None, math.inf))
        if self._loop.time() - sent > self._settings.ack_timeout:
            self._end(f"the broker acknowledged nothing for {self._settings.ack_timeout:.0f} s")
        if self._ended is None:
            self._misc = self._loop.call_later(MISC_SECONDS, self._tick)

    def _guarded(self, work: Callable[[], MQTTErrorCode]) -> None:
        """Let paho work. Whatever it trips over ends the connection: one that only looks alive is worse."""
        if self._ended is not None:
            return
        whole = False
        try:
            work()
            whole = True
        except (ValueError, IndexError, KeyError, TypeError, struct.error) as error:
            self._end(f"the broker sent what paho cannot read: {error}")
        finally:
            if not whole:
                self._end("paho failed")

    def _require(self) -> None:
        if self._ended is not None:
            raise type(self._ended)(self._ended.what, remedy=self._ended.remedy)

    def _end(self, what: str) -> None:
        if self._ended is not None:
            return
        self._ended = self._cause(what)
        self._misc.cancel()
        sock = self._paho.socket()
        if sock is not None:
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)
            sock.close()
        self._closed.set()
        answers: list[asyncio.Future[Any]] = [self._opened, *self._subscriptions.values()]
        answers += [answer for answer, _ in self._acks.values()]
        for answer in answers:
            if not answer.done():
                answer.set_exception(self._ended)
                # Whoever waits hears of it; that nobody waits is no error.
                answer.exception()
        self._arrived.set()
        for _ in range(self._senders):
            self._slots.release()

    def _cause(self, what: str) -> BrokerLost:
        """With TLS 1.3 a broker refuses our certificate after the handshake, and paho passes on only that it ended."""
        opened = self._paho.user_data_get()
        alert = opened.alert if isinstance(opened, TidySocket) else None
        if alert is None:
            return BrokerLost(what, remedy="tried again by itself after a pause")
        told, remedy = explained(alert, f"{self._settings.host}:{self._settings.port}")
        return BrokerRefused(told, remedy=remedy)


def _new_client(settings: BrokerSettings, will: Will | None) -> Client:
    modern = settings.protocol == "5"
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=settings.client_id,
        clean_session=None if modern else not settings.session_expiry,
        protocol=MQTTProtocolVersion.MQTTv5 if modern else MQTTProtocolVersion.MQTTv311,
        manual_ack=True,
        reconnect_on_failure=False,
    )
    client.max_inflight_messages = MAX_IN_FLIGHT
    client.max_queued_messages = MAX_IN_FLIGHT
    client.connect_timeout = settings.connect_timeout
    client.on_socket_open = _opened
    if will is not None:
        client.will_set(will.topic, will.payload, qos=1, retain=True)
    if settings.tls is not None:
        tls = settings.tls
        client.tls_set_context(client_context(tls.ca, tls.certificate, tls.key))
    return client


def is_loopback(host: str) -> bool:
    """Whether what is sent to ``host`` stays on this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _opened(client: Client, _data: Any, sock: Any) -> None:
    """Nagle and delayed acknowledgements together cost 40 ms a round trip; paho leaves Nagle on."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # paho forgets a socket that ended; the reason why stands in it.
    client.user_data_set(sock)


def _open(client: Client, settings: BrokerSettings) -> None:
    if settings.protocol == "5":
        clean = not settings.session_expiry
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = settings.session_expiry
        properties.ReceiveMaximum = settings.receive_maximum
        properties.MaximumPacketSize = 2 * settings.max_message
        client.connect(settings.host, settings.port, settings.keepalive, clean_start=clean, properties=properties)
    else:
        client.connect(settings.host, settings.port, settings.keepalive)
