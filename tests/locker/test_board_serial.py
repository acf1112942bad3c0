"""The bus owner against simulated boards in a process of their own: each fault of the line, the boards, the doors.

What opened is told by the simulator's own log, never by the driver.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from edge.errors import DeviceBusy, DeviceMissing, DeviceSilent
from edge.system_clock import SystemClock
from locker.board import BusTiming
from locker.boards.kerong import Wiring
from locker.joined_asyncio import JoinedBoards, Part
from locker.latch import Hook, Latch, Reading
from tests.locker.boards_rig import IMPATIENT, SHUT, UNKNOWN, Rig, simulated_boards


@pytest.fixture
def rig() -> Iterator[Rig]:
    with simulated_boards(boards=2) as rig:
        yield rig


def but(lock: int, hook: Hook) -> tuple[Reading, ...]:
    """All doors shut but one."""
    return tuple(Reading(hook) if number == lock else one for number, one in enumerate(SHUT))


async def happens(rig: Rig, what: str, board: int, lock: int, count: int = 1) -> None:
    await asyncio.to_thread(rig.control.wait, what, board, lock, count=count)


async def test_a_pulse_opens_the_named_door_and_no_other(rig: Rig) -> None:
    async with rig.boards(Wiring(0), Wiring(1)) as boards:
        assert await boards.readings(0) == await boards.readings(1) == SHUT
        await boards.pulse(Latch(1, 11))
        await happens(rig, "opened", 1, 11)
        assert await boards.readings(0) == SHUT
        assert await boards.readings(1) == but(11, Hook.OPEN)
        rig.control.call("close_door", board=1, lock=11)
        await happens(rig, "closed", 1, 11)
        assert await boards.readings(1) == SHUT
    assert rig.witnessed("opened") == rig.witnessed("pulse") == [(1, 11)]


async def test_item_sensors_are_told_where_they_are_fitted(rig: Rig) -> None:
    rig.control.call("force_door", board=0, lock=9)
    rig.control.call("put_item", board=0, lock=9)
    async with rig.boards(Wiring(0, item_sensors=True, locks=12)) as boards:
        readings = await boards.readings(0)
    assert len(readings) == 12
    assert [lock for lock, one in enumerate(readings) if one.item] == [9]
    assert readings[9] == Reading(Hook.OPEN, item=True)
    assert readings[8] == Reading(Hook.CLOSED, item=False)


async def test_polarity_is_the_calibrations_affair() -> None:
    with simulated_boards(shut_bit=0) as rig:
        async with rig.boards(Wiring(0, closed_bit=0)) as boards:
            assert await boards.readings(0) == SHUT
        async with rig.boards(Wiring(0)) as boards:
            assert await boards.readings(0) == (Reading(Hook.OPEN),) * 16


@pytest.mark.parametrize("kind", ["lost_reply", "half_frame", "bad_sum"])
async def test_two_bad_answers_cost_two_more_queries(rig: Rig, kind: str) -> None:
    rig.control.call("fault", kind=kind, times=2)
    async with rig.boards(timing=BusTiming(answer=0.3, late=0.02)) as boards:
        assert await boards.readings(0) == SHUT
        assert (boards.counters.timeouts, boards.counters.answers) == (2, 1)
        assert boards.counters.bad_checksums == (2 if kind == "bad_sum" else 0)


@pytest.mark.parametrize("kind", ["lost_reply", "half_frame", "bad_sum"])
async def test_without_an_answer_every_hook_is_unknown_never_shut(rig: Rig, kind: str) -> None:
    rig.control.call("fault", kind=kind)
    async with rig.boards(timing=IMPATIENT) as boards:
        assert await boards.readings(0) == UNKNOWN
        assert boards.counters.timeouts == 3
        await boards.pulse(Latch(0, 2))
        await happens(rig, "opened", 0, 2)
    rig.control.call("heal")
    async with rig.boards() as boards:
        assert await boards.readings(0) == but(2, Hook.OPEN)
    assert rig.witnessed("frame") == [(0, 2)]


async def test_a_dead_board_leaves_the_others_served(rig: Rig) -> None:
    rig.control.call("fault", kind="dead", board=0)
    async with rig.boards(Wiring(0), Wiring(1), timing=BusTiming(answer=0.3, late=0.02)) as boards:
        assert await boards.readings(0) == UNKNOWN
        assert await boards.readings(1) == SHUT


async def test_an_unlock_frame_is_sent_once_whatever_comes_of_it(rig: Rig) -> None:
    """A stuck lock, a deaf coil and a weak lock get one pulse per call; more is the caller's decision."""
    rig.control.call("fault", kind="stuck", board=0, lock=0)
    rig.control.call("fault", kind="deaf", board=0, lock=1)
    rig.control.call("fault", kind="weak", board=0, lock=2, pulses=2)
    async with rig.boards() as boards:
        for lock in range(3):
            await boards.pulse(Latch(0, lock))
            assert await boards.readings(0) == SHUT
        await boards.pulse(Latch(0, 2))
        await happens(rig, "opened", 0, 2)
    assert rig.witnessed("frame") == [(0, 0), (0, 1), (0, 2), (0, 2)]
    assert rig.witnessed("pulse") == [(0, 0), (0, 2), (0, 2)]
    assert rig.witnessed("opened") == [(0, 2)]


