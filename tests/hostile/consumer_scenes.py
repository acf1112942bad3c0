"""What a hostile broker may try on a consumer. Each scene is a promise: it fails where the promise is broken."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from cloud_sync import collector_streams_sql
from cloud_sync.presence import Presence, encode
from edge.event import DROPPED, EventsDropped
from edge.identifiers import uuid7
from edge.result import Result, Status, sign_result
from tests.cloud_sync.rig import NODE, SOURCE, TENANT, Epoch, new_epoch
from tests.hostile.consumer import NEIGHBOUR, NODES, ROLE, Consumer
from tests.hostile.forgery import (
    AUDIT,
    FORGER,
    STATE,
    TELEMETRY,
    Impostor,
    batch,
    chain,
    one_byte_changed,
    spelt_otherwise,
)

OURS = NODES[NODE]
TOPICS = f"lm/v1/{TENANT}/{NODE}"
COMMAND = uuid7(1.0, bytes(10))


async def _holds_exactly(consumer: Consumer, true: Epoch) -> None:
    """After the true events came: all of them are held, once, in order, and nothing else is."""
    standing = await consumer.hears_batch(true.bodies())
    last = true.last[AUDIT]
    assert consumer.acknowledged(standing) == {true.id: {"audit": (last, true.hashes[last].hex())}}
    assert await consumer.held() == true.bodies()


async def a_chain_with_the_forgers_own_key(consumer: Consumer) -> None:
    """A whole chain from seq 1 with a seal of its own, under the node's own epoch, before the true one."""
    true = chain(ROLE, what="true.event")
    standing = await consumer.hears_batch(chain(FORGER, true.id).bodies())
    assert await consumer.held() == []
    assert consumer.acknowledged(standing) == {}
    await _holds_exactly(consumer, true)


async def a_chain_under_the_role_keys_name(consumer: Consumer) -> None:
    """The seal says that the role key made it; the signature is the forger's."""
    true = chain(ROLE, what="true.event")
    standing = await consumer.hears_batch(chain(Impostor(ROLE).as_key(), true.id).bodies())
    assert await consumer.held() == []
    assert consumer.acknowledged(standing) == {}
    await _holds_exactly(consumer, true)


async def a_chain_in_an_epoch_of_its_own(consumer: Consumer) -> None:
    """Told as the node's next epoch; an ack for it would make the node believe that it was rolled back."""
    true = chain(ROLE, what="true.event")
    await consumer.hears_batch(true.bodies())
    standing = await consumer.hears_each(chain(Impostor(ROLE).as_key(), length=9).bodies())
    assert list(consumer.acknowledged(standing)) == [true.id]
    assert await consumer.held() == true.bodies()


async def forged_rows_stand_first_at_every_number(consumer: Consumer) -> None:
    """Whoever comes first has no advantage: the true rows are found by the hash that the seal leads to."""
    true = chain(ROLE, length=8, what="true.event")
    forged = chain(FORGER, true.id, length=8).bodies()
    await consumer.hears_each(forged[:-1])
    await _holds_exactly(consumer, true)


async def every_event_has_a_byte_changed(consumer: Consumer) -> None:
    """In a batch and one by one, all but the seal: nothing of it is held, and the true bytes still are."""
    true = chain(ROLE, length=8, what="true.event")
    changed = [one_byte_changed(body) for body in true.bodies()[:-1]]
    await consumer.hears_batch([*changed, true.bodies()[-1]])
    await consumer.hears_each(changed)
    assert await consumer.held() == []
    await _holds_exactly(consumer, true)


async def a_seal_has_a_byte_changed(consumer: Consumer) -> None:
    """The changed seal would join the true chain, and end it with a lie."""
    true = chain(ROLE, what="true.event")
    *events, seal = true.bodies()
    await consumer.hears_batch([*events, seal.replace(b'"subject":"door-1"', b'"subject":"door-2"')])
    assert await consumer.held() == []
    await _holds_exactly(consumer, true)


async def a_seal_is_spelt_otherwise(consumer: Consumer) -> None:
    """The same signature in other base64 is another row with another hash, and both would seem sealed."""
    true = chain(ROLE, what="true.event")
    await consumer.hears_batch([spelt_otherwise(true.bodies()[-1]), *true.bodies()[:-1]])
    assert await consumer.held() == []
    await _holds_exactly(consumer, true)


