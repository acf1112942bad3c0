"""A site as it runs in the street, for ``benchmarks/drain.py``: a broker with mutual TLS, the product's own processes.

The node's backlog is made by its own journal, then kept as a copy, so that every run begins with the same file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from agents import processes
from agents.demo_broker import free_port
from agents.site import Site, make_keys, write_settings
from edge.event import Draft
from edge.identity import identify
from edge.journal import Limits
from edge.journal_open_sql import open_journal
from edge.journal_place_file import Place
from edge.journal_sql import SqlJournal
from edge.keys_file import read_signing_key, read_verify_key
from edge.system_clock import SystemClock
from edge.tls_socket import TlsFiles
from locker.contract import DoorOpened, draft
from locker.ledger_sql import LOCKER_STEPS
from tests.authority import Certifier
from tests.cloud_sync.broker_rig import Mosquitto

EVENT: Draft = draft(DoorOpened(door="17", attempt="019aa8f0-7c1e-7abc-8def-0123456789ab"))
GATHERED = 1000
"""Appends that wait together while a backlog is made."""
LOOK_S = 0.02
TICKS = os.sysconf("SC_CLK_TCK")


class Process:
    """One process of the product, with what it has used so far."""

    def __init__(self, name: str, arguments: list[str], folder: Path) -> None:
        self.name = name
        self._ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = folder / f"{name}.notify"
        address.unlink(missing_ok=True)
        self._ready.bind(str(address))
        began = time.perf_counter()
        with (folder / f"{name}.log").open("ab") as out:
            self.popen = subprocess.Popen(
                [*processes.COMMAND, *arguments],
                stdout=out,
                stderr=out,
                env=dict(os.environ, NOTIFY_SOCKET=str(address)),
            )
        self._ready.settimeout(60.0)
        while b"READY=1" not in self._ready.recv(4096):
            pass
        self._ready.close()
        self.ready_s = time.perf_counter() - began
        """From its start until it said READY."""

    @property
    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.popen.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    @property
    def peak_mb(self) -> float:
        lines = Path(f"/proc/{self.popen.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6

    def stop(self) -> None:
        self.popen.terminate()
        self.popen.wait()


class World:
    """Everything below ``folder``. ``events``: the backlog of audit events, seals among them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.site = Site(folder / "site", "acme", "locker-7")
        self.site.directory.mkdir()
        make_keys(self.site, wall=time.time())
        self.identity = identify("acme", "locker-7", read_verify_key(self.site.key("role.jwk")))
        self._authority = Certifier(folder / "tls")
        server = self._authority.server()
        lines = [f"cafile {server.ca}", f"certfile {server.certificate}", f"keyfile {server.key}"]
        lines += ["require_certificate true", "use_identity_as_username true", "tls_version tlsv1.3"]
        # A broker that keeps 1000 messages for a slow consumer throws the rest of a fast drain away, and they go again.
        lines += ["max_queued_messages 0"]
        self.broker = Mosquitto(folder, lines)
        self.events = 0

    def certificate(self, name: str) -> TlsFiles:
        return self._authority.client(name)

    def settings(self, *, batch_kib: int, database: str = "collector.db") -> None:
        """``node.toml`` and ``collector.toml`` for a run."""
        site = self.site
        write_settings(
            site,
            broker_port=self.broker.port,
            kiosk_port=free_port(),
            protocol="5",
            subscribe="shared",
            uid=os.getuid(),
        )
        for path, name in ((site.node_toml, self.identity.node), (site.collector_toml, "hub-1")):
            files = self.certificate(name)
            tls = f'tls = {{ ca = "{files.ca}", certificate = "{files.certificate}", key = "{files.key}" }}\n'
            text = path.read_text().replace('protocol = "5"\n', f'protocol = "5"\n{tls}')
            text = text.replace("reserve_mib = 1\n", "reserve_mib = 1\nmax_mib = 16384\n")
            text = text.replace("repeat_s = 4.0\n", f"pace = 100000.0\nbatch_kib = {batch_kib}\n")
            path.write_text(text.replace('"collector.db"', f'"{database}"'))

    async def fill(self, events: int) -> float:
        """Make the backlog; returns events a second."""
        began = time.perf_counter()
        async with self._journal() as journal:
            for _ in range(events // GATHERED):
                await asyncio.gather(*(journal.append(EVENT) for _ in range(GATHERED)))
            self.events = journal.head.audit
        took = time.perf_counter() - began
        sql = sqlite3.connect(self.site.database)
        sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        sql.close()
        return self.events / took

    @contextlib.asynccontextmanager
    async def _journal(self) -> AsyncIterator[SqlJournal]:
        self.site.database.parent.mkdir(exist_ok=True)
        journal = open_journal(
            Place(self.site.database),
            steps=LOCKER_STEPS,
            rebuild=lambda _: None,
            consumers=("hub",),
            source=self.identity.source,
            clock=SystemClock(),
            random=os.urandom,
            sealer=read_signing_key(self.site.key("role.pem")),
            limits=Limits(max_bytes=1 << 40, reserve_bytes=0),
        ).journal
        journal.start()
        try:
            yield journal
        finally:
            await journal.close()

    def keep(self) -> None:
        """Remember the backlog as it is now."""
        shutil.copytree(self.site.database.parent, self.folder / "kept", dirs_exist_ok=True)

    def put_back(self) -> None:
        """The node as it was, and a consumer that has nothing."""
        shutil.rmtree(self.site.database.parent, ignore_errors=True)
        shutil.copytree(self.folder / "kept", self.site.database.parent)
        for path in self.site.directory.glob("collector*.db*"):
            path.unlink()

    def run(self, role: str) -> Process:
        config = self.site.collector_toml if role == "collector" else self.site.node_toml
        return Process(role, ["run", role, "--config", str(config)], self.folder)

    def acknowledged(self) -> int:
        """How far the consumer's signed acks have moved the node's audit cursor."""
        sql = sqlite3.connect(f"file:{self.site.database}?mode=ro", uri=True, timeout=10.0)
        with contextlib.closing(sql):
            return int(sql.execute("SELECT min(seq) FROM cursor WHERE class = 0 AND epoch_no = 1").fetchone()[0])

    async def until(self, reached: Callable[[], bool], seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while not reached():  # noqa: ASYNC110  other processes have no event to set
                await asyncio.sleep(LOOK_S)

    @contextlib.contextmanager
    def running(self, *roles: str) -> Iterator[dict[str, Process]]:
        """The product's processes in this order, ended with the block."""
        found: dict[str, Process] = {}
        try:
            for role in roles:
                found[role] = self.run(role)
            yield found
        finally:
            for process in reversed(found.values()):
                process.stop()
