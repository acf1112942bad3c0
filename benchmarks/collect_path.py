"""From an accepted code to the unlock frame on the wire, beside the least that any program must do for it.

The other end of a real pseudo-terminal is a process of its own: it answers the driver's queries, notes when an unlock
frame has arrived (CLOCK_MONOTONIC, which all processes share) and, for the second figure, is the kiosk's browser. The
baseline, alternating with ours in the same run, writes as many bytes as a pickup adds to the database's log to a file
of their size, ``fdatasync``, and sends the frame through a second pseudo-terminal.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import pty
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import tty
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from agents.locker_upkeep import LockerUpkeep
from benchmarks._report import Figure, report
from edge.journal import Limits
from edge.journal_log_file import log_bytes
from edge.journal_open_sql import open_journal
from edge.journal_place_file import Place
from edge.journal_upkeep_asyncio import Upkeep
from edge.keys import SigningKey
from edge.serial_asyncio import SerialPort
from edge.system_clock import SystemClock
from locker.board import BusTiming
from locker.board_serial import SerialBoards
from locker.boards import kerong
from locker.cabinet_asyncio import Cabinet
from locker.compartment import Compartment, LedgerState, Size
from locker.contract import Word
from locker.door_times import DoorTimes
from locker.kiosk import Accepted, SessionState
from locker.kiosk_http import KioskLimits, build_kiosk, listen_kiosk, serve_kiosk
from locker.latch import Hook, Latch
from locker.ledger import Parcel
from locker.ledger_file import rebuild_ledger
from locker.ledger_sql import LOCKER_STEPS, LedgerStore, RunningTime, SqlLedger
from locker.parcel import ParcelState
from locker.pickup_code import CodeHasher, issue
from locker.service import LockerService, Readers, Terms
from locker.sessions_asyncio import Sessions
from locker.shown import Shown

DOOR, PARCEL, TOKEN = "01", "p1", "t" * 43
FRAME = kerong.unlock(0, 0)
WARM_UP = 10
QUIET_S = 0.45
"""After a pickup, until its ledger copy, anchor and checkpoint are on the disk: customers come one after another."""
TIMES = DoorTimes(debounce=0.001, coil=0.0)
BUS = BusTiming(settle=0.002)
"""A door and a bus without a real one's inertia: what follows the frame is not measured, only waited for."""


class Peer:
    """The other process: boards, and the kiosk's browser."""

    def __init__(self, bus: int, bare: int, control: socket.socket) -> None:
        self.bus = bus
        self.bare = bare
        self.control = control
        self.kept, self.open = b"", False
        self.browser: http.client.HTTPConnection | None = None

    def run(self) -> None:
        chosen = selectors.DefaultSelector()
        for source, act in ((self.bus, self.hear), (self.bare, self.arrived), (self.control, self.asked)):
            chosen.register(source, selectors.EVENT_READ, act)
        while True:
            for key, _ in chosen.select():
                key.data()

    def arrived(self) -> None:
        now = time.monotonic_ns()
        if os.read(self.bare, 4096):
            self.tell(now)

    def hear(self) -> None:
        now = time.monotonic_ns()
        self.kept += os.read(self.bus, 4096)
        while len(self.kept) >= len(FRAME):
            frame, self.kept = self.kept[: len(FRAME)], self.kept[len(FRAME) :]
            if frame == FRAME:
                self.open = True
                self.tell(now)
            else:
                os.write(self.bus, self.status())

    def status(self) -> bytes:
        hooks = 0xFE if self.open else 0xFF
        body = bytes([0x02, 0x00, 0x35, hooks, 0xFF, 0, 0, 0x03])
        return body + bytes([sum(body) % 256])

    def asked(self) -> None:
        request = self.control.recv(65536)
        if not request:
            sys.exit(0)
        asked = json.loads(request)
        if "shut" in asked:
            self.open = False
            return
        if self.browser is None:
            self.browser = http.client.HTTPConnection(asked["host"])
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        began = time.monotonic_ns()
        self.browser.request("POST", "/api/collect", json.dumps({"code": asked["code"]}), headers)
        answer = self.browser.getresponse()
        self.control.send(
            json.dumps({"began": began, "status": answer.status, "body": answer.read().decode()}).encode()
        )

    def tell(self, arrived: int) -> None:
        self.control.send(json.dumps({"arrived": arrived}).encode())


