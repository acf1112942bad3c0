"""``lastmile simulate fleet``: runs a fleet, says how it stands once a second, and leaves its own count behind."""

from __future__ import annotations

import asyncio
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec

from agents.fleet_site import CONSUMER, FleetSite
from cloud_sync.fleet_sim import Fleet, FleetSettings, Standing, names
from edge import log
from edge.errors import ConfigError
from edge.keys_file import read_signing_key
from edge.system_clock import SystemClock

SAY_EVERY_S = 1.0
FILES_BESIDE = 256
"""Open files that the process needs beside one connection for each node."""


class FleetChoice(msgspec.Struct, frozen=True):
    """What a person asked for."""

    nodes: int
    host: str
    port: int
    events_per_minute: float
    ramp_s: float
    repeat_s: float


async def run_fleet(directory: Path, choice: FleetChoice, say: Callable[[Standing], None]) -> None:
    """Run until SIGTERM or Ctrl-C; SIGUSR1 has the nodes tell nothing new. Raises ``ConfigError``."""
    site = FleetSite(directory)
    if not site.certificates.is_dir():
        raise ConfigError(f"{directory} holds no fleet", remedy="make one there with --make")
    _raise_limit(choice.nodes + FILES_BESIDE)
    # Thousands of connections that are lost at once would be as many lines; the standing tells it.
    log.configure(level="error")
    settings = FleetSettings(
        host=choice.host,
        port=choice.port,
        tenant=site.tenant,
        names=tuple(names(choice.nodes)),
        certificates=site.certificates,
        consumer=CONSUMER,
        events_per_minute=choice.events_per_minute,
        ramp_s=choice.ramp_s,
        repeat_s=choice.repeat_s,
    )
    fleet = Fleet(settings, read_signing_key(site.key("role.pem")), site.issuers(), SystemClock())
    loop, running = asyncio.get_running_loop(), asyncio.ensure_future(fleet.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    loop.add_signal_handler(signal.SIGUSR1, fleet.hush)
    while not running.done():
        say(fleet.standing)
        await asyncio.wait([running], timeout=SAY_EVERY_S)
    site.produced.write_bytes(msgspec.json.encode(fleet.produced()))
    if not running.cancelled():
        running.result()


def _raise_limit(wanted: int) -> None:
    """Raises ``ConfigError`` when the system allows fewer open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise ConfigError(f"{wanted} open files are needed, {hard} allowed", remedy="raise `ulimit -n` for this user")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
