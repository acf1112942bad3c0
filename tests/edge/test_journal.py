"""What the journal promises its callers: durable or refused, all or nothing, in order, chained, sealed in time."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.errors import ProtocolError, StoreCorrupt, StoreError, StoreFull
from edge.event import BEGUN, SEALED, Draft, EventClass, JournalSealed
from edge.journal import SEAL_AFTER_S, SEAL_EVERY, Limits, Need
from edge.journal_sql import SqlJournal, SqlTransaction
from tests.edge.journal_rig import AUDIT, STATE, TELEMETRY, Store, append, draft


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "node").mkdir()
    return Store(tmp_path / "node")


def count(database: Path) -> int:
    """Rows as another process sees them."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return int(connection.execute("SELECT count(*) FROM event").fetchone()[0])
    finally:
        connection.close()


async def test_what_is_answered_is_on_the_disk(store: Store) -> None:
    async with store.journal() as journal:
        before = count(store.place.database)
        await journal.append(draft(1))
        assert count(store.place.database) == before + 1


async def test_callers_who_wait_together_share_one_transaction(store: Store) -> None:
    async with store.journal() as journal:
        begun: list[str] = []
        await journal.write(lambda t: t.sql.set_trace_callback(begun.append))
        begun.clear()
        await append(journal, *range(200))
        await journal.write(lambda t: t.sql.set_trace_callback(None))
        assert begun.count("COMMIT") == 1
    assert store.told() == list(range(200))


async def test_work_waits_for_the_disk_and_returns_its_result(store: Store) -> None:
    async with store.journal() as journal:

        def work(transaction: SqlTransaction) -> str:
            transaction.sql.execute("INSERT INTO role VALUES ('B7')")
            transaction.append(draft(1))
            return "done"

        assert await journal.write(work) == "done"
    assert store.told() == [1]


@pytest.mark.parametrize("company", [0, 3], ids=["alone", "in company"])
async def test_refused_work_leaves_no_trace_and_harms_nobody(store: Store, company: int) -> None:
    async with store.journal() as journal:

        def refused(transaction: SqlTransaction) -> None:
            transaction.sql.execute("INSERT INTO role VALUES ('B7')")
            transaction.append(draft(99))
            transaction.append(draft(99, STATE))
            raise ValueError("the caller's own rule")

        futures = [journal.append(draft(n)) for n in range(company)]
        futures.append(journal.write(refused))
        futures += [journal.append(draft(company + n)) for n in range(company)]
        results = await asyncio.gather(*futures, return_exceptions=True)
        assert isinstance(results[company], ValueError)
        assert [each for each in results if each is not None] == [results[company]]
        await append(journal, 1000)
        assert await journal.write(lambda t: t.sql.execute("SELECT count(*) FROM role").fetchone()[0]) == 0
        assert await journal.write(lambda t: t.head.last[1]) == 0
    assert store.told() == [*range(2 * company), 1000]


async def test_one_callers_wrong_statement_is_that_callers_alone(store: Store) -> None:
    async with store.journal() as journal:
        wrong = journal.write(lambda t: t.sql.execute("INSERT INTO nowhere VALUES (1)"))
        await append(journal, 1)
        with pytest.raises(sqlite3.OperationalError):
            await wrong
    assert store.told() == [1]


async def test_an_oversized_event_is_its_authors_problem(store: Store) -> None:
    async with store.journal() as journal:
        huge = journal.append(Draft(AUDIT, "test.happened", "x" * 40_000, {}))
        await append(journal, 1)
        with pytest.raises(ProtocolError):
            await huge
    assert store.told() == [1]


async def test_every_class_counts_for_itself(store: Store) -> None:
    async with store.journal() as journal:
        for event_class in EventClass:
            await append(journal, 1, 2, 3, event_class=event_class)
        assert await journal.write(lambda t: list(t.head.last)) == [4, 3, 3]  # begun, and three of each
    assert [event.seq for event in store.events()] == [1, 2, 3, 4]


async def test_a_seal_follows_as_soon_as_64_events_wait(store: Store) -> None:
    async with store.journal() as journal:
        for n in range(SEAL_EVERY - 2):
            await append(journal, n)
        assert not [event for event in store.events() if event.type == SEALED]
        await append(journal, 62)
    *_, last = store.events()
    assert (last.type, last.seq) == (SEALED, SEAL_EVERY + 1)


async def test_a_lone_event_is_sealed_two_seconds_later(store: Store) -> None:
    async with store.journal() as journal:
        await store.clock.advance(SEAL_AFTER_S)
        await journal.seal_if_due()
        await append(journal, 1)
        await store.clock.advance(SEAL_AFTER_S - 0.01)
        await journal.seal_if_due()
        assert store.events()[-1].type == "test.happened"
        await store.clock.advance(0.01)
        await journal.seal_if_due()
        sealed = store.events()[-1]
        assert sealed.type == SEALED
        await store.clock.advance(100)
        await journal.seal_if_due()
        assert store.events()[-1] == sealed, "with nothing new there is nothing to seal"


async def test_what_was_left_unsealed_is_sealed_after_a_restart(store: Store) -> None:
    async with store.journal() as journal:
        await append(journal, 1)
    async with store.journal() as journal:
        await store.clock.advance(SEAL_AFTER_S)
        await journal.seal_if_due()
        first = sealed_from(store.events()[-1])
    assert first == 1
    async with store.journal() as journal:
        await append(journal, 2)
        await store.clock.advance(SEAL_AFTER_S)
        await journal.seal_if_due()
    assert sealed_from(store.events()[-1]) == 4, "a run is sealed once"


