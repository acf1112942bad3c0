"""What people say at a door: it does not fit, something is inside, it will not close, I take it along again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from locker.contract import Reason, Word
from locker.kiosk import Accepted, Refused, SessionState
from tests.locker.rig import LockerRig, running

SMALL, MIDDLE, LARGE = "01", "03", "04"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[LockerRig]:
    async with running(tmp_path) as started:
        yield started


async def opened(rig: LockerRig, parcel: str, size: str = "S") -> Accepted:
    """A courier stands at an open door."""
    accepted = await rig.deposit(parcel, size=size)
    assert isinstance(accepted, Accepted), accepted
    await rig.pass_time(1.0)
    assert rig.view(accepted).state is SessionState.OPEN
    return accepted


async def shut(rig: LockerRig, door: str) -> None:
    rig.bench.shut(door)
    await rig.pass_time(1.0)


async def went_on(rig: LockerRig, session: str) -> Accepted:
    answer = await rig.service.next(session)
    assert isinstance(answer, Accepted), answer
    await rig.pass_time(1.0)
    return answer


async def test_a_word_that_a_page_repeats_for_ever_is_written_once(rig: LockerRig) -> None:
    accepted = await opened(rig, "p1")
    await rig.service.end(accepted.session, Word.EMPTY)
    written = rig.rows("SELECT count(*) FROM event")
    for _ in range(3):
        await rig.service.end(accepted.session, Word.EMPTY)
    assert rig.rows("SELECT count(*) FROM event") == written
    await shut(rig, accepted.door)


async def test_a_parcel_that_does_not_fit_goes_into_the_next_larger_one(rig: LockerRig) -> None:
    first = await opened(rig, "p1")
    await rig.service.end(first.session, Word.DOES_NOT_FIT)
    assert await rig.service.next(first.session) == Refused(Reason.NOT_HERE)  # one open door at a time
    await shut(rig, first.door)
    assert rig.view(first).next == "deposit"

    second = await went_on(rig, first.session)
    assert (first.door, second.door) == (SMALL, MIDDLE)
    rig.bench.put(second.door)
    await shut(rig, second.door)

    assert (rig.parcel("p1"), rig.compartment(SMALL), rig.compartment(MIDDLE)) == ("stored", "free", "occupied")
    told = rig.events("locker.door.told", "parcel.deposit.withdrawn", "parcel.deposited")
    assert [each["type"] for each in told] == ["locker.door.told", "parcel.deposit.withdrawn", "parcel.deposited"]
    assert told[0]["word"] == "does_not_fit"
    assert len(rig.events("locker.code.issued")) == 1


async def test_what_does_not_fit_into_the_largest_has_no_room_here(rig: LockerRig) -> None:
    largest = await opened(rig, "p1", size="L")
    assert largest.door == LARGE
    await rig.service.end(largest.session, Word.DOES_NOT_FIT)
    await shut(rig, LARGE)
    assert rig.view(largest).next == ""
    assert await rig.service.next(largest.session) == Refused(Reason.NOT_HERE)
    assert (rig.parcel("p1"), rig.compartment(LARGE)) == ("withdrawn", "free")


async def test_a_compartment_that_is_not_empty_is_offered_to_nobody_until_somebody_has_looked(rig: LockerRig) -> None:
    first = await opened(rig, "p1")
    await rig.service.end(first.session, Word.NOT_EMPTY)
    await shut(rig, first.door)
    second = await went_on(rig, first.session)
    assert second.door != first.door
    await shut(rig, second.door)
    assert (rig.parcel("p1"), rig.compartment(first.door)) == ("stored", "blocked")
    assert rig.events("locker.compartment.blocked")[0]["cause"] == "not_empty"
    third = await opened(rig, "p2")
    assert third.door not in {first.door, second.door}
    await shut(rig, third.door)


async def test_a_door_that_will_not_close_keeps_no_courier_waiting(rig: LockerRig) -> None:
    first = await opened(rig, "p1")
    await rig.service.end(first.session, Word.WILL_NOT_CLOSE)
    assert rig.view(first).state is SessionState.ENDED
    assert (rig.parcel("p1"), rig.compartment(first.door)) == ("withdrawn", "blocked")
    second = await went_on(rig, first.session)
    await shut(rig, second.door)
    assert rig.parcel("p1") == "stored"
    await shut(rig, first.door)  # the service has bent it back
    assert (rig.parcel("p1"), rig.compartment(first.door)) == ("stored", "blocked")


async def test_a_customer_leaves_a_door_that_will_not_close_and_the_parcel_counts_as_collected(rig: LockerRig) -> None:
    door = await rig.load("p1")
    accepted = await rig.accepted("p1")
    await rig.pass_time(1.0)
    rig.bench.take(door)
    view = await rig.service.end(accepted.session, Word.WILL_NOT_CLOSE)
    assert view is not None
    assert (view.state, view.next) == (SessionState.ENDED, "")
    assert rig.compartment(door) == "blocked"
    assert await rig.refused("p1") == "used"
    await shut(rig, door)
    assert (rig.parcel("p1"), rig.compartment(door)) == ("collected", "blocked")


async def test_power_fails_after_the_word_that_nothing_stays_inside(rig: LockerRig) -> None:
    accepted = await opened(rig, "p1")
    await rig.service.end(accepted.session, Word.EMPTY)
    await rig.crash()
    await rig.start()
    await shut(rig, accepted.door)
    assert (rig.parcel("p1"), rig.compartment(accepted.door)) == ("withdrawn", "free")
    assert "p1" not in rig.codes


async def test_power_fails_with_the_parcel_inside_and_its_customer_gets_a_code_all_the_same(rig: LockerRig) -> None:
    accepted = await opened(rig, "p1")
    rig.bench.put(accepted.door)
    await rig.crash()
    rig.bench.shut(accepted.door)
    await rig.start()
    await rig.pass_time(1.0)
    assert (rig.parcel("p1"), rig.compartment(accepted.door)) == ("stored", "occupied")
    await rig.accepted("p1")
    await rig.pass_time(1.0)
    await shut(rig, accepted.door)
    assert rig.parcel("p1") == "collected"


async def test_a_word_from_a_page_that_has_slept_touches_nobody_elses_door(rig: LockerRig) -> None:
    first = await opened(rig, "p1")
    await rig.service.end(first.session, Word.EMPTY)
    await shut(rig, first.door)
    second = await opened(rig, "p2")
    assert second.door in {SMALL, "02"}
    await rig.service.end(first.session, Word.NOT_EMPTY)
    await shut(rig, second.door)
    assert rig.parcel("p2") == "stored"
    assert rig.events("locker.compartment.blocked") == []
    assert await rig.service.next(first.session) == Refused(Reason.NOT_HERE)
