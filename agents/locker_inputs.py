"""The inputs of a locker, wired: each that is configured feeds the one stream that the page hears."""

from __future__ import annotations

import functools
from pathlib import Path

from agents.input_settings import InputSettings
from agents.users import uids_of
from edge.clock import Clock
from edge.serial_asyncio import SerialPort
from edge.supervisor import Supervisor
from locker.gpio_wiring import Keypad
from locker.inputs_asyncio import Inputs
from locker.keypad_gpio import read_keypad
from locker.pins_gpio import own_pins
from locker.scanner_evdev import HidScanner
from locker.scanner_serial import read_serial_scanner
from locker.scanner_socket import take_scans


def keep_inputs(settings: InputSettings, base: Path, inputs: Inputs, clock: Clock, supervisor: Supervisor) -> None:
    """Read every configured input for ever. One that dies is restarted: the screen works without any of them."""
    keep = supervisor.keep
    if (wiring := settings.keypad) is not None:
        keep("keypad", lambda: _keypad(wiring, inputs, clock))
    for number, serial in enumerate(settings.serial, 1):
        port = SerialPort(str(base / serial.port), baud=serial.baud, clock=clock)
        keep(f"serial-scanner-{number}", functools.partial(read_serial_scanner, port, inputs.scan, clock))
    for number, hid in enumerate(settings.hid, 1):
        keep(f"hid-scanner-{number}", HidScanner(str(base / hid.device), inputs.scan, clock).run)
    if (camera := settings.camera) is not None:
        uids = uids_of(camera.users, "locker.inputs.camera.users")
        keep("camera", lambda: take_scans(base / camera.socket, inputs.scan, clock, uids=uids))


async def _keypad(wiring: Keypad, inputs: Inputs, clock: Clock) -> None:
    pins = own_pins()
    try:
        await read_keypad(wiring, pins, inputs.press, clock)
    finally:
        pins.close()
