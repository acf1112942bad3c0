"""The demonstration's broker: mosquitto where it is installed, otherwise amqtt in a thread of this process."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Protocol

from edge.errors import DeviceError

UP_S = 15.0
LOOK_S = 0.02
MOSQUITTO_PLACES = ("/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto")
"""Debian installs it outside an ordinary user's PATH."""


class DemoBroker(Protocol):
    """A broker on the loopback that can be taken away and brought back."""

    name: str
    protocol: str
    """"5" or "3.1.1"."""
    subscribe: str
    """"shared", or "plain" where the broker has no shared subscriptions."""
    port: int

    def start(self) -> None: ...

    def stop(self) -> None:
        """Gone at once, as in a power cut."""
        ...


def find_mosquitto() -> str | None:
    return shutil.which("mosquitto") or next((place for place in MOSQUITTO_PLACES if Path(place).exists()), None)


def choose_broker(wanted: str, directory: Path) -> DemoBroker:
    """Raises ``DeviceError`` when mosquitto is wanted and not there."""
    mosquitto = find_mosquitto()
    if wanted == "in-process" or (wanted == "auto" and mosquitto is None):
        return InProcessBroker(free_port())
    if mosquitto is None:
        raise DeviceError("mosquitto is not installed", remedy="install it, or take --broker in-process")
    return Mosquitto(mosquitto, free_port(), directory)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_port(port: int) -> None:
    deadline = time.monotonic() + UP_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(LOOK_S)
    raise DeviceError(f"no broker on port {port} after {UP_S:.0f} s", remedy="read logs/broker.log in the demo's files")


class Mosquitto:
    """The distribution's mosquitto as a process of its own."""

    protocol = "5"
    subscribe = "shared"

    def __init__(self, executable: str, port: int, directory: Path) -> None:
        self.name = "mosquitto"
        self.port = port
        self._executable = executable
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        config = self._directory / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
        with (self._directory / "logs" / "broker.log").open("ab") as out:
            self._process = subprocess.Popen(  # noqa: S603  our own configuration, no input from outside
                [self._executable, "-c", str(config)], stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        _await_port(self.port)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class InProcessBroker:
    """amqtt in a thread: MQTT 3.1.1, nothing to install. For demonstrations only: it keeps nothing over a restart."""

    protocol = "3.1.1"
    subscribe = "plain"

    def __init__(self, port: int) -> None:
        self.name = "amqtt in this process"
        self.port = port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._broker: Any = None

    def start(self) -> None:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="broker", daemon=True)
        thread.start()
        self._loop, self._thread = loop, thread
        self._broker = asyncio.run_coroutine_threadsafe(_started(self.port), loop).result(UP_S)
        _await_port(self.port)

    def stop(self) -> None:
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._broker.shutdown(), loop).result(UP_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        self._loop = self._thread = None


async def _started(port: int) -> Any:
    # Imported here because it is only needed, and only installed for, the demonstration.
    from amqtt.broker import Broker

    # It writes a traceback for every client that is killed, and killing them is part of the story.
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)
    logging.getLogger("transitions").setLevel(logging.CRITICAL)
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    return broker
