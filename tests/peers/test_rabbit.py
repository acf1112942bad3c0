"""A collector behind RabbitMQ: nodes by MQTT 3.1.1, the collector by AMQP, a quorum queue between them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cloud_sync.client_amqp import AmqpBroker, AmqpSettings, routing_key
from cloud_sync.client_mqtt import BrokerSettings
from cloud_sync.collector_open_sql import open_store
from cloud_sync.collector_sql import CollectorStore
from cloud_sync.ports import BrokerLost
from edge.event import EventClass
from edge.system_clock import SystemClock
from tests.cloud_sync.broker_rig import until
from tests.cloud_sync.rig import CONSUMER, running
from tests.peers.collecting import collector, held, words
from tests.peers.node import LightNode, nodes_of
from tests.peers.rabbit import Rabbit, Rabbits, rabbits

pytestmark = pytest.mark.xdist_group("rabbit")


@pytest.fixture
def one() -> Iterator[Rabbits]:
    with rabbits() as cluster:
        yield cluster


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[CollectorStore]:
    store = open_store(str(tmp_path / "collector.db"), consumer=CONSUMER, clock=SystemClock())
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[list[LightNode]]:
    nodes = [LightNode(tmp_path, f"l{n}") for n in range(3)]
    for node in nodes:
        await node.start()
    yield nodes
    for node in nodes:
        await node.stop()


def mqtt(rabbit: Rabbit, name: str) -> BrokerSettings:
    return BrokerSettings(host="127.0.0.1", port=rabbit.mqtt_port, client_id=name, protocol="3.1.1")


def amqp(cluster: Rabbits, name: str) -> AmqpBroker:
    return AmqpBroker(AmqpSettings(cluster.urls(), name))


def test_topics_become_routing_keys_as_the_plugin_makes_them():
    assert routing_key("lm/v1/+/+/evt/#") == "lm.v1.*.*.evt.#"
    assert routing_key("lm/v1/acme/acme_l1/ack/cloud") == "lm.v1.acme.acme_l1.ack.cloud"


async def test_a_broker_that_is_not_there_is_lost():
    with pytest.raises(BrokerLost):
        await AmqpBroker(AmqpSettings(("amqp://127.0.0.1:1/",), "x")).connect(None)


@pytest.mark.timeout(120)
async def test_two_workers_hold_every_event_once_and_the_nodes_hear_of_it(one, nodes, store):
    """Acknowledgements reach the nodes' MQTT sessions through the exchange; the queue is divided among the workers;
    what one has taken and not committed when it goes comes to the other.
    """
    first = collector(store, nodes_of(nodes), amqp(one, "cloud-1"), client_id="cloud-1", subscribe="amqp")
    second = collector(store, nodes_of(nodes), amqp(one, "cloud-2"), client_id="cloud-2", subscribe="amqp")
    for node in nodes:
        node.carry(mqtt(one.nodes[0], node.name))
    async with running(second.run):
        async with running(first.run):
            await until(lambda: first.subscribed == second.subscribed == "amqp")
            for node in nodes:
                await node.tell(EventClass.AUDIT, 150)
            await until(lambda: all(node.settled() for node in nodes), 40)
        for node in nodes:
            await node.tell(EventClass.AUDIT, 50)
        await until(lambda: all(node.settled() for node in nodes), 40)
    for node in nodes:
        assert await held(store, node) == node.audit()
        assert words(await held(store, node)) == node.told[EventClass.AUDIT]
    assert first.acks + second.acks > 0
    assert await store.rows("SELECT count(*) FROM quarantine") == [(0,)]
