"""The ``lastmile`` command. Each sub-command reads its file, calls one function and says what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from agents import cli_collector
from agents.cli_cabinet import cabinet
from agents.cli_command import command
from agents.cli_doctor import doctor
from agents.cli_enrol import enrol
from agents.cli_fleet import fleet
from agents.cli_gpio import gpio
from agents.cli_identity import identity
from agents.cli_issuer import issuer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Edge software for parcel lockers, delivery vehicles and the hub that feeds them.",
)
simulate = typer.Typer(no_args_is_help=True, help="Simulated hardware that speaks the real bytes.")
journal = typer.Typer(no_args_is_help=True, help="Read and verify a node's journal.")
app.add_typer(simulate, name="simulate")
simulate.command("fleet")(fleet)
app.command("doctor")(doctor)
simulate.command("gpio")(gpio)
app.add_typer(issuer, name="issuer")
app.add_typer(command, name="command")
app.add_typer(cabinet, name="cabinet")
app.add_typer(journal, name="journal")
app.add_typer(identity, name="identity")
app.add_typer(enrol, name="enrol")
app.add_typer(cli_collector.app, name="collector")

BOARD_SIMULATORS = {
    "0x8a": "locker.x8a_sim",
    "kerong": "locker.kerong_sim",
    "modbus-relay": "locker.modbus_relay_sim",
    "wkly": "locker.wkly_sim",
}
"""Each has a ``SimConfig`` and a ``run_board_simulator``; imported when it is asked for."""

Database = Annotated[Path, typer.Argument(help="The node's state.db; it is only read.")]


@app.command()
def asyncapi(
    schemas: Annotated[
        Path | None, typer.Option(help="Also write a JSON Schema for each event and command below this directory.")
    ] = None,
) -> None:
    """Print the MQTT contract as an AsyncAPI 3 document."""
    from agents.contract_document import as_yaml, asyncapi, write_schemas

    typer.echo(as_yaml(asyncapi()), nl=False)
    if schemas is not None:
        typer.echo(f"{write_schemas(schemas)} schemas below {schemas}", err=True)


def _run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run ``work`` until it ends, or until SIGTERM or Ctrl-C ends it in order."""

    async def until_told() -> None:
        task = asyncio.ensure_future(work())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(until_told())


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(context: typer.Context) -> None:
    """Run one process until it is told to stop."""
    from agents import processes

    processes.main(context.args)  # listed here; ``agents.__main__`` takes the shorter way


@app.command()
def check(config: Annotated[Path, typer.Argument(help="A node's TOML file.")]) -> None:
    """Read a node's configuration and say what is wrong, and where."""
    from agents.check import check_node

    for line in check_node(config, time.time()):
        typer.echo(line)


@app.command()
def demo(
    *,
    once: Annotated[bool, typer.Option("--once", help="Play the whole story by itself and end.")] = False,
    json: Annotated[bool, typer.Option("--json", help="End with one JSON object of the counts.")] = False,
    directory: Annotated[Path | None, typer.Option("--dir", help="Where to keep the demo's files.")] = None,
    broker: Annotated[
        Literal["auto", "mosquitto", "in-process"], typer.Option(help="auto takes mosquitto where it is installed.")
    ] = "auto",
) -> None:
    """A whole locker on this machine: simulated board, broker, agents, collector, kiosk."""
    from agents.demo import run_demo

    sys.exit(run_demo(once=once, json=json, directory=directory, broker=broker))


@simulate.command("lock-board")
def lock_board(
    link: Annotated[Path, typer.Option(help="Symlink to the simulated serial port.")],
    control: Annotated[Path, typer.Option(help="Unix socket through which doors and faults are moved.")],
    log: Annotated[Path, typer.Option(help="JSON lines of what physically happened.")],
    kind: Annotated[
        Literal["0x8a", "kerong", "modbus-relay", "wkly"], typer.Option(help="Whose bytes they speak.")
    ] = "kerong",
    boards: Annotated[int, typer.Option(min=1, help="On the bus, from the family's first address on.")] = 1,
    locks: Annotated[int | None, typer.Option(min=1, help="Of each; by itself what such a board has.")] = None,
    close_after_ms: Annotated[float | None, typer.Option(help="A person shuts each door so long after.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
) -> None:
    """Lock boards with their locks and doors, on a pseudo-terminal."""
    family = importlib.import_module(BOARD_SIMULATORS[kind])
    paths = {"link": link, "control": control, "log": log}
    more = {} if locks is None else {"locks": locks}
    config = family.SimConfig(**paths, boards=boards, close_after_ms=close_after_ms, seed=seed, **more)
    _run(lambda: family.run_board_simulator(config, lambda: typer.echo(f"lock board on {link}")))


@journal.command("tail")
def journal_tail(
    database: Database, count: Annotated[int, typer.Option("-n", min=1, max=10_000, help="How many.")] = 20
) -> None:
    """The last events, one a line."""
    from agents.journal_view import tail

    for line in tail(database, count):
        typer.echo(line)


@journal.command("verify")
def journal_verify(
    database: Database,
    role_key: Annotated[Path, typer.Option("--role-key", help="The node's public role key.")],
) -> None:
    """Check the whole audit chain and every seal. Exit 0 only when nothing is missing or changed."""
    from agents.journal_view import verify

    verdict = verify(database, role_key)
    for line in verdict.lines:
        typer.echo(line)
    sys.exit(0 if verdict.sound else 1)
