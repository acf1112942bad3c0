"""Modbus relay boards: raw bytes against the field notes, then the driver at the other end of a pseudo-terminal.

What opened is told by the simulator's own log, never by the driver.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge.errors import ConfigError
from locker.board import BusTiming, Latches, Word
from locker.boards.modbus_relay import Codec, Wiring
from locker.latch import Hook, Latch, Reading
from locker.modbus_relay_sim import SimConfig, electronics
from tests.locker.boards_rig import IMPATIENT, NearRig, near, simulated_boards

SHUT, OPEN, UNKNOWN = Reading(Hook.CLOSED), Reading(Hook.OPEN), Reading(Hook.UNKNOWN)
FORGIVING = BusTiming(answer=0.3, late=0.02, settle=0.02)

INPUTS = "01 02 00 00 00 08 79 CC"
RELAYS = "01 01 00 00 00 08 3D CC"
MODES = "01 03 10 00 00 08 40 CC"
FLASH_500 = "01 05 02 00 00 05 0C 71"
FIRST_ON = "01 05 00 00 FF 00 8C 3A"
ALL_OFF = "01 05 00 FF 00 00 FD FA"


@pytest.fixture
def config(tmp_path: Path) -> SimConfig:
    return SimConfig(tmp_path / "link", tmp_path / "control", tmp_path / "log", boards=2)


@pytest.fixture
async def rig(config: SimConfig) -> AsyncIterator[NearRig]:
    async with near(config, electronics(config)) as rig:
        yield rig


def codec(*numbers: int, **how: Any) -> Codec:
    """Boards whose number is their address, with pulses of 100 ms."""
    wiring = {"closed_bit": 1, "coil_ms": 100, **how}
    return Codec({number: Wiring(number, **wiring) for number in numbers or (1,)})


def but(lock: int, reading: Reading = OPEN) -> tuple[Reading, ...]:
    return tuple(reading if number == lock else SHUT for number in range(8))


def pulses(rig: NearRig) -> list[tuple[object, object]]:
    return rig.witnessed("pulse")


async def test_commands_and_answers_are_the_bytes_of_the_notes(rig: NearRig) -> None:
    for number in (1, 3, 4, 5, 6, 7):
        await rig.call("force_door", board=1, lock=number)
    assert await rig.asked(INPUTS, size=6) == [bytes.fromhex("01 02 01 05 61 8B")]
    assert await rig.asked(RELAYS, size=6) == [bytes.fromhex("01 01 01 00 51 88")]
    assert await rig.asked(MODES, size=21) == [bytes.fromhex("01 03 10" + "00" * 16 + "E4 59")]
    assert await rig.asked(FLASH_500, ALL_OFF, size=8) == [bytes.fromhex(FLASH_500), bytes.fromhex(ALL_OFF)]
    assert await rig.asked("01 05 00 00 12 34 C0 BD", size=5) == [bytes.fromhex("01 85 03 02 91")]
    assert pulses(rig) == [(1, 0)]


async def test_a_board_ends_its_flash_itself_and_what_is_switched_on_stays_on(rig: NearRig) -> None:
    """Nothing is prettified: what our driver cannot say, the simulated board still obeys."""
    await rig.asked("01 05 02 02 00 05 AD B1", size=8)
    assert await rig.asked(RELAYS, size=6) == [bytes.fromhex("01 01 01 04 50 4B")]
    await asyncio.sleep(0.5)
    assert await rig.asked(RELAYS, size=6) == [bytes.fromhex("01 01 01 00 51 88")]
    await rig.asked(FIRST_ON)
    await rig.happens("opened", 1, 0)
    await rig.call("close_door", board=1, lock=0)
    assert rig.witnessed("bounced") == [(1, 0)]
    await rig.asked(ALL_OFF, size=8)
    await rig.call("close_door", board=1, lock=0)
    assert rig.witnessed("closed") == [(1, 0)]
    await rig.asked("01 05 00 FF FF 00 BC 0A", size=8)
    await rig.happens("opened", 1, 7)
    assert len(rig.witnessed("double_coil")) >= 7


async def test_what_is_said_to_all_is_obeyed_by_all_and_answered_by_none(rig: NearRig) -> None:
    assert await rig.asked("00 05 02 03 00 01 FC 63", size=8, seconds=0.1) == [b""]
    await rig.happens("opened", 2, 3)
    assert rig.witnessed("opened") == [(1, 3), (2, 3)]


@pytest.mark.parametrize("frame", ["01 05 02 00 00 05 0C 72", "03 05 02 00 00 05 0D 93", "01 05 02 00 00 05 71 0C"])
async def test_damaged_and_foreign_frames_open_nothing(rig: NearRig, frame: str) -> None:
    assert await rig.asked(frame + INPUTS, size=6) == [bytes.fromhex("01 02 01 FF E1 C8")]
    assert pulses(rig) == []


async def test_a_pulse_opens_the_named_door_and_no_other(rig: NearRig) -> None:
    async with rig.bus(codec(1, 2)) as boards:
        assert await boards.readings(1) == await boards.readings(2) == (SHUT,) * 8
        await boards.pulse(Latch(2, 7))
        await rig.happens("opened", 2, 7)
        assert await boards.readings(2) == but(7)
        assert await boards.readings(1) == (SHUT,) * 8
        await asyncio.sleep(0.1)  # until its coil is off
        await rig.call("close_door", board=2, lock=7)
        assert await boards.readings(2) == (SHUT,) * 8
    assert rig.witnessed("opened") == pulses(rig) == [(2, 7)]


@pytest.mark.parametrize("size", [16, 32])
async def test_larger_boards_and_the_other_polarity(config: SimConfig, size: int) -> None:
    large = dataclasses.replace(config, locks=size, shut_bit=0)
    async with near(large, electronics(large)) as rig:
        async with rig.bus(codec(closed_bit=0, locks=size, size=size)) as boards:
            assert await boards.readings(1) == (SHUT,) * size
            await boards.pulse(Latch(1, size - 1))
            await rig.happens("opened", 1, size - 1)
            assert (await boards.readings(1))[-1] == OPEN
        async with rig.bus(codec(closed_bit=1, locks=size, size=size)) as boards:
            assert (await boards.readings(1))[:-1] == (OPEN,) * (size - 1)
        async with rig.bus(codec(closed_bit=0, locks=8), IMPATIENT) as boards:
            assert await boards.readings(1) == (SHUT,) * 8, "fewer may be wired than there are"


async def test_a_relay_left_on_is_switched_off_before_anything_is_read(rig: NearRig) -> None:
    """Whoever had the board before us may have died with a coil burning."""
    await rig.asked(FIRST_ON, size=8)
    await rig.happens("opened", 1, 0)
    async with rig.bus(codec()) as boards:
        assert await boards.readings(1) == but(0)
        await rig.call("close_door", board=1, lock=0)
        assert await boards.readings(1) == (SHUT,) * 8
    assert rig.witnessed("bounced") == []
    assert rig.witnessed("closed") == [(1, 0)]


async def test_a_board_whose_relays_follow_its_inputs_is_put_right_before_it_is_read(config: SimConfig) -> None:
    """So some come from the factory: a door that falls shut would drive its own coil, and never lock."""
    linked = dataclasses.replace(config, boards=1, linked=True)
    async with near(linked, electronics(linked)) as rig, rig.bus(codec()) as boards:
        await rig.call("force_door", board=1, lock=2)
        await rig.call("close_door", board=1, lock=2)
        assert pulses(rig) == [(1, 2)], "a shut door drives its coil, which is what is to end"
        await rig.happens("opened", 1, 2, count=2)
        assert await boards.readings(1) == but(2)
        assert boards.counters.amends == 8
        await rig.call("close_door", board=1, lock=2)
        assert await boards.readings(1) == (SHUT,) * 8
    assert pulses(rig) == [(1, 2)]


async def test_a_board_that_comes_back_is_looked_at_again(rig: NearRig) -> None:
    """It may be another one, fresh from its box."""
    async with rig.bus(codec(), IMPATIENT) as boards:
        assert await boards.readings(1) == (SHUT,) * 8
        await rig.call("fault", kind="dead", board=1)
        assert await boards.readings(1) == (UNKNOWN,) * 8
        await rig.call("heal")
        for lock in range(8):
            await rig.call("force_door", board=1, lock=lock)
        await rig.call("fault", kind="linked", board=1)
        assert await boards.readings(1) == (OPEN,) * 8
        assert boards.counters.amends == 8
        await rig.call("close_door", board=1, lock=5)
        assert (await boards.readings(1))[5] == SHUT
    assert pulses(rig) == []


async def test_a_pulse_of_ours_is_not_taken_for_a_relay_that_was_left_on(rig: NearRig) -> None:
    """A silence in the middle of a pulse: to look after the board at once would cut the pulse short."""
    async with rig.bus(codec(coil_ms=1000), IMPATIENT) as boards:
        assert await boards.readings(1) == (SHUT,) * 8
        await boards.pulse(Latch(1, 3))
        await rig.call("fault", kind="lost_reply", times=4)  # that of the pulse too
        assert await boards.readings(1) == (UNKNOWN,) * 8
        assert await boards.readings(1) == but(3)
        assert boards.counters.amends == 0
    assert rig.witnessed("frame") == [(1, None), (1, 3)], "all off at the beginning, and the pulse"


async def test_a_board_that_cannot_be_put_right_is_not_read(rig: NearRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A board that confirms and does not: only what it says afterwards counts."""
    monkeypatch.setattr("locker.modbus_relay_sim.RelayBoards._set_mode", lambda _, __, request, ___: request.raw[1:6])
    await rig.call("fault", kind="linked", board=2)
    async with rig.bus(codec(1, 2)) as boards:
        assert await boards.readings(2) == (UNKNOWN,) * 8
        assert (boards.counters.unfit, boards.counters.amends) == (1, 16)
        assert await boards.readings(2) == (UNKNOWN,) * 8
        assert boards.counters.amends == 16, "its memory does not bear to be written at every reading"
        assert await boards.readings(1) == (SHUT,) * 8


