"""A hostile broker among the real processes delays, drops and lies; it neither opens a door nor forges audit."""

from __future__ import annotations

import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from agents.demo_world import World
from agents.site import Site
from edge.acks import Ack, ClassName, Cursor, sign_ack
from edge.command import Claims, sign_command
from edge.event import EventClass, Origin
from edge.identifiers import uuid7
from edge.identity import Identity, identify
from edge.issuers import ACK, NONCE, OPEN, Entry, IssuersDocument, sign_issuers
from edge.keys import SigningKey
from edge.keys_file import read_signing_key, read_verify_key
from tests.agents.people import People, all_held, ask, lastmile
from tests.cloud_sync.rig import Epoch
from tests.hostile.forgery import FORGER, batch, one_byte_changed
from tests.hostile.relay import Post, Relay, TwoBrokers, events_of

pytestmark = [pytest.mark.xdist_group("two-brokers"), pytest.mark.timeout(120)]

AUDIT = "lm/v1/demo/demo_corner/evt/audit"
ROOT = "lm/v1/demo/demo_corner"
Claim = dict[str, dict[ClassName, Cursor]]
bookings = (f"booking-{n}" for n in itertools.count(1))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Every process of the product, started as an operator starts them, with the hostile broker in their middle."""
    site = Site(tmp_path_factory.mktemp("hostile"))
    world = World(site, TwoBrokers(site.directory, site.collector_toml), close_after_ms=None)
    try:
        world.start()
        yield world
    finally:
        world.stop()


@pytest.fixture(scope="module")
def people(world: World) -> People:
    return People(world)


@pytest.fixture
def relay(world: World) -> Relay:
    assert isinstance(world.broker, TwoBrokers)
    return world.broker.relay


@pytest.fixture(scope="module")
def node(world: World) -> Identity:
    return identify("demo", "corner", read_verify_key(world.site.key("role.jwk")))


@pytest.fixture(autouse=True)
def every_true_event_ends_held_exactly_once(world: World, people: People) -> Iterator[None]:
    """What holds after each story: nothing but the node's journal is held, and only what its people opened is open."""
    yield
    world.until("the collector to hold the whole journal", lambda: all_held(world), 30.0)
    held = world.held()
    assert held == world.journalled()
    assert max(Counter(event["id"] for event in held).values()) == 1
    assert people.physically_opened() == people.openings


def cursor(world: World) -> int:
    """How far the node believes that its audit is held."""
    return int(ask(world.site.database, "SELECT max(seq) FROM cursor WHERE class = 0")[0][0])


def cursor_never_passes_what_is_held(world: World) -> bool:
    """Read in this order: what is held only grows."""
    believed = cursor(world)
    return believed <= len(world.held())


def collected(world: World) -> dict[str, int]:
    return dict(ask(world.site.collected, "SELECT reason, sum(count) FROM refused GROUP BY reason"))


def test_events_are_changed_forged_dropped_doubled_and_reordered(world, people, relay):
    """Pickups go on; what comes out at the other end once the broker is honest again is the journal, nothing else."""
    chance = random.Random(5)
    kept_back: list[Post] = []

    def hostile(post: Post) -> Iterable[Post]:
        topic, payload, _ = post
        if not topic.startswith(AUDIT):
            yield post
            return
        for body in events_of(payload, topic):
            yield AUDIT, one_byte_changed(body), False
            yield AUDIT, body.replace(b'"seq":', b'"seq":1'), False
            yield f"{AUDIT}/batch", batch([body.replace(b"demo_corner", b"demo_cornel")] * 2), False
            yield AUDIT, body[:-7], False
        yield from kept_back
        kept_back.clear()
        fate = chance.choice(("drop", "keep back", "double", "pass"))
        if fate == "keep back":
            kept_back.append(post)
        elif fate != "drop":
            yield from [post] * (2 if fate == "double" else 1)

    with relay.hostile(outward=hostile):
        code = people.deposit(next(bookings))
        people.collect(code)
        other = people.deposit(next(bookings), "M")
        world.until("seals to pass by", lambda: cursor_never_passes_what_is_held(world))
    people.collect(other)
    assert {"malformed", "wrong_source"} <= set(collected(world))


