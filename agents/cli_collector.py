"""``lastmile collector``: a consumer's store, its schema, its figures, and nodes that move between stores."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="A collector's store: schema, figures, nodes that move.")

File = Annotated[Path, typer.Argument(help="collector.toml")]
Nodes = Annotated[list[str] | None, typer.Option("--node", help="tenant_name (repeat); all of the file without it.")]


@app.command()
def migrate(config: File) -> None:
    """Bring the store's schema to this release's. With the workers stopped; the data stays."""
    from agents.collector_tools import migrate_store

    typer.echo(migrate_store(config))


@app.command()
def figures(config: File, node: Nodes = None) -> None:
    """What waits and what lacks: of all nodes together, or of those named."""
    from agents.collector_tools import store_figures

    for line in asyncio.run(store_figures(config, node or [])):
        typer.echo(line)


@app.command()
def move(
    old: Annotated[Path, typer.Argument(metavar="FROM", help="collector.toml of the store that has the nodes now.")],
    new: Annotated[Path, typer.Argument(metavar="TO", help="collector.toml of the store that keeps them from now on.")],
    node: Nodes = None,
    *,
    purge: Annotated[bool, typer.Option("--purge", help="Delete the events in FROM, once they have moved.")] = False,
) -> None:
    """Move nodes between stores: copied, the chain verified, then acknowledged onward by TO. May be repeated."""
    from agents.collector_tools import move_nodes

    sys.exit(0 if asyncio.run(move_nodes(old, new, node or [], purge=purge)) else 1)
