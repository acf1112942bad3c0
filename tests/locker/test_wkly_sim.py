"""WKLY boards in a process of their own: raw bytes against the field notes, then the driver at the other end.

What opened is told by the simulator's own log, never by the driver.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.errors import ConfigError
from locker.board import BusTiming, Latches
from locker.boards.wkly import Codec, Wiring
from locker.latch import Hook, Latch, Reading
from locker.wkly_sim import SimConfig, electronics
from tests.locker.boards_rig import IMPATIENT, NearRig, near, simulated_boards

SHUT, OPEN, UNKNOWN = Reading(Hook.CLOSED), Reading(Hook.OPEN), Reading(Hook.UNKNOWN)
FORGIVING = BusTiming(answer=0.3, late=0.02, settle=0.02)

ALL = "57 4B 4C 59 08 00 84 85"
OPEN_FIRST = "57 4B 4C 59 09 00 82 01 83"
OPENED_FIRST = "57 4B 4C 59 0B 00 82 00 01 00 81"
MOVED_FIRST = "57 4B 4C 59 0A 00 85 01 01 86"
ALL_ZERO = f"57 4B 4C 59 22 00 84 00 18 {'00 ' * 24}B7"


@pytest.fixture
def config(tmp_path: Path) -> SimConfig:
    return SimConfig(tmp_path / "link", tmp_path / "control", tmp_path / "log", boards=2, shut_bit=0, coil_ms=20)


@pytest.fixture
async def rig(config: SimConfig) -> AsyncIterator[NearRig]:
    async with near(config, electronics(config)) as rig:
        yield rig


def codec(*numbers: int, closed_state: int = 0, locks: int = 24) -> Codec:
    """Boards whose number is their address."""
    return Codec({number: Wiring(number, closed_state, locks) for number in numbers or (0,)})  # type: ignore[arg-type]


def but(lock: int, reading: Reading = OPEN) -> tuple[Reading, ...]:
    return tuple(reading if number == lock else SHUT for number in range(24))


async def test_commands_and_answers_are_the_bytes_of_the_notes(rig: NearRig) -> None:
    assert await rig.asked(ALL, size=34) == [bytes.fromhex(ALL_ZERO)]
    assert await rig.asked("57 4B 4C 59 09 00 83 01 82", size=11) == [bytes.fromhex("574B4C590B00830001 00 80")]
    assert await rig.asked("57 4B 4C 59 09 00 82 19 9B", size=11) == [bytes.fromhex("574B4C590B0082FF19 01 67")]
    assert await rig.asked(OPEN_FIRST, size=21) == [bytes.fromhex(OPENED_FIRST + MOVED_FIRST)]
    assert rig.witnessed("opened") == [(0, 0)]


async def test_what_our_driver_cannot_say_the_boards_still_obey(rig: NearRig) -> None:
    """Nothing is prettified: several at once, a hold until its end, all in turn."""
    await rig.asked("57 4B 4C 59 0C 00 80 03 01 02 03 86")
    await rig.happens("opened", 0, 2)
    assert rig.witnessed("double_coil") == [(0, 1), (0, 2)]
    await rig.asked("57 4B 4C 59 09 01 88 05 8C")
    await rig.happens("opened", 1, 4)
    await rig.call("close_door", board=1, lock=4)
    assert rig.witnessed("bounced") == [(1, 4)]
    await rig.asked("57 4B 4C 59 09 01 89 05 8D")
    await rig.happens("frame", 1, 4, count=2)
    await rig.call("close_door", board=1, lock=4)
    assert rig.witnessed("closed") == [(1, 4)]
    await rig.asked("57 4B 4C 59 08 01 86 86")
    await rig.happens("opened", 1, 1)
    assert rig.witnessed("opened")[-2:] == [(1, 0), (1, 1)], "one after the other"


async def test_damaged_and_foreign_frames_open_nothing(rig: NearRig) -> None:
    for frame in ("57 4B 4C 59 09 00 82 01 82", "57 4B 4C 58 09 00 82 01 83", "57 4B 4C 59 09 02 82 01 81"):
        assert await rig.asked(frame + ALL, size=34) == [bytes.fromhex(ALL_ZERO)]
    assert rig.witnessed("pulse") == []


async def test_a_pulse_opens_the_named_door_and_no_other(rig: NearRig) -> None:
    async with rig.bus(codec(0, 1)) as boards:
        assert await boards.readings(0) == await boards.readings(1) == (SHUT,) * 24
        await boards.pulse(Latch(1, 23))
        await rig.happens("opened", 1, 23)
        assert await boards.readings(1) == but(23)
        assert await boards.readings(0) == (SHUT,) * 24
        await rig.call("close_door", board=1, lock=23)
        assert await boards.readings(1) == (SHUT,) * 24
        assert boards.counters.pushes == 2
    assert rig.witnessed("opened") == rig.witnessed("pulse") == [(1, 23)]


@pytest.mark.parametrize("locks", [7, 12])
async def test_smaller_boards_and_the_other_polarity(config: SimConfig, locks: int) -> None:
    small = dataclasses.replace(config, locks=locks, shut_bit=1)
    async with near(small, electronics(small)) as rig:
        async with rig.bus(codec(closed_state=1, locks=locks)) as boards:
            assert await boards.readings(0) == (SHUT,) * locks
        async with rig.bus(codec(closed_state=0, locks=locks)) as boards:
            assert await boards.readings(0) == (OPEN,) * locks
        async with rig.bus(codec(closed_state=1, locks=locks + 1), IMPATIENT) as boards:
            assert await boards.readings(0) == (UNKNOWN,) * (locks + 1), "more wired than there are"


async def test_pushes_in_the_middle_of_every_transaction_are_not_taken_for_answers(rig: NearRig) -> None:
    """Even such as say the opposite of what is so: only the answer to a query counts."""
    await rig.call("fault", kind="push", board=0, lock=3, state=1)
    async with rig.bus(codec()) as boards:
        for _ in range(20):
            assert await boards.readings(0) == (SHUT,) * 24
        assert (boards.counters.answers, boards.counters.timeouts, boards.counters.pushes) == (20, 0, 20)
        assert await boards.answers(0) == 1, "a push is no second board"


async def test_a_push_does_not_stand_in_for_an_answer_that_is_lost(rig: NearRig) -> None:
    await rig.call("fault", kind="push", board=0, lock=3, state=0)
    await rig.call("fault", kind="lost_reply")
    async with rig.bus(codec(), IMPATIENT) as boards:
        assert await boards.readings(0) == (UNKNOWN,) * 24


async def test_two_boards_with_one_address_are_counted_before_they_open_two_doors(rig: NearRig) -> None:
    await rig.call("fault", kind="duplicate_address", board=1, address=0)
    async with rig.bus(codec(), FORGIVING) as boards:
        assert await boards.answers(0) == 2


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "noise", "amount": 30},
        {"kind": "echo"},
        {"kind": "half_frame", "times": 1},
    ],
    ids=lambda fault: fault["kind"],
)
async def test_a_bad_line_costs_time_and_nothing_else(rig: NearRig, fault: dict[str, object]) -> None:
    await rig.call("fault", **fault)
    async with rig.bus(codec(), FORGIVING) as boards:
        assert await boards.readings(0) == (SHUT,) * 24
        await boards.pulse(Latch(0, 8))
        await rig.happens("opened", 0, 8)
        assert await boards.readings(0) == but(8)
    assert rig.witnessed("frame") == rig.witnessed("opened") == [(0, 8)]


async def test_a_late_answer_is_not_taken_for_the_next(rig: NearRig) -> None:
    async with rig.bus(codec(), BusTiming(answer=0.1, late=0.3, settle=0.02)) as boards:
        await rig.call("fault", kind="late_reply", amount=200, times=1)
        reading = asyncio.create_task(boards.readings(0))
        await rig.happens("query", 0)
        await rig.call("force_door", board=0, lock=2)
        assert await reading == but(2)


async def test_without_power_unplugged_or_at_another_speed_every_hook_is_unknown(rig: NearRig) -> None:
    async with rig.bus(codec(), IMPATIENT, baud=19200) as boards:
        assert await boards.readings(0) == (UNKNOWN,) * 24
        await boards.pulse(Latch(0, 0))
    async with rig.bus(codec(0, 1), IMPATIENT) as boards:
        await rig.call("fault", kind="dead", board=0)
        await boards.pulse(Latch(0, 0))
        assert await boards.readings(0) == (UNKNOWN,) * 24
        assert await boards.readings(1) == (SHUT,) * 24
        await rig.call("unplug")
        assert await boards.readings(1) == (UNKNOWN,) * 24
    assert rig.witnessed("pulse") == []


def test_a_state_that_is_neither_is_unknown_and_never_shut() -> None:
    states = bytes([0, 1, 2, 255, *bytes(20)])
    frame = b"WKLY" + bytes([34, 0, 0x84, 0, 24]) + states
    total = 0
    for byte in frame:
        total ^= byte
    (told,) = codec().feed(frame + bytes([total]))
    assert isinstance(told, Latches)
    assert told.readings[:5] == (SHUT, OPEN, UNKNOWN, UNKNOWN, SHUT)


def test_impossible_boards_are_refused() -> None:
    with pytest.raises(ConfigError, match="one address"):
        Codec({0: Wiring(3, 0), 1: Wiring(3, 0)})
    for latch in (Latch(0, 24), Latch(0, -1), Latch(1, 0)):
        with pytest.raises(ConfigError, match="no lock is wired"):
            codec().unlock(latch)


@pytest.mark.parametrize("wrong", [{"boards": 33}, {"locks": 25}, {"baud": 19200}, {"first": -1}])
def test_boards_that_cannot_be_are_not_simulated(config: SimConfig, wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        electronics(dataclasses.replace(config, **wrong))  # type: ignore[arg-type] # whole numbers


def test_they_run_as_a_process_of_their_own() -> None:
    with simulated_boards("locker.wkly_sim", boards=32, locks=7) as rig:
        assert len(rig.control.call("doors")["doors"]) == 32 * 7  # type: ignore[arg-type] # JSON