class Other:
    """The other process, as this one speaks to it."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._said: dict[str, asyncio.Queue[dict[str, Any]]] = {"arrived": asyncio.Queue(), "began": asyncio.Queue()}
        asyncio.get_running_loop().add_reader(control, self._hear)

    def _hear(self) -> None:
        said = json.loads(self._control.recv(65536))
        self._said["arrived" if "arrived" in said else "began"].put_nowait(said)

    async def arrived(self) -> int:
        """When the next unlock frame had come, in ns."""
        return int((await self._said["arrived"].get())["arrived"])

    async def browse(self, host: str, code: str) -> dict[str, Any]:
        self._control.send(json.dumps({"host": host, "code": code}).encode())
        return await self._said["began"].get()

    def shut_door(self) -> None:
        self._control.send(json.dumps({"shut": True}).encode())

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._control)
        self._control.close()


@contextlib.contextmanager
def other_process(bus: int, bare: int) -> Iterator[Other]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fds = (bus, bare, theirs.fileno())
    process = subprocess.Popen([sys.executable, __file__, "--peer", *map(str, fds)], pass_fds=fds)
    theirs.close()
    other = Other(ours)
    try:
        yield other
    finally:
        other.close()
        process.wait(10)


class Bench:
    """A locker with one parcel that is collected over and over."""

    def __init__(self, folder: Path, tty_name: str) -> None:
        self.clock = SystemClock()
        self.files = Place(folder / "state.db")
        self.limits = Limits(reserve_bytes=0)
        self.key = SigningKey.generate(os.urandom)
        self.hasher = CodeHasher(os.urandom(32))
        self.code = issue(os.urandom, self.hasher, lambda _: False)
        self.port = SerialPort(tty_name, baud=19200, clock=self.clock)
        self.tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self.journal = open_journal(
            self.files,
            steps=LOCKER_STEPS,
            rebuild=lambda connection: rebuild_ledger(connection, self.files.database),
            consumers=("hub",),
            source="/lm/v1/bench/bench_locker",
            clock=self.clock,
            random=os.urandom,
            sealer=self.key,
            limits=self.limits,
        ).journal
        self.journal.start()
        copies = LockerUpkeep(self.files.database, self.clock)
        self.store = LedgerStore(self.journal, RunningTime(0.0, self.clock), copies)
        await self.store.keep(self._fill)
        self.service = LockerService(
            terms=Terms("bench_locker"),
            store=self.store,
            sessions=Sessions(os.urandom),
            clock=self.clock,
            issue=_never,
            readers=Readers(self.hasher, _never, _never, Shown(os.urandom)),
            offline=lambda: False,
            background=self.spawn,
        )
        boards = SerialBoards(self.port, self.clock, kerong.Codec({0: kerong.Wiring(0)}), BUS)
        compartments = [Compartment(DOOR, Latch(0, 0), Size.S, 600)]
        cabinet = Cabinet(compartments, boards, self.clock, told=self.service.heard, times=TIMES)
        self.service.attach(cabinet)
        upkeep = Upkeep(self.journal, self.files, self.limits, self.clock, lambda: None)
        self.spawn("copies", copies.write_copies)
        self.spawn("journal", upkeep.run)
        read = asyncio.Event()
        self.spawn("bus", lambda: cabinet.poll(read.set))
        while cabinet.standing(DOOR) is Hook.UNKNOWN:
            read.clear()
            await read.wait()

    def _fill(self, ledger: SqlLedger) -> None:
        ledger.add_compartments([DOOR])
        ledger.set_compartment(DOOR, LedgerState.OCCUPIED)
        ledger.add_parcel(Parcel(parcel=PARCEL, door=DOOR, state=ParcelState.STORED, courier="c", run="r"))
        ledger.save_code(PARCEL, self.hasher.of(self.code))

    def spawn(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.ensure_future(work())
        task.set_name(name)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def put_back(self, session: str, other: Other) -> None:
        """Wait for the end of the pickup, then have the parcel stored again."""
        async for view in self.service.watch(session):
            if view.state is not SessionState.UNLOCKING:
                other.shut_door()
            if view.state in {SessionState.JAMMED, SessionState.UNKNOWN}:  # the other process was not given its turn
                await self.service.end(session, Word.NONE)
        await self.store.keep(self._store_again)
        await asyncio.sleep(QUIET_S)

    @staticmethod
    def _store_again(ledger: SqlLedger) -> None:
        for state in (ParcelState.COLLECTED, ParcelState.UNCONFIRMED):
            ledger.move_parcel(PARCEL, state, ParcelState.STORED)
        ledger.set_compartment(DOOR, LedgerState.OCCUPIED)

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.port.close()
        await self.journal.close()


def _never(*_: object) -> Any:
    raise NotImplementedError  # nobody deposits anything here


async def by_service(bench: Bench, other: Other) -> float:
    began = time.monotonic_ns()
    answer = await bench.service.collect(bench.code.typed, None, False)
    if not isinstance(answer, Accepted):
        raise TypeError(f"refused: {answer}")
    took = await other.arrived() - began
    await bench.put_back(answer.session, other)
    return took / 1e6


async def by_http(bench: Bench, other: Other, host: str) -> float:
    answer = await other.browse(host, bench.code.typed)
    if answer["status"] != 202:
        raise RuntimeError(f"refused: {answer}")
    took = await other.arrived() - int(answer["began"])
    await bench.put_back(json.loads(answer["body"])["session"], other)
    return took / 1e6


class Baseline:
    """A file of fixed size, a bare pseudo-terminal, and nothing else."""

    def __init__(self, path: Path, size: int, terminal: int) -> None:
        self._body = os.urandom(size)
        self._terminal = terminal
        self._rooms = 64
        self._turn = 0
        self._file = os.open(path, os.O_RDWR | os.O_CREAT)
        # Written, not only allocated: the log that SQLite writes again and again has its blocks, too.
        os.write(self._file, bytes(size * self._rooms))
        os.fsync(self._file)

    async def once(self, other: Other) -> float:
        began = time.monotonic_ns()
        os.pwrite(self._file, self._body, self._turn % self._rooms * len(self._body))
        os.fdatasync(self._file)
        os.write(self._terminal, FRAME)
        self._turn += 1
        return (await other.arrived() - began) / 1e6

    def close(self) -> None:
        os.close(self._file)


async def pickup_bytes(bench: Bench, other: Other) -> int:
    """What the transaction before the pulse adds to the database's log."""
    sizes, log = [], bench.files.log
    for _ in range(WARM_UP):
        before = log_bytes(log)
        answer = await bench.service.collect(bench.code.typed, None, False)
        sizes.append(log_bytes(log) - before)
        await other.arrived()
        if isinstance(answer, Accepted):
            await bench.put_back(answer.session, other)
    return int(statistics.median(sizes))


