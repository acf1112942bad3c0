"""A backlog is not held in memory: paho's own queue grows by 82 MB for 65,535 messages, and then refuses."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from edge.event import EventClass
from edge.link import Pull
from tests.cloud_sync.broker_rig import Mosquitto, until
from tests.cloud_sync.rig import NODE, ScriptedAgent

EVENTS = 100_000
GROWTH_MB = 8.0
"""What a drain may add: 20 batches of 56 KB on their way several times over, and the allocator's rounding."""

CARRIER = """
import asyncio, sys
from tests.cloud_sync.rig import FastClock
from cloud_sync.client_mqtt import BrokerSettings, MqttBroker
from cloud_sync.pump import Pacing
from cloud_sync.service import CloudSync
from edge import link_socket
from edge.system_clock import SystemClock

path, port, node, batch = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
sync = CloudSync(
    open_agent=lambda: link_socket.connect(path),
    broker=MqttBroker(BrokerSettings(host="127.0.0.1", port=port, client_id=node)),
    pacing=Pacing(100_000.0, batch),
    clock=SystemClock(),
    random=lambda: 0.0,
    new_token=lambda: "token",
)
asyncio.run(sync.run())
"""


def resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("batch_bytes", [64 * 1024, 0])
async def test_cloud_syncs_memory_does_not_grow_with_the_backlog(
    broker: Mosquitto, agent: ScriptedAgent, batch_bytes: int
) -> None:
    """Nobody acknowledges, so all of it stays a backlog; a first tenth warms what is allocated once."""

    def add(count: int) -> None:
        for _ in range(count):
            agent.epoch.add(EventClass.TELEMETRY, "vehicle.fix")

    def sent() -> int:
        pulls = [one.after for one in agent.asked if isinstance(one, Pull) and one.event_class == "telemetry"]
        return max(pulls, default=0)

    add(EVENTS // 10)
    arguments = [sys.executable, "-c", CARRIER, str(agent.path), str(broker.port), NODE, str(batch_bytes)]
    process = await asyncio.create_subprocess_exec(*arguments, env=dict(os.environ, PYTHONPATH=str(Path.cwd())))
    try:
        await until(lambda: sent() >= agent.epoch.last[EventClass.TELEMETRY], 60.0)
        before = resident_mb(process.pid)
        add(EVENTS)
        agent.wake()
        await until(lambda: sent() >= agent.epoch.last[EventClass.TELEMETRY], 200.0)
        assert resident_mb(process.pid) - before <= GROWTH_MB
    finally:
        process.terminate()
        await process.wait()
