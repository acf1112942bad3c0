"""The locker agent is killed at every named boundary and at random, and nothing is lost, doubled or opened in vain."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.fork_suite import KILLS, Toll, run_suite
from tests.crash.history import WINDOWS

SITES = 7
IN_EACH_WINDOW = 20
"""A suite that never hits a window says nothing about it."""


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Iterator[list[Toll]]:
    """Shows the windows of a suite, whether it passed or not."""
    tolls: list[Toll] = []
    yield tolls
    with capsys.disabled():
        for toll in tolls:
            sys.stdout.write(f"\nkills by window\n{toll.table()}\n")


@pytest.mark.timeout(400)
async def test_whatever_the_moment_of_the_kill_the_witness_and_the_journal_agree(
    tmp_path: Path, told: list[Toll]
) -> None:
    toll = await run_suite(tmp_path, sites=SITES)
    told.append(toll)
    assert toll.faults == []
    assert toll.windows.total() == SITES * KILLS >= 160
    assert {window for window in WINDOWS if toll.windows[window] < IN_EACH_WINDOW} == set()
