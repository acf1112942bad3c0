"""A node's journal as a model, a scripted role agent with a real socket, and cloud-sync on top of both."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from cloud_sync.client_mqtt import BrokerSettings, MqttBroker
from cloud_sync.ports import Trouble
from cloud_sync.pump import REPEAT_AFTER, Pacing
from cloud_sync.service import CloudSync
from edge import jose, link_socket
from edge.acks import Ack
from edge.clock import Clock
from edge.enrolment import vouch_for
from edge.event import (
    BEGUN,
    DROPPED,
    GENESIS,
    SEALED,
    Draft,
    EventClass,
    EventsDropped,
    JournalBegun,
    JournalSealed,
    Origin,
    Stamp,
    encode,
    link_hash,
    with_signature,
)
from edge.health import Health
from edge.identifiers import uuid7
from edge.identity import identify
from edge.keys import SigningKey
from edge.link import (
    Answer,
    Events,
    Held,
    HeldAnswer,
    Hello,
    JournalView,
    Link,
    LinkNumber,
    Offer,
    OfferAnswer,
    Passed,
    Pull,
    Request,
    Unsendable,
    Vouch,
    Vouched,
    Welcome,
)
from edge.system_clock import SystemClock

TENANT, NODE, CONSUMER = "acme", "acme_l1", "cloud"
SOURCE = f"/lm/v1/{TENANT}/{NODE}"
T0 = 1_800_000_000.0
PULL_BYTES = 56 * 1024
_rng = random.Random(7)


def new_epoch() -> str:
    return uuid7(T0, _rng.randbytes(10))


class FastClock(SystemClock):
    """Running time ``speed`` times as fast as it is, so that half a minute's patience can be tested in a second."""

    def __init__(self, speed: float) -> None:
        super().__init__()
        self._speed = speed

    def mono(self) -> float:
        return super().mono() * self._speed

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / self._speed)


class Epoch:
    """One epoch of a node's journal as a model: events made by ``edge.event``, kept in lists."""

    def __init__(self, key: SigningKey, source: str = SOURCE, *, begun: JournalBegun | None = None) -> None:
        self.id = new_epoch()
        self.key = key
        self.origin = Origin(source, self.id, "session-1")
        self.last = dict.fromkeys(EventClass, 0)
        self.hashes = [GENESIS]
        self.items: dict[EventClass, list[tuple[int, int, bytes]]] = {each: [] for each in EventClass}
        self.acked = dict.fromkeys(EventClass, 0)
        self.first_unsealed = 1
        self.starts = {CONSUMER: 1}
        self.add(EventClass.AUDIT, BEGUN, begun or JournalBegun("", None, "new"))

    def add(self, event_class: EventClass, kind: str = "locker.door.opened", data: Any = None) -> bytes:
        seq = self.last[event_class] + 1
        prev = self.hashes[-1] if event_class is EventClass.AUDIT else None
        body = self._encode(event_class, kind, {"n": seq} if data is None else data, seq, prev)
        return self._keep(event_class, seq, body)

    def seal(self) -> bytes:
        seq = self.last[EventClass.AUDIT] + 1
        data = JournalSealed(self.first_unsealed, self.key.kid, self.starts)
        unsigned = self._encode(EventClass.AUDIT, SEALED, data, seq, self.hashes[-1])
        self.first_unsealed = seq + 1
        return self._keep(EventClass.AUDIT, seq, with_signature(unsigned, self.key.sign(unsigned)))

    def thin(self, event_class: EventClass, first: int, last: int) -> bytes:
        """Drop rows that were there; a notice takes their place."""
        count = last - first + 1
        kept = [item for item in self.items[event_class] if not first <= item[0] <= last]
        self.last[event_class] = max(self.last[event_class], last)
        notice = EventsDropped(event_class.value, first, last, count, "space")
        body = self._encode(event_class, DROPPED, notice, 0, None)
        self.items[event_class] = sorted([*kept, (first, last, body)])
        return body

    def bodies(self, event_class: EventClass = EventClass.AUDIT) -> list[bytes]:
        return [body for _, _, body in self.items[event_class]]

    def view(self) -> JournalView:
        return JournalView(self.id, {each.value: (self.acked[each], self.last[each]) for each in EventClass})

    def pull(self, event_class: EventClass, after: int, most: int) -> tuple[tuple[bytes, ...], int]:
        found: list[bytes] = []
        size, upto = 0, after
        items = self.items[event_class]
        for _, last, body in items[bisect.bisect_right(items, after, key=lambda item: item[1]) :]:
            if len(found) >= most or size + len(body) > PULL_BYTES:
                break
            found.append(body)
            size += len(body)
            upto = last
        return tuple(found), upto

    def _encode(self, event_class: EventClass, kind: str, data: Any, seq: int, prev: bytes | None) -> bytes:
        draft = Draft(event_class, kind, "door-1", data)
        event_id = uuid7(T0, _rng.randbytes(10))
        stamp = Stamp(T0 + seq, float(seq), trusted=True)
        return encode(draft, origin=self.origin, stamp=stamp, event_id=event_id, seq=seq, prev=prev)

    def _keep(self, event_class: EventClass, seq: int, body: bytes) -> bytes:
        self.last[event_class] = seq
        self.items[event_class].append((seq, seq, body))
        if event_class is EventClass.AUDIT:
            self.hashes.append(link_hash(self.hashes[-1], body))
        return body


