"""Role agent, cloud-sync, broker and collector on real sockets: every event is held exactly once, whatever dies."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from amqtt.broker import Broker as Amqtt

from agents.demo_broker import free_port
from cloud_sync.client_mqtt import BrokerSettings, MqttBroker
from cloud_sync.collector import load_nodes
from cloud_sync.collector_asyncio import Collector
from cloud_sync.collector_open_sql import open_store
from cloud_sync.collector_sql import CollectorStore
from cloud_sync.rights import mosquitto_acl
from edge.acks import sign_ack
from edge.event import EventClass, JournalBegun
from edge.keys import SigningKey
from edge.system_clock import SystemClock
from tests.authority import Certifier
from tests.cloud_sync.broker_rig import Listener, Mosquitto, until
from tests.cloud_sync.rig import CONSUMER, NODE, SOURCE, TENANT, Epoch, FastClock, ScriptedAgent, cloud_sync, running

ROLE, CONSUMER_KEY = SigningKey(b"r" * 32), SigningKey(b"c" * 32)


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[ScriptedAgent]:
    agent = ScriptedAgent(tmp_path / "role.sock", ROLE, CONSUMER_KEY)
    await agent.start()
    yield agent
    await agent.stop()


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    mosquitto = Mosquitto(tmp_path)
    await mosquitto.start()
    yield mosquitto
    mosquitto.kill()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[CollectorStore]:
    store = open_store(str(tmp_path / "collector.db"), consumer=CONSUMER, clock=SystemClock())
    await store.open()
    yield store
    await store.close()


def collector(store: CollectorStore, settings: BrokerSettings, speed: float = 5.0) -> Collector:
    rng = random.Random(4)
    return Collector(
        consumer=CONSUMER,
        client_id=settings.client_id,
        nodes=load_nodes([(TENANT, NODE, [ROLE.public])]),
        broker=MqttBroker(settings),
        store=store,
        sign=lambda ack: sign_ack(ack, CONSUMER_KEY),
        clock=FastClock(speed),
        random=lambda: rng.random() / 20,
        new_token=lambda: rng.randbytes(8).hex(),
    )


async def held(store: CollectorStore, event_class: EventClass = EventClass.AUDIT) -> list[bytes]:
    sql = "SELECT body FROM held_event WHERE source = :source AND class = :class ORDER BY epoch, seq"
    return [body for (body,) in await store.rows(sql, **{"source": SOURCE, "class": event_class.value})]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_every_event_is_held_once_and_acknowledged(broker, agent, store, protocol):
    epoch = agent.epoch
    for n in range(200):
        epoch.add(EventClass.AUDIT)
        epoch.add(EventClass.STATE, "locker.door.state", {"n": n})
        if n % 60 == 50:
            epoch.seal()
    epoch.seal()
    epoch.thin(EventClass.STATE, 1, 150)
    listening = collector(store, broker.settings("collector", protocol, receive_maximum=500))
    sync = cloud_sync(agent, broker.settings(NODE, protocol))
    async with running(listening.run), running(sync.run):
        await until(lambda: agent.held() == epoch.last[EventClass.AUDIT])
        await until(lambda: agent.held(EventClass.STATE) == 200)
    assert listening.subscribed == "shared"
    assert await held(store) == epoch.bodies()
    assert await held(store, EventClass.STATE) == epoch.bodies(EventClass.STATE)[1:]
    assert await store.rows("SELECT * FROM quarantine") == []
    assert agent.refused == []


async def test_an_unsealed_tail_is_kept_and_not_acknowledged(broker, agent, store):
    agent.epoch.seal()
    agent.epoch.add(EventClass.AUDIT)
    listening = collector(store, broker.settings("collector"))
    async with running(listening.run), running(cloud_sync(agent, broker.settings(NODE)).run):
        await until(lambda: agent.held() == 2)
        assert await store.rows("SELECT count(*) FROM event") == [(3,)]
        assert len(await held(store)) == 2
        agent.epoch.seal()
        agent.wake()
        await until(lambda: agent.held() == 4)


async def test_epochs_are_ordered_by_what_their_first_event_says(broker, agent, store):
    """The old epoch was never sealed again; the new one's sealed beginning vouches for where it ended."""
    old = agent.epoch
    old.seal()
    for _ in range(3):
        old.add(EventClass.AUDIT)
    begun = JournalBegun(old.id, 5, "rolled_back", kept_seq=5, kept_hash=old.hashes[5].hex())
    agent.epochs.append(Epoch(ROLE, begun=begun))
    agent.epoch.seal()
    listening = collector(store, broker.settings("collector"))
    async with running(listening.run), running(cloud_sync(agent, broker.settings(NODE)).run):
        await until(lambda: agent.held() == 2 and old.acked[EventClass.AUDIT] == 5)
    assert await store.rows("SELECT epoch, previous, cause FROM epoch WHERE previous <> ''") == [
        (agent.epoch.id, old.id, "rolled_back")
    ]


