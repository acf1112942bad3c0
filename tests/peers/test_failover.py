"""PostgreSQL fails over to a standby that misses the last seconds: what was acknowledged in them comes again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cloud_sync.collector_open_sql import open_store
from cloud_sync.collector_sql import CollectorStore
from edge.event import EventClass
from edge.system_clock import SystemClock
from tests.cloud_sync.broker_rig import Mosquitto, until
from tests.cloud_sync.rig import CONSUMER, running
from tests.peers.collecting import collector, held, words
from tests.peers.node import LightNode, nodes_of
from tests.peers.postgres import Postgres, postgres
from tests.peers.stores import migrate

pytestmark = pytest.mark.xdist_group("postgres")


@pytest.fixture
def pair() -> Iterator[tuple[Postgres, Postgres]]:
    """A primary, and a standby that follows it by asynchronous streaming replication."""
    with postgres() as primary:
        primary.run("CREATE DATABASE events")
        migrate(primary.url("events"))
        with postgres(standby_of=primary) as standby:
            yield primary, standby


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    mosquitto = Mosquitto(tmp_path)
    await mosquitto.start()
    yield mosquitto
    mosquitto.kill()


@pytest.fixture
async def nodes(tmp_path: Path, broker: Mosquitto) -> AsyncIterator[list[LightNode]]:
    nodes = [LightNode(tmp_path, f"l{n}") for n in range(3)]
    for node in nodes:
        await node.start()
    yield nodes
    for node in nodes:
        await node.stop()


def both(primary: Postgres, standby: Postgres) -> str:
    hosts = f"host=127.0.0.1:{primary.port}&host=127.0.0.1:{standby.port}"
    return f"postgresql://postgres@/events?{hosts}&target_session_attrs=read-write"


@contextlib.asynccontextmanager
async def opened(place: str) -> AsyncIterator[CollectorStore]:
    store = open_store(place, consumer=CONSUMER, clock=SystemClock())
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def follow(primary: Postgres, standby: Postgres) -> None:
    """Return when the standby has all that the primary has."""
    ((at,),) = primary.run("SELECT pg_current_wal_flush_lsn()")
    await until(lambda: standby.run(f"SELECT pg_last_wal_replay_lsn() >= '{at}'") == [(True,)])


def cut(standby: Postgres) -> None:
    """The way from the primary breaks: the standby receives nothing any more."""
    standby.run("ALTER SYSTEM SET primary_conninfo = ''")
    standby.run("SELECT pg_reload_conf()")


@pytest.mark.parametrize("seconds", [1.0, pytest.param(10.0, marks=pytest.mark.long)])
async def test_what_the_standby_lacks_comes_again(pair, nodes, broker, seconds):
    """Every audit event that was signed for and is not in the new primary is asked for and held again; a node that
    has nothing new to tell is asked too. State that the node has deleted since is told as such, not passed over.
    """
    primary, standby = pair
    async with opened(both(primary, standby)) as store:
        listening = collector(store, nodes_of(nodes), broker.settings("cloud-1", receive_maximum=500))
        async with running(listening.run):
            for node in nodes:
                node.carry(broker.settings(node.name))
                await node.tell(EventClass.AUDIT, 70)
                await node.tell(EventClass.STATE, 5)
            await until(lambda: all(node.settled() for node in nodes))
            await follow(primary, standby)
            cut(standby)
            lost = await work_for(seconds, nodes)
            await until(lambda: all(node.settled() for node in nodes))
            await until(lambda: nodes[0].acknowledged(EventClass.STATE)[0] == len(nodes[0].told[EventClass.STATE]))
            assert len(primary.run("SELECT 1 FROM event", "events")) >= 220 + lost
            before = [node.acknowledged() for node in nodes]
            primary.kill()
            standby.promote()
            # One node goes on telling, the others have nothing to say.
            await nodes[0].tell(EventClass.AUDIT, 3)
            await until(lambda: all(node.settled() for node in nodes), 40)
            for node in nodes:
                async with asyncio.timeout(40):
                    while await held(store, node) != node.audit():  # noqa: ASYNC110  another process has no event
                        await asyncio.sleep(0.05)
                assert words(await held(store, node)) == node.told[EventClass.AUDIT]
        assert [node.acknowledged() for node in nodes[1:]] == before[1:]
        await no_silent_loss(store, nodes[0])
        assert await store.rows("SELECT count(*) FROM quarantine") == [(0,)]


async def work_for(seconds: float, nodes: list[LightNode]) -> int:
    """The nodes tell things for so long; how many."""
    count = 0
    ends = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < ends:
        for node in nodes:
            await node.tell(EventClass.AUDIT, 5)
            await node.tell(EventClass.STATE)
            count += 6
        await asyncio.sleep(0.05)
    return count


async def no_silent_loss(store: CollectorStore, node: LightNode) -> None:
    """Every number of state is there or was told to be gone."""
    last = len(node.told[EventClass.STATE])
    source = node.identity.source
    ((stream,),) = await store.rows("SELECT id FROM stream WHERE source = :s AND class = 'state'", s=source)
    rows = {seq for (seq,) in await store.rows("SELECT seq FROM event WHERE stream = :s", s=stream)}
    for first, end in await store.rows("SELECT first, last FROM dropped WHERE stream = :s", s=stream):
        rows |= set(range(first, end + 1))
    assert rows == set(range(1, last + 1))
