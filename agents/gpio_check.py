"""What a configuration wires to the node's own pins: who gets which, and whether that is safe before we run."""

from __future__ import annotations

from collections.abc import Iterator

from agents.cabinet_sensors import lines_of_sensors
from agents.lock_boards import plan_boards
from agents.settings import Locker
from edge.errors import ConfigError
from locker.gpio_wiring import GpioBoard, check_free, check_keypad, check_locks, check_once, lines_of, lines_of_keypad
from locker.latch_gpio import DRIVER


def gpio_boards(locker: Locker, source: str) -> dict[int, GpioBoard]:
    """The boards that are GPIO lines, by their numbers. Raises ``ConfigError`` as ``plan_boards`` does."""
    direct = plan_boards(locker, source=source).direct
    return {number: board for each in direct if each.driver is DRIVER for number, board in each.options.items()}


def check_gpio(locker: Locker, source: str) -> Iterator[str]:
    """Lines for a person, warnings among them. Raises ``ConfigError`` for wiring that is not safe or not possible."""
    boards, keypad = gpio_boards(locker, source), locker.inputs.keypad
    lines = [line for number, board in boards.items() for line in lines_of(number, board.locks)]
    for number, board in boards.items():
        yield from check_locks(board.locks, f"{source}: board {number}")
    if len({board.pulser for board in boards.values()}) > 1:
        raise ConfigError(f"{source}: GPIO boards with several pulsers", remedy="name one: a Pi has one set of pins")
    if keypad is not None:
        check_keypad(keypad, source)
        lines += lines_of_keypad(keypad)
    contacts = list(lines_of_sensors(locker.sensors))
    check_free(contacts, source)
    lines += contacts
    check_once(lines, source)
    if lines:
        yield f"pins: {len(lines)} wired, none twice, no coil that something else drives while the node starts"
