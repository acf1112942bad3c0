"""Simulated lock boards as a process of their own, and the driver at the other end of their pseudo-terminal."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from edge.serial_asyncio import SerialPort
from edge.system_clock import SystemClock
from locker.board import BusTiming
from locker.board_serial import SerialBoards
from locker.boards.kerong import Codec, Wiring
from locker.latch import Hook, Reading
from locker.sim_control_socket import SimControl
from locker.witness_file import read_witness

ROOT = Path(__file__).parents[2]

QUICK = BusTiming(answer=1.0, late=0.05, settle=0.02)
"""For boards whose coils are driven for 20 ms. The time for an answer leaves room for a busy machine."""

IMPATIENT = BusTiming(answer=0.05, late=0.02, settle=0.02)
"""Where no answer is to come."""

SHUT = (Reading(Hook.CLOSED),) * 16
UNKNOWN = (Reading(Hook.UNKNOWN),) * 16

PROCESS = """
import asyncio, contextlib, json, sys
from pathlib import Path
from locker.kerong_sim import SimConfig, run_board_simulator
given = json.loads(sys.argv[1])
paths = {name: Path(given.pop(name)) for name in ("link", "control", "log")}
with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(run_board_simulator(SimConfig(**paths, **given)))
"""


@dataclasses.dataclass(frozen=True)
class Rig:
    """A running simulator: its port, a hand inside, and its log."""

    link: Path
    control: SimControl
    log: Path

    def witnessed(self, what: str) -> list[tuple[object, object]]:
        """Board and lock of everything of that name the simulator has logged, in order."""
        return [(line.get("board"), line.get("lock")) for line in read_witness(self.log) if line["what"] == what]

    @contextlib.asynccontextmanager
    async def boards(
        self, *wirings: Wiring, timing: BusTiming = QUICK, baud: int = 19200
    ) -> AsyncIterator[SerialBoards]:
        """The driver on this simulator's port, boards by their addresses; board 0 alone where none is named."""
        clock = SystemClock()
        port = SerialPort(str(self.link), baud=baud, clock=clock)
        try:
            yield SerialBoards(port, clock, Codec({each.address: each for each in wirings or (Wiring(0),)}), timing)
        finally:
            port.close()


@contextlib.contextmanager
def simulated_boards(**config: object) -> Iterator[Rig]:
    """A simulator process with ``SimConfig``'s settings; coils are driven for 20 ms unless told otherwise."""
    with tempfile.TemporaryDirectory(prefix="lm-") as place:
        folder = Path(place)
        paths = {name: str(folder / name) for name in ("link", "control", "log")}
        arguments = json.dumps({"coil_ms": 20, **paths, **config})
        with (
            subprocess.Popen([sys.executable, "-c", PROCESS, arguments], cwd=ROOT, env=os.environ) as process,
            SimControl(paths["control"]) as control,
        ):
            try:
                control.call("doors")
                yield Rig(folder / "link", control, folder / "log")
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(10)
