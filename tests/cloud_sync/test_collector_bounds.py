"""What a collector believes of unsigned words, and how much of what nobody has proven it keeps."""

from __future__ import annotations

import pytest

from cloud_sync import collector_room_sql, collector_settle_sql, collector_streams_sql
from cloud_sync.collector_open_sql import open_store
from edge.event import DROPPED, EventClass, EventsDropped, JournalBegun
from tests.cloud_sync.collector_rig import FORGER, ROLE, STATE, TELEMETRY, epoch_of, keep, refused, standing
from tests.cloud_sync.rig import CONSUMER, Epoch


async def test_thinned_ranges_count_as_held_and_rows_win_over_them(store):
    epoch = epoch_of(0)
    epoch.seal()
    rows = [epoch.add(TELEMETRY, "vehicle.fix") for _ in range(10)]
    notice = epoch.thin(TELEMETRY, 2, 9)
    await keep(store, *epoch.bodies())
    await keep(store, rows[0], rows[4], notice, event_class=TELEMETRY)
    assert (await standing(store)).journals[epoch.id]["telemetry"] == (5, None)
    await keep(store, rows[9], event_class=TELEMETRY)
    assert (await standing(store)).journals[epoch.id]["telemetry"] == (10, None)
    assert await store.rows("SELECT seq FROM held_event WHERE class = 'telemetry'") == [(1,), (5,), (10,)]


def thinned(epoch: Epoch, first: int, last: int, event_class: EventClass = STATE) -> bytes:
    told = EventsDropped(event_class.value, first, last, 1, "space")
    return epoch._encode(event_class, DROPPED, told, 0, None)


async def test_a_range_moves_no_cursor_beyond_the_rows_that_were_seen(store):
    """Nobody signs a range: one message may not tell a node that we hold what it has yet to send."""
    epoch = epoch_of(0)
    epoch.seal()
    rows = [epoch.add(STATE, "locker.door.state") for _ in range(3)]
    await keep(store, *epoch.bodies())
    await keep(store, rows[0], thinned(epoch, 2, 50_000), event_class=STATE)
    assert (await standing(store)).journals[epoch.id]["state"] == (1, None)
    await keep(store, *rows[1:], event_class=STATE)
    assert (await standing(store)).journals[epoch.id]["state"] == (3, None)


async def test_a_range_beyond_all_measure_is_refused(store):
    epoch = epoch_of(0)
    first = epoch.add(STATE, "locker.door.state")
    await keep(store, first, thinned(epoch, 2, collector_streams_sql.GONE_HORIZON + 1), event_class=STATE)
    assert await refused(store) == {"too_far": 1}
    assert await store.rows("SELECT count(*) FROM dropped") == [(0,)]


async def test_a_range_longer_than_the_rows_we_wait_for_does_not_stop_a_node(store):
    """A vehicle without a network for weeks thins millions of fixes; the row behind them is taken in."""
    epoch = epoch_of(0)
    epoch.seal()
    rows = [epoch.add(TELEMETRY, "vehicle.fix")]
    epoch.last[TELEMETRY] = 20 * collector_streams_sql.HORIZON
    notice = thinned(epoch, 2, epoch.last[TELEMETRY], TELEMETRY)
    await keep(store, *epoch.bodies())
    await keep(store, *rows, notice, event_class=TELEMETRY)
    await standing(store)
    await keep(store, epoch.add(TELEMETRY, "vehicle.fix"), event_class=TELEMETRY)
    assert (await standing(store)).journals[epoch.id]["telemetry"] == (epoch.last[TELEMETRY], None)


async def test_true_rows_are_kept_also_where_a_lie_said_that_they_were_thinned(store):
    epoch = epoch_of(0)
    epoch.seal()
    rows = [epoch.add(STATE, "locker.door.state") for _ in range(3)]
    epoch.last[STATE] = 40
    forged = epoch.add(STATE, "locker.door.state")
    await keep(store, *epoch.bodies())
    await keep(store, rows[0], thinned(epoch, 2, 40), forged, event_class=STATE)
    assert (await standing(store)).journals[epoch.id]["state"] == (41, None)
    await keep(store, *rows, event_class=STATE)
    assert await store.rows("SELECT seq FROM held_event WHERE class = 'state' ORDER BY seq") == [
        (1,),
        (2,),
        (3,),
        (41,),
    ]


async def test_the_thinned_end_of_an_ended_epoch_is_acknowledged(store):
    """No row will follow it any more, so none is waited for."""
    old = epoch_of(1)
    old.seal()
    begun = JournalBegun(old.id, 3, "rolled_back", kept_seq=3, kept_hash=old.hashes[3].hex())
    new = Epoch(ROLE, begun=begun)
    new.seal()
    await keep(store, *old.bodies())
    await keep(store, thinned(old, 1, 9), event_class=STATE)
    assert "state" not in (await standing(store)).journals[old.id]
    await keep(store, *new.bodies())
    assert (await standing(store)).journals[old.id]["state"] == (9, None)


