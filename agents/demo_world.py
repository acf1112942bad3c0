"""The demonstration's world: every process of the product, started as an operator starts them, on one machine."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from agents import processes
from agents.demo_broker import DemoBroker, free_port
from agents.site import Courier, Site, make_badge, make_keys, write_settings
from edge import jose
from edge.errors import DeviceError, DeviceSilent
from edge.keys_file import read_opening_key
from locker.badge import Role
from locker.sim_control_socket import SimControl

T = TypeVar("T")

PATIENCE_S = 20.0
"""For anything the story waits for; most takes a tenth of a second."""
LOOK_S = 0.02
STOP_S = 10.0


class SealedCode(msgspec.Struct, frozen=True):
    """What the hub would send to the customer."""

    parcel: str
    code: str
    extension: str

    def __repr__(self) -> str:
        return f"SealedCode({self.parcel})"


class Kiosk:
    """The kiosk's API as a page uses it."""

    def __init__(self, port: int, token: Path) -> None:
        self.port = port
        self._token = token

    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/#{self._token.read_text().strip()}"

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """(status, answer). Raises ``DeviceSilent`` while no agent listens."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token.read_text().strip()}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310  always our own http URL
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())
        except OSError as error:
            raise DeviceSilent(f"the kiosk does not answer: {error}", remedy="read logs/locker.log") from error


class World:
    """Starts, kills and restarts the processes; looks at what the collector holds and what physically happened."""

    def __init__(self, site: Site, broker: DemoBroker, *, close_after_ms: float | None) -> None:
        self.site = site
        self.broker = broker
        self.kiosk = Kiosk(free_port(), site.token)
        self.board = SimControl(site.sim_control)
        self.courier: Courier
        self.service: Courier
        self._close_after_ms = close_after_ms
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Fresh keys, then every process. Returns when the kiosk serves and all doors are known to be closed."""
        self.site.directory.mkdir(parents=True, exist_ok=True)
        (self.site.directory / "logs").mkdir(exist_ok=True)
        self.courier = make_keys(self.site, wall=time.time())
        self.service = make_badge(self.site, wall=time.time(), role=Role.SERVICE)
        write_settings(
            self.site,
            broker_port=self.broker.port,
            kiosk_port=self.kiosk.port,
            protocol=self.broker.protocol,
            subscribe=self.broker.subscribe,
            uid=os.getuid(),
        )
        self.broker.start()
        self.run("lock-board")
        self.until("the simulated board", self.site.port.is_symlink)
        for name in ("collector", "locker", "cloud-sync"):
            self.run(name)
        self.until_serving()

    def stop(self) -> None:
        """End every process, the youngest first."""
        self.board.close()
        for process in reversed(self._running.values()):
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.broker.stop()

    def run(self, name: str) -> None:
        """Start (again) one process of the product."""
        site = self.site
        arguments = {
            "lock-board": ["simulate", "lock-board", "--link", site.port, "--control", site.sim_control]
            + ["--log", site.witness]
            + ([] if self._close_after_ms is None else ["--close-after-ms", self._close_after_ms]),
            "locker": ["run", "locker", "--config", site.node_toml],
            "cloud-sync": ["run", "cloud-sync", "--config", site.node_toml],
            "collector": ["run", "collector", "--config", site.collector_toml],
        }[name]
        with (site.directory / "logs" / f"{name}.log").open("ab") as out:
            self._running[name] = subprocess.Popen(  # noqa: S603  our own command line
                [*processes.COMMAND, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def pid(self, name: str) -> int:
        """Of a process that ``run`` started."""
        return self._running[name].pid

    def kill(self, name: str) -> None:
        """Kill -9."""
        process = self._running[name]
        process.send_signal(signal.SIGKILL)
        process.wait()

    def until(self, what: str, true: Callable[[], T | None], patience: float = PATIENCE_S) -> T:
        """Look until ``true()`` is. Raises ``DeviceSilent`` when it does not come true in time."""
        deadline = time.monotonic() + patience
        while not (found := true()):
            for name, process in self._running.items():
                if process.poll() not in (None, -signal.SIGKILL):
                    raise DeviceError(f"{name} ended by itself", remedy=f"read logs/{name}.log")
            if time.monotonic() > deadline:
                raise DeviceSilent(f"waited {patience:.0f} s for {what}", remedy="read the files under logs/")
            time.sleep(LOOK_S)
        return found

    def until_serving(self) -> None:
        """Wait for the kiosk, and until no door is unknown to it and no attempt of an earlier life is followed."""

        def serving() -> bool:
            try:
                status, answer = self.kiosk.call("GET", "/api/doors")
            except (DeviceSilent, FileNotFoundError):
                return False
            return status == 200 and not {door["state"] for door in answer["doors"]} & {"unknown", "unlocking"}  # noqa: PLR2004

        self.until("the kiosk", serving)

    def held(self) -> list[dict[str, Any]]:
        """Every audit event that the collector holds, in order."""
        if not self.site.collected.exists():
            return []
        connection = sqlite3.connect(f"file:{self.site.collected}?mode=ro", uri=True, timeout=PATIENCE_S)
        try:
            rows = connection.execute(
                "SELECT body FROM held_event WHERE class = 'audit' ORDER BY epoch, seq"
            ).fetchall()
        except sqlite3.OperationalError:
            return []  # the collector is still making its tables
        finally:
            connection.close()
        return [json.loads(body) for (body,) in rows]

    def journalled(self) -> list[dict[str, Any]]:
        """Every audit event in the node's own journal."""
        connection = sqlite3.connect(f"file:{self.site.database}?mode=ro", uri=True, timeout=PATIENCE_S)
        try:
            rows = connection.execute("SELECT body FROM event WHERE class = 0 ORDER BY epoch_no, seq").fetchall()
        finally:
            connection.close()
        return [json.loads(body) for (body,) in rows]

    def codes(self) -> dict[str, SealedCode]:
        """By parcel, every code the hub can open: what its customers would get."""
        hub = read_opening_key(self.site.key("hub.pem"))
        found = {}
        for event in self.held():
            if event["type"] == "locker.code.issued":
                opened = jose.open_sealed(event["data"]["sealed"].encode(), lambda _: hub)
                code = msgspec.json.decode(opened, type=SealedCode)
                found[code.parcel] = code
        return found

    def witness(self) -> list[dict[str, Any]]:
        """What physically happened at the locks."""
        return [json.loads(line) for line in self.site.witness.read_text().splitlines()]
