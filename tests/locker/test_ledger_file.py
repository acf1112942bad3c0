"""The ledger's copies: what a destroyed, lost or exchanged database comes back with, and what is not taken for free."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from edge.schema_sql import migrate
from locker.contract import Reason, Word
from locker.kiosk import Accepted, Refused
from locker.ledger_file import copy_paths, newest_copy, read_ledger
from locker.ledger_sql import LOCKER_STEPS, SqlLedger
from tests.locker.rig import LockerRig, running


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[LockerRig]:
    async with running(tmp_path) as rig:
        yield rig


async def with_parcels(rig: LockerRig) -> list[str]:
    doors = [await rig.load("p1"), await rig.load("p2")]
    await rig.upkeep.copied()
    await rig.crash()
    return doors


def destroy(rig: LockerRig) -> None:
    rig.destroy()


def lose(rig: LockerRig) -> None:
    for path in rig.folder.glob("state.db*"):
        path.unlink()


def put_back(rig: LockerRig) -> None:
    for suffix in ("-wal", "-shm"):
        Path(f"{rig.database}{suffix}").unlink(missing_ok=True)
    shutil.copy(rig.folder / "backup", rig.database)


def spoil(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 0xFF
    path.write_bytes(bytes(body))


@pytest.mark.parametrize("ruin", [destroy, lose])
async def test_codes_still_open_and_nothing_occupied_is_offered(rig: LockerRig, ruin: object) -> None:
    doors = await with_parcels(rig)
    assert callable(ruin)
    ruin(rig)
    await rig.start()
    third = await rig.deposit("p3")
    assert isinstance(third, Accepted)
    assert third.door not in doors
    await rig.pass_time(2.0)
    for number, door in enumerate(doors, start=1):
        accepted = await rig.accepted(f"p{number}")
        assert accepted.door == door
        await rig.pass_time(1.0)
        rig.bench.take(door)
        rig.bench.shut(door)
        await rig.pass_time(1.0)
        assert await rig.refused(f"p{number}") == "used"


async def test_without_any_copy_nothing_is_known_to_be_free(rig: LockerRig) -> None:
    await with_parcels(rig)
    destroy(rig)
    for path in copy_paths(rig.database):
        path.unlink()
    await rig.start()
    assert {rig.compartment(each.door) for each in rig.compartments} == {"unknown"}
    assert await rig.deposit("p3") == Refused(Reason.NO_ROOM)


async def test_a_new_locker_begins_free_and_so_does_a_door_that_is_added(rig: LockerRig) -> None:
    assert {rig.compartment(each.door) for each in rig.compartments} == {"free"}
    added, rig.compartments = rig.compartments[-1], rig.compartments[:-1]
    await rig.crash()
    lose(rig)
    for path in rig.folder.iterdir():
        path.unlink()
    await rig.start()
    await rig.crash()
    rig.compartments.append(added)
    await rig.start()
    assert rig.compartment(added.door) == "free"


async def test_one_damaged_copy_leaves_parcels_collectable_and_proves_nothing_free(rig: LockerRig) -> None:
    doors = await with_parcels(rig)
    newest = newest_copy(rig.database)
    assert newest is not None
    destroy(rig)
    spoil(copy_paths(rig.database)[newest.number % 2])
    await rig.start()
    assert await rig.deposit("p3") == Refused(Reason.NO_ROOM)
    assert [(await rig.accepted("p1")).door] == doors[:1]


async def test_a_torn_copy_beside_a_sound_journal_is_made_up_for_by_what_can_be_salvaged(rig: LockerRig) -> None:
    await with_parcels(rig)
    newest = newest_copy(rig.database)
    assert newest is not None
    spoil(copy_paths(rig.database)[(newest.number + 1) % 2])
    (rig.folder / "state.suspect").touch()
    await rig.start()
    assert {rig.compartment("03"), rig.compartment("04")} == {"free"}


async def test_a_database_that_was_put_back_does_not_offer_what_has_been_filled_since(rig: LockerRig) -> None:
    await rig.load("p1")
    await rig.pass_time(3.0)
    await rig.crash()
    shutil.copy(rig.database, rig.folder / "backup")
    await rig.start()
    door = await rig.load("p2")
    await rig.upkeep.copied()
    await rig.crash()
    put_back(rig)
    await rig.start()
    assert rig.compartment(door) == "occupied"
    assert (await rig.accepted("p2")).door == door


async def test_guesses_and_remote_openings_are_not_forgiven_by_a_rebuild(rig: LockerRig) -> None:
    await rig.load("p1")
    for _ in range(8):
        await rig.service.collect("000000000", None, False)
    await rig.upkeep.copied()
    await rig.crash()
    destroy(rig)
    await rig.start()
    assert await rig.refused("p1") == "extension_needed"


async def test_a_copy_is_written_soon_after_a_change_and_not_without_one(rig: LockerRig) -> None:
    await rig.upkeep.copied()
    await rig.pass_time(5.0)
    before = newest_copy(rig.database)
    await rig.pass_time(60.0)
    assert newest_copy(rig.database) == before

    def stored() -> bool:
        copy = newest_copy(rig.database)
        return copy is not None and "stored" in str(copy.tables["parcel"].rows)

    await rig.load("p1")
    await rig.eventually(stored)


async def test_a_deposits_door_does_not_move_before_a_copy_knows_of_it(rig: LockerRig) -> None:
    known: list[bool] = []

    def look(_: object) -> None:
        copy = newest_copy(rig.database)
        known.append(copy is not None and "p1" in str(copy.tables["parcel"].rows))

    rig.bench.on_pulse = look
    await rig.deposit("p1")
    await rig.pass_time(1.0)
    assert known == [True]


def _crowd(ledger: SqlLedger) -> None:
    ledger.transaction.sql.executemany(
        "INSERT INTO parcel (parcel, door, state, courier, run, plain) VALUES (?, '01', 'collected', 'c', 'r', ?)",
        [(f"old-{number}", number.to_bytes(32, "big")) for number in range(3000)],
    )
    ledger.forget_old()


async def test_copies_stay_small_over_years(rig: LockerRig) -> None:
    await rig.load("p1")
    await rig.ledger_store.keep(_crowd)
    rig.upkeep.changed()
    await rig.upkeep.copied()
    assert max(path.stat().st_size for path in copy_paths(rig.database)) < 256 * 1024
    assert rig.rows("SELECT parcel FROM parcel WHERE parcel = 'old-2999'")
    await rig.accepted("p1")
    await rig.pass_time(1.0)


async def test_who_has_just_collected_is_not_forgotten_for_those_who_came_after_their_parcel(rig: LockerRig) -> None:
    """It lay here while 3000 others came and went. Its code is *used*, and what is said of it at the door is heard."""
    door = await rig.load("p1")
    await rig.ledger_store.keep(_crowd)
    accepted = await rig.accepted("p1")
    await rig.pass_time(1.0)
    rig.bench.shut(door)
    await rig.pass_time(1.0)
    await rig.ledger_store.keep(lambda ledger: ledger.forget_old())
    assert await rig.refused("p1") == "used"
    await rig.service.end(accepted.session, Word.WRONG_LEFT)
    assert (rig.parcel("p1"), rig.compartment(door)) == ("claimed", "occupied")


def test_the_copy_of_a_busy_locker_stays_small() -> None:
    """60 doors and 60 parcels a day, each announced and changed once: what is remembered fits 256 KiB."""
    sql = sqlite3.connect(":memory:", isolation_level=None)
    migrate(sql, LOCKER_STEPS)
    sql.execute("INSERT INTO epoch VALUES (1, 'e', '', 'i')")
    for n in range(60):
        sql.execute("INSERT INTO compartment VALUES (?, 'occupied', 5, NULL)", (f"{n:02d}",))
    for n in range(60 + 500):
        row = (f"{n:036d}", "01", "collected", "courier-12345678", "run-12345678", 1.8e9, 5.0)
        sql.execute(
            "INSERT INTO parcel VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*row, os.urandom(32), os.urandom(32), None),
        )
    for n in range(200 + 500):
        values = (f"{n:036d}", "expected", "S", 0, 72, 1234567.8, None, None, None, "frozen")
        sql.execute("INSERT INTO booking VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
    for _ in range(45 * 60):
        sql.execute("INSERT INTO revision VALUES (?, 2, 1800000000)", (os.urandom(16),))
    assert 150_000 < len(msgspec.msgpack.encode(read_ledger(sql, 1))) < 256 * 1024
    sql.close()
