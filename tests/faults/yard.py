"""One world of the lab: every process of the product and all that stands between them, each of which can be struck."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self, cast

import msgspec

import agents.issuer
from agents.demo_broker import Mosquitto, find_mosquitto, free_port
from agents.settings import Broker, IssuerSettings, KnownNode
from agents.site import Courier, make_keys, write_settings
from edge import link_socket
from edge.errors import DeviceError, ProtocolError
from edge.keys_file import read_opening_key
from edge.link import Hello, Welcome
from locker.sim_control_socket import SimControl
from tests.crash.bench import ASK_S, Bench, NotInTimeError
from tests.crash.journal_file import Entry, Letters, read_journal
from tests.faults.births import Birth, Child, Nursery, set_clock
from tests.faults.network import Network
from tests.faults.plan import Powers
from tests.faults.relay import Relay
from tests.faults.store import LOCK_S, PostgresStore, SqliteStore, Store, end, server_processes, serves_client
from tests.faults.tables import Tables, read_tables

PATIENCE_S = 20.0
LOOK_S = ASK_S
RESTART_S = 0.05
"""As the units' RestartSec, in small."""
PORTS = {"broker": 1883, "kiosk": 8080, "clone": 8081}
LAUNCHER = """#!/bin/sh
echo 'user root' >>"$2"
exec setpriv --pdeathsig KILL {} "$@"
"""
"""No broker outlives a run that is killed. Giving up root would undo that; as root it has a network of its own."""
SERVICES = ("collector", "locker", "cloud-sync")
MAY_END = {
    "locker": {"disk", "space"},
    "cloud-sync": set[str](),
    "collector": {"disk-collector"},
    "postgres": {"postgres"},
}
"""Whose process may end by itself once what was struck: the service manager starts it again. PostgreSQL does not begin
while processes of its former life are about."""
agents.issuer.PRESENCE_S = agents.issuer.ANSWER_S = 4.0


class Ground(msgspec.Struct, frozen=True):
    """What was made for a run before it had a loop."""

    directory: Path
    nursery: Nursery
    powers: Powers
    networks: dict[str, Network]
    """By side; empty where the machine gives none."""
    template: Path | None = None
    """Of the consumer's PostgreSQL; None for a SQLite file."""

    def port(self, name: str) -> int:
        """In a network of its own a run has all ports, and takes those that no outgoing connection is ever given."""
        return PORTS[name] if self.networks else free_port()


