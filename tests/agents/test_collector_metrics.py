"""A collector's metrics: sums for all nodes, labels for the few that wait for longest, whatever the fleet's size."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from prometheus_client import CollectorRegistry, generate_latest

from agents.collector_metrics import CollectorMetrics
from cloud_sync.collector import Batch, load_nodes, read_events
from cloud_sync.collector_asyncio import Collector
from cloud_sync.collector_open_sql import open_store
from cloud_sync.topics import Kind, Topic
from edge.clock_sim import ManualClock
from edge.event import EventClass
from tests.cloud_sync.collector_rig import ROLE
from tests.cloud_sync.rig import CONSUMER, TENANT, Epoch

NAMES = [f"{TENANT}_n{number}" for number in range(30)]


class Listening:
    """As much of a collector as its metrics read."""

    acks, wants, subscribed = 7, 3, "shared"


def lines(registry: CollectorRegistry) -> dict[str, float]:
    told = generate_latest(registry).decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in told if not line.startswith("#")}


async def test_of_many_nodes_only_the_slowest_have_labels(tmp_path: Path):
    clock = ManualClock()
    store = open_store(str(tmp_path / "collector.db"), consumer=CONSUMER, clock=clock)
    await store.open()
    nodes = load_nodes((TENANT, name, [ROLE.public]) for name in NAMES)
    for name, node in nodes.items():
        epoch = Epoch(ROLE, node.source)
        for _ in range(5):
            epoch.add(EventClass.AUDIT)
        epoch.seal()
        # The second event is missing everywhere: five rows wait.
        bodies = [body for number, body in enumerate(epoch.bodies()) if number != 1]
        topic = Topic(TENANT, name, Kind.BATCH, "audit")
        await store.take(Batch(events=[(node, read_events(node, topic, b"[" + b",".join(bodies) + b"]"))]))
        await store.settle([node.source])
        await clock.advance(1)
    registry = CollectorRegistry()
    metrics = CollectorMetrics(registry, cast("Collector", Listening()), store, clock, worst=4)
    await metrics.look()
    told = lines(registry)
    prefix = "lastmile_collector_"
    assert told[f"{prefix}nodes"] == told[f"{prefix}nodes_with_gaps"] == told[f"{prefix}missing_events"] == 30
    assert told[f"{prefix}pending_rows"] == 30 * 6
    assert told[f"{prefix}lag_seconds"] == 30
    assert told[f"{prefix}acks"] == 7
    assert told[f"{prefix}listening"] == 1
    assert {name: value for name, value in told.items() if name.startswith(f"{prefix}node_lag")} == {
        f'{prefix}node_lag_seconds{{node="{name}"}}': 30.0 - number for number, name in enumerate(NAMES[:4])
    }
    assert len([name for name in told if "{node=" in name]) == 3 * 4
    await store.close()
