"""``lastmile simulate fleet``."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer


def fleet(
    directory: Annotated[Path, typer.Argument(help="Where certificates, keys and configurations of the fleet lie.")],
    *,
    nodes: Annotated[int, typer.Option(min=1, max=100_000, help="How many.")] = 500,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Of the broker, on the loopback.")] = 8883,
    make: Annotated[bool, typer.Option("--make", help="Make the directory's contents, and end.")] = False,
    events_per_minute: Annotated[float, typer.Option(min=0.0, max=6000.0, help="Told by each node.")] = 1.0,
    ramp: Annotated[float, typer.Option(min=0.0, help="Seconds over which the nodes start.")] = 10.0,
    repeat: Annotated[
        float, typer.Option(min=1.0, help="Seconds without a receipt after which events go again.")
    ] = 30.0,
    json: Annotated[bool, typer.Option("--json", help="Say how the fleet stands as JSON, one line a second.")] = False,
) -> None:
    """Simulated nodes that run the product's own cloud-sync over mutual TLS.

    With --make also writes a broker's and a collector's configuration beside them: start `mosquitto -c
    DIRECTORY/mosquitto.conf`, `lastmile run collector --config DIRECTORY/collector.toml`, then this. Ctrl-C ends it and
    leaves DIRECTORY/produced.json, what each node told; SIGUSR1 has them tell nothing new.
    """
    import msgspec
    from rich.console import Console

    from agents.fleet import FleetChoice, run_fleet
    from agents.fleet_site import FleetSite, make_fleet
    from cloud_sync.fleet_sim import Standing

    console = Console(highlight=False)
    if make:
        with console.status("making certificates") as status:
            for line in make_fleet(FleetSite(directory), nodes=nodes, port=port, wall=time.time()):
                status.update(line)
        console.print(line, soft_wrap=True)
        return

    def say(standing: Standing) -> None:
        if json:
            typer.echo(msgspec.json.encode(standing).decode())
        else:
            told = f"{standing.acked} of {standing.produced} events held"
            console.print(f"{standing.online} of {standing.nodes} online, {told}, {standing.handshakes} handshakes")

    choice = FleetChoice(nodes, "127.0.0.1", port, events_per_minute, ramp, repeat)
    asyncio.run(run_fleet(directory, choice, say))
