"""A node is taken out in one act: the broker refuses its certificate, the collector its events; others go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from cloud_sync.client_mqtt import MqttBroker
from cloud_sync.collector_asyncio import Collector
from cloud_sync.collector_open_sql import open_store
from cloud_sync.collector_sql import CollectorStore
from cloud_sync.known_nodes import decode
from cloud_sync.known_nodes_file import LOOK_S, NodesFile, read_nodes
from cloud_sync.ports import BrokerRefused
from cloud_sync.topics import NodeTopics
from edge.acks import sign_ack
from edge.clock_sim import ManualClock
from edge.errors import ConfigError
from edge.event import EventClass
from edge.keys import SigningKey
from edge.system_clock import SystemClock
from tests.cloud_sync.broker_rig import STEP, Listener, Mosquitto, until
from tests.cloud_sync.rig import NODE, SOURCE, Epoch, FastClock, running
from tests.enrolment.broker import OperatorsBroker
from tests.enrolment.rig import Office

ROLE, ACK = SigningKey(b"r" * 32), SigningKey(b"c" * 32)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path / "office", wall=time.time())


@pytest.fixture
async def broker(office: Office) -> AsyncIterator[OperatorsBroker]:
    broker = OperatorsBroker(office)
    await broker.start()
    yield broker
    broker.kill()


async def test_the_broker_refuses_a_revoked_certificate_after_a_reload_and_others_go_on(office, broker):
    _, gone = office.enrolled("a")
    _, stays = office.enrolled("b")
    first = await broker.connect("acme_a", gone)
    other = await broker.connect("acme_b", stays)
    for again in range(2):
        if again:
            office.desk().revoke("acme_b")
        else:
            office.desk().revoke("acme_a")
        broker.reload()
        await until_refused(broker, "acme_b" if again else "acme_a", stays if again else gone)
        if not again:
            assert await (await other.send("lm/v1/acme/acme_b/probe", b"x")) in (0, 0x10)
            fresh = await broker.connect("acme_b2", stays)
            await fresh.close()
    # What is open stays open until the broker is restarted: the command line says so.
    assert await (await first.send("lm/v1/acme/acme_a/probe", b"x")) in (0, 0x10)
    await first.close()
    await other.close()
    new_asker, new = office.enrolled("a")
    assert new_asker.node == "acme_a"
    await (await broker.connect("acme_a", new)).close()


async def until_refused(broker: OperatorsBroker, node: str, files) -> None:
    """The signal is on its way: the next connections may still succeed, but not for long."""
    async with asyncio.timeout(10):
        while True:
            try:
                connection = await broker.connect(f"{node}-again", files)
            except BrokerRefused as error:
                refusal = error
                break
            await connection.close()
    assert "our certificate is revoked" in refusal.what


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await condition():  # noqa: ASYNC110  another thread has no event to set
            await asyncio.sleep(STEP)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[CollectorStore]:
    store = open_store(str(tmp_path / "collector.db"), consumer="cloud", clock=SystemClock())
    await store.open()
    yield store
    await store.close()


async def test_a_collector_takes_nothing_more_of_a_revoked_node_and_keeps_what_it_held(office, tmp_path, store):
    """A plain broker here: what is refused is refused by the collector itself, whoever let it through."""
    asker, _ = office.enrolled("l1", role=ROLE)
    office.enrolled("l2")
    assert asker.node == NODE
    plain = Mosquitto(tmp_path)
    await plain.start()
    collector = Collector(
        consumer="cloud",
        client_id="cloud-1",
        nodes=read_nodes(office.nodes_file),
        broker=MqttBroker(plain.settings("cloud-1")),
        store=store,
        sign=lambda ack: sign_ack(ack, ACK),
        clock=FastClock(10.0),
        random=lambda: 0.0,
        new_token=lambda: "token",
    )
    clock = ManualClock()
    watch = NodesFile(office.nodes_file, lambda: read_nodes(office.nodes_file), collector.know)
    epoch = Epoch(ROLE)
    for _ in range(3):
        epoch.add(EventClass.AUDIT)
    epoch.seal()
    topic = NodeTopics("acme", NODE).event(EventClass.AUDIT)
    listener = await Listener.on(plain.settings("node"), NodeTopics("acme", NODE).ack("cloud"))

    async def held() -> list[bytes]:
        rows = await store.rows("SELECT body FROM held_event WHERE source = :s ORDER BY seq", s=SOURCE)
        return [row[0] for row in rows]

    async def twice_refused() -> bool:
        rows = await store.rows("SELECT sum(count) FROM refused WHERE reason = 'unknown_node'")
        return bool(rows == [(2,)])

    async def more_held() -> bool:
        return len(await held()) > len(before)

    async with running(collector.run), running(lambda: watch.run(clock)):
        await until(lambda: collector.subscribed)
        for body in epoch.bodies():
            await (await listener.connection.send(topic, body))
        await until(lambda: listener.heard)
        before = await held()
        assert before == epoch.bodies()
        office.desk().revoke(NODE)
        await clock.advance(LOOK_S)
        epoch.add(EventClass.AUDIT)
        for body in (*epoch.bodies()[-1:], epoch.seal()):
            await (await listener.connection.send(topic, body))
        await eventually(twice_refused)
        assert await held() == before
        # Enrolled anew with a key of its own, it is listened to again.
        office.enrolled("l1", role=SigningKey(b"n" * 32))
        await clock.advance(LOOK_S)
        anew = Epoch(SigningKey(b"n" * 32))
        for body in (*anew.bodies(), anew.seal()):
            await (await listener.connection.send(topic, body))
        await eventually(more_held)
    await listener.close()
    plain.kill()


async def test_a_list_that_cannot_be_read_changes_nothing(office):
    office.enrolled("l1")
    heard: list[list[str]] = []
    watch = NodesFile(
        office.nodes_file, lambda: read_nodes(office.nodes_file), lambda nodes: heard.append(sorted(nodes))
    )
    clock = ManualClock()
    async with running(lambda: watch.run(clock)):
        await clock.advance(LOOK_S)
        for broken in (b"", b"{", b'{"edition":1,"nodes":[{"node":"x","keys":[]}]}'):
            office.nodes_file.write_bytes(broken)
            await clock.advance(LOOK_S)
        office.nodes_file.unlink()
        await clock.advance(LOOK_S)
        office.enrolled("l2")
        await clock.advance(LOOK_S)
    assert [names for names in heard if names] == [["acme_l1"], ["acme_l1", "acme_l2"]]


def test_a_list_of_nodes_is_read_as_it_was_written(office):
    asker, _ = office.enrolled("l1")
    assert decode(office.nodes_file.read_bytes())["acme_l1"].instance == asker.role.kid
    with pytest.raises(ConfigError, match=r"nowhere\.json"):
        read_nodes(office.folder / "nowhere.json")