async def test_a_broker_that_forgets_a_slow_consumer_loses_nothing(tmp_path, agent, store):
    """mosquitto keeps some messages for who is absent and says "success" to the rest: those go again."""
    broker = Mosquitto(tmp_path, ["allow_anonymous true", "max_queued_messages 100"])
    await broker.start()
    listening = collector(store, broker.settings("collector"))
    async with running(listening.run):
        await until(lambda: listening.subscribed)
    for n in range(2000):
        agent.epoch.add(EventClass.AUDIT)
        if n % 60 == 0:
            agent.epoch.seal()
    agent.epoch.seal()
    sync = cloud_sync(agent, broker.settings(NODE), pace=1000.0, batch_bytes=1024, clock=FastClock(30.0))
    async with running(sync.run):
        await until(lambda: sync.pump.position(agent.epoch.id, EventClass.AUDIT) == agent.epoch.last[EventClass.AUDIT])
        # PUBACKed, all of it; the broker has thrown most of it away.
        async with running(listening.run):
            await until(lambda: agent.held() == agent.epoch.last[EventClass.AUDIT], 40)
    assert await held(store) == agent.epoch.bodies()
    broker.kill()


async def test_kill_9_of_the_broker_during_a_drain(broker, agent, store):
    for n in range(4000):
        agent.epoch.add(EventClass.AUDIT)
        if n % 60 == 0:
            agent.epoch.seal()
    agent.epoch.seal()
    listening = collector(store, broker.settings("collector", receive_maximum=500))
    sync = cloud_sync(agent, broker.settings(NODE), pace=20.0, batch_bytes=8 * 1024)
    async with running(listening.run), running(sync.run):
        for mark in (500, 2000):
            await until(lambda mark=mark: agent.held() > mark)  # type: ignore[misc]
            broker.kill()
            await broker.start()
        await until(lambda: agent.held() == agent.epoch.last[EventClass.AUDIT], 40)
    assert await held(store) == agent.epoch.bodies()


async def test_mutual_tls(tmp_path, agent, store):
    """The broker takes no client without a certificate of its authority; rights follow the certificate's name."""
    authority = Certifier(tmp_path)
    server = authority.server()
    rights = tmp_path / "acl"
    rights.write_text(mosquitto_acl([CONSUMER], []))
    rights.chmod(0o600)
    lines = [f"cafile {server.ca}", f"certfile {server.certificate}", f"keyfile {server.key}"]
    lines += ["require_certificate true", "use_identity_as_username true", "tls_version tlsv1.3", f"acl_file {rights}"]
    broker = Mosquitto(tmp_path, lines)
    await broker.start()
    agent.epoch.seal()
    listening = collector(store, broker.settings("collector", tls=authority.client(CONSUMER)))
    sync = cloud_sync(agent, broker.settings(NODE, tls=authority.client(NODE)))
    async with running(listening.run), running(sync.run):
        await until(lambda: agent.held() == 2)
    broker.kill()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # amqtt leaves its sockets open
