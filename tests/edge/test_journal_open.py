"""Whatever was done to the files, opening them ends in a journal that gives no number to two different events."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from edge.errors import StoreError, StoreFull
from edge.event import BEGUN, JournalBegun
from edge.journal_sql import SqlJournal, SqlTransaction
from edge.keys import SigningKey
from tests.edge.journal_rig import AUDIT, STATE, STEPS, TELEMETRY, Store, append, begun, begun_by, lived
from tests.edge.trust import seed


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "node").mkdir()
    return Store(tmp_path / "node")


async def causes(store: Store) -> list[str]:
    async with store.journal():
        pass
    return [begun(event).cause for event in store.events() if event.type == BEGUN]


async def test_a_new_node_begins(store: Store) -> None:
    assert await causes(store) == ["new"]
    assert begun(store.events()[0]) == JournalBegun("", 0, "new")
    assert store.rebuilt == 0


async def test_a_restart_goes_on(store: Store) -> None:
    await lived(store, 1)
    await lived(store, 2)
    assert await causes(store) == ["new"]


async def test_a_kill_goes_on(store: Store) -> None:
    """A copy taken while the journal is open is what a kill leaves."""
    async with store.journal() as journal:
        await append(journal, 1, 2)
        await store.anchor(journal)
        killed = store.copy("killed")
    store.put_back(killed)
    await lived(store, 3)
    assert store.told() == [1, 2, 3]
    assert await causes(store) == ["new"]


async def test_a_kill_before_the_first_anchor_goes_on(store: Store) -> None:
    async with store.journal() as journal:
        await append(journal, 1)
    assert not store.place.anchor.exists()
    assert await causes(store) == ["new"]


@pytest.mark.parametrize("event_class", [AUDIT, STATE, TELEMETRY])
async def test_a_database_that_went_back_begins_anew(store: Store, event_class) -> None:
    old = await lived(store, 1)
    copy = store.copy("older")
    async with store.journal() as journal:
        await append(journal, 2, event_class=event_class)
        await store.anchor(journal)
    store.put_back(copy)
    assert await causes(store) == ["new", "rolled_back"]
    (first,) = [begun(event) for event in store.events() if begun_by(event, "rolled_back")]
    assert (first.previous, first.last_seq, first.kept_seq) == (old, None, 2)
    with store.reader() as reader:
        assert len(reader.views()) == 2, "the old epoch is still there to be pulled"


async def test_the_end_of_the_old_chain_is_vouched_for(store: Store) -> None:
    """The last events before a roll-back may have no seal; what the next epoch says of them stands for one."""
    await lived(store, 1)
    copy = store.copy("older")
    await lived(store, 2)
    store.put_back(copy)
    await causes(store)
    with store.reader() as reader:
        rows = list(reader.audit())
    (first,) = [begun(event) for event in store.events() if begun_by(event, "rolled_back")]
    assert (first.kept_seq, first.kept_hash) == (2, rows[1][3].hex())


async def test_a_restored_backup_of_an_earlier_epoch_begins_anew(store: Store) -> None:
    await lived(store, 1)
    copy = store.copy("backup")
    await lived(store, 2)
    store.put_back(copy)
    await lived(store, 3)  # rolled back: a second epoch, and its anchor
    store.put_back(copy)
    assert await causes(store) == ["new", "restored"]


async def test_another_role_key_means_a_clone(store: Store) -> None:
    old = await lived(store, 1)
    store.role = SigningKey(seed("another"))
    assert await causes(store) == ["new", "cloned"]
    (first,) = [begun(event) for event in store.events() if begun_by(event, "cloned")]
    assert (first.previous, first.last_seq) == (old, 2)


@pytest.mark.parametrize("left", ["nothing", "an empty file"])
async def test_a_lost_database_begins_anew_and_the_role_is_asked(store: Store, left: str) -> None:
    old = await lived(store, 1)
    for path in store.folder.glob("state.db*"):
        path.unlink()
    if left == "an empty file":
        store.place.database.touch()
    assert await causes(store) == ["lost"]
    assert begun(store.events()[0]).previous == old
    assert store.rebuilt == 1


async def test_a_database_of_a_newer_release_is_left_as_it_is(store: Store) -> None:
    await lived(store, 1)
    newer = (*STEPS, lambda sql: sql.execute("CREATE TABLE later (x)"))
    store.open(newer).journal._writer.close()
    before = store.place.database.read_bytes()
    with pytest.raises(StoreError, match="version 3, this release knows 2"):
        store.open()
    assert store.place.database.read_bytes() == before
    assert not list(store.folder.glob("*.quarantined*"))


async def test_a_step_that_fails_changes_nothing_and_quarantines_nothing(store: Store) -> None:
    await lived(store, 1)
    wrong = (
        *STEPS,
        lambda sql: sql.execute("CREATE TABLE extra (x)"),
        lambda sql: sql.execute("ALTER TABLE no RENAME TO yes"),
    )
    with pytest.raises(StoreError, match="from version 2 to 4"):
        store.open(wrong)
    assert store.open_and_close().quarantined is None
    assert store.told() == [1]


async def test_an_old_database_is_brought_forward(store: Store) -> None:
    await lived(store, 1)
    newer = (*STEPS, lambda sql: sql.execute("CREATE TABLE later (x)"))
    journal = store.open(newer).journal
    journal.start()
    await journal.write(lambda t: t.sql.execute("INSERT INTO later VALUES (1)"))
    await journal.close()
    assert store.told() == [1]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere"):
        Store(tmp_path / "nowhere").open()


async def test_a_full_disk_at_start_is_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect

    def small(*args: object, **named: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **named)  # type: ignore[call-overload]
        connection.execute("PRAGMA max_page_count = 2")
        return connection

    monkeypatch.setattr("edge.journal_open_sql.sqlite3.connect", small)
    with pytest.raises(StoreFull):
        store.open()


async def test_a_new_consumer_begins_after_what_is_there(store: Store) -> None:
    await lived(store, 1, 2, 3)
    store.consumers = ("hub", "cloud")
    async with store.journal() as journal:
        assert journal.head.starts == {"hub": 1, "cloud": 5}
        assert await journal.write(cursors) == {"hub": (0, 0, 0), "cloud": (4, 3, 3)}


def cursors(transaction: SqlTransaction) -> dict[str, tuple[int, ...]]:
    rows = transaction.sql.execute("SELECT consumer, seq FROM cursor ORDER BY consumer, class").fetchall()
    return {name: tuple(seq for one, seq in rows if one == name) for name, _ in rows}


async def test_a_consumer_taken_out_of_the_config_holds_nothing_back(store: Store) -> None:
    store.consumers = ("hub", "cloud")
    await lived(store, 1, 2)
    store.consumers = ("hub",)
    async with store.journal() as journal:
        assert await journal.write(cursors) == {"hub": (0, 0, 0)}
        assert journal.head.starts == {"hub": 1}


async def test_exchanging_the_only_consumer_gives_no_number_again(store: Store) -> None:
    """When every row is held and deleted, the cursor of the one who leaves is all that remembers the numbers."""
    await lived(store, 1, 2, 3)
    async with store.journal() as journal:
        await journal.write(_hold_and_delete)
    store.consumers = ("cloud",)
    async with store.journal() as journal:
        await append(journal, 4, event_class=TELEMETRY)
        assert list(journal.head.last) == [4, 3, 4]


def _hold_and_delete(transaction: SqlTransaction) -> None:
    transaction.sql.execute("UPDATE cursor SET seq = 3 WHERE class <> 0")
    transaction.sql.execute("DELETE FROM event WHERE class <> 0")


async def test_ready_at_once_with_a_long_journal(store: Store) -> None:
    """Opening looks at the ends alone: ten times the rows cost no more (`benchmarks/journal.py` has a million)."""

    def open_in() -> float:
        began = time.perf_counter()
        store.open_and_close()
        return time.perf_counter() - began

    async with store.journal() as journal:
        await many(journal, 2_000)
    short = min(open_in() for _ in range(5))
    async with store.journal() as journal:
        await many(journal, 20_000)
    assert min(open_in() for _ in range(5)) < 3 * short + 0.005


async def many(journal: SqlJournal, rows: int) -> None:
    for start in range(0, rows, 1000):
        await append(journal, *range(start, start + 1000))
