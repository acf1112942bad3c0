"""What the attacker tells the consumer, and tells the node in a consumer's name. Each scene is a promise."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from cloud_sync.presence import encode
from edge import jose
from edge.acks import Ack, sign_ack
from edge.event import BEGUN, DROPPED, SEALED, EventClass, EventsDropped, JournalBegun, Origin
from edge.identifiers import uuid7
from edge.keys import SigningKey
from edge.keys_file import read_signing_key
from edge.link import MAX_PULL_EVENTS, Pull
from tests.cloud_sync.rig import Epoch
from tests.crash.journal_file import GENESIS, Entry
from tests.hostile.forgery import FORGER, Impostor, batch, spelt_otherwise
from tests.redteam.cast import INSIDER, OUTSIDER
from tests.redteam.duel import Duel
from tests.redteam.scenes_lives import all_held, another_life
from tests.redteam.verdict import set_aside

AUDIT, STATE, TELEMETRY = EventClass
FAR = 1000
"""Above whatever a run numbers, and not so far that a consumer would refuse it for that alone."""
INVENTED = 100
"""Epochs, gaps, repeats: many times what a consumer or a node has room for."""


def role_key(duel: Duel) -> SigningKey:
    """What the attacker does not have; its public half names an ``Impostor``."""
    return read_signing_key(duel.stage.site.key("role.pem"))


def forged(duel: Duel, key: SigningKey, epoch: str, base: tuple[int, bytes] = (0, GENESIS), source: str = "") -> Epoch:
    """What follows ``base`` in an audit chain, as far as hashes can tell."""
    source = source or duel.attacker.topics.source
    made = Epoch(key, source)
    made.id, made.origin = epoch, Origin(source, epoch, "session-1")
    made.starts = {"hub": 1}
    made.last = dict.fromkeys(EventClass, FAR) | {AUDIT: base[0]}
    made.hashes = [base[1]]
    made.first_unsealed = base[0] + 1
    made.items = {each: [] for each in EventClass}
    return made


def told_otherwise(body: bytes) -> bytes:
    """The same event with another id: its number and the hash before it are the true ones."""
    at = body.index(b'"id":"') + 7
    return body[:at] + (b"1" if body[at : at + 1] == b"0" else b"0") + body[at + 1 :]


def new_epoch() -> str:
    return uuid7(time.time() + 9, FORGER.sign(str(time.time_ns()).encode())[:10])


# -- audit -------------------------------------------------------------------------------------------------------------


async def the_consumer_is_told_another_story(duel: Duel) -> None:
    """True events with a byte changed, under other numbers, in other classes, and what is no event at all."""
    topics, put = duel.attacker.topics, duel.attacker.publish
    await all_held(duel)
    entries = duel.stage.present()
    last = entries[-1]
    for key in (FORGER, Impostor(role_key(duel)).as_key()):
        for base in ((last.seq, last.digest), (last.seq, bytes(32)), (0, GENESIS), (2, entries[1].digest)):
            made = forged(duel, key, last.epoch, base)
            await put(topics.batch(AUDIT), batch([made.add(AUDIT, "forged.event"), made.seal()]))
    changed = [told_otherwise(each.body) for each in entries[-6:]]
    for entry, other in zip(entries[-6:], changed, strict=True):
        body = entry.body
        await put(topics.event(AUDIT), other)
        await put(topics.event(AUDIT), body.replace(b'"seq":', b'"seq":9'))
        await put(topics.event(AUDIT), body.replace(b'"seq":', b'"seq":999999999999999'))
        await put(topics.event(AUDIT), body.replace(b"locker-7", b"locker-8"))
        await put(topics.batch(AUDIT), batch([body] * 3))
    for payload in (b"", b"{", b"[" * 30_000, b"\xff" * 1000, b"[" + b"1," * 5000 + b"1]"):
        await put(topics.batch(AUDIT), payload)
    await duel.nobody_is_deceived()
    # A changed seal has no true signature any more and is not even kept.
    changed = [body for body in changed if SEALED.encode() not in body]
    missing = set(changed) - set_aside(duel.stage.store)
    assert not missing, f"{len(missing)} events beside held ones raised no alarm"
    await duel.honest.come()


async def a_history_is_sealed_by_other_keys(duel: Duel) -> None:
    """Whole, from its first event on, as the epoch that follows the node's own and says where that one ended."""
    topics, put = duel.attacker.topics, duel.attacker.publish
    last = duel.stage.present()[-1]
    for key in (FORGER, INSIDER, Impostor(role_key(duel)).as_key()):
        ending = forged(duel, key, last.epoch, (last.seq, last.digest))
        ending.add(AUDIT, "forged.event")
        ends = (ending.last[AUDIT], ending.hashes[-1].hex())
        made = forged(duel, key, new_epoch())
        made.add(AUDIT, BEGUN, JournalBegun(last.epoch, ends[0], "rolled_back", *ends))
        for _ in range(5):
            made.add(AUDIT, "forged.event")
        made.seal()
        await put(topics.batch(AUDIT), batch([*made.bodies(), *ending.bodies()]))
    await duel.nobody_is_deceived()
    await duel.honest.come()


