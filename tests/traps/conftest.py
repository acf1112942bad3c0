"""The stage of every trap: a real mosquitto, a scripted role agent behind the real socket, a collector's store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cloud_sync.conftest import agent, broker, clock, store

__all__ = ["agent", "broker", "clock", "store"]


@pytest.fixture
def place(tmp_path: Path) -> str:
    """Where the collector's store lies: the traps are the broker's, so one kind of store is enough."""
    return str(tmp_path / "collector.db")
