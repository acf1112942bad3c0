"""A collector behind RabbitMQ: nodes by MQTT 3.1.1, the collector by AMQP, a quorum queue between them."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aio_pika
import pytest
from aio_pika.exceptions import DeliveryError

from cloud_sync.client_amqp import AmqpBroker, AmqpSettings, routing_key
from cloud_sync.client_mqtt import BrokerSettings
from cloud_sync.collector_open_sql import open_store
from cloud_sync.collector_sql import CollectorStore
from cloud_sync.ports import FAILURE, BrokerLost
from edge.event import EventClass
from edge.system_clock import SystemClock
from tests.cloud_sync.broker_rig import until
from tests.cloud_sync.rig import CONSUMER, running
from tests.peers.collecting import collector, held, words
from tests.peers.node import LightNode, nodes_of
from tests.peers.rabbit import Rabbit, Rabbits, rabbits

pytestmark = pytest.mark.xdist_group("rabbit")


@pytest.fixture(scope="module")
def one() -> Iterator[Rabbits]:
    with rabbits(session=True) as cluster:
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


STALE = """
    Name = rabbit_misc:r(<<"/">>, queue, <<"lastmile.stale">>),
    Lead = fun(Node) -> rabbit_misc:execute_mnesia_transaction(fun() -> rabbit_amqqueue:update(Name, fun(Q) ->
        {Leader, _} = amqqueue:get_pid(Q), amqqueue:set_pid(Q, {Leader, Node}) end) end) end,
    Lead(%s).
"""
"""Write down another leader of the queue; "node()" is the true one."""


@pytest.mark.timeout(120)
async def test_a_refusal_does_not_outlast_its_reason(one):
    """A node dies, and until its queues have elected another leader the broker looks for the dead one and refuses. A
    channel that published meanwhile is refused for ever after; ours goes on by a new one.
    """
    topic = "lm/v1/acme/acme_l1/ack/cloud"
    listening = await amqp(one, "listening").connect(None)
    await listening.subscribe([f"$share/stale/{topic}"])
    plain = await aio_pika.connect(one.urls()[0])
    channel = await plain.channel()
    exchange = await channel.get_exchange("amq.topic", ensure=False)
    ours = await amqp(one, "ours").connect(None)
    one.nodes[0].run(STALE % "'dead@localhost'")
    assert await (await ours.send(topic, b"while it is down")) >= FAILURE
    with pytest.raises(DeliveryError):
        await exchange.publish(aio_pika.Message(b"while it is down"), routing_key(topic))
    one.nodes[0].run(STALE % "node()")
    async with asyncio.timeout(20):
        while await (await ours.send(topic, b"afterwards")) >= FAILURE:  # noqa: ASYNC110  as the collector does
            await asyncio.sleep(0.2)
    with pytest.raises(DeliveryError):
        await exchange.publish(aio_pika.Message(b"afterwards"), routing_key(topic))
    (came,) = await listening.next_messages(10)
    assert came.payload == b"afterwards"
    await plain.close()
    for connection in (ours, listening):
        await connection.close()


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_one_of_three_dies_under_load_and_nothing_is_lost(nodes, store, capsys):
    """The node on which the queues' leaders and everybody's connection were is killed while events come. Two of three
    are a majority: nodes and collector go to another one, every node hears that all is held, and the store ends equal
    to what the test had told.
    """
    with rabbits(3) as cluster:
        listening = collector(store, nodes_of(nodes), amqp(cluster, "cloud-1"), subscribe="amqp")
        async with running(listening.run):
            await until(lambda: listening.subscribed == "amqp", 60)
            for node in nodes:
                node.carry(mqtt(cluster.nodes[0], node.name))
                await node.tell(EventClass.AUDIT, 100)
            await until(lambda: any(node.acknowledged()[0] > 0 for node in nodes), 60)
            for node in nodes:
                await node.tell(EventClass.AUDIT, 100)
            cluster.nodes[0].kill()
            killed = time.monotonic()
            for node in nodes:
                await node.tell(EventClass.AUDIT, 100)
                # What a name with several addresses, or a balancer in front, does for a real node.
                await node.stop_carrying()
                node.carry(mqtt(cluster.nodes[1], node.name))
            await until(lambda: all(node.settled() for node in nodes), 120)
            say(capsys, f"one of three killed: all signed for {time.monotonic() - killed:.1f} s later")
        for node in nodes:
            assert words(await held(store, node)) == node.told[EventClass.AUDIT]
        assert await store.rows("SELECT count(*) FROM quarantine") == [(0,)]


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_two_are_no_cluster_to_survive_the_loss_of_one_and_lose_nothing_by_it(nodes, store, capsys):
    """One of two is no majority: it takes nothing and acknowledges nothing. For the nodes that is an outage like any
    other: when the killed one is back, all goes on by itself, and the store ends equal to what the test had told.
    """
    with rabbits(2) as cluster:
        listening = collector(store, nodes_of(nodes), amqp(cluster, "cloud-1"), subscribe="amqp")
        async with running(listening.run):
            await until(lambda: listening.subscribed == "amqp", 60)
            for node in nodes:
                node.carry(mqtt(cluster.nodes[1], node.name))
                await node.tell(EventClass.AUDIT, 50)
            await until(lambda: all(node.settled() for node in nodes), 60)
            cluster.nodes[0].kill()
            for node in nodes:
                await node.tell(EventClass.AUDIT, 50)
            before = [node.acknowledged() for node in nodes]
            await asyncio.sleep(10)  # there is no event for "nothing comes"
            assert [node.acknowledged()[0] for node in nodes] == [acked for acked, _ in before]
            assert not any(node.settled() for node in nodes)
            cluster.nodes[0].launch()
            again = time.monotonic()
            # The MQTT plugin of the one that comes back waits 100 s for the other, which waits for it.
            await asyncio.to_thread(cluster.nodes[0].wait, 240)
            back = time.monotonic()
            await until(lambda: all(node.settled() for node in nodes), 180)
            settled = time.monotonic() - back
            say(
                capsys,
                f"one of two started again: back {back - again:.1f} s later, all signed for in {settled:.1f} s more",
            )
        for node in nodes:
            assert words(await held(store, node)) == node.told[EventClass.AUDIT]
        assert await store.rows("SELECT count(*) FROM quarantine") == [(0,)]


def say(capsys: pytest.CaptureFixture[str], figure: str) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{figure}\n")
