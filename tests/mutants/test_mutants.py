"""Each kept mutant breaks one promise, and both the demonstration and the crash suite notice which."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash.fork_suite import run_suite

ROOT = Path(__file__).parents[2]
SAID = {
    "pulse_before_commit": ("the same code after the crash answered", "no commit announced it"),
    "recover_pulses_again": ("the restarted agent pulsed by itself", "no commit announced it"),
    "drop_one_event": ("were told", "it has 0 outcomes"),
}
"""What the demonstration and the crash suite find wrong with each."""

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def demos() -> Iterator[dict[str, subprocess.Popen[str]]]:
    """The demonstration under every mutant, beside each other: they mostly wait."""
    running = {
        name: subprocess.Popen(
            [sys.executable, "-m", "tests.mutants", name, "demo", "--once", "--json"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for name in SAID
    }
    yield running
    for process in running.values():
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        if process.stdout is not None and not process.stdout.closed:
            process.communicate()


@pytest.mark.xdist_group("mutants")
@pytest.mark.parametrize("name", SAID)
def test_the_demonstration_notices(name: str, demos: dict[str, subprocess.Popen[str]]) -> None:
    out, _ = demos[name].communicate()
    told: dict[str, Any] = json.loads(out.splitlines()[-1])
    assert demos[name].returncode == 1
    assert told["ok"] is False
    assert any(SAID[name][0] in fault for fault in told["faults"]), told["faults"]


@pytest.mark.parametrize("name", SAID)
async def test_the_crash_suite_notices(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    # A short name: a socket's path may have 107 bytes, and a site lies deep.
    toll = await run_suite(tmp_path_factory.mktemp("m"), sites=1, mutant=name)
    assert any(SAID[name][1] in fault for fault in toll.faults), toll.faults
