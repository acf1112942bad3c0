"""``lastmile demo``: a whole locker on this machine, to be used by hand or to play its story by itself."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from agents.demo_broker import choose_broker
from agents.demo_story import Outcome, Story, as_json
from agents.demo_world import World
from agents.site import Site
from edge.errors import LastmileError

CLOSE_AFTER_MS = 6000.0
"""By hand nobody can push a simulated door shut, so a simulated person does."""
LOOK_S = 0.5


def run_demo(*, once: bool, json: bool, directory: Path | None, broker: str) -> int:
    """Returns the exit code: 0 when everything went as promised."""
    console = Console(stderr=json, highlight=False)
    if directory is not None:
        return _demo(directory.resolve(), console, once=once, print_json=json, broker=broker)
    with tempfile.TemporaryDirectory(prefix="lastmile-") as temporary:
        return _demo(Path(temporary), console, once=once, print_json=json, broker=broker)


def _demo(directory: Path, console: Console, *, once: bool, print_json: bool, broker: str) -> int:
    (directory / "logs").mkdir(parents=True, exist_ok=True)
    world = World(Site(directory), choose_broker(broker, directory), close_after_ms=None if once else CLOSE_AFTER_MS)
    try:
        console.print(f"broker    {world.broker.name}, MQTT {world.broker.protocol}, 127.0.0.1:{world.broker.port}")
        world.start()
        if once:
            return _once(world, console, print_json=print_json)
        return _by_hand(world, console)
    except KeyboardInterrupt:
        return 0
    finally:
        world.stop()


def _once(world: World, console: Console, *, print_json: bool) -> int:
    began = time.monotonic()
    story = Story(world, console.print)
    try:
        outcome = story.play()
    except LastmileError as error:
        console.print(f"FAULT     {error}")
        outcome = Outcome({}, (*story.faults, str(error)))
    for name, count in outcome.counts.items():
        console.print(f"{count:>8}  {name.replace('_', ' ')}")
    verdict = "every promise held" if outcome.ok else f"{len(outcome.faults)} fault(s)"
    console.print(f"{verdict}, {time.monotonic() - began:.1f} s")
    if print_json:
        sys.stdout.write(as_json(outcome) + "\n")
    return 0 if outcome.ok else 1


def _by_hand(world: World, console: Console) -> int:
    console.print(
        f"\nkiosk     {world.kiosk.url()}\nfiles     {world.site.directory}\n\n"
        "A courier's badge and PIN, to be typed under “Courier”:\n"
        f"badge     {world.courier.badge}\nPIN       {world.courier.pin}\n\n"
        "A service badge and its PIN:\n"
        f"badge     {world.service.badge}\nPIN       {world.service.pin}\n\n"
        f"Staff     lastmile command open {world.site.node} 16 --as {world.site.issuer_toml}\n\n"
        "Doors close by themselves after 6 s. All processes share one user here: the isolation between them is off.\n"
        "Messages to customers appear below; Ctrl-C ends the demo.\n",
        soft_wrap=True,
    )
    told: set[str] = set()
    while True:
        for parcel, code in world.codes().items():
            if parcel not in told:
                told.add(parcel)
                digits = " ".join(code.code[at : at + 3] for at in range(0, len(code.code), 3))
                console.print(f"message   your parcel {parcel} is here. Code {digits}, if asked also {code.extension}.")
        time.sleep(LOOK_S)
