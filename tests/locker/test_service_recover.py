"""Power cuts in every window of a pickup, a deposit and a command: nothing is pulsed again, nothing is guessed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.errors import StoreError, VerificationError
from locker.contract import Reason
from locker.door import Done, Outcome
from locker.kiosk import Accepted, Refused
from tests.locker.rig import LockerRig, running


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[LockerRig]:
    async with running(tmp_path) as rig:
        yield rig


async def restarted(rig: LockerRig) -> list[str]:
    await rig.crash()
    rig.bench.before_pulse = None
    return await rig.start()


async def test_before_the_commit_nothing_has_happened(rig: LockerRig) -> None:
    await rig.load("p1")
    rig.store.cut = True
    asking = asyncio.create_task(rig.type("p1"))
    await asyncio.sleep(0.01)
    await restarted(rig)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert rig.parcel("p1") == "stored"
    await rig.accepted("p1")


async def test_between_commit_and_pulse_the_outcome_is_unknown_and_nothing_is_pulsed(rig: LockerRig) -> None:
    door = await rig.load("p1")
    pulses = len(rig.bench.happened("pulse"))
    rig.bench.before_pulse = asyncio.Event()
    await rig.accepted("p1")
    await restarted(rig)
    assert await rig.refused("p1") == "busy"
    await rig.pass_time(4.0)
    assert len(rig.bench.happened("pulse")) == pulses
    (unknown,) = rig.events("locker.door.unknown")
    assert (unknown["door"], unknown["cause"]) == (door, "restarted")
    assert await rig.refused("p1") == "confirm_needed"
    await rig.accepted("p1", confirm=True)
    await rig.pass_time(1.0)
    assert rig.bench.stands(door)[0]


async def test_a_door_found_open_after_the_pulse_was_opened_by_it(rig: LockerRig) -> None:
    door = await rig.load("p1")
    await rig.accepted("p1")
    await rig.crash()
    await rig.clock.advance(1.0)
    await rig.start()
    await rig.pass_time(1.0)
    assert await rig.refused("p1") == "used"
    rig.bench.take(door)
    rig.bench.shut(door)
    await rig.pass_time(1.0)
    assert (rig.parcel("p1"), rig.compartment(door)) == ("collected", "free")


async def test_a_door_opened_and_shut_in_the_dark_is_unknown(rig: LockerRig) -> None:
    door = await rig.load("p1")
    await rig.accepted("p1")
    await rig.crash()
    await rig.clock.advance(5.0)
    rig.bench.take(door)
    rig.bench.shut(door)
    await rig.start()
    await rig.pass_time(4.0)
    assert (rig.parcel("p1"), rig.compartment(door)) == ("unconfirmed", "blocked")
    assert await rig.refused("p1") == "confirm_needed"


async def test_after_the_opening_was_kept_the_closing_completes_the_pickup(rig: LockerRig) -> None:
    door = await rig.load("p1")
    await rig.accepted("p1")
    await rig.pass_time(1.0)
    await rig.crash()
    rig.bench.take(door)
    rig.bench.shut(door)
    await rig.start()
    await rig.pass_time(1.0)
    assert (rig.parcel("p1"), rig.compartment(door)) == ("collected", "free")
    assert await rig.refused("p1") == "used"


async def test_a_further_pulse_that_was_only_committed_is_not_made_up_for(rig: LockerRig) -> None:
    door = await rig.load("p1")
    rig.bench.ailment(door).stuck = -1
    await rig.accepted("p1")
    await rig.pass_time(1.0)
    rig.bench.before_pulse = asyncio.Event()
    await rig.pass_time(2.0)
    pulses = len(rig.bench.happened("pulse"))
    ((committed,),) = rig.rows("SELECT pulses FROM unlocking WHERE door = ?", door)
    assert committed == 2
    await restarted(rig)
    await rig.pass_time(8.0)
    assert len(rig.bench.happened("pulse")) == pulses
    assert rig.parcel("p1") == "unconfirmed"


async def test_a_second_crash_while_recovering_changes_nothing(rig: LockerRig) -> None:
    await rig.load("p1")
    rig.bench.before_pulse = asyncio.Event()
    await rig.accepted("p1")
    for _ in range(3):
        await restarted(rig)
    await rig.pass_time(4.0)
    assert rig.parcel("p1") == "unconfirmed"
    assert len(rig.events("locker.door.unknown")) == 1


async def test_a_silent_bus_does_not_keep_recovery_waiting(rig: LockerRig) -> None:
    await rig.load("p1")
    await rig.accepted("p1")
    rig.bench.mute.add(0)
    await restarted(rig)
    await rig.pass_time(4.0)
    assert rig.parcel("p1") == "unconfirmed"


@pytest.mark.parametrize("inside", [True, False])
async def test_a_deposit_cut_short_is_taken_to_be_inside(rig: LockerRig, inside: bool) -> None:
    answer = await rig.deposit("p1")
    assert isinstance(answer, Accepted)
    await rig.crash()
    await rig.clock.advance(1.0)
    if inside:
        rig.bench.put(answer.door)
    rig.bench.shut(answer.door)
    await rig.start()
    await rig.pass_time(130.0)
    assert rig.parcel("p1") == "stored"
    assert rig.compartment(answer.door) != "free"
    await rig.accepted("p1")


async def test_a_deposit_whose_door_still_stands_open_goes_on(rig: LockerRig) -> None:
    answer = await rig.deposit("p1")
    assert isinstance(answer, Accepted)
    await rig.crash()
    await rig.clock.advance(1.0)
    await rig.start()
    rig.bench.put(answer.door)
    rig.bench.shut(answer.door)
    await rig.pass_time(2.0)
    assert (rig.parcel("p1"), rig.compartment(answer.door)) == ("stored", "occupied")


async def test_a_deposit_cut_short_between_closing_and_its_commit_is_stored(rig: LockerRig) -> None:
    answer = await rig.deposit("p1")
    assert isinstance(answer, Accepted)
    await rig.pass_time(1.0)
    rig.store.cut = True
    rig.bench.put(answer.door)
    rig.bench.shut(answer.door)
    await rig.clock.advance(1.0)
    await rig.crash()
    assert rig.parcel("p1") == "depositing"
    await rig.start()
    await rig.pass_time(1.0)
    assert rig.parcel("p1") == "stored"
    await rig.accepted("p1")


def nothing(_: object) -> None:
    """A command that leaves no trace of its own."""


class Told:
    """Hears the outcome; the disk fails it the first times."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.outcomes: list[Outcome] = []

    async def __call__(self, done: Done) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreError("no", remedy="none")
        self.outcomes.append(done.outcome)


