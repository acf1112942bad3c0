"""Which gaps to ask a node for, and how often. The plan is kept by the store, so that of many workers one asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

SETTLE_FOR = 1.0
"""Seconds a gap must have been seen: what is on its way, or with another worker of the group, is not missing."""
WANT_AGAIN = 15.0
"""Seconds between two requests for the same gap: a node sends such rows within a tenth of its pace."""
LONGEST_PAUSE = 3600.0
"""Seconds. The pause doubles with each request that brought nothing: what a node has deleted never comes."""
MAX_WANTED = 64
"""Ranges in one ack."""
OPEN_END = 2**46 - 1
"""The last number a journal can have: "and all that follows"."""

Gap = tuple[str, str, int, int]
"""epoch, class, first, last"""
Place = tuple[str, str, int]
"""epoch, class, first: what names a gap; its end moves."""


class Planned(msgspec.Struct, frozen=True):
    """A gap up to ``last``: asked for at ``due`` (wall seconds), and after that again ``pause`` seconds later."""

    last: int
    due: float
    pause: float
    since: float


def plan(known: Mapping[Place, Planned], missing: Sequence[Gap], now: float) -> tuple[dict[Place, Planned], list[Gap]]:
    """The plan for all gaps of a node, and those to ask for now. ``known``: the plan so far; ``now``: wall seconds.

    A clock that was put back keeps nobody waiting: no gap is due later than its pause from now.
    """
    planned: dict[Place, Planned] = {}
    due: list[Gap] = []
    for epoch, name, first, last in missing[:MAX_WANTED]:
        place = (epoch, name, first)
        before = known.get(place)
        if before is None:
            planned[place] = Planned(last, now + SETTLE_FOR, WANT_AGAIN, now)
        elif before.due <= now or before.due > now + 2 * before.pause:
            due.append((epoch, name, first, last))
            planned[place] = Planned(last, now + before.pause, min(LONGEST_PAUSE, 2 * before.pause), before.since)
        else:
            planned[place] = msgspec.structs.replace(before, last=last)
    return planned, due
