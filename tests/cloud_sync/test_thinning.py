"""A store over its bound gives up telemetry and superseded state; the consumer accounts for every number."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_sync.collector import Batch, load_nodes, read_events
from cloud_sync.collector_sql import CollectorStore
from cloud_sync.topics import Kind, Topic
from edge.event import Draft, EventClass
from edge.journal import SEAL_AFTER_S, Limits
from edge.journal_keep_sql import give_up, thin, used_bytes
from edge.journal_sql import SqlJournal, SqlTransaction
from edge.link import MAX_PULL_EVENTS
from edge.schema_sql import CLASS_NUMBERS, place
from tests.cloud_sync.rig import CONSUMER
from tests.edge.journal_rig import AUDIT, STATE, TELEMETRY, Store, draft
from tests.edge.trust import NODE, ROLE

NODES = load_nodes([(NODE.tenant, NODE.node, [ROLE.public])])
OURS = NODES[NODE.node]
SWEPT = 20_000
"""Items between two looks at what is held; a collector looks every second."""
GATHERED = 1000
"""Events in one transaction of the test's node."""


@pytest.fixture
def node(tmp_path: Path) -> Store:
    (tmp_path / "node").mkdir()
    return Store(tmp_path / "node", consumers=(CONSUMER,))


async def append(journal: SqlJournal, count: int, event_class: EventClass, subjects: int, rng: random.Random) -> None:
    for begin in range(0, count, GATHERED):
        drafts = [
            draft(n, event_class, f"thing/{rng.randrange(subjects)}")
            for n in range(begin, min(begin + GATHERED, count))
        ]

        def work(transaction: SqlTransaction, drafts: list[Draft] = drafts) -> None:
            for each in drafts:
                transaction.append(each)

        await journal.write(work)


def runs(rng: random.Random, last: int) -> Iterator[list[int]]:
    """Numbers in a random pattern: long runs, short runs and single rows, from anywhere, some of them twice."""
    while True:
        length = rng.choice((1, 1, 2, 7, 100, 500))
        first = rng.randrange(1, last + 1)
        yield list(range(first, min(first + length, last + 1)))


async def thinned(journal: SqlJournal, event_class: EventClass, share: float, rng: random.Random) -> int:
    """Give up about ``share`` of a class's rows as ``thin`` does, but in random places; returns how many."""
    # The very last row stays: a range at the end proves nothing yet, because nobody signs ranges.
    kind, last = CLASS_NUMBERS[event_class], journal.head.last[event_class.number] - 1
    number, gone, patterns = journal.head.epoch_no, 0, runs(rng, last)
    while gone < share * last:
        seqs = next(patterns)

        def work(transaction: SqlTransaction, seqs: list[int] = seqs) -> int:
            sql = transaction.sql
            low, high = place(number, kind, seqs[0]), place(number, kind, seqs[-1])
            there = [at for (at,) in sql.execute("SELECT place FROM event WHERE place BETWEEN ? AND ?", (low, high))]
            return give_up(sql, number, kind, there, "space") if there else 0

        gone += await journal.write(work)
    return gone


async def carry(node: Store, consumer: CollectorStore, epoch: str, event_class: EventClass, rng: random.Random) -> int:
    """Pull all of a class by the real reader into the real consumer, in answers of random size; returns the notices."""
    topic, after, notices, taken = Topic(NODE.tenant, NODE.node, Kind.BATCH, event_class.value), 0, 0, 0
    with node.reader() as reader:
        while (pulled := reader.pull(epoch, event_class.value, after, rng.randint(1, MAX_PULL_EVENTS))).bodies:
            assert pulled.upto > after
            after = pulled.upto
            intake = read_events(OURS, topic, b"[" + b",".join(pulled.bodies) + b"]")
            assert intake.refused == []
            notices += len(intake.gone)
            await consumer.take(Batch(events=[(OURS, intake)]))
            taken += len(intake.rows) + len(intake.gone)
            if taken >= SWEPT:  # a store takes only so much that is not settled
                taken = 0
                await consumer.settle([NODE.source])
    return notices


