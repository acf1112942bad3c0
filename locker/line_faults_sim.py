"""Faults of a simulated bus: what becomes of an answer on its way to the agent."""

from __future__ import annotations

import dataclasses
import random

from edge.errors import ConfigError


@dataclasses.dataclass
class _Glitch:
    """Hits the next ``left`` answers (below 0: all of them), each with probability ``p``."""

    left: int = 0
    p: float = 1.0
    amount: float = 0.0

    def hits(self, chance: random.Random) -> bool:
        if self.left == 0 or chance.random() >= self.p:
            return False
        self.left -= 1 if self.left > 0 else 0
        return True


class LineFaults:
    """The line's present faults.

    Kinds: ``lost_reply``; ``half_frame``, cut off anywhere; ``bad_sum``; ``noise``, amount = random bytes before the
    answer; ``late_reply``, amount = milliseconds; ``echo``, for good: the adapter hands back what it sends.
    """

    KINDS = ("lost_reply", "half_frame", "bad_sum", "noise", "late_reply", "echo")

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._glitches: dict[str, _Glitch] = {}
        self.heal()

    def heal(self) -> None:
        self._glitches = {kind: _Glitch() for kind in self.KINDS}

    def inflict(self, kind: str, *, times: int = -1, p: float = 1.0, amount: float = 0.0) -> None:
        """Begin a fault of ``kind`` for the next ``times`` answers, or for all (-1). 0 ends it."""
        if kind not in self.KINDS or not 0 <= p <= 1:
            raise ConfigError(f"no line has the fault {kind!r} with p={p}", remedy=f"choose among {self.KINDS}, p 0..1")
        self._glitches[kind] = _Glitch(times, p, amount)

    @property
    def echoes(self) -> bool:
        return self._glitches["echo"].left != 0

    def garbled(self, data: bytes) -> bytes:
        """What ``data`` looks like to a receiver that runs at another speed."""
        return self.rubbish(len(data) * 2)

    def rubbish(self, size: int) -> bytes:
        return self._chance.randbytes(size)

    def answer(self, data: bytes, delay_ms: float) -> tuple[bytes, float]:
        """What is left of an answer, nothing perhaps, and its delay in milliseconds."""
        if self._hits("lost_reply"):
            return b"", delay_ms
        if self._hits("bad_sum"):
            data = data[:-1] + bytes([(data[-1] + 1) % 256])
        if self._hits("half_frame"):
            data = data[: self._chance.randrange(1, len(data))]
        if self._hits("noise"):
            data = self.rubbish(round(self._glitches["noise"].amount)) + data
        if self._hits("late_reply"):
            delay_ms = self._glitches["late_reply"].amount
        return data, delay_ms

    def _hits(self, kind: str) -> bool:
        return self._glitches[kind].hits(self._chance)
