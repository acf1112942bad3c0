"""Whoever is told to stop stops, also when the connection breaks in the same moment."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Sequence
from pathlib import Path

from cloud_sync.collector import load_nodes
from cloud_sync.collector_asyncio import Collector
from cloud_sync.collector_open_sql import open_store
from cloud_sync.node_sim import SimAgent
from cloud_sync.ports import BrokerLost, Message, Will
from cloud_sync.pump import Pacing
from cloud_sync.service import CloudSync
from edge.identity import identify
from edge.keys import SigningKey
from edge.system_clock import SystemClock
from tests.edge import trust

ROLE = SigningKey(b"r" * 32)
STOP_S = 5.0


class Brittle:
    """A broker, and a connection, that break where somebody stops waiting for them."""

    window = 20
    max_packet = 2**20

    def __init__(self) -> None:
        self.connected = 0
        self.waiting = asyncio.Event()

    async def connect(self, _will: Will | None) -> Brittle:
        self.connected += 1
        if self.connected > 1:
            raise asyncio.CancelledError  # so that one who did not stop ends all the same
        return self

    async def send(self, _topic: str, _payload: bytes, *, qos: int = 1, retain: bool = False) -> Awaitable[int]:
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        answer.set_result(0)
        return answer

    async def subscribe(self, filters: Sequence[str]) -> tuple[int, ...]:
        return (1,) * len(filters)

    async def next_messages(self, _most: int) -> Sequence[Message]:
        self.waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            raise BrokerLost("gone in this very moment", remedy="none") from error
        raise AssertionError("nothing ever comes")

    def ack(self, _message: Message) -> None: ...

    async def close(self) -> None: ...


async def stops(work: Awaitable[None], broker: Brittle) -> None:
    task = asyncio.ensure_future(work)
    async with asyncio.timeout(STOP_S):
        await broker.waiting.wait()
    task.cancel()
    await asyncio.wait([task], timeout=STOP_S)
    assert task.cancelled()
    assert broker.connected == 1


async def test_cloud_sync_stops_while_its_connection_breaks() -> None:
    broker, clock, rng = Brittle(), SystemClock(), random.Random(1)
    agent = SimAgent(identify("acme", "l1", ROLE.public), ROLE, trust.issuers(), "hub", clock, rng.randbytes)

    async def open_agent() -> SimAgent:
        return agent

    sync = CloudSync(
        open_agent=open_agent,
        broker=broker,
        pacing=Pacing(),
        clock=clock,
        random=rng.random,
        new_token=lambda: "token",
    )
    await stops(sync.run(), broker)


async def test_a_collector_stops_while_its_connection_breaks(tmp_path: Path) -> None:
    broker, clock, rng = Brittle(), SystemClock(), random.Random(1)
    store = open_store(str(tmp_path / "collector.db"), consumer="hub", clock=clock)
    await store.open()
    collector = Collector(
        consumer="hub",
        client_id="hub-1",
        nodes=load_nodes([("acme", "acme_l1", (ROLE.public,))]),
        broker=broker,
        store=store,
        sign=lambda _: b"",
        clock=clock,
        random=rng.random,
        new_token=lambda: "token",
    )
    await stops(collector.run(), broker)
    await store.close()
