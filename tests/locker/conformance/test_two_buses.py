"""Boards of two kinds on two buses before one cabinet: one coil at a time over both."""

from __future__ import annotations

import random

from locker import kerong_sim, x8a_sim
from locker.boards import kerong, x8a
from locker.joined_asyncio import JoinedBoards, Part
from locker.latch import Hook
from tests.locker.conformance.rig import JumpClock, SerialRig
from tests.locker.conformance.rigs import NOWHERE


def two_buses() -> tuple[SerialRig, SerialRig, JoinedBoards]:
    """Both with the address 1, under other numbers; the coils of the first are driven for longer."""
    clock = JumpClock()
    slow = kerong_sim.SimConfig(NOWHERE, NOWHERE, NOWHERE, boards=1, first=1, locks=8, coil_ms=500)
    quick = x8a_sim.SimConfig(NOWHERE, NOWHERE, NOWHERE, boards=1, locks=8, coil_ms=300)
    one = SerialRig(kerong.DRIVER, [{"address": 1, "locks": 8}], slow, kerong_sim.electronics(slow), clock=clock)
    options = [{"address": 1, "locks": 8, "closed_bit": 1}]
    two = SerialRig(x8a.DRIVER, options, quick, x8a_sim.electronics(quick), clock=clock, number=20)
    joined = JoinedBoards([Part(rig.bus, rig.bus.boards, rig.bus.coil) for rig in (one, two)], clock)
    return one, two, joined


async def test_one_coil_is_driven_at_a_time_over_two_buses() -> None:
    one, two, joined = two_buses()
    chance, before = random.Random(1), 0.0
    for _ in range(400):
        rig = chance.choice((one, two))
        latch = chance.choice(rig.latches)
        await joined.pulse(latch)
        (pulse,) = [each for each in one.seen() + two.seen() if each.what == "pulse"]
        assert pulse.latch == latch
        assert pulse.t >= before, "the coil before is still driven, on whichever bus"
        before = pulse.t + (0.5 if rig is one else 0.3)


async def test_each_bus_reads_its_own_doors() -> None:
    one, two, joined = two_buses()
    one.force(one.latches[2])
    two.force(two.latches[5])
    for rig, door in ((one, 2), (two, 5)):
        readings = await joined.readings(rig.latches[0].board)
        assert [lock for lock, each in enumerate(readings) if each.hook is Hook.OPEN] == [door]
