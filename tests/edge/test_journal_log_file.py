"""The write-ahead log as a file: its blocks are there beforehand, and nothing of it is ever lost by that."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from edge.journal_log_file import LOG_BYTES, lengthen_log, log_bytes
from edge.journal_upkeep_asyncio import LONG_LOG, checkpoint
from tests.edge.journal_rig import Store, append

FRAME = 24 + 4096


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "node").mkdir()
    return Store(tmp_path / "node")


async def test_a_log_made_long_between_commits_keeps_them_all_across_a_kill(store: Store) -> None:
    async with store.journal() as journal:
        await append(journal, *range(10))
        lengthen_log(store.place.log)
        await append(journal, *range(10, 20))
        assert store.place.log.stat().st_size == LOG_BYTES
        told = store.events()
        copy = store.copy("after")
    (copy / "state.db-shm").unlink()  # so that the next to open has to find the end of the log by itself
    assert [event.id for event in Store(copy).events()] == [event.id for event in told]
    async with Store(copy).journal() as journal:
        assert journal.head.audit == told[-1].seq


async def test_the_writer_adds_to_a_log_while_it_is_made_long(store: Store) -> None:
    async with store.journal() as journal:
        longer = asyncio.create_task(asyncio.to_thread(lengthen_log, store.place.log))
        for start in range(0, 2000, 100):
            await append(journal, *range(start, start + 100))
        await longer
        assert len(store.events()) >= 2000  # numbers, chain and seals are checked on the way


async def test_a_long_log_costs_no_growth(store: Store) -> None:
    async with store.journal() as journal:
        await append(journal, 0)
        lengthen_log(store.place.log)
        before = store.place.log.stat()
        for n in range(1, 20):
            await append(journal, n)
        assert store.place.log.stat().st_size == before.st_size
        assert store.place.log.stat().st_blocks == before.st_blocks


async def test_what_is_in_use_of_a_long_log_is_counted_by_frames(store: Store) -> None:
    async with store.journal() as journal:
        await append(journal, 0)
        lengthen_log(store.place.log)
        before = log_bytes(store.place.log)
        await append(journal, *range(1, 100))
        after = log_bytes(store.place.log)
        assert before < after < LOG_BYTES
        assert before % FRAME == after % FRAME == 0


async def test_a_log_that_is_in_the_database_begins_anew(store: Store) -> None:
    async with store.journal() as journal:
        lengthen_log(store.place.log)
        await append(journal, 0)
        assert not checkpoint(store.place.database)
        await append(journal, *range(1, 10_000))
        assert log_bytes(store.place.log) > LONG_LOG
        assert checkpoint(store.place.database)
        await append(journal, 10_000)
        assert log_bytes(store.place.log) < 10 * FRAME


def test_a_log_that_is_not_there_or_empty_has_nothing(tmp_path: Path) -> None:
    log = tmp_path / "state.db-wal"
    lengthen_log(log)
    assert not log.exists()
    assert log_bytes(log) == 0
    log.touch()
    assert log_bytes(log) == 0
    lengthen_log(log)
    assert log_bytes(log) == 0


def test_an_empty_log_made_long_is_no_log_to_sqlite(tmp_path: Path) -> None:
    sql = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    sql.execute("PRAGMA journal_mode = WAL")
    sql.execute("CREATE TABLE t (n INTEGER)")
    sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    lengthen_log(tmp_path / "state.db-wal")
    sql.execute("INSERT INTO t VALUES (1)")
    other = sqlite3.connect(tmp_path / "state.db")
    assert other.execute("SELECT n FROM t").fetchall() == [(1,)]
    other.close()
    sql.close()


def test_a_disk_that_has_not_twice_as_much_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "state.db-wal"
    log.write_bytes(b"log")
    monkeypatch.setattr("edge.journal_log_file.shutil.disk_usage", lambda _: _Usage())
    lengthen_log(log)
    assert log.read_bytes() == b"log"


class _Usage:
    free = 2 * LOG_BYTES - 1
