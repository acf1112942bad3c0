"""The port to whatever holds the doors shut: one latch is one output and its feedback on one board."""

from __future__ import annotations

import enum
from typing import Protocol

import msgspec


class Hook(enum.Enum):
    """What the latch's own switch says. A released latch is not yet an open door."""

    CLOSED = "closed"
    OPEN = "open"
    UNKNOWN = "unknown"
    """The board did not answer, or its answer cannot be trusted. Never read as closed."""


class Latch(msgspec.Struct, frozen=True, order=True):
    """Where a compartment's latch is wired. Both numbers start at 0, as on the wire; drivers check their ranges."""

    board: int
    lock: int


class Reading(msgspec.Struct, frozen=True):
    """One latch as a board reported it. ``item`` is the compartment's infrared sensor, None where there is none."""

    hook: Hook
    item: bool | None = None


class LockBoards(Protocol):
    """Every board on one bus. One transaction at a time; the owner serialises callers, pulses before polls."""

    async def readings(self, board: int) -> tuple[Reading, ...]:
        """All latches of ``board``, index = lock. Readings are UNKNOWN when no valid answer came in time."""
        ...

    async def pulse(self, latch: Latch) -> None:
        """Put one unlock frame on the wire and return; says nothing about the door, only a later reading does.

        Raises ``edge.errors.DeviceError`` when the frame did not go out (port missing or busy), and its kind
        ``DeviceSilent`` when nobody knows whether a coil was driven.
        """
        ...