class ScriptedAgent:
    """A role agent that answers as the real one does, and notes what it was asked."""

    def __init__(self, path: Path, key: SigningKey, consumer: SigningKey) -> None:
        self.path = path
        self.key = key
        self.consumer = consumer
        self.epochs = [Epoch(key)]
        self.link = 0
        self.asked: list[Request] = []
        self.offers: list[Offer] = []
        self.results: tuple[tuple[str, bytes], ...] = ()
        self.refused: list[str] = []
        self.server: link_socket.LinkServer | None = None
        self._task: asyncio.Task[None] | None = None
        self._speaking = asyncio.Event()
        self._speaking.set()

    def mute(self) -> None:
        """Answer nothing more, as a process that is stopped or hangs."""
        self._speaking.clear()

    def speak(self) -> None:
        self._speaking.set()

    @property
    def epoch(self) -> Epoch:
        return self.epochs[-1]

    async def start(self) -> None:
        self.server = link_socket.LinkServer(self.path, self, uids=frozenset({os.getuid()}), clock=SystemClock())
        ready = asyncio.Event()
        self._task = asyncio.create_task(self.server.serve(ready.set))
        await ready.wait()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def wake(self) -> None:
        assert self.server is not None
        self.server.wake()

    async def answer(self, request: Request) -> Answer:  # noqa: PLR0911  one for each kind of request
        self.asked.append(request)
        await self._speaking.wait()
        match request:
            case Hello(n):
                views = tuple(epoch.view() for epoch in self.epochs)
                return Welcome(n, TENANT, NODE, "locker", self.key.kid, "session-1", "0.1.0", True, (CONSUMER,), views)
            case Link(n):
                self.link += 1
                return LinkNumber(n, self.link, self.epoch.id)
            case Pull():
                epoch = next(each for each in self.epochs if each.id == request.epoch)
                bodies, upto = epoch.pull(EventClass(request.event_class), request.after, request.max)
                return Events(request.n, bodies, upto)
            case Held():
                return self._held(request)
            case Passed() | Unsendable():
                return self._broker_said(request)
            case Offer():
                self.offers.append(request)
                return OfferAnswer(request.n, self.results)
            case Vouch(n, digest):
                return Vouched(
                    n, vouch_for(digest, identify(TENANT, NODE.partition("_")[2], self.key.public), self.key)
                )

    def held(self, event_class: EventClass = EventClass.AUDIT) -> int:
        return self.epoch.acked[event_class]

    def _broker_said(self, request: Passed | Unsendable) -> HeldAnswer:
        epoch = next(each for each in self.epochs if each.id == request.epoch)
        event_class = EventClass(request.event_class)
        if isinstance(request, Passed):
            epoch.acked[event_class] = max(epoch.acked[event_class], request.upto)
        return HeldAnswer(request.n, "", tuple(each.view() for each in self.epochs), ())

    def _held(self, request: Held) -> HeldAnswer:
        verified = jose.verify(request.token, jose.ACK, lambda _kid: self.consumer.public)
        ack = msgspec.convert(verified.claims, Ack)
        refused = "" if ack.aud == f"{NODE}/{self.key.kid}" else "wrong_audience"
        for epoch in self.epochs:
            for name, (seq, digest) in ack.journals.get(epoch.id, {}).items():
                event_class = EventClass(name)
                if digest is not None and epoch.hashes[seq].hex() != digest:
                    refused = "wrong_hash"
                elif not refused:
                    epoch.acked[event_class] = max(epoch.acked[event_class], seq)
        if refused:
            self.refused.append(refused)
        views = tuple(epoch.view() for epoch in self.epochs)
        return HeldAnswer(request.n, refused, views, () if refused else ack.want)


def cloud_sync(
    agent: ScriptedAgent,
    settings: BrokerSettings,
    pace: float = 5000.0,
    batch_bytes: int = 64 * 1024,
    repeat_after: float = REPEAT_AFTER,
    clock: Clock | None = None,
    health: Health | None = None,
    trouble: Trouble = lambda _part, _what: None,
) -> CloudSync:
    rng = random.Random(3)
    watched, time = health or Health(), clock or FastClock(10.0)

    async def open_agent() -> link_socket.LinkClient:
        return await link_socket.connect(agent.path)

    return CloudSync(
        open_agent=open_agent,
        broker=MqttBroker(settings),
        pacing=Pacing(pace, batch_bytes, repeat_after),
        clock=time,
        random=lambda: rng.random() / 20,
        new_token=lambda: rng.randbytes(8).hex(),
        progress=lambda part: watched.progress(part, time.mono()),
        trouble=trouble,
    )


@contextlib.asynccontextmanager
async def running(work: Callable[[], Awaitable[None]]) -> AsyncIterator[asyncio.Future[None]]:
    """Run ``work()`` for the length of the block; what kills it fails the test."""
    task = asyncio.ensure_future(work())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
