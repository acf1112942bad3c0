"""Scanners on a serial port, below /dev/input, before a camera: their real bytes by ptys, pipes, sockets and images."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import struct
import tty
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import zxingcpp
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import DeviceBusy, DeviceError, DeviceMissing
from edge.serial_asyncio import SerialPort
from edge.system_clock import SystemClock
from locker import scanner_evdev
from locker.hid_keys import EVENT, STRANGE, KeyDecoder
from locker.scanner_camera import GONE_S, InView, open_decoder
from locker.scanner_evdev import HidScanner, grab, input_devices
from locker.scanner_serial import read_serial_scanner, serial_ports
from locker.scanner_socket import hand_over, take_scans
from locker.terminal import ScanKind, classify

# A line of what `evtest` shows of a US keyboard: the key's code by the character that it gives, and with shift.
CODES = {
    **dict(zip("1234567890-=", range(2, 14), strict=True)),
    **dict(zip("qwertyuiop[]", range(16, 28), strict=True)),
    **dict(zip("asdfghjkl;'`", range(30, 42), strict=True)),
    **dict(zip("\\zxcvbnm,./", range(43, 54), strict=True)),
    " ": 57,
    "\n": 28,
}
SHIFTED = dict(zip('!@#$%^&*()_+{}:"~|<>?', "1234567890-=[];'`\\,./", strict=True))
LEFT_SHIFT, LEFT_CTRL, LEFT_ALT, CAPS, F5 = 42, 29, 56, 58, 63


def event(kind: int, code: int, value: int) -> bytes:
    return struct.pack("llHHi", 1_800_000_000, 0, kind, code, value)


def stroke(code: int) -> bytes:
    """A scan code, the key down, a report, the key up, a report: what a HID scanner sends for one key."""
    return event(4, 4, 0x70004) + event(1, code, 1) + event(0, 0, 0) + event(1, code, 0) + event(0, 0, 0)


def typed(text: str) -> bytes:
    strokes = b""
    for char in text:
        plain = SHIFTED.get(char, char.lower())
        shifted = plain != char
        strokes += event(1, LEFT_SHIFT, 1) * shifted + stroke(CODES[plain]) + event(1, LEFT_SHIFT, 0) * shifted
    return strokes


# The keys of a scanner.


def test_every_character_of_a_us_keyboard_is_read():
    text = "".join(map(chr, range(0x20, 0x7F)))
    assert KeyDecoder().feed(typed(text)) == text.encode()


def test_a_token_comes_through_byte_by_byte():
    text, keys = "eyJhbGciOiJFZDI1NTE5In0.eyJqdGkiOiI_-In0.c2ln\n", KeyDecoder()
    assert b"".join(keys.feed(bytes([byte])) for byte in typed(text)) == text.encode()


def test_caps_lock_turns_letters_and_nothing_else():
    assert KeyDecoder().feed(stroke(CAPS) + typed("aB1") + stroke(CAPS) + typed("a")) == b"Ab1a"


def test_a_keypad_key_and_its_enter_are_characters_too():
    assert KeyDecoder().feed(stroke(79) + stroke(82) + stroke(96)) == b"10\n"


@pytest.mark.parametrize(
    "keys",
    [
        event(1, LEFT_CTRL, 1) + stroke(CODES["w"]) + event(1, LEFT_CTRL, 0),
        event(1, LEFT_ALT, 1) + stroke(62) + event(1, LEFT_ALT, 0),
        stroke(F5),
        stroke(1),
        stroke(15),
        event(0, 3, 0),
    ],
    ids=["ctrl-w", "alt-f4", "f5", "escape", "tab", "events dropped by the kernel"],
)
def test_a_barcode_with_other_keys_in_it_is_foreign_as_a_whole(keys):
    data = KeyDecoder().feed(typed("bk-1") + keys + typed("2"))
    assert data == b"bk-1" + STRANGE + b"2"
    assert classify(data) is ScanKind.FOREIGN


def test_a_key_that_is_held_is_one_character():
    held = event(1, CODES["7"], 1) + event(1, CODES["7"], 2) * 20 + event(1, CODES["7"], 0)
    assert KeyDecoder().feed(held) == b"7"


@given(st.binary(max_size=EVENT.size * 8))
def test_no_bytes_break_the_decoder(data):
    assert all(byte < 0x7F for byte in KeyDecoder().feed(data))


# A device below /dev/input. This kernel has none: a pipe with the same bytes stands for it, and for the grab a call.


class Heard:
    """Scans as they come."""

    def __init__(self) -> None:
        self.scans: list[bytes] = []
        self._news = asyncio.Event()

    def __call__(self, scan: bytes) -> None:
        self.scans.append(scan)
        self._news.set()

    async def until(self, count: int) -> list[bytes]:
        async with asyncio.timeout(10):
            while len(self.scans) < count:
                await self._news.wait()
                self._news.clear()
        return self.scans


@contextlib.asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def opened(path: Path) -> int:
    """The writing end of a pipe, once it has a reader."""
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(OSError):
                return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            await asyncio.sleep(0.01)


async def test_a_hid_scanner_is_read_and_found_again_after_an_unplug(tmp_path, monkeypatch):
    monkeypatch.setattr(scanner_evdev, "AGAIN_S", 0.01)
    device, heard = tmp_path / "event3", Heard()
    grabbed: list[int] = []
    os.mkfifo(device)
    scanner = HidScanner(str(device), heard, SystemClock(), grab=grabbed.append)
    async with running(scanner.run()):
        plug = await opened(device)
        os.write(plug, typed("bk-1\n"))
        assert await heard.until(1) == [b"bk-1"]
        device.rename(tmp_path / "unplugged")
        os.mkfifo(device)
        os.close(plug)
        plug = await opened(device)
        os.write(plug, typed("bk-2"))  # without an end of line
        assert await heard.until(2) == [b"bk-1", b"bk-2"]
        os.close(plug)
    assert len(grabbed) == 2


async def test_a_scanner_that_cannot_be_grabbed_is_not_read(tmp_path, monkeypatch):
    """What it types would reach the browser as well."""
    monkeypatch.setattr(scanner_evdev, "AGAIN_S", 0.01)
    device, heard, tries = tmp_path / "event3", Heard(), Heard()
    os.mkfifo(device)
    plug = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    os.write(plug, typed("bk-1\n"))

    def refuse(descriptor: int) -> None:
        tries(b"")
        grab(descriptor)  # a pipe cannot be grabbed

    async with running(HidScanner(str(device), heard, SystemClock(), grab=refuse).run()):
        await tries.until(3)
    assert heard.scans == []
    assert os.read(plug, 4096) == typed("bk-1\n")
    os.close(plug)


def test_the_grab_is_the_kernels_call(monkeypatch):
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(fcntl, "ioctl", lambda *given: calls.append(given))
    grab(7)
    assert calls == [(7, 0x40044590, 1)], "EVIOCGRAB of linux/input.h"


@pytest.mark.parametrize(("number", "kind"), [(16, DeviceBusy), (25, DeviceError)])
def test_a_grab_that_fails_says_why(monkeypatch, number, kind):
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "ioctl", fail)
    with pytest.raises(kind):
        grab(7)


def test_devices_are_listed_for_the_doctor(tmp_path):
    (tmp_path / "usb-Scanner-event-kbd").write_bytes(b"")
    (tmp_path / "usb-Scanner-event-mouse").write_bytes(b"")
    ((path, told),) = input_devices(tmp_path)
    assert path.endswith("usb-Scanner-event-kbd")
    assert told
    assert input_devices(tmp_path / "none") == []
    assert isinstance(serial_ports(), list)


# A serial port.


@contextlib.asynccontextmanager
async def serial_scanner(heard: Callable[[bytes], None]) -> AsyncIterator[int]:
    """The scanner's end of a pseudo-terminal whose other end is read."""
    outer, inner = pty.openpty()
    tty.setraw(inner)
    port = SerialPort(os.ttyname(inner), baud=9600, clock=SystemClock())
    try:
        async with running(read_serial_scanner(port, heard, SystemClock())):
            await asyncio.sleep(0)
            port.open()
            yield outer
    finally:
        port.close()
        os.close(outer)
        os.close(inner)


