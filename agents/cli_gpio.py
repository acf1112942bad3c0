"""``lastmile simulate gpio``: a Raspberry Pi's pins with doors and keys, for trying a locker without one."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Annotated

import typer

from edge.errors import ConfigError


def gpio(
    *,
    chip: Annotated[Path, typer.Option(help="Unix socket of the chip; LASTMILE_SIMULATED_GPIO names it to programs.")],
    control: Annotated[Path, typer.Option(help="Unix socket through which doors, keys and faults are moved.")],
    log: Annotated[Path, typer.Option(help="JSON lines of what physically happened.")],
    door: Annotated[list[str], typer.Option(help="COIL:HOOK, pins of a door; once for each, lock 0 first.")],
    close_after_ms: Annotated[float | None, typer.Option(help="A person shuts each door so long after.")] = None,
) -> None:
    """GPIO pins with their locks and doors. Runs until it is told to stop."""
    from locker.gpio_sim import GpioSimConfig, WiredDoor, run_gpio_simulator

    doors = [WiredDoor(*_pins(each)) for each in door]
    config = GpioSimConfig(chip=chip, control=control, log=log, doors=doors, close_after_ms=close_after_ms)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run_gpio_simulator(config, lambda: typer.echo(f"chip on {chip}")))


def _pins(text: str) -> tuple[int, int]:
    coil, _, hook = text.partition(":")
    if not (coil.isdecimal() and hook.isdecimal()):
        raise ConfigError(f"no pins {text!r}", remedy="write COIL:HOOK, such as 17:22")
    return int(coil), int(hook)
