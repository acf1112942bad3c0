"""Keypad, serial scanner and camera, each by its own way and real process, heard as one stream."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import subprocess
import sys
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents import processes
from agents.gpio_check import check_gpio
from agents.input_settings import Camera, InputSettings, SerialScanner
from agents.locker_inputs import keep_inputs
from agents.settings import Locker
from agents.site import Site, write_settings
from edge.errors import ConfigError
from edge.health import Health
from edge.settings import parse_settings
from edge.supervisor import Supervisor
from edge.system_clock import SystemClock
from locker.gpio_wiring import Keypad
from locker.inputs_asyncio import Inputs
from locker.pins_gpio import SIMULATED
from locker.terminal import Input, KeyPressed, ScanKind, Scanned, Terminal
from tests.locker.gpio_rig import simulated_pi
from tests.locker.test_scanners import frame

pytestmark = pytest.mark.xdist_group("pulser")

KEYPAD = Keypad(rows=(5, 6, 12, 13), columns=(16, 19, 20))


@contextlib.contextmanager
def camera_process(folder: Path, camera: Camera) -> Iterator[None]:
    site = Site(folder)
    write_settings(site, broker_port=1, kiosk_port=1, protocol="5", subscribe="plain", uid=os.getuid())
    listed = ", ".join(f'"{word}"' for word in camera.command)
    table = f'\n[locker.inputs.camera]\nsocket = "{camera.socket}"\npixels = "grey"\ncommand = [{listed}]\n'
    site.node_toml.write_text(site.node_toml.read_text() + table)
    command = [*processes.COMMAND, "run", "camera", "--config", str(site.node_toml)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
        try:
            yield
        finally:
            running.terminate()
            assert running.wait(20) == 0


async def test_whatever_is_used_one_page_hears_it(tmp_path, monkeypatch):
    outer, inner = pty.openpty()
    tty.setraw(inner)
    picture = tmp_path / "frame.grey"
    picture.write_bytes(frame(("QRCode", "bk-camera")))
    endless = f"cat {picture}; while sleep 0.1; do cat {picture}; done"
    camera = Camera(str(tmp_path / "scans"), (os.getuid(),), pixels="grey", command=("sh", "-c", endless))
    settings = InputSettings(KEYPAD, (SerialScanner(os.ttyname(inner)),), (), camera)
    clock = SystemClock()
    heard: list[Input] = []
    inputs = Inputs(Terminal(os.urandom), clock)
    supervisor = Supervisor(clock, lambda: 0.5, Health())
    with simulated_pi(doors=[], rows=KEYPAD.rows, columns=KEYPAD.columns) as pi:
        monkeypatch.setenv(SIMULATED, pi.environ[SIMULATED])
        keep_inputs(settings, tmp_path, inputs, clock, supervisor)
        running = asyncio.create_task(supervisor.run())
        with camera_process(tmp_path, camera):
            async with asyncio.timeout(30):
                async for each in inputs.listen():
                    heard.append(each)
                    if len(heard) == 1:
                        os.write(outer, b"bk-serial\r")
                    elif len(heard) == 2:
                        pi.control.call("press", row=1, column=1)
                    else:
                        break
        supervisor.stop()
        await running
    os.close(outer)
    os.close(inner)
    assert heard == [
        Scanned(ScanKind.BOOKING, text="bk-camera"),
        Scanned(ScanKind.BOOKING, text="bk-serial"),
        KeyPressed("5"),
    ]


@pytest.mark.parametrize("role", ["pulser", "camera"])
def test_a_process_that_is_not_configured_says_so(tmp_path, role):
    site = Site(tmp_path)
    write_settings(site, broker_port=1, kiosk_port=1, protocol="5", subscribe="plain", uid=os.getuid())
    command = [sys.executable, "-m", "agents", "run", role, "--config", str(site.node_toml)]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert told.returncode != 0
    assert "configure" in told.stdout + told.stderr


HEAD = '[kiosk]\ntoken_file = "t"\n[[boards]]\nboard = 0\nkind = "gpio"\nlocks = [{ coil = 17, hook = 22 }, %s]\n'
DOOR = (
    "[cabinet]\nbase_mm = 800\ncolumn_mm = 450\ndoor_mm = { S = 200, M = 300, L = 400 }\n"
    'columns = [{ name = "A", rows = "S", latches = "0:0" }]\n'
)


def locker(lock: str, more: str = "") -> Locker:
    return parse_settings(HEAD % lock + DOOR + more, Locker, source="node.toml")


@pytest.mark.parametrize(
    ("lock", "more", "word"),
    [
        ("{ coil = 5, hook = 23 }", "", "pulled up until our program runs"),
        ("{ coil = 27, hook = 23, coil_active_high = false }", "", "pulled down until our program runs"),
        ("{ coil = 14, hook = 23 }", "", "serial console"),
        ("{ coil = 27, hook = 22 }", "", "pin 22 is both"),
        ("{ coil = 27, hook = 23 }", "[inputs.keypad]\nrows=[23]\ncolumns=[24]\nkeys=['1']\n", "pin 23 is both"),
    ],
)
def test_check_refuses_wiring_that_is_not_safe(lock, more, word):
    with pytest.raises(ConfigError, match=word):
        list(check_gpio(locker(lock, more), "node.toml"))


def test_check_warns_and_says_what_it_has_looked_at():
    told = list(check_gpio(locker("{ coil = 27, hook = 23, closed_level = 1 }"), "node.toml"))
    assert "cut wire" in told[0]
    assert told[1].startswith("pins: 4 wired")
