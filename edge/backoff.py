"""How long to wait before the next attempt: exponential, with full jitter, so that no fleet comes back as a herd."""

from __future__ import annotations

from collections.abc import Callable

DOUBLINGS = 32
"""Beyond any cap in use; keeps the power small however long an outage lasts."""


class Backoff:
    """Waits drawn evenly from 0 to ``first_s`` doubled by every failure, at most ``cap_s`` seconds.

    ``random`` gives floats in [0, 1). A run of at least ``stable_s`` seconds counts as recovered, a shorter one as one
    more failure: a peer that accepts and then throws out must not be hammered.
    """

    def __init__(self, random: Callable[[], float], *, first_s: float, cap_s: float, stable_s: float) -> None:
        self._random = random
        self._first = first_s
        self._cap = cap_s
        self._stable = stable_s
        self._failures = 0

    def after(self, run_s: float) -> float:
        """Seconds to wait after a run of ``run_s`` seconds has ended."""
        if run_s >= self._stable:
            self._failures = 0
        ceiling = min(self._cap, self._first * 2.0 ** min(self._failures, DOUBLINGS))
        self._failures += 1
        return self._random() * ceiling
