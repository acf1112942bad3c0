"""A network of its own for one process: packets on its loopback are lost or slowed by the kernel, not by us.

The product speaks plain MQTT to a loopback address alone, so the namespace has a listener there, and the run's relay
answers it from outside. What nftables and HTB do on that loopback befalls real packets: TCP repeats them, waits, and
hears nothing.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket

from tests.faults import linux
from tests.isolation.stage import loopback_up

TABLE = "inet lab"


def possible() -> bool:
    return os.geteuid() == 0 and all(shutil.which(name) for name in ("nft", "tc", "nsenter"))


class Network:
    """``listener`` takes connections inside the namespace. Made before the run has an event loop or a thread."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._life = ours
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            _keep(theirs)
        theirs.close()
        _, handles, _, _ = socket.recv_fds(ours, 1, 1)
        self.listener = socket.socket(fileno=handles[0])
        self.port: int = self.listener.getsockname()[1]

    def close(self) -> None:
        self._life.close()
        self.listener.close()
        os.kill(self.pid, signal.SIGKILL)  # a process forked later may hold the other end of its life
        os.waitpid(self.pid, 0)

    async def lose(self, percent: int) -> None:
        """Drop so many of a hundred packets, each way; 100 is a cable pulled out."""
        await self._nft(f"add table {TABLE}")
        await self._nft(f"add chain {TABLE} loss {{ type filter hook input priority 0; }}")
        rule = "drop" if percent == 100 else f"numgen random mod 100 < {percent} drop"
        await self._nft(f"add rule {TABLE} loss {rule}")

    async def slow(self, kilobits: int) -> None:
        """So many thousand bits a second for both ways together, by HTB."""
        await self._inside("tc", "qdisc", "add", "dev", "lo", "root", "handle", "1:", "htb", "default", "1")
        rate = f"{kilobits}kbit"
        await self._inside("tc", "class", "add", "dev", "lo", "parent", "1:", "classid", "1:1", "htb", "rate", rate)

    async def heal(self) -> None:
        await self._nft(f"add table {TABLE}")
        await self._nft(f"delete table {TABLE}")
        await self._inside("tc", "qdisc", "del", "dev", "lo", "root", fine=False)

    async def _nft(self, what: str) -> None:
        await self._inside("nft", what)

    async def _inside(self, *command: str, fine: bool = True) -> None:
        process = await asyncio.create_subprocess_exec(
            "nsenter",
            f"--net=/proc/{self.pid}/ns/net",
            *command,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await process.communicate()
        assert not fine or process.returncode == 0, f"{' '.join(command)}: {said.decode()}"


def _keep(life: socket.socket) -> None:
    """Hold the namespace until the run lets go."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    linux.end_with_parent()
    linux.unshare(linux.CLONE_NEWNET)
    loopback_up()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        socket.send_fds(life, [b"x"], [listener.fileno()])
    life.recv(1)
    os._exit(0)


def own_network() -> None:
    """Move the run into a network of its own: nothing that it listens on is seen from outside."""
    linux.unshare(linux.CLONE_NEWNET)
    loopback_up()