async def test_a_command_opens_its_door_and_hears_of_it(rig: LockerRig) -> None:
    told = Told()
    await rig.service.open_by_command("03", "jti-1", nothing, told)
    await rig.pass_time(1.0)
    assert rig.bench.stands("03")[0]
    assert told.outcomes == [Outcome.OPENED]
    (requested,) = rig.events("locker.unlock.requested")
    assert (requested["cause"], requested["cause_id"]) == ("command", "jti-1")


async def test_an_outcome_that_cannot_be_kept_is_told_again_and_holds_up_no_door(rig: LockerRig) -> None:
    told = Told(failures=3)
    await rig.service.open_by_command("03", "jti-1", nothing, told)
    await rig.pass_time(1.0)
    rig.bench.shut("03")
    await rig.load("p1")
    await rig.pass_time(3.0)
    assert told.outcomes == [Outcome.OPENED]


async def test_a_command_that_a_crash_cut_short_is_followed_and_answered(rig: LockerRig) -> None:
    rig.bench.before_pulse = asyncio.Event()
    await rig.service.open_by_command("03", "jti-1", nothing, Told())
    assert await restarted(rig) == ["jti-1"]
    await rig.pass_time(4.0)
    ((jti, done),) = rig.told
    assert (jti, done.outcome) == ("jti-1", Outcome.UNKNOWN)
    assert not rig.bench.happened("pulse")


