"""Something is wrong with a parcel, or it is wanted elsewhere: what becomes of it, of its codes and its compartment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from locker.contract import Word
from locker.kiosk import Accepted, SessionState
from tests.locker.downlink_rig import DownlinkRig, downlink

DONE = ("done", "")


@pytest.fixture
async def rig(memory_path: Path) -> AsyncIterator[DownlinkRig]:
    async with downlink(memory_path) as rig:
        rig.step = 0.2
        yield rig


async def opened(rig: DownlinkRig, parcel: str) -> Accepted:
    accepted = await rig.accepted(parcel)
    await rig.pass_time(1.0)
    assert rig.view(accepted).state is SessionState.OPEN
    return accepted


async def shut(rig: DownlinkRig, door: str, *, takes: bool) -> None:
    if takes:
        rig.bench.take(door)
    rig.bench.shut(door)
    await rig.pass_time(1.0)


def claims(rig: DownlinkRig) -> list[tuple[str, bool]]:
    return [(each["parcel"], each["left"]) for each in rig.events("parcel.claimed")]


async def test_a_damaged_parcel_is_left_inside_for_staff(rig: DownlinkRig) -> None:
    """The customer says so and shuts the door: nobody is offered that compartment, and no code opens it any more."""
    assert await rig.say("expect", "b1", 1, size="S", hold_hours=24) == DONE
    door = await rig.load("b1")
    accepted = await opened(rig, "b1")
    await rig.service.end(accepted.session, Word.WRONG_LEFT)
    await shut(rig, door, takes=False)
    assert (rig.parcel("b1"), rig.compartment(door)) == ("claimed", "occupied")
    assert claims(rig) == [("b1", True)]
    assert not rig.events("parcel.collected")
    assert await rig.refused("b1") == "used"
    assert await rig.show(rig.voucher("b1")) == "used"
    assert await rig.say("reissue", "b1", 2) == ("rejected", "not_here")
    assert await rig.say("extend", "b1", 3, hours=1) == ("rejected", "not_here")
    assert await rig.clear(door, "b1") == DONE
    assert (rig.parcel("b1"), rig.compartment(door), rig.state_of("b1")) == ("removed", "free", "ended")


async def test_the_word_outlives_a_crash_before_the_door_is_shut(rig: DownlinkRig) -> None:
    door = await rig.load("b1", "b2")
    accepted = await opened(rig, "b2")
    await rig.service.end(accepted.session, Word.WRONG_LEFT)
    await rig.crash()
    await rig.start()
    await rig.pass_time(1.0)
    await shut(rig, door, takes=False)
    assert (rig.parcel("b1"), rig.parcel("b2"), rig.compartment(door)) == ("claimed", "claimed", "occupied")


async def test_who_is_at_an_open_door_is_not_made_forgotten_by_a_command_for_it(rig: DownlinkRig) -> None:
    """What they say of the parcel counts, and the compartment is not blocked by a pulse that could move nothing."""
    door = await rig.load("b1")
    accepted = await opened(rig, "b1")
    await rig.service.end(accepted.session, Word.WRONG_LEFT)
    pulses = len(rig.bench.happened("pulse"))
    assert await rig.open(door) == ("rejected", "being_served")
    await shut(rig, door, takes=False)
    assert (rig.parcel("b1"), rig.compartment(door), claims(rig)) == ("claimed", "occupied", [("b1", True)])
    assert len(rig.bench.happened("pulse")) == pulses
    assert (await rig.open(door))[0] == "accepted"
    await rig.pass_time(1.0)
    await shut(rig, door, takes=False)


async def test_a_damaged_parcel_that_is_taken_along_is_collected_and_told(rig: DownlinkRig) -> None:
    door = await rig.load("b1")
    accepted = await opened(rig, "b1")
    await rig.service.end(accepted.session, Word.WRONG_TAKEN)
    await shut(rig, door, takes=True)
    assert (rig.parcel("b1"), rig.compartment(door), claims(rig)) == ("collected", "free", [("b1", False)])


async def test_who_has_shut_the_door_on_a_damaged_parcel_is_heard_once_and_nobody_else_is(rig: DownlinkRig) -> None:
    door = await rig.load("b1")
    accepted = await opened(rig, "b1")
    await shut(rig, door, takes=False)
    assert rig.compartment(door) == "free"
    for _ in range(2):
        await rig.service.end(accepted.session, Word.WRONG_LEFT)
    assert (rig.parcel("b1"), rig.compartment(door), claims(rig)) == ("claimed", "occupied", [("b1", True)])
    only_one = await rig.load("b2", size="M")
    gone = await opened(rig, "b2")
    await shut(rig, only_one, takes=True)
    assert await rig.load("b3", size="M") == only_one
    await rig.service.end(gone.session, Word.WRONG_LEFT)
    assert (rig.parcel("b2"), rig.parcel("b3")) == ("collected", "stored")


async def test_a_parcel_that_is_wanted_elsewhere_is_not_handed_out_any_more(rig: DownlinkRig) -> None:
    """Redirected while it waits: its codes and vouchers open nothing, its door waits for a courier."""
    assert await rig.say("expect", "b1", 1, size="S", hold_hours=24) == DONE
    door = await rig.load("b1")
    own = rig.codes["b1"]
    assert await rig.say("delegate", "b1", 2) == DONE
    neighbour = rig.codes["b1"]
    assert await rig.say("redirect", "b1", 3, to="acme_locker-8") == DONE
    assert (rig.parcel("b1"), rig.compartment(door)) == ("recalled", "occupied")
    for code in (own, neighbour):
        rig.codes["b1"] = code
        assert await rig.refused("b1") == "no_such_code"
    assert rig.rows("SELECT plain, extended FROM parcel") == [(None, None)]
    assert rig.rows("SELECT * FROM further_code") == []
    assert await rig.show(rig.voucher("b1")) == "recalled"
    assert rig.changes("b1") == ["expected", "stored", "delegated", "redirected"]
    (told,) = rig.events("parcel.recalled")
    assert (told["parcel"], told["door"], told["cause"]) == ("b1", door, "redirected")
    assert [each["to"] for each in rig.events("locker.booking.changed")][-1] == "acme_locker-8"
    assert await rig.say("redirect", "b1", 4, to="acme_locker-9") == ("rejected", "not_here")
    assert await rig.say("delegate", "b1", 5) == ("rejected", "not_here")


async def test_a_parcel_that_has_not_come_yet_is_not_expected_here_any_more(rig: DownlinkRig) -> None:
    assert await rig.say("redirect", "b1", 1, to="acme_locker-8") == ("rejected", "no_such_booking")
    assert await rig.say("expect", "b1", 2, size="S", hold_hours=24) == DONE
    assert await rig.say("redirect", "b1", 3, to="acme_locker-8") == DONE
    assert (rig.state_of("b1"), rig.changes("b1")) == ("cancelled", ["expected", "redirected"])
    assert (await rig.deposit("b1")).reason.value == "booking_refused"


async def test_what_its_customer_is_collecting_is_not_redirected(rig: DownlinkRig) -> None:
    await rig.load("b1")
    accepted = await rig.accepted("b1")
    assert await rig.say("redirect", "b1", 1, to="acme_locker-8") == ("rejected", "being_collected")
    await rig.pass_time(1.0)
    assert await rig.say("redirect", "b1", 2, to="acme_locker-8") == ("rejected", "being_collected")
    await shut(rig, accepted.door, takes=True)
    assert await rig.say("redirect", "b1", 3, to="acme_locker-8") == ("rejected", "already_over")


async def test_beside_a_redirected_parcel_the_other_is_collected_and_then_nobody_is_sure(rig: DownlinkRig) -> None:
    door = await rig.load("b1", "b2")
    assert await rig.say("redirect", "b1", 1, to="acme_locker-8") == DONE
    await opened(rig, "b2")
    await shut(rig, door, takes=True)
    assert (rig.parcel("b1"), rig.parcel("b2"), rig.compartment(door)) == ("recalled", "collected", "unknown")
