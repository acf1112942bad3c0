"""A damaged database is set aside whole; what can be read of it is kept, and power may fail at any point of that."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edge.event import BEGUN
from edge.journal_sql import SqlTransaction
from tests.edge.journal_rig import TELEMETRY, Store, append, begun, begun_by, header_lost, lived


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "node").mkdir()
    return Store(tmp_path / "node")


def overwritten(path: Path) -> None:
    """Random bytes in the middle, at pages that a start need not look at."""
    size, noise = path.stat().st_size, random.Random(3)
    with path.open("r+b") as file:
        for at in range(size // 3, 2 * size // 3, 4096):
            file.seek(at)
            file.write(noise.randbytes(4096))


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def not_a_database(path: Path) -> None:
    path.write_bytes(b"These are the notes of last year's summer party.\n" * 500)


async def filled(store: Store) -> str:
    """Enough rows for many pages, all of them in the database and none in the log."""
    async with store.journal() as journal:
        for start in range(0, 1000, 100):
            await append(journal, *range(start, start + 100))
            await append(journal, *range(start, start + 100), event_class=TELEMETRY)
        await store.anchor(journal)
        return journal.head.epoch


@pytest.mark.parametrize(
    ("damage", "kept"), [(overwritten, 300), (truncated, 300), (header_lost, 0), (not_a_database, 0)]
)
async def test_a_damaged_database_is_set_aside_and_what_can_be_read_is_kept(
    store: Store, damage: Callable[[Path], None], kept: int
) -> None:
    old = await filled(store)
    damage(store.place.database)
    store.place.suspect.touch()
    opened = store.open()
    opened.journal.start()
    await append(opened.journal, 5000)
    assert await opened.journal.write(role_rows) == ["from the copy"]
    await opened.journal.close()
    assert opened.quarantined is not None
    assert opened.quarantined.exists()
    assert not store.place.suspect.exists()
    with store.reader() as reader:
        rows = list(reader.audit())
        fresh = [row for row in rows if row[0] != old]
        assert len(rows) - len(fresh) >= kept
        assert len({(epoch, seq) for epoch, seq, _, _ in rows}) == len(rows)
    assert [event.type for event in store.events(fresh[0][0])] == [BEGUN, "test.happened"]
    assert begun(store.events(fresh[0][0])[0]).cause == "quarantined"


def role_rows(transaction: SqlTransaction) -> list[str]:
    return [door for (door,) in transaction.sql.execute("SELECT door FROM role")]


async def test_damage_where_a_start_looks_needs_no_suspicion(store: Store) -> None:
    await filled(store)
    header_lost(store.place.database)
    assert store.open_and_close().quarantined is not None


async def test_any_damage_anywhere_ends_in_a_journal(store: Store) -> None:
    """A hundred times random bytes at a random place: what opens goes on, and what is read of it is sound."""
    await filled(store)
    sound, noise = store.copy("sound"), random.Random(11)
    size, whole = store.place.database.stat().st_size, len(store.events()) + 2
    rescued = []
    for turn in range(100):
        store.put_back(sound)
        with store.place.database.open("r+b") as file:
            file.seek(noise.randrange(size))
            file.write(noise.randbytes(noise.choice([1, 8, 4096, 20_000])))
        store.place.suspect.touch()
        async with store.journal() as journal:
            await append(journal, 10_000 + turn)
            await append(journal, 1, event_class=TELEMETRY)
        with store.reader() as reader:
            rescued.append(len(list(reader.audit())))
            for view in reader.views():
                reader.pull(view.epoch, "telemetry", 0, 500)
        for path in store.folder.glob("state.quarantined*"):
            path.unlink()
    assert sorted(rescued)[10] >= whole - 50, "damage to one place costs what lies there"


async def test_telemetry_that_damage_took_is_told_as_gone(store: Store) -> None:
    old = await filled(store)
    overwritten(store.place.database)
    store.place.suspect.touch()
    store.open_and_close()
    with store.reader() as reader:
        last = next(view for view in reader.views() if view.epoch == old).classes["telemetry"][1]
        covered, at = 0, 0
        while at < last:
            pulled = reader.pull(old, "telemetry", at, 500)
            for body in pulled.bodies:
                event = msgspec.json.decode(body)
                data = event["data"]
                span = (data["first"], data["last"]) if "first" in data else (event["seq"], event["seq"])
                assert span[0] == covered + 1, "nothing is missing in silence"
                covered = span[1]
            at = pulled.upto
    assert covered == last


async def test_a_lost_cursor_means_that_all_is_sent_again(store: Store) -> None:
    """What a consumer has not acknowledged must not be freed because damage took its cursor."""
    old = await filled(store)
    async with store.journal() as journal:
        await journal.write(lambda t: t.sql.execute("DELETE FROM cursor"))
    store.place.suspect.touch()
    store.open_and_close()
    with store.reader() as reader:
        assert next(view for view in reader.views() if view.epoch == old).classes["audit"][0] == 0


async def test_an_epoch_whose_row_is_lost_keeps_its_events(store: Store) -> None:
    old = await filled(store)
    async with store.journal() as journal:
        await journal.write(lambda t: t.sql.execute("DELETE FROM epoch"))
    store.place.suspect.touch()
    await lived(store, 7000)
    assert len(store.events(old)) > 1000


STOPS = ["before the exchange", "after the database went", "after its log went", "before the new epoch"]


@pytest.mark.parametrize("stop", STOPS)
async def test_power_may_fail_at_any_point_of_a_rebuild(
    store: Store, stop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await filled(store)
    async with store.journal() as journal:
        await append(journal, 2000)
        copy = store.copy("with its log")
    store.put_back(copy)
    assert (copy / "state.db-wal").stat().st_size > 0
    store.place.suspect.touch()
    fail_at(stop, store, monkeypatch)
    with pytest.raises(PowerCut) as power:
        store.open_and_close()
    assert store.held_files() == set(), f"kept open after {power.value!r}"
    monkeypatch.undo()
    async with store.journal() as journal:
        assert await journal.write(role_rows) == ["from the copy"]
        await append(journal, 3000)
    assert 2000 in store.told(), "not even what was only in the log is lost"
    assert 3000 in store.told()
    quarantined = [event for event in store.events() if begun_by(event, "quarantined")]
    assert [begun(event).previous for event in quarantined] == [old]


class PowerCut(BaseException):
    """The process ends here."""


def fail_at(stop: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename
    target = {
        "before the exchange": str(store.place.database),
        "after the database went": f"{store.place.database}-wal",
        "after its log went": str(store.place.rebuilt),
    }.get(stop)

    def cut(path: Path, to: Path) -> Path:
        if str(path) == target:
            raise PowerCut
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", cut)
    if stop == "before the new epoch":
        monkeypatch.setattr("edge.journal_open_sql._begin_epoch", _cut)


def _cut(*_: object) -> None:
    raise PowerCut
