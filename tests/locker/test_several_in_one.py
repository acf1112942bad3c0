"""Several parcels behind one door: any of their codes hands out all, and the compartment is free when all are gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from locker.contract import Reason, Word
from locker.kiosk import Accepted, Refused, SessionState
from tests.locker.downlink_rig import DownlinkRig, downlink
from tests.locker.rig import LockerRig

TOGETHER = ("p1", "p2", "p3")


@pytest.fixture
async def rig(memory_path: Path) -> AsyncIterator[DownlinkRig]:
    async with downlink(memory_path) as rig:
        rig.step = 0.2
        yield rig


def states(rig: LockerRig, *parcels: str) -> set[str]:
    return {rig.parcel(each) for each in parcels or TOGETHER}


async def begun(rig: LockerRig, *parcels: str) -> Accepted:
    answer = await rig.deposit(*parcels)
    assert isinstance(answer, Accepted), answer
    return answer


async def taken_out(rig: LockerRig, door: str) -> None:
    await rig.pass_time(1.0)
    rig.bench.take(door)
    rig.bench.shut(door)
    await rig.pass_time(1.0)


async def test_any_code_opens_the_door_once_and_hands_out_all_that_lie_there(rig: DownlinkRig) -> None:
    door = await rig.load(*TOGETHER)
    assert len({rig.codes[each].typed for each in TOGETHER}) == 3
    accepted = await rig.accepted("p2")
    assert accepted.door == door
    await rig.pass_time(1.0)
    assert states(rig) == {"released"}
    assert [await rig.refused(each) for each in TOGETHER] == ["used"] * 3
    await taken_out(rig, door)
    assert (states(rig), rig.compartment(door)) == ({"collected"}, "free")
    assert [each["parcel"] for each in rig.events("parcel.collected")] == list(TOGETHER)
    assert [each["parcel"] for each in rig.events("locker.code.accepted")] == ["p2"]


async def test_of_two_who_come_for_the_same_compartment_with_different_codes_one_hears_busy(rig: DownlinkRig) -> None:
    await rig.load(*TOGETHER)
    pulses = len(rig.bench.happened("pulse"))
    answers = await asyncio.gather(rig.type("p1"), rig.type("p3"))
    assert sorted(type(each).__name__ for each in answers) == ["Accepted", "Refused"]
    await rig.pass_time(1.0)
    assert len(rig.bench.happened("pulse")) == pulses + 1


async def test_a_jam_burns_none_of_the_codes(rig: DownlinkRig) -> None:
    door = await rig.load(*TOGETHER)
    rig.bench.ailment(door).stuck = -1
    await rig.accepted("p1")
    await rig.pass_time(8.0)
    assert (states(rig), rig.compartment(door)) == ({"stored"}, "blocked")
    rig.bench.ailment(door).stuck = 0
    await rig.accepted("p3")
    await rig.pass_time(1.0)
    assert states(rig) == {"released"}


async def test_a_doubt_about_one_is_a_doubt_about_all(rig: DownlinkRig) -> None:
    door = await rig.load(*TOGETHER)
    rig.bench.mute.add(0)
    await rig.accepted("p1")
    await rig.pass_time(4.0)
    rig.bench.shut(door)
    rig.bench.mute.clear()
    await rig.pass_time(2.0)
    assert states(rig) == {"unconfirmed"}
    assert await rig.refused("p2") == "confirm_needed"
    await rig.accepted("p2", confirm=True)
    await taken_out(rig, door)
    assert states(rig) == {"collected"}


async def test_a_crash_between_pulse_and_outcome_spends_none_of_them(rig: DownlinkRig) -> None:
    door = await rig.load(*TOGETHER)
    rig.bench.ailment(door).stuck = -1
    await rig.accepted("p1")
    await rig.pass_time(0.5)
    await rig.crash()
    await rig.start()
    await rig.pass_time(4.0)
    assert states(rig) == {"unconfirmed"}
    rig.bench.ailment(door).stuck = 0
    await rig.accepted("p3", confirm=True)
    await taken_out(rig, door)
    assert states(rig) == {"collected"}


async def test_a_deposit_of_several_that_jams_puts_none_of_them_inside_and_another_door_takes_all(
    rig: DownlinkRig,
) -> None:
    rig.bench.ailment("01").stuck = -1
    assert (await begun(rig, *TOGETHER)).door == "01"
    await rig.pass_time(8.0)
    assert (states(rig), rig.compartment("01")) == ({"withdrawn"}, "blocked")
    assert await rig.load(*TOGETHER) != "01"
    assert states(rig) == {"stored"}


async def test_who_takes_one_of_several_elsewhere_has_put_in_none_of_them(rig: DownlinkRig) -> None:
    """Nobody saw the door open, and its courier asks for another: no customer is told of what they hold in hand."""
    rig.bench.mute.add(0)
    given_up = await begun(rig, *TOGETHER)
    await rig.pass_time(5.0)
    assert rig.view(given_up).state is SessionState.UNKNOWN
    rig.bench.shut(given_up.door)
    rig.bench.mute.clear()
    await rig.pass_time(2.0)
    assert await rig.load("p1") != given_up.door
    assert states(rig, "p2", "p3") == {"withdrawn"}
    await rig.pass_time(130.0)
    assert states(rig, "p2", "p3") == {"withdrawn"}
    assert await rig.load("p2", "p3") != given_up.door
    assert states(rig) == {"stored"}


async def test_what_is_put_behind_a_door_that_gave_way_late_is_all_remembered(rig: DownlinkRig) -> None:
    rig.bench.ailment("01").stuck = 2
    rig.bench.ailment("01").swing = 4.0
    accepted = await begun(rig, *TOGETHER)
    await rig.pass_time(9.5)
    assert rig.view(accepted).state is SessionState.OPEN
    rig.bench.put("01")
    rig.bench.shut("01")
    await rig.pass_time(1.0)
    assert (states(rig), rig.compartment("01")) == ({"stored"}, "blocked")
    await rig.accepted("p2")


async def test_a_courier_who_leaves_nothing_takes_all_along(rig: DownlinkRig) -> None:
    accepted = await begun(rig, *TOGETHER)
    await rig.pass_time(1.0)
    await rig.service.end(accepted.session, Word.EMPTY)
    rig.bench.shut(accepted.door)
    await rig.pass_time(1.0)
    assert (states(rig), rig.compartment(accepted.door)) == ({"withdrawn"}, "free")


async def test_the_own_deposit_opens_again_for_all_that_were_put_in_and_for_no_part_of_them(rig: DownlinkRig) -> None:
    door = await rig.load(*TOGETHER)
    refused = Refused(Reason.BOOKING_REFUSED)
    assert await rig.deposit("p1") == refused
    assert await rig.deposit("p1", "p2", "p3", "p4") == refused
    again = await begun(rig, "p3", "p2", "p1")
    assert again.door == door
    await rig.pass_time(1.0)
    assert await rig.refused("p2") == "busy"
    rig.bench.shut(door)
    await rig.pass_time(1.0)
    assert states(rig) == {"stored"}


async def test_one_scan_in_is_eight_parcels_each_once(rig: DownlinkRig) -> None:
    refused = Refused(Reason.BOOKING_REFUSED)
    assert await rig.deposit() == refused
    assert await rig.deposit("p1", "p1") == refused
    assert await rig.deposit(*(f"p{number}" for number in range(9))) == refused
    assert not rig.story()
    await rig.load(*(f"p{number}" for number in range(8)))


async def test_parcels_of_different_customers_do_not_share_a_compartment(rig: DownlinkRig) -> None:
    for booking, group in (("p1", "anna"), ("p2", "anna"), ("p3", "boris")):
        assert await rig.say("expect", booking, 1, size="S", hold_hours=24, group=group) == ("done", "")
    assert await rig.deposit("p1", "p3") == Refused(Reason.BOOKING_REFUSED)
    assert not rig.bench.happened("pulse")
    await rig.load("p1", "p2")
    assert states(rig, "p1", "p2") == {"stored"}


async def test_two_people_clear_a_compartment_only_when_they_name_all_that_should_be_inside(rig: DownlinkRig) -> None:
    door = await rig.load("p1", "p2")
    assert await rig.clear(door, "p1") == ("rejected", "parcel_inside")
    assert await rig.clear(door, "p1", also=["p3"]) == ("rejected", "no_such_parcel")
    assert states(rig, "p1", "p2") == {"stored"}
    assert await rig.clear(door, "p1", also=["p2"]) == ("done", "")
    assert (states(rig, "p1", "p2"), rig.compartment(door)) == ({"removed"}, "free")
    assert await rig.refused("p2") == "no_such_code"


async def test_a_rebuilt_database_still_knows_all_of_them(rig: DownlinkRig) -> None:
    door = await rig.load(*TOGETHER)
    await rig.upkeep.copied()
    await rig.crash()
    rig.destroy()
    await rig.start()
    assert (await rig.accepted("p3")).door == door
    await taken_out(rig, door)
    assert states(rig) == {"collected"}
