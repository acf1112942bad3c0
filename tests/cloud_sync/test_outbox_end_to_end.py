"""Commands over a real broker that loses, doubles and forgets: each is done once, and its issuer learns the end."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloud_sync.client_mqtt import BrokerSettings
from cloud_sync.outbox import Entry, Input, State
from edge.errors import StoreFull
from edge.result import Status
from tests.cloud_sync.broker_rig import Listener, Mosquitto, until
from tests.cloud_sync.outbox_rig import (
    FORGER,
    NODE,
    TOPICS,
    Bench,
    QuickClock,
    ScriptedNode,
    actuation,
    at_work,
    booking,
    new_id,
    store_at,
    word,
)
from tests.cloud_sync.puback_thief import PubackThief

pytestmark = pytest.mark.xdist_group("outbox-broker")

KEEPS_NOTHING = ("allow_anonymous true", "persistence false")


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    """Started without a database: killed and started again it is as empty as one whose disk was lost."""
    mosquitto = Mosquitto(tmp_path, KEEPS_NOTHING)
    await mosquitto.start()
    yield mosquitto
    mosquitto.kill()


@pytest.fixture
async def node(broker: Mosquitto) -> AsyncIterator[ScriptedNode]:
    node = ScriptedNode()
    await node.connect(broker.settings(NODE))
    yield node
    await node.leave()


def issuer(broker: Mosquitto, name: str = "hub-1") -> BrokerSettings:
    return broker.settings(name, session_expiry=0)


async def all_final(bench: Bench) -> None:
    async with asyncio.timeout(20):
        await bench.outbox.idle()


async def test_a_booking_is_done_and_its_issuer_hears_it(broker, node, tmp_path):
    async with at_work(tmp_path / "outbox.db", issuer(broker)) as bench:
        entry = booking()
        await bench.outbox.keep(entry)
        outcome = await asyncio.wait_for(bench.outbox.final(entry.jti), 10)
    assert (outcome.state, outcome.word and outcome.word.reason) == (State.DONE, "taken")
    assert node.effects == [entry.jti]
    assert [told.state for told in bench.told] in (
        [State.SENT, State.ACCEPTED, State.DONE],
        [State.ACCEPTED, State.DONE],
    )


async def test_bookings_survive_a_broker_that_is_killed_and_emptied_again_and_again(broker, node, tmp_path):
    """Bytes lost after their PUBACK, answers lost on their way: every booking is in effect exactly once."""
    rng, entries = random.Random(11), [booking(f"booking-{number}") for number in range(30)]
    async with at_work(tmp_path / "outbox.db", issuer(broker)) as bench:
        await bench.outbox.online(NODE)
        for round_ in range(5):
            wanted = len(node.heard) + rng.randrange(7)
            for entry in entries[6 * round_ : 6 * round_ + 6]:
                await bench.outbox.keep(entry)
            await until(lambda: len(node.heard) >= wanted)  # noqa: B023  awaited within the turn
            broker.kill()
            await node.leave()
            await broker.start()
            # Some rounds the issuer is back first, so that the emptied broker takes its bytes for nobody.
            if round_ % 2:
                await until(lambda: bench.outbox.listening)
            await node.connect(broker.settings(NODE))
        await all_final(bench)
        states = await bench.states()
    assert states == {entry.jti: "done" for entry in entries}
    assert Counter(node.effects) == Counter(entry.jti for entry in entries)


async def test_what_a_broker_took_and_lost_before_delivery_goes_out_again_when_the_node_comes(broker, tmp_path):
    node, entry = ScriptedNode(), booking()
    async with at_work(tmp_path / "outbox.db", issuer(broker)) as bench:
        await bench.outbox.keep(entry)
        await until(lambda: bench.told)
        assert [told.state for told in bench.told] == [State.SENT], "the broker said that it has it"
        broker.kill()
        await broker.start()
        await node.connect(broker.settings(NODE))
        assert (await asyncio.wait_for(bench.outbox.final(entry.jti), 10)).state is State.DONE
    assert node.effects == [entry.jti]
    await node.leave()


async def test_a_node_that_is_away_for_long_is_not_flooded_and_does_each_thing_once_when_it_is_back(broker, tmp_path):
    node, entries = ScriptedNode(), [booking(f"booking-{number}") for number in range(5)]
    await node.connect(broker.settings(NODE))  # it has a session, in which the broker keeps what comes meanwhile
    await node.leave()
    async with at_work(tmp_path / "outbox.db", issuer(broker)) as bench:
        for entry in entries:
            await bench.outbox.keep(entry)
        await until(lambda: len(bench.told) == len(entries))
        await QuickClock().sleep(100)  # five times the pause after which one that is there is asked again
    # The issuer's process ended meanwhile; another goes on.
    async with at_work(tmp_path / "outbox.db", issuer(broker)) as bench:
        await until(lambda: bench.outbox.listening)
        await node.connect(broker.settings(NODE))
        await all_final(bench)
    assert sorted(node.effects) == sorted(entry.jti for entry in entries)
    copies = Counter(token for _, token in node.heard)
    assert set(copies.values()) <= {1, 2}, "one from the broker's queue, one for its coming back"
    await node.leave()


async def test_a_lost_puback_and_a_process_that_ends_before_it_sign_nothing_twice(broker, node, tmp_path):
    thief = await PubackThief.before(broker)
    entry = booking()
    settings = BrokerSettings(host="127.0.0.1", port=thief.port, client_id="hub-1", session_expiry=0)
    node.silent = True
    async with at_work(tmp_path / "outbox.db", settings) as bench:
        await bench.outbox.keep(entry)
        await until(lambda: thief.stolen)
        assert await bench.states() == {entry.jti: "signed"}
    node.silent = False
    async with at_work(tmp_path / "outbox.db", settings) as bench:
        assert (await asyncio.wait_for(bench.outbox.final(entry.jti), 10)).state is State.DONE
    await thief.close()
    assert node.effects == [entry.jti]
    assert {token for _, token in node.heard} == {entry.token}
    assert len(node.heard) >= 2


async def test_a_broker_that_takes_and_never_answers_is_left_for_another_connection(broker, node, tmp_path):
    thief = await PubackThief.before(broker)
    node.silent = True
    settings = BrokerSettings(host="127.0.0.1", port=thief.port, client_id="hub-1", session_expiry=0)
    async with at_work(tmp_path / "outbox.db", settings) as bench:
        entry = booking()
        await bench.outbox.keep(entry)
        await until(lambda: thief.connections >= 2)
        thief.steals = node.silent = False
        assert (await asyncio.wait_for(bench.outbox.final(entry.jti), 10)).state is State.DONE
    await thief.close()


async def test_forged_results_are_passed_over(broker, node, tmp_path):
    """Another key, another command's answer, another issuer's, another life of the node: none of them is believed."""
    node.silent = True
    async with at_work(tmp_path / "outbox.db", issuer(broker)) as bench:
        entry, other = booking("booking-1"), booking("booking-2")
        for each in (entry, other):
            await bench.outbox.keep(each)
        await until(lambda: len(node.heard) >= 2)
        forged = [
            word(entry, Status.DONE, key=FORGER),
            word(other, Status.DONE),
            word(entry, Status.DONE, aud="desk"),
            word(entry, Status.DONE, iss=f"{NODE}/elsewhere"),
            word(entry, Status.DONE)[:-4] + b"AAAA",
            b"",
            b"\xff" * 200,
        ]
        for token in forged:
            await node.say(entry.jti, token)
        await node.say(new_id(), word(entry, Status.DONE))  # of nobody's command: not even looked at
        await until(lambda: bench.outbox.passed_over == len(forged))
        assert (await bench.states())[entry.jti] in ("signed", "sent")
        await node.say(entry.jti, word(entry, Status.FAILED, "jammed"))
        assert (await asyncio.wait_for(bench.outbox.final(entry.jti), 10)).state is State.FAILED
        assert await bench.store.answers(entry.jti) == [word(entry, Status.FAILED, "jammed")]


async def test_duplicate_results_change_nothing(broker, node, tmp_path):
    async with at_work(tmp_path / "outbox.db", issuer(broker)) as bench:
        entry = booking()
        await bench.outbox.keep(entry)
        await asyncio.wait_for(bench.outbox.final(entry.jti), 10)
        for status in (Status.ACCEPTED, Status.REJECTED, Status.DONE) * 3:
            await node.say(entry.jti, word(entry, status, "taken" if status is Status.DONE else ""))
        probe = booking("booking-2")
        await bench.outbox.keep(probe)
        await asyncio.wait_for(bench.outbox.final(probe.jti), 10)  # behind all of them in the same queue
        assert (await bench.outbox.outcome(entry.jti)).state is State.DONE
    assert node.effects == [entry.jti, probe.jti]


async def test_an_actuation_whose_nonce_is_over_is_asked_about_and_opens_nothing(broker, node, tmp_path):
    """Published only after the issuer's process came back, a minute late: refused, and that is the last word."""
    entry = actuation(nonce="void")
    async with at_work(tmp_path / "outbox.db", issuer(broker)) as bench:
        await bench.store.keep(entry)  # killed between keeping and publishing
    async with at_work(tmp_path / "outbox.db", issuer(broker)) as bench:
        outcome = await asyncio.wait_for(bench.outbox.final(entry.jti), 10)
    assert (outcome.state, outcome.word and outcome.word.reason) == (State.REJECTED, "unknown_nonce")
    assert node.effects == []