async def test_commands_open_three_doors_a_minute_and_twenty_a_day(rig: LockerRig) -> None:
    async def opened(number: int) -> bool:
        try:
            await rig.service.open_by_command("03", f"jti-{number}", nothing, Told())
        except VerificationError as error:
            return error.reason != "capped"
        await rig.pass_time(2.0)
        rig.bench.shut("03")
        await rig.pass_time(1.0)
        return True

    assert [await opened(number) for number in range(4)] == [True, True, True, False]
    await rig.crash()
    await rig.start()
    assert not await opened(5)
    opened_today = 3
    for number in range(10, 40):
        await rig.pass_time(30.0)
        opened_today += await opened(number)
    assert opened_today == 20


async def test_a_refused_command_leaves_nothing_behind(rig: LockerRig) -> None:
    def broken(_: object) -> None:
        raise VerificationError("id_used", "no", remedy="none")

    with pytest.raises(VerificationError, match="no"):
        await rig.service.open_by_command("03", "jti-1", broken, Told())
    assert not rig.story()
    assert rig.rows("SELECT count(*) FROM remote_opening") == [(0,)]
    with pytest.raises(VerificationError, match="no door 99"):
        await rig.service.open_by_command("99", "jti-1", nothing, Told())


async def test_a_command_and_a_customer_do_not_open_two_doors_at_once(rig: LockerRig) -> None:
    await rig.load("p1")
    await rig.accepted("p1")
    with pytest.raises(VerificationError, match="another door"):
        await rig.service.open_by_command("03", "jti-1", nothing, Told())
    await rig.pass_time(1.0)
    await rig.service.open_by_command("03", "jti-2", nothing, Told())
    assert isinstance(await rig.type("p1"), Refused)
    await rig.pass_time(1.0)


async def test_a_parcel_behind_a_door_opened_by_command_is_in_doubt_and_stays_collectable(rig: LockerRig) -> None:
    door = await rig.load("p1")
    await rig.service.open_by_command(door, "jti-1", nothing, Told())
    await rig.pass_time(1.0)
    rig.bench.shut(door)
    await rig.pass_time(1.0)
    assert (rig.parcel("p1"), rig.compartment(door)) == ("stored", "unknown")
    await rig.accepted("p1")


async def test_a_door_that_is_not_built_in_any_more_is_left_alone(rig: LockerRig) -> None:
    rig.bench.before_pulse = asyncio.Event()
    answer = await rig.deposit("p1")
    assert isinstance(answer, Accepted)
    await rig.crash()
    rig.bench.before_pulse = None
    rig.compartments = [each for each in rig.compartments if each.door != answer.door]
    await rig.start()
    assert await rig.deposit("p1") == Refused(Reason.BOOKING_REFUSED)
    assert await rig.load("p2") != answer.door


async def test_a_commands_door_that_was_seen_open_before_the_crash_is_known_afterwards(rig: LockerRig) -> None:
    """The door's outcome is kept before the command's answer: a crash in between must not make it unknown."""
    jti = "01a3185c-7328-7dde-8bff-8ef1ce38ef93"

    async def never_told(_: Done) -> None:
        await asyncio.get_running_loop().create_future()

    await rig.service.open_by_command("01", jti, lambda _: None, never_told)
    await rig.pass_time(2.0)
    await rig.crash()
    assert await rig.start() == []
    assert await rig.ledger_store.keep(lambda ledger: ledger.opened_by_command(jti))
    assert not await rig.ledger_store.keep(lambda ledger: ledger.opened_by_command("another"))