async def true_events_come_again_under_another_epoch(consumer: Consumer) -> None:
    """The bytes are the node's own but for the epoch they name."""
    true = chain(ROLE, what="true.event")
    await consumer.hears_batch(true.bodies())
    other = new_epoch().encode()
    standing = await consumer.hears_batch([body.replace(true.id.encode(), other) for body in true.bodies()])
    assert list(consumer.acknowledged(standing)) == [true.id]
    assert await consumer.held() == true.bodies()


async def state_of_an_invented_epoch(consumer: Consumer) -> None:
    """State carries no proof; so nothing of an epoch is acknowledged before a seal has proven the epoch itself."""
    invented = Epoch(FORGER)
    invented.add(STATE, "locker.door.state")
    standing = await consumer.hears_batch(invented.bodies(STATE), STATE)
    assert consumer.acknowledged(standing) == {}


async def a_second_history_under_the_role_key(consumer: Consumer) -> None:
    """A copied card seals another history: what is held stays, and the fork is set aside for a person to see."""
    true = chain(ROLE, what="true.event")
    await consumer.hears_batch(true.bodies())
    fork = chain(ROLE, true.id, length=9, what="other.event")
    standing = await consumer.hears_batch(fork.bodies())
    assert standing.journals[true.id]["audit"] == (true.last[AUDIT], true.hashes[-1].hex())
    assert await consumer.held() == true.bodies()
    assert (await consumer.refused())["forked"] == 1


async def another_row_for_a_held_number(consumer: Consumer) -> None:
    """Never taken for a repeat: it is kept in quarantine and counted."""
    true = chain(ROLE, what="true.event")
    await consumer.hears_batch(true.bodies())
    lie = one_byte_changed(true.bodies()[2])
    await consumer.hears_each([lie])
    assert await consumer.held() == true.bodies()
    assert await consumer.store.rows("SELECT seq, body FROM quarantine") == [(3, lie)]


async def events_of_another_node(consumer: Consumer) -> None:
    """A neighbour's event, replayed on this node's topic, becomes nobody's."""
    neighbour = Epoch(FORGER, f"/lm/v1/{TENANT}/{NEIGHBOUR}")
    neighbour.add(STATE, "locker.door.state")
    await consumer.hears_each(neighbour.bodies(STATE), STATE)
    assert await consumer.stored() == []


async def events_from_another_tenants_topic(consumer: Consumer) -> None:
    """Whoever may publish below ``other`` speaks for no node of ours, whatever the node's name in the topic is."""
    epoch = Epoch(FORGER)
    epoch.add(STATE, "locker.door.state")
    await consumer.hears(f"lm/v1/other/{NODE}/evt/state", epoch.bodies(STATE)[0])
    assert await consumer.stored() == []
    assert await consumer.refused() == {"unknown_topic": 1}


async def events_of_an_unknown_node(consumer: Consumer) -> None:
    stranger = Epoch(FORGER, f"/lm/v1/{TENANT}/acme_l9")
    stranger.add(STATE, "locker.door.state")
    await consumer.hears(f"lm/v1/{TENANT}/acme_l9/evt/state", stranger.bodies(STATE)[0])
    assert await consumer.stored() == []
    assert await consumer.refused() == {"unknown_node": 1}


async def events_of_another_class(consumer: Consumer) -> None:
    """A state event among telemetry would be thinned as telemetry is."""
    epoch = Epoch(FORGER)
    epoch.add(STATE, "locker.door.state")
    await consumer.hears_each(epoch.bodies(STATE), TELEMETRY)
    assert await consumer.stored() == []


async def audit_said_to_be_dropped(consumer: Consumer) -> None:
    """Nobody may tear a hole into audit: the word is not even kept."""
    true = chain(ROLE, length=8, what="true.event")
    first, second, *rest = true.bodies()
    said = EventsDropped("audit", 3, 4, 2, "space")
    await consumer.hears_each([first, second, true._encode(AUDIT, DROPPED, said, 0, None), *rest[2:]])
    assert await consumer.held() == []
    assert await consumer.store.rows("SELECT * FROM dropped") == []
    await _holds_exactly(consumer, true)


async def a_flood_of_invented_epochs(consumer: Consumer) -> None:
    """Bounded, and the true one finds its place."""
    for _ in range(3 * collector_streams_sql.MAX_UNPROVEN):
        await consumer.hears_each(Epoch(FORGER).bodies())
        await consumer.clock.advance(1)
    ((streams,),) = await consumer.store.rows("SELECT count(*) FROM stream")
    assert streams <= 20
    await _holds_exactly(consumer, chain(ROLE, what="true.event"))


