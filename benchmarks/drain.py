"""A backlog over mutual TLS: from the node's journal until the consumer's signed acks have moved its cursor to the end.

Everything is the product as it runs: ``lastmile run locker``, ``cloud-sync`` and ``collector`` as processes, a real
mosquitto that asks both for certificates, audit events in a chain whose seals are verified, and a person's signed
commands all the while. In the same run the bare library publishes the same bytes (``_drain_peers.py``): its messages a
second are the measure, because the machine's own speed changes from hour to hour.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))

from agents import processes
from benchmarks import _drain_peers as peers
from benchmarks._drain_world import Process, World
from benchmarks._report import Figure, report
from cloud_sync.client_mqtt import MqttBroker, MqttConnection
from cloud_sync.presence import decode as decode_presence
from cloud_sync.topics import NodeTopics
from edge.command import Claims, sign_command
from edge.identifiers import uuid7
from edge.keys_file import read_signing_key

PROCESSES = ("locker", "collector", "cloud-sync")
COMMAND_EVERY_S = 0.1
"""Half of what the node's socket lets through a second: each command costs it a commit."""
LONGEST_S = 900.0


class Run(msgspec.Struct):
    """One drain. Seconds, megabytes."""

    events: int
    took: float
    commands: list[float]
    cpu: dict[str, float]
    peak: dict[str, float]
    ready: dict[str, float]
    collected_bytes: int

    @property
    def rate(self) -> float:
        return self.events / self.took


class Person:
    """Signs a fresh command again and again and waits for the node's signed answer."""

    def __init__(self, world: World) -> None:
        self._identity = world.identity
        self._topics = NodeTopics(world.identity.tenant, world.identity.node)
        self._key = read_signing_key(world.site.key("issuer.pem"))
        self._settings = world.broker.settings("staff", tls=world.certificate("staff"), session_expiry=0)
        self.took: list[float] = []

    async def ask_for_ever(self) -> None:
        connection = await MqttBroker(self._settings).connect(None)
        try:
            topics = self._topics
            await connection.subscribe([topics.presence, f"{topics.source.removeprefix('/')}/res/+"])
            (presence,) = await connection.next_messages(1)
            while not decode_presence(presence.payload).online:
                (presence,) = await connection.next_messages(1)
            session, number = decode_presence(presence.payload).session, time.time_ns() // 1_000_000
            while True:
                number += 1
                began = time.perf_counter()
                await self._ask(connection, session, number)
                self.took.append(time.perf_counter() - began)
                await asyncio.sleep(COMMAND_EVERY_S)
        finally:
            await connection.close()

    async def _ask(self, connection: MqttConnection, session: str, number: int) -> None:
        jti = uuid7(time.time(), os.urandom(10))
        claims = Claims(
            iss="staff",
            aud=self._identity.audience,
            jti=jti,
            iat=int(time.time()),
            name="nonce",
            subject="01",
            args={"name": "open", "request": number},
            session=session,
        )
        _ = await connection.send(self._topics.command("nonce"), sign_command(claims, self._key))
        while True:
            (message,) = await connection.next_messages(1)
            connection.ack(message)
            if message.topic == self._topics.result(jti):
                return


async def drain(world: World, *, batch_kib: int, database: str = "collector.db") -> Run:
    """Every process starts with the whole backlog; the clock runs from cloud-sync's start to the last signed ack."""
    world.put_back()
    world.settings(batch_kib=batch_kib, database=database)
    if "://" in database:
        migrate = [*processes.COMMAND, "collector", "migrate", str(world.site.collector_toml)]
        subprocess.run(  # noqa: ASYNC221  nothing else is to run meanwhile
            migrate, check=True, stdout=subprocess.DEVNULL, timeout=60.0
        )
    # A broker that has never heard of them: an ack of the run before would be true of a consumer that has nothing.
    world.broker.kill()
    await world.broker.start()
    with world.running(*PROCESSES[:2]) as running:
        running["cloud-sync"] = world.run("cloud-sync")
        began = time.perf_counter()
        person = Person(world)
        asking = asyncio.create_task(person.ask_for_ever())
        try:
            await world.until(lambda: asking.done() or world.acknowledged() >= world.events, LONGEST_S)
            took = time.perf_counter() - began
        finally:
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking
        used = {name: _used(process) for name, process in running.items()}
    return Run(
        world.events,
        took,
        person.took,
        {name: cpu for name, (cpu, _) in used.items()},
        {name: peak for name, (_, peak) in used.items()},
        {name: process.ready_s for name, process in running.items()},
        sum(path.stat().st_size for path in world.site.directory.glob("collector.db*")),
    )


