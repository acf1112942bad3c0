"""Latches on GPIO lines: what their switches say is believed when it is steady, and wiring that floats is refused."""

from __future__ import annotations

import asyncio

import pytest

from edge.clock_sim import ManualClock
from edge.errors import ConfigError, DeviceError, DeviceMissing
from edge.settings import parse_settings
from locker.gpio_wiring import (
    PULLED_UP_AT_BOOT,
    TAKEN,
    GpioBoard,
    GpioLock,
    Keypad,
    Pull,
    check_keypad,
    check_locks,
    check_once,
    lines_of,
    lines_of_keypad,
)
from locker.latch import Hook, Latch
from locker.latch_gpio import GpioBoards, coil_time


class Wires:
    """``Pins`` whose levels are scripted: each look takes the next, the last stays."""

    def __init__(self, **levels: list[int]) -> None:
        self.levels = {int(line.removeprefix("line")): each for line, each in levels.items()}
        self.sensed: list[tuple[int, Pull]] = []
        self.broken = False

    def drive(self, line: int, level: int) -> None:
        raise AssertionError("the agent drives nothing")

    def sense(self, line: int, pull: Pull) -> None:
        self.sensed.append((line, pull))

    def read(self, line: int) -> int:
        if self.broken:
            raise DeviceError("the chip is gone", remedy="-")
        levels = self.levels[line]
        return levels.pop(0) if len(levels) > 1 else levels[0]


class Pulser:
    """Stands for the client of a pulser: says what it was asked, or that none is there."""

    def __init__(self) -> None:
        self.pulsed: list[tuple[int, int, float]] = []
        self.there = True
        self.clock = ManualClock()

    async def connected(self) -> None:
        if not self.there:
            raise DeviceMissing("no pulser", remedy="-")

    async def pulse(self, line: int, ms: int) -> None:
        await self.connected()
        self.pulsed.append((line, ms, self.clock.mono()))

    def close(self) -> None:
        self.there = False


LOCKS = (GpioLock(coil=17, hook=22), GpioLock(coil=27, hook=23, hook_pull=Pull.DOWN, closed_level=1))


def boards_of(wires: Wires, pulser: Pulser) -> GpioBoards:
    board = GpioBoard(locks=LOCKS, pulse_ms=300)
    return GpioBoards({3: board}, wires, pulser, pulser.clock)  # type: ignore[arg-type]


async def hooks(boards: GpioBoards, pulser: Pulser) -> list[Hook]:
    """What a reading says, its looks being as far apart as it likes."""
    reading = asyncio.ensure_future(boards.readings(3))
    while not reading.done():
        await pulser.clock.advance(0.005)
    return [each.hook for each in reading.result()]


async def test_both_polarities_are_read_by_their_calibration():
    pulser, wires = Pulser(), Wires(line22=[0], line23=[0])
    boards = boards_of(wires, pulser)
    assert await hooks(boards, pulser) == [Hook.CLOSED, Hook.OPEN]
    wires.levels = {22: [1], 23: [1]}
    assert await hooks(boards, pulser) == [Hook.OPEN, Hook.CLOSED]
    assert wires.sensed == [(22, Pull.UP), (23, Pull.DOWN)], "each line is claimed once"


async def test_a_contact_that_bounces_is_waited_for():
    pulser = Pulser()
    assert await hooks(boards_of(Wires(line22=[0, 1, 0, 0], line23=[1]), pulser), pulser) == [Hook.CLOSED] * 2


async def test_a_contact_that_flaps_is_unknown_and_never_closed():
    pulser = Pulser()
    wires = Wires(line22=[0, 1, 0, 1, 0, 1], line23=[1])
    assert await hooks(boards_of(wires, pulser), pulser) == [Hook.UNKNOWN, Hook.CLOSED]


@pytest.mark.parametrize("missing", ["pulser", "chip"])
async def test_without_pulser_or_chip_nothing_is_known(missing):
    """So nobody is promised a door that cannot be opened."""
    pulser, wires = Pulser(), Wires(line22=[0], line23=[1])
    pulser.there, wires.broken = missing != "pulser", missing == "chip"
    assert await hooks(boards_of(wires, pulser), pulser) == [Hook.UNKNOWN] * 2


