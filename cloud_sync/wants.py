"""Which gaps to ask a node for, and how often."""

from __future__ import annotations

from collections.abc import Sequence

SETTLE_FOR = 1.0
"""Seconds a gap must have been seen: what is on its way, or with another worker of the group, is not missing."""
WANT_AGAIN = 15.0
"""Seconds between two requests for the same gap: a node sends such rows within a tenth of its pace."""
MAX_WANTED = 64
"""Ranges in one ack."""

Gap = tuple[str, str, int, int]
"""epoch, class, first, last"""


class Wants:
    """The gaps of all nodes that are known now. Time is handed in."""

    def __init__(self) -> None:
        self._gaps: dict[str, dict[tuple[str, str, int], list[float]]] = {}
        """Per source and beginning of a gap: when it was first seen and when it was last asked for."""

    def due(self, source: str, missing: Sequence[Gap], now: float) -> list[Gap]:
        """The gaps to ask for now; ``missing`` are all that the source has."""
        before = self._gaps.get(source, {})
        known = {
            (epoch, name, first): before.get((epoch, name, first), [now, -WANT_AGAIN])
            for epoch, name, first, _ in missing
        }
        self._gaps[source] = known
        due = []
        for gap in missing[:MAX_WANTED]:
            times = known[gap[:3]]
            if now - times[0] >= SETTLE_FOR and now - times[1] >= WANT_AGAIN:
                times[1] = now
                due.append(gap)
        if not known:
            del self._gaps[source]
        return due

    def open(self) -> frozenset[str]:
        """The sources that have gaps: they are looked at again without anything new."""
        return frozenset(self._gaps)
