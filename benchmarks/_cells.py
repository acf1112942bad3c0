"""How many parcels find no compartment: months of days at one cabinet, with the product's own choice of a compartment.

The assumptions are those by which lockers are compared in public studies: 75 compartments (30 S, 30 M, 15 L), parcels
50/35/15 %, a stay that is log-normal with 63.9 % gone within 24 h and 84.5 % within 48 h and ends at 72 h, five days a
month with 1.67 times the parcels, no delivery on Sundays.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
import random
from collections.abc import Callable, Iterable

from locker.compartment import Candidate, Compartment, LedgerState, Size, choose
from locker.latch import Hook, Latch, Reading

SIZES = (*[Size.S] * 30, *[Size.M] * 30, *[Size.L] * 15)
SHARES = (50, 35, 15)
DAY_H, WEEK, MONTH = 24, 7, 30
PEAKS, PEAK = 5, 1.67
MOST_H = 72.0
_Z24, _Z48 = 0.3558, 1.0152
"""Where the standard normal distribution has 63.9 % and 84.5 % below it."""
SIGMA = math.log(2) / (_Z48 - _Z24)
MU = math.log(24) - _Z24 * SIGMA

CABINET = tuple(Compartment(f"{n:02d}", Latch(n // 16, n % 16), size, 800) for n, size in enumerate(SIZES))
SHUT = Reading(Hook.CLOSED)

Choose = Callable[[Iterable[Candidate], Size], Compartment | None]


def strict(candidates: Iterable[Candidate], size: Size) -> Compartment | None:
    """Only a compartment of the parcel's own size: what a locker does that knows no better."""
    return choose((each for each in candidates if each.compartment.size is size), size)


@dataclasses.dataclass(frozen=True)
class Plan:
    """``hours`` of the courier's rounds; ``again``: what finds no room comes along on the next round, once."""

    parcels: float
    hours: tuple[float, ...] = (10.0,)
    again: bool = False
    choose: Choose = choose


class Street:
    """One cabinet over many days."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self._plan = plan
        self._random = random.Random(seed)
        self._leaving: list[tuple[float, str]] = []
        self._taken: set[str] = set()
        self._uses = dict.fromkeys((each.door for each in CABINET), 0)
        self._back: list[Size] = []
        self.parcels = 0
        self.without = 0

    def live(self, days: int) -> None:
        peaks = {month + day for month in range(0, days, MONTH) for day in self._random.sample(range(MONTH), PEAKS)}
        for day in range(days):
            if day % WEEK != WEEK - 1:
                self._deliver(day, self._plan.parcels * (PEAK if day in peaks else 1.0))

    def _deliver(self, day: int, mean: float) -> None:
        rounds = self._plan.hours
        for hour in rounds:
            self._round(day * DAY_H + hour, self._poisson(mean / len(rounds)))

    def _round(self, now: float, count: int) -> None:
        while self._leaving and self._leaving[0][0] <= now:
            self._taken.discard(heapq.heappop(self._leaving)[1])
        back, self._back = self._back, []
        self.parcels += count
        for size in back:
            self.without += not self._store(size, now)
        for size in self._random.choices(tuple(Size), SHARES, k=count):
            if self._store(size, now):
                continue
            if self._plan.again:
                self._back.append(size)
            else:
                self.without += 1

    def _store(self, size: Size, now: float) -> bool:
        chosen = self._plan.choose(map(self._candidate, CABINET), size)
        if chosen is None:
            return False
        self._taken.add(chosen.door)
        self._uses[chosen.door] += 1
        stay = min(MOST_H, self._random.lognormvariate(MU, SIGMA))
        heapq.heappush(self._leaving, (now + stay, chosen.door))
        return True

    def _candidate(self, compartment: Compartment) -> Candidate:
        state = LedgerState.OCCUPIED if compartment.door in self._taken else LedgerState.FREE
        return Candidate(compartment, state, SHUT, self._uses[compartment.door])

    def _poisson(self, mean: float) -> int:
        count, passed = 0, self._random.expovariate(mean)
        while passed < 1.0:
            count, passed = count + 1, passed + self._random.expovariate(mean)
        return count


def share_without(plan: Plan, seeds: int, days: int) -> float:
    """Per cent of all parcels that found no compartment, over ``seeds`` streets of ``days`` days."""
    streets = [Street(plan, seed) for seed in range(seeds)]
    for street in streets:
        street.live(days)
    return 100.0 * sum(street.without for street in streets) / sum(street.parcels for street in streets)