class Yard(Bench):
    """Use as an async context manager. ``struck`` holds what is disturbed now, ``touched`` what has been
    since the present act began, ``ever`` what has been at all."""

    def __init__(self, ground: Ground, seed: int) -> None:
        super().__init__(ground.directory)
        self._port = ground.port("kiosk")
        self.ground = ground
        self._seed = seed
        self.children: dict[str, Child] = {}
        self.faults: list[str] = []
        self.struck: Counter[str] = Counter()
        self.touched: set[str] = set()
        self.ever: set[str] = set()
        self.stopped: set[str] = set()
        self.relays: dict[str, Relay] = {}
        self.disks: dict[str, SimControl] = {}
        self.foreign: list[Entry] = []
        """What a clone of the node told."""
        self.went_back = False
        """Whether an older copy of the node's database was put in its place."""
        self._told: dict[tuple[str, bytes], Entry] = {}
        self._ports: dict[str, int] = {}
        self._boundary: tuple[str, int] = ("", 1)
        self._keepers: set[asyncio.Task[None]] = set()
        self._ended = False

    # -- beginning and end ---------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        site, ground = self.site, self.ground
        for each in ("logs", "hub", "clocks", "run"):
            (site.directory / each).mkdir(parents=True)
        self.courier: Courier = make_keys(site, wall=time.time())
        executable = find_mosquitto()
        assert executable is not None, "the lab needs the distribution's mosquitto"
        launcher = site.directory / "run" / "mosquitto"
        launcher.write_text(LAUNCHER.format(executable))
        launcher.chmod(0o700)
        self.broker = Mosquitto(str(launcher), ground.port("broker"), site.directory)
        for side in ("node", "cloud"):
            await self._relay(side)
        self._settings()
        self._letters = Letters(read_opening_key(site.key("hub.pem")))
        self.clocks = {name: site.directory / "clocks" / name for name in SERVICES}
        for clock in self.clocks.values():
            set_clock(clock, 0.0)
        self._bear("lock-board", str(site.port), str(site.sim_control), str(site.witness))
        if ground.powers.disk:
            await self._mount("node", site.database.parent)
            if ground.template is None:
                await self._mount("collector", site.directory / "hub")
        await self._keep_store()
        self.broker.start()
        await self.until("the board", site.port.is_symlink)
        for name in SERVICES:
            self.up(name)
        await self.serving()
        return self

    async def _keep_store(self) -> None:
        hub = self.site.directory / "hub"
        if self.ground.template is None:
            self.store: Store = SqliteStore(hub)
        else:
            self.store = PostgresStore(hub / "postgres", self.ground.template)
            self.up("postgres")
            await self._store_answers()
        told = self.site.collector_toml.read_text()
        self.site.collector_toml.write_text(told.replace('"collector.db"', f'"{self.store.database}"'))

    async def _store_answers(self) -> None:
        assert isinstance(self.store, PostgresStore)
        await self.until("the consumer's PostgreSQL", self.store.answers)

    async def _relay(self, side: str) -> None:
        network = self.ground.networks.get(side)
        listener = network.listener if network else socket.create_server(("127.0.0.1", 0))
        self.relays[side] = Relay(listener, self.broker.port)
        self._ports[side] = listener.getsockname()[1]
        await self.relays[side].start()

    def _settings(self) -> None:
        site = self.site
        write_settings(
            site,
            broker_port=self._ports["node"],
            kiosk_port=self._port,
            protocol=self.broker.protocol,
            subscribe=self.broker.subscribe,
            uid=os.getuid(),
        )
        node, collector = site.node_toml.read_text(), site.collector_toml.read_text()
        port = f"port = {self._ports['node']}\n"
        node = node.replace(port, f"{port}keepalive = 5\n")
        node = node.replace("repeat_s = 4.0", "repeat_s = 1.0").replace("max_backoff_s = 2.0", "max_backoff_s = 0.4")
        site.node_toml.write_text(node)
        site.collector_toml.write_text(collector.replace(port, f"port = {self._ports['cloud']}\nkeepalive = 5\n"))

    @property
    def kiosk_port(self) -> int:
        return self._port

    async def _mount(self, name: str, place: Path) -> None:
        control = self.site.directory / "run" / f"disk-{name}.sock"
        self._bear(f"disk-{name}", str(place), str(control), str(self._seed))
        await self.until(f"the {name}'s disk", control.exists)
        self.disks[name] = SimControl(control)

    async def __aexit__(self, *_: object) -> None:
        self._ended = True
        for child in reversed(list(self.children.values())):
            child.signal(signal.SIGCONT)
            await child.kill()
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self.broker.stop()
        for relay in self.relays.values():
            await relay.stop()
        self.board.close()
        for disk in self.disks.values():
            disk.close()

    # -- processes -----------------------------------------------------------------------------------------------------

    def _bear(self, name: str, *arguments: str, **more: Any) -> Child:
        role = "disk" if name.startswith("disk-") else name
        log = str(self.site.directory / "logs" / f"{name}.log")
        child = self.ground.nursery.born(name, Birth(role, arguments, log, **more))
        self.children[name] = child
        return child

    def bear_beside(self, role: str, name: str, arguments: tuple[str, ...], *, behind: str = "") -> Child:
        """A process that is not the node's or the collector's; ``behind`` names the link that it shares."""
        network = self.ground.networks.get(behind)
        log = str(self.site.directory / "logs" / f"{name}.log")
        birth = Birth(role, arguments, log, network=network.pid if network else 0)
        return self.ground.nursery.born(name, birth)

    def up(self, name: str) -> None:
        """Start a process of the product, as the service manager does: when it ends by itself, again."""
        network = self.ground.networks.get({"cloud-sync": "node", "collector": "cloud"}.get(name, ""))
        about = self.site.collector_toml if name == "collector" else self.site.node_toml
        more: dict[str, Any] = {"network": network.pid if network else 0}
        if name in self.clocks:
            more["clock"] = str(self.clocks[name])
        if isinstance(self.store, PostgresStore) and name == "postgres":
            about = self.store.folder
        trapped = name == "locker" and self._boundary[0] != ""
        if name == "locker":
            more["boundary"], more["nth"] = self._boundary
            self._boundary = ("", 1)
            self.lives.append(time.monotonic())
        child = self._bear(name, str(about), **more)
        if trapped:
            self.strike("boundary")
        if name == "locker":
            self.life = cast("Any", child)
        keeper = asyncio.create_task(self._keep(child, trapped=trapped))
        self._keepers.add(keeper)
        keeper.add_done_callback(self._keepers.discard)

    async def _keep(self, child: Child, *, trapped: bool) -> None:
        name = child.name
        await child.ended.wait()
        if trapped:
            self.calm("boundary")
        if self._ended or child.killed or self.children[name] is not child:
            return
        if not trapped and not MAY_END[name] & self.ever:
            told = f"{name} ended by itself; see {self.site.directory}/logs/{name}.log"
            if told in self.faults:
                return  # it will not come up; the run fails of this
            self.faults.append(told)
        if name == "locker":
            self.strike(name)
            await self._quiet()
        await asyncio.sleep(RESTART_S)
        if self.children[name] is child:
            await self.again(name)

    def trap(self, boundary: str, nth: int) -> None:
        """The next life of the locker agent ends by kill -9 there."""
        self._boundary = (boundary, nth)

    async def kill(self, *names: str) -> None:  # type: ignore[override]
        """Kill -9, all at once."""
        for name in names:
            self.strike(name)
        await asyncio.gather(*(self.children[name].kill() for name in names))
        self.stopped -= set(names)
        if "locker" in names:
            await self._quiet()

    async def again(self, *names: str) -> None:
        """Start what was killed; the locker counts as struck until it serves."""
        for name in names:
            self.up(name)
        if "locker" in names:
            await self.serving()
        if "postgres" in names:
            await self._store_answers()
        for name in names:
            self.calm(name)

    async def kill_store(self, how: str) -> None:
        """Kill -9 of PostgreSQL: its ``server``, ``all`` of it, or the ``backend`` of the collector alone."""
        server = self.children["postgres"]
        started = server_processes(server.pid)
        if how == "backend":
            end([pid for pid in started if serves_client(pid)])
            return  # the server itself sees to all of them
        await self.kill("postgres")
        if how == "all":
            end(started)
        await self.again("postgres")

    def calm(self, name: str) -> None:
        self.struck[name] -= 1
        self.struck += Counter()

    def strike(self, name: str) -> None:
        self.struck[name] += 1
        self.touched.add(name)
        self.ever.add(name)

    async def _quiet(self) -> None:
        """After a death of the agent the board still reads what was on the wire."""
        for _ in range(2):
            await asyncio.sleep(0.03)
            self.board.call("doors")

    # -- looking -------------------------------------------------------------------------------------------------------

    def present(self) -> list[Entry]:
        """What the node's journal holds now. Raises ``sqlite3.Error`` while it cannot be read."""
        now = read_journal(self.site.database, LOCK_S)
        for entry in now:
            self._told.setdefault((entry.epoch, entry.digest), entry)
        return now

    def entries(self) -> list[Entry]:
        """Everything that the journal has ever told the lab, whatever became of it since."""
        with contextlib.suppress(sqlite3.Error):
            self.present()
        epochs = list(dict.fromkeys(epoch for epoch, _ in self._told))
        return sorted(self._told.values(), key=lambda entry: (epochs.index(entry.epoch), entry.seq))

    async def read(self) -> list[Entry]:
        """What the journal holds now, also where it has to be waited for."""

        async def readable() -> bool:
            try:
                self.present()
            except sqlite3.Error:
                return False
            return True

        if not await self.until_true("the journal", readable):
            raise NotInTimeError("the journal cannot be read")
        return self.present()

    async def session(self) -> str:
        """Of the locker agent that runs now, as it tells whoever stands at its socket; "" while it does not answer."""
        try:
            agent = await link_socket.connect(self.site.socket)
        except DeviceError:
            return ""
        try:
            return cast("Welcome", await agent.ask(Hello)).session
        except (DeviceError, ProtocolError):
            return ""
        finally:
            await agent.close()

    def tables(self) -> Tables:
        return read_tables(self.site.database, self.store)

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        try:
            return await asyncio.wait_for(super().ask(method, path, body), PATIENCE_S)
        except (TimeoutError, http.client.HTTPException):
            return 0, {}

    async def until_true(self, what: str, true: Callable[[], Awaitable[bool]], patience: float = PATIENCE_S) -> bool:
        """Wait for what need not come while something is struck; whether it came."""
        deadline = time.monotonic() + patience
        while not await true():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(LOOK_S)
        return True

    def issuer(self) -> IssuerSettings:
        """Whoever sends commands, straight at the broker."""
        site = self.site
        return IssuerSettings(
            name="staff",
            key="keys/issuer.pem",
            broker=Broker(host="127.0.0.1", port=self.broker.port, protocol="5", keepalive=5),
            nodes=(KnownNode(tenant=site.tenant, name=site.name, role_key="keys/role.jwk"),),
        )
