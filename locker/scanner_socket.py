"""Scans of another process, the camera's: one packet is one scan."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from edge import log
from edge.clock import Clock
from edge.errors import DeviceError, DeviceMissing
from edge.link_socket import Bucket
from locker.terminal import SCAN_LIMIT

SCANS_PER_S = 5.0
"""A person shows fewer; whoever sends more is made to wait."""
BACKLOG = 1
_PEER = struct.Struct("iII")
"""struct ucred of SO_PEERCRED (unix(7)): pid, uid, gid."""

_log = log.get_logger("locker.scanner")


async def take_scans(
    path: Path,
    scanned: Callable[[bytes], None],
    clock: Clock,
    *,
    uids: frozenset[int],
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Hand each packet of a process of the users in ``uids`` to ``scanned``, for ever; one such process at a time.

    ``ready`` is called once it can connect. Raises ``DeviceError`` when the path cannot be bound.
    """
    listener, pace, loop = _listen(path), Bucket(SCANS_PER_S, clock), asyncio.get_running_loop()
    try:
        ready()
        while True:
            peer, _ = await loop.sock_accept(listener)
            await _take(peer, scanned, clock, pace, uids)
            await clock.sleep(pace.wait())
    finally:
        listener.close()
        _remove(path)


def _is_of(peer: socket.socket, uids: frozenset[int]) -> bool:
    peer.setblocking(False)
    _, uid, _ = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    if uid not in uids:
        _log.warning("scanner.foreign_user", uid=uid)
    return uid in uids


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


async def _take(
    peer: socket.socket, scanned: Callable[[bytes], None], clock: Clock, pace: Bucket, uids: frozenset[int]
) -> None:
    """Everything that one connection has to say, if it may say anything."""
    loop = asyncio.get_running_loop()
    with peer, contextlib.suppress(OSError):
        while _is_of(peer, uids) and (packet := await loop.sock_recv(peer, SCAN_LIMIT + 1)):
            scanned(packet)
            await clock.sleep(pace.wait())


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.setblocking(False)
    _remove(path)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise DeviceError(
            f"cannot listen on {path}: {error}", remedy="check that its directory exists and is ours"
        ) from error
    path.chmod(0o660)
    listener.listen(BACKLOG)
    return listener


def hand_over(path: Path, scan: bytes) -> None:
    """The camera's end: one scan, by a connection of its own. Raises ``DeviceMissing`` where nobody takes it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(str(path))
            connection.send(scan)
        except OSError as error:
            raise DeviceMissing("the role agent takes no scans", remedy="it does once it runs") from error
