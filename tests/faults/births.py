"""The processes of one world: forked from one that has imported everything, followed by their pidfd.

A child's network, its clock and its log are settled before it becomes what it is; after that nothing of the lab runs
in it but what ``hurry`` and a mutant have changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

import cloud_sync.client_mqtt
import cloud_sync.collector_asyncio
import cloud_sync.pump
import cloud_sync.service
import cloud_sync.waiting_asyncio
import cloud_sync.wants
from agents import cloud_sync as _carrier  # noqa: F401  what a child needs is imported before it is forked
from agents import collector as _collector  # noqa: F401
from agents import processes
from edge.system_clock import SystemClock
from locker.kerong_sim import SimConfig, run_board_simulator
from tests.crash.boundaries import Trap
from tests.crash.nursery import hurry as hurry_locker
from tests.faults import linux
from tests.faults.disk import run_disk
from tests.faults.store import run_postgres

MESSAGE = 64 * 1024
AHEAD = struct.Struct("<d")


class Birth(msgspec.Struct, frozen=True):
    """What to become. ``network``: the process whose network it shares, 0 for ours. ``clock``: see ``follow``."""

    role: str
    arguments: tuple[str, ...]
    log: str
    network: int = 0
    clock: str = ""
    boundary: str = ""
    nth: int = 1


def hurry(synchronised: Path) -> None:
    """Shorten what a run would only wait for; who waits for what stays as it is. The clock counts as set by NTP."""
    hurry_locker()
    SystemClock.__init__.__defaults__ = (synchronised,)
    service: Any = cloud_sync.service
    service.FIRST_PAUSE = 0.1
    service.PROBE_TIMEOUT = service.PROBE_AGAIN = 2.0
    service.LONGEST_AGENT_PAUSE = 0.4
    collector: Any = cloud_sync.collector_asyncio
    collector.PROBE_TIMEOUT = 2.0
    collector.SWEEP = 0.1
    waiting: Any = cloud_sync.waiting_asyncio
    waiting.FIRST_PAUSE, waiting.LONGEST_PAUSE = 0.1, 0.5
    wants: Any = cloud_sync.wants
    wants.SETTLE_FOR, wants.WANT_AGAIN = 0.3, 1.0
    pump: Any = cloud_sync.pump
    pump.LONGEST_REPEAT = 2.0


def set_clock(path: Path, ahead_s: float) -> None:
    """Put the wall clock of whoever follows ``path`` so far ahead of the true one, at once."""
    with path.open("r+b" if path.exists() else "wb") as file:
        file.write(AHEAD.pack(ahead_s))


def follow(path: Path) -> None:
    """From now on this process reads its wall clock as ``set_clock`` has put it; the monotonic one stays true.

    All of the product reads it through ``time.time`` in ``edge/system_clock.py``. (libfaketime moves more, and makes
    every timed wait of a thread a busy loop.)
    """
    with path.open("rb") as file:
        seen = mmap.mmap(file.fileno(), AHEAD.size, prot=mmap.PROT_READ)
    true_time = time.time
    time.time = lambda: true_time() + AHEAD.unpack(seen[:])[0]


def _board(link: str, control: str, log: str) -> None:
    config = SimConfig(Path(link), Path(control), Path(log), release_ms=2, open_ms=5, coil_ms=10)
    asyncio.run(run_board_simulator(config))


def _disk(at: str, control: str, seed: str) -> None:
    asyncio.run(run_disk(Path(at), Path(control), int(seed)))


ROLES: dict[str, Callable[..., None]] = {
    "lock-board": _board,
    "disk": _disk,
    "postgres": run_postgres,
    **{
        name: lambda config, name=name: processes.run(name, Path(config))
        for name in ("locker", "cloud-sync", "collector")
    },
}


def _live(birth: Birth) -> None:
    out = os.open(birth.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in (1, 2):
        os.dup2(out, number)
    if birth.network:
        linux.enter_network(birth.network)
    if birth.clock:
        follow(Path(birth.clock))
    if birth.boundary:
        Trap(birth.boundary, birth.nth, armed=True).lay()
    ROLES[birth.role](*birth.arguments)


class Child:
    """A process of the world. Death is known by its pidfd, so no other process can be meant."""

    def __init__(self, name: str, pid: int, handle: int) -> None:
        self.name = name
        self.pid = pid
        self._handle = handle
        self.ended = asyncio.Event()
        self.killed = False
        """By the lab, or soon to be: its end is no fault of its own."""
        asyncio.get_running_loop().add_reader(handle, self._over)

    def _over(self) -> None:
        asyncio.get_running_loop().remove_reader(self._handle)
        os.close(self._handle)
        self.ended.set()

    @property
    def dead(self) -> bool:
        return self.ended.is_set()

    def signal(self, number: signal.Signals) -> None:
        if not self.dead:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)

    async def halt(self) -> None:
        """SIGSTOP, and return when no thread of it runs any more."""
        self.signal(signal.SIGSTOP)
        while not self.dead and _state(self.pid) != "T":  # noqa: ASYNC110  nothing tells of it
            await asyncio.sleep(0.001)

    async def kill(self) -> None:
        self.killed = True
        self.signal(signal.SIGKILL)
        await self.ended.wait()


def _state(pid: int) -> str:
    """As proc(5) writes it: R, S, T ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


class Nursery:
    """Made before the run has an event loop or a thread: a fork takes over neither."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        if os.fork() == 0:
            ours.close()
            linux.end_with_parent()
            _bear(theirs)
            os._exit(0)
        theirs.close()

    def born(self, name: str, birth: Birth) -> Child:
        self._socket.send(msgspec.json.encode(birth))
        told, handles, _, _ = socket.recv_fds(self._socket, MESSAGE, 1)
        return Child(name, int(told), handles[0])

    def close(self) -> None:
        """The nursery ends, and with it every child that still lives."""
        self._socket.close()


def _bear(requests: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    while request := requests.recv(MESSAGE):
        child = os.fork()
        if child == 0:
            requests.close()
            linux.end_with_parent()
            _become(msgspec.json.decode(request, type=Birth))
        handle = os.pidfd_open(child)
        socket.send_fds(requests, [str(child).encode()], [handle])
        os.close(handle)
        while _reaped():
            pass


def _become(birth: Birth) -> None:
    status = 1
    try:
        _live(birth)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        os._exit(status)


def _reaped() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] > 0
    except ChildProcessError:
        return False
