"""A process is well while each critical part moves; the watchdog hears of progress and of nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter
from structlog.testing import capture_logs

from edge.clock_sim import ManualClock
from edge.health import Health
from edge.health_http import MAX_CLIENTS, REQUEST_BYTES, REQUEST_S, serve_health
from edge.health_systemd import STATUS_EVERY_S, Notifier, feed


def test_a_critical_part_is_late_after_its_limit_and_well_again_after_progress() -> None:
    health = Health()
    health.expect("journal", mono=0.0, limit_s=10.0)
    assert health.healthy(10.0)
    assert not health.healthy(10.1)
    assert health.late(10.1) == ("journal",)
    health.progress("journal", 10.1)
    assert health.healthy(20.0)


def test_one_lively_part_does_not_hide_a_dead_one() -> None:
    health = Health()
    health.expect("journal", mono=0.0, limit_s=10.0)
    health.expect("bus", mono=0.0, limit_s=10.0)
    health.progress("bus", 11.0)
    assert health.late(11.0) == ("journal",)


def test_a_fault_is_shown_but_does_not_restart_the_process() -> None:
    health = Health()
    health.expect("bus", mono=0.0)
    health.fail("bus", "unplugged", 5.0)
    assert health.healthy(1e6)
    assert health.report(5.0).summary() == "bus: unplugged"
    health.progress("bus", 6.0)
    assert health.report(6.0).summary() == "well"


def test_a_part_whose_end_would_mend_nothing_is_told_and_costs_no_life() -> None:
    """As a hung browser: to end the agent would shut doors to people, and not start the browser anew."""
    health = Health()
    health.expect("screen", mono=0.0, limit_s=30.0, vital=False)
    assert health.healthy(31.0)
    assert not health.report(31.0).healthy
    assert health.report(31.0).summary() == "screen: no progress for 31 s"
    health.progress("screen", 31.0)
    assert health.report(32.0).healthy


def test_a_late_part_without_a_fault_tells_since_when() -> None:
    health = Health()
    health.expect("pump", mono=0.0, limit_s=10.0)
    assert health.report(25.0).summary() == "pump: no progress for 25 s"


def test_what_was_never_expected_is_watched_from_its_first_word() -> None:
    health = Health()
    health.progress("a", 1.0)
    health.fail("b", "gone", 2.0)
    health.restarted("c", 3.0)
    parts = health.report(4.0).parts
    assert (parts["a"].quiet_s, parts["b"].fault, parts["c"].restarts) == (3.0, "gone", 1)
    health.forget("b")
    health.forget("never")
    assert set(health.report(4.0).parts) == {"a", "c"}


# --- systemd


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end of the notification socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


def heard(manager: socket.socket) -> list[str]:
    messages = []
    with contextlib.suppress(BlockingIOError):
        while True:
            messages.append(manager.recv(4096).decode())
    return messages


def notifier(manager: socket.socket, **environ: str) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": manager.getsockname(), **environ}, pid=42)


def test_the_manager_hears_ready_status_and_stopping(manager: socket.socket) -> None:
    tell = notifier(manager)
    tell.ready()
    tell.status("two\nlines")
    tell.stopping()
    assert heard(manager) == ["READY=1", "STATUS=two lines", "STOPPING=1"]


def test_an_abstract_socket_is_spoken_to() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("")  # Linux gives it a free abstract name
        listening.setblocking(False)
        name = "@" + listening.getsockname()[1:].decode()
        Notifier({"NOTIFY_SOCKET": name}, pid=42).ready()
        assert heard(listening) == ["READY=1"]


def test_without_a_manager_nothing_happens_and_a_lost_one_is_logged(tmp_path: Path) -> None:
    with capture_logs() as logs:
        Notifier({}, pid=42).ready()
        assert logs == []
        Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}, pid=42).ready()
    assert [line["event"] for line in logs] == ["systemd.unreachable"]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "42"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "41"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_period_is_the_managers_and_meant_for_us(environ: dict[str, str], expected: float | None) -> None:
    assert Notifier(environ, pid=42).watchdog_s == expected


@contextlib.asynccontextmanager
async def feeding(tell: Notifier, health: Health, clock: ManualClock) -> AsyncIterator[None]:
    task = asyncio.create_task(feed(tell, health, clock))
    yield
    task.cancel()
    await asyncio.wait({task})


async def test_the_watchdog_is_fed_by_progress_only(manager: socket.socket) -> None:
    clock, health = ManualClock(), Health()
    health.expect("journal", mono=0.0, limit_s=20.0)
    async with feeding(notifier(manager, WATCHDOG_USEC="30000000"), health, clock):
        await clock.advance(20)
        assert heard(manager).count("WATCHDOG=1") == 3
        with capture_logs() as logs:
            await clock.advance(100)
        assert heard(manager) == [f"STATUS=journal: no progress for {age} s" for age in range(30, 121, 10)]
        assert logs[0] == {"event": "health.late", "parts": ["journal"], "log_level": "error", "part": "edge.health"}
        health.progress("journal", clock.mono())
        await clock.advance(10)
        assert heard(manager) == ["STATUS=well", "WATCHDOG=1"]


async def test_without_a_watchdog_the_status_is_still_renewed(manager: socket.socket) -> None:
    clock = ManualClock()
    async with feeding(notifier(manager), Health(), clock):
        await clock.advance(STATUS_EVERY_S * 2)
    assert heard(manager).count("STATUS=well") == 3


# --- the Unix socket


class Rig:
    def __init__(self, path: Path) -> None:
        self.path, self.clock, self.health = path, ManualClock(), Health()
        self.registry = CollectorRegistry()
        Counter("doors_opened", "Doors seen to open.", registry=self.registry).inc(3)

    async def ask(self, request: bytes) -> tuple[bytes, bytes]:
        reader, writer = await asyncio.open_unix_connection(self.path)
        answer = b""
        with contextlib.suppress(ConnectionError):
            writer.write(request)
            writer.write_eof()
            answer = await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        head, _, body = answer.partition(b"\r\n\r\n")
        return head, body


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path / "health.sock")
    task = asyncio.create_task(serve_health(made.path, made.health, made.registry, made.clock))
    await made.clock.advance(0)  # lets the server bind
    yield made
    task.cancel()
    await asyncio.wait({task})


async def test_the_socket_is_for_its_group(rig: Rig) -> None:
    assert rig.path.stat().st_mode & 0o777 == 0o660


async def test_health_is_told_as_json_with_a_status_for_scripts(rig: Rig) -> None:
    rig.health.expect("journal", mono=0.0, limit_s=10.0)
    head, body = await rig.ask(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK\r\n")
    assert json.loads(body)["healthy"] is True
    await rig.clock.advance(11)
    head, body = await rig.ask(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 503 ")
    assert json.loads(body)["parts"]["journal"] == {
        "quiet_s": 11.0,
        "limit_s": 10.0,
        "restarts": 0,
        "fault": "",
        "late": True,
    }


async def test_metrics_are_told_to_prometheus(rig: Rig) -> None:
    head, body = await rig.ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"Content-Type: text/plain; version=" in head
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"doors_opened_total 3.0" in body


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /health HTTP/1.1\r\n\r\n", b"404"),
        (b"GET /health\r\n\r\n", b"404"),
        (b"hello", b"400"),
        (b"", b"400"),
    ],
)
async def test_anything_else_is_refused_and_the_next_request_served(rig: Rig, request_: bytes, status: bytes) -> None:
    head, _ = await rig.ask(request_)
    assert head.split(b" ")[1] == status
    assert (await rig.ask(b"GET /health HTTP/1.0\r\n\r\n"))[0].startswith(b"HTTP/1.0 200")


async def test_an_endless_request_is_cut_off_and_the_next_one_served(rig: Rig) -> None:
    endless = b"GET /health HTTP/1.1\r\n" + b"x: y\r\n" * REQUEST_BYTES + b"\r\n"
    assert b"200" not in (await rig.ask(endless))[0]
    assert (await rig.ask(b"GET /health HTTP/1.0\r\n\r\n"))[0].startswith(b"HTTP/1.0 200")


async def test_at_the_end_nobody_is_kept_waiting_and_nobody_let_in(tmp_path: Path) -> None:
    path = tmp_path / "health.sock"
    task = asyncio.create_task(serve_health(path, Health(), CollectorRegistry(), ManualClock()))
    await ManualClock().advance(0)
    reader, writer = await asyncio.open_unix_connection(path)
    await ManualClock().advance(0)
    task.cancel()
    async with asyncio.timeout(REQUEST_S / 2):
        await asyncio.wait({task})
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    writer.close()
    with pytest.raises(OSError, match=r"refused|No such file"):
        await asyncio.open_unix_connection(path)


async def test_stalled_clients_are_few_and_do_not_stop_the_process(rig: Rig) -> None:
    stalled = [await asyncio.open_unix_connection(rig.path) for _ in range(MAX_CLIENTS)]
    await asyncio.sleep(0)
    assert await rig.ask(b"GET /health HTTP/1.0\r\n\r\n") == (b"", b"")
    for reader, writer in stalled:
        writer.close()
        await writer.wait_closed()
        assert await reader.read() == b""
    await rig.clock.advance(0)  # lets the server see them go
    assert (await rig.ask(b"GET /health HTTP/1.0\r\n\r\n"))[0].startswith(b"HTTP/1.0 200")
