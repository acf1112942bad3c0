"""A collector in the test's own process, and what its store holds."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from cloud_sync.client_mqtt import BrokerSettings, MqttBroker
from cloud_sync.collector import Node
from cloud_sync.collector_asyncio import Collector
from cloud_sync.collector_sql import CollectorStore
from cloud_sync.ports import Broker
from edge.acks import sign_ack
from tests.cloud_sync.rig import CONSUMER, FastClock
from tests.peers.node import CONSUMER_KEY, LightNode


def collector(
    store: CollectorStore,
    nodes: Mapping[str, Node],
    broker: Broker | BrokerSettings,
    *,
    client_id: str = "cloud-1",
    **more: Any,
) -> Collector:
    rng = random.Random(client_id)
    return Collector(
        consumer=CONSUMER,
        client_id=client_id,
        nodes=nodes,
        broker=MqttBroker(broker) if isinstance(broker, BrokerSettings) else broker,
        store=store,
        sign=lambda ack: sign_ack(ack, CONSUMER_KEY),
        clock=FastClock(5.0),
        random=lambda: rng.random() / 20,
        new_token=lambda: rng.randbytes(8).hex(),
        **more,
    )


async def held(store: CollectorStore, node: LightNode, event_class: str = "audit") -> list[bytes]:
    sql = "SELECT body FROM held_event WHERE source = :source AND class = :class ORDER BY epoch, seq"
    return [bytes(body) for (body,) in await store.rows(sql, **{"source": node.identity.source, "class": event_class})]


def words(bodies: Sequence[bytes]) -> list[str]:
    """What the test itself had told, of these events."""
    events = [msgspec.json.decode(body) for body in bodies]
    return [event["data"] for event in events if event["type"] == "test.told"]