def test_a_whole_chain_is_forged_before_the_true_one_comes(world, people, relay):
    """At every number ahead, and from seq 1, sealed by the forger's key under the role key's name and under its own."""
    true_epoch = world.journalled()[-1]["epoch"]
    ahead = world.journalled()[-1]["seq"]
    forged = Epoch(FORGER, f"/{ROOT}")
    forged.id = true_epoch
    forged.origin = Origin(f"/{ROOT}", true_epoch, "session-1")
    chains = []
    for start in (0, ahead):
        forged.last[EventClass.AUDIT] = start
        chains += [forged.add(EventClass.AUDIT, "forged.event") for _ in range(30)] + [forged.seal()]
    for body in chains:
        relay.to_consumer(AUDIT, body)
    relay.to_consumer(f"{AUDIT}/batch", batch(chains))
    own = Epoch(FORGER, f"/{ROOT}")
    own.seal()
    relay.to_consumer(f"{AUDIT}/batch", batch(own.bodies()))
    people.collect(people.deposit(next(bookings)))
    world.until("the collector to hold the whole journal", lambda: all_held(world))
    assert not [event for event in world.held() if event["type"] == "forged.event"]
    assert collected(world)["unknown_key"] >= 3


def test_acks_are_forged_while_the_true_ones_are_kept_back(world, people, relay, node):
    """No cursor moves by them; the first true ack moves it to where it belongs."""
    hub, journal = read_signing_key(world.site.key("hub-ack.pem")), world.journalled()
    epoch, last = journal[-1]["epoch"], journal[-1]["seq"]
    hashes = dict(ask(world.site.database, "SELECT seq, lower(hex(hash)) FROM event WHERE class = 0"))
    claim: Claim = {epoch: {"audit": (last, hashes[last])}}
    staff = read_signing_key(world.site.key("issuer.pem"))
    older = next((payload for topic, payload, _ in relay.seen_inward if "/ack/" in topic), b"")

    def forgeries(ahead: int) -> list[bytes]:
        beyond: Claim = {epoch: {"audit": (ahead, "ab" * 32)}}
        return [
            sign_ack(Ack("hub", node.audience, beyond), FORGER),
            sign_ack(Ack("hub", node.audience, beyond), staff),
            sign_ack(Ack("staff", node.audience, beyond), staff),
            sign_ack(Ack("hub", f"demo_other/{node.instance}", beyond), hub),
            sign_ack(Ack("hub", f"{node.node}/{FORGER.kid}", claim), hub),
            older,
            b"",
            b"\xff" * 40_000,
            b"[" * 9000,
        ]

    with relay.hostile(inward=lambda post: () if "/ack/" in post[0] else (post,)):
        people.collect(people.deposit(next(bookings)))
        before = cursor(world)
        for token in forgeries(world.journalled()[-1]["seq"]):
            relay.to_node(f"{ROOT}/ack/hub", token)
        world.until("the collector to hold what the node does not know of", lambda: len(world.held()) > before)
        assert cursor(world) == before
    people.collect(people.deposit(next(bookings)))
    world.until("the cursor to follow", lambda: cursor(world) > before)
    assert cursor_never_passes_what_is_held(world)


def _burglars_document() -> bytes:
    entry = Entry("staff", FORGER.public.jwk(), (NONCE, OPEN, ACK), ("demo_*",), 0, int(time.time()) + 10**6)
    return sign_issuers(IssuersDocument(99, int(time.time()), (entry,)), FORGER)


def issuer_toml(world: World, port: int) -> Path:
    """What a member of staff keeps on their machine."""
    path = world.site.directory / f"issuer-{port}.toml"
    path.write_text(
        f'name = "staff"\nkey = "keys/issuer.pem"\n[broker]\nhost = "127.0.0.1"\nport = {port}\n'
        '[[nodes]]\ntenant = "demo"\nname = "corner"\nrole_key = "keys/role.jwk"\n'
    )
    return path


