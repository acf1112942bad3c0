"""The same stories on the real driver: bytes through a pseudo-terminal to simulated boards in a process of their own.

What opened is told by the simulator's log.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from edge.serial_asyncio import SerialPort
from edge.system_clock import SystemClock
from locker.board_serial import SerialBoards
from locker.boards.kerong import Codec, Wiring
from locker.door_times import DoorTimes
from locker.kiosk import Accepted, SessionState
from tests.locker.bench import spot
from tests.locker.boards_rig import QUICK, Rig, simulated_boards
from tests.locker.rig import LockerRig

SOON = DoorTimes(debounce=0.01, coil=0.03, no_change=0.25, pulse_gap=0.4)
"""Doors of a simulator move at once: a jam is told after a second instead of six."""


class WiredLocker(LockerRig):
    """``LockerRig`` on the machine's own clock and a serial port."""

    def __init__(self, folder: Path, sim: Rig) -> None:
        super().__init__(folder)
        clock = SystemClock()
        self.sim = sim
        self.clock = clock  # type: ignore[assignment]  # it is never moved by hand here
        self.port = SerialPort(str(sim.link), baud=19200, clock=clock)
        self.boards = SerialBoards(self.port, clock, Codec({0: Wiring(0)}), QUICK)
        self.times = SOON

    async def pass_time(self, seconds: float) -> None:
        """Return once every door is known to be shut or open: nothing else here waits for time alone."""
        while any(self.cabinet.standing(each.door).value == "unknown" for each in self.compartments):
            await self.cabinet._read.wait()

    async def reaches(self, accepted: Accepted, state: SessionState) -> None:
        async with asyncio.timeout(10):
            async for view in self.service.watch(accepted.session):
                if view.state is state:
                    return
        raise AssertionError(f"it ended without being {state.value}")

    async def shut_by_hand(self, door: str) -> None:
        await asyncio.to_thread(self.sim.control.call, "close_door", board=0, lock=spot(door).lock)

    async def loaded(self, parcel: str) -> Accepted:
        answer = await self.deposit(parcel)
        assert isinstance(answer, Accepted)
        await self.reaches(answer, SessionState.OPEN)
        await self.shut_by_hand(answer.door)
        await self.reaches(answer, SessionState.ENDED)
        return answer


@contextlib.asynccontextmanager
async def wired(folder: Path) -> AsyncIterator[WiredLocker]:
    with simulated_boards() as sim:
        locker = WiredLocker(folder, sim)
        await locker.start()
        try:
            yield locker
        finally:
            await locker.stop()
            locker.port.close()


async def test_a_parcel_goes_in_and_comes_out_again(tmp_path: Path) -> None:
    async with wired(tmp_path) as locker:
        stored = await locker.loaded("p1")
        taken = await locker.accepted("p1")
        assert taken.door == stored.door
        await locker.reaches(taken, SessionState.OPEN)
        await locker.shut_by_hand(taken.door)
        await locker.reaches(taken, SessionState.ENDED)
        assert await locker.refused("p1") == "used"
        where = (0, spot(stored.door).lock)
        assert locker.sim.witnessed("pulse") == locker.sim.witnessed("opened") == [where, where]


async def test_a_stuck_lock_gets_three_frames_and_the_code_stays_valid(tmp_path: Path) -> None:
    async with wired(tmp_path) as locker:
        stored = await locker.loaded("p1")
        lock = spot(stored.door).lock
        locker.sim.control.call("fault", kind="stuck", board=0, lock=lock)
        taken = await locker.accepted("p1")
        await locker.reaches(taken, SessionState.JAMMED)
        assert locker.sim.witnessed("frame") == [(0, lock)] * 4
        locker.sim.control.call("heal")
        again = await locker.accepted("p1")
        await locker.reaches(again, SessionState.OPEN)


async def test_a_line_cut_after_the_frame_is_unknown_and_wants_a_confirmation(tmp_path: Path) -> None:
    async with wired(tmp_path) as locker:
        await locker.loaded("p1")
        locker.sim.control.call("fault", kind="lost_reply", p=1.0)
        taken = await locker.accepted("p1")
        await locker.reaches(taken, SessionState.UNKNOWN)
        frames = len(locker.sim.witnessed("frame"))
        locker.sim.control.call("heal")
        await locker.shut_by_hand(taken.door)
        await locker.pass_time(0)
        assert len(locker.sim.witnessed("frame")) == frames == 2


async def test_a_crash_right_after_the_frame_finds_the_door_open_and_sends_no_other(tmp_path: Path) -> None:
    async with wired(tmp_path) as locker:
        stored = await locker.loaded("p1")
        lock = spot(stored.door).lock
        taken = await locker.accepted("p1")
        await asyncio.to_thread(locker.sim.control.wait, "opened", 0, lock, count=2)
        await locker.crash()
        locker.port.close()
        await locker.start()
        await locker.reaches(taken, SessionState.OPEN)
        while (reason := await locker.refused("p1")) == "busy":
            await locker.cabinet._read.wait()
        assert reason == "used"
        assert len(locker.sim.witnessed("frame")) == 2
