"""A whole locker on GPIO pins: the real agent, the real pulser, a simulated Raspberry Pi with two doors."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agents import processes
from agents.demo_broker import free_port
from agents.demo_world import Kiosk
from agents.site import Site, make_keys, write_settings
from edge.errors import DeviceSilent
from tests.locker.gpio_rig import Pi, simulated_pi

pytestmark = [pytest.mark.xdist_group("pulser"), pytest.mark.timeout(120)]

PULSE_MS = 850

BOARD = """
[[locker.boards]]
board = 0
kind = "gpio"
pulse_ms = {pulse_ms}
pulser = "{socket}"
agent = {uid}
locks = [
    {{ coil = 17, hook = 22 }},
    {{ coil = 27, hook = 23 }},
]

"""

COLUMNS = 'columns = [{ name = "1", rows = "S S", doors = "01..02", latches = "0:0..1" }]'


def configured(site: Site, pi: Pi, kiosk_port: int) -> None:
    """The demonstration's ``node.toml`` with its two first doors on pins."""
    write_settings(site, broker_port=1, kiosk_port=kiosk_port, protocol="5", subscribe="plain", uid=os.getuid())
    text = site.node_toml.read_text()
    board = BOARD.format(pulse_ms=PULSE_MS, socket=pi.socket, uid=os.getuid())
    text = re.sub(r"\[\[locker\.buses\]\].*?(?=\[locker\.kiosk\])", board, text, flags=re.DOTALL)
    site.node_toml.write_text(re.sub(r"columns = \[.*?\n\]", COLUMNS, text, flags=re.DOTALL))


@contextlib.contextmanager
def process(role: str, site: Site, pi: Pi) -> Iterator[subprocess.Popen[bytes]]:
    command = [*processes.COMMAND, "run", role, "--config", str(site.node_toml)]
    with subprocess.Popen(command, env=pi.environ, stdout=subprocess.DEVNULL) as running:
        try:
            yield running
        finally:
            running.terminate()
            running.wait(20)


def until(what: str, true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def states(kiosk: Kiosk) -> list[str]:
    with contextlib.suppress(DeviceSilent, FileNotFoundError):
        return [door["state"] for door in kiosk.call("GET", "/api/doors")[1].get("doors", [])]
    return []


def test_a_courier_is_served_and_kill_9_of_the_agent_in_a_pulse_leaves_no_coil_on(tmp_path: Path) -> None:
    site, port = Site(tmp_path), free_port()
    with simulated_pi() as pi:
        courier, kiosk = make_keys(site, wall=time.time()), Kiosk(port, site.token)
        configured(site, pi, port)

        def ask(booking: str) -> tuple[int, dict[str, object]]:
            asked = {"badge": courier.badge, "pin": courier.pin, "booking": booking, "size": "S"}
            return kiosk.call("POST", "/api/deposit", asked)

        def deposit(booking: str) -> int:
            status, answer = ask(booking)
            assert status == 202, answer
            return int(str(answer["door"])) - 1

        with process("locker", site, pi) as agent:
            until("the kiosk", lambda: states(kiosk) == ["unknown"] * 2)
            assert ask("booking-0") == (409, {"reason": "out_of_service", "retry_after": None}), "no pulser, no promise"
            with process("pulser", site, pi):
                until("two closed doors", lambda: states(kiosk) == ["closed"] * 2)
                lock = deposit("booking-1")
                until("an open door", lambda: states(kiosk)[lock] == "open")
                pi.control.wait("coil_off")
                pi.control.call("close_door", lock=lock)
                until("it to be shut again", lambda: states(kiosk)[lock] == "closed")
                deposit("booking-2")
                pi.control.wait("coil_on", count=2)
                agent.kill()
                pi.control.wait("coil_off", count=2)
                with process("locker", site, pi):
                    until("the door it left to be found open", lambda: "open" in states(kiosk))
        assert len(pi.witnessed("coil_on")) == 2, "after a crash nothing is pulsed again"
        assert pi.driven()[1] < PULSE_MS / 1000 - 0.2 < pi.driven()[0]
        assert pi.witnessed("double_coil") == []


@pytest.mark.parametrize("role", ["pulser", "locker"])
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("coil = 17", "coil = 4", "drives this coil at boot"),
        ("hook = 23", "hook = 17", "pin 17 is both"),
        ('latches = "0:0..1"', 'latches = "0:1..2"', "lock 2, which is not there"),
    ],
)
def test_what_check_refuses_is_refused_by_whoever_would_do_it(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    role: str,
    old: str,
    new: str,
    said: str,
) -> None:
    """Nobody is made to run the check, and the door would open at the next start, or be another's."""
    monkeypatch.setattr("edge.log.configure", lambda **_: None)  # it would keep this test's output for later ones
    site = Site(tmp_path)
    make_keys(site, wall=time.time())
    nowhere = Pi(tmp_path, None, {})  # type: ignore[arg-type]
    configured(site, nowhere, free_port())
    text = site.node_toml.read_text()
    assert old in text
    site.node_toml.write_text(text.replace(old, new))
    with pytest.raises(SystemExit):
        processes.run(role, site.node_toml)
    assert said in capsys.readouterr().out