async def test_noise_before_every_answer_is_skipped(rig: Rig) -> None:
    rig.control.call("fault", kind="noise", amount=40)
    async with rig.boards() as boards:
        for _ in range(20):
            assert await boards.readings(0) == SHUT
        assert boards.counters.answers == 20


async def test_noise_between_transactions_is_drained(rig: Rig) -> None:
    async with rig.boards() as boards:
        for _ in range(5):
            rig.control.call("noise", size=500)
            assert await boards.readings(0) == SHUT


async def test_a_million_bytes_of_noise_open_no_wrong_door_and_stop_no_right_one(rig: Rig) -> None:
    """Noise before every query and every pulse; doors are opened one after the other meanwhile."""
    noise, rounds = 4000, 250
    async with rig.boards() as boards:
        for number in range(rounds):
            rig.control.call("noise", size=noise)
            door = number // 16 % 16
            if number % 16 == 0:
                await boards.pulse(Latch(0, door))
                await happens(rig, "opened", 0, door)
            told = await boards.readings(0)
            assert told == UNKNOWN or [one.hook is Hook.OPEN for one in told] == [lock <= door for lock in range(16)]
        assert noise * rounds >= 10**6
        assert boards.counters.answers > rounds * 0.9
    assert rig.witnessed("opened") == rig.witnessed("pulse") == [(0, lock) for lock in range(16)]


async def test_an_adapter_that_echoes_is_noticed_and_believed_nothing(rig: Rig) -> None:
    rig.control.call("fault", kind="echo")
    async with rig.boards(Wiring(0), Wiring(1), timing=BusTiming(answer=0.5, tries=1)) as boards:
        assert await boards.readings(0) == SHUT
        assert boards.counters.words == 1
        await boards.pulse(Latch(0, 0))
        await happens(rig, "opened", 0, 0)
        assert await boards.readings(0) == but(0, Hook.OPEN)
        rig.control.call("fault", kind="dead", board=1)
        assert await boards.readings(1) == UNKNOWN
    assert rig.witnessed("opened") == [(0, 0)]


@pytest.mark.parametrize("answer", ["status", "echo"])
async def test_an_answer_to_an_unlock_says_nothing(answer: str) -> None:
    """Some boards answer 31 and report the door as it was at that moment: shut. Only a later query counts."""
    with simulated_boards(unlock_answer=answer) as rig:
        async with rig.boards() as boards:
            await boards.pulse(Latch(0, 4))
            await happens(rig, "opened", 0, 4)
            assert await boards.readings(0) == but(4, Hook.OPEN)
            assert boards.counters.strays == (1 if answer == "status" else 0)


async def test_a_late_answer_is_never_taken_for_the_next_one(rig: Rig) -> None:
    """The door opens between a query whose answer is late and the next query: the old answer would say shut."""
    async with rig.boards(timing=BusTiming(answer=0.4, late=0.6, tries=1)) as boards:
        rig.control.call("fault", kind="late_reply", amount=500, times=1)
        assert await boards.readings(0) == UNKNOWN
        rig.control.call("force_door", board=0, lock=6)
        assert await boards.readings(0) == but(6, Hook.OPEN)
        assert boards.counters.strays == 1


async def test_a_slow_door_is_shut_until_it_is_open(rig: Rig) -> None:
    rig.control.call("fault", kind="slow_door", board=0, lock=1, ms=300)
    async with rig.boards() as boards:
        await boards.pulse(Latch(0, 1))
        await happens(rig, "released", 0, 1)
        assert await boards.readings(0) == SHUT
        await happens(rig, "opened", 0, 1)
        assert await boards.readings(0) == but(1, Hook.OPEN)


