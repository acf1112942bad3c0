"""What a node's two processes keep resident after pickups without end, in the environment that the unit gives them.

The boards are simulated, the broker is the machine's mosquitto on the loopback and without TLS. A courier and a
customer take turns at the kiosk, and a page that never rests asks for the doors in between.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from agents.demo_broker import choose_broker
from agents.demo_world import SealedCode, World
from agents.site import Site
from benchmarks._report import Figure, report

UNIT = Path(__file__).parents[1] / "systemd" / "lastmile-locker.service"
GOALS = {"locker": 80.0, "cloud-sync": 40.0}
CLOSE_AFTER_MS = 1500.0
"""A person in a hurry; an opening is believed half a second after its pulse."""
ACCEPTED = 202
WAIT = 429
OVER = {"ended", "jammed", "unknown"}
"""A session that needs nothing more, or somebody who is not here: on a busy machine a door may shut unseen."""


class Street:
    """Who stands before the locker."""

    def __init__(self, world: World) -> None:
        self._world = world

    def serve(self, booking: str) -> None:
        """One parcel in and out again."""
        courier = self._world.courier
        self._at_the_door("/api/deposit", {"badge": courier.badge, "pin": courier.pin, "booking": booking, "size": "S"})
        code: SealedCode = self._world.until("the code", lambda: self._world.codes().get(booking))
        self._at_the_door("/api/collect", {"code": code.code})

    def _at_the_door(self, path: str, body: dict[str, Any]) -> None:
        kiosk = self._world.kiosk
        status, answer = kiosk.call("POST", path, body)
        while status == WAIT:  # the kiosk paces who comes again at once
            time.sleep(float(answer["retry_after"]))
            status, answer = kiosk.call("POST", path, body)
        if status != ACCEPTED:
            raise RuntimeError(f"{path} answered {status} {answer}")
        session = f"/api/sessions/{answer['session']}"

        def over() -> str | None:
            kiosk.call("GET", "/api/doors")
            state = str(kiosk.call("GET", session)[1].get("state"))
            return state if state in OVER else None

        self._world.until("the end of the session", over)


def environment() -> dict[str, str]:
    """What the role agent's unit sets."""
    lines = [line.removeprefix("Environment=") for line in UNIT.read_text().splitlines() if line[:12] == "Environment="]
    return dict(line.split("=", 1) for line in lines)


def resident(world: World, name: str) -> float:
    """MB of a process that the kernel holds in memory, the pages that it shares with others among them."""
    lines = Path(f"/proc/{world.pid(name)}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) * 1024 / 1e6


def measure(folder: Path, seconds: float) -> list[Figure]:
    world = World(Site(folder), choose_broker("mosquitto", folder), close_after_ms=CLOSE_AFTER_MS)
    (folder / "logs").mkdir()
    os.environ |= environment()
    try:
        world.start()
        street, end = Street(world), time.monotonic() + seconds
        for turn in itertools.count():
            if time.monotonic() >= end:
                break
            street.serve(f"parcel-{turn}")
        return [
            Figure(f"resident after {seconds:.0f} s of pickups, {name}", resident(world, name), "MB", None, None, goal)
            for name, goal in GOALS.items()
        ]
    finally:
        world.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under 50 s")
    parser.add_argument("--json", action="store_true", help="no table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        report(measure(Path(folder), 20.0 if arguments.quick else 600.0), arguments)


if __name__ == "__main__":
    main()
