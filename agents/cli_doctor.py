"""``lastmile doctor``: what is wrong with a node's hardware and surroundings, and which way its doors read."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

if TYPE_CHECKING:
    from agents.doctor import Doctor
    from agents.doctor_report import Finding


def doctor(
    config: Annotated[Path, typer.Argument(help="A node's TOML file. Its agent must not be running.")],
    *,
    polarity: Annotated[
        bool,
        typer.Option("--polarity", help="Open an empty door of each board, and learn how its switch reads."),
    ] = False,
    door: Annotated[str | None, typer.Option(help="The only door that may be opened.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a finding.")] = False,
) -> None:
    """Examine a node: files, clock, disk, broker, sensors, lock boards. Moves nothing unless --polarity is said.

    Exits with 1 where something is wrong.
    """
    from agents.doctor import Doctor
    from agents.doctor_report import sound
    from edge.system_clock import SystemClock

    if polarity and json:
        raise typer.BadParameter("a person has to answer, so not with --json", param_hint="--polarity")
    found = asyncio.run(_examine(Doctor(config, SystemClock()), polarity=polarity, door=door, json=json))
    sys.exit(0 if sound(found) else 1)


async def _examine(patient: Doctor, *, polarity: bool, door: str | None, json: bool) -> list[Finding]:
    found = []
    async for finding in patient.examine(lambda heard: _progress(heard.address)):
        _tell(finding, json=json)
        found.append(finding)
    if not polarity:
        return found
    async for finding, change in patient.calibrate(_ask, door):
        _tell(finding, json=json)
        found.append(finding)
        if change is None:
            continue
        if await _ask(f"Write {change.option} = {change.value} for board {change.board} into {patient.config}?"):
            patient.write(change)
            found.remove(finding)
    return found


def _progress(board: int) -> None:
    if sys.stderr.isatty():
        typer.echo(f"\r\033[K... address {board}\r", nl=False, err=True)


def _tell(finding: Finding, *, json: bool) -> None:
    if sys.stderr.isatty():
        typer.echo("\033[K", nl=False, err=True)
    typer.echo(msgspec.json.encode(finding).decode() if json else finding.line())


async def _ask(question: str) -> bool:
    return await asyncio.to_thread(typer.confirm, question)
