"""A matrix keypad: bounce, several keys at once, a key that hangs; and its lines on a simulated chip."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import pytest

from edge.clock_sim import ManualClock
from edge.errors import DeviceError
from locker.gpio_wiring import Keypad as Wiring
from locker.keypad import STEADY_S, STUCK_S, Fault, Keypad, Noticed, Pressed, Spot
from locker.keypad_gpio import Matrix, read_keypad
from locker.pins_gpio import GpioPins, simulated_pins
from locker.terminal import Key
from tests.locker.gpio_rig import Pi, simulated_pi

pytestmark = pytest.mark.xdist_group("pulser")

WIRING = Wiring(rows=(5, 6, 7, 8), columns=(9, 10, 11))
SCAN = 0.01


def typed(*scans: tuple[float, set[Spot]]) -> list[Pressed | Noticed]:
    """What follows from keys that are down for so many seconds each, in turn."""
    keypad, now, found = Keypad(WIRING.keys), 0.0, []
    for seconds, down in scans:
        for _ in range(round(seconds / SCAN)):
            found += keypad.scanned(frozenset(down), now)
            now += SCAN
    return found


def keys(*scans: tuple[float, set[Spot]]) -> str:
    return "".join(str(each.key) for each in typed(*scans) if isinstance(each, Pressed))


UP: tuple[float, set[Spot]] = (0.1, set())


def test_each_key_is_what_is_printed_on_it():
    every = [step for row in range(4) for column in range(3) for step in ((0.1, {(row, column)}), UP)]
    assert [each.key for each in typed(*every) if isinstance(each, Pressed)] == [
        *"123456789",
        Key.ERASE,
        "0",
        Key.ENTER,
    ]


def test_a_key_counts_once_however_long_it_is_held():
    assert keys((5.0, {(0, 0)}), UP, (0.1, {(0, 0)})) == "11"


def test_a_contact_that_bounces_is_one_key():
    bouncing = [(0.01, {(0, 0)}), (0.01, set())] * 5
    assert keys(*bouncing, (0.1, {(0, 0)}), UP) == "1"
    assert keys(*bouncing) == ""
    assert STEADY_S > SCAN


def test_two_keys_at_once_are_none_until_both_are_up():
    both: set[Spot] = {(0, 0), (0, 1)}
    assert keys((0.1, both), (0.5, {(0, 0)}), UP) == ""
    assert keys((0.1, both), UP, (0.1, {(2, 2)})) == "9"


def test_three_corners_of_a_rectangle_do_not_type_the_fourth():
    ghost: set[Spot] = {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert keys((0.3, ghost), (0.1, {(1, 1)}), UP) == ""


def test_a_key_that_hangs_is_noticed_and_the_others_go_on():
    stuck: set[Spot] = {(0, 0)}
    found = typed((STUCK_S + 1, stuck), (0.1, stuck | {(1, 1)}), (0.1, stuck), UP, (0.1, stuck))
    assert found == [
        Pressed("1"),
        Noticed(Fault.STUCK, (0, 0)),
        Pressed("5"),
        Noticed(Fault.FREE, (0, 0)),
        Pressed("1"),
    ]


# On a chip.


@pytest.fixture(scope="module")
def pi() -> Iterator[Pi]:
    with simulated_pi(doors=[], rows=WIRING.rows, columns=WIRING.columns) as pi:
        yield pi


@pytest.fixture(scope="module")
def pins(pi: Pi) -> Iterator[GpioPins]:
    pins = simulated_pins(pi.folder / "chip")
    yield pins
    pins.close()


@pytest.fixture(autouse=True)
def _nothing_left() -> None:
    """The simulated Pi serves all tests of this file."""


@pytest.mark.parametrize("spot", list(itertools.product(range(4), range(3))))
def test_every_key_is_found_at_its_row_and_column(pi, pins, spot):
    matrix = Matrix(WIRING, pins)
    assert matrix.down() == frozenset()
    pi.control.call("press", row=spot[0], column=spot[1])
    assert matrix.down() == {spot}
    pi.control.call("lift", row=spot[0], column=spot[1])
    assert matrix.down() == frozenset()


def test_no_output_ever_fights_another_whatever_is_pressed(pi, pins):
    matrix, ghost = Matrix(WIRING, pins), [(0, 0), (0, 1), (1, 0)]
    for row, column in ghost:
        pi.control.call("press", row=row, column=column)
        found = matrix.down()
    assert found == {(0, 0), (0, 1), (1, 0), (1, 1)}, "the fourth is a ghost, which the keypad's rules overlook"
    for row, column in ghost:
        pi.control.call("lift", row=row, column=column)
    assert pi.witnessed("short") == []


async def test_keys_are_handed_on_and_a_chip_that_is_away_is_waited_for(pi, pins):
    class Flaky:
        """The pins, once they are there."""

        there = False

        def drive(self, line, level):
            pins.drive(line, level)

        def read(self, line):
            return pins.read(line)

        def sense(self, line, pull):
            if not self.there:
                raise DeviceError("no chip", remedy="-")
            pins.sense(line, pull)

    clock, flaky = ManualClock(), Flaky()
    heard: list[Key | str] = []
    reading = asyncio.create_task(read_keypad(WIRING, flaky, heard.append, clock))
    await clock.advance(20.0)
    flaky.there = True
    await clock.advance(6.0)
    for key in ((1, 1), (3, 2)):
        pi.control.call("press", row=key[0], column=key[1])
        await clock.advance(0.1)
        pi.control.call("lift", row=key[0], column=key[1])
        await clock.advance(0.1)
    assert heard == ["5", Key.ENTER]
    reading.cancel()
    await asyncio.wait([reading])
