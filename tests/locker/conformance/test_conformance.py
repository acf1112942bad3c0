"""What every driver of lock boards has to hold to, on every kind of hardware that there is a rig for.

``--lock-board MODULE:RIG`` tries another package's instead of ours (docs/drivers.md).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from edge.errors import ConfigError, DeviceError
from locker.door import Outcome
from locker.latch import Hook, Latch
from tests.locker.conformance.operations import BUS, LINE, TWINS, attempt, operate
from tests.locker.conformance.rig import Rig, SerialRig, Trouble
from tests.locker.conformance.rigs import Maker, rigs
from tests.locker.conformance.rubbish import fuzz
from tests.locker.conformance.served import serve

Test = TypeVar("Test", bound=Callable[..., object])

OPERATIONS = 20_000
"""Over all kinds; ``make doors`` opens a million."""
BYTES = 1_000_000
"""Over all codecs; ``make fuzz`` feeds ten million to each."""

DEAD, UNPLUGGED, GARBLED = BUS
STUCK = Trouble("stuck", {}, frozenset({Outcome.JAMMED}), opens=False)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test for every kind of hardware that can have what the test is about."""
    if "maker" not in metafunc.fixturenames:
        return
    found = rigs(metafunc.config.getoption("--lock-board"))
    needed: frozenset[str] = getattr(metafunc.function, "needed", frozenset())
    fitting = {name: maker for name, maker in found.items() if needed <= maker(0, None).kinds}
    metafunc.parametrize("maker", fitting.values(), ids=fitting)
    if "share" in metafunc.fixturenames:
        metafunc.parametrize("share", [1 / len(found)], ids=["share"])


def needs(*kinds: str) -> Callable[[Test], Test]:
    """For hardware alone that can have these kinds of trouble."""

    def marked(test: Test) -> Test:
        test.needed = frozenset(kinds)  # type: ignore[attr-defined]
        return test

    return marked


@pytest.fixture
def rig(maker: Maker) -> Rig:
    return maker(1, None)


async def truth(rig: Rig) -> bool:
    """Whether every latch of every board reads as its door stands."""
    for board in {latch.board for latch in rig.latches}:
        readings = await rig.boards.readings(board)
        for latch in rig.latches:
            if latch.board == board and (readings[latch.lock].hook is Hook.OPEN) is not rig.is_open(latch):
                return False
    return True


async def test_each_latch_opens_its_own_door_and_no_other(rig: Rig) -> None:
    """Board by board, lock by lock; and what is read is what stands open."""
    for latch in rig.latches:
        await rig.boards.pulse(latch)
        await rig.clock.sleep(1.0)
        assert [(each.what, each.latch) for each in rig.seen()] == [
            (what, latch) for what in ("pulse", "released", "opened")
        ]
        assert await truth(rig)
    for latch in rig.latches[::2]:
        rig.shut(latch)
    assert await truth(rig)


async def test_a_reading_has_a_place_for_every_wired_lock_and_moves_nothing(rig: Rig) -> None:
    for board in {latch.board for latch in rig.latches}:
        wired = [latch.lock for latch in rig.latches if latch.board == board]
        for _ in range(50):
            assert len(await rig.boards.readings(board)) == max(wired) + 1
    await rig.clock.sleep(100.0)
    assert rig.seen() == []


async def test_a_latch_that_is_not_wired_is_refused_and_nothing_moves(rig: Rig) -> None:
    """Most of all none that the hardware might take for all of them."""
    boards = {latch.board for latch in rig.latches}
    most = max(latch.lock for latch in rig.latches)
    wrong = [Latch(board, lock) for board in boards for lock in (-1, most + 1, 255)]
    for latch in (*wrong, Latch(-1, 0), Latch(0, 0), Latch(250, 0)):
        if latch in rig.latches:
            continue
        with pytest.raises(ConfigError):
            await rig.boards.pulse(latch)
    with pytest.raises(ConfigError):
        await rig.boards.readings(250)
    await rig.clock.sleep(10.0)
    assert rig.seen() == []


async def test_pulses_at_the_same_time_drive_one_coil_after_the_other(rig: Rig) -> None:
    """On both boards, and each is let go of."""
    latches = [rig.latches[0], rig.latches[-1], rig.latches[1], rig.latches[-2]]
    await asyncio.gather(*(rig.boards.pulse(latch) for latch in latches))
    await rig.clock.sleep(100.0)
    seen = rig.seen()
    assert [each.latch for each in seen if each.what == "pulse"] == latches
    assert {each.what for each in seen} == {"pulse", "released", "opened"}, "neither two coils at once nor a hot one"


async def test_a_coil_is_let_go_of_by_itself(rig: Rig) -> None:
    """A door that is shut when its coil has had its time holds: it would bounce off a driven latch."""
    latch = rig.latches[0]
    await rig.boards.pulse(latch)
    await rig.clock.sleep(rig.coil)
    rig.shut(latch)
    assert [each.what for each in rig.seen()][-1] == "closed"
    assert not rig.is_open(latch)


