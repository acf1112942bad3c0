"""How long to wait before the next attempt: grows with the trouble, with full jitter, so that no fleet is a herd."""

from __future__ import annotations

from collections.abc import Callable


class Backoff:
    """Waits drawn evenly from 0 to ``first_s`` and all the time that the trouble has lasted, at most ``cap_s`` seconds.

    So whoever was away for half a minute is back within another, and the attempts of a long outage thin out by
    themselves. (Doubling with every attempt does not know the time: some of a fleet had drawn eight short waits in the
    half minute that a broker needed to start, and were away for four more.) ``random`` gives floats in [0, 1). A run of
    at least ``stable_s`` seconds counts as recovered, a shorter one as trouble that goes on: a peer that accepts and
    then throws out must not be hammered.
    """

    def __init__(self, random: Callable[[], float], *, first_s: float, cap_s: float, stable_s: float) -> None:
        self._random = random
        self._first = first_s
        self._cap = cap_s
        self._stable = stable_s
        self._trouble = 0.0

    def after(self, run_s: float) -> float:
        """Seconds to wait after a run of ``run_s`` seconds has ended."""
        self._trouble = 0.0 if run_s >= self._stable else self._trouble + run_s
        wait = self._random() * min(self._cap, self._first + self._trouble)
        self._trouble += wait
        return wait
