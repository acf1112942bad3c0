"""What holds for every test: it leaves nothing running behind, and random tests can be repeated."""

from __future__ import annotations

import asyncio
import faulthandler
import inspect
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key
from hypothesis import HealthCheck, settings

GRACE = 2.0
"""Seconds given to threads and child processes that are on their way out. Only a test that leaves some waits at all."""

LOOP_THREADS = "asyncio_"
"""Prefix of the event loop's own executor. pytest-asyncio ends it with the loop, after our guard has looked."""

LASTING_CHILDREN = (b"multiprocessing.resource_tracker", b"multiprocessing.forkserver", b"lastmile-session-")
"""Helpers that the standard library starts once for the whole process; peers that serve a whole session of tests."""

# A shell that starts us in the background ignores SIGINT, and our children, who are ended by it, would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", parent=settings.get_profile("ci"), derandomize=False, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--lock-board",
        action="append",
        default=[],
        metavar="MODULE:RIG",
        help="try this driver of lock boards instead of ours (docs/drivers.md)",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Guard the event loop of every asynchronous test; the others have none."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.fixturenames.insert(0, "_no_task_left")


@pytest.fixture
async def _no_task_left() -> AsyncIterator[None]:
    """Fail a test that ends with tasks of its own still running: they would be cancelled unseen."""
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        pytest.fail(f"left {len(left)} task(s) running: {sorted(str(task.get_coro()) for task in left)}")


@pytest.fixture(autouse=True)
def _last_resort(request: pytest.FixtureRequest) -> None:
    """A test with a time-out of its own is ended by faulthandler no sooner than that (pytest cancels it afterwards)."""
    own = request.node.get_closest_marker("timeout")
    if own is not None:
        told = request.config.stash[fault_handler_stderr_fd_key]  # the terminal, whatever is captured
        faulthandler.dump_traceback_later(own.args[0] + 60, exit=True, file=told)


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """Fail a test that leaves a thread or a child process behind: the next test would suffer for it."""
    threads, children = _threads(), _children()
    yield
    deadline = time.monotonic() + GRACE
    while left := _running(_threads() - threads, _children() - children):
        if time.monotonic() > deadline:
            pytest.fail(f"left running: {', '.join(left)}")
        time.sleep(0.01)


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if not thread.name.startswith(LOOP_THREADS)}


def _children() -> set[int]:
    """Process ids of our children, dead ones that nobody has waited for among them."""
    found: set[int] = set()
    for listing in Path("/proc/self/task").glob("*/children"):
        try:
            found.update(int(pid) for pid in listing.read_text().split())
        except FileNotFoundError:
            continue  # that thread has just ended
    return {pid for pid in found if not any(helper in _command(pid) for helper in LASTING_CHILDREN)}


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").strip()
    except OSError:
        return b""


def _running(threads: set[threading.Thread], children: set[int]) -> list[str]:
    """What is left, by name."""
    ended = "ended, never waited for"
    return [
        *(f"thread {thread.name}" for thread in threads),
        *(f"process {pid} ({_command(pid).decode(errors='replace') or ended})" for pid in children),
    ]
