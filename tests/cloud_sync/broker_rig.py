"""A real broker for the tests, and somebody who listens to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from agents.demo_broker import free_port
from cloud_sync.client_mqtt import BrokerSettings, MqttBroker, MqttConnection
from cloud_sync.ports import BrokerLost, Message
from edge.event import EventClass

STEP = 0.005
"""Seconds between two looks at something that another process does."""


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Return when ``condition`` holds; fail after ``seconds``."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  another process has no event to set
            await asyncio.sleep(STEP)


class Mosquitto:
    """A real broker on a port of its own. ``settings`` are lines for its configuration."""

    def __init__(self, folder: Path, settings: Sequence[str] = ("allow_anonymous true",)) -> None:
        self.folder = folder
        self.port = free_port()
        self.config = folder / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", "set_tcp_nodelay true", "user root", *settings]
        self.config.write_text("\n".join(lines) + "\n")
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        with (self.folder / "mosquitto.log").open("ab") as told:
            command = ["/usr/sbin/mosquitto", "-c", str(self.config)]
            self.process = subprocess.Popen(command, stdout=told, stderr=told)  # noqa: ASYNC220  returns at once
        await until(self._listens)

    def kill(self) -> None:
        """kill -9: nothing is written, nothing is said to clients."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "mosquitto.log").read_text()
        with contextlib.closing(socket.socket()) as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def settings(self, client_id: str, protocol: Any = "5", **more: Any) -> BrokerSettings:
        return BrokerSettings(host="127.0.0.1", port=self.port, client_id=client_id, protocol=protocol, **more)


class Listener:
    """A subscriber that keeps what it hears."""

    def __init__(self, connection: MqttConnection) -> None:
        self.connection = connection
        self.heard: list[Message] = []
        self._task = asyncio.create_task(self._listen())

    @classmethod
    async def on(cls, settings: BrokerSettings, *filters: str) -> Listener:
        connection = await MqttBroker(settings).connect(None)
        codes = await connection.subscribe(filters)
        assert max(codes) <= 2, codes
        return cls(connection)

    async def _listen(self) -> None:
        with contextlib.suppress(BrokerLost):
            while True:
                (message,) = await self.connection.next_messages(1)
                self.heard.append(message)
                self.connection.ack(message)

    def payloads(self, ending: str) -> list[bytes]:
        return [message.payload for message in self.heard if message.topic.endswith(ending)]

    def events(self, event_class: EventClass = EventClass.AUDIT) -> list[bytes]:
        """Single events and those of batches, in the order heard."""
        found: list[bytes] = []
        for message in self.heard:
            if message.topic.endswith(f"/evt/{event_class.value}"):
                found.append(message.payload)
            elif message.topic.endswith(f"/evt/{event_class.value}/batch"):
                found += [bytes(raw) for raw in msgspec.json.decode(message.payload, type=list[msgspec.Raw])]
        return found

    async def close(self) -> None:
        await self.connection.close()
        await self._task
