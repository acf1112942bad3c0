"""A simulated Raspberry Pi, the real pulser before it, and agents that may be killed: each a process of its own."""

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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edge.errors import DeviceBusy
from locker.gpio_wiring import GpioBoard, GpioLock
from locker.pulser_socket import PulserClient
from locker.sim_control_socket import SimControl
from locker.witness_file import read_witness

ROOT = Path(__file__).parents[2]

SIMULATOR = """
import asyncio, contextlib, json, sys
from pathlib import Path
from locker.gpio_sim import GpioSimConfig, WiredDoor, run_gpio_simulator
given = json.loads(sys.argv[1])
paths = {name: Path(given.pop(name)) for name in ("chip", "control", "log")}
doors = [WiredDoor(**door) for door in given.pop("doors", [])]
with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(run_gpio_simulator(GpioSimConfig(doors=doors, **paths, **given)))
"""

PULSER = """
import sys, msgspec
from agents.pulser import run_pulser
from edge.errors import DeviceBusy
from locker.gpio_wiring import GpioBoard
run_pulser([msgspec.json.decode(sys.argv[1], type=GpioBoard)])
"""

OFF = PULSER.replace("run_pulser", "switch_off")
"""What the unit runs after whatever ended the pulser."""

AGENT = """
import asyncio, sys
from pathlib import Path
from tests.locker.gpio_rig import drive
from locker.pulser_socket import PulserClient
async def main():
    client = PulserClient(Path(sys.argv[1]))  # kept: its end would end the pulse
    await drive(client, int(sys.argv[2]), int(sys.argv[3]))
    print("driven", flush=True)
    await asyncio.get_running_loop().create_future()
asyncio.run(main())
"""
"""An agent that has a coil driven and then does nothing until it is killed."""


async def drive(client: PulserClient, line: int, ms: int) -> None:
    """One pulse, as soon as the pulser has rested from the one before."""
    async with asyncio.timeout(5):
        while True:
            with contextlib.suppress(DeviceBusy):
                await client.pulse(line, ms)
                return
            await asyncio.sleep(0.02)


HIGH = (GpioLock(coil=17, hook=22), GpioLock(coil=27, hook=23))
DOORS = ({"coil": 17, "hook": 22}, {"coil": 27, "hook": 23})


@dataclasses.dataclass
class Pi:
    """A running simulator with a hand inside, its log, and what was started before it."""

    folder: Path
    control: SimControl
    environ: Mapping[str, str]

    @property
    def socket(self) -> Path:
        return self.folder / "pulser.sock"

    def witnessed(self, what: str) -> list[dict[str, Any]]:
        return [dict(line) for line in read_witness(self.folder / "log") if line["what"] == what]

    def driven(self) -> list[float]:
        """Seconds for which each pulse drove its coil, by the simulator's own log."""
        return [line["seconds"] for line in self.witnessed("coil_off")]

    def board(self, locks: tuple[GpioLock, ...] = HIGH, pulse_ms: int = 300) -> GpioBoard:
        return GpioBoard(locks=locks, pulse_ms=pulse_ms, pulser=str(self.socket), agent=os.getuid())

    @contextlib.contextmanager
    def running(self, script: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A process of this test; killed at the end if it still runs."""
        with subprocess.Popen(
            [sys.executable, "-c", script, *arguments], cwd=ROOT, env=self.environ, stdout=subprocess.PIPE
        ) as process:
            try:
                yield process
            finally:
                process.send_signal(signal.SIGCONT)
                process.terminate()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()


@contextlib.contextmanager
def simulated_pi(**config: object) -> Iterator[Pi]:
    """A simulator process with ``GpioSimConfig``'s settings: two doors, unless told otherwise."""
    with tempfile.TemporaryDirectory(prefix="lm-") as place:
        folder = Path(place)
        paths = {name: str(folder / name) for name in ("chip", "control", "log")}
        arguments = json.dumps({"doors": DOORS, **paths, **config})
        environ = {**os.environ, "LASTMILE_SIMULATED_GPIO": paths["chip"]}
        with (
            subprocess.Popen([sys.executable, "-c", SIMULATOR, arguments], cwd=ROOT) as process,
            SimControl(paths["control"]) as control,
        ):
            try:
                control.call("counts")
                yield Pi(folder, control, environ)
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(10)
