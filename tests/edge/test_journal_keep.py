"""What becomes of events: only a consumer's word frees them, and what is given up is told."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.acks import Ack
from edge.event import DROPPED, EventsDropped, decode
from edge.journal import Gap, Limits, merge_gaps
from edge.journal_keep_sql import PORTION, Acknowledged, apply_ack, delete_acknowledged, next_link, thin
from edge.journal_sql import SqlJournal
from tests.edge.journal_rig import AUDIT, STATE, TELEMETRY, Store, append
from tests.edge.trust import NODE

EVERYTHING = Limits(max_bytes=0, reserve_bytes=0)
DAY = 86_400.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "node").mkdir()
    return Store(tmp_path / "node", consumers=("hub", "cloud"))


async def ack(journal: SqlJournal, consumer: str, **classes: tuple[int, str | None]) -> Acknowledged:
    return await acks(journal, consumer, {journal.head.epoch: classes})


Claims = Mapping[str, tuple[int, str | None]]


async def acks(journal: SqlJournal, consumer: str, journals: Mapping[str, Claims]) -> Acknowledged:
    word = Ack(consumer, NODE.audience, journals)  # type: ignore[arg-type]
    return await journal.write(lambda t: apply_ack(t, consumer, word))


def hash_at(store: Store, seq: int, epoch: str = "") -> str:
    with store.reader() as reader:
        return next(str(digest.hex()) for _, number, _, digest in reader.audit(epoch) if number == seq)


async def cursor(journal: SqlJournal, consumer: str, kind: int = 0) -> int:
    query = "SELECT seq FROM cursor WHERE consumer = ? AND class = ? ORDER BY epoch_no DESC"
    return await journal.write(lambda t: int(t.sql.execute(query, (consumer, kind)).fetchone()[0]))


async def test_an_ack_moves_its_own_cursor_and_no_other(store: Store) -> None:
    async with store.journal() as journal:
        await append(journal, 1, 2)
        assert await ack(journal, "hub", audit=(2, hash_at(store, 2)), state=(0, None)) == Acknowledged("")
        assert (await cursor(journal, "hub"), await cursor(journal, "cloud")) == (2, 0)


async def test_a_cursor_never_goes_back(store: Store) -> None:
    async with store.journal() as journal:
        await append(journal, 1, 2)
        await ack(journal, "hub", audit=(3, hash_at(store, 3)))
        assert (await ack(journal, "hub", audit=(1, hash_at(store, 1)))).refused == ""
        assert await cursor(journal, "hub") == 3


@pytest.mark.parametrize(
    ("classes", "reason"),
    [
        ({"audit": (2, "00" * 32), "telemetry": (2, None)}, "wrong_hash"),
        ({"audit": (9, "00" * 32), "telemetry": (2, None)}, "ahead_of_us"),
    ],
)
async def test_an_ack_whose_audit_is_wrong_moves_nothing(store: Store, classes, reason: str) -> None:
    async with store.journal() as journal:
        await append(journal, 1, 2)
        await append(journal, 1, 2, event_class=TELEMETRY)
        assert (await ack(journal, "hub", **classes)).refused == reason
        assert (await cursor(journal, "hub"), await cursor(journal, "hub", 2)) == (0, 0)
        assert journal.head.epoch_no == 1, "what this run began itself cannot have been rolled back"


async def test_state_and_telemetry_beyond_our_own_prove_nothing_and_hold_up_no_audit(store: Store) -> None:
    """They carry no signature: a broker can forge a thinned range and make a consumer count as far as it likes."""
    async with store.journal() as journal:
        await append(journal, 1, 2)
        await append(journal, 1, 2, event_class=TELEMETRY)
        forged = {"state": (2**53, None), "telemetry": (2**53, None), "audit": (2, hash_at(store, 2))}
        assert (await ack(journal, "hub", **forged)).refused == ""
        assert (await cursor(journal, "hub"), await cursor(journal, "hub", 2)) == (2, 2)
    async with store.journal() as journal:
        assert (await ack(journal, "hub", **forged)).refused == ""
        assert journal.head.epoch_no == 1, "nor does it begin an epoch after a restart"


async def test_an_ack_for_journals_that_are_all_unknown_says_so(store: Store) -> None:
    async with store.journal() as journal:
        stranger = {"019aa8f0-7c1e-7abc-8def-0123456789ab": {"audit": (1, "00" * 32)}}
        assert (await acks(journal, "hub", stranger)).refused == "unknown_epoch"
        both = stranger | {journal.head.epoch: {"audit": (1, hash_at(store, 1))}}
        assert (await acks(journal, "hub", both)).refused == "", "the journal of a lost file holds up no other"
        assert await cursor(journal, "hub") == 1


async def test_a_wanted_range_is_given_back_when_there_is_anything_in_it(store: Store) -> None:
    async with store.journal() as journal:
        await append(journal, 1, 2)
        epoch = journal.head.epoch
        asked = ((epoch, "audit", 2, 90), (epoch, "audit", 50, 2**62), (epoch, "state", 1, 1), ("x", "audit", 1, 1))
        word = Ack("hub", NODE.audience, {epoch: {"audit": (0, None)}}, asked)  # type: ignore[arg-type]
        assert (await journal.write(lambda t: apply_ack(t, "hub", word))).want == asked[:1]


async def rolled_back(store: Store, *, then: int) -> tuple[str, int, str]:
    """A node whose files went back together with their anchor, and which appended ``then`` events before it heard.

    Returns what its consumer holds: the epoch, the last seq and its hash.
    """
    async with store.journal() as journal:
        await append(journal, 1)
        copy = store.copy("image")
        await append(journal, 2, 3, 4)
        epoch, held = journal.head.epoch, hash_at(store, 5)
    store.put_back(copy)
    async with store.journal() as journal:
        await append(journal, *range(100, 100 + then))
    return epoch, 5, held


@pytest.mark.parametrize(("then", "reason"), [(0, "ahead_of_us"), (2, "ahead_of_us"), (9, "wrong_hash")])
async def test_an_ack_of_what_we_do_not_have_begins_a_new_epoch(store: Store, then: int, reason: str) -> None:
    epoch, seq, digest = await rolled_back(store, then=then)
    async with store.journal() as journal:
        assert (await acks(journal, "hub", {epoch: {"audit": (seq, digest)}})).refused == reason
        assert journal.head.epoch != epoch
        assert await cursor(journal, "hub") == 0
        await append(journal, 7)
        # The consumer goes on naming what it holds of the old one; that must not hold up the new one.
        fresh = {"audit": (1, hash_at(store, 1, journal.head.epoch))}
        both = {epoch: {"audit": (seq, digest)}, journal.head.epoch: fresh}
        assert (await acks(journal, "hub", both)).refused == ""
        assert await cursor(journal, "hub") == 1
        with store.reader() as reader:
            old = next(view for view in reader.views() if view.epoch == epoch)
        assert old.classes["audit"][0] == 0, "another history frees nothing of ours"


async def test_an_ack_beyond_an_epoch_that_ended_at_the_start_frees_all_of_it(store: Store) -> None:
    """The roll-back was found before anything was added: what we have is the beginning of what the consumer has."""
    async with store.journal() as journal:
        await append(journal, 1)
        copy = store.copy("image")
        await append(journal, 2, 3)
        await store.anchor(journal)
        epoch, digest = journal.head.epoch, hash_at(store, 4)
    store.put_back(copy)
    async with store.journal() as journal:
        for consumer in store.consumers:
            assert (await acks(journal, consumer, {epoch: {"audit": (4, digest)}})).refused == ""
        with store.reader() as reader:
            assert [view.epoch for view in reader.views()] == [journal.head.epoch]


async def held_by_all(store: Store, journal: SqlJournal) -> None:
    audit, state, telemetry = await journal.write(lambda t: tuple(t.head.last))
    for consumer in store.consumers:
        word = {"audit": (audit, hash_at(store, audit)), "state": (state, None), "telemetry": (telemetry, None)}
        assert (await ack(journal, consumer, **word)).refused == ""


async def rows(journal: SqlJournal) -> dict[int, int]:
    query = "SELECT class, count(*) FROM event GROUP BY class"
    return dict(await journal.write(lambda t: t.sql.execute(query).fetchall()))


async def test_nothing_is_deleted_that_one_consumer_lacks(store: Store) -> None:
    async with store.journal() as journal:
        for event_class in (AUDIT, STATE, TELEMETRY):
            await append(journal, 1, 2, 3, event_class=event_class)
        before = await rows(journal)
        await ack(journal, "hub", audit=(4, hash_at(store, 4)), state=(3, None), telemetry=(3, None))
        await journal.write(lambda t: delete_acknowledged(t, EVERYTHING))
        assert await rows(journal) == before


async def test_what_all_hold_goes_and_audit_stays_its_time(store: Store) -> None:
    limits = Limits(audit_s=30 * DAY, reserve_bytes=0)
    async with store.journal() as journal:
        for event_class in (AUDIT, STATE, TELEMETRY):
            await append(journal, 1, 2, 3, event_class=event_class)
        await store.clock.advance(2)
        await journal.seal_if_due()
        await held_by_all(store, journal)
        await journal.write(lambda t: delete_acknowledged(t, limits))
        assert await rows(journal) == {0: 5}
        await store.clock.advance(30 * DAY + 1)
        store.clock.trust(False)
        await journal.write(lambda t: delete_acknowledged(t, limits))
        assert await rows(journal) == {0: 5}, "on an untrusted clock nothing grows old"
        store.clock.trust(True)
        await journal.write(lambda t: delete_acknowledged(t, limits))
        assert await rows(journal) == {0: 1}, "the newest stays: the chain goes on from its hash"
    async with store.journal() as journal:
        await append(journal, 9)
        await append(journal, 9, event_class=STATE)
        assert list(journal.head.last) == [6, 4, 3]
        assert await journal.write(lambda t: t.sql.execute("SELECT count(*) FROM newest_state").fetchone()[0]) == 1
    assert store.told()[-1] == 9


async def test_where_space_is_short_acknowledged_audit_goes_before_its_time(store: Store) -> None:
    async with store.journal() as journal:
        await append(journal, 1, 2, 3)
        await held_by_all(store, journal)
        store.clock.trust(False)
        await journal.write(lambda t: delete_acknowledged(t, EVERYTHING))
        assert await rows(journal) == {0: 1}


async def test_a_large_deletion_goes_in_portions(store: Store) -> None:
    async with store.journal() as journal:
        await append(journal, *range(PORTION + 10), event_class=TELEMETRY)
        await held_by_all(store, journal)
        deleted = [await journal.write(lambda t: delete_acknowledged(t, EVERYTHING)) for _ in range(3)]
        assert deleted == [PORTION, 10, 0]


async def test_telemetry_is_thinned_first_then_superseded_state_and_audit_never(store: Store) -> None:
    async with store.journal() as journal:
        await append(journal, 1, 2, 3)
        await append(journal, 1, 2, event_class=STATE, subject="door/1")
        await append(journal, 3, event_class=STATE, subject="door/2")
        await append(journal, 1, 2, event_class=TELEMETRY)
        counts = [await journal.write(lambda t: thin(t, EVERYTHING)) for _ in range(3)]
        assert counts == [2, 1, 0]
        assert await rows(journal) == {0: 4, 1: 2}
    with store.reader() as reader:
        epoch = reader.views()[0].epoch
        state = [decode(body) for body in reader.pull(epoch, "state", 0, 10).bodies]
        telemetry = reader.pull(epoch, "telemetry", 0, 10)
    assert [(event.type == DROPPED, event.seq) for event in state] == [(True, 0), (False, 2), (False, 3)]
    (notice,) = [decode(body) for body in telemetry.bodies]
    assert msgspec.json.decode(notice.data, type=EventsDropped) == EventsDropped("telemetry", 1, 2, 2, "space")
    assert telemetry.upto == 2


async def test_a_journal_within_its_bounds_gives_nothing_up(store: Store) -> None:
    async with store.journal() as journal:
        await append(journal, 1, event_class=TELEMETRY)
        assert await journal.write(lambda t: thin(t, Limits(reserve_bytes=0))) == 0


async def test_thinned_numbers_that_are_neighbours_are_one_range(store: Store) -> None:
    async with store.journal() as journal:
        for start in range(0, 3 * PORTION, PORTION):
            await append(journal, *range(start, start + PORTION), event_class=TELEMETRY)
            await journal.write(lambda t: thin(t, EVERYTHING))
        found = await journal.write(lambda t: t.sql.execute("SELECT first, last, count FROM gap").fetchall())
        assert found == [(1, 3 * PORTION, 3 * PORTION)]


async def test_numbers_are_remembered_when_nothing_but_a_range_is_left(store: Store) -> None:
    async with store.journal() as journal:
        await append(journal, 1, 2, event_class=TELEMETRY)
        await journal.write(lambda t: thin(t, EVERYTHING))
    async with store.journal() as journal:
        await append(journal, 3, event_class=TELEMETRY)
        assert journal.head.last[2] == 3


async def test_link_numbers_rise_over_restarts(store: Store) -> None:
    numbers = []
    for _ in range(3):
        async with store.journal() as journal:
            numbers += [await journal.write(lambda t: next_link(t, "e")) for _ in range(2)]
    assert numbers == [1, 2, 3, 4, 5, 6]


gaps = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 5)), max_size=12)


@given(gaps)
def test_merging_keeps_every_number_and_adds_none(spans: list[tuple[int, int]]) -> None:
    given_gaps = [Gap(first, first + more, more + 1, "space") for first, more in spans]
    merged = merge_gaps(given_gaps)
    numbers = {n for gap in given_gaps for n in range(gap.first, gap.last + 1)}
    assert {n for gap in merged for n in range(gap.first, gap.last + 1)} == numbers
    assert all(one.last + 1 < other.first for one, other in itertools.pairwise(merged))
    assert sum(gap.count for gap in merged) == sum(gap.count for gap in given_gaps)
