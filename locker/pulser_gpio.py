"""The pulser's hand: one loop that drives coils for whoever is connected, and lets go of everything when in doubt."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from edge import log
from edge.errors import DeviceError, ProtocolError
from locker import pulser
from locker.pins import Pins
from locker.pulser import Answer, Beat, Coils, Said

BACKLOG = 4

_log = log.get_logger("locker.pulser")
_PEER = struct.Struct("iII")
"""struct ucred of SO_PEERCRED (unix(7)): pid, uid, gid."""


class Outputs:
    """The lines of all coils, each with the level at which its coil is off."""

    def __init__(self, pins: Pins, off_levels: Mapping[int, int]) -> None:
        self._pins = pins
        self.off_levels = dict(off_levels)

    def on(self, line: int) -> None:
        self._pins.drive(line, 1 - self.off_levels[line])

    def off(self, line: int) -> None:
        self._pins.drive(line, self.off_levels[line])

    def all_off(self) -> None:
        """Switch every coil off, each though another's line fails; then raises the last ``DeviceError``."""
        failed: DeviceError | None = None
        for line in self.off_levels:
            try:
                self.off(line)
            except DeviceError as error:
                failed = error
        if failed is not None:
            raise failed


def listen_pulser(path: Path) -> socket.socket:
    """Raises ``DeviceError`` when the path cannot be bound."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    path.unlink(missing_ok=True)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise DeviceError(
            f"cannot listen on {path}: {error}", remedy="check that its directory exists and is ours"
        ) from error
    # The directory's group decides who gets this far, SO_PEERCRED who is answered.
    path.chmod(0o660)
    listener.listen(BACKLOG)
    return listener


class Hand:
    """Serves one client of the users in ``uids`` until the guard's end of ``guard`` closes."""

    def __init__(
        self, outputs: Outputs, listener: socket.socket, guard: socket.socket, *, uids: frozenset[int]
    ) -> None:
        self._outputs = outputs
        self._coils = Coils(outputs.off_levels)
        self._listener = listener
        self._guard = guard
        self._uids = uids
        self._client: socket.socket | None = None
        self._beat_at = 0.0

    def run(self) -> None:
        """Return once the guard is gone. However it ends, the lines are off. Raises ``DeviceError`` of the chip."""
        try:
            self._outputs.all_off()
            self._beat()
            while self._turn():
                pass
        finally:
            self._outputs.all_off()

    def _turn(self) -> bool:
        """Wait for whatever comes first and attend to it. False when there is no guard any more."""
        ready = self._wait()
        if self._guard in ready:
            return False  # the guard never says anything: its end is closed
        if (line := self._coils.over(time.monotonic())) is not None:
            self._switch_off(line)
        if self._client is not None and self._client in ready:
            self._serve(self._client)
        if self._listener in ready:
            self._welcome()
        if time.monotonic() >= self._beat_at:
            self._beat()
        return True

    def _wait(self) -> list[socket.socket]:
        watched = [one for one in (self._guard, self._client, self._listener) if one is not None]
        until = self._coils.until
        wake = self._beat_at if until is None else min(until, self._beat_at)
        ready, _, _ = select.select(watched, [], [], max(0.0, wake - time.monotonic()))
        return ready

    def _serve(self, client: socket.socket) -> None:
        try:
            packet = client.recv(pulser.MAX_PACKET_BYTES + 1)
            if packet:
                answer = self._answer(pulser.decode_ask(packet))
                client.send(pulser.encode(answer), socket.MSG_DONTWAIT)
                return
        except ProtocolError as error:
            _log.warning("pulser.nonsense", what=error.what)
        except OSError as error:
            _log.info("pulser.client_lost", fault=error.strerror)
        self._client_gone()

    def _answer(self, ask: pulser.Ask) -> Answer:
        said = self._coils.ask(ask, time.monotonic())
        if said is Said.ON:
            self._beat()  # before the coil: should the next line hang, the guard knows of it
            self._outputs.on(ask.line)
        return Answer(ask.n, said)

    def _client_gone(self) -> None:
        if (line := self._coils.stop(time.monotonic())) is not None:
            self._switch_off(line)
        if self._client is not None:
            self._client.close()
            self._client = None

    def _switch_off(self, line: int) -> None:
        self._outputs.off(line)
        self._beat()

    def _welcome(self) -> None:
        client, _ = self._listener.accept()
        _, uid, _ = _PEER.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        if uid not in self._uids:
            _log.warning("pulser.foreign_user", uid=uid)
            client.close()
        elif self._client is not None:
            _log.warning("pulser.second_client", uid=uid)
            client.close()
        else:
            self._client = client
            self._greet(client)

    def _greet(self, client: socket.socket) -> None:
        """Until it has heard this, a client cannot know whether it is served, and counts on nothing."""
        try:
            client.send(pulser.encode(Answer(0, Said.SERVED)), socket.MSG_DONTWAIT)
        except OSError as error:
            _log.info("pulser.client_lost", fault=error.strerror)
            self._client_gone()

    def _beat(self) -> None:
        """Raises ``BrokenPipeError`` where no guard listens; ``run`` then lets go of everything."""
        self._beat_at = time.monotonic() + pulser.BEAT_S
        self._guard.send(pulser.encode(Beat(self._coils.until)), socket.MSG_DONTWAIT)
