"""The processes of one node with its simulated cabinet, broker and collector, each under its unit's user."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from agents.demo_broker import choose_broker
from edge import jose
from edge.identity import identify
from edge.keys_file import read_opening_key, read_verify_key
from locker.witness_file import read_witness
from tests.isolation import stage
from tests.isolation.stage import BENCH, BUS, CONFIG, KIOSK_PORT, STORE, TOKEN, Units
from tests.isolation.unit_file import Unit

T = TypeVar("T")
PATIENCE_S = 30.0
LOOK_S = 0.01
PHYSICS = ["nice", "-n", "-15"]
"""Of the simulated boards: a true one needs no processor of the node, so it does not wait for one."""
SHUT_AFTER_MS = 700
"""Longer than the 0.55 s after which an opening is believed, as with any true customer."""
EVENTS = Path("/var/lib/lastmile-collector/events.db")


class Talker:
    """A process that answers each line on its stdin with one JSON line."""

    def __init__(self, command: Sequence[str], umask: int) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, umask=umask)

    def say(self, line: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


class Node:
    """Starts on ``start``; everything ends with ``ends``."""

    def __init__(self, units: Units, ends: contextlib.ExitStack) -> None:
        self._units = units
        self._ends = ends
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.asked_for: list[str] = []
        """The doors that honest people have had opened."""
        (BENCH / "logs").mkdir()
        self._broker = choose_broker("auto", BENCH)
        self.office, self._courier = stage.install(
            units,
            wall=time.time(),
            broker_port=self._broker.port,
            protocol=self._broker.protocol,
            subscribe=self._broker.subscribe,
        )
        self.role_pid = 0
        self._witness = BENCH / "witness.jsonl"

    def start(self) -> None:
        units = self._units
        self._broker.start()
        self._ends.callback(self._broker.stop)
        arguments = ["--link", BUS, "--control", BENCH / "sim.sock", "--log", self._witness]
        arguments += ["--boards", stage.BOARDS, "--close-after-ms", SHUT_AFTER_MS]
        self._run("lock-board", ["simulate", "lock-board", *arguments], None)
        self.until("the simulated boards", BUS.is_symlink)
        # As udev hands a serial port over.
        shutil.chown(self.port, "root", "dialout")
        self.port.chmod(0o660)
        self._run("locker", ["run", "locker", "--config", CONFIG / "node.toml"], units.role)
        self._run("collector", ["run", "collector", "--config", CONFIG / "collector.toml"], units.collector)
        self._run("cloud-sync", ["run", "cloud-sync", "--config", CONFIG / "node.toml"], units.sync)
        self.until("the kiosk", lambda: "locker.ready" in (BENCH / "logs" / "locker.log").read_text())
        program = [sys.executable, "-m", "tests.isolation.browser", str(KIOSK_PORT), str(TOKEN)]
        self._page = Talker(units.kiosk.command(program, network=stage.NETWORK), units.kiosk.umask)
        self._ends.callback(self._page.end)
        self.until("doors that are known to be closed", self._all_closed)
        self.role_pid = self.find(units.role)

    @property
    def port(self) -> Path:
        return BUS.readlink()

    def find(self, unit: Unit) -> int:
        """The unit's process, which setpriv and its like have become."""
        user = stage.user_id(unit.user)
        return next(int(each.name) for each in Path("/proc").glob("[0-9]*") if each.stat().st_uid == user)

    def stop(self, name: str) -> None:
        process = self._running.pop(name)
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)

    # -- honest people -------------------------------------------------------------------------------------------------

    def deposit(self, how_many: int) -> list[str]:
        """Fill the cabinet; returns the codes as the hub opens them."""
        for number in range(how_many):
            body = {"badge": self._courier.badge, "pin": self._courier.pin, "booking": f"b-{number}", "size": "M"}
            self._opened_by("/api/deposit", body)
        return self.until("every code", lambda: codes if len(codes := self._codes()) == how_many else None)

    def collect(self, code: str) -> dict[str, float]:
        """Type ``code``; seconds until 202 and until the door has opened."""
        return self._opened_by("/api/collect", {"code": code})

    def _opened_by(self, path: str, body: dict[str, Any]) -> dict[str, float]:
        before = len(read_witness(self._witness))
        told = self.until(f"{path} to be free", lambda: self._accepted(path, body))
        self.asked_for.append(told["body"]["door"])
        opened = self.until(f"{told['body']['door']} to open", lambda: self._opening(before, told["body"]["door"]))
        return {"accepted": told["answered"] - told["began"], "opened": opened - told["began"]}

    def _accepted(self, path: str, body: dict[str, Any]) -> Any:
        """None while the door before still has the locker's turn."""
        told = self._ask("POST", path, body)
        if told["body"].get("reason") == "busy":
            return None
        if told["status"] != 202:
            raise AssertionError(f"{path} answered {told}")
        return told

    def _opening(self, after: int, door: str) -> float | None:
        board, lock = map(int, door.split("-"))
        for line in read_witness(self._witness)[after:]:
            if (line["what"], line.get("board"), line.get("lock")) == ("opened", board, lock):
                return float(str(line["t"]))
        return None

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._page.say(json.dumps({"method": method, "path": path, "body": body}))

    def _all_closed(self) -> bool:
        doors = self._ask("GET", "/api/doors")["body"]["doors"]
        return all(each["state"] == "closed" for each in doors)

    # -- what is known afterwards --------------------------------------------------------------------------------------

    def opened(self) -> Iterator[str]:
        """The door of every opening that physically happened."""
        for line in read_witness(self._witness):
            if line["what"] == "opened":
                yield f"{line['board']}-{line['lock']:02}"

    def listed_kids(self) -> list[str]:
        return [read_verify_key(self.office.key(f"{name}.jwk")).kid for name in ("issuer", "hub-ack", "root")]

    def instance(self) -> str:
        key = read_verify_key(self.office.key("role.jwk"))
        return identify(self.office.tenant, self.office.name, key).instance

    def collector_catches_up(self) -> bool:
        """Whether the true cloud-sync brings what has happened to the collector, after all."""

        def caught_up() -> bool:
            journalled = _rows(STORE / "state.db", "SELECT body FROM event WHERE class = 0 ORDER BY epoch_no, seq")
            held = _rows(EVENTS, "SELECT body FROM held_event WHERE class = 'audit' ORDER BY epoch, seq")
            return held == journalled

        with contextlib.suppress(AssertionError):
            return self.until("the collector to hold all", caught_up)
        return False

    def _codes(self) -> list[str]:
        hub = read_opening_key(self.office.key("hub.pem"))
        bodies = _rows(EVENTS, "SELECT body FROM held_event WHERE class = 'audit' ORDER BY epoch, seq")
        events = [json.loads(body) for (body,) in bodies]
        sealed = [each["data"]["sealed"] for each in events if each["type"] == "locker.code.issued"]
        return [json.loads(jose.open_sealed(each.encode(), lambda _: hub))["code"] for each in sealed]

    # -- processes -----------------------------------------------------------------------------------------------------

    def _run(self, name: str, arguments: Sequence[object], unit: Unit | None) -> None:
        program = [sys.executable, "-m", "agents", *map(str, arguments)]
        command = PHYSICS + program
        if unit is not None:
            command = unit.command(program, network=stage.NETWORK if unit.private_network else None)
        with (BENCH / "logs" / f"{name}.log").open("ab") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=stage.ROOT,
                umask=0o022 if unit is None else unit.umask,
            )
        self._running[name] = process
        self._ends.callback(_end, process)

    def until(self, what: str, true: Callable[[], T | None]) -> T:
        deadline = time.monotonic() + PATIENCE_S
        while not (found := true()):
            ended = [name for name, process in self._running.items() if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                logs = {name: (BENCH / "logs" / f"{name}.log").read_text()[-2000:] for name in ended or self._running}
                raise AssertionError(f"waited for {what}; ended: {ended}; logs: {logs}")
            time.sleep(LOOK_S)
        return found


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _rows(database: Path, query: str) -> list[tuple[Any, ...]]:
    if not database.exists():
        return []
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=PATIENCE_S)
    try:
        return connection.execute(query).fetchall()
    except sqlite3.OperationalError:
        return []  # its owner is still making the tables
    finally:
        connection.close()
