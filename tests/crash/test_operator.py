"""The processes an operator starts are killed while people are served: agent, cloud-sync, collector and broker."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.crash.history import WINDOWS
from tests.crash.operator_suite import run_suite


@pytest.mark.timeout(500)
async def test_no_kill_of_any_process_loses_or_doubles_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toll, killed = await asyncio.to_thread(run_suite, tmp_path, worlds=3, locker=10, beside=5)
    with capsys.disabled():
        sys.stdout.write(f"\nkills by window\n{toll.table()}\n")
    assert toll.faults == []
    assert killed["locker"] >= 25
    assert killed.total() >= 40
    assert set(WINDOWS) <= set(toll.windows)


@pytest.mark.long
@pytest.mark.timeout(3000)
async def test_two_hundred_kills_of_whole_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toll, killed = await asyncio.to_thread(run_suite, tmp_path, worlds=10, locker=20, beside=6)
    with capsys.disabled():
        sys.stdout.write(f"\nkills by window\n{toll.table()}\n")
    assert toll.faults == []
    assert killed["locker"] >= 200
    assert {window for window in WINDOWS if toll.windows[window] < 20} == set()