async def test_ranges_that_wait_are_bounded(store):
    epoch = epoch_of(0)
    notices = [thinned(epoch, seq, seq) for seq in range(2, collector_room_sql.MAX_RANGES + 50)]
    await keep(store, *notices, event_class=STATE)
    await standing(store)
    assert await store.rows("SELECT count(*), max(first) FROM dropped") == [
        (collector_room_sql.MAX_RANGES, collector_room_sql.MAX_RANGES + 49)
    ]


async def test_rows_of_an_invented_epoch_are_not_shown_as_held(store):
    epoch = epoch_of(0, FORGER)
    for _ in range(5):
        epoch.add(STATE, "locker.door.state")
    await keep(store, *epoch.bodies(STATE), event_class=STATE)
    assert (await standing(store)).missing == []
    assert await store.rows("SELECT * FROM held_event") == []


@pytest.fixture
def small_room(monkeypatch: pytest.MonkeyPatch) -> int:
    for module in (collector_streams_sql, collector_settle_sql):
        monkeypatch.setattr(module, "MAX_UNPROVEN_BYTES", 200_000)
    return 200_000


def big_rows(epoch: Epoch, event_class: EventClass, count: int) -> list[bytes]:
    """As a forger would send them: with a hole before them, so that they never become held."""
    epoch.last[event_class] += 1
    return [epoch.add(event_class, "a.b", "x" * 10_000) for _ in range(count)]


async def test_what_is_unproven_is_bounded_in_bytes_over_all_classes_and_epochs_of_a_node(store, small_room):
    taken_in = 0
    for _ in range(3):
        epoch = epoch_of(0, FORGER)
        for event_class in (STATE, TELEMETRY):
            await keep(store, *big_rows(epoch, event_class, 15), event_class=event_class)
            ((size,),) = await store.rows("SELECT sum(length(body)) FROM event")
            assert size <= 2 * small_room
            taken_in += 15
    assert (await refused(store))["no_room"] == taken_in - (await store.rows("SELECT count(*) FROM event"))[0][0]
    await standing(store)
    ((size, left),) = await store.rows("SELECT sum(length(body)), count(*) FROM event")
    assert small_room - 20_000 <= size <= small_room
    assert (await refused(store))["made_room"] == taken_in - left - (await refused(store))["no_room"]


async def test_who_fills_the_room_once_keeps_no_true_event_out(store, small_room):
    """What came first makes room: the true rows, not yet sealed, are still there when their seal comes."""
    await keep(store, *big_rows(epoch_of(0, FORGER), STATE, 36), event_class=STATE)
    epoch = epoch_of(10)
    await keep(store, *epoch.bodies())
    await standing(store)
    assert (await refused(store)).keys() == {"made_room"}
    await keep(store, epoch.seal())
    assert (await standing(store)).journals[epoch.id]["audit"] == (12, epoch.hashes[12].hex())


async def test_the_bound_is_known_again_after_a_restart(store, small_room, place, clock):
    await keep(store, *big_rows(epoch_of(0, FORGER), STATE, 60), event_class=STATE)
    again = open_store(place, consumer=CONSUMER, clock=clock)
    await again.open()
    await standing(again)
    assert (await again.rows("SELECT sum(length(body)) FROM event"))[0][0] <= small_room
    await again.close()


async def test_invented_epochs_are_bounded_and_do_not_keep_a_true_one_out(store, clock):
    for _ in range(50):
        await keep(store, *epoch_of(0, FORGER).bodies())
        await clock.advance(1)
    assert await store.rows("SELECT count(*) FROM stream") == [(collector_streams_sql.MAX_UNPROVEN,)]
    epoch = epoch_of(3)
    await keep(store, *epoch.bodies())
    for _ in range(10):
        await clock.advance(1)
        await keep(store, *epoch_of(0, FORGER).bodies())
    # The oldest invention made room each time: the true one, not yet sealed, is still there.
    await keep(store, epoch.seal())
    assert epoch.id in (await standing(store)).journals


async def test_invented_rows_for_one_number_are_bounded_and_do_not_keep_the_true_one_out(store):
    epoch = epoch_of(3)
    true = epoch.bodies()[1]
    for n in range(30):
        await keep(store, true.replace(b'"n":2', b'"n":%d' % (n + 50)))
        await standing(store)
    assert (await store.rows("SELECT count(*) FROM event"))[0][0] <= collector_settle_sql.MAX_RIVALS + 1
    epoch.seal()
    await keep(store, *epoch.bodies())
    assert (await standing(store)).journals[epoch.id]["audit"][0] == 5


async def test_rows_far_ahead_of_any_seal_are_refused(store):
    epoch = epoch_of(1)
    far = epoch.bodies()[1].replace(b'"seq":2', b'"seq":%d' % (collector_streams_sql.HORIZON + 1))
    await keep(store, far)
    assert await refused(store) == {"too_far": 1}
