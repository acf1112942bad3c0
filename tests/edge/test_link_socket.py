"""The local socket: whoever stands behind it, the role agent answers in bounds, and nobody else gets a word."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge import link
from edge.errors import DeviceError, ProtocolError, StoreFull
from edge.link import Answer, Events, Fault, Hello, LinkNumber, Offer, OfferAnswer, Out, Pull, Request, Wake, Welcome
from edge.link_socket import (
    COMMITS_PER_S,
    MAX_CONNECTIONS,
    MAX_UNSENT_BYTES,
    LinkClient,
    LinkClosed,
    LinkServer,
    connect,
)
from edge.system_clock import SystemClock
from tests.privilege import as_root

EPOCH = "019aa8f0-7c1e-7abc-8def-0123456789ab"


class Desk:
    """Answers at once, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.body = b"x"
        self.failure: Exception | None = None

    async def answer(self, request: Request) -> Answer:
        self.asked.append(request)
        if self.failure is not None:
            raise self.failure
        match request:
            case Hello(n):
                return Welcome(n, "acme", "acme_l1", "locker", "i", "s", "0.1.0", True, ("hub",), ())
            case Pull(n, _, _, after, _):
                return Events(n, (self.body,), after + 1)
            case Offer(n):
                return OfferAnswer(n, ())
            case _:
                return LinkNumber(request.n, 1, EPOCH)


class Served:
    """A listening server, its desk, and how to reach it."""

    def __init__(self, folder: Path, uids: frozenset[int]) -> None:
        self.path = folder / "role.sock"
        self.desk = Desk()
        self.server = LinkServer(self.path, self.desk, uids=uids, clock=SystemClock())
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        ready = asyncio.Event()
        self.task = asyncio.create_task(self.server.serve(ready.set))
        await ready.wait()

    async def stop(self) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait([self.task])

    async def refused(self, reason: str, count: int = 1) -> None:
        async with asyncio.timeout(10):
            while self.server.refused.get(reason, 0) < count:  # noqa: ASYNC110  it counts, and calls nobody
                await asyncio.sleep(0.001)

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[LinkClient]:
        client = await connect(self.path)
        try:
            await client.ask(Hello)
            yield client
        finally:
            await client.close()

    def raw(self) -> socket.socket:
        """A peer that keeps to nothing."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.setblocking(False)
        sock.connect(str(self.path))
        return sock


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    served = Served(tmp_path, frozenset({os.getuid()}))
    await served.start()
    yield served
    await served.stop()


def pull(after: int = 0) -> type[Pull]:
    return lambda n: Pull(n, EPOCH, "audit", after, 500)  # type: ignore[return-value]


async def closed(sock: socket.socket) -> None:
    """Wait until the other end has ended the connection."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10):
        with contextlib.suppress(OSError):
            while await loop.sock_recv(sock, link.MAX_PACKET_BYTES):
                pass
    sock.close()


async def test_a_question_gets_its_answer(served: Served) -> None:
    async with served.client() as client:
        answers = await asyncio.gather(*(client.ask(pull(n)) for n in range(50)))
    assert [answer.upto for answer in answers if isinstance(answer, Events)] == list(range(1, 51))


async def test_what_comes_unasked_comes_to_all_who_have_greeted(served: Served) -> None:
    async with served.client() as one, served.client() as other:
        served.server.push(Out("res", "id", b"signed"))
        for client in (one, other):
            assert await client.next_push() == Out("res", "id", b"signed")


async def test_a_wake_is_said_once_until_the_next_pull(served: Served) -> None:
    async with served.client() as client:
        for _ in range(5):
            served.server.wake()
        assert await client.next_push() == Wake()
        await client.ask(pull())
        served.server.wake()
        served.server.push(Out("live", "x", b""))
        assert [await client.next_push(), await client.next_push()] == [Wake(), Out("live", "x", b"")]