def _used(process: Process) -> tuple[float, float]:
    return process.cpu_s, process.peak_mb


def peer(world: World, name: str, count: int) -> float:
    """Events a second of somebody else's program."""
    files = world.certificate("peer")
    database = world.folder / "kept" / "state.db"
    arguments = [name, database, count, world.broker.port, files.ca, files.certificate, files.key]
    done = subprocess.run(
        [sys.executable, peers.__file__, *map(str, arguments)], stdout=subprocess.PIPE, check=True, timeout=LONGEST_S
    )
    return float(done.stdout)


async def measure(folder: Path, *, events: int, few: int, say: bool) -> list[Figure]:
    """``few``: events for what goes one message at a time."""
    world = World(folder)
    await world.broker.start()
    try:
        await world.fill(few)
        world.keep()
        bare = peer(world, "paho", few)
        missing = peers.install()
        other = 0.0 if missing else peer(world, "thingsboard", few)
        if missing and say:
            print(f"ThingsBoard Gateway is left out, it cannot be had here: {missing}", file=sys.stderr)
        single = await drain(world, batch_kib=0)
        world.put_back()
        await world.fill(events - few)
        node_bytes = world.site.database.stat().st_size / world.events
        world.keep()
        batched = await drain(world, batch_kib=64)
        with postgres() as url:
            into_postgres = await drain(world, batch_kib=64, database=url) if url else None
    finally:
        world.broker.kill()
    return _figures(batched, single, into_postgres, bare=bare, other=other, node_bytes=node_bytes)


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A server of our own; its URL, "" where the collector or this machine has none."""
    try:
        from tests.peers.postgres import Postgres
    except ModuleNotFoundError:
        yield ""
        return
    server = Postgres()
    try:
        server.start()
        yield server.url()
    finally:
        server.remove()


def _figures(
    batched: Run, single: Run, into_postgres: Run | None, *, bare: float, other: float, node_bytes: float
) -> list[Figure]:
    def many(name: str, rate: float, baseline: float, goal: float) -> Figure:
        return Figure(name, rate, "events/s", baseline, rate / baseline, goal, at_least=True)

    def at_most(name: str, value: float, unit: str, goal: float) -> Figure:
        return Figure(name, value, unit, None, None, goal)

    commands = sorted(batched.commands + single.commands)
    figures = [
        many("drain into SQLite, beside bare paho", batched.rate, bare, 3.0),
        Figure("drain into SQLite", batched.rate, "events/s", None, None, 50_000.0, at_least=True),
        many("one event a message, beside bare paho", single.rate, bare, 0.6),
        at_most("signed command while draining, p99", commands[int(len(commands) * 0.99)] * 1000, "ms", 1000.0),
        at_most("cloud-sync's peak memory", batched.peak["cloud-sync"], "MB", 40.0),
        at_most("role agent's peak memory", batched.peak["locker"], "MB", 80.0),
        at_most("role agent ready with the backlog", batched.ready["locker"], "s", 2.0),
        at_most("node's disk per event", node_bytes, "B", 1024.0),
        at_most("collector's disk per event", batched.collected_bytes / batched.events, "B", 2048.0),
    ]
    figures += [
        at_most(f"{name}'s CPU per event", batched.cpu[name] / batched.events * 1e6, "us", 40.0) for name in PROCESSES
    ]
    if into_postgres is not None:
        figures.insert(2, many("drain into PostgreSQL, beside bare paho", into_postgres.rate, bare, 3.0))
    if other:
        figures.insert(2, many("drain into SQLite, beside ThingsBoard Gateway's storage", batched.rate, other, 3.0))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100,000 events, under 50 s")
    parser.add_argument("--json", action="store_true", help="no table")
    arguments = parser.parse_args()
    events, few = (100_000, 20_000) if arguments.quick else (1_000_000, 100_000)
    # On a real disk, not in a memory file system.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        figures = asyncio.run(measure(Path(folder), events=events, few=few, say=not arguments.json))
    report(figures, arguments)


if __name__ == "__main__":
    main()