async def test_an_in_process_broker_without_shared_subscriptions(tmp_path, agent, store):
    """amqtt speaks 3.1.1, takes `$share` and sends nothing: the collector finds out and listens plainly."""
    port = free_port()
    config = {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    broker = Amqtt(config)
    await broker.start()
    agent.epoch.seal()
    settings = BrokerSettings(host="127.0.0.1", port=port, client_id="collector", protocol="3.1.1")
    listening = collector(store, settings)
    sync = cloud_sync(agent, msgspec.structs.replace(settings, client_id=NODE))
    async with running(listening.run), running(sync.run):
        await until(lambda: agent.held() == 2, 40)
        assert listening.subscribed == "plain"
    await broker.shutdown()
    del broker
    gc.collect()


async def test_what_forgers_send_is_refused_and_never_blocks_the_true_rows(broker, agent, store):
    """A forger who owns the broker fills every seq before the node does, with a chain of its own and false seals."""
    forger = SigningKey(b"f" * 32)
    forged = Epoch(forger)
    forged.id = agent.epoch.id
    forged.origin = msgspec.structs.replace(forged.origin, epoch=agent.epoch.id)
    forged.hashes, forged.items[EventClass.AUDIT], forged.last[EventClass.AUDIT] = forged.hashes[:1], [], 0
    listening = collector(store, broker.settings("collector"))
    async with running(listening.run):
        await until(lambda: listening.subscribed)
        attacker = await Listener.on(broker.settings("attacker"), "lm/v1/none")
        topic = f"lm/v1/{TENANT}/{NODE}/evt/audit"
        for _ in range(60):
            await (await attacker.connection.send(topic, forged.add(EventClass.AUDIT)))
        await (await attacker.connection.send(topic, forged.seal()))
        await (await attacker.connection.send(topic, b"not json"))
        await (await attacker.connection.send(f"lm/v1/{TENANT}/{TENANT}_other/evt/audit", forged.bodies()[0]))
        for _ in range(50):
            agent.epoch.add(EventClass.AUDIT)
        agent.epoch.seal()
        async with running(cloud_sync(agent, broker.settings(NODE)).run):
            await until(lambda: agent.held() == agent.epoch.last[EventClass.AUDIT])
        # A forged row for a seq that is held already is no duplicate.
        await (await attacker.connection.send(topic, forged.bodies()[0]))
        await until(lambda: listening.acks > 1)
        await attacker.close()
    assert await held(store) == agent.epoch.bodies()
    assert agent.refused == []
    counted = dict(await store.rows("SELECT reason, sum(count) FROM refused GROUP BY reason"))
    assert counted.keys() >= {"unknown_key", "malformed", "unknown_node", "not_in_chain"}
    assert (await store.rows("SELECT count(*) FROM quarantine"))[0][0] >= 50


@pytest.mark.serial
async def test_figures_of_a_drain(broker, agent, store, capsys):
    """How fast a backlog becomes held, node to signed ack, all in this one process: printed, not judged."""
    for n in range(20_000):
        agent.epoch.add(EventClass.AUDIT)
        if n % 63 == 62:
            agent.epoch.seal()
    agent.epoch.seal()
    listening = collector(store, broker.settings("collector", receive_maximum=1000), speed=1.0)
    sync = cloud_sync(agent, broker.settings(NODE), pace=10_000.0, clock=SystemClock())
    async with running(listening.run):
        await until(lambda: listening.subscribed)
        began = time.perf_counter()
        async with running(sync.run):
            await until(lambda: agent.held() == agent.epoch.last[EventClass.AUDIT], 40)
            spent = time.perf_counter() - began
    with capsys.disabled():
        count = agent.epoch.last[EventClass.AUDIT]
        print(f"\n{count} sealed audit events held in {spent:.2f} s: {count / spent:,.0f}/s, {listening.acks} acks")  # noqa: T201  figures for a person
