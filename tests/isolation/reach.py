"""Hostile code that reaches for the role agent's things. Prints {what it tried: "reached" or why not} as JSON.

Run by ``scenario.py`` as one user after another; what there is to reach is its argument, as JSON.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import errno
import http.client
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from edge import link

REACHED = "reached"
PTRACE_SEIZE, PIDFD_OPEN, PIDFD_GETFD = 0x4206, 434, 438
ANSWER_S = 2.0

Attempt = Callable[[], object]


def attempt(act: Attempt) -> str:
    try:
        act()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return REACHED


def files(paths: list[str]) -> Iterator[tuple[str, Attempt]]:
    for path in paths:
        yield f"read {path}", partial(_open, path, os.O_RDONLY)
        yield f"write {path}", partial(_open, path, os.O_WRONLY)


def _open(path: str, way: int) -> None:
    os.close(os.open(path, way | os.O_NONBLOCK | os.O_NOCTTY))


def directories(paths: list[str]) -> Iterator[tuple[str, Attempt]]:
    for path in paths:
        yield f"list {path}", partial(os.listdir, path)
        yield f"put something into {path}", partial(_put_and_take, Path(path) / "hostile")


def _put_and_take(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as impostor:
        impostor.bind(str(path))
    path.unlink()


def replacing(sockets: list[str]) -> Iterator[tuple[str, Attempt]]:
    """Destroys what it reaches, so it is for hostile users alone."""
    for path in map(Path, sockets):
        yield f"unlink {path}", path.unlink
        yield f"rename {path}", partial(path.rename, path.with_suffix(".old"))
        yield f"chmod {path}", partial(path.chmod, 0o777)


def process(pid: int) -> Iterator[tuple[str, Attempt]]:
    """What the kernel lets one process do to another. Each changes nothing where it is allowed."""
    place = Path(f"/proc/{pid}")
    for name in ("mem", "environ", "maps", "auxv"):
        yield f"/proc/pid/{name}", partial(_open, str(place / name), os.O_RDONLY)
    for name in ("fd", "map_files", "root/", "cwd/"):
        yield f"/proc/pid/{name}", partial(os.listdir, f"{place}/{name}")
    for name in ("exe", "ns/net", "ns/mnt"):
        yield f"/proc/pid/{name}", (place / name).readlink
    yield "signal", partial(os.kill, pid, signal.SIGWINCH)
    yield "priority", lambda: os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, pid))
    yield "affinity", lambda: os.sched_setaffinity(pid, os.sched_getaffinity(pid))
    yield "limits", partial(resource.prlimit, pid, resource.RLIMIT_NOFILE)
    yield "steal a descriptor", partial(_steal, pid)
    yield "ptrace", lambda: _call(_libc().ptrace(PTRACE_SEIZE, pid, None, None))


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _call(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result


def _steal(pid: int) -> None:
    libc = _libc()
    handle = _call(libc.syscall(PIDFD_OPEN, pid, 0))
    try:
        os.close(_call(libc.syscall(PIDFD_GETFD, handle, 0, 0)))
    finally:
        os.close(handle)


def connecting(path: str) -> Iterator[tuple[str, Attempt]]:
    yield "connect to the socket", partial(_connect, path)
    yield "be answered on the socket", partial(_hello, path)


def _connect(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.connect(path)


def _hello(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.settimeout(ANSWER_S)
        peer.connect(path)
        peer.send(link.encode(link.Hello(1)))
        if not peer.recv(link.MAX_PACKET_BYTES):
            raise OSError(errno.EPIPE, "closed without an answer")


CALLS: tuple[tuple[str, str, dict[str, Any] | None], ...] = (
    ("POST", "/api/collect", {"code": "123456782"}),
    ("POST", "/api/deposit", {"badge": "a.b.c", "pin": "12345678", "booking": "x", "size": "M"}),
    ("GET", "/api/doors", None),
    ("GET", "/api/sessions/0", None),
    ("POST", "/api/sessions/0/end", {"word": "empty"}),
    ("GET", "/api/sessions/0/watch", None),
)
"""Every call of the kiosk's API; the last is a WebSocket."""


def kiosk(port: int, token: str) -> dict[str, str]:
    """What every call is answered with ``token``, or, without one, under every way of not quite having it."""
    guess = token or base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()
    keys = {"guessed": {"Authorization": f"Bearer {guess}"}}
    if not token:
        keys["absent"] = {}
        keys["empty"] = {"Authorization": "Bearer "}
        keys["another scheme"] = {"Authorization": f"Basic {guess}"}
        keys["a cookie"] = {"Cookie": f"token={guess}"}
        keys["two of them"] = {"Authorization": f"Bearer {guess}, Bearer {guess}"}
    answers: dict[str, str] = {}
    for name, key in keys.items():
        for method, path, body in CALLS:
            headers = _upgrade(guess) | key if path.endswith("watch") else {"Content-Type": "application/json"} | key
            answers[f"{name}: {method} {path}"] = _ask(port, method, path, body, headers)
    return answers


def _upgrade(token: str) -> dict[str, str]:
    return {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Protocol": f"lastmile.kiosk.v1, token.{token}",
    }


def _ask(port: int, method: str, path: str, body: dict[str, Any] | None, headers: dict[str, str]) -> str:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)) as connection:
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            return str(connection.getresponse().status)
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))


def main() -> None:
    told = json.loads(sys.argv[1])
    tries = [*files(told["files"]), *directories(told["directories"]), *replacing(told["replace"])]
    tries += process(told["pid"]) if told["pid"] else ()
    tries += connecting(told["socket"])
    answers = {what: attempt(act) for what, act in tries}
    if told["port"]:
        answers |= {f"kiosk, token {what}": said for what, said in kiosk(told["port"], told["token"]).items()}
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    main()
