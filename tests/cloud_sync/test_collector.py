"""What a collector takes in, keeps and counts, against forged, reordered and doubled streams; on both databases."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_sync.collector import Batch, Intake, check_result, load_nodes, read_events
from cloud_sync.collector_open_sql import open_store
from cloud_sync.presence import Presence
from cloud_sync.topics import Kind, Topic
from edge.errors import ConfigError, StoreCorrupt, StoreError
from edge.event import BEGUN, DROPPED, EventsDropped, JournalBegun
from edge.identifiers import uuid7
from edge.keys import SigningKey
from edge.result import Result, Status, sign_result
from tests.cloud_sync.collector_rig import AUDIT, FORGER, OURS, ROLE, STATE, epoch_of, keep, refused, standing, taken
from tests.cloud_sync.rig import CONSUMER, NODE, SOURCE, TENANT, Epoch, new_epoch

COMMAND = uuid7(1.0, bytes(10))


def test_true_events_come_in_with_the_hash_of_their_chain():
    epoch = epoch_of(3)
    epoch.seal()
    intake = taken(*epoch.bodies())
    assert [row.digest for row in intake.rows] == epoch.hashes[1:]
    assert [row.body for row in intake.rows] == epoch.bodies()
    assert [row.seal for row in intake.rows] == [False] * 4 + [True]
    assert intake.refused == []


def test_a_seal_by_another_key_is_refused():
    epoch = epoch_of(1, FORGER)
    epoch.seal()
    assert taken(epoch.bodies()[-1]).refused == ["unknown_key"]


@given(st.data())
def test_a_seal_with_any_byte_changed_is_refused_or_is_no_longer_a_seal(data):
    epoch = epoch_of(1)
    seal = bytearray(epoch.seal())
    at = data.draw(st.integers(0, len(seal) - 1))
    seal[at] ^= data.draw(st.integers(1, 255))
    intake = taken(bytes(seal))
    assert not [row for row in intake.rows if row.seal]


def test_a_seals_signature_has_one_spelling():
    """Base64 leaves four bits of the last character open: the same signature in other bytes, with another hash."""
    seal = epoch_of(1).seal()
    head, _, tail = seal.partition(b'"signature":"')
    last = tail[85:86]
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    others = [alphabet[at : at + 1] for at in range(64) if alphabet[at : at + 1] != last]
    spelt = [head + b'"signature":"' + tail[:85] + other + tail[86:] for other in others]
    for text in (*spelt, seal.replace(b"-", b"+"), seal.replace(b"_", b"/")):
        if text != seal:
            assert [row for row in taken(text).rows if row.seal] == []


def test_what_does_not_fit_the_topic_is_refused():
    stranger = Epoch(ROLE, "/lm/v1/acme/acme_l2")
    assert taken(*stranger.bodies()).refused == ["wrong_source"]
    assert taken(*epoch_of(0).bodies(), event_class=STATE).refused == ["wrong_class"]
    assert taken(b'{"no":"event"}').refused == ["malformed"]
    assert read_events(OURS, Topic(TENANT, NODE, Kind.BATCH, "audit"), b"[{}").refused == ["malformed"]
    assert taken(epoch_of(0).add(AUDIT, data="x" * 31_000).replace(b"xx", b"xxxx")).refused == ["oversized"]
    epoch = epoch_of(1)
    assert taken(epoch.bodies()[1].replace(b'"prev":"', b'"prev":"g')).refused == ["malformed"]
    assert taken(epoch.bodies()[1].replace(b'"seq":2', b'"seq":-2')).refused == ["malformed"]
    assert taken(epoch.bodies()[1].replace(epoch.id.encode(), b"../../etc")).refused == ["malformed"]


def test_nobody_can_say_that_audit_was_thinned():
    notice = epoch_of(0)._encode(AUDIT, DROPPED, EventsDropped("audit", 1, 9, 9, "space"), 0, None)
    assert taken(notice).refused == ["audit_dropped"]


@given(st.binary(max_size=300))
def test_any_bytes_are_taken_or_refused_and_nothing_else(payload):
    for kind in (Kind.EVENT, Kind.BATCH):
        intake = read_events(OURS, Topic(TENANT, NODE, kind, "audit"), payload)
        assert intake.rows == []


def test_an_answer_to_a_command_is_the_nodes_own():
    def token(key: SigningKey, iss: str = OURS.audience) -> bytes:
        return sign_result(Result(iss, "hub", COMMAND, Status.DONE, 1), key)

    assert check_result(OURS, COMMAND, token(ROLE))
    assert not check_result(OURS, COMMAND, token(FORGER))
    assert not check_result(OURS, COMMAND, token(ROLE, "acme_l2/other"))
    assert not check_result(OURS, uuid7(2.0, bytes(10)), token(ROLE))


@pytest.mark.parametrize(
    "nodes", [[("acme", "other_l1", [ROLE.public])], [("acme", "acme_l1", [])], [(TENANT, NODE, [ROLE.public])] * 2]
)
def test_nodes_are_named_once_with_a_key_and_belong_to_their_tenant(nodes):
    with pytest.raises(ConfigError):
        load_nodes(nodes)


async def test_a_doubled_stream_is_kept_once(store):
    epoch = epoch_of(10)
    epoch.seal()
    for _ in range(3):
        await keep(store, *epoch.bodies())
        assert (await standing(store)).journals == {epoch.id: {"audit": (12, epoch.hashes[12].hex())}}
    assert await store.rows("SELECT count(*) FROM event") == [(12,)]
    assert await store.rows("SELECT count(*) FROM quarantine") == [(0,)]


async def test_what_was_committed_is_there_after_a_restart(store, place, clock):
    epoch = epoch_of(5)
    await keep(store, *epoch.bodies())
    again = open_store(place, consumer=CONSUMER, clock=clock)
    await again.open()
    epoch.seal()
    await keep(again, epoch.bodies()[-1])
    assert (await standing(again)).journals == {epoch.id: {"audit": (7, epoch.hashes[7].hex())}}
    await again.close()


async def test_the_other_classes_are_acknowledged_once_the_epoch_is_proven(store):
    """A forger can invent epochs; an ack for one would tell the node that it was rolled back."""
    epoch = epoch_of(0)
    epoch.add(STATE, "locker.door.state")
    await keep(store, *epoch.bodies(STATE), event_class=STATE)
    assert (await standing(store)).journals == {}
    epoch.seal()
    await keep(store, *epoch.bodies())
    assert (await standing(store)).journals[epoch.id]["state"] == (1, None)


async def test_a_different_row_for_a_held_number_is_set_aside_and_told(store):
    epoch = epoch_of(2)
    epoch.seal()
    await keep(store, *epoch.bodies())
    await standing(store)
    other = epoch_of(2)
    forged = [body.replace(other.id.encode(), epoch.id.encode()) for body in other.bodies()]
    await keep(store, *forged)
    assert await refused(store) == {"conflict": 3}
    assert await store.rows("SELECT seq, reason FROM quarantine ORDER BY seq") == [
        (1, "conflict"),
        (2, "conflict"),
        (3, "conflict"),
    ]
    assert (await standing(store)).journals[epoch.id]["audit"][0] == 4


async def test_a_gap_is_named_until_it_is_filled(store):
    epoch = epoch_of(5)
    epoch.seal()
    bodies = epoch.bodies()
    await keep(store, *bodies[:2], *bodies[4:])
    assert (await standing(store)).missing == [(epoch.id, "audit", 3, 4)]
    await keep(store, *bodies[2:4])
    assert (await standing(store)).missing == []


async def test_refusals_are_one_row_a_minute(store, clock):
    intake = Intake(refused=["malformed"] * 500)
    await store.take(Batch(events=[(OURS, intake)], strays=["unknown_node"] * 70))
    await store.take(Batch(events=[(OURS, Intake(refused=["malformed"]))]))
    assert sorted(await store.rows("SELECT source, reason, count FROM refused")) == [
        ("", "unknown_node", 70),
        (SOURCE, "malformed", 501),
    ]
    await clock.advance(60)
    await store.take(Batch(strays=["unknown_node"]))
    assert await store.rows("SELECT count(*) FROM refused") == [(3,)]


async def test_a_new_consumers_share_begins_where_the_seal_says(store):
    epoch = epoch_of(50)
    epoch.starts = {CONSUMER: 41, "other": 1}
    epoch.seal()
    await keep(store, *epoch.bodies()[39:])
    assert (await standing(store)).journals[epoch.id]["audit"] == (52, epoch.hashes[52].hex())
    assert await store.rows("SELECT min(seq) FROM held_event") == [(41,)]


async def test_a_rolled_back_node_is_told_by_its_new_epoch(store):
    old = epoch_of(4)
    await keep(store, *old.bodies())
    begun = JournalBegun(old.id, 5, "rolled_back", kept_seq=5, kept_hash=old.hashes[5].hex())
    new = Epoch(ROLE, begun=begun)
    await keep(store, *new.bodies())
    assert (await standing(store)).journals == {}
    new.seal()
    await keep(store, new.bodies()[-1])
    assert (await standing(store)).journals == {
        old.id: {"audit": (5, old.hashes[5].hex())},
        new.id: {"audit": (2, new.hashes[2].hex())},
    }


async def test_a_strange_first_event_does_not_stop_the_collector(store):
    epoch = Epoch(ROLE)
    epoch.items[AUDIT].clear()
    epoch.hashes, epoch.last[AUDIT] = epoch.hashes[:1], 0
    epoch.add(AUDIT, BEGUN, {"previous": 7})
    epoch.seal()
    await keep(store, *epoch.bodies())
    assert (await standing(store)).journals[epoch.id]["audit"][0] == 2


async def test_of_two_presences_the_newer_stays(store):
    told = Presence(True, True, 5, "s", new_epoch(), "locker", "0.1.0", datetime.fromtimestamp(0, UTC))
    for one in (told, msgspec.structs.replace(told, link=4, online=False)):
        await store.take(Batch(presences={(NODE, one.epoch): (OURS, one)}))
    ((payload,),) = await store.rows("SELECT payload FROM presence")
    assert msgspec.json.decode(payload)["link"] == 5


async def test_an_answer_is_kept_once_per_command(store):
    for token in (b"accepted", b"done"):
        await store.take(Batch(results=[(OURS, COMMAND, token)]))
    assert await store.rows("SELECT id, token FROM result") == [(COMMAND, b"done")]


async def test_a_damaged_file_is_named(tmp_path, clock):
    path = tmp_path / "collector.db"
    path.write_bytes(b"this is not a database, whatever its name says" * 100)
    store = open_store(str(path), consumer=CONSUMER, clock=clock)
    with pytest.raises(StoreCorrupt, match="put the file aside"):
        await store.open()
    await store.close()


async def test_after_a_failed_commit_what_comes_again_is_taken_as_new(tmp_path, clock):
    """The disk gives up in the middle: nothing of it is kept."""
    store = open_store(str(tmp_path / "collector.db"), consumer=CONSUMER, clock=clock)
    await store.open()
    epoch = epoch_of(3)
    epoch.seal()
    await store.rows("SELECT 1")
    engine = store._engine
    assert engine is not None
    with engine.begin() as sql:
        sql.exec_driver_sql("PRAGMA max_page_count = 1")
    big = [epoch.add(AUDIT, data="x" * 20_000) for _ in range(20)]
    with pytest.raises(StoreError):
        await keep(store, *epoch.bodies())
    with engine.begin() as sql:
        sql.exec_driver_sql("PRAGMA max_page_count = 100000")
    epoch.seal()
    await keep(store, *epoch.bodies())
    assert (await standing(store)).journals[epoch.id]["audit"][0] == epoch.last[AUDIT]
    assert await store.rows("SELECT count(*) FROM held_event") == [(epoch.last[AUDIT],)]
    assert len(big) == 20
    await store.close()