async def test_a_pulse_goes_to_its_own_line_and_waits_for_the_one_before():
    pulser = Pulser()
    boards = boards_of(Wires(), pulser)
    await boards.pulse(Latch(3, 0))
    second = asyncio.ensure_future(boards.pulse(Latch(3, 1)))
    await pulser.clock.advance(1.0)
    await second
    (first, later) = pulser.pulsed
    assert (first[:2], later[:2]) == ((17, 300), (27, 300))
    assert later[2] >= coil_time(GpioBoard(locks=LOCKS, pulse_ms=300))


@pytest.mark.parametrize("latch", [Latch(3, 2), Latch(3, -1), Latch(4, 0)])
async def test_a_latch_that_is_not_wired_is_refused(latch):
    pulser = Pulser()
    with pytest.raises(ConfigError):
        await boards_of(Wires(), pulser).pulse(latch)
    assert pulser.pulsed == []


# Wiring.


def told(*locks: GpioLock) -> list[str]:
    return list(check_locks(locks, "node.toml"))


@pytest.mark.parametrize("coil", [*range(9, 14), *range(16, 28)])
def test_a_coil_that_is_active_high_may_stand_where_pins_are_pulled_down_at_boot(coil):
    assert told(GpioLock(coil=coil, hook=5)) == []


@pytest.mark.parametrize("coil", range(4, 9))
def test_and_nowhere_else(coil):
    with pytest.raises(ConfigError, match="pulled up until our program runs"):
        told(GpioLock(coil=coil, hook=17))
    assert told(GpioLock(coil=coil, hook=17, coil_active_high=False)) == []


@pytest.mark.parametrize("coil", range(9, 28))
def test_a_coil_that_is_active_low_is_driven_at_boot_by_a_pull_down(coil):
    with pytest.raises(ConfigError):
        told(GpioLock(coil=coil, hook=5, coil_active_high=False))


@pytest.mark.parametrize("line", TAKEN)
@pytest.mark.parametrize("what", ["coil", "hook"])
def test_pins_that_something_else_moves_are_refused(line, what):
    lock = {"coil": 17, "hook": 22, what: line, "coil_active_high": line not in PULLED_UP_AT_BOOT}
    with pytest.raises(ConfigError, match="belongs to"):
        told(GpioLock(**lock))


def test_a_cut_wire_that_would_read_as_closed_is_told():
    assert "cut wire" in told(GpioLock(coil=17, hook=22, hook_pull=Pull.DOWN))[0]
    assert "cut wire" in told(GpioLock(coil=17, hook=22, closed_level=1))[0]
    assert told(GpioLock(coil=17, hook=22, hook_pull=Pull.DOWN, closed_level=1)) == []


def test_a_pin_has_one_use_in_the_whole_node():
    keypad = Keypad(rows=(5, 6, 7, 8), columns=(9, 10, 23))
    with pytest.raises(ConfigError, match="pin 23 is both the switch of board 3 lock 1 and a column of the keypad"):
        check_once([*lines_of(3, LOCKS), *lines_of_keypad(keypad)], "node.toml")
    check_once([*lines_of(3, LOCKS), *lines_of_keypad(Keypad(rows=(5, 6, 7, 8), columns=(9, 10, 11)))], "node.toml")


@pytest.mark.parametrize(
    ("keypad", "word"),
    [
        (Keypad(rows=(5, 6, 7), columns=(9, 10, 11)), "rows"),
        (Keypad(rows=(5, 6, 7, 8), columns=(9, 10, 11), keys=("12", "34", "56", "78")), "rows"),
        (Keypad(rows=(5,), columns=(9, 10), keys=("1x",)), "x"),
        (Keypad(rows=(14,), columns=(9, 10), keys=("12",)), "serial console"),
    ],
)
def test_a_keypad_that_cannot_be_is_refused(keypad, word):
    with pytest.raises(ConfigError, match=word):
        check_keypad(keypad, "node.toml")


@pytest.mark.parametrize(
    "line", ["pulse_ms = 851", "pulse_ms = 5", 'pulser = "relative.sock"', "locks = []", "extra = 1"]
)
def test_options_out_of_range_are_refused(line):
    text = f"{line}\n[[locks]]\ncoil = 17\nhook = 22\n" if "locks" not in line else line
    with pytest.raises(ConfigError):
        parse_settings(text, GpioBoard, source="node.toml")
