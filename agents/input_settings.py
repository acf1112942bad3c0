"""What ``[locker.inputs]`` holds: keypad, scanners, camera."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from edge.settings import Settings
from locker.gpio_wiring import Keypad

Path = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
Pixels = Annotated[int, msgspec.Meta(ge=64, le=4096)]


class SerialScanner(Settings, frozen=True):
    """A scanner on a serial port, USB's among them."""

    port: Path
    """A link below /dev/serial/by-id stays the same over unplugs."""
    baud: Literal[9600, 19200, 38400, 57600, 115200] = 9600


class HidScanner(Settings, frozen=True):
    """A scanner that pretends to be a keyboard."""

    device: Path
    """A link below /dev/input/by-id stays the same over unplugs."""


class Camera(Settings, frozen=True):
    """A camera, which a process of its own looks through (``lastmile run camera``)."""

    socket: Path = "/run/lastmile/scans/camera.sock"
    """Where the role agent takes its scans."""
    users: tuple[Annotated[str, msgspec.Meta(min_length=1)] | int, ...] = ("lm-camera",)
    """Whose process may hand scans over: user names or numbers."""
    width: Pixels = 640
    height: Pixels = 480
    pixels: Literal["yuv420", "grey"] = "yuv420"
    """How the program below gives a frame: planes of which the first is grey, or that one alone."""
    command: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = (
        *("rpicam-vid", "--nopreview", "--timeout", "0", "--codec", "yuv420", "--framerate", "10"),
        *("--width", "640", "--height", "480", "--output", "-"),
    )
    """A program that writes frame after frame to its output; this one comes with Raspberry Pi OS."""

    @property
    def frame_bytes(self) -> int:
        grey = self.width * self.height
        return grey if self.pixels == "grey" else grey + 2 * ((self.width + 1) // 2) * ((self.height + 1) // 2)


class InputSettings(Settings, frozen=True):
    """Whatever of these a terminal has; all of them are one session."""

    keypad: Keypad | None = None
    serial: Annotated[tuple[SerialScanner, ...], msgspec.Meta(max_length=4)] = ()
    hid: Annotated[tuple[HidScanner, ...], msgspec.Meta(max_length=4)] = ()
    camera: Camera | None = None
