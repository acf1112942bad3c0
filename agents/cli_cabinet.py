"""``lastmile cabinet``: the front of a locker, as a list becomes it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

cabinet = typer.Typer(no_args_is_help=True, help="The cabinet of a locker, as its configuration tells it.")


@cabinet.callback()
def group() -> None:
    """Keeps ``import`` a sub-command although it is the only one."""


@cabinet.command("import")
def import_table(
    table: Annotated[
        Path, typer.Argument(help="CSV with the columns door, column, size, board, lock; row, height_mm, handle_mm.")
    ],
    *,
    first_lock: Annotated[
        int | None, typer.Option(min=0, max=1, help="A board's first lock in the list; 0 where it has a lock 0.")
    ] = None,
    rows_from: Annotated[
        Literal["floor", "top"], typer.Option(help="Where a column's doors begin in the list.")
    ] = "floor",
    base_mm: Annotated[int, typer.Option(min=0, max=4000, help="From the floor to the lowest door.")] = 150,
    column_mm: Annotated[int, typer.Option(min=1, max=4000, help="Width of a column.")] = 450,
) -> None:
    """Print [locker.cabinet] for node.toml, made of a list of doors."""
    from agents.cabinet_table import Faults, as_toml, read_table
    from edge.settings_file import read_text

    try:
        entries = read_table(read_text(table), source=str(table), first_lock=first_lock)
    except Faults as faults:
        for line in faults.lines:
            typer.echo(line, err=True)
        sys.exit(1)
    typer.echo(as_toml(entries, base_mm=base_mm, column_mm=column_mm, rows_from=rows_from), nl=False)
