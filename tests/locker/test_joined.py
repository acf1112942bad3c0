"""Boards of several owners as one cabinet: each call goes to the right one, and one coil is driven at a time in all."""

from __future__ import annotations

import asyncio

import pytest

from edge.clock import Clock
from edge.clock_sim import ManualClock
from edge.errors import ConfigError, DeviceMissing, DeviceSilent, LastmileError
from locker.joined_asyncio import COIL_MARGIN, JoinedBoards, Part
from locker.latch import Hook, Latch, Reading

COIL = 0.3


class Owner:
    """Boards that tell when they are pulsed; a frame takes ``slow`` seconds to go out."""

    def __init__(self, clock: Clock, pulses: list[tuple[float, Latch]]) -> None:
        self._clock = clock
        self._pulses = pulses
        self.slow = 0.0
        self.broken: LastmileError | None = None

    async def readings(self, board: int) -> tuple[Reading, ...]:
        return (Reading(Hook.CLOSED),) * board

    async def pulse(self, latch: Latch) -> None:
        if self.broken:
            raise self.broken
        self._pulses.append((round(self._clock.mono(), 3), latch))
        if self.slow:
            await self._clock.sleep(self.slow)


class Joint:
    """Board 1 on one bus, boards 2 and 3 on another."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.pulses: list[tuple[float, Latch]] = []
        self.one, self.two = (Owner(self.clock, self.pulses) for _ in range(2))
        self.boards = JoinedBoards([Part(self.one, [1], 0.1), Part(self.two, [2, 3], COIL)], self.clock)

    async def settled(self) -> None:
        """When no coil of a process before can be driven any more."""
        await self.clock.advance(1.0)


async def test_each_board_is_asked_at_its_owner() -> None:
    joint = Joint()
    assert [len(await joint.boards.readings(board)) for board in (1, 2, 3)] == [1, 2, 3]
    with pytest.raises(ConfigError, match="board 4 is not wired"):
        await joint.boards.readings(4)
    with pytest.raises(ConfigError, match="board 4 is not wired"):
        await joint.boards.pulse(Latch(4, 0))


async def test_one_coil_is_driven_at_a_time_over_all_owners() -> None:
    """Four pulses at once: each waits for the coil before it, however long that one's board drives it."""
    joint = Joint()
    await joint.settled()
    latches = [Latch(2, 0), Latch(1, 0), Latch(3, 1), Latch(1, 0)]
    pulses = [asyncio.create_task(joint.boards.pulse(latch)) for latch in latches]
    await joint.clock.advance(3.0)
    await asyncio.gather(*pulses)
    assert [latch for _, latch in joint.pulses] == latches
    gaps = [later - earlier for (earlier, _), (later, _) in zip(joint.pulses, joint.pulses[1:], strict=False)]
    assert gaps == pytest.approx([COIL + COIL_MARGIN, 0.1 + COIL_MARGIN, COIL + COIL_MARGIN], abs=0.002)


async def test_the_first_pulse_waits_for_a_coil_of_the_process_before() -> None:
    joint = Joint()
    pulse = asyncio.create_task(joint.boards.pulse(Latch(1, 0)))
    await joint.clock.advance(1.0)
    await pulse
    assert joint.pulses == [(COIL + COIL_MARGIN, Latch(1, 0))]


async def test_a_pulse_on_an_idle_cabinet_is_sent_before_anything_else_runs() -> None:
    joint = Joint()
    await joint.settled()
    with pytest.raises(StopIteration):
        joint.boards.pulse(Latch(1, 0)).send(None)
    assert joint.pulses == [(1.0, Latch(1, 0))]


@pytest.mark.parametrize(("error", "waits"), [(DeviceMissing, False), (DeviceSilent, True)])
async def test_only_a_frame_of_which_something_went_out_makes_the_next_wait(
    error: type[LastmileError], waits: bool
) -> None:
    joint = Joint()
    await joint.settled()
    joint.two.broken = error("gone", remedy="plug it in")
    with pytest.raises(error):
        await joint.boards.pulse(Latch(2, 0))
    pulse = asyncio.create_task(joint.boards.pulse(Latch(1, 0)))
    await joint.clock.advance(0.0)
    assert pulse.done() is not waits
    await joint.clock.advance(1.0)
    await pulse


async def test_a_caller_that_is_cut_off_may_have_driven_its_coil() -> None:
    joint = Joint()
    await joint.settled()
    joint.two.slow = 0.2
    first = asyncio.create_task(joint.boards.pulse(Latch(2, 0)))
    await joint.clock.advance(0.1)
    first.cancel()
    second = asyncio.create_task(joint.boards.pulse(Latch(1, 0)))
    await joint.clock.advance(1.0)
    await second
    assert joint.pulses[1][0] == pytest.approx(1.1 + COIL + COIL_MARGIN, abs=0.002)
    assert first.cancelled()


def test_a_board_with_two_owners_is_refused() -> None:
    clock = ManualClock()
    owner = Owner(clock, [])
    with pytest.raises(ConfigError, match="board 1 stands twice"):
        JoinedBoards([Part(owner, [1], 0.1), Part(owner, [1], 0.1)], clock)
