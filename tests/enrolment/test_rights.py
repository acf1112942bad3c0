"""What the generated ACL allows and denies, on a real mosquitto, to clients with certificates."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cloud_sync.client_mqtt import MqttConnection
from cloud_sync.rights import mosquitto_acl
from cloud_sync.topics import CONSUMED, Kind, NodeTopics, Way, consumer_probe, filter_of, shared, way_of
from edge.errors import ConfigError
from edge.event import EventClass
from edge.tls_socket import TlsFiles
from tests.cloud_sync.broker_rig import Listener, until
from tests.enrolment.broker import OperatorsBroker
from tests.enrolment.rig import Office

NOT_AUTHORISED = 0x87
A, B = NodeTopics("acme", "acme_a"), NodeTopics("acme", "acme_b")


def topics_of(node: NodeTopics) -> dict[Kind, list[str]]:
    return {
        Kind.PRESENCE: [node.presence],
        Kind.EVENT: [node.event(each) for each in EventClass],
        Kind.BATCH: [node.batch(each) for each in EventClass],
        Kind.LIVE: [node.live("fix")],
        Kind.ACK: [node.ack("hub"), node.ack("other")],
        Kind.COMMAND: [node.command("open")],
        Kind.RESULT: [node.result("018f0000-0000-7000-8000-000000000001")],
        Kind.DESIRED: [node.desired],
        Kind.ISSUERS: [node.issuers],
        Kind.REPORTED: [node.reported],
        Kind.PROBE: [node.probe],
    }


EVERY = [(node, kind, topic) for node in (A, B) for kind, topics in topics_of(node).items() for topic in topics]
OWN_UP = {topic for node, kind, topic in EVERY if node is A and way_of(kind) is not Way.DOWN}
OWN_DOWN = {A.presence} | {topic for node, kind, topic in EVERY if node is A and way_of(kind) is not Way.UP}
ALL_UP = {topic for _, kind, topic in EVERY if way_of(kind) is Way.UP}
SENT_BY_STAFF = {topic for _, kind, topic in EVERY if kind in (Kind.COMMAND, Kind.DESIRED, Kind.ISSUERS)}
READ_BY_STAFF = {topic for _, kind, topic in EVERY if kind in (Kind.PRESENCE, Kind.RESULT)}

MAY_WRITE = {"acme_a": OWN_UP, "hub": {A.ack("hub"), B.ack("hub")}, "staff": SENT_BY_STAFF, "stranger": set()}
MAY_READ = {"acme_a": OWN_DOWN, "hub": ALL_UP, "staff": READ_BY_STAFF, "stranger": set()}


class World:
    def __init__(self, office: Office, broker: OperatorsBroker) -> None:
        self.broker = broker
        self.files: dict[str, TlsFiles] = {"acme_a": office.enrolled("a")[1], "acme_b": office.enrolled("b")[1]}
        for name in ("hub", "staff", "stranger", "god"):
            self.files[name] = office.client(name)

    async def connect(self, name: str, protocol: str) -> MqttConnection:
        return await self.broker.connect(name, self.files[name], protocol)


@pytest.fixture(scope="module")
def office(tmp_path_factory) -> Office:
    return Office(tmp_path_factory.mktemp("rights"), wall=time.time())


@pytest.fixture(scope="module")
def made(office: Office) -> Iterator[World]:
    """The generated rights, and beside them a user who may do everything: the witness."""
    broker = OperatorsBroker(office, mosquitto_acl(["hub"], ["staff"]) + "\nuser god\ntopic readwrite #\n")
    yield World(office, broker)
    broker.kill()


@pytest.fixture
async def world(made: World) -> AsyncIterator[World]:
    await made.broker.start()
    yield made
    made.broker.kill()


async def write_all(sender: MqttConnection) -> dict[str, int]:
    """The PUBACK's reason code for every topic of both nodes."""
    codes = [(topic, await sender.send(topic, b"x")) for _, _, topic in EVERY]
    return {topic: await code for topic, code in codes}


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("who", sorted(MAY_WRITE))
async def test_each_writes_its_own_topics_and_no_other(world, who, protocol):
    witness = await Listener.on(world.broker.secure("god", world.files["god"], session_expiry=0), "lm/v1/#", "end")
    sender = await world.connect(who, protocol)
    codes = await write_all(sender)
    await (await witness.connection.send("end", b"end"))
    await until(lambda: witness.payloads("end"))
    arrived = {message.topic for message in witness.heard} - {"end"}
    assert arrived == MAY_WRITE[who]
    if protocol == "5":
        refused = {topic for topic, code in codes.items() if code == NOT_AUTHORISED}
        assert refused == set(codes) - MAY_WRITE[who]
    await sender.close()
    await witness.close()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("who", sorted(MAY_READ))