async def test_a_serial_scanner_is_read_whatever_ends_its_lines():
    heard = Heard()
    async with serial_scanner(heard) as scanner:
        for count, sent in enumerate((b"bk-1\r", b"bk-2\n", b"bk-3\r\n", b"bk-4"), 1):
            os.write(scanner, sent)
            await heard.until(count)
    assert heard.scans == [b"bk-1", b"bk-2", b"bk-3", b"bk-4"]


async def test_ten_thousand_bytes_are_one_foreign_scan_and_the_next_one_is_read():
    heard = Heard()
    async with serial_scanner(heard) as scanner:
        os.write(scanner, b"1" * 4000)
        os.write(scanner, b"1" * 2000 + b"\r")
        (flood,) = await heard.until(1)
        assert classify(flood) is ScanKind.FOREIGN
        os.write(scanner, b"bk-1\r")
        assert (await heard.until(2))[-1] == b"bk-1"


# Another process's scans.


async def test_scans_of_the_camera_come_through_a_socket_of_its_own(tmp_path):
    path, heard, ready = tmp_path / "s", Heard(), asyncio.Event()
    taking = take_scans(path, heard, SystemClock(), uids=frozenset({os.getuid()}), ready=ready.set)
    async with running(taking):
        await ready.wait()
        await asyncio.to_thread(hand_over, path, b"bk-1")
        await asyncio.to_thread(hand_over, path, b"x" * 6000)
        first, long = await heard.until(2)
    assert first == b"bk-1"
    assert classify(long) is ScanKind.FOREIGN
    with pytest.raises(DeviceMissing):
        hand_over(path, b"bk-2")


