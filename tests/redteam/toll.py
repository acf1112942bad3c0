"""What an attack has come to, told as it goes: a bar on a terminal, else a line every few seconds."""

from __future__ import annotations

import sys
import time

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

TELL_S = 5.0


class Toll(msgspec.Struct):
    commands: int = 0
    different: int = 0
    """Each of them signed once, and brought many times."""
    told: dict[str, int] = {}
    kills: int = 0
    openings: int = 0
    double: int = 0
    """Commands that opened their door more than once."""
    unseen: int = 0
    """Commands that nothing struck and whose door was not seen in time: told as unknown, and rare."""
    faults: list[str] = []
    seconds: float = 0.0


class Telling:
    """``quiet`` says nothing. Ends with a table and the faults."""

    def __init__(self, most: int, *, quiet: bool = False) -> None:
        self._console = Console(file=sys.stdout, quiet=quiet)
        self._began = self._told = time.monotonic()
        self._before = 0
        self._bar: Progress | None = None
        if self._console.is_terminal:
            columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
            # Drawn when it is told: a thread of its own would be lost in a fork.
            self._bar = Progress(*columns, TextColumn("{task.description}"), console=self._console, auto_refresh=False)
            self._bar.start()
            self._task = self._bar.add_task("", total=most)

    @property
    def due(self) -> bool:
        return time.monotonic() > self._told + TELL_S

    def tell(self, toll: Toll) -> None:
        now = time.monotonic()
        pace = (toll.commands - self._before) / (now - self._told)
        self._told, self._before = now, toll.commands
        line = (
            f"{pace:.0f}/s, {toll.kills} kills, {toll.openings} openings, {toll.double} double, "
            f"{toll.told.get('unknown', 0)} unknown, {len(toll.faults)} faults"
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=toll.commands, description=line, refresh=True)
        else:
            line = f"{now - self._began:6.0f} s  {toll.commands:7d}  {line}"
            self._console.print(line, highlight=False, soft_wrap=True)

    def end(self, toll: Toll) -> None:
        if self._bar is not None:
            self._bar.stop()
        table = Table("attack", "", box=None)
        for name, count in (
            ("commands brought", toll.commands),
            ("different ones", toll.different),
            ("kills", toll.kills),
            ("openings", toll.openings),
            ("opened their door twice", toll.double),
            ("not seen in time", toll.unseen),
            *((f"told as {status}", count) for status, count in sorted(toll.told.items())),
            ("faults", len(toll.faults)),
            ("seconds", round(toll.seconds)),
            ("commands a second", round(toll.commands / toll.seconds) if toll.seconds else 0),
        ):
            table.add_row(name, str(count))
        self._console.print(table)
        for fault in toll.faults[:40]:
            self._console.print(f"FAULT {fault}", highlight=False, markup=False, soft_wrap=True)
