"""The attacker: all of the broker, and cloud-sync's place at the role agent's socket.

Sees every message, publishes anything anywhere, and in cloud-sync's place carries, keeps back or forges what it likes.
What a scene does not ask it to disturb it carries as cloud-sync would, so that honest people can be served meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Self, cast

import msgspec

from cloud_sync.client_mqtt import BrokerSettings, MqttBroker, MqttConnection
from cloud_sync.ports import Message
from cloud_sync.presence import Presence, encode
from cloud_sync.topics import NodeTopics
from edge import base64url, link_socket
from edge.event import EventClass
from edge.link import (
    MAX_PULL_EVENTS,
    Answer,
    Events,
    Held,
    HeldAnswer,
    Hello,
    Link,
    LinkNumber,
    Offer,
    OfferAnswer,
    Out,
    Pull,
    Wake,
    Welcome,
)
from edge.link_socket import LinkClient, LinkClosed
from tests.crash.bench import NotInTimeError
from tests.faults.yard import Yard

PATIENCE_S = 20.0
RETRY_S = 0.02


def payload_of(token: bytes) -> dict[str, Any]:
    """What a token says, whoever signed it."""
    part = msgspec.json.decode(token)["payload"].encode() if token.startswith(b"{") else token.split(b".")[1]
    found: dict[str, Any] = msgspec.json.decode(base64url.decode(part))
    return found


class Attacker:
    """Use as an async context manager; ``take_the_place`` and ``step_aside`` for cloud-sync's."""

    def __init__(self, yard: Yard) -> None:
        self._yard = yard
        self.topics = NodeTopics(yard.site.tenant, yard.site.node)
        self.heard: list[Message] = []
        """Everything that ever passed the broker, in order."""
        self.results: dict[str, list[bytes]] = {}
        """Every answer of the node to a command, by its id."""
        self.welcome: Welcome
        self.sent = 0
        """Hostile messages."""
        self._catching: dict[str, asyncio.Queue[Message]] = {}
        self._place: LinkClient | None = None
        self._positions: dict[str, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._carrying: set[asyncio.Task[None]] = set()
        self._due = asyncio.Event()
        self._one_batch = asyncio.Lock()
        self.presence: Presence
        """What it said last in cloud-sync's place."""

    async def __aenter__(self) -> Self:
        settings = BrokerSettings("127.0.0.1", "attacker", self._yard.broker.port, session_expiry=0)
        self._broker: MqttConnection = await MqttBroker(settings).connect(None)
        await self._broker.subscribe(("lm/v1/#",))
        self._tasks.append(asyncio.create_task(self._listen(), name="attacker-listens"))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.step_aside()
        await _end(self._tasks)
        await self._broker.close()

    # -- the broker ----------------------------------------------------------------------------------------------------

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.sent += 1
        await self._put(topic, payload, retain=retain)

    async def _put(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        # Not wait_for: up to Python 3.11 it loses a cancellation that comes together with the answer.
        async with asyncio.timeout(PATIENCE_S):
            await (await self._broker.send(topic, payload, retain=retain))

    async def _listen(self) -> None:
        while True:
            for message in await self._broker.next_messages(100):
                self._broker.ack(message)
                self.heard.append(message)
                word = message.topic.removeprefix(f"{self.topics.source[1:]}/")
                if word in self._catching:
                    self._catching[word].put_nowait(message)
                elif self._place is not None:
                    task = asyncio.create_task(self._carry_in(word, message.payload), name="attacker-carries")
                    self._carrying.add(task)
                    task.add_done_callback(self._carrying.discard)

    async def forget(self, client: str) -> None:
        """The broker has no session of ``client`` any more: what it had for it is gone, what is retained comes anew."""
        settings = BrokerSettings("127.0.0.1", client, self._yard.broker.port, session_expiry=0)
        await (await MqttBroker(settings).connect(None)).close()

    @contextlib.asynccontextmanager
    async def catching(self, word: str) -> AsyncIterator[asyncio.Queue[Message]]:
        """Messages of this topic of the node are kept back from it; the scene has them."""
        self._catching[word] = asyncio.Queue()
        try:
            yield self._catching[word]
        finally:
            del self._catching[word]

    @contextlib.asynccontextmanager
    async def keeping_events_back(self) -> AsyncIterator[None]:
        """Nothing that the node tells meanwhile comes to the broker before the end."""
        async with self._one_batch:
            yield
        self._due.set()

    async def mark(self) -> Presence:
        """A true presence: whoever has heard it has heard everything before it."""
        self.presence = msgspec.structs.replace(self.presence, at=datetime.now(UTC))
        await self._put(self.topics.presence, encode(self.presence), retain=True)
        return self.presence

    def recorded(self, word: str) -> list[bytes]:
        """Every different message of a topic (``cmd/``: of all its topics) that anybody has ever sent."""
        root = f"{self.topics.source[1:]}/{word}"
        return list(dict.fromkeys(each.payload for each in self.heard if each.topic.startswith(root)))

    # -- cloud-sync's place --------------------------------------------------------------------------------------------

    async def take_the_place(self) -> None:
        """Be cloud-sync: whoever knows nothing else sees a node that is there."""
        self._place = await self._connect()
        self._positions = {view.epoch: view.classes["audit"][0] for view in self.welcome.journals}
        number = await self._place.ask(Link)
        assert isinstance(number, LinkNumber)
        self.presence = Presence(
            online=True,
            serving=True,
            link=number.link,
            session=self.welcome.session,
            epoch=number.epoch,
            role="locker",
            version=self.welcome.software,
            at=datetime.now(UTC),
        )
        await self._put(self.topics.presence, encode(self.presence), retain=True)
        self._due.set()
        link = self._place
        self._placed = [
            asyncio.create_task(self._carry_events(link), name="attacker-events"),
            asyncio.create_task(self._hear_pushes(link), name="attacker-pushes"),
        ]

    async def step_aside(self) -> None:
        if self._place is not None:
            await _end([*self._placed, *self._carrying])
            await self._place.close()
            self._place = None

    async def _connect(self) -> LinkClient:
        for _ in range(int(PATIENCE_S / RETRY_S)):
            if self._yard.life.dead:
                raise LinkClosed
            with contextlib.suppress(LinkClosed):
                place = await link_socket.connect(self._yard.site.socket)
                try:
                    self.welcome = cast("Welcome", await place.ask(Hello))
                except LinkClosed:
                    await place.close()
                    raise
                return place
            await asyncio.sleep(RETRY_S)
        raise NotInTimeError("the role agent does not let cloud-sync's user in")

    async def ask(self, make: Any) -> Answer:
        """A hostile request; a connection that it breaks is made again."""
        self.sent += 1
        assert self._place is not None
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._place.ask(make)
        except LinkClosed:
            await asyncio.sleep(RETRY_S)
            if not self._yard.life.dead:
                await self.step_aside()
                await self.take_the_place()
            raise

    async def offer(self, token: bytes, kind: str = "cmd", name: str = "open") -> dict[str, bytes]:
        """Hand a token to the role agent; its answers by command id. They are told to nobody."""
        answer = await self.ask(lambda n: Offer(n, kind, name, token))
        assert isinstance(answer, OfferAnswer)
        for jti, result in answer.results:
            self.results.setdefault(jti, []).append(result)
        return dict(answer.results)

    async def acknowledge(self, token: bytes, consumer: str = "hub") -> str:
        """Hand over an ack; why it was refused."""
        answer = await self.ask(lambda n: Held(n, consumer, token))
        assert isinstance(answer, HeldAnswer)
        return answer.refused

    async def pass_on(self, message: Message) -> None:
        """What was kept back reaches the node after all, and its answer the sender."""
        await self._carry_in(message.topic.removeprefix(f"{self.topics.source[1:]}/"), message.payload)

    async def _carry_in(self, word: str, payload: bytes) -> None:
        kind, _, name = word.partition("/")
        place = self._place
        if place is None or kind not in {"cmd", "ack", "desired", "issuers"} or not payload:
            return
        with contextlib.suppress(LinkClosed):
            if kind == "ack":
                self._send_again(cast("HeldAnswer", await place.ask(lambda n: Held(n, name, payload))))
                return
            answer = await place.ask(lambda n: Offer(n, kind, name, payload))
            for jti, result in cast("OfferAnswer", answer).results:
                await self._tell(jti, result)

    def _send_again(self, answer: HeldAnswer) -> None:
        """What the consumer lacks: from there on all goes once more."""
        for epoch, name, first, _ in answer.want:
            if name == EventClass.AUDIT.value:
                self._positions[epoch] = min(self._positions.get(epoch, 0), first - 1)
                self._due.set()

    async def _tell(self, jti: str, result: bytes) -> None:
        self.results.setdefault(jti, []).append(result)
        await self._put(self.topics.result(jti), result)

    async def _hear_pushes(self, link: LinkClient) -> None:
        with contextlib.suppress(LinkClosed):
            while True:
                push = await link.next_push()
                if isinstance(push, Wake):
                    self._due.set()
                elif isinstance(push, Out) and push.kind == "res":
                    await self._tell(push.name, push.payload)
                elif isinstance(push, Out) and push.kind == "reported":
                    await self._put(self.topics.reported, push.payload, retain=True)

    async def _carry_events(self, link: LinkClient) -> None:
        """Audit alone, in batches, from wherever it has come to; what is lost on the way is asked for."""
        with contextlib.suppress(LinkClosed):
            while True:
                await self._due.wait()
                self._due.clear()
                for view in cast("Welcome", await link.ask(Hello)).journals:
                    await self._carry_epoch(link, view.epoch)

    async def _carry_epoch(self, link: LinkClient, epoch: str) -> None:
        more = True
        while more:
            async with self._one_batch:
                more = await self._carry_batch(link, epoch)

    async def _carry_batch(self, link: LinkClient, epoch: str) -> bool:
        after = self._positions.get(epoch, 0)
        answer = await link.ask(lambda n: Pull(n, epoch, "audit", after, MAX_PULL_EVENTS))
        assert isinstance(answer, Events)
        if answer.bodies:
            self._positions[epoch] = answer.upto
            await self._put(self.topics.batch(EventClass.AUDIT), b"[" + b",".join(answer.bodies) + b"]")
        return bool(answer.bodies)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
