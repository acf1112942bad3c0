"""The whole run, as root in namespaces of its own: a node under its units, hostile code beside it, pickups timed.

Prints one JSON object; ``test_isolation.py`` judges it. ``python -m tests.isolation.scenario DIRECTORY``
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from agents.journal_view import verify
from tests.isolation import stage
from tests.isolation.node import Node, Talker
from tests.isolation.stage import HEALTH, KIOSK_PORT, LINK, STORE, TOKEN, Units
from tests.isolation.unit_file import Unit

ATTACKS = (
    "garbage garbage storm storm",
    "pulls links offers",
    "helds stall idle",
    "burn burn pulls hellos storm",
)
"""What is done at once, one line after the other, calm between them. The role agent takes four connections in all, of
which the true cloud-sync has one: so three at most of those that keep theirs."""
CALM, ATTACKED = 2, 5
"""Pickups before each attack, and under it."""
NOTHING: dict[str, Any] = {
    "files": [],
    "directories": [],
    "replace": [],
    "pid": 0,
    "socket": str(LINK),
    "port": 0,
    "token": "",
}
"""What ``reach`` is told when there is only the socket to try."""
REST_S = 0.5
"""Before each pickup: by then no coil is driven, whose end the next pulse would wait for, and the attack stands."""


def main() -> None:
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # the checkout may be another user's
    units = stage.read_units()
    disk = Path(sys.argv[1])
    with contextlib.ExitStack() as ends:
        ends.callback(shutil.rmtree, disk / "lib")
        stage.build(disk, units)
        os.chdir(stage.ROOT)
        node = Node(units, ends)
        node.start()
        report: dict[str, Any] = {"rights": {name: rights(node.find(unit)) for name, unit in two_users(units)}}
        with ThreadPoolExecutor(1) as courier:
            depositing = courier.submit(node.deposit, len(ATTACKS) * (CALM + ATTACKED))
            report["reached"] = reaching(node, units)
            codes = depositing.result()
        report |= timed(node, units, codes)
        report["caught_up"] = node.collector_catches_up()
        report["answered"] = reach(units.sync, NOTHING)["be answered on the socket"]
        report["same_process"] = node.role_pid == node.find(units.role)
        node.stop("cloud-sync")
        node.stop("locker")
        report["journal"] = verify(STORE / "state.db", node.office.key("role.jwk")).lines
        report["opened"] = Counter(node.opened())
        report["asked_for"] = Counter(node.asked_for)
    sys.stdout.write(json.dumps(report))


def two_users(units: Units) -> tuple[tuple[str, Unit], ...]:
    return ("role", units.role), ("sync", units.sync)


def rights(pid: int) -> dict[str, str]:
    """What the kernel says that a process may do."""
    lines = (line.partition(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    told = {name: value for name, _, value in lines if name in {"Uid", "Groups", "NoNewPrivs", "CapBnd", "Umask"}}
    return told | {"network": str(Path(f"/proc/{pid}/ns/net").readlink())}


# -- what can be reached -----------------------------------------------------------------------------------------------


def reaching(node: Node, units: Units) -> dict[str, dict[str, str]]:
    """Each variation of who tries, and what became of each try."""
    role, sync = units.role, units.sync
    alone = msgspec.structs.replace(sync, groups=())
    nobody = msgspec.structs.replace(alone, user="nobody", group="nogroup")
    linked = msgspec.structs.replace(nobody, groups=("lm-link",))
    everything = targets(node)
    hostile = everything | {"replace": [str(LINK), str(HEALTH / "role.sock")]}
    token = {"token": TOKEN.read_text().strip()}
    kiosk_only = NOTHING | {"port": KIOSK_PORT}
    return {
        "role": reach(role, everything, walls=False),
        "kiosk": reach(units.kiosk, kiosk_only | token, inside=True),
        "sync": reach(sync, hostile | {"port": KIOSK_PORT}, walls=True),
        "sync, no walls": reach(sync, hostile, walls=False),
        "sync, no walls, no groups": reach(alone, hostile, walls=False),
        "sync beside the kiosk": reach(sync, kiosk_only, inside=True),
        "nobody": reach(nobody, hostile, walls=False),
        "nobody in lm-link": reach(linked, hostile, walls=False),
    }


def targets(node: Node) -> dict[str, Any]:
    """What is the role agent's alone."""
    stored = node.until("every file of the store", stored_files)
    keys = [stage.CONFIG / "keys" / name for name in ("role.pem", "code.key")]
    return NOTHING | {
        "files": [str(path) for path in (*stored, *keys, TOKEN, node.port)],
        "directories": [str(STORE), str(LINK.parent), str(TOKEN.parent)],
        "pid": node.role_pid,
    }


def stored_files() -> list[Path] | None:
    """The database, its log, its anchor and both copies of the ledger, once all of them are there."""
    files = [path for path in STORE.iterdir() if path.is_file()]
    there = {path.suffix for path in files}
    return files if {".db", ".db-wal", ".anchor", ".ledger-a", ".ledger-b"} <= there else None


def reach(unit: Unit, told: dict[str, Any], *, walls: bool = False, inside: bool = False) -> dict[str, str]:
    program = [sys.executable, "-m", "tests.isolation.reach", json.dumps(told)]
    network = stage.NETWORK if inside else None
    done = subprocess.run(
        unit.command(program, network=network, walls=walls), umask=unit.umask, stdout=subprocess.PIPE, check=True
    )
    answers: dict[str, str] = json.loads(done.stdout)
    return answers


# -- how long a customer waits -----------------------------------------------------------------------------------------


def timed(node: Node, units: Units, codes: list[str]) -> dict[str, Any]:
    """Pickups in calm and under each attack in turn. Seconds from the page's request to the door's opening."""
    told = {"socket": str(LINK), "kids": node.listed_kids(), "node": f"{node.office.node}/{node.instance()}"}
    program = [sys.executable, "-m", "tests.isolation.flood", json.dumps(told)]
    hostile = Talker(units.sync.command(program, network=None), units.sync.umask)
    calm: list[dict[str, float]] = []
    attacked: dict[str, list[dict[str, float]]] = {}
    acts: dict[str, dict[str, int]] = {}
    try:
        for attack in ATTACKS:
            calm += stretch(node, codes, CALM)
            hostile.say(attack)
            attacked[attack] = stretch(node, codes, ATTACKED)
            acts[attack] = hostile.say("rest")
    finally:
        hostile.end()
    return {"calm": calm, "attacked": attacked, "acts": acts}


def stretch(node: Node, codes: list[str], how_many: int) -> list[dict[str, float]]:
    """Some pickups, each once the cabinet is at rest."""
    times = []
    for _ in range(how_many):
        time.sleep(REST_S)
        times.append(node.collect(codes.pop()))
    return times


if __name__ == "__main__":
    main()
