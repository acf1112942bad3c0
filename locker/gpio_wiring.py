"""How latches and keypads are wired to a Raspberry Pi's own pins, and which wiring is safe before any program runs."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Final

import msgspec

from edge.errors import ConfigError
from edge.settings import Settings

PulseMs = Annotated[int, msgspec.Meta(ge=20, le=850)]
"""Of a coil; ``locker.pulser.LONGEST_MS`` at most."""
Line = Annotated[int, msgspec.Meta(ge=0, le=27)]
"""A pin of the 40-pin header by its BCM number, not by its place."""


class Pull(enum.Enum):
    """What holds a line that nobody drives."""

    UP = "up"
    DOWN = "down"
    NONE = "none"
    """A resistor of one's own, outside; the Pi's is off."""


PULLED_UP_AT_BOOT: Final = range(9)
"""BCM2835 ARM Peripherals, table 6-31 ("Pull"): GPIO 0 to 8 are pulled up after a reset and 9 to 27 down, by about
50 kOhm. The header's pins of every model since, the Pi 5's RP1 included, keep to it."""

TAKEN: Final = {
    0: "the identification EEPROM",
    1: "the identification EEPROM",
    2: "I2C, and 1.8 kOhm on the board pull it up",
    3: "I2C, and 1.8 kOhm on the board pull it up",
    14: "the serial console, which sends while the Pi boots",
    15: "the serial console, which sends while the Pi boots",
}
"""Pins that something else moves or holds before our program runs."""


class GpioLock(Settings, frozen=True, kw_only=True):
    """One latch: the line of its coil's driver, and the line of its switch."""

    coil: Line
    coil_active_high: bool = True
    """Whether a high line drives the coil; with a low one, as many relay boards have it, only pins 4 to 8 are safe."""
    hook: Line
    hook_pull: Pull = Pull.UP
    """Of the switch's line. *up* suits a switch to ground."""
    closed_level: Annotated[int, msgspec.Meta(ge=0, le=1)] = 0
    """What the line reads while the door is shut."""

    @property
    def off_level(self) -> int:
        return 0 if self.coil_active_high else 1


class GpioBoard(Settings, frozen=True, kw_only=True):
    """The latches that a configuration calls one board."""

    locks: Annotated[tuple[GpioLock, ...], msgspec.Meta(min_length=1, max_length=11)]
    """From number 0 on; two lines each, of the 22 that are free."""
    pulse_ms: PulseMs = 300
    pulser: Annotated[str, msgspec.Meta(pattern=r"^/.*[^/]\Z", max_length=100)] = "/run/lastmile/pulser/pulser.sock"
    """The socket of ``lastmile run pulser``, which drives the coils."""
    agent: Annotated[str, msgspec.Meta(min_length=1)] | int = "lm-role"
    """The user whose process may have coils driven: a name or a number."""


class Keypad(Settings, frozen=True, kw_only=True):
    """A matrix of keys: each joins one row's line with one column's."""

    rows: Annotated[tuple[Line, ...], msgspec.Meta(min_length=1, max_length=8)]
    columns: Annotated[tuple[Line, ...], msgspec.Meta(min_length=1, max_length=8)]
    keys: tuple[str, ...] = ("123", "456", "789", "*0#")
    """A row a string; * takes back a digit, # is enter, C begins anew, a space is no key."""


def check_locks(locks: Sequence[GpioLock], source: str) -> Iterator[str]:
    """Warnings for a person. Raises ``ConfigError`` for a coil that something else than us could drive."""
    for number, lock in enumerate(locks):
        where = f"{source}: lock {number}"
        _check_free(lock.coil, f"{where}: coil")
        _check_free(lock.hook, f"{where}: hook")
        pulled_up = lock.coil in PULLED_UP_AT_BOOT
        if pulled_up is lock.coil_active_high:
            way = "up" if pulled_up else "down"
            safe = "9 to 13 and 16 to 27" if lock.coil_active_high else "4 to 8"
            raise ConfigError(
                f"{where}: pin {lock.coil} is pulled {way} until our program runs, which drives this coil at boot",
                remedy=f"wire it to one of the pins {safe}",
            )
        if lock.hook_pull is not Pull.NONE and (lock.hook_pull is Pull.UP) == bool(lock.closed_level):
            yield f"warning: {where}: a cut wire to the switch on pin {lock.hook} reads as a closed door"


def check_keypad(keypad: Keypad, source: str) -> None:
    """Raises ``ConfigError`` for pins that are taken, and for keys that do not fit the matrix."""
    for line in (*keypad.rows, *keypad.columns):
        _check_free(line, f"{source}: keypad")
    if [len(row) for row in keypad.keys] != [len(keypad.columns)] * len(keypad.rows):
        raise ConfigError(
            f"{source}: the keypad has {len(keypad.rows)} rows of {len(keypad.columns)} and its keys do not",
            remedy="give a string for each row, with one character for each column",
        )
    if strange := set("".join(keypad.keys)) - set("0123456789*#C "):
        raise ConfigError(f"{source}: no keypad has a key {min(strange)!r}", remedy="use 0 to 9, *, #, C and space")


def check_free(lines: Iterable[tuple[int, str]], source: str) -> None:
    """Raises ``ConfigError`` for a pin that the Pi itself needs. ``lines`` are pins with what they are for."""
    for line, what in lines:
        _check_free(line, f"{source}: {what}")


def check_once(lines: Iterable[tuple[int, str]], source: str) -> None:
    """Raises ``ConfigError`` for a pin that is named twice. ``lines`` are pins with what they are for."""
    seen: dict[int, str] = {}
    for line, what in lines:
        if line in seen:
            raise ConfigError(f"{source}: pin {line} is both {seen[line]} and {what}", remedy="give each its own pin")
        seen[line] = what


def lines_of(board: int, locks: Sequence[GpioLock]) -> Iterator[tuple[int, str]]:
    """Every pin of a board with what it is for."""
    for number, lock in enumerate(locks):
        yield lock.coil, f"the coil of board {board} lock {number}"
        yield lock.hook, f"the switch of board {board} lock {number}"


def lines_of_keypad(keypad: Keypad) -> Iterator[tuple[int, str]]:
    for line in keypad.rows:
        yield line, "a row of the keypad"
    for line in keypad.columns:
        yield line, "a column of the keypad"


def _check_free(line: int, where: str) -> None:
    if line in TAKEN:
        raise ConfigError(f"{where}: pin {line} belongs to {TAKEN[line]}", remedy="use another pin")
