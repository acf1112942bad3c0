"""A process that has imported everything and forks the real locker agent for one life after another.

One JSON line in: ``boundary``, ``nth``, ``armed``. Out: the child's process id and, at its end, its exit
status, a line each.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

import edge.journal
import edge.journal_upkeep_asyncio
import locker.cabinet_asyncio
import locker.joined_asyncio
from agents import locker as _agent  # noqa: F401  what a life needs is imported before it is forked
from agents import processes
from locker.board import BusTiming
from locker.boards import kerong
from locker.cabinet_asyncio import Cabinet
from locker.door_times import DoorTimes
from tests.crash.boundaries import Trap

TIMES = DoorTimes(debounce=0.01, no_change=0.2, pulse_gap=0.45, coil=0.02)
"""The simulated doors of this suite open 7 ms after their pulse, and their coils are driven for 10 ms."""
BUS = BusTiming(answer=0.08, late=0.02, settle=0.005)
"""A pty has no latency timer."""
COIL_MS = 30
"""Their coils are cool after that."""


def hurry() -> None:
    """Give the doors, the bus and the seals less time; who waits for what stays as it is."""
    begin = Cabinet.__init__

    def begin_quickly(cabinet: Cabinet, *given: Any, **named: Any) -> None:
        begin(cabinet, *given, **{**named, "times": TIMES})

    Cabinet.__init__ = begin_quickly  # type: ignore[assignment,method-assign]
    kerong.DRIVER = dataclasses.replace(kerong.DRIVER, timing=BUS, codec=_quick_coils)  # type: ignore[misc]
    locker.joined_asyncio.COIL_MARGIN = 0.0  # type: ignore[misc]
    locker.cabinet_asyncio.IDLE_POLL_S = 0.02
    locker.cabinet_asyncio.BUSY_POLL_S = 0.01
    edge.journal.SEAL_AFTER_S = 0.2
    edge.journal_upkeep_asyncio.TICK_S = 0.05


def _quick_coils(wirings: Mapping[int, kerong.Wiring]) -> kerong.Codec:
    return kerong.Codec({board: msgspec.structs.replace(each, coil_ms=COIL_MS) for board, each in wirings.items()})


def preload() -> None:
    """Modules that uvicorn imports by name when it begins to serve."""
    for name in ("uvicorn.lifespan.off", "uvicorn.loops.auto", "uvicorn.protocols.http.h11_impl"):
        importlib.import_module(name)


def live(config: Path, log: Path, plan: dict[str, Any]) -> None:
    """The child: be the locker agent until killed."""
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(out, number)
    Trap(plan["boundary"], plan["nth"], armed=plan["armed"]).lay()
    processes.run("locker", config)


def main(config: Path, log: Path, mutant: str) -> None:
    preload()
    hurry()
    if mutant:
        importlib.import_module(f"tests.mutants.{mutant}").apply()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.close(0)
            live(config, log, json.loads(line))
            os._exit(0)
        _say(child)
        _, status = os.waitpid(child, 0)
        _say(os.waitstatus_to_exitcode(status))


def _say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "")
