"""A courier and a parcel: which compartment opens, when the parcel counts as inside, and what is never offered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge.errors import StoreError
from locker.contract import Reason, Word
from locker.kiosk import Accepted, Refused, SessionState
from tests.locker.rig import LockerRig, badge, running


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[LockerRig]:
    async with running(tmp_path) as rig:
        yield rig


async def begun(rig: LockerRig, *parcels: str, **how: Any) -> Accepted:
    answer = await rig.deposit(*parcels, **how)
    assert isinstance(answer, Accepted), answer
    return answer


async def test_a_closed_door_makes_a_deposit_and_a_code_of_its_own(rig: LockerRig) -> None:
    door = await rig.load("p1")
    assert rig.story() == [
        "parcel.deposit.begun",
        "locker.unlock.requested",
        "locker.door.opened",
        "locker.door.closed",
        "parcel.deposited",
        "locker.code.issued",
    ]
    assert (rig.parcel("p1"), rig.compartment(door)) == ("stored", "occupied")
    (issued,) = rig.events("locker.code.issued")
    assert issued["sealed"] == "sealed:p1"
    assert rig.codes["p1"].typed not in str(rig.rows("SELECT body FROM event"))


async def test_no_code_exists_while_the_door_is_open(rig: LockerRig) -> None:
    accepted = await begun(rig, "p1")
    await rig.pass_time(30.0)
    assert rig.view(accepted).state is SessionState.OPEN
    assert "p1" not in rig.codes
    assert rig.parcel("p1") == "depositing"


async def test_a_courier_who_leaves_nothing_frees_the_compartment(rig: LockerRig) -> None:
    accepted = await begun(rig, "p1")
    await rig.pass_time(1.0)
    await rig.service.end(accepted.session, Word.EMPTY)
    assert rig.view(accepted).state is SessionState.OPEN
    rig.bench.shut(accepted.door)
    await rig.pass_time(1.0)
    assert rig.view(accepted).state is SessionState.ENDED
    assert (rig.parcel("p1"), rig.compartment(accepted.door)) == ("withdrawn", "free")
    assert "p1" not in rig.codes


async def test_a_wrong_pin_a_foreign_badge_and_no_badge_say_the_same(rig: LockerRig) -> None:
    refused = Refused(Reason.NOT_ALLOWED)
    assert await rig.deposit("p1", pin="27182818") == refused
    assert await rig.deposit("p1", nodes="acme_elsewhere") == refused
    assert await rig.service.deposit("rubbish", "31415926", ("p1",), "S", False) == refused
    counted = rig.rows("SELECT reason, count FROM tally WHERE kind = 'badge' ORDER BY reason")
    assert counted == [("bad_signature", 1), ("wrong_node", 1), ("wrong_pin", 1)]


async def test_after_five_wrong_pins_a_badge_is_not_taken_here_any_more_even_after_a_crash(rig: LockerRig) -> None:
    for _ in range(5):
        await rig.deposit("p1", pin="27182818")
    await rig.crash()
    await rig.start()
    assert await rig.deposit("p1") == Refused(Reason.NOT_ALLOWED)
    await begun(rig, "p1", jti="another-badge")


async def test_a_booking_that_is_no_id_is_refused(rig: LockerRig) -> None:
    assert await rig.deposit("Anna, Lindenstraße 5") == Refused(Reason.BOOKING_REFUSED)
    assert not rig.story()


async def test_a_booking_lies_in_one_compartment_only(rig: LockerRig) -> None:
    await rig.load("p1")
    await rig.pass_time(121.0)
    assert await rig.deposit("p1") == Refused(Reason.BOOKING_REFUSED)


async def test_the_own_deposit_opens_again_within_two_minutes_and_keeps_its_code(rig: LockerRig) -> None:
    door = await rig.load("p1")
    code = rig.codes["p1"]
    await rig.pass_time(100.0)
    assert await rig.deposit("p1", courier="courier-2", jti="badge-2") == Refused(Reason.BOOKING_REFUSED)
    again = await begun(rig, "p1")
    assert again.door == door
    await rig.pass_time(1.0)
    assert await rig.refused("p1") == "busy"
    rig.bench.shut(door)
    await rig.pass_time(1.0)
    assert (rig.parcel("p1"), rig.codes["p1"]) == ("stored", code)
    await rig.accepted("p1")


async def test_a_parcel_taken_back_takes_its_code_with_it(rig: LockerRig) -> None:
    door = await rig.load("p1")
    again = await begun(rig, "p1")
    await rig.pass_time(1.0)
    await rig.service.end(again.session, Word.EMPTY)
    rig.bench.take(door)
    rig.bench.shut(door)
    await rig.pass_time(1.0)
    assert (rig.parcel("p1"), rig.compartment(door)) == ("withdrawn", "free")
    assert rig.rows("SELECT plain, extended FROM parcel") == [(None, None)]
    assert await rig.refused("p1") == "no_such_code"


async def test_an_own_deposit_whose_door_jams_the_second_time_stays_stored(rig: LockerRig) -> None:
    door = await rig.load("p1")
    rig.bench.ailment(door).stuck = -1
    await begun(rig, "p1")
    await rig.pass_time(8.0)
    assert (rig.parcel("p1"), rig.compartment(door)) == ("stored", "blocked")
    rig.bench.ailment(door).stuck = 0
    await rig.accepted("p1")


async def test_a_jam_withdraws_the_deposit_and_the_next_try_gets_another_door(rig: LockerRig) -> None:
    rig.bench.ailment("01").stuck = -1
    first = await begun(rig, "p1")
    assert first.door == "01"
    await rig.pass_time(8.0)
    assert rig.view(first).state is SessionState.JAMMED
    assert (rig.parcel("p1"), rig.compartment("01")) == ("withdrawn", "blocked")
    second = await begun(rig, "p1")
    assert second.door != "01"


async def test_what_is_put_behind_a_door_that_gave_way_late_is_not_overlooked(rig: LockerRig) -> None:
    rig.bench.ailment("01").stuck = 2
    rig.bench.ailment("01").swing = 4.0
    accepted = await begun(rig, "p1")
    await rig.pass_time(6.5)
    assert rig.view(accepted).state is SessionState.JAMMED
    await rig.pass_time(3.0)
    assert rig.view(accepted).state is SessionState.OPEN
    rig.bench.put("01")
    rig.bench.shut("01")
    await rig.pass_time(1.0)
    assert (rig.parcel("p1"), rig.compartment("01")) == ("stored", "blocked")
    await rig.accepted("p1")


async def test_a_door_that_bounces_after_an_empty_ending_makes_no_phantom_parcel(rig: LockerRig) -> None:
    accepted = await begun(rig, "p1")
    await rig.pass_time(1.0)
    await rig.service.end(accepted.session, Word.EMPTY)
    rig.bench.shut("01")
    await rig.pass_time(0.5)
    rig.bench.force("01")
    await rig.pass_time(0.5)
    rig.bench.shut("01")
    await rig.pass_time(1.0)
    assert rig.parcel("p1") == "withdrawn"


async def unseen(rig: LockerRig) -> Accepted:
    """A deposit whose board falls silent right after the pulse: nobody knows whether its door opened."""
    accepted = await begun(rig, "p1")
    rig.bench.mute.add(0)
    await rig.pass_time(4.0)
    assert rig.view(accepted).state is SessionState.UNKNOWN
    assert rig.compartment(accepted.door) == "blocked"
    return accepted


async def test_an_unseen_deposit_waits_for_the_couriers_word(rig: LockerRig) -> None:
    accepted = await unseen(rig)
    rig.bench.shut(accepted.door)
    rig.bench.mute.clear()
    await rig.pass_time(5.0)
    assert rig.parcel("p1") == "depositing"
    await rig.service.end(accepted.session, Word.EMPTY)
    assert (rig.parcel("p1"), rig.compartment(accepted.door)) == ("withdrawn", "blocked")
    assert "p1" not in rig.codes


async def test_without_a_word_an_unseen_parcel_is_taken_to_be_inside(rig: LockerRig) -> None:
    accepted = await unseen(rig)
    rig.bench.put(accepted.door)
    rig.bench.shut(accepted.door)
    await rig.pass_time(121.0)
    assert rig.parcel("p1") == "stored"
    rig.bench.mute.clear()
    await rig.pass_time(8.0)
    await rig.accepted("p1")


async def test_an_unseen_door_found_open_was_opened_by_our_pulse_and_is_stored_when_it_closes(rig: LockerRig) -> None:
    accepted = await unseen(rig)
    rig.bench.mute.clear()
    await rig.pass_time(3.0)
    assert rig.view(accepted).state is SessionState.OPEN
    rig.bench.put(accepted.door)
    rig.bench.shut(accepted.door)
    await rig.pass_time(1.0)
    assert rig.view(accepted).state is SessionState.ENDED
    assert rig.parcel("p1") == "stored"


async def test_a_cut_cable_at_the_own_deposit_opened_again_does_not_lock_the_customer_out(rig: LockerRig) -> None:
    door = await rig.load("p1")
    rig.bench.ailment(door).cut = "open"
    await rig.pass_time(1.0)
    again = await begun(rig, "p1")
    await rig.pass_time(4.0)
    assert rig.view(again).state is SessionState.UNKNOWN
    view = await rig.service.end(again.session, Word.NONE)
    assert view is not None
    assert view.state is SessionState.UNKNOWN
    assert await rig.refused("p1") == "busy"
    await rig.pass_time(121.0)
    assert rig.view(again).state is SessionState.ENDED
    await rig.accepted("p1")


async def test_a_cable_cut_while_the_own_deposit_stands_open_does_not_lock_the_customer_out(rig: LockerRig) -> None:
    door = await rig.load("p1")
    await begun(rig, "p1")
    await rig.pass_time(1.0)
    rig.bench.ailment(door).cut = "open"
    rig.bench.shut(door)
    await rig.pass_time(310.0)
    await rig.accepted("p1")


async def test_asking_again_after_an_unseen_deposit_gives_another_door(rig: LockerRig) -> None:
    first = await unseen(rig)
    rig.bench.shut(first.door)
    rig.bench.mute.clear()
    await rig.pass_time(3.0)
    second = await begun(rig, "p1")
    assert second.door != first.door
    assert rig.compartment(first.door) == "blocked"
    await rig.pass_time(1.0)
    rig.bench.put(second.door)
    rig.bench.shut(second.door)
    await rig.pass_time(130.0)
    assert rig.rows("SELECT door, state FROM parcel") == [(second.door, "stored")]


async def test_a_pulse_that_never_left_gives_the_compartment_back(rig: LockerRig) -> None:
    rig.bench.unplugged = True
    await begun(rig, "p1")
    await rig.pass_time(1.0)
    assert (rig.parcel("p1"), rig.compartment("01")) == ("withdrawn", "free")


async def test_a_full_locker_says_so(rig: LockerRig) -> None:
    for number in range(4):
        await rig.load(f"p{number}")
    assert await rig.deposit("p4") == Refused(Reason.NO_ROOM)
    assert await rig.deposit("p5", size="L") == Refused(Reason.NO_ROOM)


async def test_the_smallest_that_fits_and_never_a_smaller_one(rig: LockerRig) -> None:
    assert [await rig.load("p1", size="M"), await rig.load("p2", size="M")] == ["03", "04"]
    assert await rig.deposit("p3", size="M") == Refused(Reason.NO_ROOM)


@pytest.mark.parametrize("sign", ["open", "item", "unknown"])
async def test_free_in_the_ledger_is_not_enough(rig: LockerRig, sign: str) -> None:
    rig.bench.item_sensors = True
    if sign == "unknown":
        rig.bench.mute.add(0)
    else:
        rig.bench.force("01")
        if sign == "item":
            rig.bench.put("01")
            rig.bench.shut("01")
    await rig.pass_time(7.0)
    answer = await rig.deposit("p1")
    if sign == "unknown":
        assert answer == Refused(Reason.OUT_OF_SERVICE)
    else:
        assert answer.door == "02"


async def test_of_two_couriers_one_waits(rig: LockerRig) -> None:
    answers = await asyncio.gather(rig.deposit("p1"), rig.deposit("p2", courier="courier-2", jti="badge-2"))
    assert {type(each) for each in answers} == {Accepted, Refused}
    assert Refused(Reason.BUSY, 5.0) in answers
    await rig.pass_time(1.0)


async def test_a_deposit_that_no_copy_can_hold_does_not_move_its_door(rig: LockerRig) -> None:
    async def refused() -> None:
        raise StoreError("no", remedy="none")

    rig.store.copied = refused  # type: ignore[method-assign]  # the disk's doing
    assert await rig.deposit("p1") == Refused(Reason.OUT_OF_SERVICE)
    await rig.pass_time(3.0)
    assert not rig.bench.happened("pulse")
    assert (rig.parcel("p1"), rig.compartment("01")) == ("withdrawn", "free")


async def test_an_expired_badge_is_turned_away_and_an_untrusted_clock_does_not_revive_it(rig: LockerRig) -> None:
    badge()
    rig.clock.step_wall(5 * 3600)
    assert await rig.deposit("p1") == Refused(Reason.NOT_ALLOWED)
    await rig.ledger_store.keep(lambda ledger: ledger.save_running())
    rig.clock.step_wall(-5 * 3600)
    rig.clock.trust(False)
    assert await rig.deposit("p1") == Refused(Reason.NOT_ALLOWED)


async def test_out_of_reach_the_couriers_phone_carries_the_sealed_codes_and_else_nothing_is_shown(
    rig: LockerRig,
) -> None:
    for offline, carried in ((True, "sealed:p1 sealed:p2"), (False, "")):
        rig.offline = offline
        parcels = ("p1", "p2") if offline else ("p3", "p4")
        accepted = await begun(rig, *parcels)
        await rig.pass_time(1.0)
        assert rig.view(accepted).carry == ""
        rig.bench.shut(accepted.door)
        await rig.pass_time(1.0)
        assert (rig.view(accepted).state, rig.view(accepted).carry) == (SessionState.ENDED, carried)