async def test_a_foreign_users_scans_are_not_taken(tmp_path):
    path, heard, ready = tmp_path / "s", Heard(), asyncio.Event()
    async with running(take_scans(path, heard, SystemClock(), uids=frozenset({4242}), ready=ready.set)):
        await ready.wait()
        for _ in range(3):
            with contextlib.suppress(DeviceMissing):
                await asyncio.to_thread(hand_over, path, b"bk-1")
    assert heard.scans == []


# A camera.


def frame(*codes: tuple[str, str], width: int = 640, height: int = 480) -> bytes:
    """A grey picture of ``codes``, one beside the other."""
    grey, left = bytearray(b"\xd0" * (width * height)), 20
    for kind, text in codes:
        code = zxingcpp.create_barcode(text, getattr(zxingcpp.BarcodeFormat, kind))
        image = memoryview(zxingcpp.write_barcode_to_image(code, scale=3))  # type: ignore[arg-type]  # it is a buffer
        rows, columns = image.shape or (0, 0)
        pixels = image.tobytes()
        for row in range(rows):
            at = (40 + row) * width + left
            grey[at : at + columns] = pixels[row * columns : (row + 1) * columns]
        left += columns + 20
    return bytes(grey)


@pytest.mark.parametrize("kind", ["QRCode", "Aztec", "DataMatrix", "Code128"])
def test_what_is_held_before_the_camera_is_read(kind):
    assert open_decoder()(frame((kind, "bk-7f3a")), 640, 480) == [b"bk-7f3a"]


def test_a_badge_of_a_kilobyte_is_read():
    token = "eyJ" + "aB3-_." * 170
    assert open_decoder()(frame(("QRCode", token)), 640, 480) == [token.encode()]


@pytest.mark.parametrize("grey", [b"\x00", b"\xff", b"\x00\xff"])
def test_a_frame_without_a_code_has_none(grey):
    assert open_decoder()(grey * (640 * 480 // len(grey)), 640, 480) == []


def test_a_code_in_view_is_told_once_and_again_when_it_was_away():
    view = InView()
    told = [view.new([b"bk-1"], at / 10) for at in range(50)]
    assert told == [[b"bk-1"]] + [[]] * 49
    assert view.new([], 5.0) == []
    assert view.new([b"bk-1", b"bk-2", b"bk-2"], 4.9 + GONE_S) == [b"bk-1", b"bk-2"]
