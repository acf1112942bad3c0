"""Presence on real sockets: what the broker keeps under the node's name is true, whatever happens around it."""

from __future__ import annotations

import msgspec

from cloud_sync import agent_asyncio
from cloud_sync.agent_asyncio import LOOK_EVERY, SILENT_AFTER
from cloud_sync.client_mqtt import MqttBroker
from cloud_sync.presence import decode
from cloud_sync.presence_asyncio import MEND_PAUSE, PRESENCE_EVERY
from cloud_sync.session import LinkState
from edge.clock_sim import ManualClock
from edge.link import Link, Out, Serving
from tests.cloud_sync.broker_rig import Listener, Mosquitto, until
from tests.cloud_sync.rig import NODE, TENANT, Epoch, cloud_sync, running

ROOT = f"lm/v1/{TENANT}/{NODE}"
OWN = f"{ROOT}/#"


def presence_of(listener: Listener) -> list[tuple[bool, bool, int]]:
    told = [msgspec.json.decode(payload) for payload in listener.payloads("/presence")]
    return [(one["online"], one["serving"], one["link"]) for one in told]


async def kept_presence(broker: Mosquitto) -> tuple[bool, int]:
    """What somebody who asks the broker only now is told: (online, link)."""
    late = await Listener.on(broker.settings("late", session_expiry=0), f"{ROOT}/presence")
    await until(lambda: late.heard)
    await late.close()
    told = decode(late.heard[0].payload)
    return told.online, told.link


async def test_presence_tells_link_and_serving_and_the_will_tells_a_death(broker, agent):
    listener = await Listener.on(broker.settings("listener"), OWN)
    sync = cloud_sync(agent, broker.settings(NODE))
    async with running(sync.run) as task:
        await until(lambda: (True, True, 1) in presence_of(listener))
        agent.server.push(Serving(serving=False))
        await until(lambda: presence_of(listener)[-1] == (True, False, 1))
        await agent.stop()
        assert isinstance(agent.asked[1], Link)
        await agent.start()
        await until(lambda: presence_of(listener)[-1] == (True, True, 1))
        task.cancel()
        await until(lambda: presence_of(listener)[-1] == (False, False, 1))
    await listener.close()


async def test_a_new_epoch_of_the_role_agent_begins_a_new_connection(broker, agent):
    """Links count anew in an epoch, and the will that the broker holds names the old one."""
    listener = await Listener.on(broker.settings("listener"), OWN)
    sync = cloud_sync(agent, broker.settings(NODE))
    async with running(sync.run):
        await until(lambda: (True, True, 1) in presence_of(listener))
        await agent.stop()
        agent.epochs.append(Epoch(agent.key))
        await agent.start()
        await until(lambda: presence_of(listener)[-1] == (True, True, 2))
        told = [msgspec.json.decode(payload)["epoch"] for payload in listener.payloads("/presence")]
        assert (told[0], told[-1]) == (agent.epochs[0].id, agent.epochs[1].id)
    await listener.close()


async def test_retained_copies_are_published_again_every_hour(broker, agent, monkeypatch):
    """A broker may lose them at any time and says nothing."""
    monkeypatch.setattr(agent_asyncio, "LOOK_EVERY", 1e9)  # a clock moved by hours leaves no time for an answer
    clock = ManualClock()
    listener = await Listener.on(broker.settings("listener"), OWN)
    sync = cloud_sync(agent, broker.settings(NODE), clock=clock)
    async with running(sync.run):
        await until(lambda: len(presence_of(listener)) == 1)
        agent.server.push(Out("reported", "", b"signed state"))
        for hours in (1, 2, 3):
            await until(lambda hours=hours: len(listener.payloads("/reported")) == hours)  # type: ignore[misc]
            assert len(presence_of(listener)) == hours
            await clock.advance(PRESENCE_EVERY + 1.0)
    assert set(listener.payloads("/reported")) == {b"signed state"}
    await listener.close()


