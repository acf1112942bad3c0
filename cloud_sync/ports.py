"""What the services here need of the broker and of the role agent; nothing in this file knows a library or a socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import msgspec

from edge.errors import Fault, LastmileError, ProtocolError
from edge.link import Answer, Out, Request, Serving, Wake

T = TypeVar("T")

MAX_IN_FLIGHT = 20
"""QoS 1 messages without their PUBACK. More buys nothing: 17,700/s at 20, 16,500/s at 200 (paho 2.2, loopback)."""

FAILURE = 0x80
"""MQTT 5 reason codes from here on are failures; 3.1.1 knows none for PUBLISH and 0x80 for SUBSCRIBE."""


class BrokerLost(LastmileError):
    """The connection to the broker is gone or did not come about. Whoever holds it tries again after a pause."""

    fault = Fault.PEER


class BrokerRefused(BrokerLost):
    """The broker answered, and said no: credentials, rights or protocol version."""

    fault = Fault.OPERATOR


class Message(msgspec.Struct, frozen=True):
    """A PUBLISH that came. It has to be given to ``BrokerConnection.ack`` once it is dealt with."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    mid: int


class Will(msgspec.Struct, frozen=True):
    """What the broker publishes for us, retained and with QoS 1, when the connection breaks."""

    topic: str
    payload: bytes


class AgentLink(Protocol):
    """cloud-sync's end of the local socket. Every method raises ``DeviceError`` when the role agent is gone."""

    async def ask(self, make: Callable[[int], Request]) -> Answer: ...

    async def next_push(self) -> Wake | Out | Serving: ...

    async def close(self) -> None: ...


class BrokerConnection(Protocol):
    """One connection, from CONNACK to its end. Every method raises ``BrokerLost`` after the end."""

    window: int
    """QoS 1 messages that may be in flight: at most ``MAX_IN_FLIGHT`` and the server's Receive Maximum."""
    max_packet: int
    """Bytes the server takes in one packet."""

    async def send(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> Awaitable[int]:
        """Hand over in the order of calls, waiting for room in the window.

        What comes back is awaited for the reason code of the PUBACK (0 at once for QoS 0).
        """
        ...

    async def subscribe(self, filters: Sequence[str]) -> tuple[int, ...]:
        """The granted QoS or the failure code of each filter."""
        ...

    async def next_messages(self, most: int) -> Sequence[Message]:
        """What has come, at least one and at most ``most``, in the order of arrival."""
        ...

    def ack(self, message: Message) -> None:
        """Tell the broker that the message is dealt with. Without it the broker sends it again after a reconnect."""
        ...

    async def close(self) -> None:
        """DISCONNECT, so that the will is not published. Never raises."""
        ...


class Broker(Protocol):
    """Where connections come from."""

    async def connect(self, will: Will | None) -> BrokerConnection:
        """Raises ``BrokerLost`` or ``BrokerRefused``; ``ConfigError`` when a certificate cannot be used."""
        ...


Progress = Callable[[str], None]
"""Called with a component's name whenever it got something done or found that there is nothing to do."""


Trouble = Callable[[str, str], None]
"""Called with a component's name and what keeps it from its work; its next progress ends the fault."""


def expected(answer: Answer, kind: type[T]) -> T:
    """``answer`` when it is a ``kind``. Raises ``ProtocolError``."""
    if not isinstance(answer, kind):
        raise ProtocolError(f"{type(answer).__name__} where {kind.__name__} belongs", remedy="the socket is closed")
    return answer


def first_of(error: BaseException) -> BaseException:
    """The tasks of a connection all end for the same reason, so one of them may tell it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
