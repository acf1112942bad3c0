"""The pulser: the process that alone drives the coils of locks on GPIO pins. It has no network and no database."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from agents.users import uids_of
from edge import log
from edge.errors import ConfigError
from edge.health_systemd import Notifier
from locker.gpio_wiring import GpioBoard
from locker.pins_gpio import GpioPins, outputs_persist, own_pins
from locker.pulser_gpio import Hand, Outputs, listen_pulser
from locker.pulser_guard_socket import guarded

_log = log.get_logger("agents.pulser")


def run_pulser(boards: Sequence[GpioBoard]) -> None:
    """Serve until told to stop; every coil is off before, between and after. Raises ``LastmileError``."""
    path, uids = _socket(boards), uids_of([board.agent for board in boards], "locker.boards.agent")

    def serve(guard: socket.socket) -> None:
        outputs = _outputs(boards, own_pins())
        outputs.all_off()  # nobody is let in before, and where the lines are another's it ends here
        listener = listen_pulser(path)
        try:
            Hand(outputs, listener, guard, uids=uids).run()
        finally:
            path.unlink(missing_ok=True)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    if outputs_persist():
        remedy = "add dtparam=strict_gpiod to config.txt, so that the kernel lets go of the pins of a process that died"
        _log.warning("pulser.outputs_persist", remedy=remedy)
    pins = own_pins()
    guarded(serve, pins.open, _outputs(boards, pins).all_off, Notifier(os.environ, pid=os.getpid()))


def switch_off(boards: Sequence[GpioBoard]) -> None:
    """Every coil off, and end: what the service manager runs after a pulser that was killed. Raises ``DeviceError``."""
    _outputs(boards, own_pins()).all_off()


def _outputs(boards: Sequence[GpioBoard], pins: GpioPins) -> Outputs:
    return Outputs(pins, {lock.coil: lock.off_level for board in boards for lock in board.locks})


def _socket(boards: Sequence[GpioBoard]) -> Path:
    paths = {board.pulser for board in boards}
    if not paths:
        raise ConfigError("no board of the kind gpio is configured", remedy="without one no pulser is needed")
    if len(paths) > 1:
        raise ConfigError("GPIO boards with several pulsers", remedy="name one: a Pi has one set of pins")
    return Path(paths.pop())


def _stop(_number: int, _frame: FrameType | None) -> None:
    """Ends guard and hand in order, wherever they are: what they do last is to switch off."""
    sys.exit(0)
