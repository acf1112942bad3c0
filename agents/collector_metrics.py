"""A collector's figures for Prometheus: sums over all nodes, and the few nodes that wait for longest by name."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge

from cloud_sync.collector_asyncio import Collector
from cloud_sync.collector_figures_sql import Figures, figures
from cloud_sync.collector_sql import CollectorStore
from edge.clock import Clock
from edge.errors import StoreError

EVERY_S = 15.0
"""Between two looks: as often as most scrape."""

_SUMS: dict[str, tuple[str, Callable[[Figures], float]]] = {
    "nodes": ("Nodes of which something is kept.", lambda each: each.nodes),
    "held_numbers": ("Sum of all cursors: events held, thinned ones included.", lambda each: each.numbers),
    "pending_rows": ("Rows that no seal covers yet.", lambda each: each.pending),
    "unproven_bytes": ("What those rows take on the disk.", lambda each: each.unproven_bytes),
    "lag_seconds": ("How long the slowest node's rows wait without its cursor moving.", lambda each: each.lag),
    "gaps": ("Ranges that lack and are asked for.", lambda each: each.gaps),
    "nodes_with_gaps": ("Nodes that have any.", lambda each: each.nodes_with_gaps),
    "missing_events": ("Events in those ranges.", lambda each: each.missing),
    "quarantined_rows": ("Rows that contradict held ones, kept for a person.", lambda each: each.quarantined),
}


class CollectorMetrics:
    """Reads the store every ``EVERY_S`` seconds, not at every scrape. ``worst``: how many nodes have labels."""

    def __init__(
        self, registry: CollectorRegistry, collector: Collector, store: CollectorStore, clock: Clock, *, worst: int
    ) -> None:
        self._store = store
        self._clock = clock
        self._worst = worst

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"lastmile_collector_{name}", text, labels, registry=registry)

        self._sums = {name: gauge(name, text) for name, (text, _) in _SUMS.items()}
        self._refused = gauge("refused", "Things that were not taken, since the store began.", "reason")
        self._lag = gauge("node_lag_seconds", "Of the nodes that wait for longest.", "node")
        self._pending = gauge("node_pending_rows", "Of the same nodes.", "node")
        self._missing = gauge("node_missing_events", "Of the same nodes.", "node")
        gauge("acks", "Acknowledgements sent by this worker.").set_function(lambda: collector.acks)
        gauge("wanted_ranges", "Ranges asked for by this worker.").set_function(lambda: collector.wants)
        gauge("listening", "1 while messages are known to reach this worker.").set_function(
            lambda: bool(collector.subscribed)
        )

    async def run(self) -> None:
        """For ever; a store that cannot be read now leaves the figures as they were."""
        while True:
            try:
                await self.look()
            except StoreError:
                self._sums["lag_seconds"].set(float("nan"))
            await self._clock.sleep(EVERY_S)

    async def look(self) -> None:
        """Read the store once. Raises ``StoreError``."""
        now = self._clock.wall()
        found = await self._store.work(lambda sql: figures(sql, now=now, worst=self._worst), reads=True)
        for name, (_, value) in _SUMS.items():
            self._sums[name].set(value(found))
        for reason, times in found.refused.items():
            self._refused.labels(reason).set(times)
        for each in (self._lag, self._pending, self._missing):
            each.clear()
        for node in found.worst:
            name = node.source.rpartition("/")[2]
            self._lag.labels(name).set(node.lag)
            self._pending.labels(name).set(node.pending)
            self._missing.labels(name).set(node.missing)