async def test_an_outcome_that_was_lost_is_asked_for_with_the_same_bytes_and_the_door_opens_once(
    broker, node, tmp_path
):
    node.nonces, node.sees_no_end = {"n1"}, True
    entry = actuation(nonce="n1")
    async with at_work(tmp_path / "outbox.db", issuer(broker)) as bench:
        await bench.outbox.keep(entry)
        await until(lambda: any(told.state is State.ACCEPTED for told in bench.told))
        node.finish(entry.jti, word(entry, Status.DONE, "opened"))
        outcome = await asyncio.wait_for(bench.outbox.final(entry.jti), 10)
    assert (outcome.state, outcome.word and outcome.word.reason) == (State.DONE, "opened")
    assert node.effects == [entry.jti]
    assert {token for _, token in node.heard} == {entry.token}


async def test_two_issuers_with_one_outbox_do_each_command_once_and_both_learn_the_end(broker, node, tmp_path):
    path = tmp_path / "outbox.db"
    async with at_work(path, issuer(broker, "hub-1")) as one, at_work(path, issuer(broker, "hub-2")) as two:
        entries = [booking(f"booking-{number}") for number in range(20)]
        await asyncio.gather(*((one, two)[at % 2].outbox.keep(entry) for at, entry in enumerate(entries)))
        async with asyncio.timeout(20):
            # Each asks for the other's.
            await asyncio.gather(*((two, one)[at % 2].outbox.final(entry.jti) for at, entry in enumerate(entries)))
        await all_final(one)
    assert Counter(node.effects) == Counter(entry.jti for entry in entries)


