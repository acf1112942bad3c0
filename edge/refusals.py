"""Counts of what came from outside and was refused: a number for each reason, never a row for each try."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

EVERY_S = 60.0
"""Between two looks at the counts: one event for a reason in a minute, however much came."""


class Refused(NamedTuple):
    """How often something of the kind ``what`` was refused for ``reason`` since the last look."""

    what: str
    reason: str
    times: int


class RefusalMeter:
    """Looks at counters that only rise, by kind and reason, and tells what is new."""

    def __init__(self, counters: Mapping[str, Mapping[str, int]]) -> None:
        self._counters = counters
        self._seen: dict[tuple[str, str], int] = {}

    def totals(self) -> dict[tuple[str, str], int]:
        """All of this run, by kind and reason."""
        return {(what, reason): count for what, counter in self._counters.items() for reason, count in counter.items()}

    def news(self) -> list[Refused]:
        """What was refused since the last call."""
        now = self.totals()
        fresh = [
            Refused(what, reason, count - self._seen.get((what, reason), 0))
            for (what, reason), count in sorted(now.items())
            if count > self._seen.get((what, reason), 0)
        ]
        self._seen = now
        return fresh
