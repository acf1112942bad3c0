"""A collector's store on a real file, with a clock that the test moves; a real broker; a scripted role agent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloud_sync.collector_sql import CollectorStore
from edge.clock_sim import ManualClock
from edge.keys import SigningKey
from tests.cloud_sync.broker_rig import Mosquitto
from tests.cloud_sync.rig import CONSUMER, ScriptedAgent


@pytest.fixture
async def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[CollectorStore]:
    store = CollectorStore(str(tmp_path / "collector.db"), consumer=CONSUMER, clock=clock)
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
