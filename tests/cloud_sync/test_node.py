"""The node's half on real sockets: a scripted role agent, cloud-sync, mosquitto, and somebody who listens."""

from __future__ import annotations

import msgspec
import pytest

from cloud_sync.ports import MAX_IN_FLIGHT
from cloud_sync.session import LinkState
from edge import jose
from edge.event import EventClass
from edge.link import Held, JournalView, Out, Pull
from tests.cloud_sync.broker_rig import Listener, Mosquitto, until
from tests.cloud_sync.rig import CONSUMER, NODE, PULL_BYTES, TENANT, cloud_sync, running

ROOT = f"lm/v1/{TENANT}/{NODE}"
OWN = f"{ROOT}/#"


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_events_reach_a_listener_unchanged_and_in_order(broker, agent, protocol):
    for n in range(300):
        agent.epoch.add(EventClass.AUDIT)
        agent.epoch.add(EventClass.TELEMETRY, "vehicle.fix", {"n": n})
    listener = await Listener.on(broker.settings("listener", protocol), OWN)
    sync = cloud_sync(agent, broker.settings(NODE, protocol))
    async with running(sync.run):
        await until(lambda: len(listener.events(EventClass.TELEMETRY)) == 300)
        assert listener.events() == agent.epoch.bodies()
        assert listener.events(EventClass.TELEMETRY) == agent.epoch.bodies(EventClass.TELEMETRY)
        # A backlog travels as batches, what happens now as single events.
        assert len(listener.payloads("/evt/audit")) == 0
        agent.epoch.add(EventClass.AUDIT)
        agent.wake()
        await until(lambda: listener.payloads("/evt/audit"))
        assert listener.payloads("/evt/audit") == [agent.epoch.bodies()[-1]]
        await until(lambda: sync.state is LinkState.ONLINE)
    await listener.close()


async def test_a_command_is_acknowledged_after_the_offer_and_its_result_published(broker, agent):
    agent.results = (("018f0000-0000-7000-8000-000000000001", b"signed result"),)
    listener = await Listener.on(broker.settings("listener"), OWN)
    sync = cloud_sync(agent, broker.settings(NODE))
    async with running(sync.run):
        await until(lambda: sync.state is LinkState.ONLINE)
        await (await listener.connection.send(f"{ROOT}/cmd/open", b"signed command"))
        await until(lambda: listener.payloads("/res/018f0000-0000-7000-8000-000000000001"))
        assert [(offer.kind, offer.name, offer.token) for offer in agent.offers] == [("cmd", "open", b"signed command")]
        agent.server.push(Out("live", "fix", b"newest"))
        await until(lambda: listener.payloads("/live/fix") == [b"newest"])
    await listener.close()


async def test_a_kept_command_and_strays_are_dropped_and_counted(broker, agent):
    listener = await Listener.on(broker.settings("listener"), OWN)
    await (await listener.connection.send(f"{ROOT}/cmd/open", b"kept", retain=True))
    await (await listener.connection.send(f"{ROOT}/desired", b"document", retain=True))
    sync = cloud_sync(agent, broker.settings(NODE))
    async with running(sync.run):
        await until(lambda: agent.offers)
        await (await listener.connection.send(f"{ROOT}/ack/{CONSUMER}", b"x" * 40_000))
        await (await listener.connection.send(f"{ROOT}/cmd/Not-A-Name", b"x"))
        await until(lambda: sync.dropped["refused"])
        assert [(offer.kind, offer.token) for offer in agent.offers] == [("desired", b"document")]
        assert sync.dropped == {"retained_command": 1, "oversized": 1, "refused": 1}
    await listener.close()


async def test_a_consumers_ack_reaches_the_role_agent_and_what_it_wants_goes_again(broker, agent):
    for _ in range(5):
        agent.epoch.add(EventClass.AUDIT)
    listener = await Listener.on(broker.settings("listener"), OWN)
    sync = cloud_sync(agent, broker.settings(NODE))
    async with running(sync.run):
        await until(lambda: len(listener.events()) == 6)
        claims = {
            "iss": CONSUMER,
            "aud": f"{NODE}/{agent.key.kid}",
            "journals": {agent.epoch.id: {"audit": [2, agent.epoch.hashes[2].hex()]}},
            "want": [[agent.epoch.id, "audit", 4, 5]],
        }
        token = jose.sign(claims, jose.ACK, agent.consumer)
        await (await listener.connection.send(f"{ROOT}/ack/{CONSUMER}", token))
        await until(lambda: len(listener.events()) == 8)
        assert listener.events()[6:] == agent.epoch.bodies()[3:5]
        assert agent.held() == 2
        assert [one.consumer for one in agent.asked if isinstance(one, Held)] == [CONSUMER]
    await listener.close()


