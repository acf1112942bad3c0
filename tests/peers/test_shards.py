"""Nodes that move from one shard, a broker and its collector, to another: nothing is lost, nothing is there twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cloud_sync.collector_move_sql import Move
from edge.event import EventClass
from edge.system_clock import SystemClock
from tests.cloud_sync.broker_rig import Mosquitto, until
from tests.cloud_sync.rig import running
from tests.peers.collecting import collector, held, words
from tests.peers.node import LightNode, nodes_of
from tests.peers.test_workers import looking, street


async def shard(home: Path) -> Mosquitto:
    home.mkdir()  # noqa: ASYNC240  returns at once
    broker = Mosquitto(home)
    await broker.start()
    return broker


@pytest.mark.timeout(120)
async def test_nodes_move_from_shard_to_shard(tmp_path: Path):
    """They tell things before, while and after they move; some reach the new broker before their rows are there."""
    await move_a_street(tmp_path, 8)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_hundred_nodes_move_from_shard_to_shard(tmp_path: Path):
    await move_a_street(tmp_path, 100)


async def move_a_street(home: Path, count: int) -> None:
    here, there = await shard(home / "here"), await shard(home / "there")
    try:
        async with (
            street(home, count) as nodes,
            looking(str(home / "here.db")) as old,
            looking(str(home / "there.db")) as new,
        ):
            first = collector(old, nodes_of(nodes), here.settings("cloud-1", receive_maximum=500))
            second = collector(new, nodes_of(nodes), there.settings("cloud-1", receive_maximum=500))
            async with running(first.run), running(second.run):
                for node in nodes:
                    node.carry(here.settings(node.name))
                await tell_all(nodes)
                await until(lambda: all(node.settled() for node in nodes), 60)
                for number, node in enumerate(nodes):
                    await node.tell(EventClass.AUDIT, 5)
                    await node.stop_carrying()
                    if number % 2:
                        node.carry(there.settings(node.name))
                    known = nodes_of([node])[node.name]
                    await Move(known, old, new, SystemClock().wall(), lambda _: None).run()
                    if not number % 2:
                        node.carry(there.settings(node.name))
                await tell_all(nodes)
                await until(lambda: all(node.settled() for node in nodes), 60 + count)
            for node in nodes:
                assert await held(new, node) == node.audit()
                assert words(await held(new, node)) == node.told[EventClass.AUDIT]
                assert await held(old, node) == []
            assert await new.rows("SELECT count(*) FROM quarantine") == [(0,)]
    finally:
        here.kill()
        there.kill()


async def tell_all(nodes: list[LightNode]) -> None:
    await asyncio.gather(*(node.tell(EventClass.AUDIT, 15) for node in nodes))
