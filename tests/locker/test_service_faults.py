"""A customer, a code, and a node that is not well: a disk that refuses, a task that dies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.errors import DeviceSilent, StoreError
from edge.journal import Need
from locker.door_times import DEFAULT_TIMES
from locker.kiosk import SessionState
from locker.latch import Latch
from tests.locker.rig import LockerRig, running


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[LockerRig]:
    async with running(tmp_path) as rig:
        yield rig


async def test_a_pulse_of_which_nobody_knows_whether_it_was_given_is_followed_by_what_is_read(rig: LockerRig) -> None:
    """Its owner was asked and did not answer. The door opens: that is ours, no forced door, and the code is spent."""
    await rig.load("p1")
    await rig.pass_time(DEFAULT_TIMES.commanded + 1.0)  # the courier's pulse no longer explains an opening
    real = rig.bench.pulse

    async def silent(latch: Latch) -> None:
        await real(latch)
        raise DeviceSilent("no answer", remedy="none")

    rig.bench.pulse = silent  # type: ignore[method-assign]
    accepted = await rig.accepted("p1")
    await rig.pass_time(1.0)
    assert rig.view(accepted).state is SessionState.OPEN
    assert rig.events("locker.door.forced") == []
    assert await rig.refused("p1") == "used"


async def test_a_disk_that_refuses_the_commit_moves_nothing_and_keeps_nobody_out(rig: LockerRig) -> None:
    await rig.load("p1")
    pulses = len(rig.bench.happened("pulse"))
    real = rig.store.write

    async def refused(work: object, need: Need = Need.COLLECTION) -> object:
        raise StoreError("no", remedy="none")

    rig.store.write = refused  # type: ignore[method-assign, assignment]  # the disk's doing
    with pytest.raises(StoreError):
        await rig.type("p1")
    rig.store.write = real  # type: ignore[method-assign]
    await rig.pass_time(3.0)
    assert len(rig.bench.happened("pulse")) == pulses
    await rig.accepted("p1")


async def test_an_outcome_that_the_disk_refuses_is_kept_as_soon_as_it_can_be(rig: LockerRig) -> None:
    door = await rig.load("p1")
    rig.bench.ailment(door).stuck = -1
    accepted = await rig.accepted("p1")
    real = rig.store.write
    refusals = 0

    async def refused(work: object, need: Need = Need.COLLECTION) -> object:
        nonlocal refusals
        refusals += 1
        raise StoreError("no", remedy="none")

    await rig.pass_time(5.0)
    rig.store.write = refused  # type: ignore[method-assign, assignment]  # the disk's doing
    await rig.pass_time(4.0)
    assert refusals > 1
    assert rig.view(accepted).state is SessionState.UNLOCKING
    assert await rig.refused("p1") == "busy"
    rig.store.write = real  # type: ignore[method-assign]
    await rig.pass_time(2.0)
    assert rig.view(accepted).state is SessionState.JAMMED
    await rig.accepted("p1")


async def test_a_defect_in_the_middle_frees_the_locker_for_the_next_customer(rig: LockerRig) -> None:
    await rig.load("p1")
    await rig.load("p2")
    rig.bench.on_pulse = lambda _: 1 / 0  # type: ignore[assignment]  # a defect
    await rig.accepted("p1")
    await rig.pass_time(0.2)
    (defect,) = rig.died
    assert isinstance(defect, ZeroDivisionError)
    rig.died.clear()
    rig.bench.on_pulse = lambda _: None
    await rig.accepted("p2")
    await rig.pass_time(1.0)
