"""Workers of one collector as processes of their own, run as an operator runs them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from edge.keys import SigningKey
from edge.keys_file import write_private_key, write_public_key
from tests.cloud_sync.rig import CONSUMER, TENANT
from tests.peers.node import CONSUMER_KEY
from tests.repository.source import ROOT

BROKER = '[broker]\nhost = "127.0.0.1"\nport = {port}\nprotocol = "{protocol}"\n'


class Named(Protocol):
    """A node, as far as a collector's file has to name it."""

    @property
    def name(self) -> str: ...

    @property
    def key(self) -> SigningKey: ...


class Crew:
    """Files for any number of workers, and the processes that were started."""

    def __init__(self, folder: Path, place: str, port: int, nodes: Sequence[Named], *, protocol: str = "5") -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._place = place
        self._broker = BROKER.format(port=port, protocol=protocol)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        write_private_key(folder / "ack.pem", CONSUMER_KEY)
        self._nodes = ""
        for node in nodes:
            write_public_key(folder / f"{node.name}.pub", node.key.public)
            name = node.name.partition("_")[2]
            self._nodes += f'[[nodes]]\ntenant = "{TENANT}"\nname = "{name}"\nrole_key = "{node.name}.pub"\n'

    def config(self, worker: int = 1) -> Path:
        """The file of one worker, made when it is asked for."""
        path = self._folder / f"collector-{worker}.toml"
        head = f'name = "{CONSUMER}"\ndatabase = "{self._place}"\nworker = "{worker}"\nhealth = "{worker}"\n'
        (self._folder / str(worker)).mkdir(exist_ok=True)
        path.write_text(f'{head}[keys]\nack = "ack.pem"\n{self._broker}{self._nodes}')
        return path

    def start(self, worker: int) -> None:
        command = [sys.executable, "-m", "agents", "run", "collector", "--config", str(self.config(worker))]
        with self.log(worker).open("ab") as told:
            self._processes[worker] = subprocess.Popen(
                command, stdout=told, stderr=told, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
            )

    def listens(self, worker: int) -> bool:
        process = self._processes[worker]
        assert process.poll() is None, self.log(worker).read_text()
        return b"listening" in self.log(worker).read_bytes()

    def log(self, worker: int) -> Path:
        return self._folder / f"worker-{worker}.log"

    def cpu_seconds(self) -> float:
        """What the workers have used so far: unlike the time that passes, it does not depend on the neighbours."""
        ticks = 0
        for process in self._processes.values():
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])  # utime and stime, proc(5)
        return ticks / os.sysconf("SC_CLK_TCK")

    def kill(self, worker: int) -> None:
        """kill -9."""
        process = self._processes.pop(worker)
        process.kill()
        process.wait()

    def stop(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()


@contextlib.contextmanager
def crew(folder: Path, place: str, port: int, nodes: Sequence[Named]) -> Iterator[Crew]:
    working = Crew(folder, place, port, nodes)
    try:
        yield working
    finally:
        working.stop()