async def test_a_relay_that_has_welded_shows_as_a_door_that_will_not_shut(rig: NearRig) -> None:
    await rig.call("fault", kind="welded", board=1, lock=4)
    async with rig.bus(codec()) as boards:
        await boards.readings(1)
        await boards.pulse(Latch(1, 4))
        await rig.happens("opened", 1, 4)
        await asyncio.sleep(0.15)
        await rig.call("close_door", board=1, lock=4)
        assert await boards.readings(1) == but(4)
    assert rig.witnessed("bounced") == [(1, 4)]


async def test_old_firmware_that_confirms_a_flash_and_ignores_it_is_not_believed(rig: NearRig) -> None:
    await rig.call("fault", kind="flash_ignored", board=1)
    async with rig.bus(codec()) as boards:
        await boards.pulse(Latch(1, 0))
        await rig.happens("frame", 1, 0)
        assert await boards.readings(1) == (SHUT,) * 8
        assert boards.counters.words == 1
    assert pulses(rig) == []


async def test_a_board_without_inputs_is_unknown_and_still_opens(config: SimConfig) -> None:
    bare = dataclasses.replace(config, inputs=False)
    async with near(bare, electronics(bare)) as rig, rig.bus(codec(), IMPATIENT) as boards:
        assert await boards.readings(1) == (UNKNOWN,) * 8
        await boards.pulse(Latch(1, 6))
        await rig.happens("opened", 1, 6)


