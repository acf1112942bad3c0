"""Readers see one moment of the journal, in packets, and neither hold up the writer nor can be made to read it all."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from edge.errors import ProtocolError, StoreCorrupt
from edge.event import decode
from edge.journal import Limits
from edge.journal_keep_sql import thin
from edge.journal_read_sql import AUDIT_ROWS
from edge.link import MAX_PULL_EVENTS, PULL_BYTES
from tests.edge.journal_rig import AUDIT, STATE, TELEMETRY, Store, append, draft, header_lost, told


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "node").mkdir()
    return Store(tmp_path / "node")


async def test_pulls_follow_one_another_without_a_gap_or_a_repeat(store: Store) -> None:
    async with store.journal() as journal:
        await append(journal, *range(1234), event_class=STATE)
        epoch = journal.head.epoch
    with store.reader() as reader:
        found, after = [], 0
        while (pulled := reader.pull(epoch, "state", after, 100)).bodies:
            found += [told(decode(body)) for body in pulled.bodies]
            after = pulled.upto
    assert found == list(range(1234))
    assert pulled.upto == after == 1234


async def test_a_pull_fits_a_packet_and_holds_at_least_one_event(store: Store) -> None:
    async with store.journal() as journal:
        for n in range(10):
            await journal.append(draft(n, subject="x" * 30_000))
        epoch = journal.head.epoch
    with store.reader() as reader:
        assert len(reader.pull(epoch, "audit", 1, 500).bodies) == 1
        small = reader.pull(epoch, "audit", 0, 500)
        assert sum(map(len, small.bodies)) <= PULL_BYTES


@pytest.mark.parametrize("most", [-1, 0, 10**9])
async def test_nobody_can_ask_for_everything(store: Store, most: int) -> None:
    """To SQLite a negative limit is none at all."""
    async with store.journal() as journal:
        await append(journal, *range(MAX_PULL_EVENTS + 50), event_class=STATE)
        epoch = journal.head.epoch
    with store.reader() as reader:
        assert len(reader.pull(epoch, "state", 0, most).bodies) <= MAX_PULL_EVENTS


@pytest.mark.parametrize("after", [-(2**46), -1, 2**46, 2**63, 2**64])
async def test_no_number_reaches_into_another_class(store: Store, after: int) -> None:
    async with store.journal() as journal:
        for event_class in (AUDIT, STATE, TELEMETRY):
            await append(journal, 1, event_class=event_class)
        epoch = journal.head.epoch
    with store.reader() as reader:
        bodies = reader.pull(epoch, "state", after, 500).bodies
    assert {decode(body).lmclass for body in bodies} <= {"state"}
    assert bool(bodies) == (after < 0)


@pytest.mark.parametrize(("epoch", "event_class"), [("", "audit"), ("unknown", "audit"), (None, "gossip")])
async def test_a_journal_that_is_not_there_is_refused(store: Store, epoch: str | None, event_class: str) -> None:
    async with store.journal() as journal:
        known = journal.head.epoch
    with store.reader() as reader, pytest.raises(ProtocolError):
        reader.pull(known if epoch is None else epoch, event_class, 0, 10)


async def test_rows_and_ranges_come_in_their_order(store: Store) -> None:
    """State of ten doors, superseded twice: what was given up lies between what is kept."""
    async with store.journal() as journal:
        for turn in range(3):
            for door in range(10):
                await append(journal, turn, event_class=STATE, subject=f"door/{door if turn != 1 else door % 2}")
        await journal.write(lambda t: thin(t, Limits(max_bytes=0)))
        epoch = journal.head.epoch
    with store.reader() as reader:
        for most in (1, 2, 3, 500):
            covered: list[int] = []
            after = 0
            while (pulled := reader.pull(epoch, "state", after, most)).bodies:
                for event in map(decode, pulled.bodies):
                    span = event.id.rpartition(".")[2].split("-") if not event.seq else [event.seq] * 2
                    covered += range(int(span[0]), int(span[1]) + 1)
                after = pulled.upto
            assert covered == list(range(1, 31))


async def test_a_reader_holds_up_no_writer(store: Store) -> None:
    async with store.journal() as journal:
        await append(journal, 1)
        with store.reader() as reader:
            reading = reader.audit()
            next(reading)
            await append(journal, 2)
            reader.views()


async def test_a_walk_through_all_leaves_the_log_free_to_be_cut_back(store: Store) -> None:
    async with store.journal() as journal:
        await append(journal, *range(AUDIT_ROWS + 100))
        with store.reader() as reader:
            walk = reader.audit()
            next(walk)
            other = sqlite3.connect(store.place.database)
            busy, *_ = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            other.close()
            assert busy == 0
            assert len(list(walk)) > AUDIT_ROWS


async def test_the_tail_is_the_last_in_time_of_all_classes(store: Store) -> None:
    async with store.journal() as journal:
        for n, event_class in enumerate((AUDIT, STATE, TELEMETRY, AUDIT, STATE)):
            await append(journal, n, event_class=event_class)
            await store.clock.advance(0.1)
    with store.reader() as reader:
        assert [told(event) for event in reader.tail(3)] == [2, 3, 4]


async def test_old_epochs_are_seen_until_all_is_held(store: Store) -> None:
    async with store.journal() as journal:
        await append(journal, 1, event_class=TELEMETRY)
        first = journal.head.epoch
    store.place.suspect.touch()
    async with store.journal() as journal:
        with store.reader() as reader:
            old, new = reader.views()
            assert (old.epoch, old.classes) == (first, {"audit": (0, 1), "state": (0, 0), "telemetry": (0, 1)})
            await journal.write(lambda t: t.sql.execute("UPDATE cursor SET seq = 1 WHERE epoch_no = 1 AND class <> 1"))
            assert reader.views() == (new,)


async def test_damage_is_told_as_damage(store: Store) -> None:
    async with store.journal() as journal:
        await append(journal, 1)
    header_lost(store.place.database)
    with store.reader() as reader, pytest.raises(StoreCorrupt):
        reader.views()
