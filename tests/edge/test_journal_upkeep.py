"""Beside the path of a pickup: seals in time, the anchor behind the commit, a bounded log, no death by a full disk."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.anchor_file import Anchor, read_anchor, write_anchor
from edge.errors import StoreCorrupt, StoreError
from edge.event import SEALED
from edge.journal import SEAL_AFTER_S, Limits
from edge.journal_log_file import LOG_BYTES, log_bytes
from edge.journal_sql import SqlJournal
from edge.journal_upkeep_asyncio import CHECKPOINT_EVERY, LONG_LOG, SWEEP_EVERY, TICK_S, Upkeep, checkpoint
from edge.reserve_file import Reserve
from tests.edge.journal_rig import TELEMETRY, Store, append


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "node").mkdir()
    return Store(tmp_path / "node")


class Rounds:
    """Counts the upkeep's rounds and lets a test wait for the next one."""

    def __init__(self) -> None:
        self.done = asyncio.Event()

    def __call__(self) -> None:
        self.done.set()


@contextlib.asynccontextmanager
async def kept(store: Store, journal: SqlJournal) -> AsyncIterator[tuple[asyncio.Task[None], Rounds]]:
    rounds = Rounds()
    upkeep = Upkeep(journal, store.place, store.limits, store.clock, rounds)
    task = asyncio.create_task(upkeep.run())
    try:
        await rounds.done.wait()
        yield task, rounds
    finally:
        task.cancel()
        await asyncio.wait([task])


async def one_round(store: Store, rounds: Rounds) -> None:
    rounds.done.clear()
    while not rounds.done.is_set():
        await store.clock.advance(TICK_S)
        await asyncio.sleep(0.001)


async def test_a_lone_event_is_sealed_though_nobody_asks(store: Store) -> None:
    async with store.journal() as journal, kept(store, journal) as (_, rounds):
        await append(journal, 1)
        for _ in range(int(SEAL_AFTER_S / TICK_S) + 1):
            await one_round(store, rounds)
        assert store.events()[-1].type == SEALED


async def test_the_anchor_follows_the_audit_class_at_once_and_the_others_now_and_then(store: Store) -> None:
    async with store.journal() as journal, kept(store, journal) as (_, rounds):
        await append(journal, 1)
        await one_round(store, rounds)
        await one_round(store, rounds)
        assert read_anchor(store.place.anchor) == Anchor(journal.head.epoch, 2, 0, 0)
        await append(journal, 1, event_class=TELEMETRY)
        await one_round(store, rounds)
        assert read_anchor(store.place.anchor) == Anchor(journal.head.epoch, 2, 0, 0)
        for _ in range(SWEEP_EVERY + 1):
            await one_round(store, rounds)
        anchor = read_anchor(store.place.anchor)
        assert anchor is not None
        assert anchor.telemetry == 1


async def test_what_all_hold_is_deleted_and_what_is_too_much_is_thinned(store: Store) -> None:
    store.limits = Limits(max_bytes=0, reserve_bytes=0)
    async with store.journal() as journal:
        await append(journal, *range(1200), event_class=TELEMETRY)
        async with kept(store, journal):
            left = await journal.write(lambda t: t.sql.execute("SELECT count(*) FROM event WHERE class = 2").fetchone())
            assert left == (0,)
            assert await journal.write(lambda t: t.sql.execute("SELECT first, last FROM gap").fetchall()) == [(1, 1200)]


async def test_when_the_writer_has_ended_so_does_the_upkeep(store: Store) -> None:
    async with store.journal() as journal, kept(store, journal) as (task, _):
        journal.condemn(StoreCorrupt("damage", remedy="none"))
        while not task.done():
            await store.clock.advance(TICK_S)
        with pytest.raises(StoreError):
            task.result()


async def test_a_full_disk_ends_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with store.journal() as journal, kept(store, journal) as (task, rounds):
        await append(journal, 1)
        pages = await journal.write(lambda t: t.sql.execute("PRAGMA page_count").fetchone()[0])
        await append(journal, *range(2, 60))
        await journal.write(lambda t: t.sql.execute(f"PRAGMA max_page_count = {pages}").fetchall())
        monkeypatch.setattr("edge.journal_upkeep_asyncio.write_anchor", full)
        for _ in range(20):
            await one_round(store, rounds)
        assert not task.done()
        monkeypatch.undo()
        await journal.write(lambda t: t.sql.execute("PRAGMA max_page_count = 100000").fetchall())
        for _ in range(2):
            await one_round(store, rounds)
        assert store.events()[-1].type == SEALED
        assert read_anchor(store.place.anchor) is not None


async def test_the_log_stays_bounded_while_much_is_written(store: Store) -> None:
    log = Path(f"{store.place.database}-wal")
    largest = 0
    async with store.journal() as journal:
        for start in range(0, 40_000, 1000):
            await append(journal, *range(start, start + 1000))
            await asyncio.to_thread(checkpoint, store.place.database)
            largest = max(largest, log.stat().st_size)  # noqa: ASYNC240  a look
    assert largest < 2 * LOG_BYTES
    assert store.place.database.stat().st_size > 3 * LOG_BYTES


async def test_the_log_is_made_long_and_begun_anew_beside_the_callers(store: Store) -> None:
    async with store.journal() as journal, kept(store, journal) as (_, rounds):
        await one_round(store, rounds)
        assert store.place.log.stat().st_size == LOG_BYTES
        await append(journal, *range(10_000))
        assert log_bytes(store.place.log) > LONG_LOG
        for _ in range(CHECKPOINT_EVERY + 1):
            await one_round(store, rounds)
        assert 0 < log_bytes(store.place.log) < LONG_LOG // 10


def test_a_reserve_is_held_given_up_and_held_again(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", 65_536)
    assert not reserve.held
    assert reserve.hold()
    assert (tmp_path / "reserve").stat().st_size == 65_536
    assert reserve.release()
    assert not reserve.release()
    assert reserve.hold()


def test_half_a_reserve_is_none(tmp_path: Path) -> None:
    (tmp_path / "reserve").write_bytes(b"")
    reserve = Reserve(tmp_path / "reserve", 65_536)
    assert not reserve.held
    assert reserve.hold()
    assert reserve.held


def test_no_reserve_is_taken_from_a_disk_that_has_not_twice_as_much(tmp_path: Path) -> None:
    assert not Reserve(tmp_path / "reserve", 1 << 60).hold()
    assert list(tmp_path.iterdir()) == []


def test_an_anchor_is_read_as_it_was_written(tmp_path: Path) -> None:
    anchor = Anchor("e", 3, 2, 1)
    write_anchor(tmp_path / "a.anchor", anchor)
    assert read_anchor(tmp_path / "a.anchor") == anchor
    assert [path.name for path in tmp_path.iterdir()] == ["a.anchor"]


@pytest.mark.parametrize("content", [b"", b"{}", b"\x00\xff", b'{"epoch":1}'])
def test_a_damaged_anchor_proves_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.anchor").write_bytes(content)
    assert read_anchor(tmp_path / "a.anchor") is None
    assert read_anchor(tmp_path / "missing.anchor") is None
