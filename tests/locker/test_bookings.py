"""Every booking is in effect exactly once: whatever comes twice, late, out of order, or after the database is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge.errors import TransitionError
from edge.issuers import Issuers, IssuersDocument
from edge.result import Status
from locker import booking as bookings
from locker.booking import EXPECTED_S, MAX_EXPECTED, TRANSITIONS, BookingInput, BookingState
from locker.commands import MAX_HOLD_HOURS
from locker.contract import Word
from locker.kiosk import Accepted, Refused
from tests.edge.trust import DAY, HUB
from tests.locker.downlink_rig import DownlinkRig, downlink, person

HOUR = 3600.0


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[DownlinkRig]:
    async with downlink(tmp_path) as rig:
        yield rig


async def expected(rig: DownlinkRig, booking: str = "b1", rev: int = 1, **changed: Any) -> None:
    assert await rig.say("expect", booking, rev, **({"size": "S", "hold_hours": 24} | changed)) == ("done", "")


def expires(rig: DownlinkRig, booking: str = "b1") -> float:
    return float(rig.rows("SELECT expires FROM parcel WHERE parcel = ?", booking)[0][0])


async def collect(rig: DownlinkRig, booking: str = "b1") -> None:
    door = (await rig.accepted(booking)).door
    await rig.pass_time(1.0)
    rig.bench.take(door)
    rig.bench.shut(door)
    await rig.pass_time(1.0)


async def test_a_booked_parcel_is_expected_stored_and_ended_and_told_so_once_each(rig: DownlinkRig) -> None:
    await expected(rig)
    assert rig.state_of("b1") == "expected"
    await rig.load("b1")
    assert rig.state_of("b1") == "stored"
    await collect(rig)
    assert rig.state_of("b1") == "ended"
    assert rig.changes("b1") == ["expected", "stored", "ended"]


async def test_it_is_held_for_as_long_as_was_booked_and_another_for_as_long_as_the_operator_says(
    rig: DownlinkRig,
) -> None:
    await expected(rig, hold_hours=24)
    await rig.load("b1")
    await rig.load("walk-in")
    assert expires(rig) == pytest.approx(rig.clock.wall() + 24 * HOUR, abs=5)
    assert expires(rig, "walk-in") == pytest.approx(rig.clock.wall() + rig.hold_s, abs=5)


async def test_the_courier_gets_at_least_the_size_and_the_reach_that_were_booked(rig: DownlinkRig) -> None:
    await expected(rig, size="M")
    door = await rig.load("b1", size="S")
    assert next(each.size.value for each in rig.compartments if each.door == door) == "M"
    await expected(rig, "b2", size="S")
    larger = await rig.deposit("b2", size="L")
    assert isinstance(larger, Accepted)
    assert next(each.size.value for each in rig.compartments if each.door == larger.door) == "L"
    await rig.pass_time(1.0)
    rig.bench.shut(larger.door)
    await rig.pass_time(1.0)
    await expected(rig, "b3", size="M", low=True)
    refused = await rig.deposit("b3", size="S")
    assert isinstance(refused, Refused)
    assert refused.reason.value == "no_room"


async def test_the_same_command_again_hears_the_recorded_answer_and_has_no_second_effect(rig: DownlinkRig) -> None:
    token = rig.booking("extend", "b1", 2, hours=10)
    await expected(rig, hold_hours=24)
    first = await rig.hears(token)
    again = await rig.hears(token)
    await rig.crash()
    await rig.start()
    after = await rig.hears(token)
    assert first == again == after
    assert first.status is Status.DONE
    assert rig.rows("SELECT hold_hours FROM booking") == [(34,)]
    assert rig.changes("b1") == ["expected", "extended"]


async def test_an_older_revision_is_superseded_also_after_a_restart(rig: DownlinkRig) -> None:
    late = rig.booking("extend", "b1", 2, hours=10)
    await expected(rig, rev=1)
    assert await rig.say("cancel", "b1", 3) == ("done", "")
    await rig.crash()
    await rig.start()
    refused = await rig.hears(late)
    assert (refused.status, refused.reason) == (Status.REJECTED, "superseded")
    assert await rig.say("expect", "b1", 3, size="S", hold_hours=1) == ("rejected", "superseded")
    assert rig.changes("b1") == ["expected", "cancelled"]


async def test_a_revision_that_the_locker_refused_is_spent_too(rig: DownlinkRig) -> None:
    """What was signed before it must not be done after it."""
    await expected(rig, rev=1)
    await rig.load("b1")
    assert await rig.say("cancel", "b1", 3) == ("rejected", "already_here")
    assert await rig.say("extend", "b1", 2, hours=1) == ("rejected", "superseded")


async def test_a_command_whose_signer_may_not_send_it_spends_no_revision(rig: DownlinkRig) -> None:
    token = rig.booking("expect", "b1", 9, size="S", hold_hours=1)
    everything = rig.listed
    rig.listed = Issuers(IssuersDocument(1, 0, (person(HUB, "hub", rig.clock.wall(), scopes=("nonce",)),)))
    refused = await rig.hears(token)
    rig.listed = everything
    assert (refused.status, refused.reason) == (Status.REJECTED, "wrong_scope")
    await expected(rig, rev=1)


@pytest.mark.parametrize("ruin", ["destroyed", "lost"])
async def test_a_rebuilt_database_honours_no_old_revision_and_no_ended_booking(rig: DownlinkRig, ruin: str) -> None:
    old = rig.booking("expect", "b1", 1, size="L", hold_hours=1)
    late = rig.booking("extend", "b1", 2, hours=9)
    await expected(rig, rev=3)
    await rig.load("b1")
    await expected(rig, "b2")
    await rig.upkeep.copied()
    await rig.crash()
    for path in rig.folder.glob("state.db*"):
        if not path.suffix.startswith(".ledger"):
            path.write_bytes(b"\0" * 65536) if ruin == "destroyed" and path.suffix == ".db" else path.unlink()
    await rig.start()
    assert [(await rig.hears(token)).reason for token in (old, late)] == ["superseded"] * 2
    assert (rig.state_of("b1"), rig.state_of("b2")) == ("stored", "expected")
    await collect(rig)
    assert await rig.say("expect", "b1", 4, size="S", hold_hours=1) == ("rejected", "already_over")


async def test_a_cancelled_booking_takes_no_deposit_until_it_is_announced_anew(rig: DownlinkRig) -> None:
    await expected(rig)
    assert await rig.say("cancel", "b1", 2) == ("done", "")
    refused = await rig.deposit("b1")
    assert isinstance(refused, Refused)
    assert refused.reason.value == "booking_refused"
    await expected(rig, rev=3)
    await rig.load("b1")
    assert rig.changes("b1") == ["expected", "cancelled", "expected", "stored"]


async def test_a_courier_who_takes_the_parcel_along_again_leaves_it_expected(rig: DownlinkRig) -> None:
    await expected(rig)
    door = await rig.load("b1")
    again = await rig.deposit("b1")
    assert isinstance(again, Accepted)
    await rig.pass_time(1.0)
    await rig.service.end(again.session, Word.EMPTY)
    rig.bench.take(door)
    rig.bench.shut(door)
    await rig.pass_time(1.0)
    assert rig.changes("b1") == ["expected", "stored", "withdrawn"]
    await rig.load("b1")
    assert rig.state_of("b1") == "stored"


async def test_holding_longer_counts_from_the_promise_and_once_overdue_from_now(rig: DownlinkRig) -> None:
    await expected(rig, hold_hours=1)
    await rig.load("b1")
    promised = expires(rig)
    assert await rig.say("extend", "b1", 2, hours=2) == ("done", "")
    assert expires(rig) == promised + 2 * HOUR
    rig.clock.step_wall(5 * HOUR)
    assert await rig.refused("b1") == "expired"
    assert await rig.say("extend", "b1", 3, hours=1) == ("done", "")
    assert expires(rig) == pytest.approx(rig.clock.wall() + HOUR, abs=5)
    await collect(rig)


async def test_what_is_extended_while_its_courier_is_at_the_door_is_held_for_so_long(rig: DownlinkRig) -> None:
    await expected(rig, hold_hours=24)
    put_in = await rig.deposit("b1")
    assert isinstance(put_in, Accepted)
    assert await rig.say("extend", "b1", 2, hours=10) == ("done", "")
    await rig.pass_time(1.0)
    rig.bench.shut(put_in.door)
    await rig.pass_time(1.0)
    assert expires(rig) == pytest.approx(rig.clock.wall() + 34 * HOUR, abs=5)
    assert rig.changes("b1") == ["expected", "extended", "stored"]


async def test_what_nobody_has_announced_is_not_extended_before_it_lies_here(rig: DownlinkRig) -> None:
    put_in = await rig.deposit("walk-in")
    assert isinstance(put_in, Accepted)
    assert await rig.say("extend", "walk-in", 1, hours=10) == ("rejected", "no_such_booking")
    await rig.pass_time(1.0)
    rig.bench.shut(put_in.door)
    await rig.pass_time(1.0)
    assert await rig.say("extend", "walk-in", 2, hours=10) == ("done", "")


async def test_nothing_is_held_for_more_than_the_limit_however_often_it_is_extended(rig: DownlinkRig) -> None:
    await expected(rig, hold_hours=MAX_HOLD_HOURS)
    assert await rig.say("extend", "b1", 2, hours=1) == ("rejected", "hold_too_long")
    await rig.load("b1")
    before = expires(rig)
    assert await rig.say("extend", "b1", 3, hours=MAX_HOLD_HOURS) == ("rejected", "hold_too_long")
    assert await rig.say("extend", "b1", 4, hours=MAX_HOLD_HOURS + 1) == ("rejected", "bad_args")
    assert expires(rig) == before


async def test_a_reissued_code_opens_the_door_and_the_former_one_is_dead(rig: DownlinkRig) -> None:
    await expected(rig)
    door = await rig.load("b1")
    former = rig.codes["b1"]
    assert await rig.say("reissue", "b1", 2) == ("done", "")
    dead = await rig.service.collect(former.typed, None, False)
    assert isinstance(dead, Refused)
    assert dead.reason.value == "no_such_code"
    assert (await rig.accepted("b1")).door == door
    sealed = rig.events("locker.code.issued")
    assert [each["parcel"] for each in sealed] == ["b1", "b1"]
    assert rig.changes("b1") == ["expected", "stored", "reissued"]


async def test_what_does_not_fit_is_refused_by_its_reason_and_changes_nothing(rig: DownlinkRig) -> None:
    assert await rig.say("cancel", "b1", 1) == ("rejected", "no_such_booking")
    assert await rig.say("extend", "b1", 2, hours=1) == ("rejected", "no_such_booking")
    assert await rig.say("reissue", "b1", 3) == ("rejected", "not_here")
    assert await rig.say("expect", "not an id", 1, size="S", hold_hours=1) == ("rejected", "bad_args")
    assert await rig.say("expect", "b1", 4, size="XL", hold_hours=1) == ("rejected", "bad_args")
    await rig.load("b1")
    assert await rig.say("expect", "b1", 5, size="S", hold_hours=1) == ("rejected", "already_here")
    await collect(rig)
    assert await rig.say("extend", "b1", 6, hours=1) == ("rejected", "no_such_booking")
    assert await rig.say("cancel", "b1", 7) == ("rejected", "already_over")
    assert rig.rows("SELECT * FROM booking") == []
    assert rig.changes("b1") == []


async def test_a_booking_is_refused_after_its_expiry_also_by_what_an_untrusted_clock_surely_knows(
    rig: DownlinkRig,
) -> None:
    late = rig.booking("expect", "b1", 1, lies_s=DAY, size="S", hold_hours=1)
    rig.clock.trust(False)
    rig.passed = rig.clock.wall() + DAY
    assert (await rig.hears(late)).reason == "expired"
    rig.passed = rig.clock.wall() + DAY - 1
    assert (await rig.hears(rig.booking("expect", "b2", 1, lies_s=DAY, size="S", hold_hours=1))).status is Status.DONE


async def test_a_parcel_of_an_untrusted_clock_never_expires_and_extending_it_is_no_promise(rig: DownlinkRig) -> None:
    rig.clock.trust(False)
    await expected(rig, hold_hours=1)
    await rig.load("b1")
    assert await rig.say("extend", "b1", 2, hours=1) == ("done", "")
    assert rig.rows("SELECT expires FROM parcel") == [(None,)]


async def test_what_nobody_brings_lapses_and_its_room_is_given_to_another(rig: DownlinkRig) -> None:
    await expected(rig)
    await rig.store.write(bookings_full)
    assert await rig.say("expect", "one-more", 1, size="S", hold_hours=1) == ("rejected", "too_many_bookings")
    await rig.ledger_store.keep(lambda ledger: waited(ledger, EXPECTED_S + 1))
    rig._spawn("upkeep", lambda: rig.upkeep.sweep(rig.ledger_store, rig.cabinet.in_service))
    await rig.eventually(lambda: rig.changes("b1") == ["expected", "lapsed"])
    await expected(rig, "one-more", rev=2)


def waited(ledger: Any, seconds: float) -> None:
    ledger.transaction.sql.execute("UPDATE booking SET since = since - ?", (seconds,))


def bookings_full(ledger: Any) -> None:
    (one,) = ledger.bookings(BookingState.EXPECTED)
    for n in range(MAX_EXPECTED - 1):
        ledger.save_booking(type(one)(**{**_members(one), "booking": f"many-{n}"}))


def _members(one: Any) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__struct_fields__}


def test_no_booking_comes_back_from_its_end() -> None:
    assert set(BookingState) == {BookingState.EXPECTED, *TRANSITIONS.values()}
    for happened in BookingInput:
        with pytest.raises(TransitionError):
            bookings.move(BookingState.ENDED, happened)