def test_commands_are_recorded_and_come_again_in_every_shape(world, people, relay, node):
    """The one door that staff open is the only one that moves, however often and however kept the recording comes."""
    assert isinstance(world.broker, TwoBrokers)
    told = lastmile("command", "open", node.node, "16", "--as", issuer_toml(world, world.broker.consumer_port))
    assert told.stdout == "done: opened\n", told
    people.walk_up_to("16")
    recorded = [(topic, payload) for topic, payload, _ in relay.seen_inward if "/cmd/" in topic]
    assert [topic.rpartition("/")[2] for topic, _ in recorded] == ["nonce", "open"]
    for topic, payload in recorded * 3:
        relay.to_node(topic, payload)
        relay.to_node(topic, payload, retain=True)
        relay.to_node(f"{ROOT}/cmd/open", payload)
        relay.to_node(topic, payload[:-4] + b"AAAA")
        relay.to_node(topic, b"")
    people.collect(people.deposit(next(bookings)))


def last_presence(world: World, relay: Relay) -> bytes:
    """What the node last said of itself; it may still be on its way to the broker."""

    def seen() -> bytes | None:
        return next((said for topic, said, _ in reversed(relay.seen_outward) if topic.endswith("/presence")), None)

    return world.until("the node's presence", seen)


def test_commands_and_documents_are_forged(world, people, relay, node):
    """With a key of its own, listed by a root of its own, for doors that it would like to see open."""
    relay.to_node(f"{ROOT}/issuers", _burglars_document(), retain=True)
    presence = last_presence(world, relay)
    session = json.loads(presence)["session"]
    for door in ("01", "05", "16", "*"):
        for key in (FORGER, read_signing_key(world.site.key("badges.pem"))):
            for proof in ({"nonce": "A" * 22}, {"session": session}):
                relay.to_node(f"{ROOT}/cmd/open", _command(node, key, door, **proof))
    relay.to_node(f"{ROOT}/cmd/open", b"x" * 300_000)
    relay.to_node(f"{ROOT}/cmd/open", b"[" * 30_000)
    relay.to_node(f"{ROOT}/desired", b'{"open":"all"}', retain=True)
    people.collect(people.deposit(next(bookings)))


def _command(
    node: Identity, key: SigningKey, door: str, *, nonce: str | None = None, session: str | None = None
) -> bytes:
    claims = Claims(
        iss="staff",
        aud=node.audience,
        jti=uuid7(time.time(), random.randbytes(10)),
        iat=int(time.time()),
        name="open",
        subject=door,
        args={"door": door},
        nonce=nonce,
        session=session,
    )
    return sign_command(claims, key)


def test_presence_and_results_are_forged(world, people, relay, node):
    """Lies about who is there are only lies: the next true presence stands again, no forged answer is kept."""
    presence = last_presence(world, relay)
    lie = json.loads(presence) | {"online": False, "serving": False, "link": 10**6}
    relay.to_consumer(f"{ROOT}/presence", json.dumps(lie).encode(), retain=True)
    relay.to_consumer(f"{ROOT}/presence", b"[" * 3000)
    command_id = uuid7(time.time(), random.randbytes(10))
    relay.to_consumer(f"{ROOT}/res/{command_id}", b"eyJ.e30.AA")
    people.collect(people.deposit(next(bookings)))
    world.until("the forged result to be counted", lambda: collected(world).get("forged_result"))
    assert (command_id,) not in ask(world.site.collected, "SELECT id FROM result")


def test_what_is_oversized_or_malformed_stops_nobody(world, people, relay):
    """On both sides: one count each, and the next pickup works as before."""
    for payload in (b"", b"{", b"[" * 30_000, b"\xff" * 1000, b"[" + b"1," * 5000 + b"1]", b"x" * 300_000):
        for topic in (AUDIT, f"{AUDIT}/batch", f"{ROOT}/evt/noise", f"{ROOT}/evt/audit/batch/more", "lm/v1/x"):
            relay.to_consumer(topic, payload)
        for topic in (f"{ROOT}/ack/hub", f"{ROOT}/cmd/open", f"{ROOT}/issuers", f"{ROOT}/desired"):
            relay.to_node(topic, payload)
    people.collect(people.deposit(next(bookings)))
    assert {"malformed", "unknown_topic"} <= set(collected(world))
