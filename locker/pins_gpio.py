"""The Raspberry Pi's pins through gpiozero. The only file that speaks to it, beside the simulated chip."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge.errors import ConfigError, DeviceBusy, DeviceError, DeviceMissing
from locker.gpio_wiring import Pull

REVISION = Path("/sys/firmware/devicetree/base/system/linux,revision")
"""Where the kernel says which Pi this is. gpiozero looks below /proc, which our units hide."""

PERSIST = tuple(Path("/sys/module") / name / "parameters/persist_gpio_outputs" for name in ("pinctrl_bcm2835", "rp1"))

SIMULATED = "LASTMILE_SIMULATED_GPIO"
"""In the environment: the socket of ``locker.gpio_sim``, whose pins then stand for the machine's."""

_PULL = {Pull.UP: "up", Pull.DOWN: "down", Pull.NONE: "floating"}


class GpioPins:
    """``locker.pins.Pins`` of this machine. The chip is opened at the first call, or by ``open``.

    Lines are never given back one by one: gpiozero would make each an input without a pull.
    """

    def __init__(self, make: Callable[[], Any] | None = None) -> None:
        """``make`` makes another pin factory than this machine's: a simulated one."""
        self._make = make or _own_chip
        self._factory: Any = None
        self._held: dict[int, Any] = {}

    def open(self) -> None:
        """Raises ``DeviceMissing`` where there is no chip, ``ConfigError`` where gpiozero is not installed."""
        if self._factory is None:
            self._factory = _asked(self._make)

    def close(self) -> None:
        """Give the chip back, for whoever drives nothing; a later call opens it again."""
        factory, self._factory = self._factory, None
        self._held.clear()
        if factory is not None:
            factory.close()

    def drive(self, line: int, level: int) -> None:
        pin = self._pin(line)
        if pin.function == "output":
            _asked(lambda: setattr(pin, "state", level))
        else:
            _asked(lambda: pin.output_with_state(level))

    def sense(self, line: int, pull: Pull) -> None:
        pin = self._pin(line)
        _asked(lambda: pin.input_with_pull(_PULL[pull]))

    def read(self, line: int) -> int:
        pin = self._pin(line)
        return int(_asked(lambda: pin.state))

    def _pin(self, line: int) -> Any:
        if line not in self._held:
            self.open()
            self._held[line] = _asked(lambda: self._factory.pin(line))
        return self._held[line]


def own_pins(environ: Mapping[str, str] = os.environ) -> GpioPins:
    """This machine's pins, or a simulator's where the environment names its socket."""
    chip = environ.get(SIMULATED)
    return simulated_pins(Path(chip)) if chip else GpioPins()


def simulated_pins(chip: Path) -> GpioPins:
    """The pins of ``locker.gpio_sim`` at its socket ``chip``."""

    def make() -> Any:
        from locker.gpio_chip_sim import SimChip

        return SimChip(chip)

    return GpioPins(make)


def outputs_persist() -> bool:
    """Whether this kernel leaves a line as it was when the process that drove it dies, as Raspberry Pi OS does."""
    return any(path.exists() and path.read_text().strip() in {"Y", "1"} for path in PERSIST)


def _asked(ask: Callable[[], Any]) -> Any:
    """What ``ask`` gives; gpiozero's and lgpio's errors become ours."""
    try:
        import gpiozero
    except ImportError as error:
        raise _not_installed(error) from error
    try:
        return ask()
    except gpiozero.GPIOZeroError as error:
        raise DeviceError(f"the GPIO chip: {error}", remedy="correct the pin's number or its wiring") from error
    except FileNotFoundError as error:
        raise DeviceMissing("no GPIO chip of a Raspberry Pi here", remedy="run this on the Pi it is for") from error
    except OSError as error:
        raise DeviceError(f"the GPIO chip: {error}", remedy="see that nothing else holds the pin") from error
    except _lgpio_errors() as error:
        busy = "busy" in str(error).lower()
        remedy = "stop the other program that uses the pin" if busy else "put the service's user into the group gpio"
        raise (DeviceBusy if busy else DeviceError)(f"the GPIO chip: {error}", remedy=remedy) from error


def _lgpio_errors() -> tuple[type[Exception], ...]:
    """What the library below gpiozero raises, if it is in use: to import it begins a thread."""
    lgpio = sys.modules.get("lgpio")
    return () if lgpio is None else (lgpio.error,)


def _own_chip() -> Any:
    try:
        import lgpio
        from gpiozero.pins.lgpio import LGPIOFactory, LGPIOPin
    except ImportError as error:
        raise _not_installed(error) from error

    class Pin(LGPIOPin):  # type: ignore[misc]  # gpiozero ships no types
        def output_with_state(self, state: int) -> None:
            # At once: the inherited one is low for a moment, which drives a coil that is active low.
            lgpio.gpio_claim_output(self.factory._handle, self._number, state)  # noqa: SLF001 - as its own methods do

    class Chip(LGPIOFactory):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.pin_class = Pin

        def _get_revision(self) -> int:
            (revision,) = struct.unpack(">L", REVISION.read_bytes()[:4])
            return int(revision)

    return Chip()


def _not_installed(error: ImportError) -> ConfigError:
    return ConfigError(
        f"GPIO is configured and {error.name} is not installed",
        remedy="install lastmile-edge[gpio]; from Python 3.13 on also the distribution's python3-lgpio",
    )
