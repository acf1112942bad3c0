"""Setting up says in one sentence what is missing and what to type; what guards the tests is itself tried."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repository.source import ROOT

pytest_plugins = ["pytester"]


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A directory to be the whole PATH: only what a test puts there can be run."""
    folder = tmp_path / "commands"
    folder.mkdir()
    return folder


def put(folder: Path, name: str, *lines: str) -> str:
    path = folder / name
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return str(path)


def run(script: str, *arguments: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(ROOT / "tools" / script), *arguments],
        env={"PATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_python_is_said_with_the_remedy(commands: Path, tmp_path: Path) -> None:
    answer = run("venv.sh", "python3", str(tmp_path / "venv"), path=commands)
    assert answer.returncode == 1
    assert "Install Python 3.11" in answer.stderr
    assert "PYTHON=" in answer.stderr


def test_an_old_python_is_named(commands: Path, tmp_path: Path) -> None:
    old = put(commands, "python3", '[ "$1" = --version ] && echo "Python 3.9.2"', "exit 1")
    answer = run("venv.sh", old, str(tmp_path / "venv"), path=commands)
    assert answer.returncode == 1
    assert "Python 3.9.2 is too old" in answer.stderr
    assert not (tmp_path / "venv").exists()


def test_a_python_without_venv_is_sent_to_the_package(commands: Path, tmp_path: Path) -> None:
    """As Debian ships it: everything but ensurepip."""
    bare = put(commands, "python3", 'case "$*" in *ensurepip*) exit 1;; esac', "exit 0")
    answer = run("venv.sh", bare, str(tmp_path / "venv"), path=commands)
    assert answer.returncode == 1
    assert "apt-get install python3-venv" in answer.stderr


def test_without_rights_the_missing_packages_are_named(commands: Path) -> None:
    put(commands, "id", "echo 1000")
    put(commands, "apt-get", 'echo "must not run" >&2', "exit 70")
    put(commands, "systemd-analyze")
    answer = run("system.sh", path=commands)
    assert answer.returncode == 1
    assert "chromium" in answer.stderr
    assert "neither root nor sudo" in answer.stderr
    assert "systemd" not in answer.stderr
    assert "must not run" not in answer.stderr


def test_nothing_is_installed_where_nothing_is_missing(commands: Path) -> None:
    for name in ("mosquitto", "chromium", "systemd-analyze", "pg_ctlcluster", "rabbitmqctl", "nft", "tc", "espeak-ng"):
        put(commands, name)
    put(commands, "id", "echo 0")
    put(commands, "apt-get", "exit 70")
    answer = run("system.sh", path=commands)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


LEAKS = """
import asyncio, signal, subprocess, threading, time

async def test_task():
    test_task.kept = asyncio.create_task(asyncio.sleep(60))

def test_thread():
    threading.Thread(target=time.sleep, args=(1,), name="stray").start()

def test_child():
    test_child.kept = subprocess.Popen(["sleep", "1"])

def test_never_waited_for():
    test_never_waited_for.kept = subprocess.Popen(["true"])

def test_interrupt():
    with subprocess.Popen(["sleep", "60"]) as child:
        child.send_signal(signal.SIGINT)
        assert child.wait(10) == -signal.SIGINT

async def test_tidy():
    await asyncio.to_thread(int)
    await (await asyncio.create_subprocess_exec("true")).wait()
"""


def test_a_test_that_leaves_something_running_fails(pytester: pytest.Pytester) -> None:
    """A task, a thread, a child process, a dead child: each is named, and a tidy test passes.

    Started as a shell starts what runs in the background: a child that is interrupted ends all the same.
    """
    guard = (ROOT / "tests/conftest.py").read_text().replace("GRACE = 2.0", "GRACE = 0.05")
    pytester.makeconftest(guard)
    pytester.makeini("[pytest]\nasyncio_mode = auto\n")
    pytester.makepyfile(test_leaks=LEAKS)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    in_background = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
    answer = subprocess.run(
        [*in_background, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(pytester.path)],
        cwd=pytester.path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "6 passed, 4 errors" in answer.stdout, answer.stdout
    for left in ("left 1 task(s) running", "thread stray", "(sleep 1)", "ended, never waited for"):
        assert left in answer.stdout


@pytest.mark.xdist_group("heeded")
def test_the_workers_heed_groups(request: pytest.FixtureRequest, worker_id: str) -> None:
    """Otherwise each of them starts every world of processes for itself, and stops it again after each test."""
    assert worker_id == "master" or request.node.nodeid.endswith("@heeded")
