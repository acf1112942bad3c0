"""The role agent's end of the pulser's socket: one question at a time, and an answer or an error soon."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from edge.errors import DeviceBusy, DeviceError, DeviceMissing, DeviceSilent, ProtocolError
from locker import pulser
from locker.pulser import Ask, Said

ANSWER_S = 1.0
"""The pulser answers within a millisecond or two. One that hangs is ended by its guard within this time or the next."""


class PulserClient:
    """Connects when it is needed, and again after the pulser was started anew. One caller at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._number = 0

    async def pulse(self, line: int, ms: int) -> None:
        """Have ``line`` driven for ``ms``; returns when it is.

        Raises ``DeviceMissing`` where no pulser runs, ``DeviceBusy`` where it drives another line or has just done so,
        ``DeviceError`` for a line that it does not have: nothing was driven. Raises ``DeviceSilent`` where it was asked
        and says nothing: what it did is then not known, and whatever is on goes off.
        """
        connection = await self.connected()
        self._number = (self._number + 1) % 2**32
        try:
            said = await self._ask(connection, Ask(self._number, line, ms))
        except BaseException:
            self.close()  # no answer must be left that the next question would take for its own
            raise
        if said is Said.BUSY:
            raise DeviceBusy("the pulser drives another coil", remedy="try again when its pulse is over")
        if said is not Said.ON:
            raise DeviceError(f"the pulser has no line {line}", remedy="restart it, so that it reads the configuration")

    async def connected(self) -> socket.socket:
        """Connect unless connected. Raises ``DeviceMissing`` where no pulser runs, or none says that it serves us: it
        hangs, has another client, or is not for our user.
        """
        if self._socket is not None and _hung_up(self._socket):
            self.close()
        if self._socket is None:
            fresh = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            fresh.setblocking(False)
            try:
                await _be_served(fresh, self._path)
            except BaseException:
                fresh.close()
                raise
            self._socket = fresh
        return self._socket

    def close(self) -> None:
        """Leave the pulser, which then switches off what we had asked for."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _ask(self, connection: socket.socket, ask: Ask) -> Said:
        loop = asyncio.get_running_loop()
        try:
            connection.send(pulser.encode(ask), socket.MSG_DONTWAIT)
        except OSError as error:
            raise _missing() from error
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = pulser.decode_answer(await loop.sock_recv(connection, pulser.MAX_PACKET_BYTES))
        except (OSError, ProtocolError) as error:  # a time-out is the former, the end of the connection the latter
            raise DeviceSilent("the pulser does not answer", remedy="its guard starts it anew; see its log") from error
        if answer.n != ask.n:
            raise DeviceSilent("the pulser answers another question", remedy="run agent and pulser of one release")
        return answer.said


async def _be_served(fresh: socket.socket, path: Path) -> None:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(ANSWER_S):
            await loop.sock_connect(fresh, str(path))
            greeting = pulser.decode_answer(await loop.sock_recv(fresh, pulser.MAX_PACKET_BYTES))
    except (OSError, ProtocolError) as error:  # a time-out is the former, a door that is shut again the latter
        raise _missing() from error
    if greeting.said is not Said.SERVED:
        raise _missing()


def _hung_up(connection: socket.socket) -> bool:
    """Nothing is to come unasked, so whatever can be read is the end."""
    try:
        connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _missing() -> DeviceMissing:
    return DeviceMissing("no pulser serves us", remedy="start lastmile-pulser.service; it takes one client at a time")