async def the_present_is_told_before_the_node_tells_it(duel: Duel) -> None:
    """What the node has just sealed is kept back, and the attacker is first at each of its numbers."""
    attacker, put = duel.attacker, duel.attacker.publish
    await all_held(duel)
    async with attacker.keeping_events_back():
        base, kept = await _unheard(duel)
        epoch, at = base.epoch, (base.seq, base.digest)
        *events, seal = [each.body for each in kept]
        await put(attacker.topics.batch(AUDIT), batch([*events, spelt_otherwise(seal)]))
        await duel.nobody_is_deceived()
        for key in (FORGER, Impostor(role_key(duel)).as_key()):
            made = forged(duel, key, epoch, at)
            bodies = [made.add(AUDIT, "forged.event") for _ in range(3)]
            await put(attacker.topics.batch(AUDIT), batch([*bodies, made.seal()]))
        await duel.nobody_is_deceived()
        await put(attacker.topics.batch(AUDIT), batch([*map(told_otherwise, events), seal]))
        await duel.nobody_is_deceived()
    await all_held(duel)
    await duel.nobody_is_deceived()


async def _unheard(duel: Duel) -> tuple[Entry, list[Entry]]:
    """The last event that the consumer holds, and those that follow it, the last of them a seal."""
    await duel.honest.come()
    held = duel.stage.tables().audit

    def sealed() -> bool:
        return bool(duel.stage.present()[-1].event["type"] == SEALED)

    await duel.until("the node to seal what it has", sealed)
    entries = duel.stage.present()
    base = [each for each in entries if (each.epoch, each.seq) in held][-1]
    return base, [each for each in entries if each.epoch == base.epoch and each.seq > base.seq]


async def audit_is_said_to_be_thinned(duel: Duel) -> None:
    """What is kept back, what is to come, and what is held: nobody may say of it that it was given up."""
    attacker, put = duel.attacker, duel.attacker.publish
    await all_held(duel)
    async with attacker.keeping_events_back():
        base, kept = await _unheard(duel)
        made = forged(duel, FORGER, base.epoch)
        for first, last in ((1, base.seq), (base.seq + 1, kept[-1].seq), (base.seq + 1, base.seq + 10**6)):
            notice = EventsDropped("audit", first, last, last - first + 1, "space")
            body = made._encode(AUDIT, DROPPED, notice, 0, None)
            await put(attacker.topics.event(AUDIT), body)
            await put(attacker.topics.batch(AUDIT), batch([body, *(each.body for each in kept[1:])]))
        await duel.nobody_is_deceived()
    await all_held(duel)
    await duel.nobody_is_deceived()


# -- state, presence, results ------------------------------------------------------------------------------------------


async def events_come_under_another_name_or_class(duel: Duel) -> None:
    """They carry no signature; so what they say of themselves has to be what the topic says, and where a broker may
    write at all: in epochs that the node has proven.
    """
    attacker, put = duel.attacker, duel.attacker.publish
    epoch = duel.stage.present()[-1].epoch
    neighbour = attacker.topics.source.replace("locker-7", "locker-8")
    ours, other = forged(duel, FORGER, epoch), forged(duel, FORGER, epoch, source=neighbour)
    for said, topic in ((STATE, TELEMETRY), (TELEMETRY, STATE)):
        body = ours.add(said, "locker.door.state")
        await put(attacker.topics.event(topic), body)
        await put(attacker.topics.batch(topic), batch([body]))
        await put(attacker.topics.batch(said), batch([other.add(said, "locker.door.state")]))
    for body in _audit_bodies(duel):
        await put(attacker.topics.event(STATE), body)
    invented = forged(duel, FORGER, new_epoch())
    invented.last[STATE] = 0
    await put(attacker.topics.batch(STATE), batch(invented.add(STATE, "locker.door.state") for _ in range(3)))
    await duel.consumer_has_heard()
    await duel.honest.come()
    await all_held(duel)
    await duel.nobody_is_deceived()


def _audit_bodies(duel: Duel) -> Iterable[bytes]:
    return (entry.body for entry in duel.stage.present()[-6:])


