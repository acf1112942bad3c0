"""The few calls of Linux that Python 3.11 does not have: namespaces, mounts, and ending with one's parent."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

CLONE_NEWNS, CLONE_NEWNET = 0x0002_0000, 0x4000_0000
MS_REC, MS_PRIVATE = 0x4000, 0x4_0000
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    _checked(_libc.unshare(flags), "unshare")


def enter_network(pid: int) -> None:
    """Move this thread into the network of process ``pid``."""
    space = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.setns(space, CLONE_NEWNET), "setns")
    finally:
        os.close(space)


def mount(source: str, target: Path | str, kind: str, flags: int = 0, data: str = "") -> None:
    told = (source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), data.encode())
    _checked(_libc.mount(*told), f"mount {target}")


def unmount(target: Path | str) -> None:
    """Out of sight at once; whoever still holds a file of it gets errors."""
    _checked(_libc.umount2(os.fsencode(target), MNT_DETACH), f"umount {target}")


def end_with_parent() -> None:
    """From now on this process is killed when the one that forked it ends."""
    _checked(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL), "prctl")


def private_mounts() -> None:
    """What is mounted from now on is seen by this process and its children alone, and ends with them."""
    unshare(CLONE_NEWNS)
    mount("none", "/", "none", MS_REC | MS_PRIVATE)
