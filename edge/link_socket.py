"""The local socket between the process with the hardware and the process with the network.

``LinkServer`` is the role agent's end: it trusts nobody behind it, so it checks the peer's user, bounds sizes, rates
and queues, and ends a connection that does not keep to them. ``connect`` is cloud-sync's end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from edge import link
from edge.clock import Clock
from edge.errors import DeviceError, ProtocolError, StoreError
from edge.link import (
    Answer,
    Fault,
    Held,
    Hello,
    Link,
    Offer,
    Out,
    Passed,
    Pull,
    Request,
    Serving,
    Unsendable,
    Vouch,
    Wake,
)

MAX_CONNECTIONS = 4
"""One is in use; the others let a restarted cloud-sync in before the kernel has told us that the old one is gone."""
MAX_UNSENT = 256
MAX_UNSENT_BYTES = 1024 * 1024
"""Packets waiting for a peer that does not read; then it is cut off and has to pull again."""
REQUESTS_PER_S = 600.0
"""Of all connections together: enough to drain 60,000 events of half a kilobyte a second, and too few to take a core
from a pickup."""
ACKS_PER_S = 100.0
"""An ack costs a verification, and mostly a commit; a consumer of a fast drain sends a few a second."""
COMMITS_PER_S = 20.0
"""Offers, link numbers and what the broker said cost a commit each: people open doors more slowly, and a flood must
not wear out the disk. A signature for a renewal is asked for a few times a year."""
CONNECTS_PER_S = 20.0
"""A restarted cloud-sync needs one; whoever knocks without end waits in the kernel's queue."""
BURST_S = 1.0
BACKLOG = 4

_PEER = struct.Struct("iII")
"""struct ucred of SO_PEERCRED (unix(7)): pid, uid, gid."""


class LinkClosed(DeviceError):
    """The other end of the local socket is gone."""

    def __init__(self) -> None:
        super().__init__("the local socket is closed", remedy="connect again; nothing was lost")


class LinkDesk(Protocol):
    """Who answers cloud-sync: the role agent."""

    async def answer(self, request: Request) -> Answer:
        """Raises ``ProtocolError`` for what cannot be answered."""
        ...