async def presence_and_results_are_forged(duel: Duel) -> None:
    """Lies about who is there are only lies, and no answer is believed that the node has not signed."""
    topics, put = duel.attacker.topics, duel.attacker.publish
    door = duel.door()
    async with duel.an_open_kept_back(door) as (_, claims):
        jti = claims["jti"]
        said = {"iss": duel.stage.audience, "aud": "staff", "id": jti, "status": "failed", "iat": 1, "reason": "jammed"}
        for key in (FORGER, INSIDER, Impostor(role_key(duel)).as_key()):
            await put(topics.result(jti), jose.sign(said, jose.RESULT, key))
        await duel.nobody_is_deceived()
        for recorded in list(duel.attacker.results.values())[:20]:
            await put(topics.result(jti), recorded[-1])
        await duel.nobody_is_deceived()
        await put(topics.result(jti), b"eyJ.e30.AA")


async def presence_is_poisoned(duel: Duel) -> None:
    """Other epochs, links beyond counting, other runs, gone, back, oversized and no presence at all: the next true one
    counts, and who waits for a command is served.
    """
    attacker, put, true = duel.attacker, duel.attacker.publish, duel.attacker.presence
    for link in (0, 1, true.link, 2**31, 2**53, 2**63 - 1):
        for online in (False, True):
            other = msgspec.structs.replace(true, link=link, online=online, epoch=new_epoch(), session="0" * 24)
            await put(attacker.topics.presence, encode(other), retain=True)
    raw: dict[str, Any] = msgspec.json.decode(encode(true))
    wrong: tuple[dict[str, Any], ...] = (
        *({"link": link} for link in (-1, 2**64, 10**40, 1.5, "9", None)),
        *({"epoch": epoch} for epoch in ("", "\0", "x" * 300, 7)),
        {"session": "x" * 5000},
        {"at": "yesterday"},
        {"at": datetime.fromtimestamp(0, UTC)},
        {"online": "no"},
    )
    for members in wrong:
        lie = raw | {"online": False, "link": 0, "epoch": new_epoch()} | members
        await put(attacker.topics.presence, msgspec.json.encode(lie))
    for noise in (b"", b"{", b"[" * 3000, b"\xff" * 100, b"x" * 100_000):
        await put(attacker.topics.presence, noise)
    await duel.nobody_is_deceived()
    await put(attacker.topics.presence, encode(msgspec.structs.replace(true, link=true.link - 1, online=False)))
    await duel.honest.open(duel.door())
    await all_held(duel)
    assert duel.stage.tables().presence["online"], "the will of a connection that is over has put the node offline"


async def what_nobody_has_is_wanted(duel: Duel) -> None:
    """Holes that a consumer would ask for without end, true acks again and again, and all events asked for at once:
    the counter serves, and what is true arrives.
    """
    attacker, put = duel.attacker, duel.attacker.publish
    epoch = duel.stage.present()[-1].epoch
    holes = forged(duel, FORGER, epoch)
    bodies = []
    for _ in range(INVENTED):
        bodies.append(holes.add(TELEMETRY, "locker.door.state"))
        holes.last[TELEMETRY] += 2
    await put(attacker.topics.batch(TELEMETRY), batch(bodies))
    for _ in range(INVENTED):
        other = msgspec.structs.replace(attacker.presence, epoch=new_epoch())
        await put(attacker.topics.presence, encode(other))
    for token in (attacker.recorded("ack/hub") * INVENTED)[:INVENTED]:
        assert await attacker.acknowledge(token) in {"", "wrong_hash", "unknown_epoch"}
    for after in range(INVENTED):
        await attacker.ask(lambda n: Pull(n, epoch, "audit", after % 7, MAX_PULL_EVENTS))  # noqa: B023  asked now
    await duel.honest.come()
    await duel.honest.collect()
    await all_held(duel)
    await duel.nobody_is_deceived()


# -- in a consumer's name ----------------------------------------------------------------------------------------------


async def a_consumer_that_the_node_has_not_says_what_it_holds(duel: Duel) -> None:
    """Its key is listed and may sign acks. After a restart a node believes its consumers when they say that its file
    went back; whoever is none of them frees no row and ends no epoch.
    """
    attacker, stage = duel.attacker, duel.stage
    await all_held(duel)
    await another_life(duel)
    async with attacker.catching("ack/hub"):
        await duel.honest.come()
        last, before = stage.present()[-1], (duel.cursor(), duel.epochs())
        for seq, digest in ((last.seq, last.digest), (last.seq, b"\xcd" * 32), (last.seq + FAR, b"\xab" * 32)):
            journals: dict[str, Any] = {last.epoch: {"audit": (seq, digest.hex())}}
            everything: Any = ((last.epoch, "audit", 1, 2**40),)
            token = sign_ack(Ack("outsider", stage.audience, journals, everything), OUTSIDER)
            for consumer in ("outsider", "hub", "nobody"):
                await attacker.acknowledge(token, consumer)
            assert (duel.cursor(), duel.epochs()) == before, "a consumer that the node does not have was believed"
    await all_held(duel)
    await duel.nobody_is_deceived()
