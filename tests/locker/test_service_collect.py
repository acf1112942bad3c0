"""A customer and a code: what opens, what is refused and why, and what never burns the code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from locker.contract import Reason
from locker.kiosk import Accepted, Refused, SessionState
from tests.locker.bench import door_at, spot
from tests.locker.rig import LockerRig, running


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[LockerRig]:
    async with running(tmp_path) as rig:
        yield rig


async def collected(rig: LockerRig, door: str) -> None:
    """The customer takes the parcel out and shuts the door."""
    rig.bench.take(door)
    rig.bench.shut(door)
    await rig.pass_time(1.0)


async def test_a_code_opens_its_own_door_and_no_other(rig: LockerRig) -> None:
    first, second = await rig.load("p1"), await rig.load("p2")
    opened = rig.bench.happened("opened")
    accepted = await rig.accepted("p2")
    assert accepted.door == second != first
    await rig.pass_time(1.0)
    assert rig.view(accepted).state is SessionState.OPEN
    assert rig.bench.happened("opened")[len(opened) :] == [spot(second)]
    await collected(rig, second)
    assert rig.view(accepted).state is SessionState.ENDED
    assert rig.view(accepted).opened
    assert (rig.parcel("p1"), rig.parcel("p2")) == ("stored", "collected")
    assert (rig.compartment(first), rig.compartment(second)) == ("occupied", "free")


async def test_the_journal_tells_a_pickup_in_order(rig: LockerRig) -> None:
    door = await rig.load("p1")
    before = len(rig.story())
    await rig.accepted("p1")
    await rig.pass_time(1.0)
    await collected(rig, door)
    assert rig.story()[before:] == [
        "locker.code.accepted",
        "locker.unlock.requested",
        "locker.door.opened",
        "locker.door.closed",
        "parcel.collected",
    ]


async def test_the_answer_comes_after_the_commit_and_before_the_pulse(rig: LockerRig) -> None:
    await rig.load("p1")
    pulses = len(rig.bench.happened("pulse"))
    rig.bench.before_pulse = asyncio.Event()
    accepted = await rig.accepted("p1")
    assert rig.story()[-2:] == ["locker.code.accepted", "locker.unlock.requested"]
    assert len(rig.bench.happened("pulse")) == pulses
    assert rig.view(accepted).state is SessionState.UNLOCKING
    rig.bench.before_pulse.set()
    await rig.pass_time(1.0)
    assert len(rig.bench.happened("pulse")) == pulses + 1


async def test_the_door_opens_although_the_one_who_asked_has_left(rig: LockerRig) -> None:
    door = await rig.load("p1")
    asking = asyncio.create_task(rig.type("p1"))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await rig.pass_time(1.0)
    assert rig.bench.stands(door) == (True, True)
    await collected(rig, door)
    assert rig.parcel("p1") == "collected"


async def test_a_code_is_used_when_its_door_is_seen_to_open_and_not_before(rig: LockerRig) -> None:
    await rig.load("p1")
    rig.bench.before_pulse = asyncio.Event()
    await rig.accepted("p1")
    assert rig.parcel("p1") == "releasing"
    rig.bench.before_pulse.set()
    await rig.pass_time(1.0)
    assert rig.parcel("p1") == "released"
    assert await rig.refused("p1") == "used"


async def test_a_used_code_opens_nothing_and_says_so(rig: LockerRig) -> None:
    door = await rig.load("p1")
    await rig.accepted("p1")
    await rig.pass_time(1.0)
    await collected(rig, door)
    pulses = len(rig.bench.happened("pulse"))
    assert await rig.refused("p1") == "used"
    await rig.pass_time(3.0)
    assert len(rig.bench.happened("pulse")) == pulses


async def test_typing_errors_and_unknown_codes_are_told_apart(rig: LockerRig) -> None:
    await rig.load("p1")
    right = rig.codes["p1"].typed
    last = str((int(right[-1]) + 1) % 10)
    typo = await rig.service.collect(right[:-1] + last, None, False)
    assert typo == Refused(Reason.TYPO)
    unknown = "000000000" if right != "000000000" else "111111111"
    answer = await rig.service.collect(unknown, None, False)
    assert isinstance(answer, Refused)
    assert answer.reason in {Reason.NO_SUCH_CODE, Reason.TYPO}
    await rig.accepted("p1")


async def test_after_eight_wrong_codes_a_customer_is_let_in_by_the_extension(rig: LockerRig) -> None:
    await rig.load("p1")
    for _ in range(8):
        assert await rig.service.collect("000000000", None, False) == Refused(Reason.NO_SUCH_CODE)
    assert await rig.refused("p1") == "extension_needed"
    answer = await rig.type("p1", extension=rig.codes["p1"].extension)
    assert isinstance(answer, Accepted)


async def test_the_budget_of_wrong_codes_outlives_a_crash(rig: LockerRig) -> None:
    await rig.load("p1")
    for _ in range(8):
        await rig.service.collect("000000000", None, False)
    await rig.crash()
    await rig.start()
    assert await rig.refused("p1") == "extension_needed"


async def test_parallel_guesses_cannot_slip_past_the_budget(rig: LockerRig) -> None:
    await rig.load("p1")
    answers = await asyncio.gather(*(rig.service.collect("000000000", None, False) for _ in range(40)))
    looked_at = [each for each in answers if isinstance(each, Refused) and each.reason is Reason.NO_SUCH_CODE]
    for _ in range(20):
        answer = await rig.service.collect("000000000", None, False)
        looked_at += [answer] if isinstance(answer, Refused) and answer.reason is Reason.NO_SUCH_CODE else []
    assert len(looked_at) == 8


async def test_an_expired_code_says_so_and_an_untrusted_clock_expires_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, hold_s=3600.0) as rig:
        await rig.load("p1")
        rig.clock.step_wall(3601)
        assert await rig.refused("p1") == "expired"
        rig.clock.trust(False)
        await rig.accepted("p1")


async def test_of_two_with_the_same_code_one_hears_busy(rig: LockerRig) -> None:
    await rig.load("p1")
    answers = await asyncio.gather(rig.type("p1"), rig.type("p1"))
    assert sorted(type(each).__name__ for each in answers) == ["Accepted", "Refused"]
    await rig.pass_time(1.0)
    assert len(rig.bench.happened("pulse")) == 2


async def test_while_one_door_is_being_opened_another_code_hears_busy_and_is_not_spent(rig: LockerRig) -> None:
    await rig.load("p1")
    await rig.load("p2")
    first, second = await asyncio.gather(rig.type("p1"), rig.type("p2"))
    assert isinstance(first, Accepted)
    assert isinstance(second, Refused)
    assert (second.reason, second.retry_after) == (Reason.BUSY, 5.0)
    await rig.pass_time(1.0)
    await rig.accepted("p2")
    await rig.pass_time(1.0)
    assert not rig.bench.happened("double_coil")


async def test_a_jam_takes_three_pulses_blocks_the_compartment_and_leaves_the_code_valid(rig: LockerRig) -> None:
    door = await rig.load("p1")
    rig.bench.ailment(door).stuck = -1
    pulses = len(rig.bench.happened("pulse"))
    accepted = await rig.accepted("p1")
    await rig.pass_time(5.0)
    assert rig.view(accepted).state is SessionState.UNLOCKING
    await rig.pass_time(2.0)
    assert rig.view(accepted).state is SessionState.JAMMED
    assert len(rig.bench.happened("pulse")) == pulses + 3
    assert (rig.parcel("p1"), rig.compartment(door)) == ("stored", "blocked")
    (jam,) = rig.events("locker.door.jammed")
    assert jam["pulses"] == 3
    rig.bench.ailment(door).stuck = 0
    again = await rig.accepted("p1")
    await rig.pass_time(1.0)
    assert rig.view(again).state is SessionState.OPEN


async def test_a_lock_that_needs_a_second_pulse_gets_it(rig: LockerRig) -> None:
    door = await rig.load("p1")
    rig.bench.ailment(door).stuck = 1
    accepted = await rig.accepted("p1")
    await rig.pass_time(3.0)
    assert rig.view(accepted).state is SessionState.OPEN
    assert rig.sent.most_common(1)[0][1] == 2
    assert rig.compartment(door) == "occupied"


async def test_a_door_that_gives_way_after_the_jam_uses_the_code(rig: LockerRig) -> None:
    door = await rig.load("p1")
    rig.bench.ailment(door).stuck = 2
    rig.bench.ailment(door).swing = 4.0
    accepted = await rig.accepted("p1")
    await rig.pass_time(6.5)
    assert rig.view(accepted).state is SessionState.JAMMED
    await rig.pass_time(3.0)
    assert rig.bench.stands(door) == (True, True)
    assert rig.view(accepted).state is SessionState.OPEN
    assert await rig.refused("p1") == "used"
    (late,) = [each for each in rig.events("locker.door.opened") if each["parcel"] == "p1" and not each["attempt"]]
    assert late["session"] == accepted.session


@pytest.mark.parametrize("lie", ["open", "closed"])
async def test_a_cut_sensor_cable_never_burns_a_code(rig: LockerRig, lie: str) -> None:
    door = await rig.load("p1")
    rig.bench.ailment(door).cut = lie  # type: ignore[assignment]  # one of the two words
    await rig.pass_time(1.0)
    accepted = await rig.accepted("p1")
    await rig.pass_time(8.0)
    assert rig.view(accepted).state is (SessionState.UNKNOWN if lie == "open" else SessionState.JAMMED)
    assert rig.bench.stands(door)[0]
    assert rig.sent.most_common(1)[0][1] == (1 if lie == "open" else 3)
    assert await rig.refused("p1") != "used" if lie == "open" else await rig.accepted("p1")


async def test_after_unknown_only_a_confirmation_makes_a_new_attempt(rig: LockerRig) -> None:
    door = await rig.load("p1")
    rig.bench.mute.add(0)
    await rig.pass_time(1.0)
    accepted = await rig.accepted("p1")
    await rig.pass_time(4.0)
    assert rig.view(accepted).state is SessionState.UNKNOWN
    assert (rig.parcel("p1"), rig.compartment(door)) == ("unconfirmed", "blocked")
    rig.bench.shut(door)
    rig.bench.mute.clear()
    await rig.pass_time(2.0)
    assert await rig.refused("p1") == "confirm_needed"
    again = await rig.accepted("p1", confirm=True)
    assert again.session != accepted.session
    await rig.pass_time(1.0)
    assert rig.view(again).state is SessionState.OPEN
    attempts = [each["attempt"] for each in rig.events("locker.code.accepted")]
    assert len(set(attempts)) == 2
    assert [each["confirmed"] for each in rig.events("locker.code.accepted")] == [False, True]


async def test_a_board_that_falls_silent_after_the_pulse_gets_no_second_one(rig: LockerRig) -> None:
    door = await rig.load("p1")
    rig.bench.ailment(door).stuck = -1
    await rig.accepted("p1")
    await rig.pass_time(1.0)
    rig.bench.mute.add(0)
    await rig.pass_time(8.0)
    assert rig.sent.most_common(1)[0][1] == 1
    assert rig.parcel("p1") == "unconfirmed"


async def test_a_silent_board_is_out_of_service_and_the_code_stays_valid(rig: LockerRig) -> None:
    await rig.load("p1")
    rig.bench.dead.add(0)
    await rig.pass_time(8.0)
    assert await rig.refused("p1") == "out_of_service"
    rig.bench.dead.clear()
    await rig.pass_time(8.0)
    await rig.accepted("p1")


async def test_an_unplugged_adapter_sends_nothing_and_the_code_stays_valid(rig: LockerRig) -> None:
    door = await rig.load("p1")
    rig.bench.unplugged = True
    accepted = await rig.accepted("p1")
    await rig.pass_time(1.0)
    assert rig.view(accepted).state is SessionState.JAMMED
    assert (rig.parcel("p1"), rig.compartment(door)) == ("stored", "occupied")
    assert "locker.unlock.unsent" in rig.story()
    rig.bench.unplugged = False
    await rig.pass_time(2.0)
    await rig.accepted("p1")


async def test_something_left_behind_is_noticed_where_a_sensor_is_fitted(rig: LockerRig) -> None:
    rig.bench.item_sensors = True
    door = await rig.load("p1")
    await rig.accepted("p1")
    await rig.pass_time(1.0)
    rig.bench.shut(door)
    await rig.pass_time(1.0)
    assert (rig.parcel("p1"), rig.compartment(door)) == ("collected", "blocked")
    assert [each["cause"] for each in rig.events("locker.compartment.blocked")] == ["not_empty"]


async def test_a_door_that_was_open_when_its_board_fell_silent_is_settled_when_it_is_found_closed(
    rig: LockerRig,
) -> None:
    door = await rig.load("p1")
    accepted = await rig.accepted("p1")
    await rig.pass_time(1.0)
    rig.bench.mute.add(0)
    await rig.pass_time(3.0)
    rig.bench.take(door)
    rig.bench.shut(door)
    rig.bench.mute.clear()
    await rig.pass_time(3.0)
    assert (rig.parcel("p1"), rig.compartment(door)) == ("collected", "free")
    assert rig.view(accepted).state is SessionState.ENDED


async def test_a_forced_door_is_told_blocks_its_compartment_and_spends_no_code(rig: LockerRig) -> None:
    door = await rig.load("p1")
    await rig.pass_time(15.0)
    rig.bench.force(door)
    await rig.pass_time(1.0)
    assert (rig.parcel("p1"), rig.compartment(door)) == ("stored", "blocked")
    assert [each["door"] for each in rig.events("locker.door.forced")] == [door]


async def test_a_door_left_open_is_told_once(rig: LockerRig) -> None:
    door = await rig.load("p1")
    await rig.accepted("p1")
    await rig.pass_time(320.0)
    (ajar,) = rig.events("locker.door.ajar")
    assert (ajar["door"], ajar["seconds"]) == (door, 300.0)


async def test_refusals_are_counted_by_reason_and_minute_and_none_is_lost(rig: LockerRig) -> None:
    rig.clock.step_wall(60 - rig.clock.wall() % 60)
    for _ in range(30):
        await rig.service.collect("12", None, False)
    (row,) = rig.rows("SELECT kind, reason, count FROM tally")
    assert row == ("code", "typo", 30)
    assert not rig.events("locker.code.refused")


async def test_a_customers_session_is_told_as_it_goes(rig: LockerRig) -> None:
    door = await rig.load("p1")
    accepted = await rig.accepted("p1")
    seen: list[SessionState] = []

    async def follow() -> None:
        seen.extend([view.state async for view in rig.service.watch(accepted.session)])

    following = asyncio.create_task(follow())
    await rig.pass_time(1.0)
    await collected(rig, door)
    await following
    assert seen[0] is SessionState.UNLOCKING
    assert seen[-1] is SessionState.ENDED
    assert SessionState.OPEN in seen


async def test_doors_are_shown_in_the_order_of_their_names(rig: LockerRig) -> None:
    assert [each.door for each in rig.service.doors()] == [door_at(spot(each.door)) for each in rig.service.doors()]
    assert len(rig.service.doors()) == 4
