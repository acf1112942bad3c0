"""A fleet that lost its broker comes back without trampling it: the real back-off on a clock of numbers."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable

import pytest

from cloud_sync.session import FIRST_PAUSE, LONGEST_PAUSE, STABLE_AFTER
from edge.backoff import Backoff

NODES = 10_000
HANDSHAKES = 400
"""TLS handshakes a second of mosquitto with TCP_NODELAY on two cores that the clients share (measured)."""
PATIENCE = 10.0
"""Seconds after which a client gives its attempt up; ``BrokerSettings.connect_timeout``."""

Waits = Callable[[int], Callable[[float], float]]


def ours(seed: int) -> Callable[[float], float]:
    backoff = Backoff(random.Random(seed).random, first_s=FIRST_PAUSE, cap_s=LONGEST_PAUSE, stable_s=STABLE_AFTER)
    return backoff.after


def pahos(_: int) -> Callable[[float], float]:
    """paho-mqtt 2.2: the wait doubles from 1 to 120 s, for every client alike."""
    failures = iter(range(1_000_000))
    return lambda _ran: min(120.0, 2.0 ** min(7, next(failures)))


class Storm:
    """All nodes lose the broker at 0 s; it takes connections again after ``outage`` seconds."""

    def __init__(self, waits: Waits, outage: float) -> None:
        self.attempts: Counter[int] = Counter()
        """By second."""
        self.back: list[float] = []
        """When each node was connected again."""
        due = [(wait(0.0), node, wait) for node, wait in enumerate(waits(seed) for seed in range(NODES))]
        heapq.heapify(due)
        free_at = outage
        while due:
            now, node, wait = heapq.heappop(due)
            self.attempts[int(now)] += 1
            if now < outage:
                heapq.heappush(due, (now + wait(0.0), node, wait))
                continue
            # One after the other; whoever would wait longer than its patience has cost the broker nothing here.
            begins = max(free_at, now)
            if begins - now > PATIENCE:
                heapq.heappush(due, (now + PATIENCE + wait(PATIENCE), node, wait))
            else:
                free_at = begins + 1 / HANDSHAKES
                self.back.append(free_at - outage)

    def busiest(self, since: float) -> int:
        """Attempts in the worst second from ``since`` on."""
        return max(count for second, count in self.attempts.items() if second >= since)


@pytest.mark.parametrize("outage", [5.0, 30.0])
def test_after_a_broker_restart_ten_thousand_are_back_within_a_minute(outage):
    storm = Storm(ours, outage)
    assert len(storm.back) == NODES
    assert max(storm.back) <= 60.0


def test_after_a_long_outage_they_come_evenly_and_all_of_them():
    """Without jitter all come in the same second for ever: thousands of half-finished handshakes, and nobody is in."""
    storm = Storm(ours, 1200.0)
    assert storm.busiest(600.0) <= 120  # 67 on average: two draws of at most 300 s each
    assert max(storm.back) <= LONGEST_PAUSE + 2 * PATIENCE
    assert Storm(pahos, 1200.0).busiest(600.0) == NODES


def test_a_broker_that_accepts_and_throws_out_is_not_hammered():
    """A client that takes every CONNACK for a recovery asks once a second for ever, and stays banned."""
    wait, now, asked = ours(7), 0.0, 0
    while now < 3600.0:
        now += 0.5 + wait(0.5)
        asked += 1
    assert asked <= 60
    steady = ours(7)
    for _ in range(20):
        steady(0.5)
    assert steady(STABLE_AFTER + 1.0) <= FIRST_PAUSE