async def test_what_another_process_has_heard_the_end_of_goes_out_no_more(broker, tmp_path):
    node, ended, probe = ScriptedNode(), booking("booking-1"), booking("booking-2")
    path = tmp_path / "outbox.db"
    async with at_work(path, issuer(broker)) as bench:
        await bench.outbox.keep(ended)
        await until(lambda: bench.told)
        other = store_at(path)
        await other.open()
        await other.record(ended.jti, Input.DONE, word(ended, Status.DONE))
        await other.close()
        await node.connect(broker.settings(NODE))
        await bench.outbox.online(NODE)
        await bench.outbox.keep(probe)
        await asyncio.wait_for(bench.outbox.final(probe.jti), 10)
    assert [token for _, token in node.heard] == [probe.token]
    await node.leave()


async def test_revisions_of_a_booking_arrive_in_their_order_however_they_were_kept(broker, tmp_path):
    """After a higher revision the node would refuse a lower one."""
    node, entries = ScriptedNode(), [booking(rev=rev) for rev in range(1, 6)]
    path = tmp_path / "outbox.db"
    async with at_work(path, issuer(broker, "hub-1")) as one, at_work(path, issuer(broker, "hub-2")) as two:
        await until(lambda: one.outbox.listening and two.outbox.listening)
        await node.connect(broker.settings(NODE))
        await asyncio.gather(one.outbox.online(NODE), two.outbox.online(NODE))
        # The lower ones lie in the file, and the process that is given the last has not seen them.
        for entry in reversed(entries[:-1]):
            await one.store.keep(entry)
        await two.outbox.keep(entries[-1])
        await all_final(two)
        assert set((await two.states()).values()) == {"done"}
    assert node.effects == [entry.jti for entry in entries]
    await node.leave()


