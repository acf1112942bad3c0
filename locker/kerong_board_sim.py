"""What the electronics of simulated Kerong boards hear and say. Written from the field notes alone.

It shares no codec, constant or import with the driver: an error in one of the two is then seen by the other.
"""

from __future__ import annotations

from typing import NamedTuple

PATIENCE = 0.05
"""Seconds of silence within a frame after which a board forgets its beginning."""

BEGIN, FINISH = 0x02, 0x03
"""The bytes around a command; its checksum follows."""

SIZES = (5, 6, 7)
"""Bytes of the commands boards know: plain, with one byte (39, 40) and with two (37)."""


class Heard(NamedTuple):
    """A whole command: ``to`` is the address byte's high nibble, ``lock`` its low one."""

    raw: bytes

    @property
    def to(self) -> int:
        return self.raw[1] // 16

    @property
    def lock(self) -> int:
        return self.raw[1] % 16

    @property
    def verb(self) -> int:
        return self.raw[2]

    @property
    def is_query(self) -> bool:
        """37 asks where it brings no time, and sets one where it does."""
        return self.verb in {0x30, 0x32} or (self.verb == 0x37 and len(self.raw) == min(SIZES))  # noqa: PLR2004


class Ear:
    """Finds commands in what the line carries."""

    def __init__(self) -> None:
        self._kept = b""
        self._last = 0.0
        self.rubbish = 0
        """Bytes that belonged to no command."""

    def hear(self, data: bytes, now: float) -> list[Heard]:
        if now - self._last > PATIENCE:
            self.rubbish += len(self._kept)
            self._kept = b""
        self._last = now
        self._kept += data
        commands = []
        while self._kept:
            size = self._command_size()
            if size:
                commands.append(Heard(self._kept[:size]))
                self._kept = self._kept[size:]
            elif self._kept[0] == BEGIN and len(self._kept) < max(SIZES):
                break
            else:
                self._kept = self._kept[1:]
                self.rubbish += 1
        return commands

    def _command_size(self) -> int:
        """Bytes of the command that the kept bytes begin with, or 0."""
        if self._kept[0] != BEGIN:
            return 0
        for size in SIZES:
            part = self._kept[:size]
            if len(part) == size and part[-2] == FINISH and part[-1] == total(part[:-1]):
                return size
        return 0


def status_reply(board: int, switches: int, sensors: int, verb: int = 0x35) -> bytes:
    """Nine bytes: hooks 1-8, hooks 9-16, sensors 1-8, sensors 9-16."""
    frame = [BEGIN, board * 16, verb, *switches.to_bytes(2, "little"), *sensors.to_bytes(2, "little"), FINISH]
    return bytes([*frame, total(frame)])


def coil_time_reply(board: int, centiseconds: int) -> bytes:
    """Seven bytes. The reply's data are believed to be laid out as the command's are."""
    frame = [BEGIN, board * 16, 0x38, *centiseconds.to_bytes(2, "big"), FINISH]
    return bytes([*frame, total(frame)])


def total(frame: bytes | list[int]) -> int:
    return sum(frame) % 256