async def test_what_a_node_reports_is_published_once_however_often_the_role_agent_says_it(broker, agent):
    """It does so at every HELLO, and there is one every few seconds."""
    listener = await Listener.on(broker.settings("listener"), OWN)
    sync = cloud_sync(agent, broker.settings(NODE))
    async with running(sync.run):
        await until(lambda: (True, True, 1) in presence_of(listener))
        for word in (b"first", b"first", b"first", b"second"):
            agent.server.push(Out("reported", "", word))
        await until(lambda: b"second" in listener.payloads("/reported"))
    assert listener.payloads("/reported") == [b"first", b"second"]
    await listener.close()


async def test_a_role_agent_that_says_nothing_serves_nobody(broker, agent):
    """Its socket stays open when it is stopped or hangs; presence says so within ten seconds."""
    clock = ManualClock()
    listener = await Listener.on(broker.settings("listener"), OWN)
    sync = cloud_sync(agent, broker.settings(NODE), clock=clock)
    async with running(sync.run):
        await until(lambda: (True, True, 1) in presence_of(listener))
        agent.mute()
        await clock.advance(LOOK_EVERY)
        await clock.advance(SILENT_AFTER)
        await until(lambda: presence_of(listener)[-1] == (True, False, 1))
        agent.speak()
        await until(lambda: presence_of(listener)[-1] == (True, True, 1))
    await until(lambda: len(presence_of(listener)) == 4)  # the fourth is the goodbye, on its way
    await listener.close()


async def test_the_late_will_of_an_older_connection_is_put_right(broker, agent):
    """Some brokers publish the will of a connection that was taken over, and that after the new one's presence."""
    listener = await Listener.on(broker.settings("listener"), OWN)
    sync = cloud_sync(agent, broker.settings(NODE))
    async with running(sync.run):
        await until(lambda: (True, True, 1) in presence_of(listener))
        broker.kill()
        await listener.close()
        await broker.start()
        listener = await Listener.on(broker.settings("listener"), OWN)
        await until(lambda: sync.state is LinkState.ONLINE and (True, True, agent.link) in presence_of(listener))
        will = msgspec.json.encode(
            {**msgspec.json.decode(listener.payloads("/presence")[-1]), "online": False, "link": 1}
        )
        for lie in (will, b"no presence at all"):
            await (await listener.connection.send(f"{ROOT}/presence", lie, retain=True))
            # Only a presence behind the lie puts it right: cloud-sync's probe and its events are heard meanwhile too.
            await until(lambda lie=lie: lie in listener.payloads("/presence")[:-1])  # type: ignore[misc]
            assert await kept_presence(broker) == (True, agent.link)
    await listener.close()


async def test_the_presence_of_a_newer_connection_is_left_alone(broker, agent):
    """A second cloud-sync of the same node is the one that counts; the first must not fight it."""
    clock = ManualClock()
    listener = await Listener.on(broker.settings("listener"), OWN)
    sync = cloud_sync(agent, broker.settings(NODE), clock=clock)
    async with running(sync.run):
        await until(lambda: sync.state is LinkState.ONLINE)
        await until(lambda: (True, True, 1) in presence_of(listener))
        newer = {**msgspec.json.decode(listener.payloads("/presence")[-1]), "link": 7}
        await (await listener.connection.send(f"{ROOT}/presence", msgspec.json.encode(newer), retain=True))
        await (await listener.connection.send(f"{ROOT}/cmd/open", b"behind it"))
        await until(lambda: agent.offers)
        await clock.advance(2 * MEND_PAUSE)
        await (await listener.connection.send(f"{ROOT}/cmd/open", b"and behind that"))
        await until(lambda: len(agent.offers) == 2)
        assert await kept_presence(broker) == (True, 7)
    await listener.close()


async def test_after_a_takeover_presence_is_true(broker, agent):
    """A forgotten second process with the same client id throws us out and goes away again."""
    sync = cloud_sync(agent, broker.settings(NODE))
    async with running(sync.run):
        await until(lambda: sync.state is LinkState.ONLINE)
        second = await MqttBroker(broker.settings(NODE)).connect(None)
        await until(lambda: agent.link == 2 and sync.state is LinkState.ONLINE)
        await second.close()
        assert await kept_presence(broker) == (True, 2)
