"""Couriers take out what is not for a customer here, or not any more: door by door, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.identifiers import uuid7
from locker.contract import Word
from locker.kiosk import Accepted, SessionKind, SessionState
from tests.locker.staff_rig import COURIER, DONE, StaffRig, reason, staffed

HOUR = 3600.0


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StaffRig]:
    async with staffed(tmp_path, monkeypatch, hold_s=2 * HOUR) as rig:
        yield rig


def expire(rig: StaffRig) -> None:
    """Nobody comes while the holds run out; the badge is still good."""
    rig.clock.step_wall(2 * HOUR)


async def brings_back(rig: StaffRig, booking: str) -> str:
    """A customer returns a parcel; returns the door."""
    assert await rig.say("expect", booking, 1, size="S", hold_hours=2, kind="return") == DONE
    accepted = await rig.opened(await rig.service.collect(rig.codes[booking].typed, None, False))
    rig.bench.put(accepted.door)
    await rig.shut(accepted.door)
    return accepted.door


async def test_a_courier_takes_along_returns_redirected_and_expired_parcels_one_door_after_the_other(
    rig: StaffRig,
) -> None:
    back = await brings_back(rig, "r1")
    away = await rig.load("p1")
    assert await rig.say("redirect", "p1", 1, to="acme_locker-8") == DONE
    late = await rig.load("p2", size="M")
    late_code = rig.codes["p2"]
    expire(rig)
    waits = await rig.load("p3", size="L")

    await rig.enter(recall="expired")
    assert await rig.tasks() == [(back, "return", "r1"), (away, "recalled", "p1"), (late, "expired", "p2")]
    first = await rig.opened(await rig.staff.recall(rig.visit.visit, None))
    assert (first.door, rig.view(first).kind) == (back, SessionKind.RECALL)
    assert reason(await rig.service.collect(late_code.typed, None, False)) == "expired"  # nothing is decided yet
    rig.bench.take(back)
    await rig.shut(back)
    assert [await rig.take_back(), await rig.take_back()] == [away, late]

    assert await rig.tasks() == []
    assert reason(await rig.staff.recall(rig.visit.visit, None)) == "nothing_due"
    assert [rig.parcel(each) for each in ("r1", "p1", "p2", "p3")] == [*["taken_back"] * 3, "stored"]
    assert [rig.compartment(door) for door in (back, away, late, waits)] == ["free", "free", "free", "occupied"]
    assert rig.state_of("r1") == "ended"
    assert not any(rig.bench.stands(door)[1] for door in (back, away, late))
    taken = rig.events("parcel.taken_back")
    assert [(each["parcel"], each["door"], each["by"]) for each in taken] == [
        ("r1", back, COURIER),
        ("p1", away, COURIER),
        ("p2", late, COURIER),
    ]


async def test_the_customer_hears_afterwards_why_nothing_opens(rig: StaffRig) -> None:
    await rig.load("p1")
    await rig.load("p2")
    assert await rig.say("recall", "p2", 1, cause="sender") == DONE
    assert await rig.refused("p2") == "recalled"
    expire(rig)
    await rig.enter(recall=("p1",))
    await rig.take_back()
    await rig.take_back()
    assert [await rig.refused("p1"), await rig.refused("p2")] == ["recalled", "recalled"]
    assert await rig.show(rig.voucher("p1")) == "recalled"
    assert await rig.say("extend", "p1", 1, hours=24) == ("rejected", "no_such_booking")


async def test_a_customers_parcel_is_taken_back_by_nobody_while_its_hold_runs(rig: StaffRig) -> None:
    """Neither by a badge for all that is overdue nor by one that names it: it may have been extended since."""
    assert await rig.say("expect", "p1", 1, size="S", hold_hours=1) == DONE
    door = await rig.load("p1")
    assert await rig.say("extend", "p1", 2, hours=24) == DONE
    await rig.load("p2", size="M")
    expire(rig)
    for recall in ("expired", ("p1",)):
        await rig.enter(recall=recall)
        assert reason(await rig.staff.recall(rig.visit.visit, "p1")) == "nothing_due"
    await rig.enter()  # and without that right not even what is overdue
    assert await rig.tasks() == []
    await rig.opened(await rig.type("p1"))
    assert rig.bench.stands(door) == (True, True)


async def test_without_a_clock_only_what_the_badge_names_is_over(rig: StaffRig) -> None:
    door = await rig.load("p1")
    await rig.load("p2")
    expire(rig)
    rig.clock.trust(False)
    await rig.enter(recall="expired")
    assert await rig.tasks() == []
    await rig.enter(recall=("p1",))
    assert await rig.tasks() == [(door, "expired", "p1")]


async def test_what_its_customer_is_collecting_is_not_taken_back(rig: StaffRig) -> None:
    await rig.load("p1")
    collects = await rig.opened(await rig.type("p1"))
    expire(rig)
    await rig.enter(recall=("p1",))
    assert await rig.tasks() == []
    assert reason(await rig.staff.recall(rig.visit.visit, "p1")) == "nothing_due"
    rig.bench.take(collects.door)
    await rig.shut(collects.door)
    assert rig.parcel("p1") == "collected"


async def test_a_jam_leaves_a_parcel_to_its_customer_and_the_next_door_opens(rig: StaffRig) -> None:
    stuck, other = await rig.load("p1"), await rig.load("p2")
    code = rig.codes["p1"]
    expire(rig)
    await rig.enter(recall="expired")
    rig.bench.ailment(stuck).stuck = -1
    jammed = await rig.staff.recall(rig.visit.visit, None)
    assert isinstance(jammed, Accepted)
    await rig.pass_time(8.0)
    assert rig.view(jammed).state is SessionState.JAMMED
    assert (rig.parcel("p1"), rig.compartment(stuck)) == ("stored", "blocked")
    assert await rig.take_back() == other
    rig.bench.ailment(stuck).stuck = 0
    rig.clock.trust(False)  # no hold runs out now: the code is as good as it was
    await rig.opened(await rig.service.collect(code.typed, None, False))
    assert rig.bench.stands(stuck)[0]


async def test_beside_a_customers_parcel_nothing_is_taken_back(rig: StaffRig) -> None:
    door = await rig.load("p1", "p2")
    assert await rig.say("recall", "p1", 1) == DONE
    await rig.enter()
    assert await rig.tasks() == []
    assert await rig.say("recall", "p2", 2) == DONE
    assert await rig.tasks() == [(door, "recalled", "p1"), (door, "recalled", "p2")]
    assert await rig.take_back("p2") == door
    assert [rig.parcel(each) for each in ("p1", "p2")] == ["taken_back", "taken_back"]


async def test_a_claimed_parcel_goes_along_and_one_that_is_not_there_is_told(rig: StaffRig) -> None:
    await rig.load("p1")
    door = await rig.load("p2")
    claims = await rig.opened(await rig.type("p1"))
    await rig.service.end(claims.session, Word.WRONG_LEFT)
    await rig.shut(claims.door)
    assert await rig.say("recall", "p2", 1) == DONE
    await rig.enter()
    assert await rig.take_back() == claims.door
    assert await rig.take_back(word=Word.MISSING) == door
    assert [rig.parcel("p1"), rig.parcel("p2")] == ["taken_back", "removed"]
    assert rig.compartment(door) == "free"
    (removed,) = rig.events("parcel.removed")
    assert (removed["parcel"], removed["by"], removed["command"]) == ("p2", COURIER, "")
    assert await rig.refused("p2") == "no_such_code"


async def test_what_the_sensor_still_sees_inside_keeps_the_compartment_from_being_offered(rig: StaffRig) -> None:
    rig.bench.item_sensors = True
    door = await brings_back(rig, "r1")
    await rig.enter()
    at = await rig.opened(await rig.staff.recall(rig.visit.visit, None))
    await rig.shut(at.door)
    assert (rig.parcel("r1"), rig.compartment(door)) == ("taken_back", "blocked")


async def test_power_fails_while_the_courier_has_the_door_open(rig: StaffRig) -> None:
    door = await brings_back(rig, "r1")
    await rig.enter()
    visit = rig.visit.visit
    await rig.opened(await rig.staff.recall(visit, None))
    rig.bench.take(door)
    await rig.crash()
    await rig.start()
    await rig.shut(door)
    assert (rig.parcel("r1"), rig.compartment(door)) == ("taken_back", "free")
    assert rig.events("parcel.taken_back")[0]["by"] == COURIER
    assert await rig.staff.look(visit) is None


async def test_the_list_survives_a_destroyed_database(rig: StaffRig) -> None:
    """No hub and no network: what lies here for a courier still goes along."""
    back, away = await brings_back(rig, "r1"), await rig.load("p1")
    assert await rig.say("recall", "p1", 1) == DONE
    await rig.upkeep.copied()
    await rig.crash()
    rig.destroy()
    await rig.start()
    await rig.enter()
    assert await rig.tasks() == [(back, "return", "r1"), (away, "recalled", "p1")]
    assert [await rig.take_back(), await rig.take_back()] == [back, away]


async def test_a_recall_before_the_parcel_has_come_cancels_it_and_an_unknown_one_is_refused(rig: StaffRig) -> None:
    assert await rig.say("expect", "p1", 1, size="S", hold_hours=2) == DONE
    assert await rig.say("recall", "p1", 2) == DONE
    assert (rig.state_of("p1"), rig.changes("p1")) == ("cancelled", ["expected", "recalled"])
    assert await rig.say("recall", uuid7(rig.clock.wall(), b"0123456789"), 1) == ("rejected", "no_such_booking")
