"""Whole worlds under drawn faults: nothing is lost or doubled, no door opens that should not, and honest people are
served. Each kept mutant shows that the lab would notice.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.plan import DISK, NETWORK, Kind
from tests.repository.source import product, tree

ROOT = Path(__file__).parents[2]
RUNS = 20
FEW = 16
"""Runs in which a mutant has to be noticed."""
SAID = {
    "pulse_before_commit": (8, "no commit announced it"),
    "recover_pulses_again": (13, "no commit announced it"),
    "drop_one_event": (2, "it has 0 outcomes"),
    "sent_is_held": (2, "the node's cursor of"),
    "ack_before_commit": (2, "the node's cursor of"),
}
"""The first of its few seeds, and what the lab finds wrong."""


def lab(report: Path, *arguments: object, status: int = 0) -> dict[str, Any]:
    """The lab in a process of its own: it forks, and moves into other namespaces."""
    command = [sys.executable, "-m", "tests.faults", "--report", report, *arguments]
    done = subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
    told: dict[str, Any] = json.loads(report.read_bytes())
    return told


@pytest.mark.serial
@pytest.mark.timeout(240)
def test_whatever_fails_the_count_comes_out_and_honest_people_are_served(tmp_path: Path) -> None:
    told = lab(tmp_path / "report.json", "--runs", RUNS, "--seed", 1)
    assert told["runs"] == RUNS
    assert told["failed"] == []
    assert told["honest_share"] >= 0.99
    events = told["events"]
    assert events["produced"] == events["held"] + events["dropped"] + events["disputed"] > RUNS * 20
    made = {Kind(kind) for kind in told["faults"]}
    if os.geteuid() == 0:
        assert made >= NETWORK | DISK, "this machine can lose packets and power, and did not"


@pytest.mark.serial
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", SAID)
def test_the_lab_notices_a_broken_promise(name: str, tmp_path: Path) -> None:
    seed, said = SAID[name]
    report = tmp_path / "report.json"
    told = lab(report, "--mutant", name, "--runs", FEW, "--seed", seed, "--jobs", 2, "--until-failure", status=1)
    faults = [fault for outcome in told["outcomes"] for fault in outcome["faults"]]
    assert any(said in fault for fault in faults), faults


def test_what_runs_on_a_node_reads_the_wall_clock_where_the_lab_moves_it() -> None:
    """Processes are handed a ``Clock``; only tools that a person starts and that end at once ask the machine."""
    asking = {
        str(path.relative_to(ROOT))
        for path in product()
        if path.relative_to(ROOT).parts[0] != "agents"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.time", "time.time_ns", "datetime.now"}
    }
    assert asking == {"edge/system_clock.py"}


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_three_hundred_runs(tmp_path: Path) -> None:
    told = lab(tmp_path / "report.json", "--runs", 300, "--seed", 1000)
    assert told["failed"] == []
    assert told["honest_share"] >= 0.99
    assert {Kind(kind) for kind in told["faults"]} | {Kind(kind) for kind in told["left_out"]} >= set(Kind)
