"""Traps a broker sets: it says "success" and forgets, dies after its word, keeps what it must not, or hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from cloud_sync.client_mqtt import MqttBroker
from cloud_sync.service import CloudSync
from cloud_sync.session import LONGEST_PAUSE, LinkState
from edge.clock_sim import ManualClock
from edge.event import EventClass
from edge.link import Out, Unsendable
from tests.cloud_sync.broker_rig import Listener, Mosquitto, until
from tests.cloud_sync.rig import NODE, TENANT, FastClock, ScriptedAgent, cloud_sync, running
from tests.cloud_sync.test_collector_end_to_end import collector, held

ROOT = f"lm/v1/{TENANT}/{NODE}"
AUDIT, STATE, TELEMETRY = EventClass


@pytest.fixture
async def brokers(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Mosquitto]]]:
    """Start a broker with these lines in its configuration; it ends with the test."""
    started: list[Mosquitto] = []

    async def start(*lines: str) -> Mosquitto:
        started.append(Mosquitto(tmp_path, ["allow_anonymous true", *lines]))
        await started[-1].start()
        return started[-1]

    yield start
    for each in started:
        each.kill()


def happen(agent: ScriptedAgent, events: int) -> None:
    """Audit events with their seals, the last of them sealed."""
    for n in range(events):
        agent.epoch.add(AUDIT)
        if n % 63 == 62:
            agent.epoch.seal()
    agent.epoch.seal()


def everything_sent(sync: CloudSync, agent: ScriptedAgent) -> bool:
    return sync.pump.position(agent.epoch.id, AUDIT) == agent.epoch.last[AUDIT]


async def test_five_thousand_events_while_the_consumer_is_away(broker, agent, store):
    """mosquitto by default keeps 1,000 messages for who is absent, answers all 5,000 with "success", and delivers the
    oldest 1,000: whoever takes a PUBACK for the end has lost 4,000 events (measured; no peer notices).
    """
    plain = await Listener.on(broker.settings("plain"), f"{ROOT}/evt/audit")
    listening = collector(store, broker.settings("collector"), speed=30.0)
    async with running(listening.run):
        await until(lambda: listening.subscribed)
    await plain.close()
    happen(agent, 5000)
    sync = cloud_sync(agent, broker.settings(NODE), pace=20_000.0, batch_bytes=0, clock=FastClock(30.0))
    async with running(sync.run):
        await until(lambda: everything_sent(sync, agent), 40.0)
        refused = [word for word in sync.pump.counts if word.startswith("refused")]
        assert refused == []  # the broker said "success" to every one
        async with running(listening.run):
            await until(lambda: agent.held() == agent.epoch.last[AUDIT], 50.0)
    assert await held(store) == agent.epoch.bodies()
    # What the same broker left to a consumer that relies on it.
    plain = Listener(await MqttBroker(broker.settings("plain")).connect(None))
    await until(lambda: len(plain.heard) >= 900)
    await asyncio.sleep(0.2)
    assert len(set(plain.events())) <= 1100
    await plain.close()


async def test_a_broker_killed_after_its_puback_has_lost_all_of_it(tmp_path, brokers, agent, store):
    """mosquitto with `persistence true` writes every half hour: of 900 messages with a PUBACK kill -9 leaves none."""
    broker = await brokers("persistence true", f"persistence_location {tmp_path}/")
    listening = collector(store, broker.settings("collector"))
    async with running(listening.run):
        await until(lambda: listening.subscribed)
    happen(agent, 900)
    sync = cloud_sync(agent, broker.settings(NODE), batch_bytes=0)
    async with running(sync.run):
        await until(lambda: everything_sent(sync, agent))
        broker.kill()
        await broker.start()
        async with running(listening.run):
            await until(lambda: agent.held() == agent.epoch.last[AUDIT], 40.0)
    assert await held(store) == agent.epoch.bodies()


async def test_what_happens_without_a_connection_is_sent_once(broker, agent):
    """paho says "no connection" to publish() and keeps the message all the same: who tries again sends it twice."""
    listener = await Listener.on(broker.settings("listener"), f"{ROOT}/#")
    clock = ManualClock()
    sync = cloud_sync(agent, broker.settings(NODE), clock=clock)
    async with running(sync.run):
        await until(lambda: sync.state is LinkState.ONLINE)
        broker.kill()
        await listener.close()
        await until(lambda: sync.state is not LinkState.ONLINE)
        happen(agent, 20)
        agent.wake()
        assert agent.server is not None
        agent.server.push(Out("res", "018f0000-0000-7000-8000-000000000001", b"signed result"))
        for _ in range(3):  # tries without a broker
            await until(lambda: sync.state is LinkState.BACKING_OFF)
            await clock.advance(LONGEST_PAUSE)
        await until(lambda: sync.state is LinkState.BACKING_OFF)
        await broker.start()
        listener = await Listener.on(broker.settings("listener"), f"{ROOT}/#")
        await clock.advance(LONGEST_PAUSE)
        await until(lambda: listener.events()[-1:] == agent.epoch.bodies()[-1:])
        await until(lambda: listener.payloads("/res/018f0000-0000-7000-8000-000000000001"))
    fresh = agent.epoch.bodies()[1:]  # the first was sent before
    assert [body for body in listener.events() if body in fresh] == fresh
    assert listener.payloads("/res/018f0000-0000-7000-8000-000000000001") == [b"signed result"]
    await listener.close()


async def test_a_kept_command_opens_nothing_at_any_start(broker, agent):
    """Tasmota, Sonoff and their kin carry out a retained command at every boot and reconnect: a garage door opened."""
    person = await Listener.on(broker.settings("person", session_expiry=0), f"{ROOT}/res/+")
    await (await person.connection.send(f"{ROOT}/cmd/open", b"kept", retain=True))
    for _ in range(3):  # a start each
        sync = cloud_sync(agent, broker.settings(NODE))
        async with running(sync.run):
            await until(lambda: sync.dropped["retained_command"])  # noqa: B023  awaited at once
            await until(lambda: sync.state is LinkState.ONLINE)  # noqa: B023  awaited at once
            second = await MqttBroker(broker.settings(NODE)).connect(None)  # throws it out: a reconnect
            await until(lambda: sync.dropped["retained_command"] >= 2)  # noqa: B023  awaited at once
            await second.close()
    assert agent.offers == []
    # What is sent now is offered: the way is open.
    sync = cloud_sync(agent, broker.settings(NODE))
    async with running(sync.run):
        await until(lambda: sync.state is LinkState.ONLINE)
        await (await person.connection.send(f"{ROOT}/cmd/open", b"now"))
        await until(lambda: [offer.token for offer in agent.offers] == [b"now"])
    await person.close()


POISON = [
    pytest.param("5", "message_size_limit 3000", "connection_lost", id="protocol error"),
    pytest.param("5", "max_packet_size 4000", "too_large", id="announced"),
    pytest.param("3.1.1", "max_packet_size 4000", "connection_lost", id="hangs up"),
]


@pytest.mark.parametrize(("protocol", "limit", "reason"), POISON)
async def test_an_event_that_the_broker_will_not_take_holds_up_nobody(brokers, agent, protocol, limit, reason):
    """thin-edge.io's bridge stood still on one message over 16 kB until its database was deleted (thin-edge #4209)."""
    broker = await brokers(limit)
    for event_class in (AUDIT, TELEMETRY):
        agent.epoch.add(event_class, "big.event", "x" * 5000)
        for _ in range(5):
            agent.epoch.add(event_class)
    big = {bytes(body) for each in EventClass for body in agent.epoch.bodies(each) if len(body) > 5000}
    listener = await Listener.on(broker.settings("listener", protocol), f"{ROOT}/evt/#")
    sync = cloud_sync(agent, broker.settings(NODE, protocol), batch_bytes=2000)
    async with running(sync.run):
        for event_class in (AUDIT, TELEMETRY):
            wanted = set(agent.epoch.bodies(event_class)) - big
            await until(lambda: wanted <= set(listener.events(event_class)), 40.0)  # noqa: B023  awaited at once
        await until(lambda: len(told(agent)) == 2)
    assert told(agent) == {("audit", 2, reason), ("telemetry", 1, reason)}
    await listener.close()


