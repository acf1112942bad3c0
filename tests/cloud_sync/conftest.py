"""A collector's store on a real file, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloud_sync.collector_sql import CollectorStore
from edge.clock_sim import ManualClock
from tests.cloud_sync.rig import CONSUMER


@pytest.fixture
async def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[CollectorStore]:
    store = CollectorStore(str(tmp_path / "collector.db"), consumer=CONSUMER, clock=clock)
    await store.open()
    yield store
    await store.close()
