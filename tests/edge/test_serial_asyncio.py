"""The serial port on a real pseudo-terminal: it opens when needed, tells what is wrong, and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import multiprocessing
import multiprocessing.synchronize
import os
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.clock_sim import ManualClock
from edge.errors import DeviceBusy, DeviceError, DeviceMissing, DeviceSilent
from edge.serial_asyncio import INBOX_LIMIT, RETRY_FIRST, RETRY_MOST, SerialPort
from edge.system_clock import SystemClock


class Cable:
    """A pseudo-terminal behind a stable name, which can be pulled and plugged in again."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "port"
        self.far = -1
        self._near = -1

    def plug(self) -> None:
        self.far, self._near = os.openpty()
        tty.setraw(self._near)
        self.path.symlink_to(os.ttyname(self._near))

    def pull(self) -> None:
        if self.far >= 0:
            self.path.unlink()
            os.close(self.far)
            os.close(self._near)
            self.far = -1


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[Cable]:
    cable = Cable(tmp_path)
    cable.plug()
    yield cable
    cable.pull()


async def test_nothing_is_opened_before_the_first_use(tmp_path: Path) -> None:
    port = SerialPort(str(tmp_path / "absent"), baud=19200, clock=ManualClock())
    assert not port.is_open
    assert port.trouble is None
    with pytest.raises(DeviceMissing, match="plug the adapter in"):
        await port.write(b"x")
    assert isinstance(port.trouble, DeviceMissing)


async def test_bytes_go_both_ways_unchanged(cable: Cable) -> None:
    """All 256 values: no line discipline translates, echoes or eats any of them."""
    port = SerialPort(str(cable.path), baud=19200, clock=SystemClock())
    every = bytes(range(256))
    await port.write(every)
    assert os.read(cable.far, 1000) == every
    os.write(cable.far, every)
    got = b""
    while len(got) < 256:
        got += await port.read(5)
    assert got == every
    port.close()


async def test_a_read_without_bytes_ends_at_its_deadline(cable: Cable) -> None:
    clock = ManualClock()
    port = SerialPort(str(cable.path), baud=19200, clock=clock)
    reading = asyncio.create_task(port.read(0.5))
    await clock.advance(0.49)
    assert not reading.done()
    await clock.advance(0.02)
    assert await reading == b""
    port.close()


async def test_the_first_write_leaves_before_anything_else_runs(cable: Cable) -> None:
    port = SerialPort(str(cable.path), baud=19200, clock=ManualClock())
    with pytest.raises(StopIteration):
        port.write(b"open").send(None)
    assert os.read(cable.far, 100) == b"open"
    port.close()


async def test_an_unplug_is_noticed_and_the_port_comes_back_by_itself(cable: Cable) -> None:
    clock = ManualClock()
    port = SerialPort(str(cable.path), baud=19200, clock=clock)
    reading = asyncio.create_task(port.read(60))
    await asyncio.sleep(0)
    cable.pull()
    with pytest.raises(DeviceMissing, match="went away"):
        await reading
    assert not port.is_open
    cable.plug()
    with pytest.raises(DeviceMissing):
        await port.write(b"still within the pause")
    await clock.advance(RETRY_FIRST)
    await port.write(b"back")
    assert os.read(cable.far, 100) == b"back"
    port.close()


async def test_a_write_to_a_pulled_port_says_so(cable: Cable) -> None:
    port = SerialPort(str(cable.path), baud=19200, clock=ManualClock())
    port.open()
    cable.pull()
    with pytest.raises(DeviceMissing, match="went away"):
        await port.write(b"x")


async def test_tries_get_rarer_and_never_stop(tmp_path: Path) -> None:
    """The path becomes valid at last; the pauses before that double up to their limit."""
    clock, path = ManualClock(), tmp_path / "port"
    port = SerialPort(str(path), baud=19200, clock=clock)
    pauses, last = [], None
    for _ in range(1000):
        with pytest.raises(DeviceMissing) as told:
            port.open()
        if told.value is not last:
            pauses.append(clock.mono())
            last = told.value
        await clock.advance(0.01)
    gaps = [round(later - earlier, 2) for earlier, later in itertools.pairwise(pauses)]
    assert gaps[:5] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6], abs=0.011)
    assert set(gaps[5:]) <= {RETRY_MOST, RETRY_MOST + 0.01}


