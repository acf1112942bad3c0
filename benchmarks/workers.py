"""How fast a backlog of many nodes becomes held and acknowledged: workers of one collector behind a real mosquitto.

The backlog is made before and published by bare paho in batches of 64 KiB, as nodes that drain do; what counts is the
time from the first message to the cursor at the last event of every node. Workers are processes, as in service.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks._report import Figure, report
from cloud_sync.client_mqtt import MqttBroker
from cloud_sync.collector_open_sql import open_store
from cloud_sync.topics import NodeTopics
from edge.event import EventClass
from edge.keys import SigningKey
from edge.system_clock import SystemClock
from tests.cloud_sync.broker_rig import Mosquitto, until
from tests.cloud_sync.rig import CONSUMER, TENANT, Epoch
from tests.edge.trust import seed
from tests.peers.postgres import postgres
from tests.peers.stores import migrate
from tests.peers.workers import crew

BATCH_BYTES = 60 * 1024
PATIENCE_S = 60.0
"""For the workers to start."""
NODES = 20
"""Enough that workers seldom wait for each other's node."""


class Backlog:
    """What one node has to tell: sealed audit events, in batches."""

    def __init__(self, number: int, events: int) -> None:
        self.name = f"{TENANT}_b{number}"
        self.key = SigningKey(seed(self.name))
        topics = NodeTopics(TENANT, self.name)
        self.topic = topics.batch(EventClass.AUDIT)
        epoch = Epoch(self.key, topics.source)
        while epoch.last[EventClass.AUDIT] < events - 1:
            epoch.add(EventClass.AUDIT)
            if epoch.last[EventClass.AUDIT] % 64 == 63:
                epoch.seal()
        epoch.seal()
        self.last = epoch.last[EventClass.AUDIT]
        self.batches = list(_batches(epoch.bodies()))


def _batches(bodies: list[bytes]) -> Iterator[bytes]:
    run: list[bytes] = []
    for body in bodies:
        if run and sum(map(len, run)) + len(body) > BATCH_BYTES:
            yield b"[" + b",".join(run) + b"]"
            run = []
        run.append(body)
    yield b"[" + b",".join(run) + b"]"


async def measure(kind: str, workers: int, backlogs: list[Backlog]) -> tuple[float, float]:
    """Events a second until all are held, and for each second of the workers' own CPU."""
    with contextlib.ExitStack() as held:
        home = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="lastmile-bench-")))
        place = str(home / "events.db")
        if kind == "postgresql":
            server = held.enter_context(postgres())
            server.run("CREATE DATABASE events")
            place = server.url("events")
            migrate(place)
        broker = Mosquitto(home, ["allow_anonymous true", "max_queued_messages 0", "max_inflight_messages 0"])
        await broker.start()
        held.callback(broker.kill)
        working = held.enter_context(crew(home / "crew", place, broker.port, backlogs))
        for worker in range(1, workers + 1):
            working.start(worker)
        await until(lambda: all(working.listens(worker) for worker in range(1, workers + 1)), PATIENCE_S)
        async with _looking(place) as count:
            began, used = time.perf_counter(), working.cpu_seconds()
            await _publish(broker, backlogs)
            total = sum(backlog.last for backlog in backlogs)
            while await count() < total:  # noqa: ASYNC110  other processes have no event to set
                await asyncio.sleep(0.05)
            return total / (time.perf_counter() - began), total / (working.cpu_seconds() - used)


@contextlib.asynccontextmanager
async def _looking(place: str) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    store = open_store(place, consumer=CONSUMER, clock=SystemClock())
    await store.open()

    async def count() -> int:
        ((held,),) = await store.rows("SELECT coalesce(sum(seq), 0) FROM stream")
        return int(held)

    try:
        yield count
    finally:
        await store.close()


async def _publish(broker: Mosquitto, backlogs: list[Backlog]) -> None:
    connection = await MqttBroker(broker.settings("backlog")).connect(None)
    messages = [(backlog.topic, batch) for backlog in backlogs for batch in backlog.batches]
    random.Random(1).shuffle(messages)
    for answer in [await connection.send(topic, batch) for topic, batch in messages]:
        await answer
    await connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    events = 2_000 if arguments.quick else 10_000
    backlogs = [Backlog(number, events) for number in range(NODES)]
    figures = []
    for kind in ("sqlite", "postgresql"):
        alone: float | None = None
        for workers in (1, 2) if arguments.quick else (1, 2, 4):
            speed, of_cpu = asyncio.run(measure(kind, workers, backlogs))
            named = f"{kind}, {workers} worker{'s' if workers > 1 else ''}"
            figures.append(Figure(f"{named}, CPU", of_cpu, "events/CPU s", None, None, 20_000, at_least=True))
            ratio = None if alone is None else speed / alone
            # Two cores are shared by broker, publisher, database and workers: more workers have to cost nothing.
            figures.append(
                Figure(
                    named,
                    speed,
                    "events/s",
                    alone,
                    ratio,
                    10_000 if ratio is None else 0.8,
                    at_least=True,
                )
            )
            alone = alone or speed
    report(figures, arguments)


if __name__ == "__main__":
    main()
