"""Four workers of one consumer, processes of their own, behind a shared subscription of a real mosquitto."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from cloud_sync.collector_open_sql import open_store
from cloud_sync.collector_sql import CollectorStore
from edge.event import EventClass
from edge.system_clock import SystemClock
from tests.cloud_sync.broker_rig import Mosquitto, until
from tests.cloud_sync.rig import CONSUMER
from tests.peers.collecting import held, words
from tests.peers.node import LightNode
from tests.peers.stores import POSTGRES
from tests.peers.workers import Crew, crew

WORKERS = 4


@contextlib.asynccontextmanager
async def street(home: Path, count: int) -> AsyncIterator[list[LightNode]]:
    nodes = [LightNode(home, f"l{n}") for n in range(count)]
    for node in nodes:
        await node.start()
    try:
        yield nodes
    finally:
        for node in nodes:
            await node.stop()


@contextlib.asynccontextmanager
async def looking(place: str) -> AsyncIterator[CollectorStore]:
    store = open_store(place, consumer=CONSUMER, clock=SystemClock())
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def all_listen(working: Crew) -> None:
    for worker in range(1, WORKERS + 1):
        working.start(worker)
    await until(lambda: all(working.listens(worker) for worker in range(1, WORKERS + 1)), 40)


async def whole(store: CollectorStore, nodes: Sequence[LightNode]) -> None:
    """What is held is what the test told, in order, once; and nothing contradicts it."""
    for node in nodes:
        assert await held(store, node) == node.audit()
        assert words(await held(store, node)) == node.told[EventClass.AUDIT]
    assert await store.rows("SELECT count(*) FROM quarantine") == [(0,)]
    assert await store.rows("SELECT reason FROM refused WHERE reason NOT IN ('too_far')") == []


async def tell(nodes: Sequence[LightNode], rounds: int, each: int) -> None:
    for _ in range(rounds):
        await asyncio.gather(*(node.tell(EventClass.AUDIT, each) for node in nodes))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("place", [POSTGRES], indirect=True)
@pytest.mark.parametrize("count", [12])
async def test_a_worker_that_is_killed_loses_nothing(tmp_path: Path, broker: Mosquitto, place: str, count: int):
    """Events of a node reach different workers in any order; the result is complete, once, and acknowledged; kill -9
    of one worker on the way, whose share of the subscription goes with it, costs only time.
    """
    await workers_lose_nothing(tmp_path, broker, place, count, rounds=4)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("place", ["sqlite", POSTGRES], indirect=True)
async def test_the_same_with_many_nodes(tmp_path: Path, broker: Mosquitto, place: str):
    await workers_lose_nothing(tmp_path, broker, place, 100, rounds=10)


async def workers_lose_nothing(tmp_path: Path, broker: Mosquitto, place: str, count: int, *, rounds: int) -> None:
    async with street(tmp_path, count) as nodes:
        with crew(tmp_path / "crew", place, broker.port, nodes) as working:
            await all_listen(working)
            for node in nodes:
                node.carry(broker.settings(node.name))
            await tell(nodes, rounds, 20)
            working.kill(2)
            await tell(nodes, rounds, 20)
            async with looking(place) as store:
                await until(lambda: all(node.settled() for node in nodes), 60 + count)
                await whole(store, nodes)