@pytest.mark.parametrize(("reads", "hook"), [("open", Hook.OPEN), ("closed", Hook.CLOSED)])
async def test_a_cut_sensor_cable_never_stops_a_pulse(rig: Rig, reads: str, hook: Hook) -> None:
    rig.control.call("fault", kind="cut", board=0, lock=5, reads=reads)
    async with rig.boards() as boards:
        assert await boards.readings(0) == but(5, hook)
        await boards.pulse(Latch(0, 5))
        await happens(rig, "opened", 0, 5)
        assert await boards.readings(0) == but(5, hook)


async def test_two_boards_with_one_address_are_counted_before_they_open_two_doors(rig: Rig) -> None:
    async with rig.boards(Wiring(0), Wiring(1), Wiring(2), timing=BusTiming(answer=0.3, late=0.02)) as boards:
        assert [await boards.answers(number) for number in (0, 1, 2)] == [1, 1, 0]
        rig.control.call("fault", kind="duplicate_address", board=1, address=0)
        assert [await boards.answers(number) for number in (0, 1, 2)] == [2, 0, 0]
        rig.control.call("force_door", board=1, lock=0)
        assert await boards.readings(0) in {UNKNOWN, SHUT, but(0, Hook.OPEN)}
        assert boards.counters.contradictions + boards.counters.strays > 0


async def test_the_unlock_time_is_read_set_and_checked(rig: Rig) -> None:
    async with rig.boards() as boards:
        assert await boards.coil_time(0) == pytest.approx(0.02)
        await boards.set_coil_time(0, 0.3)
        assert await boards.coil_time(0) == pytest.approx(0.3)
    rig.control.call("fault", kind="dead", board=0)
    async with rig.boards(timing=IMPATIENT) as boards:
        assert await boards.coil_time(0) is None
        with pytest.raises(DeviceSilent, match=r"told an unlock time of 0\.2 s"):
            await boards.set_coil_time(0, 0.2)


async def test_an_unplugged_bus_is_unknown_and_refuses_pulses_until_it_is_back(rig: Rig) -> None:
    async with rig.boards() as boards:
        assert await boards.readings(0) == SHUT
        rig.control.call("unplug")
        assert await boards.readings(0) == UNKNOWN
        with pytest.raises(DeviceMissing):
            await boards.pulse(Latch(0, 0))
        rig.control.call("plug")
        deadline = time.monotonic() + 10
        while await boards.readings(0) != SHUT:
            assert time.monotonic() < deadline, "the port never came back"
            await asyncio.sleep(0.01)
        await boards.pulse(Latch(0, 0))
        await happens(rig, "opened", 0, 0)
    assert rig.witnessed("frame") == [(0, 0)]


async def test_unplugged_while_an_answer_is_awaited(rig: Rig) -> None:
    rig.control.call("fault", kind="dead", board=0)
    async with rig.boards(timing=BusTiming(answer=5.0)) as boards:
        reading = asyncio.create_task(boards.readings(0))
        await asyncio.to_thread(rig.control.wait, "query", 0)
        rig.control.call("unplug")
        assert await asyncio.wait_for(reading, 2) == UNKNOWN
        assert boards.counters.device_errors == 1


async def test_a_second_driver_on_the_bus_hears_that_it_is_in_use(rig: Rig) -> None:
    async with rig.boards() as first, rig.boards() as second:
        assert await first.readings(0) == SHUT
        assert await second.readings(0) == UNKNOWN
        with pytest.raises(DeviceBusy, match="two owners would garble the bus"):
            await second.pulse(Latch(0, 0))
        assert await first.readings(0) == SHUT
    assert rig.witnessed("frame") == []


async def test_a_wrong_baud_rate_reads_as_unknown_and_opens_nothing(rig: Rig) -> None:
    async with rig.boards(timing=IMPATIENT, baud=9600) as boards:
        assert await boards.readings(0) == UNKNOWN
        for lock in range(16):
            await boards.pulse(Latch(0, lock))
        assert await boards.readings(0) == UNKNOWN
    assert rig.witnessed("pulse") == []
    async with rig.boards() as boards:
        assert await boards.readings(0) == SHUT


async def test_pulses_are_apart_so_that_one_coil_is_driven_at_a_time(rig: Rig) -> None:
    async with rig.boards(Wiring(0, coil_ms=20)) as boards:
        joined = JoinedBoards([Part(boards, boards.boards, boards.coil)], SystemClock())
        await asyncio.gather(*(joined.pulse(Latch(0, number)) for number in range(4)))
        await happens(rig, "opened", 0, 3)
    assert len(rig.witnessed("pulse")) == 4
    assert rig.witnessed("double_coil") == []