async def test_each_reads_what_is_meant_for_it_and_no_other(world, who, protocol):
    """mosquitto takes every subscription; what counts is what comes."""
    settings = world.broker.secure(who, world.files[who], protocol, session_expiry=0)
    listener = await Listener.on(settings, "lm/v1/#")
    god = await world.connect("god", "5")
    assert set((await write_all(god)).values()) == {0}
    # The last thing that the reader may read comes last, so that nothing is on its way any more.
    last = next(iter(MAY_READ[who]), None)
    if last is None:
        await _settled(god)
    else:
        await (await god.send(last, b"end"))
        await until(lambda: b"end" in [message.payload for message in listener.heard])
    assert {message.topic for message in listener.heard} == MAY_READ[who]
    await listener.close()
    await god.close()


async def _settled(god: MqttConnection) -> None:
    """The broker hands on in order: after a message to itself has come back, everything before has been handed on."""
    await god.subscribe(["settled"])
    await (await god.send("settled", b"x"))
    await god.next_messages(1)


async def test_a_retained_message_of_another_node_is_not_seen_either(world):
    god = await world.connect("god", "5")
    await (await god.send(B.desired, b"secret", retain=True))
    await (await god.send(A.desired, b"mine", retain=True))
    listener = await Listener.on(world.broker.secure("acme_a", world.files["acme_a"]), "lm/v1/+/+/desired")
    await until(lambda: listener.heard)
    assert [message.payload for message in listener.heard] == [b"mine"]
    await listener.close()
    await god.close()


async def test_the_client_id_gives_no_rights(world):
    """Node A under node B's client id is still node A: the name comes from the certificate."""
    posing = await world.broker.connect("acme_b", world.files["acme_a"])
    assert await (await posing.send(B.event(EventClass.AUDIT), b"x")) == NOT_AUTHORISED
    assert await (await posing.send(A.event(EventClass.AUDIT), b"x")) in (0, 0x10)
    await posing.close()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_consumer_hears_through_a_shared_subscription_and_by_its_probe(world, protocol):
    settings = world.broker.secure("hub-1", world.files["hub"], protocol, session_expiry=0)
    probe = consumer_probe("acme", "hub-1")
    hub = await Listener.on(settings, *(shared("hub", name) for name in (*CONSUMED, probe)))
    node = await world.connect("acme_a", protocol)
    await (await node.send(A.event(EventClass.AUDIT), b"event"))
    await (await hub.connection.send(probe, b"probe"))
    await until(lambda: len(hub.heard) == 2)
    assert {message.payload for message in hub.heard} == {b"event", b"probe"}
    await node.close()
    await hub.close()


def test_every_kind_of_topic_has_a_way_and_its_filter_fits_it():
    for _, kind, topic in EVERY:
        pattern = filter_of(kind).split("/")
        below = topic.split("/")[4:]
        assert len(pattern) == len(below), kind
        assert all(one in ("+", two) for one, two in zip(pattern, below, strict=True)), kind
    assert {kind for _, kind, _ in EVERY} == set(Kind)


@pytest.mark.parametrize("name", ["acme_a", "hub\ntopic readwrite #", "#", "", "Hub"])
def test_no_consumer_is_called_like_a_node_or_like_a_line(name):
    with pytest.raises(ConfigError, match="cannot be"):
        mosquitto_acl([name], [])


def test_the_file_is_the_same_every_time_and_names_nobody_twice():
    text = mosquitto_acl(["hub", "cloud", "hub"], ["staff", "hub"])
    assert text == mosquitto_acl(["cloud", "hub"], ["hub", "staff"])
    assert text.count("user hub\n") == 1
    for block in text.split("\n\n"):
        lines = block.splitlines()
        assert len(lines) == len(set(lines))


def test_the_example_is_whole(tmp_path: Path):
    office = Office(tmp_path, wall=time.time())
    OperatorsBroker(office)
