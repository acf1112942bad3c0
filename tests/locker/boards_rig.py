"""Simulated lock boards as a process of their own, and the driver at the other end of their pseudo-terminal."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from edge.serial_asyncio import SerialPort
from edge.system_clock import SystemClock
from locker.bench_sim import Bench, BenchConfig, Electronics
from locker.board import BusCodec, BusTiming
from locker.board_serial import SerialBoards
from locker.boards.kerong import Codec, Wiring
from locker.hands_sim import Hands, benched
from locker.latch import Hook, Reading
from locker.sim_control_socket import Answer, SimControl
from locker.witness_file import read_witness

ROOT = Path(__file__).parents[2]

QUICK = BusTiming(answer=1.0, late=0.05, settle=0.02)
"""For boards whose coils are driven for 20 ms. The time for an answer leaves room for a busy machine."""

IMPATIENT = BusTiming(answer=0.05, late=0.02, settle=0.02)
"""Where no answer is to come."""

SHUT = (Reading(Hook.CLOSED),) * 16
UNKNOWN = (Reading(Hook.UNKNOWN),) * 16

PROCESS = """
import asyncio, contextlib, importlib, json, sys
from pathlib import Path
family = importlib.import_module(sys.argv[1])
given = json.loads(sys.argv[2])
paths = {name: Path(given.pop(name)) for name in ("link", "control", "log")}
with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(family.run_board_simulator(family.SimConfig(**paths, **given)))
"""


@dataclasses.dataclass(frozen=True)
class Bus:
    """A simulator's port and its log."""

    link: Path
    log: Path

    def witnessed(self, what: str) -> list[tuple[object, object]]:
        """Board and lock of everything of that name the simulator has logged, in order."""
        return [(line.get("board"), line.get("lock")) for line in read_witness(self.log) if line["what"] == what]

    @contextlib.asynccontextmanager
    async def bus(self, codec: BusCodec, timing: BusTiming = QUICK, baud: int = 9600) -> AsyncIterator[SerialBoards]:
        """Any driver on this port."""
        clock = SystemClock()
        port = SerialPort(str(self.link), baud=baud, clock=clock)
        try:
            yield SerialBoards(port, clock, codec, timing)
        finally:
            port.close()


@dataclasses.dataclass(frozen=True)
class Rig(Bus):
    """A simulator in a process of its own, and a hand inside."""

    control: SimControl

    @contextlib.asynccontextmanager
    async def boards(
        self, *wirings: Wiring, timing: BusTiming = QUICK, baud: int = 19200
    ) -> AsyncIterator[SerialBoards]:
        """Kerong's driver on this simulator's port, boards by their addresses; board 0 alone where none is named."""
        async with self.bus(Codec({each.address: each for each in wirings or (Wiring(0),)}), timing, baud) as boards:
            yield boards


@dataclasses.dataclass(frozen=True)
class NearRig(Bus):
    """A simulator in the test's own event loop, which starts in no time, and a hand inside."""

    hands: Hands

    async def call(self, do: str, **given: object) -> Answer:
        """As ``SimControl.call``."""
        return await self.hands.handle({"do": do, **given})

    async def happens(self, what: str, board: int, lock: int | None = None, count: int = 1) -> None:
        """As ``SimControl.wait``."""
        await asyncio.wait_for(self.call("wait", what=what, board=board, lock=lock, count=count), 10)

    async def asked(self, *frames: str, size: int = 0, seconds: float = 5.0) -> list[bytes]:
        """What comes back for each frame, by bytes alone: ``size`` of them, or fewer at the end of ``seconds``."""
        port = SerialPort(str(self.link), baud=9600, clock=SystemClock())
        try:
            return [await self._one_asked(port, bytes.fromhex(frame), size, seconds) for frame in frames]
        finally:
            port.close()

    async def _one_asked(self, port: SerialPort, frame: bytes, size: int, seconds: float) -> bytes:
        await port.write(frame)
        got, end = b"", asyncio.get_running_loop().time() + seconds
        while len(got) < size and (left := end - asyncio.get_running_loop().time()) > 0:
            got += await port.read(left)
        return got


@contextlib.asynccontextmanager
async def near(config: BenchConfig, electronics: Callable[[Bench], Electronics]) -> AsyncIterator[NearRig]:
    """A simulator in this event loop."""
    async with benched(config, electronics) as hands:
        yield NearRig(config.link, config.log, hands)


@contextlib.contextmanager
def simulated_boards(family: str = "locker.kerong_sim", **config: object) -> Iterator[Rig]:
    """A simulator process with its family's settings; coils are driven for 20 ms unless told otherwise."""
    with tempfile.TemporaryDirectory(prefix="lm-") as place:
        folder = Path(place)
        paths = {name: str(folder / name) for name in ("link", "control", "log")}
        arguments = json.dumps({"coil_ms": 20, **paths, **config})
        with (
            subprocess.Popen([sys.executable, "-c", PROCESS, family, arguments], cwd=ROOT, env=os.environ) as process,
            SimControl(paths["control"]) as control,
        ):
            try:
                control.call("doors")
                yield Rig(folder / "link", folder / "log", control)
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(10)
