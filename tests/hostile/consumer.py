"""The consumer's side of a hostile broker: a collector's decisions on a real SQLite file, message by message."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

from cloud_sync.collector import Batch, Standing, load_nodes
from cloud_sync.collector_asyncio import Collector
from cloud_sync.collector_open_sql import open_store
from cloud_sync.collector_sql import CollectorStore
from cloud_sync.ports import Broker, Message
from edge.acks import Ack, sign_ack
from edge.clock_sim import ManualClock
from edge.event import EventClass
from edge.keys import SigningKey
from tests.cloud_sync.rig import CONSUMER, NODE, SOURCE, TENANT
from tests.hostile.forgery import batch

ROLE, NEIGHBOUR_ROLE, HUB = SigningKey(b"r" * 32), SigningKey(b"n" * 32), SigningKey(b"h" * 32)
NEIGHBOUR = "acme_l2"
NODES = load_nodes([(TENANT, NODE, [ROLE.public]), (TENANT, NEIGHBOUR, [NEIGHBOUR_ROLE.public])])
NO_BROKER = cast("Broker", None)
"""Messages are handed in; nothing connects."""


class Consumer:
    """Whatever the broker brings is read, committed and settled as the collector does it."""

    def __init__(self, store: CollectorStore, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock
        self._collector = Collector(
            consumer=CONSUMER,
            client_id="collector-1",
            nodes=NODES,
            broker=NO_BROKER,
            store=store,
            sign=lambda ack: sign_ack(ack, HUB),
            clock=clock,
            random=lambda: 0.5,
            new_token=lambda: "token",
        )

    async def hears(self, topic: str, *payloads: bytes, source: str = SOURCE) -> Standing:
        """Several come in one breath, and are committed together."""
        taken = Batch()
        for payload in payloads:
            self._collector._sort(Message(topic, payload, 1, False, 1), taken)
        await self.store.take(taken)
        return (await self.store.settle([source]))[source]

    async def hears_batch(self, bodies: list[bytes], event_class: EventClass = EventClass.AUDIT) -> Standing:
        return await self.hears(f"lm/v1/{TENANT}/{NODE}/evt/{event_class.value}/batch", batch(bodies))

    async def hears_each(self, bodies: list[bytes], event_class: EventClass = EventClass.AUDIT) -> Standing:
        standing = Standing()
        for body in bodies:
            standing = await self.hears(f"lm/v1/{TENANT}/{NODE}/evt/{event_class.value}", body)
        return standing

    def acknowledged(self, standing: Standing) -> dict[str, dict[str, Any]]:
        """What the next ack would say; it can be signed."""
        sign_ack(Ack(CONSUMER, NODES[NODE].audience, standing.journals), HUB)  # type: ignore[arg-type]
        return standing.journals

    async def held(self, event_class: EventClass = EventClass.AUDIT) -> list[bytes]:
        rows = await self.store.rows(
            "SELECT body FROM held_event WHERE class = :name ORDER BY epoch, seq", name=event_class.value
        )
        return [body for (body,) in rows]

    async def stored(self) -> list[bytes]:
        return [body for (body,) in await self.store.rows("SELECT body FROM event")]

    async def refused(self) -> dict[str, int]:
        return dict(await self.store.rows("SELECT reason, sum(count) FROM refused GROUP BY reason"))


@contextlib.asynccontextmanager
async def consumer(folder: Path) -> AsyncIterator[Consumer]:
    clock = ManualClock()
    store = open_store(str(folder / "collector.db"), consumer=CONSUMER, clock=clock)
    await store.open()
    try:
        yield Consumer(store, clock)
    finally:
        await store.close()