async def test_a_look_that_is_older_than_what_was_pulled_since_sends_nothing_again(broker, agent):
    """The role agent answers in order; a busy cloud-sync may read the answer to its look after that to a later pull."""
    listener = await Listener.on(broker.settings("listener"), OWN)
    sync = cloud_sync(agent, broker.settings(NODE))
    async with running(sync.run):
        for _ in range(3):
            agent.epoch.add(EventClass.AUDIT)
        agent.wake()
        await until(lambda: len(listener.events()) == 4)
        before = JournalView(agent.epoch.id, {"audit": (0, 1), "state": (0, 0), "telemetry": (0, 0)})
        welcome = sync._agent.welcome
        assert welcome is not None
        await sync._welcomed(msgspec.structs.replace(welcome, n=2, journals=(before,)))
        last = agent.epoch.add(EventClass.AUDIT)
        agent.wake()
        await until(lambda: last in listener.events())
        assert listener.events() == agent.epoch.bodies()
    await listener.close()


async def test_a_killed_broker_costs_nothing(broker, agent):
    """kill -9 in the middle of a drain; the broker comes back empty, and every event arrives. What it had taken and not
    passed on goes again by itself; the drain goes on where it was, the send position never goes back.
    """
    for _ in range(3000):
        agent.epoch.add(EventClass.AUDIT)
    batch_bytes = 8 * 1024
    listener = await Listener.on(broker.settings("listener"), OWN)
    sync = cloud_sync(agent, broker.settings(NODE), pace=10.0, batch_bytes=batch_bytes, repeat_after=100.0)
    async with running(sync.run):
        await until(lambda: len(listener.events()) > 1500)
        broker.kill()
        first = listener.events()
        await listener.close()
        await until(lambda: sync.state is not LinkState.ONLINE)
        asked = len(agent.asked)
        await broker.start()
        listener = await Listener.on(broker.settings("listener"), OWN)
        await until(lambda: set(first + listener.events()) == set(agent.epoch.bodies()), 50)
        again = next(each for each in agent.asked[asked:] if isinstance(each, Pull) and each.event_class == "audit")
        # What was in flight, and the rest of the answer that it was part of.
        assert size_of(agent.epoch.bodies()[again.after : len(first)]) <= MAX_IN_FLIGHT * batch_bytes + PULL_BYTES
        assert agent.link >= 2
    await listener.close()


def size_of(bodies: list[bytes]) -> int:
    return sum(map(len, bodies))


async def test_missing_rights_are_told_and_what_works_is_used(tmp_path, agent):
    rights = tmp_path / "acl"
    rights.write_text(f"topic write {ROOT}/evt/#\ntopic read {ROOT}/#\n")
    broker = Mosquitto(tmp_path, ["allow_anonymous true", f"acl_file {rights}"])
    await broker.start()
    listener = await Listener.on(broker.settings("listener"), OWN)
    sync = cloud_sync(agent, broker.settings(NODE))
    async with running(sync.run):
        await until(lambda: sync.state is LinkState.LIMITED)
        await until(lambda: listener.events() == agent.epoch.bodies())
    await listener.close()
    broker.kill()


async def test_a_result_or_a_presence_that_the_broker_refuses_is_counted_and_told(tmp_path, agent):
    """The probe comes back and events go through: without it all would look well, and no issuer would hear anything."""
    rights = tmp_path / "acl"
    rights.write_text(f"topic write {ROOT}/evt/#\ntopic write {ROOT}/probe\ntopic read {ROOT}/#\n")
    broker = Mosquitto(tmp_path, ["allow_anonymous true", f"acl_file {rights}"])
    await broker.start()
    told: list[str] = []
    sync = cloud_sync(agent, broker.settings(NODE), trouble=lambda _, what: told.append(what))
    async with running(sync.run):
        await until(lambda: sync.state is LinkState.ONLINE)
        agent.server.push(Out("res", "018f0000-0000-7000-8000-000000000001", b"signed result"))
        agent.server.push(Out("reported", "", b"signed state"))
        await until(lambda: sync.dropped.keys() == {"presence_refused", "res_refused", "reported_refused"})
    for kind in ("presence", "res", "reported"):
        assert f"the broker refuses {kind} (0x87); give {NODE} its topic rights" in told
    broker.kill()