@contextlib.asynccontextmanager
async def kiosk(bench: Bench, folder: Path) -> AsyncIterator[str]:
    (page := folder / "page").mkdir()
    (page / "index.html").write_text("<!doctype html><title>bench</title>")
    listener = listen_kiosk("127.0.0.1", 0)
    host = f"127.0.0.1:{listener.getsockname()[1]}"
    app = build_kiosk(
        bench.service,
        token=TOKEN,
        static=page,
        hosts=frozenset({host}),
        clock=bench.clock,
        limits=KioskLimits(requests_per_second=1e6, burst=1000),
    )
    serving = asyncio.create_task(serve_kiosk(app, listener))
    try:
        yield host
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


async def measure(folder: Path, rounds: int) -> dict[str, list[float]]:
    (bus, bus_tty), (bare, bare_tty) = pty.openpty(), pty.openpty()
    for end in (bus, bus_tty, bare, bare_tty):
        tty.setraw(end)
    bench = Bench(folder, os.ttyname(bus_tty))
    took: dict[str, list[float]] = {"service": [], "http": [], "baseline": []}
    with other_process(bus, bare) as other:
        await bench.start()
        baseline = Baseline(folder / "baseline", await pickup_bytes(bench, other), bare_tty)
        async with kiosk(bench, folder) as host:
            await by_http(bench, other, host)
            for turn in range(rounds):
                # Which comes first changes, so that neither always follows the other's work on the disk.
                for kind in ("baseline", "service", "http") if turn % 2 else ("http", "service", "baseline"):
                    if kind == "baseline":
                        took[kind].append(await baseline.once(other))
                    elif kind == "service":
                        took[kind].append(await by_service(bench, other))
                    else:
                        took[kind].append(await by_http(bench, other, host))
        await bench.stop()
        baseline.close()
    for end in (bus, bus_tty, bare, bare_tty):
        os.close(end)
    return took


def figures(took: dict[str, list[float]]) -> list[Figure]:
    found = []
    for kind in ("service", "http"):
        for name, share, goal in (("p50", 50, 1.6), ("p99", 99, 2.0)):
            value, least = (
                statistics.quantiles(took[each], n=100, method="inclusive")[share - 1] for each in (kind, "baseline")
            )
            found.append(
                Figure(f"code to frame by {kind}, {name}", round(value, 3), "ms", round(least, 3), value / least, goal)
            )
    return found


def main() -> None:
    if sys.argv[1:2] == ["--peer"]:
        bus, bare, control = map(int, sys.argv[2:5])
        Peer(bus, bare, socket.socket(fileno=control)).run()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under 50 s")
    parser.add_argument("--json", action="store_true", help="no table before the last line")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        took = asyncio.run(measure(Path(folder), 19 if arguments.quick else 300))
    report(figures(took), arguments)


if __name__ == "__main__":
    main()
