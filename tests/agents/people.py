"""The people at a real locker: a courier, a customer and staff, who use what each of them would use."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import msgspec

from agents import processes
from agents.__main__ import main
from agents.demo_world import SealedCode, World
from edge import jose
from edge.keys_file import read_opening_key


def lastmile(*arguments: object, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    """The command line as a person runs it."""
    command = [*processes.COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)


def typed(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The same, within this process: a second of imports less for what ends at once."""
    command = ["lastmile", *map(str, arguments)]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with patch.object(sys, "argv", command), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


def one_line_of(told: subprocess.CompletedProcess[str]) -> str:
    """The one line that a failed command says; it ends with what to do."""
    assert told.returncode != 0, told
    assert "Traceback" not in told.stderr, told.stderr
    (line,) = [line for line in told.stderr.splitlines() if line.startswith("lastmile: ")]
    assert "; " in line, line
    return line


class People:
    """Acts at one world's locker, and counts what they physically brought about."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.openings = 0
        """Doors that were opened by somebody who may."""
        self.last_view: dict[str, Any] = {}
        """The last session as its page saw it end."""

    def deposit(self, booking: str, size: str = "S") -> SealedCode:
        status, answer = self.try_deposit(booking, size)
        assert status == 202, answer
        lock = int(answer["door"]) - 1
        self._await_open(answer["door"])
        self.world.board.call("put_item", board=0, lock=lock)
        self._shut(lock)
        self._await_end(answer["session"])
        return self.world.until(f"the code of {booking}", lambda: self._code(booking))

    def try_deposit(self, booking: str, size: str = "S") -> tuple[int, dict[str, Any]]:
        courier = self.world.courier
        body = {"badge": courier.badge, "pin": courier.pin, "booking": booking, "size": size}
        return self.world.kiosk.call("POST", "/api/deposit", body)

    def collect(self, code: SealedCode) -> None:
        """Also after an outage that left it open whether the door had opened: the customer says that it had not."""
        body = {"code": code.code, "confirm": False}
        status, answer = self.world.kiosk.call("POST", "/api/collect", body)
        if answer.get("reason") == "confirm_needed":
            status, answer = self.world.kiosk.call("POST", "/api/collect", body | {"confirm": True})
        assert status == 202, answer
        lock = int(answer["door"]) - 1
        self._await_open(answer["door"])
        self.world.board.call("take_item", board=0, lock=lock)
        self._shut(lock)
        self._await_end(answer["session"])

    def type(self, code: str) -> tuple[int, dict[str, Any]]:
        return self.world.kiosk.call("POST", "/api/collect", {"code": code})

    def walk_up_to(self, door: str) -> None:
        """After staff opened it from afar: see it open, and shut it."""
        self._await_open(door)
        self._shut(int(door) - 1)
        self.world.until(f"door {door} to be seen shut", lambda: self.door_state(door) == "closed")

    def door_state(self, door: str) -> str:
        _, answer = self.world.kiosk.call("GET", "/api/doors")
        return next(str(each["state"]) for each in answer["doors"] if each["door"] == door)

    def physically_opened(self) -> int:
        return sum(line["what"] == "opened" for line in self.world.witness())

    def _await_open(self, door: str) -> None:
        self.openings += 1
        self.world.until(f"door {door} to be seen open", lambda: self.door_state(door) == "open")

    def _shut(self, lock: int) -> None:
        """Push it shut; while its coil is still driven it springs open again."""
        board = self.world.board

        def shut() -> bool:
            board.call("close_door", board=0, lock=lock)
            doors = cast("list[dict[str, object]]", board.call("doors")["doors"])
            return any(each["lock"] == lock and not each["open"] for each in doors)

        self.world.until("the door to stay shut", shut)

    def _await_end(self, session: str) -> None:
        def ended() -> bool:
            self.last_view = self.world.kiosk.call("GET", f"/api/sessions/{session}")[1]
            return bool(self.last_view.get("state") == "ended")

        self.world.until("the session to end", ended)

    def door_of(self, booking: str) -> str:
        """Behind which door it was put."""
        begun = [event["data"] for event in self.world.journalled() if event["type"] == "parcel.deposit.begun"]
        return next(str(each["door"]) for each in begun if each["parcel"] == booking)

    def newest_code(self, booking: str) -> SealedCode:
        """The code that was issued last, as the hub reads it."""
        return self._codes(booking)[-1]

    def _code(self, booking: str) -> SealedCode | None:
        return next(iter(self._codes(booking)), None)

    def _codes(self, booking: str) -> list[SealedCode]:
        """What the customer, and whom they send, would get, opened with the hub's key."""
        hub = read_opening_key(self.world.site.key("hub.pem"))
        issued = [event for event in self.world.journalled() if event["type"] == "locker.code.issued"]
        opened = [jose.open_sealed(event["data"]["sealed"].encode(), lambda _: hub) for event in issued]
        codes = [msgspec.json.decode(each, type=SealedCode) for each in opened]
        return [code for code in codes if code.parcel == booking]


def ask(database: Path, sql: str) -> list[tuple[Any, ...]]:
    """Read another process's database."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=20.0)) as connection:
        return connection.execute(sql).fetchall()


def all_held(world: World) -> bool:
    """Whether the collector holds the node's whole audit, sealed to its end."""
    held, journalled = world.held(), world.journalled()
    return journalled[-1]["type"] == "node.journal.sealed" and {each["id"] for each in journalled} <= {
        each["id"] for each in held
    }


def log_of(world: World, process: str) -> list[dict[str, Any]]:
    """What a process has logged."""
    text = (world.site.directory / "logs" / f"{process}.log").read_text()
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def told_serving(world: World) -> bool:
    """Whether the consumer was told last that the node serves people."""
    connection = sqlite3.connect(f"file:{world.site.collected}?mode=ro", uri=True, timeout=20.0)
    with contextlib.closing(connection):
        rows = connection.execute("SELECT payload FROM presence").fetchall()
    return any(json.loads(payload)["serving"] for (payload,) in rows)


@contextlib.contextmanager
def stopped(world: World) -> Iterator[None]:
    """The role agent's process stands still; its sockets stay open."""
    agent = world._running["locker"]
    agent.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        agent.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def unplugged(world: World) -> Iterator[None]:
    """The lock board's adapter is pulled out."""
    world.board.call("unplug")
    try:
        yield
    finally:
        world.board.call("plug")