def sealed_from(event: Any) -> int:
    return msgspec.json.decode(event.data, type=JournalSealed).first


async def test_numbers_and_chain_go_on_after_a_restart(store: Store) -> None:
    for n in range(3):
        async with store.journal() as journal:
            await append(journal, n)
            await append(journal, n, event_class=TELEMETRY)
    events = store.events()
    assert [event.type for event in events].count(BEGUN) == 1
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    async with store.journal() as journal:
        assert await journal.write(lambda t: t.head.last[2]) == 3


async def test_growth_is_told_once_for_each_commit_that_grew(store: Store) -> None:
    async with store.journal() as journal:
        grown: list[int] = []
        journal.on_growth = lambda: grown.append(1)
        await append(journal, *range(50))
        await journal.write(lambda _: None)
    assert len(grown) == 1


async def test_closing_writes_what_waits_and_refuses_what_comes_later(store: Store) -> None:
    journal = store.open().journal
    journal.start()
    waiting = [journal.append(draft(n)) for n in range(10)]
    await journal.close()
    await asyncio.gather(*waiting)
    with pytest.raises(StoreError):
        await journal.append(draft(11))
    assert store.told() == list(range(10))


async def test_a_full_disk_refuses_all_and_forgets_nothing(store: Store) -> None:
    """SQLite's own bound on pages gives the same error as a full disk, and works for any user."""
    async with store.journal() as journal:
        await append(journal, 1)
        pages = await journal.write(lambda t: t.sql.execute("PRAGMA page_count").fetchone()[0])
        await journal.write(lambda t: t.sql.execute(f"PRAGMA max_page_count = {pages}").fetchall())
        refused = await asyncio.gather(*(journal.append(draft(n)) for n in range(100, 400)), return_exceptions=True)
        assert {type(each) for each in refused} == {StoreFull}
        await journal.write(lambda t: t.sql.execute("PRAGMA max_page_count = 100000").fetchall())
        await append(journal, 2)
    assert store.told() == [1, 2]


async def test_the_reserve_is_given_to_collections_alone(store: Store) -> None:
    store.limits = Limits(reserve_bytes=65_536)
    async with store.journal() as journal:
        assert store.place.reserve.stat().st_size == 65_536
        pages = await journal.write(lambda t: t.sql.execute("PRAGMA page_count").fetchone()[0])
        await journal.write(lambda t: t.sql.execute(f"PRAGMA max_page_count = {pages}").fetchall())
        # What fills the disk is a deposit; what follows finds the reserve given up.
        deposits = [journal.write(fill, Need.DEPOSIT) for _ in range(2)]
        assert {type(each) for each in await asyncio.gather(*deposits, return_exceptions=True)} == {StoreFull}
        assert not store.place.reserve.exists()
        await journal.write(lambda t: t.sql.execute("PRAGMA max_page_count = 100000").fetchall())
        await append(journal, 1)
        with pytest.raises(StoreFull):
            await journal.write(lambda _: None, Need.DEPOSIT)
        with pytest.raises(StoreFull):
            await journal.append(draft(2, TELEMETRY))
    assert store.told() == [1]


def fill(transaction: SqlTransaction) -> None:
    for n in range(40):
        transaction.append(draft(n, subject="x" * 2000))


async def test_damage_met_while_running_ends_the_journal_and_marks_the_file(store: Store) -> None:
    async with store.journal() as journal:

        def damaged(_: SqlTransaction) -> None:
            error = sqlite3.DatabaseError("database disk image is malformed")
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error

        beside = journal.append(draft(1))
        with pytest.raises(StoreCorrupt):
            await journal.write(damaged)
        with pytest.raises(StoreCorrupt):
            await beside
        with pytest.raises(StoreCorrupt):
            await journal.append(draft(2))
        assert store.place.suspect.exists()
    assert store.open_and_close().quarantined is not None


async def test_after_a_commit_that_failed_nothing_is_written_until_the_file_was_opened_again(store: Store) -> None:
    """Whether such a commit is on the disk nobody can know: the next start finds out."""
    async with store.journal() as journal:
        await append(journal, 1)
        _break_commits(journal)
        with pytest.raises(StoreError):
            await journal.append(draft(2))
        with pytest.raises(StoreError):
            await journal.append(draft(3))
    async with store.journal() as journal:
        await append(journal, 4)
    assert store.told() == [1, 4]


def _break_commits(journal: SqlJournal) -> None:
    class Broken:
        def __init__(self, connection: sqlite3.Connection) -> None:
            self._connection = connection

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

        def execute(self, statement: str, *values: Any) -> Any:
            if statement == "COMMIT":
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = sqlite3.SQLITE_IOERR
                raise error
            return self._connection.execute(statement, *values)

    journal._writer._connection = Broken(journal._writer._connection)  # type: ignore[assignment]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_writer_that_dies_leaves_nobody_waiting(store: Store) -> None:
    async with store.journal() as journal:

        class Bursting:
            kid = "x"

            def sign(self, _: bytes) -> bytes:
                raise MemoryError

        journal._writer._sealer = Bursting()
        waiting = [journal.append(draft(n)) for n in range(SEAL_EVERY)]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(each) for each in results} == {StoreError}
        with pytest.raises(StoreError):
            await journal.append(draft(1))
        with pytest.raises(StoreError):
            await journal.seal_if_due()
    assert "journal" not in {thread.name for thread in threading.enumerate()}
    assert store.told() == []


async def test_before_it_is_started_the_journal_says_so(store: Store) -> None:
    journal = store.open().journal
    with pytest.raises(StoreError):
        await journal.append(draft(1))
    journal._writer.close()