async def test_two_boards_as_they_come_from_the_factory_are_counted_before_they_open_two_doors(rig: NearRig) -> None:
    await rig.call("fault", kind="duplicate_address", board=2, address=1)
    async with rig.bus(codec(), FORGIVING) as boards:
        assert await boards.answers(1) == 2


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
    async with rig.bus(codec(), BusTiming(answer=0.3, late=0.02, settle=0.02, tries=5)) as boards:
        assert await boards.readings(1) == (SHUT,) * 8
        await rig.call("fault", **fault)
        assert await boards.readings(1) == (SHUT,) * 8
        await boards.pulse(Latch(1, 3))
        await rig.happens("opened", 1, 3)
        assert await boards.readings(1) == but(3)
    assert rig.witnessed("opened") == pulses(rig) == [(1, 3)]


async def test_without_power_unplugged_or_at_another_speed_every_hook_is_unknown(rig: NearRig) -> None:
    async with rig.bus(codec(), IMPATIENT, baud=19200) as boards:
        assert await boards.readings(1) == (UNKNOWN,) * 8
        await boards.pulse(Latch(1, 0))
    async with rig.bus(codec(1, 2), IMPATIENT) as boards:
        await rig.call("fault", kind="dead", board=1)
        await boards.pulse(Latch(1, 0))
        assert await boards.readings(1) == (UNKNOWN,) * 8
        assert await boards.readings(2) == (SHUT,) * 8
        await rig.call("unplug")
        assert await boards.readings(2) == (UNKNOWN,) * 8
    assert pulses(rig) == []


def test_the_answer_of_a_board_of_another_size_is_none() -> None:
    """More bits than were asked for are another board's, or another question's."""
    assert codec().feed(bytes.fromhex("01 02 01 FF E1 C8")) == [Latches(1, 0, (SHUT,) * 8)]
    assert codec().feed(bytes.fromhex("01 02 02 FF FF B8 08")) == [Word(bytes.fromhex("01 02 02 FF FF B8 08"))]


def test_impossible_boards_are_refused() -> None:
    with pytest.raises(ConfigError, match="one address"):
        Codec({0: Wiring(3, 1), 1: Wiring(3, 1)})
    with pytest.raises(ConfigError, match="16 locks and 8 relays"):
        Codec({0: Wiring(3, 1, locks=16)})
    for latch in (Latch(1, 8), Latch(1, -1), Latch(2, 0)):
        with pytest.raises(ConfigError, match="no lock is wired"):
            codec().unlock(latch)


@pytest.mark.parametrize("wrong", [{"boards": 248}, {"locks": 33}, {"baud": 1200}, {"first": 0}])
def test_boards_that_cannot_be_are_not_simulated(config: SimConfig, wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        electronics(dataclasses.replace(config, **wrong))  # type: ignore[arg-type] # whole numbers


def test_they_run_as_a_process_of_their_own() -> None:
    with simulated_boards("locker.modbus_relay_sim", boards=2) as rig:
        assert len(rig.control.call("doors")["doors"]) == 16  # type: ignore[arg-type] # JSON
