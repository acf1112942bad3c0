"""The camera's process: frames of a program that the system brings, and what is on them, string by string."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from pathlib import Path

from agents.input_settings import Camera
from edge import log
from edge.errors import DeviceError, DeviceMissing
from edge.health import Health
from edge.health_systemd import Notifier, feed
from edge.supervisor import Supervisor
from edge.system_clock import SystemClock
from locker.scanner_camera import Decoder, InView, open_decoder
from locker.scanner_socket import hand_over

_log = log.get_logger("agents.camera")

FRAMES_LIMIT_S = 30.0
"""A camera gives some ten frames a second; one that gives none for so long hangs."""


async def run_camera(camera: Camera, base: Path) -> None:
    """Look until told to stop. Raises ``ConfigError`` where the decoder is not installed."""
    decode, clock, health = open_decoder(), SystemClock(), Health()
    supervisor = Supervisor(clock, random.random, health)
    health.expect("frames", mono=clock.mono(), limit_s=FRAMES_LIMIT_S)
    supervisor.keep("frames", lambda: look(camera, base / camera.socket, decode, clock, health))
    notifier = Notifier(os.environ, pid=os.getpid())
    notifier.ready()
    supervisor.keep("watchdog", lambda: feed(notifier, health, clock))
    await supervisor.run_until_signal()


async def look(camera: Camera, socket: Path, decode: Decoder, clock: SystemClock, health: Health) -> None:
    """Decode frame after frame. Raises ``DeviceError`` when the program that gives them ends."""
    try:
        program = await asyncio.create_subprocess_exec(
            *camera.command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, limit=camera.frame_bytes
        )
    except OSError as error:
        raise DeviceMissing(
            f"{camera.command[0]}: {error.strerror}", remedy="install the program that gives the camera's frames"
        ) from error
    view, frames = InView(), program.stdout
    try:
        while frames is not None:
            frame = await frames.readexactly(camera.frame_bytes)
            health.progress("frames", clock.mono())
            codes = decode(frame[: camera.width * camera.height], camera.width, camera.height)
            for code in view.new(codes, clock.mono()):
                await _hand_over(socket, code)
    except asyncio.IncompleteReadError as error:
        raise DeviceError(f"{camera.command[0]} has ended", remedy="see what it said; is the camera there?") from error
    finally:
        with contextlib.suppress(ProcessLookupError):
            program.send_signal(signal.SIGTERM)
        await program.wait()


async def _hand_over(socket: Path, code: bytes) -> None:
    try:
        await asyncio.to_thread(hand_over, socket, code)
    except DeviceMissing as error:
        _log.warning("camera.unheard", what=error.what)