async def test_a_foreign_user_is_not_answered(served: Served, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Only root can be somebody else: who is not has root run this again."""
    if again := as_root():
        command = [*again, sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", request.node.nodeid]
        await asyncio.to_thread(subprocess.run, command, cwd=request.config.rootpath, check=True)
        return
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(folder.stat().st_mode | 0o005)
        if folder.name.startswith("pytest-of"):
            break
    served.path.chmod(0o666)
    child = os.fork()
    if child == 0:
        os.setgid(65_534)
        os.setuid(65_534)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.connect(str(served.path))
            sock.send(link.encode(Hello(1)))
            answer = sock.recv(100)
        except (BrokenPipeError, ConnectionResetError):
            answer = b""
        except OSError:
            os._exit(2)
        os._exit(1 if answer else 0)
    await served.refused("foreign_user")
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert served.desk.asked == []


async def test_only_users_that_are_named_may_connect(tmp_path: Path) -> None:
    served = Served(tmp_path, frozenset({os.getuid() + 1}))
    await served.start()
    await closed(served.raw())
    await served.refused("foreign_user")
    await served.stop()


async def test_a_fifth_connection_is_refused_until_one_ends(served: Served) -> None:
    async with contextlib.AsyncExitStack() as stack:
        first = await connect(served.path)
        await first.ask(Hello)
        for _ in range(MAX_CONNECTIONS - 1):
            await stack.enter_async_context(served.client())
        await closed(served.raw())
        assert served.server.refused == {"too_many": 1}
        await first.close()
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(DeviceError):
                    await stack.enter_async_context(served.client())
                    return


@pytest.mark.parametrize(
    "packet",
    [
        b"\xff",
        b"GET / HTTP/1.1\r\n\r\n",
        link.encode(Hello(1))[:-1],
        link.encode(Hello(1)) + b"\x00",
        link.encode(Wake()),
        link.encode(Fault(1, "x")),
        link.encode(Pull(1, EPOCH, "audit", 0, 10)),
        b"x" * (link.MAX_PACKET_BYTES + 1),
        b"x" * 150_000,
    ],
    ids=["byte", "http", "truncated", "trailing", "ours", "answer", "before hello", "one too large", "huge"],
)
async def test_a_packet_that_is_no_request_ends_the_connection(served: Served, packet: bytes) -> None:
    sock = served.raw()
    await asyncio.get_running_loop().sock_sendall(sock, packet)
    await closed(sock)
    assert served.server.refused == {"protocol": 1}
    assert served.desk.asked == []
    async with served.client() as client:
        await client.ask(pull())


@pytest.mark.parametrize(
    "members",
    [
        {"after": -1},
        {"after": 2**46},
        {"after": 2**63},
        {"max": 0},
        {"max": -1},
        {"epoch": "x" * 65},
        {"event_class": "x" * 65},
    ],
)
async def test_a_pull_out_of_bounds_is_no_request(served: Served, members: dict[str, object]) -> None:
    wanted = {"epoch": EPOCH, "event_class": "audit", "after": 0, "max": 1} | members
    async with served.client() as client:
        with pytest.raises(LinkClosed):
            await client.ask(lambda n: Pull(n, **wanted))  # type: ignore[arg-type]


async def test_a_refusal_of_the_desk_is_told_and_the_connection_stays(served: Served) -> None:
    async with served.client() as client:
        served.desk.failure = ProtocolError("no such journal", remedy="none")
        with pytest.raises(ProtocolError, match="no such journal"):
            await client.ask(pull())
        served.desk.failure = None
        await client.ask(pull())


async def test_what_the_store_did_not_take_is_not_answered(served: Served) -> None:
    """cloud-sync then acknowledges nothing to the broker, and asks again."""
    async with served.client() as client:
        served.desk.failure = StoreFull("full", remedy="free space")
        with pytest.raises(LinkClosed):
            await client.ask(lambda n: Offer(n, "cmd", "open", b"token"))
    await served.refused("store")
    served.desk.failure = None
    async with served.client() as client:
        await client.ask(pull())


async def test_a_defect_of_the_desk_is_not_swallowed(tmp_path: Path) -> None:
    served = Served(tmp_path, frozenset({os.getuid()}))
    await served.start()
    served.desk.failure = ZeroDivisionError()
    client = await connect(served.path)
    with pytest.raises(LinkClosed):
        await client.ask(Hello)
    await client.close()
    assert served.task is not None
    with pytest.raises(ExceptionGroup) as caught:
        await served.task
    assert caught.group_contains(ZeroDivisionError)


async def test_who_does_not_read_is_cut_off_and_holds_up_nobody(served: Served) -> None:
    served.desk.body = b"x" * 50_000
    sock = served.raw()
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, link.encode(Hello(0)))
    with contextlib.suppress(OSError):
        for n in range(1, 200):
            await asyncio.wait_for(loop.sock_sendall(sock, link.encode(Pull(n, EPOCH, "audit", 0, 500))), 5)
    await served.refused("stalled")
    assert len(served.desk.asked) * 50_000 < 4 * MAX_UNSENT_BYTES
    async with served.client() as client:
        await client.ask(pull())
    sock.close()


async def test_pushes_to_who_does_not_read_are_bounded_too(served: Served) -> None:
    sock = served.raw()
    await asyncio.get_running_loop().sock_sendall(sock, link.encode(Hello(0)))
    async with served.client() as honest:
        while len(served.desk.asked) < 2:  # noqa: ASYNC110  it notes, and calls nobody
            await asyncio.sleep(0.001)
        for _ in range(1000):
            served.server.push(Out("live", "fix", b"x" * 10_000))
            await honest.next_push()
        assert served.server.refused == {"stalled": 1}
    sock.close()


async def test_a_flood_is_slowed_down_to_what_cannot_hurt(served: Served) -> None:
    """All connections share one measure, so that more of them bring no more."""
    flood = int(COMMITS_PER_S) + 5
    began = time.monotonic()
    async with served.client() as one, served.client() as other:
        offers = [client.ask(lambda n: Offer(n, "cmd", "open", b"t")) for client in (one, other) for _ in range(flood)]
        await asyncio.gather(*offers)
    least = (2 * flood - COMMITS_PER_S) / COMMITS_PER_S
    assert time.monotonic() - began > 0.8 * least


async def test_either_side_may_begin_anew(served: Served) -> None:
    client = await connect(served.path)
    await client.ask(Hello)
    await served.stop()
    with pytest.raises(LinkClosed):
        await client.next_push()
    with pytest.raises(LinkClosed):
        await client.ask(pull())
    await client.close()
    with pytest.raises(LinkClosed):
        await connect(served.path)
    await served.start()
    for _ in range(3):
        async with served.client() as again:
            await again.ask(pull())


async def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stale.bind(str(tmp_path / "role.sock"))
    stale.close()
    served = Served(tmp_path, frozenset({os.getuid()}))
    await served.start()
    async with served.client():
        pass
    await served.stop()
    assert not served.path.exists()


async def test_a_path_that_cannot_be_bound_is_named(tmp_path: Path) -> None:
    server = LinkServer(tmp_path / ("x" * 120), Desk(), uids=frozenset(), clock=SystemClock())
    with pytest.raises(DeviceError, match="cannot listen"):
        await server.serve()


async def test_an_answer_that_nobody_waits_for_any_more_harms_nothing(served: Served) -> None:
    async with served.client() as client:
        asked = asyncio.ensure_future(client.ask(pull()))
        await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait([asked])
        assert isinstance(await client.ask(pull(5)), Events)


def test_bounds_of_one_packet_are_kept_when_sending() -> None:
    with pytest.raises(ProtocolError):
        link.encode(Out("live", "x", b"x" * link.MAX_PACKET_BYTES))