class Bucket:
    """A token bucket on running time: ``wait`` is how long the next request has to be held back."""

    def __init__(self, rate: float, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._tokens = rate * BURST_S
        self._at = clock.mono()

    def wait(self) -> float:
        """Take a token and return the seconds until it is due."""
        now = self._clock.mono()
        self._tokens = min(self._rate * BURST_S, self._tokens + (now - self._at) * self._rate) - 1.0
        self._at = now
        return max(0.0, -self._tokens / self._rate)


class _Peer:
    """One connection as the server sees it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.unsent: asyncio.Queue[bytes] = asyncio.Queue(MAX_UNSENT)
        self.unsent_bytes = 0
        self.greeted = False
        self.woken = False
        self.task: asyncio.Task[None] | None = None


class LinkServer:
    """Listens on ``path`` for processes of the users in ``uids``; answers through ``desk``."""

    def __init__(self, path: Path, desk: LinkDesk, *, uids: frozenset[int], clock: Clock) -> None:
        self._path = path
        self._desk = desk
        self._uids = uids
        self._clock = clock
        self._requests = Bucket(REQUESTS_PER_S, clock)
        self._acks = Bucket(ACKS_PER_S, clock)
        self._commits = Bucket(COMMITS_PER_S, clock)
        self._connects = Bucket(CONNECTS_PER_S, clock)
        self._peers: set[_Peer] = set()
        self.refused: dict[str, int] = {}
        """Connections refused or ended, by reason, for health."""

    async def serve(self, ready: Callable[[], None] = lambda: None) -> None:
        """Listen until cancelled. Raises ``DeviceError`` when the path cannot be bound, and a defect of the desk."""
        listener = self._listen()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as tasks:
                ready()
                while True:
                    sock, _ = await loop.sock_accept(listener)
                    self._welcome(sock, tasks)
                    await self._clock.sleep(self._connects.wait())
        finally:
            listener.close()
            self._path.unlink(missing_ok=True)
            # Whoever was let in at the very end has never been attended to.
            for peer in self._peers:
                peer.sock.close()
            self._peers.clear()

    def wake(self) -> None:
        """Tell every peer, once until it pulls again, that there are new events."""
        for peer in list(self._peers):
            if peer.greeted and not peer.woken:
                peer.woken = True
                self._put(peer, link.encode(Wake()))

    def push(self, message: Out | Serving) -> None:
        """Hand ``message`` to every peer that has said HELLO; nobody waits for it."""
        packet = link.encode(message)
        for peer in list(self._peers):
            if peer.greeted:
                self._put(peer, packet)

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.setblocking(False)
        self._path.unlink(missing_ok=True)
        try:
            listener.bind(str(self._path))
        except OSError as error:
            listener.close()
            raise DeviceError(
                f"cannot listen on {self._path}: {error}", remedy="check that its directory exists and is ours"
            ) from error
        # The directory's group decides who gets this far (lastmile.tmpfiles.conf), SO_PEERCRED who is answered.
        self._path.chmod(0o660)
        listener.listen(BACKLOG)
        return listener

    def _welcome(self, sock: socket.socket, tasks: asyncio.TaskGroup) -> None:
        sock.setblocking(False)
        _, uid, _ = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        if uid not in self._uids:
            self._refuse(sock, "foreign_user")
        elif len(self._peers) >= MAX_CONNECTIONS:
            self._refuse(sock, "too_many")
        else:
            peer = _Peer(sock)
            self._peers.add(peer)
            peer.task = tasks.create_task(self._attend(peer), name="link-peer")

    def _refuse(self, sock: socket.socket, reason: str) -> None:
        self._count(reason)
        sock.close()

    def _count(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1

    async def _attend(self, peer: _Peer) -> None:
        sender = asyncio.create_task(_send_all(peer), name="link-sender")
        try:
            while packet := await _receive(peer.sock):
                await self._handle(peer, packet)
        except ProtocolError:
            self._count("protocol")
        except StoreError:
            # Not answered, so that cloud-sync asks again: what it offered is not acknowledged to the broker.
            self._count("store")
        except OSError:
            self._count("gone")
        finally:
            self._peers.discard(peer)
            sender.cancel()
            try:
                await asyncio.wait([sender])
            finally:
                peer.sock.close()

    async def _handle(self, peer: _Peer, packet: bytes) -> None:
        request = link.decode_request(packet)
        await self._clock.sleep(self._delay(request))
        if isinstance(request, Hello):
            peer.greeted = True
        elif not peer.greeted:
            raise ProtocolError("a request before HELLO", remedy="the connection ends")
        elif isinstance(request, Pull):
            # Before the answer is looked up: what is committed after that look wakes again.
            peer.woken = False
        try:
            answer = await self._desk.answer(request)
        except ProtocolError as error:
            answer = Fault(request.n, error.what)
        self._put(peer, link.encode(answer))

    def _delay(self, request: Request) -> float:
        """Seconds that the request has to wait, so that no flood keeps this process from a pickup."""
        delay = self._requests.wait()
        if isinstance(request, Held):
            return max(delay, self._acks.wait())
        if isinstance(request, Offer | Link | Passed | Unsendable | Vouch):
            return max(delay, self._commits.wait())
        return delay

    def _put(self, peer: _Peer, packet: bytes) -> None:
        peer.unsent_bytes += len(packet)
        if peer.unsent_bytes <= MAX_UNSENT_BYTES and not peer.unsent.full():
            peer.unsent.put_nowait(packet)
            return
        self._count("stalled")
        self._peers.discard(peer)
        if peer.task is not None:
            peer.task.cancel()


async def _receive(sock: socket.socket) -> bytes:
    """One packet; b"" at the end. Raises ``ProtocolError`` for one that does not fit."""
    packet = await asyncio.get_running_loop().sock_recv(sock, link.MAX_PACKET_BYTES + 1)
    if len(packet) > link.MAX_PACKET_BYTES:
        raise ProtocolError("a packet over the limit", remedy="the connection ends")
    return packet


async def _send_all(peer: _Peer) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while True:
            packet = await peer.unsent.get()
            await loop.sock_sendall(peer.sock, packet)
            peer.unsent_bytes -= len(packet)


class LinkClient:
    """cloud-sync's end: asks, and hears what comes unasked. Made by ``connect``."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._number = 0
        self._asked: dict[int, asyncio.Future[Answer]] = {}
        self._pushes: asyncio.Queue[Wake | Out | Serving | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._read(), name="link-client")

    async def ask(self, make: Callable[[int], Request]) -> Answer:
        """The answer to ``make(n)``. Raises ``ProtocolError`` for a ``Fault``, ``LinkClosed`` when nobody is there."""
        if self._task.done():
            raise LinkClosed
        self._number += 1
        number, loop = self._number, asyncio.get_running_loop()
        waiter: asyncio.Future[Answer] = loop.create_future()
        self._asked[number] = waiter
        try:
            await loop.sock_sendall(self._sock, link.encode(make(number)))
            answer = await waiter
        except OSError as error:
            raise LinkClosed from error
        finally:
            self._asked.pop(number, None)
        if isinstance(answer, Fault):
            raise ProtocolError(f"the role agent refused: {answer.reason}", remedy="say HELLO again")
        return answer

    async def next_push(self) -> Wake | Out | Serving:
        """The next message that nobody asked for. Raises ``LinkClosed`` at the end."""
        push = await self._pushes.get()
        if push is None:
            self._pushes.put_nowait(None)
            raise LinkClosed
        return push

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _read(self) -> None:
        try:
            while packet := await _receive(self._sock):
                reply = link.decode_reply(packet)
                if isinstance(reply, Wake | Out | Serving):
                    self._pushes.put_nowait(reply)
                elif (waiter := self._asked.pop(reply.n, None)) and not waiter.done():
                    waiter.set_result(reply)
        except (OSError, ProtocolError):
            return
        finally:
            self._sock.close()
            self._pushes.put_nowait(None)
            for waiter in self._asked.values():
                if not waiter.done():
                    waiter.set_exception(LinkClosed())
            self._asked.clear()


async def connect(path: str | os.PathLike[str]) -> LinkClient:
    """Connect to the role agent. Raises ``LinkClosed`` when it is not there or does not let us in."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, os.fspath(path))
    except OSError as error:
        sock.close()
        raise LinkClosed from error
    return LinkClient(sock)
