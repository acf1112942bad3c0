"""A wire on which a broker's answers are lost."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from tests.cloud_sync.broker_rig import Mosquitto


class PubackThief:
    """A wire between a client and its broker on which every PUBACK to the client is lost."""

    def __init__(self, broker: Mosquitto) -> None:
        self._broker = broker
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self.steals = True
        self.stolen = 0
        self.connections = 0
        self.port = 0

    @classmethod
    async def before(cls, broker: Mosquitto) -> PubackThief:
        thief = cls(broker)
        thief._server = await asyncio.start_server(thief._join, "127.0.0.1", 0)
        thief.port = thief._server.sockets[0].getsockname()[1]
        return thief

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        inward, outward = await asyncio.open_connection("127.0.0.1", self._broker.port)
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._pass_on(reader, outward))
                ways.create_task(self._pass_back(inward, writer))
        except* OSError:
            pass
        finally:
            for each in (writer, outward):
                each.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError

    async def _pass_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                packet = await self._packet(reader)
                if packet[0] >> 4 == 4 and self.steals:
                    self.stolen += 1
                else:
                    writer.write(packet)
                    await writer.drain()
        raise ConnectionResetError

    @staticmethod
    async def _packet(reader: asyncio.StreamReader) -> bytes:
        """One whole MQTT packet: its type, its length of seven bits a byte, its body."""
        head = await reader.readexactly(2)
        length, shift, digit = head[1] & 0x7F, 7, head[1]
        while digit & 0x80:
            digit = (await reader.readexactly(1))[0]
            head += bytes([digit])
            length |= (digit & 0x7F) << shift
            shift += 7
        return head + await reader.readexactly(length)