async def test_a_command_for_an_earlier_life_of_the_node_is_never_sent(broker, node, tmp_path):
    """Nobody but that life could take it."""
    entry = booking(aud=f"{NODE}/the-role-key-before")
    async with at_work(tmp_path / "outbox.db", issuer(broker)) as bench:
        await bench.store.keep(entry)
        probe = booking("booking-2")
        await bench.outbox.keep(probe)
        await asyncio.wait_for(bench.outbox.final(probe.jti), 10)
        await all_final(bench)
        assert await bench.store.pending() == [(entry, State.SIGNED)]
    assert [token for _, token in node.heard] == [probe.token]


async def test_a_booking_past_its_expiry_is_asked_for_no_more_and_a_late_word_still_counts(broker, node, tmp_path):
    node.silent = True
    entry = booking(iat=1_000, exp=2_000)
    async with at_work(tmp_path / "outbox.db", issuer(broker)) as bench:
        await bench.outbox.keep(entry)
        assert (await asyncio.wait_for(bench.outbox.final(entry.jti), 10)).state is State.EXPIRED
        await node.say(entry.jti, word(entry, Status.DONE, "taken"))
        probe = booking("booking-2")
        node.silent = False
        await bench.outbox.keep(probe)
        await asyncio.wait_for(bench.outbox.final(probe.jti), 10)  # behind it in the same queue
        assert (await bench.outbox.outcome(entry.jti)).state is State.DONE


async def test_what_cannot_be_kept_is_never_published(broker, node, tmp_path, monkeypatch):
    """Nobody may see bytes that a crash would make the issuer forget."""
    async with at_work(tmp_path / "outbox.db", issuer(broker)) as bench:

        async def full(_entry: Entry, **_: object) -> None:
            raise StoreFull("the disk is full", remedy="free space")

        await bench.outbox.online(NODE)
        monkeypatch.setattr(bench.store, "keep", full)
        with pytest.raises(StoreFull):
            await bench.outbox.keep(booking())
        monkeypatch.undo()
        probe = booking("booking-2")
        await bench.outbox.keep(probe)
        await asyncio.wait_for(bench.outbox.final(probe.jti), 10)
    assert [token for _, token in node.heard] == [probe.token]


async def test_nothing_is_ever_retained(broker, node, tmp_path):
    async with at_work(tmp_path / "outbox.db", issuer(broker)) as bench:
        entry = booking()
        await bench.outbox.keep(entry)
        await asyncio.wait_for(bench.outbox.final(entry.jti), 10)
    late = await Listener.on(broker.settings("late"), f"{TOPICS.source.removeprefix('/')}/#")
    await until(lambda: late.heard)
    await late.close()
    assert {message.topic for message in late.heard if message.retain} == {TOPICS.presence}
