"""No coil is driven beyond the cap, whoever hangs or is killed. What was driven is told by the simulator's own log."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from edge.errors import DeviceBusy, DeviceError, DeviceMissing, DeviceSilent, ProtocolError
from locker import pulser
from locker.gpio_wiring import GpioLock
from locker.pulser import Ask, Beat, Coils, Said, Watch
from locker.pulser_socket import PulserClient
from tests.locker.gpio_rig import AGENT, OFF, PULSER, Pi, drive, simulated_pi

pytestmark = pytest.mark.xdist_group("pulser")

SOON = 0.8
"""Seconds: before a pulse of 0.85 s would have ended by itself."""
TOLD = 0.15
"""Seconds that a loaded machine may add to a measured time."""


@pytest.fixture(scope="module")
def pi() -> Iterator[Pi]:
    with simulated_pi() as pi:
        yield pi


@pytest.fixture(scope="module")
def served(pi: Pi) -> Iterator[None]:
    """A pulser that no test kills."""
    with pulsing(pi):
        yield


@pytest.fixture(autouse=True)
def _nothing_left() -> None:
    """The simulated Pi serves all tests of this file."""


@pytest.fixture
def before(pi: Pi) -> int:
    return len(pi.driven())


@contextlib.contextmanager
def pulsing(pi: Pi, **board: object) -> Iterator[subprocess.Popen[bytes]]:
    """The pulser, once it serves."""
    options = pi.board(**board)  # type: ignore[arg-type]
    with pi.running(PULSER, msgspec.json.encode(options).decode()) as process:
        asyncio.run(_served(pi.socket))
        yield process


async def _served(path: Path) -> None:
    client = PulserClient(path)
    try:
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(DeviceMissing):
                    await client.connected()
                    return
                await asyncio.sleep(0.02)
    finally:
        client.close()


def hand_of(process: subprocess.Popen[bytes]) -> int:
    (hand,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(hand)


@contextlib.contextmanager
def agent_driving(pi: Pi, line: int, ms: int) -> Iterator[subprocess.Popen[bytes]]:
    with pi.running(AGENT, str(pi.socket), str(line), str(ms)) as agent:
        assert agent.stdout is not None
        assert agent.stdout.readline() == b"driven\n"
        yield agent


def off_again(pi: Pi, before: int) -> float:
    """Seconds that the one coil driven since was on, once it is off; none is left on."""
    pi.control.wait("coil_off", count=before + 1)
    assert len(pi.driven()) == before + 1
    assert len(pi.witnessed("coil_on")) == before + 1
    return pi.driven()[-1]


def test_a_pulse_lasts_as_long_as_was_asked(pi, served, before):
    with agent_driving(pi, 17, 200):
        lasted = off_again(pi, before)
    assert lasted < 0.2 + TOLD


def test_kill_9_of_the_agent_in_the_middle_of_a_pulse_switches_off_at_once(pi, served, before):
    with agent_driving(pi, 17, 850) as agent:
        agent.kill()
        lasted = off_again(pi, before)
    assert lasted < SOON


@pytest.fixture
async def client(pi: Pi, served: None) -> AsyncIterator[PulserClient]:
    client = PulserClient(pi.socket)
    await client.connected()
    yield client
    client.close()


async def test_one_coil_at_a_time(pi, client):
    await drive(client, 17, 200)
    with pytest.raises(DeviceBusy):
        await client.pulse(27, 20)
    pi.control.wait("coil_off", board=0, lock=0)
    assert pi.witnessed("double_coil") == []


async def test_a_line_that_is_no_coil_is_not_driven(pi, before, client):
    with pytest.raises(DeviceError, match="no line 22"):
        await drive(client, 22, 20)
    assert len(pi.driven()) == before


async def test_a_second_client_is_turned_away(pi, before, client):
    await client.connected()
    second = PulserClient(pi.socket)
    with pytest.raises((DeviceMissing, DeviceSilent)):  # as it finds the door already shut or not
        await second.pulse(17, 20)
    second.close()
    assert len(pi.driven()) == before


async def test_whoever_is_not_served_is_not_connected(pi, client):
    """Or its readings would promise doors that the pulser will not open for it, at every look anew."""
    second = PulserClient(pi.socket)
    for _ in range(3):
        with pytest.raises(DeviceMissing):
            await second.connected()
    await client.connected()


async def test_nonsense_ends_the_connection_and_drives_nothing(pi, before, client):
    connection = await client.connected()
    connection.send(b'{"n":1,"line":17,"ms":60000}')
    assert await asyncio.get_running_loop().sock_recv(connection, 1) == b""
    assert len(pi.driven()) == before


async def test_without_a_pulser_nothing_is_promised(pi, tmp_path):
    with pytest.raises(DeviceMissing):
        await PulserClient(tmp_path / "none").pulse(17, 20)


# With a pulser of its own, which does not outlive the test.


@pytest.fixture(scope="module")
def lone() -> Iterator[Pi]:
    with simulated_pi() as pi:
        yield pi


@pytest.fixture
def before_lone(lone: Pi) -> int:
    return len(lone.driven())


def test_kill_9_of_the_hand_switches_off_at_once_and_ends_the_pulser(lone, before_lone):
    """The simulated kernel leaves the line high, as Raspberry Pi OS does: only the guard can have done it."""
    with pulsing(lone) as process, agent_driving(lone, 17, 850):
        os.kill(hand_of(process), signal.SIGKILL)
        lasted = off_again(lone, before_lone)
        assert process.wait(5) == 1
    assert lasted < SOON


@pytest.mark.serial
def test_a_hand_that_hangs_is_killed_and_the_coil_is_off_within_the_cap(lone, before_lone):
    with pulsing(lone) as process, agent_driving(lone, 17, 850):
        os.kill(hand_of(process), signal.SIGSTOP)
        lasted = off_again(lone, before_lone)
        assert process.wait(5) == 1
    assert lasted < pulser.CAP_S


def test_kill_9_of_the_guard_makes_the_hand_let_go(lone, before_lone):
    with pulsing(lone) as process, agent_driving(lone, 17, 850):
        process.kill()
        lasted = off_again(lone, before_lone)
    assert lasted < SOON


@pytest.mark.long
def test_a_guard_that_hangs_keeps_no_coil_on(lone, before_lone):
    with pulsing(lone) as process, agent_driving(lone, 17, 300):
        os.kill(process.pid, signal.SIGSTOP)
        assert off_again(lone, before_lone) < 0.3 + TOLD


def test_when_all_of_it_is_killed_at_once_the_unit_switches_off_afterwards(lone, before_lone):
    """A coil does stay on until then: this is what ``ExecStopPost=`` is for."""
    with pulsing(lone) as process, agent_driving(lone, 17, 850):
        hand = hand_of(process)
        os.kill(process.pid, signal.SIGSTOP)
        os.kill(hand, signal.SIGKILL)
        process.kill()
        process.wait(5)
        assert len(lone.driven()) == before_lone
        with lone.running(OFF, msgspec.json.encode(lone.board()).decode()) as off:
            assert off.wait(10) == 0
        off_again(lone, before_lone)


def test_told_to_end_in_the_middle_of_a_pulse_it_switches_off(lone, before_lone):
    with pulsing(lone) as process, agent_driving(lone, 17, 850):
        process.terminate()
        lasted = off_again(lone, before_lone)
        assert process.wait(5) == 0
    assert lasted < SOON
    assert not lone.socket.exists()


def test_a_second_pulser_leaves_the_first_one_where_its_agent_finds_it(lone):
    """Somebody starts one by hand to see whether it works: it cannot have the lines, and ends."""
    with pulsing(lone), lone.running(PULSER, msgspec.json.encode(lone.board()).decode()) as second:
        assert second.wait(20) == 1
        asyncio.run(_served(lone.socket))


def test_a_coil_that_is_active_low_is_not_driven_by_starting(tmp_path):
    """Not for a moment: an output is low before it is set high, in most libraries."""
    low = {"coil": 5, "hook": 22, "driven_by": 0}
    with simulated_pi(doors=[low]) as pi, pulsing(pi, locks=(GpioLock(coil=5, hook=22, coil_active_high=False),)):
        assert pi.witnessed("coil_on") == []
        with agent_driving(pi, 5, 100):
            assert off_again(pi, 0) < 0.1 + TOLD


# The rules, in numbers.


def test_the_guard_acts_within_the_cap_whatever_the_hand_claims():
    watch = Watch(0.0)
    watch.heard(Beat(until=1e9), 10.0)
    assert not watch.hangs(10.0 + pulser.LONGEST_MS / 1000)
    assert watch.deadline < 10.0 + pulser.CAP_S
    assert watch.hangs(watch.deadline)


def test_a_coil_rests_between_two_pulses():
    coils = Coils({1, 2})
    assert coils.ask(Ask(1, 1, 100), 0.0) is Said.ON
    assert (coils.over(0.099), coils.over(0.1)) == (None, 1)
    assert coils.ask(Ask(2, 2, 100), 0.1 + pulser.REST_S - 0.01) is Said.BUSY
    assert coils.ask(Ask(3, 2, 100), 0.1 + pulser.REST_S) is Said.ON
    assert coils.stop(0.5) == 2
    assert coils.until is None


@pytest.mark.parametrize(
    "packet",
    [b"", b"{}", b'{"n":1,"line":17,"ms":851}', b'{"n":1,"line":17,"ms":0}', b'{"n":1,"line":28,"ms":1}', b"\xff"],
)
def test_what_is_no_request_is_refused(packet):
    with pytest.raises(ProtocolError):
        pulser.decode_ask(packet)
