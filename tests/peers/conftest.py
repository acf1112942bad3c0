"""Peers, nodes and stores for this folder's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cloud_sync.broker_rig import Mosquitto
from tests.peers.stores import place, postgres_server

__all__ = ["place", "postgres_server"]


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    mosquitto = Mosquitto(folder)
    await mosquitto.start()
    yield mosquitto
    mosquitto.kill()
