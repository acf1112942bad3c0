"""One site of the fork suite: its simulated board, its nursery, its kiosk, its consumer, and the test's own records."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

from agents.demo_broker import free_port
from agents.demo_world import SealedCode
from agents.site import Site, make_keys, write_settings
from edge.keys_file import read_opening_key
from locker.sim_control_socket import SimControl
from locker.witness_file import read_witness
from tests.crash.consumer import Consumer
from tests.crash.history import Call, History, lock_of
from tests.crash.journal_file import Entry, Letters, read_journal

T = TypeVar("T")

PATIENCE_S = 30.0
"""For anything that is waited for; a busy machine needs a hundredth of it."""
LOOK_S = 0.01
ASK_S = 0.025
"""Between two questions to the kiosk, which answers 50 a second."""
COMMIT_S = 5.0
"""From a door that is known again to the commit that tells so: some milliseconds, on a quiet machine."""
QUIET_S = 0.03
"""After a kill the board still reads what was on the wire; a door opens 7 ms after that."""
ROOT = Path(__file__).parents[2]


class NotInTimeError(AssertionError):
    """Something that had to happen did not."""


@dataclasses.dataclass
class Life:
    """One run of the locker agent."""

    pid: int
    ended: asyncio.Future[int]

    @property
    def dead(self) -> bool:
        return self.ended.done()


class Bench:
    """Use as an async context manager."""

    def __init__(self, directory: Path, mutant: str = "") -> None:
        self.site = Site(directory)
        self._mutant = mutant
        self._port = free_port()
        self.board = SimControl(self.site.sim_control, timeout=PATIENCE_S)
        self.lives: list[float] = []
        self.calls: list[Call] = []
        self._given_up: set[str] = set()
        """Attempts whose outcome has been waited for in vain."""
        self.life: Life
        self.consumer: Consumer

    async def __aenter__(self) -> Self:
        site = self.site
        site.directory.mkdir(parents=True)
        self.courier = make_keys(site, wall=time.time())
        write_settings(site, broker_port=1883, kiosk_port=self._port, protocol="5", subscribe="shared", uid=os.getuid())
        self._letters = Letters(read_opening_key(site.key("hub.pem")))
        board = [sys.executable, "-m", "tests.crash.board", site.port, site.sim_control, site.witness]
        self._board = await asyncio.create_subprocess_exec(*[str(word) for word in board], cwd=ROOT)
        nursery = [sys.executable, "-m", "tests.crash.nursery", site.node_toml, site.directory / "locker.log"]
        self._nursery = await asyncio.create_subprocess_exec(
            *[str(word) for word in nursery],
            self._mutant,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        await self.until("the board", site.port.is_symlink)
        self.consumer = Consumer(site)
        self._consuming = asyncio.create_task(self.consumer.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._consuming.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._consuming
        self.kill()
        if self.lives:
            await self.life.ended
        assert self._nursery.stdin is not None
        self._nursery.stdin.close()
        await self._nursery.wait()
        self.board.close()
        self._board.send_signal(signal.SIGINT)
        await self._board.wait()

    # -- lives ---------------------------------------------------------------------------------------------------------

    async def begin(self, boundary: str = "", nth: int = 1, *, armed: bool = False) -> None:
        """Begin a life. Returns at once; ``serving`` waits for it."""
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        self.lives.append(time.monotonic())
        plan = {"boundary": boundary, "nth": nth, "armed": armed}
        self._nursery.stdin.write(json.dumps(plan).encode() + b"\n")
        pid = int(await self._nursery.stdout.readline())
        self.life = Life(pid, asyncio.ensure_future(self._status()))

    async def _status(self) -> int:
        assert self._nursery.stdout is not None
        return int(await self._nursery.stdout.readline())

    def arm(self) -> None:
        self._signal(signal.SIGUSR1)

    def kill(self) -> None:
        if self.lives:
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if not self.life.dead:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.life.pid, number)

    async def death(self) -> None:
        """Wait for the kill, and until the board has done what was still on the wire."""
        status = await asyncio.wait_for(self.life.ended, PATIENCE_S)
        if status != -signal.SIGKILL:
            raise NotInTimeError(f"the agent ended by itself with {status}; see {self.site.directory}/locker.log")
        for _ in range(2):
            await asyncio.sleep(QUIET_S)
            self.board.call("doors")

    async def serving(self) -> None:
        """Wait until the kiosk answers and no door is unknown for want of a reading; returns early on death."""

        async def all_known() -> bool:
            status, answer = await self.ask("GET", "/api/doors")
            doors = answer.get("doors", ())
            return status == 200 and all(door["state"] not in {"unlocking", "unknown"} for door in doors)

        await self.until_dead_or("the kiosk", all_known)
        try:
            await self.until_dead_or("the outcomes", self.all_told, COMMIT_S)
        except NotInTimeError:
            # What is still untold then is a fault, and is found as one, or went with a database that was put back.
            self._given_up |= self.history().untold()

    def all_told(self) -> bool:
        """Whether every attempt has an outcome, or was given up."""
        return self.history().untold() <= self._given_up

    # -- looking -------------------------------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        return read_journal(self.site.database) if self.site.database.exists() else []

    def history(self, entries: list[Entry] | None = None) -> History:
        """All that is known. Journal first: what happens meanwhile may be witnessed and not yet be told."""
        events = [entry.event for entry in (self.entries() if entries is None else entries)]
        return History(self.witness(), events, self.lives, self.calls)

    def witness(self) -> list[dict[str, Any]]:
        return read_witness(self.site.witness)

    def codes(self, entries: list[Entry]) -> dict[str, SealedCode]:
        """By parcel, every code that was issued."""
        return self._letters.read(entries)

    def open_locks(self) -> list[int]:
        doors: Any = self.board.call("doors")["doors"]
        return [door["lock"] for door in doors if door["open"]]

    async def until(self, what: str, true: Callable[[], T | None]) -> T:
        deadline = time.monotonic() + PATIENCE_S
        while not (found := true()):
            if time.monotonic() > deadline:
                raise NotInTimeError(f"waited {PATIENCE_S:.0f} s for {what}; see {self.site.directory}/locker.log")
            await asyncio.sleep(LOOK_S)
        return found

    async def until_dead_or(self, what: str, true: Callable[[], Any], patience: float = PATIENCE_S) -> bool:
        """Wait for what the agent has to bring about; False when it died before."""
        deadline = time.monotonic() + patience
        while not self.life.dead:
            found = true()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return True
            if time.monotonic() > deadline:
                raise NotInTimeError(f"waited {patience:.0f} s for {what}; see {self.site.directory}/locker.log")
            await asyncio.sleep(ASK_S)
        return False

    # -- people --------------------------------------------------------------------------------------------------------

    async def collect(self, parcel: str, *, confirm: bool) -> Call:
        code = self._letters.codes[parcel].code
        return await self._person(Call("collect", parcel, confirm), "/api/collect", {"code": code, "confirm": confirm})

    async def deposit(self, parcel: str) -> Call:
        body = {"badge": self.courier.badge, "pin": self.courier.pin, "booking": parcel, "size": "S"}
        return await self._person(Call("deposit", parcel), "/api/deposit", body)

    async def _person(self, call: Call, path: str, body: dict[str, Any]) -> Call:
        self.calls.append(call)
        call.status, call.answer = await self.ask("POST", path, body)
        return call

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """(status, answer) of the kiosk's API; (0, {}) when nobody answers or the connection is cut."""
        try:
            token = self.site.token.read_text()
            answer = await asyncio.wait_for(self._exchange(method, path, token, body), PATIENCE_S)
        except (OSError, asyncio.IncompleteReadError):
            return 0, {}
        head, _, content = answer.partition(b"\r\n\r\n")
        try:
            return int(head.split()[1]), json.loads(content)
        except (IndexError, ValueError):
            return 0, {}  # cut off in the middle of its answer

    async def _exchange(self, method: str, path: str, token: str, body: dict[str, Any] | None) -> bytes:
        content = json.dumps(body).encode() if body is not None else b""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(head.encode() + content)
            return await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def shut(self, door: str) -> None:
        """Push the door shut; while its coil is still driven it springs open again."""
        lock = lock_of(door)

        def shut() -> bool:
            self.board.call("close_door", board=0, lock=lock)
            return lock not in self.open_locks()

        await self.until("the door to stay shut", shut)
