"""A broker in memory with the faults of real ones: it cuts, loses after its PUBACK, repeats, reorders and forgets."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence

from cloud_sync.ports import MAX_IN_FLIGHT, BrokerLost, Message, Will

MAX_PACKET = 256 * 1024


class Faults:
    """How many of the next QoS 1 messages meet each fault."""

    def __init__(self) -> None:
        self.lose = 0
        """Answered with success and given to nobody."""
        self.double = 0
        self.swap = 0
        """Given out after the next one."""
        self.mute = 0
        """Given out, and never answered."""


class _Session:
    """What the broker keeps for a client: filters, and messages not yet acknowledged by it."""

    def __init__(self) -> None:
        self.filters: dict[str, None] = {}
        self.kept: dict[int, Message] = {}
        self.connection: Connection | None = None


class FaultyBroker:
    """``door(client)`` is what a client is handed as its ``cloud_sync.ports.Broker``."""

    def __init__(self) -> None:
        self.up = True
        self.faults = Faults()
        self.acks: list[tuple[str, bytes]] = []
        """Every ack that was published, in order."""
        self._sessions: dict[str, _Session] = {}
        self._retained: dict[str, bytes] = {}
        self._held_back: list[Callable[[], None]] = []
        self._mid = 0

    def door(self, client: str) -> Door:
        return Door(self, client)

    def cut(self, *, forget: bool) -> None:
        """End every connection and take no other; with ``forget``, sessions and retained messages are gone as well."""
        self.up = False
        for session in list(self._sessions.values()):
            if session.connection is not None:
                session.connection.end(clean=False)
        if forget:
            self._sessions.clear()
            self._retained.clear()
            self._held_back.clear()

    def restore(self) -> None:
        self.up = True

    def calm(self) -> None:
        """From now on, no faults."""
        self.restore()
        self.faults = Faults()
        self._release()
        for session in self._sessions.values():
            if session.connection is not None and session.connection.unanswered:
                # A PUBACK that never comes ends, in the real world, with the connection.
                session.connection.end(clean=False)

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool = False) -> None:
        """Take a message; the faults decide who gets it, and when."""
        if retain:
            self._retained[topic] = payload
        if "/ack/" in topic:
            self.acks.append((topic, payload))
        faults = self.faults
        if qos == 0:
            self._route(topic, payload, qos)
        elif faults.lose:
            faults.lose -= 1
        elif faults.swap:
            faults.swap -= 1
            self._held_back.append(lambda: self._route(topic, payload, qos))
        else:
            self._route(topic, payload, qos)
            if faults.double:
                faults.double -= 1
                self._route(topic, payload, qos)
            self._release()

    def connect(self, client: str, will: Will | None) -> Connection:
        if not self.up:
            raise BrokerLost("cut", remedy="tried again after a pause")
        session = self._sessions.setdefault(client, _Session())
        if session.connection is not None:
            session.connection.end(clean=False)
        session.connection = Connection(self, session, will)
        return session.connection

    def retained(self, topic_filter: str) -> Iterator[Message]:
        for topic, payload in self._retained.items():
            if matches(topic_filter, topic):
                self._mid += 1
                yield Message(topic, payload, 1, True, self._mid)

    def _release(self) -> None:
        waiting, self._held_back = self._held_back, []
        for route in waiting:
            route()

    def _route(self, topic: str, payload: bytes, qos: int) -> None:
        served: set[str] = set()
        for session in self._sessions.values():
            for topic_filter in session.filters:
                group, plain = _group(topic_filter)
                if group in served or not matches(plain, topic):
                    continue
                if group:
                    served.add(group)
                self._deliver(session, Message(topic, payload, qos, False, 0))

    def _deliver(self, session: _Session, message: Message) -> None:
        self._mid += 1
        numbered = Message(message.topic, message.payload, message.qos, message.retain, self._mid)
        if message.qos:
            session.kept[self._mid] = numbered
        if session.connection is not None:
            session.connection.arrive(numbered)


class Door:
    """``cloud_sync.ports.Broker`` for one client id."""

    def __init__(self, broker: FaultyBroker, client: str) -> None:
        self._broker = broker
        self._client = client

    async def connect(self, will: Will | None) -> Connection:
        return self._broker.connect(self._client, will)


class Connection:
    """``cloud_sync.ports.BrokerConnection``. What the session kept comes again at its beginning."""

    def __init__(self, broker: FaultyBroker, session: _Session, will: Will | None) -> None:
        self.window = MAX_IN_FLIGHT
        self.max_packet = MAX_PACKET
        self.unanswered: list[asyncio.Future[int]] = []
        self._broker = broker
        self._session = session
        self._will = will
        self._inbox = deque(session.kept.values())
        self._arrived = asyncio.Event()
        self._over = False
        if self._inbox:
            self._arrived.set()

    async def send(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> Awaitable[int]:
        self._require()
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        muted = qos > 0 and self._broker.faults.mute > 0
        self._broker.publish(topic, payload, qos=qos, retain=retain)
        if muted:
            self._broker.faults.mute -= 1
            self.unanswered.append(answer)
        else:
            answer.set_result(0)
        return answer

    async def subscribe(self, filters: Sequence[str]) -> tuple[int, ...]:
        self._require()
        for topic_filter in filters:
            self._session.filters[topic_filter] = None
            for message in self._broker.retained(topic_filter):
                self._session.kept[message.mid] = message
                self.arrive(message)
        return (1,) * len(filters)

    async def next_messages(self, most: int) -> Sequence[Message]:
        await self._arrived.wait()
        self._require()
        found = [self._inbox.popleft() for _ in range(min(most, len(self._inbox)))]
        if not self._inbox:
            self._arrived.clear()
        return found

    def ack(self, message: Message) -> None:
        if not self._over:
            self._session.kept.pop(message.mid, None)

    async def close(self) -> None:
        self.end(clean=True)

    def arrive(self, message: Message) -> None:
        self._inbox.append(message)
        self._arrived.set()

    def end(self, *, clean: bool) -> None:
        """Over; unless ``clean``, the will is published."""
        if self._over:
            return
        self._over = True
        if self._session.connection is self:
            self._session.connection = None
        for answer in self.unanswered:
            if not answer.done():
                answer.set_exception(_lost())
                answer.exception()
        self._arrived.set()
        if self._will is not None and not clean:
            self._broker.publish(self._will.topic, self._will.payload, qos=1, retain=True)

    def _require(self) -> None:
        if self._over:
            raise _lost()


def matches(topic_filter: str, topic: str) -> bool:
    """MQTT's rule for + and #."""
    wanted, parts = topic_filter.split("/"), topic.split("/")
    for at, level in enumerate(wanted):
        if level == "#":
            return True
        if at >= len(parts) or level not in ("+", parts[at]):
            return False
    return len(wanted) == len(parts)


def _group(topic_filter: str) -> tuple[str, str]:
    """The group of a shared subscription, "" for a plain one, and the filter itself."""
    if not topic_filter.startswith("$share/"):
        return "", topic_filter
    _, group, plain = topic_filter.split("/", 2)
    return group, plain


def _lost() -> BrokerLost:
    return BrokerLost("the connection is gone", remedy="connected again after a pause")
