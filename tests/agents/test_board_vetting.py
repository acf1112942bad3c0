"""A board is opened nothing on until it was heard to answer alone, whenever it first answers. The simulator is real."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from agents.board_vetting import Vetting
from edge.system_clock import SystemClock
from locker.board import BusTiming
from locker.board_serial import SerialBoards
from locker.boards.kerong import Codec, Wiring
from locker.cabinet_asyncio import Cabinet
from locker.compartment import Compartment, Size
from locker.door import Done, Happening, Outcome
from locker.kerong_sim import SimConfig, electronics
from locker.latch import Hook, Latch
from tests.locker.boards_rig import NearRig, near

TIMING = BusTiming(answer=0.1, late=0.02, settle=0.02)


class Started:
    """What an agent has before its first door: boards on a bus, a cabinet that reads them, and the vetting."""

    def __init__(self, rig: NearRig, bus: SerialBoards) -> None:
        self.rig = rig
        self.bus = bus
        self.cabinet = Cabinet([Compartment("01", Latch(0, 0), Size.S, 500)], bus, SystemClock(), told=self._told)
        self.vetting = Vetting([bus], self.cabinet, SystemClock())

    async def _told(self, door: str, happening: Happening) -> None: ...

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not true():
                await self.vetting.look()
                await self.vetting.time_coils()
                await asyncio.sleep(0.01)

    async def opens(self) -> Outcome:
        async def commit(_: int) -> None: ...

        done: Done = await self.cabinet.attempt("01", commit)
        return done.outcome


@contextlib.asynccontextmanager
async def starting(folder: Path, coil_ms: int = 20) -> AsyncIterator[Started]:
    """Two boards are on the bus, of which the first is configured."""
    config = SimConfig(folder / "link", folder / "control", folder / "log", boards=2, coil_ms=coil_ms)
    async with near(config, electronics(config)) as rig, rig.bus(Codec({0: Wiring(0)}), TIMING, 19200) as bus:
        started = Started(rig, bus)
        reading = asyncio.create_task(started.cabinet.poll(lambda: None))
        try:
            yield started
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


@pytest.mark.parametrize("shared", [False, True])
async def test_boards_that_come_after_the_start_are_looked_at_as_well(tmp_path: Path, *, shared: bool) -> None:
    """The adapter was unplugged while the agent started. Two boards at one address would open two doors."""
    async with starting(tmp_path) as started:
        await started.rig.call("unplug")
        await started.vetting.begin()
        if shared:
            await started.rig.call("fault", kind="duplicate_address", board=1, address=0)
        await started.rig.call("plug")
        await started.until(lambda: started.vetting.done and started.cabinet.standing("01") is Hook.CLOSED)
        assert started.cabinet.serviceable("01") is not shared
        assert await started.opens() is (Outcome.UNSENT if shared else Outcome.OPENED)
        assert len(started.rig.witnessed("opened")) == (0 if shared else 1)


async def test_a_coil_time_that_is_longer_than_is_said_here_is_put_right(tmp_path: Path) -> None:
    """Somebody has set the board to five seconds: its coil would be on while the next one is, and burn."""
    async with starting(tmp_path, coil_ms=5000) as started:
        await started.vetting.begin()
        await started.until(lambda: started.vetting.done)
        assert await started.bus.coil_time(0) == started.bus.coil == 0.5
        await started.until(lambda: started.cabinet.standing("01") is Hook.CLOSED)
        assert await started.opens() is Outcome.OPENED