@needs(*(trouble.kind for trouble in LINE))
@pytest.mark.parametrize("trouble", LINE, ids=lambda trouble: trouble.kind)
async def test_whatever_the_line_does_a_reading_is_true_or_unknown(rig: Rig, trouble: Trouble) -> None:
    """Doors move all the time, so that an answer that is late, or half of one, would be false."""
    chance, known = random.Random(trouble.kind), 0
    rig.inflict(trouble, rig.latches[0])
    for _ in range(80):
        latch = chance.choice(rig.latches)
        (rig.shut if rig.is_open(latch) else rig.force)(latch)
        readings = await rig.boards.readings(latch.board)
        for other in (each for each in rig.latches if each.board == latch.board):
            hook = readings[other.lock].hook
            assert hook is Hook.UNKNOWN or (hook is Hook.OPEN) is rig.is_open(other), other
            known += hook is not Hook.UNKNOWN
    assert known > 80, "the line is bad, not dead"
    rig.heal()
    await rig.clock.sleep(1.0)
    assert await truth(rig)


@needs("lost_reply")
async def test_a_pulse_is_sent_once_whether_or_not_anything_answers(rig: Rig) -> None:
    rig.inflict(Trouble("lost_reply", {"p": 1.0}), rig.latches[0])
    await rig.boards.pulse(rig.latches[0])
    assert {one.hook for one in await rig.boards.readings(rig.latches[0].board)} == {Hook.UNKNOWN}
    await rig.clock.sleep(10.0)
    assert [each.what for each in rig.seen()] == ["pulse", "released", "opened"]


@needs("dead")
async def test_a_dead_board_is_unknown_and_the_other_is_served(rig: Rig) -> None:
    dead, alive = rig.latches[0], rig.latches[-1]
    rig.inflict(DEAD, dead)
    assert {one.hook for one in await rig.boards.readings(dead.board)} == {Hook.UNKNOWN}
    assert (await attempt(rig, alive)).outcome is Outcome.OPENED
    assert (await attempt(rig, dead)).outcome is Outcome.UNKNOWN
    assert {each.latch for each in rig.seen()} == {alive}


@needs("unplug")
async def test_what_is_unplugged_is_unknown_refuses_pulses_and_comes_back(rig: Rig) -> None:
    latch = rig.latches[0]
    rig.inflict(UNPLUGGED, latch)
    assert {one.hook for one in await rig.boards.readings(latch.board)} == {Hook.UNKNOWN}
    with pytest.raises(DeviceError):
        await rig.boards.pulse(latch)
    rig.heal()
    await rig.clock.sleep(3.0)
    assert await truth(rig)
    assert rig.seen() == []
    assert (await attempt(rig, latch)).outcome is Outcome.OPENED


@needs("garbled_baud")
async def test_at_a_wrong_speed_nothing_is_known_and_nothing_moves(rig: Rig) -> None:
    rig.inflict(GARBLED, rig.latches[0])
    for latch in rig.latches:
        await rig.boards.pulse(latch)
        assert {one.hook for one in await rig.boards.readings(latch.board)} == {Hook.UNKNOWN}
    await rig.clock.sleep(10.0)
    assert rig.seen() == []


@needs("duplicate_address")
async def test_two_boards_with_one_address_are_found_before_they_open_two_doors(rig: Rig) -> None:
    shared, other = rig.latches[0].board, rig.latches[-1].board
    assert (await rig.answers(shared), await rig.answers(other)) == (1, 1)
    rig.inflict(TWINS, rig.latches[0])
    assert await rig.answers(shared) > 1
    assert await rig.answers(other) == 0
    assert rig.seen() == []


async def test_a_stuck_door_is_told_as_jammed_after_three_pulses(rig: Rig) -> None:
    rig.inflict(STUCK, rig.latches[0])
    assert (await attempt(rig, rig.latches[0])).outcome is Outcome.JAMMED
    assert [each.what for each in rig.seen()] == ["pulse"] * 3
    rig.heal()
    assert (await attempt(rig, rig.latches[0])).outcome is Outcome.OPENED


async def test_what_can_be_wrong_with_this_hardware_alone(rig: Rig) -> None:
    for trouble in rig.own:
        for latch in (rig.latches[0], rig.latches[-1]):
            rig.inflict(trouble, latch)
            done = await attempt(rig, latch)
            assert done.outcome in trouble.outcomes, trouble
            assert trouble.opens in {None, rig.is_open(latch)}, trouble
            rig.heal()
            await rig.clock.sleep(10.0)
            rig.shut(latch)


async def test_thousands_of_doors_under_drawn_troubles(maker: Maker, share: float) -> None:
    """No wrong door, no two doors, no jam untold, by the simulator's own log."""
    tally = await operate(maker(2, None), 2, round(OPERATIONS * share))
    assert tally.opened > tally.operations / 2
    assert tally.jams > tally.operations / 30


async def test_codes_stay_valid_through_jams_and_doubts(maker: Maker, tmp_path: Path) -> None:
    """Through the real ledger, journal and service: each customer gets the parcel with the same code in the end."""
    told = await serve(tmp_path, maker, 3, 8)
    assert len({each.value for each in told}) > 1, "some of it went wrong at first"


@needs("noise")
async def test_rubbish_ends_in_events_that_can_be_meant(maker: Maker, share: float) -> None:
    rig = maker(4, None)
    assert isinstance(rig, SerialRig)
    told = await fuzz(rig, 4, round(BYTES * share))
    assert told["Latches"] + told["Word"] > 100, "frames were among it"
    assert told["Malformed"] > 1000
