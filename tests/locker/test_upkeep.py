"""Beside the doors: hold times stand still while nobody can collect, and refusals are told by the minute."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.locker.rig import LockerRig, running

HOLD = 3600.0


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[LockerRig]:
    async with running(tmp_path, hold_s=HOLD) as rig:
        sweep(rig)
        yield rig


def sweep(rig: LockerRig) -> None:
    rig._spawn("sweep", lambda: rig.upkeep.sweep(rig.ledger_store, rig.cabinet.in_service))


def expires(rig: LockerRig) -> float:
    ((wall,),) = rig.rows("SELECT expires FROM parcel WHERE parcel = 'p1'")
    return float(wall)


async def off(rig: LockerRig, seconds: float, *, trusted: bool = True) -> None:
    """The node is switched off for so long; its own running time stands still."""
    await rig.crash()
    rig.clock.step_wall(seconds)
    rig.clock.trust(trusted)
    await rig.start()
    sweep(rig)
    await rig.pass_time(1.0)
    await rig.ledger_store.keep(lambda _: None)  # the writer takes things in turn: the sweep before it is done


async def test_an_outage_moves_the_hold_time_on(rig: LockerRig) -> None:
    await rig.load("p1")
    await rig.pass_time(60.0)
    before = expires(rig)
    await off(rig, 2 * HOLD)
    assert expires(rig) - before == pytest.approx(2 * HOLD, abs=15)
    await rig.accepted("p1")
    await rig.pass_time(1.0)


async def test_a_restart_is_no_outage(rig: LockerRig) -> None:
    await rig.load("p1")
    await rig.pass_time(60.0)
    before = expires(rig)
    await off(rig, 20.0)
    assert expires(rig) == before


async def test_an_outage_is_reckoned_once_the_clock_is_trusted_and_without_the_time_served(rig: LockerRig) -> None:
    await rig.load("p1")
    await rig.pass_time(60.0)
    before = expires(rig)
    await off(rig, 600.0, trusted=False)
    await rig.pass_time(900.0)
    assert expires(rig) == before
    rig.clock.trust(True)
    await rig.pass_time(30.0)
    assert expires(rig) - before == pytest.approx(600.0, abs=30)


async def test_a_silent_board_stops_the_hold_time_of_its_own_doors(tmp_path: Path) -> None:
    async with running(tmp_path, boards=2, hold_s=HOLD) as rig:
        sweep(rig)
        await rig.load("p1")
        rig.bench.dead.add(1)
        await rig.pass_time(300.0)
        before = expires(rig)
        rig.bench.dead = {0}
        await rig.pass_time(300.0)
        assert expires(rig) - before == pytest.approx(300.0, abs=30)
        rig.bench.dead.clear()
        await rig.pass_time(30.0)
        after = expires(rig)
        await rig.pass_time(60.0)
        assert expires(rig) == after


async def test_refusals_of_a_minute_are_one_event_with_their_count_whatever_crashes(rig: LockerRig) -> None:
    rig.clock.step_wall(60 - rig.clock.wall() % 60)
    for _ in range(5):
        await rig.service.collect("12", None, False)
    await rig.crash()
    await rig.start()
    sweep(rig)
    for _ in range(7):
        await rig.service.collect("12", None, False)
    await rig.deposit("p1", pin="27182818")
    assert len(rig.rows("SELECT * FROM tally")) == 2
    await rig.pass_time(75.0)
    (codes,), (badges,) = rig.events("locker.code.refused"), rig.events("locker.badge.refused")
    assert (codes["reason"], codes["count"]) == ("typo", 12)
    assert (badges["cause"], badges["count"]) == ("wrong_pin", 1)
    assert not rig.rows("SELECT * FROM tally")


async def test_a_wall_clock_that_jumps_back_loses_no_count(rig: LockerRig) -> None:
    counted = 0
    for step in (0, 3600, -7200, 30, -60):
        rig.clock.step_wall(step)
        for _ in range(3):
            await rig.service.collect("12", None, False)
            counted += 1
        await rig.pass_time(11.0)
    await rig.pass_time(80.0)
    assert sum(each["count"] for each in rig.events("locker.code.refused")) == counted


async def test_whoever_waits_for_a_copy_hears_when_the_disk_refuses_it(rig: LockerRig) -> None:
    from edge.errors import StoreError
    from locker.ledger_file import copy_paths

    await rig.pass_time(1.0)
    for path in copy_paths(rig.database):
        path.unlink(missing_ok=True)
        path.mkdir()
    waiting = asyncio.create_task(rig.upkeep.copied())
    while not waiting.done():  # a try may have failed just before it was asked for; the next comes a second later
        await rig.pass_time(0.25)
    with pytest.raises(StoreError, match=r"copied|no copy"):
        await waiting
    for path in copy_paths(rig.database):
        path.rmdir()
    await rig.pass_time(3.0)
    await rig.load("p1")


async def test_the_copies_hear_of_a_change_also_when_its_caller_has_left(rig: LockerRig) -> None:
    """A link that is cut off takes its caller along and not the transaction, which is on its way to the disk."""
    door = rig.compartments[0].door
    writing = asyncio.ensure_future(rig.ledger_store.write(lambda ledger: ledger.count_use(door)))
    await asyncio.sleep(0)
    rig.upkeep._changed.clear()
    writing.cancel()
    await asyncio.wait([writing])
    await rig.ledger_store.keep(lambda _: None)
    assert writing.cancelled()
    assert rig.upkeep._changed.is_set()
