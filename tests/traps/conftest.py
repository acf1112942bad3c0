"""The stage of every trap: a real mosquitto, a scripted role agent behind the real socket, a collector's store."""

from __future__ import annotations

from tests.cloud_sync.conftest import agent, broker, clock, store

__all__ = ["agent", "broker", "clock", "store"]