async def accounted_for(node: Store, consumer: CollectorStore, rows: int, seed: int) -> None:
    rng = random.Random(seed)
    async with node.journal() as journal:
        epoch = journal.head.epoch
        for event_class in (TELEMETRY, STATE):
            await append(journal, rows // 2, event_class, 50, rng)
        await node.clock.advance(SEAL_AFTER_S)
        await journal.seal_if_due()  # a consumer signs for nothing of an epoch that no seal has proven
        gone = {each: await thinned(journal, each, rng.uniform(0.3, 0.95), rng) for each in (TELEMETRY, STATE)}
        last = dict(zip(EventClass, journal.head.last, strict=True))
        ranges = await journal.write(
            lambda t: dict(t.sql.execute("SELECT class, count(*) FROM gap GROUP BY class").fetchall())
        )
        counted = await journal.write(
            lambda t: dict(t.sql.execute("SELECT class, sum(count) FROM gap GROUP BY class").fetchall())
        )
    assert sum(gone.values()) >= 0.3 * rows
    await carry(node, consumer, epoch, AUDIT, rng)
    for each in (TELEMETRY, STATE):
        kind = CLASS_NUMBERS[each]
        assert counted[kind] == gone[each]
        # Between two ranges that have not become one lies a row that is kept.
        assert ranges[kind] <= last[each] - gone[each]
        assert await carry(node, consumer, epoch, each, rng) == ranges[kind]
        await require_whole(consumer, epoch, each, last[each], gone[each])


async def require_whole(consumer: CollectorStore, epoch: str, event_class: EventClass, last: int, gone: int) -> None:
    """The consumer holds or knows to be gone every number, and counts as many gone as the node."""
    name = event_class.value
    reached, standing = -1, (await consumer.settle([NODE.source]))[NODE.source]
    while (now := standing.journals[epoch][name][0]) > reached:  # each look goes a bounded way
        reached, standing = now, (await consumer.settle([NODE.source]))[NODE.source]
    assert standing.journals[epoch][name] == (last, None)
    assert standing.missing == []
    told = "SELECT sum(count), sum(last - first + 1) FROM dropped JOIN stream ON stream.id = stream WHERE class = :name"
    assert await consumer.rows(told, name=name) == [(gone, gone)]
    held = await consumer.rows("SELECT count(*) FROM held_event WHERE class = :name", name=name)
    assert held == [(last - gone,)]


async def test_20000_rows_thinned_anywhere_are_all_accounted_for(node, store):
    await accounted_for(node, store, 20_000, 1)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_million_rows_thinned_anywhere_are_all_accounted_for(node, store):
    await accounted_for(node, store, 1_000_000, 3)


async def test_the_bound_in_bytes_is_kept_oldest_telemetry_first(node):
    """And what is thinned from the beginning is one range, however often."""
    rng = random.Random(4)
    async with node.journal() as journal:
        for event_class in (TELEMETRY, STATE):
            await append(journal, 5000, event_class, 50, rng)
        used = await journal.write(lambda t: used_bytes(t.sql))
        limits = Limits(max_bytes=used // 2, reserve_bytes=0)
        while await journal.write(lambda t: thin(t, limits)):
            pass
        assert await journal.write(lambda t: used_bytes(t.sql)) <= used // 2
        gaps = await journal.write(lambda t: t.sql.execute("SELECT class, first, last, count FROM gap").fetchall())
        telemetry = [gap for gap in gaps if gap[0] == CLASS_NUMBERS[TELEMETRY]]
        assert telemetry == [(CLASS_NUMBERS[TELEMETRY], 1, telemetry[0][3], telemetry[0][3])]
        newest = await journal.write(lambda t: t.sql.execute("SELECT count(*) FROM newest_state").fetchone())
        assert newest == (50,)
