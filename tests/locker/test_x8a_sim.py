"""0x8A boards on a pseudo-terminal: raw bytes against the field notes, then the driver at the other end.

What opened is told by the simulator's own log, never by the driver. What the line and the boards can do to answers is
tried in tests/locker/conformance.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.errors import ConfigError
from locker.boards.x8a import Codec, Wiring
from locker.latch import Hook, Latch, Reading
from locker.x8a_sim import SimConfig, electronics
from tests.locker.boards_rig import IMPATIENT, NearRig, near, simulated_boards

SHUT, OPEN, UNKNOWN = Reading(Hook.CLOSED), Reading(Hook.OPEN), Reading(Hook.UNKNOWN)

STATUS, STATUS_OF_FIRST = "80 01 00 33 B2", "80 01 01 33 B3"
OPEN_FIRST, OPEN_ALL = "8A 01 01 11 9B", "8A 01 00 11 9A"


@pytest.fixture
def config(tmp_path: Path) -> SimConfig:
    """Bits of the whole status are 1 behind an open door, the byte of a single one 11 behind a shut one."""
    paths = (tmp_path / "link", tmp_path / "control", tmp_path / "log")
    return SimConfig(*paths, boards=2, shut_bit=0, shut_single=0x11, coil_ms=20)


@pytest.fixture
async def rig(config: SimConfig) -> AsyncIterator[NearRig]:
    async with near(config, electronics(config)) as rig:
        yield rig


async def test_commands_and_answers_are_the_bytes_of_the_notes(rig: NearRig) -> None:
    assert await rig.asked(STATUS, size=7) == [bytes.fromhex("80 01 00 00 00 33 B2")]
    assert await rig.asked(STATUS_OF_FIRST, size=5) == [bytes.fromhex("80 01 01 11 91")]
    assert await rig.asked(OPEN_FIRST, size=5) == [bytes.fromhex("8A 01 01 11 9B")], "told before the door has moved"
    await rig.happens("opened", 1, 0)
    await rig.call("force_door", board=1, lock=2)
    assert await rig.asked(STATUS, size=7) == [bytes.fromhex("80 01 00 00 05 33 B7")]
    assert await rig.asked(STATUS_OF_FIRST, size=5) == [bytes.fromhex("80 01 01 00 80")]


async def test_a_stuck_lock_and_an_echo_are_the_same_bytes(rig: NearRig) -> None:
    """Why nobody believes them: "failed" is the command itself."""
    await rig.call("fault", kind="stuck", board=1, lock=0)
    assert await rig.asked(OPEN_FIRST, size=5) == [bytes.fromhex(OPEN_FIRST)]
    await rig.call("heal")
    await rig.call("fault", kind="echo")
    assert await rig.asked(OPEN_FIRST, size=5) == [bytes.fromhex(OPEN_FIRST)]


async def test_what_our_driver_cannot_say_the_boards_still_obey(rig: NearRig) -> None:
    """Nothing is prettified: several, a hold until its end, all."""
    await rig.asked("90 01 05 00 00 94")
    await rig.happens("opened", 1, 2)
    assert rig.witnessed("opened") == [(1, 0), (1, 2)]
    await rig.asked("9A 02 05 10 8D")
    await rig.happens("opened", 2, 4)
    await rig.call("close_door", board=2, lock=4)
    assert rig.witnessed("bounced") == [(2, 4)]
    await rig.asked("9B 02 05 10 8C")
    await rig.happens("frame", 2, count=2)
    await rig.call("close_door", board=2, lock=4)
    assert rig.witnessed("closed") == [(2, 4)]
    await rig.asked(OPEN_ALL)
    await rig.happens("opened", 1, 1)
    assert rig.witnessed("double_coil") == []


async def test_a_board_of_32_ways_has_a_fourth_byte(config: SimConfig) -> None:
    large = dataclasses.replace(config, ways=32, locks=32)
    async with near(large, electronics(large)) as rig:
        await rig.call("force_door", board=1, lock=31)
        assert await rig.asked(STATUS, size=8) == [bytes.fromhex("80 01 80 00 00 00 33 32")]


async def test_damaged_and_foreign_frames_open_nothing(rig: NearRig) -> None:
    for frame in ("8A 01 01 11 9A", "8A 01 01 10 9A", "8A 03 01 11 99", "82 01 01 11 93", "8A 01 01 11 0A 91"):
        assert await rig.asked(frame + STATUS, size=7) == [bytes.fromhex("80 01 00 00 00 33 B2")]
    assert rig.witnessed("pulse") == []


@pytest.mark.parametrize(
    "wiring",
    [
        {"closed_bit": 0},
        {"asked": "lock", "closed_single": "11", "locks": 3},
    ],
    ids=["board", "lock"],
)
async def test_a_pulse_opens_the_named_door_and_no_other(rig: NearRig, wiring: dict[str, object]) -> None:
    """Whichever way it is asked; the two polarities of this cabinet are opposite."""
    codec = Codec({0: Wiring(1, **wiring), 1: Wiring(2, **wiring)})  # type: ignore[arg-type]
    locks = codec.locks[0]
    async with rig.bus(codec) as boards:
        assert await boards.readings(0) == await boards.readings(1) == (SHUT,) * locks
        await boards.pulse(Latch(1, 2))
        await rig.happens("opened", 2, 2)
        assert await boards.readings(1) == (SHUT, SHUT, OPEN, *(SHUT,) * (locks - 3))
        assert await boards.readings(0) == (SHUT,) * locks
    assert rig.witnessed("opened") == rig.witnessed("pulse") == [(2, 2)]


async def test_the_wrong_one_of_the_two_polarities_reads_everything_the_wrong_way(rig: NearRig) -> None:
    """So each is calibrated by itself, and neither has a default."""
    for wiring in (Wiring(1, closed_bit=1), Wiring(1, asked="lock", closed_single="00", locks=2)):
        async with rig.bus(Codec({0: wiring})) as boards:
            assert set(await boards.readings(0)) == {OPEN}


async def test_a_board_that_does_not_answer_for_one_lock_is_not_asked_for_the_rest(rig: NearRig) -> None:
    await rig.call("fault", kind="dead", board=1)
    async with rig.bus(Codec({0: Wiring(1, asked="lock", closed_single="11")}), IMPATIENT) as boards:
        assert await boards.readings(0) == (UNKNOWN,) * 24
        assert boards.counters.timeouts == IMPATIENT.tries


async def test_boards_that_hear_nothing_while_they_drive_a_coil(config: SimConfig) -> None:
    """Nobody knows whether they do; the driver waits for the pulse's end before it asks (``BusTiming.settle``)."""
    busy = dataclasses.replace(config, busy=True, coil_ms=1000)
    codec = Codec({number: Wiring(number, closed_bit=0) for number in (1, 2)})
    async with near(busy, electronics(busy)) as rig, rig.bus(codec, IMPATIENT) as boards:
        await boards.pulse(Latch(1, 0))
        assert await boards.readings(1) == (UNKNOWN,) * 24
        assert await boards.readings(2) == (SHUT,) * 24
        assert rig.witnessed("opened") == [(1, 0)]


async def test_as_a_process_of_its_own() -> None:
    with simulated_boards("locker.x8a_sim", boards=2) as rig:
        async with rig.bus(Codec({0: Wiring(2, closed_bit=1)})) as boards:
            await boards.pulse(Latch(0, 23))
            await asyncio.to_thread(rig.control.wait, "opened", 2, 23)
            assert (await boards.readings(0))[23] == OPEN
        assert rig.witnessed("opened") == [(2, 23)]


def test_impossible_boards_are_refused(config: SimConfig) -> None:
    for wrong in ({"first": 0}, {"first": 99}, {"locks": 25}, {"baud": 19200}):
        with pytest.raises(ConfigError):
            electronics(dataclasses.replace(config, **wrong))  # type: ignore[arg-type]