async def a_flood_of_rows_for_one_number(consumer: Consumer) -> None:
    true = chain(ROLE, what="true.event")
    for n in range(20):
        await consumer.hears_each([true.bodies()[1].replace(b'"n":2', b'"n":%d' % (n + 50))])
    assert len(await consumer.stored()) <= 5
    await _holds_exactly(consumer, true)


async def a_row_far_beyond_any_seal(consumer: Consumer) -> None:
    far = chain(FORGER).bodies()[1].replace(b'"seq":2', b'"seq":100001')
    await consumer.hears_each([far])
    assert await consumer.stored() == []


async def an_oversized_event(consumer: Consumer) -> None:
    huge = Epoch(FORGER).add(AUDIT, data="x" * 32_000).replace(b"xxx", b"xxxxx", 500)
    await consumer.hears_each([huge])
    assert await consumer.stored() == []
    assert await consumer.refused() == {"oversized": 1}


async def a_batch_of_too_many(consumer: Consumer) -> None:
    await consumer.hears(f"{TOPICS}/evt/audit/batch", batch([b"1"] * 5000))
    assert await consumer.refused() == {"oversized": 1}


async def what_is_not_an_event(consumer: Consumer) -> None:
    """Bytes, JSON of another shape, numbers of another kind: one count each, and the collector goes on."""
    body = chain(FORGER).bodies()[1]
    crooked = [
        b"",
        b"\xff\xfe",
        b"{",
        b"[]",
        b'{"no":"event"}',
        body.replace(b'"seq":2', b'"seq":-2'),
        body.replace(b'"seq":2', b'"seq":1e400'),
        body.replace(b'"prev":"', b'"prev":"g'),
        body.replace(b'"specversion":"1.0"', b'"specversion":"9"'),
        b"[" * 10_000,
    ]
    await consumer.hears_each(crooked)
    await consumer.hears(f"{TOPICS}/evt/audit/batch", b"[" * 10_000)
    assert await consumer.stored() == []
    assert (await consumer.refused())["malformed"] == len(crooked) + 1
    await _holds_exactly(consumer, chain(ROLE, what="true.event"))


async def a_forged_result(consumer: Consumer) -> None:
    """Nobody but the node says what became of a command."""
    forged = sign_result(Result(OURS.audience, "staff", COMMAND, Status.DONE, 1), Impostor(ROLE).as_key())
    await consumer.hears(f"{TOPICS}/res/{COMMAND}", forged)
    assert await consumer.store.rows("SELECT * FROM result") == []


async def a_true_result_under_another_command(consumer: Consumer) -> None:
    """The node's "done" for one command is not the answer to another."""
    done = sign_result(Result(OURS.audience, "staff", COMMAND, Status.DONE, 1), ROLE)
    await consumer.hears(f"{TOPICS}/res/{uuid7(2.0, bytes(10))}", done)
    assert await consumer.store.rows("SELECT * FROM result") == []


async def an_older_presence(consumer: Consumer) -> None:
    """The will of a connection that is long gone does not put the node offline."""
    now = Presence(True, True, 5, "s", new_epoch(), "locker", "0.1.0", datetime.fromtimestamp(0, UTC))
    await consumer.hears(f"{TOPICS}/presence", encode(now))
    await consumer.hears(f"{TOPICS}/presence", encode(msgspec.structs.replace(now, link=4, online=False)))
    ((payload,),) = await consumer.store.rows("SELECT payload FROM presence WHERE source = :of", of=SOURCE)
    assert msgspec.json.decode(payload)["online"] is True


async def an_older_presence_in_the_same_breath(consumer: Consumer) -> None:
    """Neither is the newer one lost because the will came right behind it, and another epoch's too."""
    now = Presence(True, True, 5, "s", new_epoch(), "locker", "0.1.0", datetime.fromtimestamp(0, UTC))
    will = msgspec.structs.replace(now, link=4, online=False)
    other = msgspec.structs.replace(now, link=1, epoch=new_epoch(), online=False)
    await consumer.hears(f"{TOPICS}/presence", encode(msgspec.structs.replace(now, link=3)))
    await consumer.hears(f"{TOPICS}/presence", encode(other), encode(now), encode(will))
    ((payload,),) = await consumer.store.rows("SELECT payload FROM presence WHERE source = :of", of=SOURCE)
    assert payload == encode(now)


async def an_oversized_presence(consumer: Consumer) -> None:
    now = Presence(True, True, 5, "s" * 5000, new_epoch(), "locker", "0.1.0", datetime.fromtimestamp(0, UTC))
    await consumer.hears(f"{TOPICS}/presence", encode(now))
    assert await consumer.store.rows("SELECT * FROM presence") == []
