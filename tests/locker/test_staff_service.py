"""A service badge at the kiosk, with no network: out of service, cleaning, a look inside, and offered again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from locker.badge import Role
from locker.contract import BlockCause, Word
from locker.kiosk import Accepted, SessionKind
from locker.settling import block
from locker.staffing import VisitView
from tests.locker.staff_rig import SERVICE, StaffRig, reason, staffed


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StaffRig]:
    async with staffed(tmp_path, monkeypatch) as rig:
        await rig.enter(Role.SERVICE)
        yield rig


def blocks(rig: StaffRig) -> list[tuple[str, str, str]]:
    told = rig.events("locker.compartment.blocked", "locker.compartment.released")
    return [(each["type"].rpartition(".")[2], each.get("cause", ""), each["by"]) for each in told]


async def blocked(rig: StaffRig, door: str, cause: BlockCause = BlockCause.NOT_EMPTY) -> None:
    await rig.store.write(lambda ledger: block(ledger, door, cause))


async def comes_again(rig: StaffRig) -> None:
    """After a courier or a customer was here."""
    await rig.enter(Role.SERVICE)


async def test_out_of_service_is_not_offered_over_restarts_until_it_is_put_back(rig: StaffRig) -> None:
    assert isinstance(await rig.staff.out_of_service(rig.visit.visit, "01", True), VisitView)
    assert await rig.tasks() == [("01", "staff", "")]
    await rig.crash()
    await rig.start()
    assert [await rig.load("p1"), await rig.load("p2", size="S")] == ["02", "03"]
    await comes_again(rig)
    assert isinstance(await rig.staff.out_of_service(rig.visit.visit, "01", False), VisitView)
    assert await rig.load("p3") == "01"
    assert blocks(rig) == [("blocked", "staff", SERVICE), ("released", "", SERVICE)]


async def test_what_lies_in_a_compartment_out_of_service_is_collected(rig: StaffRig) -> None:
    door, kept = await rig.load("p1"), await rig.load("p2")
    await comes_again(rig)
    for each in (door, kept):
        await rig.staff.out_of_service(rig.visit.visit, each, True)
    collects = await rig.opened(await rig.type("p1"))
    rig.bench.take(door)
    await rig.shut(door)
    assert (rig.parcel("p1"), rig.compartment(collects.door)) == ("collected", "blocked")
    await comes_again(rig)
    for each in (door, kept):
        await rig.staff.out_of_service(rig.visit.visit, each, False)
    assert [rig.compartment(each) for each in (door, kept)] == ["free", "occupied"]


async def test_putting_back_ends_no_block_that_somebody_has_to_look_into(rig: StaffRig) -> None:
    await blocked(rig, "01", BlockCause.JAMMED)
    assert reason(await rig.staff.out_of_service(rig.visit.visit, "01", True)) == "nothing_due"
    assert reason(await rig.staff.out_of_service(rig.visit.visit, "01", False)) == "nothing_due"
    await rig.staff.out_of_service(rig.visit.visit, "02", True)
    rig.bench.force("02")
    await rig.pass_time(1.0)
    rig.bench.shut("02")
    await rig.pass_time(1.0)
    assert reason(await rig.staff.out_of_service(rig.visit.visit, "02", False)) == "nothing_due"
    assert await rig.tasks() == [("01", "jammed", ""), ("02", "forced", "")]


async def test_no_door_with_a_parcel_behind_it_opens_for_service(rig: StaffRig) -> None:
    door = await rig.load("p1")
    await blocked(rig, door)
    await comes_again(rig)
    visit = rig.visit.visit
    sent = sum(rig.sent.values())
    for refused in (
        await rig.staff.open(visit, door),
        await rig.staff.clean(visit, door),
        await rig.staff.clear(visit, door),
    ):
        assert reason(refused) == "parcel_inside"
    assert reason(await rig.staff.open(visit, "99")) == "not_here"
    assert sum(rig.sent.values()) == sent
    assert (rig.parcel("p1"), rig.compartment(door)) == ("stored", "blocked")


async def test_a_compartment_is_cleaned_and_offered_again_when_its_door_has_closed(rig: StaffRig) -> None:
    at = await rig.opened(await rig.staff.clean(rig.visit.visit, "01"))
    assert (rig.view(at).kind, rig.compartment("01")) == (SessionKind.LOOK, "blocked")
    await rig.shut("01")
    assert rig.compartment("01") == "free"
    assert blocks(rig) == [("blocked", "cleaning", SERVICE), ("released", "", SERVICE)]
    (asked,) = rig.events("locker.unlock.requested")
    assert (asked["cause"], asked["cause_id"]) == ("cleaning", SERVICE)
    await rig.opened(await rig.staff.clean(rig.visit.visit, "01"))
    await rig.crash()
    await rig.start()
    await rig.shut("01")
    assert rig.compartment("01") == "free"


async def test_cleaning_ends_no_other_block_and_finds_what_is_wrong(rig: StaffRig) -> None:
    await blocked(rig, "01", BlockCause.FORCED)
    await rig.opened(await rig.staff.clean(rig.visit.visit, "01"))
    await rig.shut("01")
    assert rig.compartment("01") == "blocked"
    at = await rig.opened(await rig.staff.clean(rig.visit.visit, "02"))
    await rig.service.end(at.session, Word.WILL_NOT_CLOSE)
    await rig.shut("02")
    rig.bench.item_sensors = True
    await rig.opened(await rig.staff.clean(rig.visit.visit, "03"))
    rig.bench.put("03")
    await rig.shut("03")
    assert await rig.tasks() == [("01", "forced", ""), ("02", "will_not_close", ""), ("03", "not_empty", "")]


async def test_a_blocked_compartment_is_offered_again_by_who_has_seen_it_empty(rig: StaffRig) -> None:
    """A single badge is enough for what it has had open; unseen, it takes two persons."""
    await blocked(rig, "01")
    assert reason(await rig.staff.clear(rig.visit.visit, "01")) == "look_first"
    await rig.look_into("01")
    await rig.enter(Role.SERVICE, jti="badge-other")
    assert reason(await rig.staff.clear(rig.visit.visit, "01")) == "look_first"
    await rig.enter(Role.SERVICE)
    assert isinstance(await rig.staff.clear(rig.visit.visit, "01"), VisitView)
    assert rig.compartment("01") == "free"
    assert blocks(rig)[-1] == ("released", "", SERVICE)
    assert reason(await rig.staff.clear(rig.visit.visit, "01")) == "nothing_due"


async def test_a_door_that_stays_shut_was_not_looked_behind(rig: StaffRig) -> None:
    await blocked(rig, "01")
    rig.bench.ailment("01").stuck = -1
    assert isinstance(await rig.staff.open(rig.visit.visit, "01"), Accepted)
    await rig.pass_time(8.0)
    assert reason(await rig.staff.clear(rig.visit.visit, "01")) == "look_first"


async def test_what_the_sensors_contradict_is_not_cleared(rig: StaffRig) -> None:
    rig.bench.item_sensors = True
    await blocked(rig, "01")
    await rig.opened(await rig.staff.open(rig.visit.visit, "01"))
    assert reason(await rig.staff.clear(rig.visit.visit, "01")) == "door_open"
    rig.bench.put("01")
    await rig.shut("01")
    assert reason(await rig.staff.clear(rig.visit.visit, "01")) == "item_seen"
    assert rig.compartment("01") == "blocked"


async def test_after_a_lost_ledger_service_finds_out_door_by_door_what_is_free(rig: StaffRig) -> None:
    await rig.crash()
    rig.destroy()
    for path in rig.folder.glob("state.ledger-*"):
        path.unlink()
    await rig.start()
    await rig.enter(Role.SERVICE)
    assert await rig.tasks() == [(door, "unknown", "") for door in ("01", "02", "03", "04")]
    await rig.look_into("02")
    await rig.staff.clear(rig.visit.visit, "02")
    assert await rig.load("p1") == "02"
