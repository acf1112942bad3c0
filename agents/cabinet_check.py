"""What must be true of a cabinet before anything of it may move, whoever asks: ``lastmile check``, or what runs it."""

from __future__ import annotations

from agents.gpio_check import check_gpio
from agents.lock_boards import plan_boards
from agents.settings import Locker
from edge import log
from edge.errors import ConfigError
from locker.layout import Layout, lay_out

_log = log.get_logger("agents.cabinet")


def check_cabinet(locker: Locker, *, source: str, text: str = "") -> Layout:
    """The cabinet as it stands. Raises ``ConfigError`` for a door or latch that is named twice or not there, and for
    what a board's driver does not know. ``source`` and ``text`` are the file's name and content, for messages.
    """
    layout = lay_out(locker.cabinet)
    locks = plan_boards(locker, source=source, text=text).locks
    for each in layout.compartments:
        if each.latch.lock >= locks.get(each.latch.board, 0):
            raise ConfigError(
                f"door {each.door!r} is wired to board {each.latch.board} lock {each.latch.lock}, which is not there",
                remedy="correct the latch, or add the board under [[locker.boards]]",
            )
    return layout


def sound_cabinet(locker: Locker, *, source: str) -> Layout:
    """The cabinet of a process that is about to run it; warnings about its pins are logged.

    Raises ``ConfigError`` for what ``lastmile check`` refuses: nobody is made to run that one.
    """
    layout = check_cabinet(locker, source=source)
    for line in check_gpio(locker, source):
        if line.startswith("warning: "):
            _log.warning("cabinet.wiring", what=line.removeprefix("warning: "))
    return layout
