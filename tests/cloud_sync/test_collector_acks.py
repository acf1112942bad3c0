"""When a collector acknowledges, and when again; on both databases, with a broker that says what a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
import pytest

from cloud_sync.collector import Batch
from cloud_sync.collector_asyncio import Collector, _portions
from cloud_sync.ports import FAILURE, Broker, BrokerConnection, BrokerLost, Message
from cloud_sync.presence import Presence
from cloud_sync.wants import OPEN_END
from edge import base64url
from edge.acks import Ack, sign_ack
from edge.keys import SigningKey
from tests.cloud_sync.broker_rig import until
from tests.cloud_sync.collector_rig import AUDIT, NODES, OURS, STATE, epoch_of, keep, standing, taken
from tests.cloud_sync.rig import CONSUMER, NODE, FastClock, running


class Answering:
    """A broker that answers each ack with the next of ``codes``, and with 0 when they are used up."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.sent: list[bytes] = []

    async def send(self, _topic: str, payload: bytes, **_: Any) -> Awaitable[int]:
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        answer.set_result(self.codes.pop(0) if self.codes else 0)
        self.sent.append(payload)
        return answer


def collector(store: Any) -> Collector:
    return Collector(
        consumer=CONSUMER,
        client_id="cloud-1",
        nodes=NODES,
        broker=cast("Broker", None),
        store=store,
        sign=lambda ack: sign_ack(ack, SigningKey(b"h" * 32)),
        clock=FastClock(50.0),
        random=lambda: 0.5,
        new_token=lambda: "token",
    )


async def test_an_ack_that_the_broker_did_not_take_goes_again_until_it_does(store):
    epoch = epoch_of(3)
    await keep(store, *epoch.bodies(), epoch.seal())
    broker, one = Answering(FAILURE, FAILURE), collector(store)
    one._lives = store.lives  # this connection is no new one: nothing is asked for
    looks: list[str] = []
    one._progress = looks.append
    async with running(lambda: one._sweep(cast("BrokerConnection", broker))):
        await until(lambda: len(broker.sent) == 3)
        seen = len(looks)
        await until(lambda: len(looks) > seen + 3)
    assert len(broker.sent) == 3


async def test_behind_a_new_connection_to_the_store_every_node_is_asked_for_what_follows(store):
    epoch = epoch_of(3)
    await keep(store, *epoch.bodies(), epoch.seal())
    broker, one = Answering(), collector(store)
    looks: list[str] = []
    one._progress = looks.append
    async with running(lambda: one._sweep(cast("BrokerConnection", broker))):
        await until(lambda: one.wants)
        seen = len(looks)
        await until(lambda: len(looks) > seen + 3)
        assert len(broker.sent) == 1
        store.lives += 1
        await until(lambda: len(broker.sent) == 2)
    assert one.wants == 2


class Going:
    """A broker that goes away at the first ack."""

    async def send(self, _topic: str, _payload: bytes, **_: Any) -> Awaitable[int]:
        raise BrokerLost("gone", remedy="none")


async def go_away(one: Collector) -> None:
    with pytest.raises(BrokerLost):
        await one._sweep(cast("BrokerConnection", Going()))


def asked_for_all(token: bytes) -> bool:
    claims = msgspec.json.decode(base64url.decode(token.split(b".")[1]), type=Ack)
    return any(last == OPEN_END for _, _, _, last in claims.want)


async def test_an_ack_that_was_not_handed_over_is_owed_on_the_next_connection(store):
    """The settling is committed: nothing is due of the node any more, and it keeps what it could delete."""
    epoch = epoch_of(3)
    await keep(store, *epoch.bodies(), epoch.seal())
    broker, one = Answering(), collector(store)
    one._lives = store.lives
    await go_away(one)
    async with running(lambda: one._sweep(cast("BrokerConnection", broker))):
        await until(lambda: broker.sent)


async def test_a_node_is_asked_for_what_follows_until_the_broker_has_taken_the_question(store):
    """Behind a fail-over the broker may go as well, or refuse for a while."""
    epoch = epoch_of(3)
    await keep(store, *epoch.bodies(), epoch.seal())
    broker, one = Answering(FAILURE), collector(store)
    looks: list[str] = []
    one._progress = looks.append
    await go_away(one)
    async with running(lambda: one._sweep(cast("BrokerConnection", broker))):
        await until(lambda: len(broker.sent) == 2)
        seen = len(looks)
        await until(lambda: len(looks) > seen + 3)
    assert [asked_for_all(token) for token in broker.sent] == [True, True]


async def test_a_node_that_drains_fast_is_settled_without_waiting(store, clock, monkeypatch):
    """What a store refuses of it, because it has not settled what came before, comes again after half a minute."""
    monkeypatch.setattr("cloud_sync.collector_asyncio.LARGE", 10_000)
    epoch = epoch_of(3)
    broker, one = Answering(), collector(store)
    one._lives, one._clock = store.lives, clock
    connection = cast("BrokerConnection", broker)

    async def come(*bodies: bytes) -> None:
        await one._commit(connection, [], Batch(events=[(OURS, taken(*bodies))]))

    async with running(lambda: one._sweep(connection)):
        await come(*epoch.bodies(), epoch.seal())
        await until(lambda: len(broker.sent) == 1)
        # No time passes from here on.
        await come(*(epoch.add(AUDIT) for _ in range(30)), epoch.seal())
        await until(lambda: len(broker.sent) == 2)


def test_messages_of_a_flood_are_committed_in_portions(monkeypatch):
    monkeypatch.setattr("cloud_sync.collector_asyncio.LARGE", 100)
    messages = [Message("t", bytes(size), 1, False, at) for at, size in enumerate((60, 60, 10, 300, 5))]
    assert [[len(each.payload) for each in some] for some in _portions(messages)] == [[60, 60], [10, 300], [5]]
    assert list(_portions(())) == []


async def test_a_restored_store_asks_for_state_of_which_nothing_has_come(store):
    """The node tells nothing new, so no later row shows the loss; its presence names the epoch, and is asked by it."""
    epoch = epoch_of(3)
    await store.take(Batch(presences={(NODE, epoch.id): (OURS, present(epoch.id))}))
    assert {gap[1:] for gap in (await standing(store)).missing} == {("audit", 1, OPEN_END), ("state", 1, OPEN_END)}
    await keep(store, *epoch.bodies(), epoch.seal())
    assert {gap[1:] for gap in (await standing(store)).missing} == {("state", 1, OPEN_END)}
    await keep(store, epoch.add(STATE, "test.moved", {}), event_class=STATE)
    assert (await standing(store)).missing == []


async def test_a_restored_store_asks_for_what_follows_in_an_epoch_that_is_not_proven_yet(store):
    """The copy may be of a moment before the first seal."""
    epoch = epoch_of(3)
    await store.take(Batch(presences={(NODE, epoch.id): (OURS, present(epoch.id))}))
    await keep(store, *epoch.bodies())
    found = (await store.settle([OURS.source], ask_all=True))[OURS.source]
    assert ("audit", 1, OPEN_END) in {gap[1:] for gap in found.want}


def present(epoch: str) -> Presence:
    return Presence(True, True, 1, "s", epoch, "locker", "0.1.0", datetime.fromtimestamp(0, UTC))
