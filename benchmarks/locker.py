"""A pickup as its customer lives it, and how often a courier finds no room.

The first half drives the product's own processes: a code is posted to the kiosk's API, the simulated lock lets its door
go after 300 ms, and the simulator's log says when it was open. The second half is months of days at a cabinet of 75
compartments (``_cells.py``).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from agents.demo_broker import choose_broker
from agents.demo_world import World
from agents.site import Site
from benchmarks._cells import Plan, share_without, strict
from benchmarks._report import Figure, report
from benchmarks.memory import environment, resident

LOCK_MS = 300.0
"""From the coil's first current until the door stands open: a slow motor lock, or a spring that is tired."""
CLOSE_AFTER_MS = 900.0
ACCEPTED, WAIT = 202, 429
OVER = {"ended"}
BEST = {35: 0.47, 45: 3.74}
"""Per cent without a compartment, the best figure known for the same assumptions, by parcels a day."""


class Visits:
    """A courier and a customer, in turns."""

    def __init__(self, world: World) -> None:
        self._world = world

    def pickup(self, booking: str) -> tuple[float, float]:
        """Seconds from the code until the door stood open, and until the screen was told so."""
        courier = self._world.courier
        body = {"badge": courier.badge, "pin": courier.pin, "booking": booking, "size": "S"}
        self._until_over(self._ask("/api/deposit", body))
        code = self._world.until("the code", lambda: self._world.codes().get(booking))
        asked = time.monotonic()
        answer = self._ask("/api/collect", {"code": code.code})
        shown = self._until_state(answer, {"open"}) - asked
        self._until_over(answer)
        lock = int(answer["door"]) - 1
        opened = [each["t"] for each in self._world.witness() if each["what"] == "opened" and each["lock"] == lock]
        return opened[-1] - asked, shown

    def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        while True:
            status, answer = self._world.kiosk.call("POST", path, body)
            if status == ACCEPTED:
                return answer
            if status != WAIT:
                raise RuntimeError(f"{path} answered {status} {answer}")
            time.sleep(float(answer["retry_after"]))

    def _until_over(self, answer: dict[str, Any]) -> None:
        self._until_state(answer, OVER)

    def _until_state(self, answer: dict[str, Any], states: set[str]) -> float:
        path = f"/api/sessions/{answer['session']}"

        def there() -> float | None:
            return time.monotonic() if self._world.kiosk.call("GET", path)[1].get("state") in states else None

        return self._world.until(f"{states} of {answer}", there)


def pickups(folder: Path, count: int) -> list[Figure]:
    """Code to open door, on processes of the product."""
    world = World(Site(folder), choose_broker("mosquitto", folder), close_after_ms=CLOSE_AFTER_MS)
    (folder / "logs").mkdir()
    world.start()
    try:
        for lock in range(12):
            world.board.call("fault", kind="slow_door", board=0, lock=lock, ms=LOCK_MS - 5.0)
        visits = Visits(world)
        measured = [visits.pickup(f"b-{number}") for number in range(count)]
        rss = resident(world, "locker")
    finally:
        world.stop()
    opened, shown = zip(*measured, strict=True)
    return [
        Figure("code to open door, p50", statistics.median(opened), "s", None, None),
        Figure("code to open door, p95", _p95(opened), "s", None, None, goal=1.0),
        Figure('code to "open" on the screen, p95', _p95(shown), "s", None, None),
        Figure("role agent, resident", rss, "MB", None, None, goal=80.0),
    ]


def rooms(seeds: int, days: int) -> list[Figure]:
    """Parcels that find no compartment, beside a locker that knows one size only."""
    figures = []
    for parcels, best in BEST.items():
        plain = share_without(Plan(parcels, choose=strict), seeds, days)
        upgraded = share_without(Plan(parcels), seeds, days)
        twice = share_without(Plan(parcels, hours=(9.0, 17.0), again=True), seeds, days)
        figures += [
            Figure(f"no room, {parcels} a day, one round", upgraded, "%", plain, upgraded / plain),
            Figure(f"no room, {parcels} a day, two rounds, once more", twice, "%", None, None, goal=best),
        ]
    return figures


def _p95(values: tuple[float, ...]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer pickups and shorter months")
    parser.add_argument("--json", action="store_true", help="only the line for machines")
    arguments = parser.parse_args()
    os.environ |= environment()
    with tempfile.TemporaryDirectory() as folder:
        figures = pickups(Path(folder), 8 if arguments.quick else 60)
    figures += rooms(2, 120) if arguments.quick else rooms(8, 400)
    report(figures, arguments)


if __name__ == "__main__":
    main()
