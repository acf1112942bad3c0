"""What a forger and a true node send, and a collector's store to take it in."""

from __future__ import annotations

from cloud_sync.collector import Batch, Intake, Standing, load_nodes, read_events
from cloud_sync.collector_sql import CollectorStore
from cloud_sync.topics import Kind, Topic
from edge.event import EventClass
from edge.keys import SigningKey
from tests.cloud_sync.rig import NODE, SOURCE, TENANT, Epoch

ROLE, FORGER = SigningKey(b"r" * 32), SigningKey(b"f" * 32)
NODES = load_nodes([(TENANT, NODE, [ROLE.public])])
OURS = NODES[NODE]
AUDIT, STATE, TELEMETRY = EventClass


def taken(*bodies: bytes, event_class: EventClass = AUDIT) -> Intake:
    batch = b"[" + b",".join(bodies) + b"]"
    return read_events(OURS, Topic(TENANT, NODE, Kind.BATCH, event_class.value), batch)


async def keep(store: CollectorStore, *bodies: bytes, event_class: EventClass = AUDIT) -> None:
    await store.take(Batch(events=[(OURS, taken(*bodies, event_class=event_class))]))


async def standing(store: CollectorStore) -> Standing:
    return (await store.settle([SOURCE]))[SOURCE]


async def refused(store: CollectorStore) -> dict[str, int]:
    return dict(await store.rows("SELECT reason, sum(count) FROM refused GROUP BY reason"))


def epoch_of(audit: int, key: SigningKey = ROLE) -> Epoch:
    epoch = Epoch(key)
    for _ in range(audit):
        epoch.add(AUDIT)
    return epoch
