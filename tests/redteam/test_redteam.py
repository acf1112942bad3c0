"""An attacker with all of the broker and cloud-sync's place opens no door, loses no audit, stops no honest person; and
without any one of the checks it would.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.redteam.checks import WITHOUT

ROOT = Path(__file__).parents[2]
RUN_S = 120
QUICK = ("signature", "two persons")
"""One of each kind; the others are for the long run."""

pytestmark = [pytest.mark.xdist_group("redteam"), pytest.mark.timeout(RUN_S + 20)]


def red_team(report: Path, *arguments: object, status: int = 0) -> dict[str, Any]:
    """In a process of its own, because it forks."""
    command = [sys.executable, "-m", "tests.redteam", "--report", report, *arguments]
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=RUN_S)
    assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
    told: dict[str, Any] = json.loads(report.read_bytes())
    return told


def judge(told: dict[str, Any]) -> None:
    assert (told["faults"], told["failed"]) == ([], [])
    assert told["honest"] >= 50
    assert told["hostile"] >= 1000
    assert told["held"] + told["disputed"] == told["audit"] >= 300
    assert told["openings"] >= 50


def test_no_door_opens_but_for_honest_people_and_all_of_them_are_served(tmp_path: Path) -> None:
    judge(red_team(tmp_path / "report.json", "--seed", 1))


def attack_without(check: str, tmp_path: Path) -> None:
    only = [word for scene in WITHOUT[check] for word in ("--only", scene.__name__)]
    told = red_team(tmp_path / "report.json", "--without", check, "--until-failure", *only, status=1)
    assert told["faults"], f"without {check} nothing was noticed"
    assert not [fault for fault in told["faults"] if "broke off" in fault], told["faults"]


@pytest.mark.parametrize("check", QUICK)
def test_without_a_check_the_attacker_succeeds(check: str, tmp_path: Path) -> None:
    attack_without(check, tmp_path)


def hostile_commands(
    how_many: int, report: Path, *, patience: float, mutant: str = "", status: int = 0
) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.redteam.attack", "--commands", str(how_many), "--report", str(report)]
    command += ["--mutant", mutant]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=patience)
    assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
    told: dict[str, Any] = json.loads(report.read_bytes())
    return told


def test_no_command_opens_its_door_twice_and_what_nobody_can_know_is_told_as_unknown(tmp_path: Path) -> None:
    told = hostile_commands(2000, tmp_path / "report.json", patience=RUN_S)
    assert told["commands"] >= 2000
    assert told["faults"] == []
    assert told["told"]["done"] >= 5
    assert told["kills"] >= 3


@pytest.mark.long
def test_an_agent_that_pulses_again_after_a_crash_is_noticed(tmp_path: Path) -> None:
    told = hostile_commands(3000, tmp_path / "report.json", patience=RUN_S, mutant="recover_pulses_again", status=1)
    assert any("it opened its door 2 times" in fault for fault in told["faults"]), told["faults"]


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_twenty_thousand_hostile_commands(tmp_path: Path) -> None:
    told = hostile_commands(20_000, tmp_path / "report.json", patience=1400.0)
    assert told["faults"] == []
    assert told["told"]["unknown"] >= 20


@pytest.mark.long
@pytest.mark.parametrize("check", [check for check in WITHOUT if check not in QUICK])
def test_without_any_check_the_attacker_succeeds(check: str, tmp_path: Path) -> None:
    attack_without(check, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 12))
def test_in_any_order(seed: int, tmp_path: Path) -> None:
    judge(red_team(tmp_path / "report.json", "--seed", seed))
