"""A full disk: couriers are turned away, customers are served from the reserve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge.reserve_file import Reserve
from locker.contract import Reason
from locker.kiosk import Refused, SessionState
from tests.locker.downlink_rig import downlink
from tests.locker.rig import LockerRig, running

MIB = 1024 * 1024


def fill(rig: LockerRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database may not grow by another page until the reserve is given up; SQLite itself says that it is full."""
    sql = rig.journal._writer._connection
    (pages,) = sql.execute("PRAGMA page_count").fetchone()
    sql.execute(f"PRAGMA max_page_count = {pages}")
    released = Reserve.release

    def release(self: Reserve) -> bool:
        sql.execute(f"PRAGMA max_page_count = {pages + 4096}")
        return released(self)

    monkeypatch.setattr(Reserve, "release", release)


async def collected(rig: LockerRig, parcels: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Loaded while there is room, and handed out when there is none."""
    doors = [await rig.load(each) for each in parcels]
    fill(rig, monkeypatch)
    for parcel, door in zip(parcels, doors, strict=True):
        accepted = await rig.accepted(parcel)
        await rig.pass_time(1.0)
        assert rig.view(accepted).state is SessionState.OPEN
        rig.bench.take(door)
        rig.bench.shut(door)
        await rig.pass_time(1.0)
        assert rig.parcel(parcel) == "collected"


async def test_deposits_are_refused_and_collections_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path, reserve=MIB) as rig:
        await collected(rig, ["p1", "p2"], monkeypatch)
        assert not (tmp_path / "state.reserve").exists()
        pulses = len(rig.bench.happened("pulse"))
        assert await rig.deposit("p3") == Refused(Reason.OUT_OF_SERVICE)
        await rig.pass_time(2.0)
        assert len(rig.bench.happened("pulse")) == pulses
        assert rig.parcel("p3") == "none"


async def test_what_customers_bring_is_a_deposit_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is anything taken in for an exchange; what waits is handed out."""
    async with downlink(tmp_path, reserve=MIB) as rig:
        terms: dict[str, Any] = {"size": "S", "hold_hours": 72}
        for booking, more in (("back", {"kind": "return"}), ("old", {"kind": "return"}), ("new", {"exchange": "old"})):
            assert await rig.say("expect", booking, 1, **terms, **more) == ("done", "")
        await rig.load("new")
        await collected(rig, ["p1", "p2"], monkeypatch)
        assert not (tmp_path / "state.reserve").exists()
        pulses = len(rig.bench.happened("pulse"))
        assert [await rig.refused(each) for each in ("back", "new")] == [Reason.OUT_OF_SERVICE.value] * 2
        await rig.pass_time(2.0)
        assert len(rig.bench.happened("pulse")) == pulses
        assert (rig.parcel("back"), rig.parcel("new")) == ("none", "stored")


async def test_a_deposit_that_finds_the_disk_full_takes_no_compartment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, reserve=MIB) as rig:
        await rig.load("p1")
        fill(rig, monkeypatch)
        answers = [await rig.deposit(f"p{number}") for number in range(2, 30)]
        assert answers[-1] == Refused(Reason.OUT_OF_SERVICE)
        await rig.pass_time(10.0)
        await rig.accepted("p1")
        await rig.pass_time(1.0)