async def test_a_port_that_opens_and_drops_at_once_is_not_hammered(cable: Cable) -> None:
    """Only received bytes show that the port works and reset the pause."""
    clock = ManualClock()
    port = SerialPort(str(cable.path), baud=19200, clock=clock)
    for pause in (0.1, 0.2, 0.4):
        port.open()
        cable.pull()
        with pytest.raises(DeviceMissing):
            await port.read(1)
        cable.plug()
        await clock.advance(pause - 0.01)
        with pytest.raises(DeviceMissing):
            port.open()
        await clock.advance(0.02)
    port.open()
    os.write(cable.far, b"!")
    assert await port.read(1)
    cable.pull()
    with pytest.raises(DeviceMissing):
        await port.read(1)
    cable.plug()
    await clock.advance(RETRY_FIRST)
    port.open()
    port.close()


async def test_a_second_owner_hears_that_the_port_is_in_use(cable: Cable) -> None:
    clock = ManualClock()
    first = SerialPort(str(cable.path), baud=19200, clock=clock)
    second = SerialPort(str(cable.path), baud=19200, clock=clock)
    first.open()
    with pytest.raises(DeviceBusy, match="fuser"):
        second.open()
    await first.write(b"first still works")
    first.close()
    await clock.advance(RETRY_FIRST)
    second.open()
    second.close()


def _hold(path: str, holding: multiprocessing.synchronize.Event) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    holding.set()
    multiprocessing.Event().wait()


async def test_another_process_blocks_the_port_exactly_as_long_as_it_lives(cable: Cable) -> None:
    clock = ManualClock()
    port = SerialPort(str(cable.path), baud=19200, clock=clock)
    spawn = multiprocessing.get_context("fork")
    holding = spawn.Event()
    holder = spawn.Process(target=_hold, args=(str(cable.path), holding))
    holder.start()
    assert holding.wait(10)
    with pytest.raises(DeviceBusy):
        port.open()
    holder.kill()
    holder.join()
    holder.close()
    await clock.advance(RETRY_FIRST)
    port.open()
    port.close()


@pytest.mark.parametrize("path", ["/dev/null", "/etc/hostname", "/tmp"])
async def test_what_is_no_serial_port_is_refused_with_its_name(path: str) -> None:
    with pytest.raises(DeviceError, match=path):
        SerialPort(path, baud=19200, clock=ManualClock()).open()


async def test_a_baud_rate_that_cannot_be_is_refused(cable: Cable) -> None:
    with pytest.raises(DeviceError, match="baud"):
        SerialPort(str(cable.path), baud=-1, clock=ManualClock()).open()


async def test_a_device_that_stops_taking_bytes_is_given_up(cable: Cable) -> None:
    """Nobody reads at the far end: the buffer fills, and the caller is told that only a part has gone."""
    clock = ManualClock()
    port = SerialPort(str(cable.path), baud=19200, clock=clock)
    writing = asyncio.create_task(port.write(bytes(1_000_000)))
    await clock.advance(1.1)
    with pytest.raises(DeviceSilent):
        await writing
    assert not port.is_open


async def test_a_long_write_goes_on_as_room_comes(cable: Cable) -> None:
    port = SerialPort(str(cable.path), baud=19200, clock=SystemClock())
    writing = asyncio.create_task(port.write(bytes(100_000)))
    os.set_blocking(cable.far, False)
    got = 0
    while got < 100_000:
        await asyncio.sleep(0)
        with contextlib.suppress(BlockingIOError):
            got += len(os.read(cable.far, 65536))
    await writing
    port.close()


async def test_what_was_received_before_is_drained_at_once(cable: Cable) -> None:
    port = SerialPort(str(cable.path), baud=19200, clock=SystemClock())
    port.open()
    os.write(cable.far, b"old")
    assert await port.read(5) == b"old"
    os.write(cable.far, b"older")
    drained = b""
    while drained != b"older":
        await asyncio.sleep(0)
        drained += port.drain()
    assert port.drain() == b""
    port.close()


async def test_noise_that_nobody_reads_does_not_fill_the_memory(cable: Cable) -> None:
    port = SerialPort(str(cable.path), baud=19200, clock=SystemClock())
    port.open()
    os.set_blocking(cable.far, False)
    sent = 0
    while sent < 4 * INBOX_LIMIT:
        with contextlib.suppress(BlockingIOError):
            sent += os.write(cable.far, bytes(2000))
        await asyncio.sleep(0)
    os.write(cable.far, b"last")
    data = b""
    while not data.endswith(b"last"):
        await asyncio.sleep(0)
        data = port.drain()
        assert len(data) <= INBOX_LIMIT
    port.close()


async def test_a_cancelled_read_leaves_the_port_usable(cable: Cable) -> None:
    port = SerialPort(str(cable.path), baud=19200, clock=SystemClock())
    reading = asyncio.create_task(port.read(60))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    os.write(cable.far, b"next")
    assert await port.read(5) == b"next"
    port.close()
