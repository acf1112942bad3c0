"""A customer with parcels behind several doors types one code, and is led from door to door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from locker.contract import Reason
from locker.kiosk import Accepted, Refused, SessionState, SessionView
from tests.locker.downlink_rig import DownlinkRig, downlink


@pytest.fixture
async def rig(memory_path: Path) -> AsyncIterator[DownlinkRig]:
    async with downlink(memory_path) as rig:
        rig.step = 0.2
        yield rig


async def booked(rig: DownlinkRig, booking: str, group: str = "anna") -> str:
    assert await rig.say("expect", booking, 1, size="S", hold_hours=24, group=group) == ("done", "")
    return await rig.load(booking)


async def taken_out(rig: DownlinkRig, accepted: Accepted) -> SessionView:
    await rig.pass_time(1.0)
    assert rig.view(accepted).state is SessionState.OPEN
    rig.bench.take(accepted.door)
    rig.bench.shut(accepted.door)
    await rig.pass_time(1.0)
    return rig.view(accepted)


async def gone_on(rig: DownlinkRig, before: Accepted) -> Accepted:
    answer = await rig.service.next(before.session)
    assert isinstance(answer, Accepted), answer
    return answer


async def test_one_code_leads_through_all_doors_one_at_a_time(rig: DownlinkRig) -> None:
    doors = [await booked(rig, "b1"), await booked(rig, "b2")]
    await booked(rig, "stranger", group="boris")
    first = await rig.accepted("b1")
    assert (first.door, rig.view(first).count) == (doors[0], 1)
    assert (await taken_out(rig, first)).next == "collect"
    second = await gone_on(rig, first)
    assert second.door == doors[1]
    assert (await taken_out(rig, second)).next == ""
    assert [rig.parcel(each) for each in ("b1", "b2", "stranger")] == ["collected", "collected", "stored"]
    (told,) = rig.events("locker.visit.continued")
    assert (told["parcel"], told["before"], told["session"]) == ("b2", first.session, second.session)
    assert [each["parcel"] for each in rig.events("locker.code.accepted")] == ["b1"]


async def test_a_voucher_leads_on_too_and_a_jam_on_the_way_burns_nothing(rig: DownlinkRig) -> None:
    await booked(rig, "b1")
    stuck = await booked(rig, "b2")
    rig.bench.ailment(stuck).stuck = -1
    first = await rig.show(rig.voucher("b1"))
    assert isinstance(first, Accepted)
    await taken_out(rig, first)
    second = await gone_on(rig, first)
    await rig.pass_time(8.0)
    assert rig.view(second).state is SessionState.JAMMED
    assert rig.parcel("b2") == "stored"
    rig.bench.ailment(stuck).stuck = 0
    await taken_out(rig, await rig.accepted("b2"))


async def test_a_code_leads_to_no_parcels_of_the_customer_whose_parcel_lay_beside(rig: DownlinkRig) -> None:
    """One scan-in has put a parcel of nobody known beside Anna's: its code opens that door, and no other of hers."""
    for each in ("b1", "b2"):
        assert await rig.say("expect", each, 1, size="S", hold_hours=24, group="anna") == ("done", "")
    await rig.load("b1", "walk-in")
    await rig.load("b2")
    assert (await taken_out(rig, await rig.accepted("walk-in"))).next == ""
    assert (rig.parcel("b1"), rig.parcel("b2")) == ("collected", "stored")


async def test_nobody_is_led_on_who_was_not_just_there(rig: DownlinkRig) -> None:
    """Not after two minutes, not after somebody else has begun, not twice, and not after a restart."""
    refused = Refused(Reason.NOT_HERE)
    for each in ("b1", "b2", "b3"):
        await booked(rig, each)
    await rig.service.collect("000000000", None, False)
    first = await rig.accepted("b1")
    assert await rig.service.next(first.session) == refused  # the door is still open
    await taken_out(rig, first)
    await rig.pass_time(120.0)
    assert await rig.service.next(first.session) == refused
    second = await rig.accepted("b2")
    await taken_out(rig, second)
    courier = await rig.deposit("walk-in")
    await rig.pass_time(1.0)
    rig.bench.shut(courier.door)
    await rig.pass_time(1.0)
    assert await rig.service.next(second.session) == refused
    assert await rig.service.next("no-such-session") is None
    assert rig.parcel("b3") == "stored"


async def test_what_has_run_out_or_is_in_doubt_is_left_to_its_own_code(rig: DownlinkRig) -> None:
    await booked(rig, "b1")
    await booked(rig, "b2")
    await rig.store.write(lambda ledger: ledger.set_expiry("b2", rig.clock.wall() - 1))
    assert (await taken_out(rig, await rig.accepted("b1"))).next == ""


async def test_a_door_that_the_configuration_has_no_more_keeps_nobody_from_the_others(rig: DownlinkRig) -> None:
    """The rest of the group lies behind it: the process may not die of that each time the first door is shut."""
    await booked(rig, "b1")
    gone = await booked(rig, "b2")
    await rig.crash()
    rig.compartments = [each for each in rig.compartments if each.door != gone]
    await rig.start()
    assert (await taken_out(rig, await rig.accepted("b1"))).next == ""
    assert (rig.parcel("b1"), rig.parcel("b2")) == ("collected", "stored")
    assert await rig.refused("b2") == "out_of_service"


async def test_who_shuts_a_door_that_was_left_open_is_not_handed_the_rest(rig: DownlinkRig) -> None:
    await booked(rig, "b1")
    await booked(rig, "b2")
    first = await rig.accepted("b1")
    await rig.pass_time(1.0)
    rig.step = 1.0
    await rig.pass_time(300.0)
    assert rig.view(first).shut == "alarm"
    assert (await taken_out(rig, first)).next == ""
    assert await rig.service.next(first.session) == Refused(Reason.NOT_HERE)
    assert (rig.parcel("b1"), rig.parcel("b2")) == ("collected", "stored")


async def test_a_door_left_open_is_shown_to_whoever_stands_there(rig: DownlinkRig) -> None:
    await rig.load("b1", "b2")
    accepted = await rig.accepted("b1")
    assert rig.view(accepted).count == 2
    await rig.pass_time(30.0)
    assert rig.view(accepted).shut == ""
    await rig.pass_time(35.0)
    assert rig.view(accepted).shut == "chime"
    rig.step = 1.0
    await rig.pass_time(240.0)
    assert rig.view(accepted).shut == "alarm"
    assert (await taken_out(rig, accepted)).shut == ""
