"""What a pulse is given for and when: on no board that two answer for, and followed from when its frame went out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from locker.cabinet_sim import Spot
from locker.door import Done, Outcome
from locker.door_times import DEFAULT_TIMES
from locker.kiosk import SessionState
from locker.latch import Hook, Latch, Reading
from tests.locker.bench import Bench
from tests.locker.rig import LockerRig, running

COIL_S = DEFAULT_TIMES.coil


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[LockerRig]:
    async with running(tmp_path) as rig:
        yield rig


async def test_a_command_opens_nothing_on_a_board_whose_address_two_boards_share(rig: LockerRig) -> None:
    """One frame would open two doors, and behind the other one lies somebody's parcel."""
    heard: list[Done] = []

    async def ended(done: Done) -> None:
        heard.append(done)

    rig.cabinet.distrust(0)
    await rig.service.open_by_command("03", "jti-1", lambda _: None, ended)
    await rig.pass_time(8.0)
    assert rig.bench.happened("pulse") == []
    assert [done.outcome for done in heard] == [Outcome.UNSENT]


async def test_a_board_that_is_found_to_share_its_address_gets_no_second_pulse(rig: LockerRig) -> None:
    await rig.load("p1")
    door = await rig.load("p2")
    rig.bench.ailment(door).stuck = -1
    await rig.accepted("p2")
    await rig.pass_time(1.0)
    pulses = len(rig.bench.happened("pulse"))
    rig.cabinet.distrust(0)
    await rig.pass_time(8.0)
    assert len(rig.bench.happened("pulse")) == pulses


class Waiting(Bench):
    """A stuck door whose hook its coil holds open, on a bus where frames wait: for an answer, or another coil."""

    wait = 0.0
    driven = (Latch(0, -1), 0.0)

    async def readings(self, board: int) -> tuple[Reading, ...]:
        found = list(await super().readings(board))
        latch, until = self.driven
        if board == latch.board and self.clock.mono() < until:
            found[latch.lock] = Reading(Hook.OPEN)
        return tuple(found)

    async def pulse(self, latch: Latch) -> None:
        await self.clock.sleep(self.wait)
        await super().pulse(latch)
        if self.physical.ailment(Spot(latch.board, latch.lock)).stuck:
            self.driven = latch, self.clock.mono() + COIL_S


@pytest.mark.parametrize("wait", [0.0, 0.15, 0.5, 1.0, 2.0])
async def test_a_hook_that_a_late_coil_holds_open_spends_no_code(tmp_path: Path, wait: float) -> None:
    """The door is stuck, its latch is drawn while the coil is driven, and the frame went out ``wait`` seconds late."""
    rig = LockerRig(tmp_path)
    bench = Waiting(rig.clock)
    bench.on_pulse = rig.bench.on_pulse
    rig.bench = rig.boards = bench
    await rig.start()
    door = await rig.load("p1")
    bench.ailment(door).stuck = -1
    bench.wait = wait
    before = len(rig.events("locker.door.opened"))
    accepted = await rig.accepted("p1")
    await rig.pass_time(12.0)
    assert rig.view(accepted).state in {SessionState.JAMMED, SessionState.UNKNOWN}
    assert len(rig.events("locker.door.opened")) == before
    bench.ailment(door).stuck = 0
    await rig.accepted("p1", confirm=True)
    await rig.pass_time(wait + 2.0)
    assert bench.stands(door)[0]
    await rig.stop()
