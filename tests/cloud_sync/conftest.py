"""A store in SQLite and in PostgreSQL, with a clock that the test moves; a real broker; a scripted role agent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloud_sync.collector_open_sql import open_store
from cloud_sync.collector_sql import CollectorStore
from edge.clock_sim import ManualClock
from edge.keys import SigningKey
from tests.cloud_sync.broker_rig import Mosquitto
from tests.cloud_sync.rig import CONSUMER, ScriptedAgent
from tests.peers.stores import place, postgres_server

__all__ = ["place", "postgres_server"]


@pytest.fixture
async def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(place: str, clock: ManualClock) -> AsyncIterator[CollectorStore]:
    store = open_store(place, consumer=CONSUMER, clock=clock)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    mosquitto = Mosquitto(tmp_path)
    await mosquitto.start()
    yield mosquitto
    mosquitto.kill()


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[ScriptedAgent]:
    role, consumer = SigningKey(b"r" * 32), SigningKey(b"c" * 32)
    agent = ScriptedAgent(tmp_path / "role.sock", role, consumer)
    await agent.start()
    yield agent
    await agent.stop()