def told(agent: ScriptedAgent) -> set[tuple[str, int, str]]:
    """What the role agent was told that the broker will not take."""
    return {(one.event_class, one.seq, one.reason) for one in agent.asked if isinstance(one, Unsendable)}


async def test_without_the_right_to_publish_audit_the_rest_goes_on_and_a_person_is_told(tmp_path, brokers, agent):
    """A broker that refuses says so in the PUBACK alone; whoever does not read its reason takes it for success."""
    rights = tmp_path / "acl"
    others = "".join(f"topic write {ROOT}/{name}\n" for name in ("evt/telemetry/#", "probe", "presence"))
    rights.write_text(f"topic read {ROOT}/#\n{others}")
    broker = await brokers(f"acl_file {rights}")
    agent.epoch.add(TELEMETRY, "vehicle.fix")
    listener = await Listener.on(broker.settings("listener"), f"{ROOT}/#")
    sync = cloud_sync(agent, broker.settings(NODE), clock=FastClock(60.0))
    troubles: list[tuple[str, str]] = []
    sync._trouble = lambda part, what: troubles.append((part, what))
    async with running(sync.run):
        await until(lambda: listener.events(TELEMETRY) == agent.epoch.bodies(TELEMETRY))
        await until(lambda: troubles)
        assert troubles[0][0] == "rights"
        assert "audit events: not_authorised" in troubles[0][1]
        # The right is given: mosquitto reads its list anew, and the class goes on from where it stood.
        rights.write_text(f"topic readwrite {ROOT}/#\n")
        assert broker.process is not None
        broker.process.send_signal(1)
        await until(lambda: listener.events() == agent.epoch.bodies())
    assert told(agent) == set()
    await listener.close()
