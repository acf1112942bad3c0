"""An audit: two persons sign, somebody with a service badge looks behind every door, and the ledger is made true."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge import command
from locker.auditing import AUDIT_S
from locker.badge import Role
from locker.contract import Found
from locker.kiosk import Accepted
from locker.staffing import VisitRole, VisitView
from tests.edge.trust import HUB
from tests.locker.staff_rig import DONE, SERVICE, StaffRig, reason, staffed


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StaffRig]:
    async with staffed(tmp_path, monkeypatch) as rig:
        yield rig


async def hours_pass(rig: StaffRig) -> None:
    """The locker runs for as long as an audit may take; its doors are not read every second for that."""
    await rig.journal.write(lambda t: t.sql.execute("UPDATE budget SET running = running + ?", (AUDIT_S,)))
    await rig.crash()
    await rig.start()


async def sweep(rig: StaffRig) -> None:
    """The upkeep looks."""
    rig._spawn("sweep", lambda: rig.upkeep.sweep(rig.ledger_store, rig.cabinet.in_service))
    await rig.pass_time(1.0)
    await rig.ledger_store.keep(lambda _: None)  # the writer takes things in turn: the sweep before it is done


async def begins(rig: StaffRig) -> None:
    assert await rig.order_audit() == DONE
    assert (await rig.enter(Role.SERVICE)).role is VisitRole.AUDIT


async def opens_next(rig: StaffRig) -> str:
    return (await rig.opened(await rig.staff.next(rig.visit.visit))).door


async def sees(rig: StaffRig, door: str, found: Found, parcel: str | None = None) -> str:
    """Shuts the door and says what was behind it: "" where that is taken, or the reason why not."""
    await rig.shut(door)
    answer = await rig.staff.found(rig.visit.visit, door, found, parcel)
    return "" if isinstance(answer, VisitView) else reason(answer)


def outcomes(rig: StaffRig) -> list[tuple[str, str]]:
    return [(each["door"], each["outcome"]) for each in rig.events("locker.audit.found")]


def done(rig: StaffRig) -> list[tuple[int, int, int, int]]:
    told = rig.events("locker.audit.done")
    return [(each["as_expected"], each["missing"], each["unexpected"], each["left"]) for each in told]


async def test_an_audit_door_by_door_makes_the_ledger_what_was_seen(rig: StaffRig) -> None:
    """One parcel is where it should be, one is gone, something lies where nothing should, one compartment is empty."""
    there, gone = await rig.load("p1"), await rig.load("p2")
    await begins(rig)
    assert [door for door, what, _ in await rig.tasks() if what == "look"] == ["01", "02", "03", "04"]

    assert await opens_next(rig) == there == "01"
    assert await sees(rig, there, Found.PARCEL) == ""
    assert await opens_next(rig) == gone == "02"
    rig.bench.take(gone)
    assert await sees(rig, gone, Found.EMPTY) == ""
    assert await opens_next(rig) == "03"
    rig.bench.put("03")
    assert await sees(rig, "03", Found.OTHER) == ""
    assert await opens_next(rig) == "04"
    assert done(rig) == []
    assert await sees(rig, "04", Found.EMPTY) == ""

    assert outcomes(rig) == [("01", "as_expected"), ("02", "missing"), ("03", "unexpected"), ("04", "as_expected")]
    assert done(rig) == [(2, 1, 1, 0)]
    assert [rig.parcel("p1"), rig.parcel("p2")] == ["stored", "removed"]
    assert [rig.compartment(door) for door in ("01", "02", "03", "04")] == ["occupied", "free", "blocked", "free"]
    (begun,), (removed,) = rig.events("locker.audit.begun"), rig.events("parcel.removed")
    assert (removed["command"], removed["by"], begun["doors"]) == (begun["command"], SERVICE, 4)
    assert await rig.refused("p2") == "no_such_code"
    assert isinstance(await rig.type("p1"), Accepted)
    assert rig.rows("SELECT count(*) FROM remote_opening") == [(0,)]  # it is done here, so no cap counts it


async def test_without_two_persons_nothing_opens(rig: StaffRig) -> None:
    await rig.load("p1")
    claims = rig.claims("audit", "all-doors", {}, nonce=await rig.nonce("audit", "all-doors"))
    alone = await rig.hears(command.sign_command(claims, HUB))
    assert (alone.status.value, alone.reason) == ("rejected", "wrong_persons")
    assert (await rig.enter(Role.SERVICE)).role is VisitRole.SERVICE
    assert reason(await rig.staff.next(rig.visit.visit)) == "nothing_due"
    assert reason(await rig.staff.found(rig.visit.visit, "01", Found.EMPTY, None)) == "nothing_due"
    assert sum(rig.sent.values()) == 1
    assert rig.parcel("p1") == "stored"


async def test_an_audit_stops_and_goes_on_over_a_crash_and_a_destroyed_database(rig: StaffRig) -> None:
    await rig.load("p1")
    await begins(rig)
    assert await sees(rig, await opens_next(rig), Found.PARCEL) == ""
    interrupted = await opens_next(rig)
    await rig.crash()
    await rig.start()
    await rig.shut(interrupted)
    await rig.upkeep.copied()
    await rig.crash()
    rig.destroy()
    await rig.start()
    assert (await rig.enter(Role.SERVICE)).role is VisitRole.AUDIT
    for door in ("02", "03", "04"):
        assert await opens_next(rig) == door
        assert await sees(rig, door, Found.EMPTY) == ""
    assert done(rig) == [(4, 0, 0, 0)]


async def test_a_door_that_jams_does_not_hold_up_the_others_and_is_left(rig: StaffRig) -> None:
    rig.bench.ailment("01").stuck = -1
    await begins(rig)
    assert isinstance(await rig.staff.next(rig.visit.visit), Accepted)
    await rig.pass_time(8.0)
    assert reason(await rig.staff.found(rig.visit.visit, "01", Found.EMPTY, None)) == "look_first"
    for _ in range(3):
        assert await sees(rig, await opens_next(rig), Found.EMPTY) == ""
    await sweep(rig)
    assert done(rig) == []
    await hours_pass(rig)
    await sweep(rig)
    assert done(rig) == [(3, 0, 0, 1)]
    assert (await rig.enter(Role.SERVICE)).role is VisitRole.SERVICE


async def test_only_who_had_the_door_open_says_what_is_behind_it_and_says_it_once(rig: StaffRig) -> None:
    await rig.load("p1")
    await begins(rig)
    assert reason(await rig.staff.found(rig.visit.visit, "01", Found.EMPTY, None)) == "look_first"
    door = await opens_next(rig)
    assert reason(await rig.staff.found(rig.visit.visit, door, Found.EMPTY, None)) == "door_open"
    await rig.shut(door)
    await rig.enter(Role.SERVICE, jti="badge-other")
    assert reason(await rig.staff.found(rig.visit.visit, door, Found.EMPTY, None)) == "look_first"
    assert rig.parcel("p1") == "stored"
    await rig.enter(Role.SERVICE)
    assert await sees(rig, door, Found.PARCEL) == ""
    assert reason(await rig.staff.found(rig.visit.visit, door, Found.EMPTY, None)) == "nothing_due"
    assert rig.parcel("p1") == "stored"


async def test_a_sensor_that_sees_the_parcel_is_believed_more_than_who_says_that_it_is_gone(rig: StaffRig) -> None:
    rig.bench.item_sensors = True
    door = await rig.load("p1")
    await begins(rig)
    assert await opens_next(rig) == door
    assert await sees(rig, door, Found.EMPTY) == "item_seen"
    assert await sees(rig, door, Found.PARCEL) == ""
    assert (rig.parcel("p1"), rig.compartment(door)) == ("stored", "occupied")


async def test_of_several_in_one_compartment_the_one_that_is_there_is_named(rig: StaffRig) -> None:
    door = await rig.load("p1", "p2")
    await begins(rig)
    assert await opens_next(rig) == door
    assert await sees(rig, door, Found.PARCEL, "p3") == "not_here"
    assert await sees(rig, door, Found.PARCEL, "p2") == ""
    assert [rig.parcel("p1"), rig.parcel("p2"), rig.compartment(door)] == ["removed", "stored", "occupied"]
    assert outcomes(rig) == [(door, "missing")]


async def test_an_audit_waits_for_the_customer_at_a_door_and_leaves_staffs_blocks_alone(rig: StaffRig) -> None:
    await rig.load("p1")
    collects = await rig.opened(await rig.type("p1"))
    await begins(rig)
    await rig.staff.out_of_service(rig.visit.visit, "02", True)
    for _ in range(3):
        door = await opens_next(rig)
        assert door != collects.door
        assert await sees(rig, door, Found.EMPTY) == ""
    assert reason(await rig.staff.next(rig.visit.visit)) == "busy"
    rig.bench.take(collects.door)
    await rig.shut(collects.door)
    assert await sees(rig, await opens_next(rig), Found.EMPTY) == ""
    assert [rig.compartment(door) for door in ("01", "02", "03", "04")] == ["free", "blocked", "free", "free"]


async def test_another_command_begins_it_anew_and_tells_how_far_the_first_had_come(rig: StaffRig) -> None:
    await begins(rig)
    assert await sees(rig, await opens_next(rig), Found.EMPTY) == ""
    await begins(rig)
    assert done(rig) == [(1, 0, 0, 3)]
    assert await opens_next(rig) == "01"
