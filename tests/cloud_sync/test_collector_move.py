"""Nodes move between stores, of either kind: nothing is lost, doubled or asked for again; a broken chain moves not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cloud_sync.collector_figures_sql import figures, node_figures
from cloud_sync.collector_move_sql import Move, Moved, same_consumer
from cloud_sync.collector_open_sql import open_store
from cloud_sync.collector_sql import CollectorStore
from edge.errors import ConfigError, StoreCorrupt, StoreError
from tests.cloud_sync.collector_rig import AUDIT, OURS, STATE, epoch_of, keep, refused, standing
from tests.cloud_sync.rig import CONSUMER, SOURCE, Epoch


@pytest.fixture
async def old(tmp_path: Path, clock) -> AsyncIterator[CollectorStore]:
    store = open_store(str(tmp_path / "old.db"), consumer=CONSUMER, clock=clock)
    await store.open()
    yield store
    await store.close()


async def filled(store: CollectorStore) -> Epoch:
    """150 sealed audit events, an unsealed tail, state with a thinned range."""
    epoch = epoch_of(150)
    epoch.seal()
    for _ in range(10):
        epoch.add(STATE, "locker.door.state")
    notice = epoch.thin(STATE, 3, 5)
    await keep(store, *epoch.bodies(), epoch.add(AUDIT))
    await keep(store, *epoch.bodies(STATE), notice, event_class=STATE)
    await standing(store)
    return epoch


async def move(old: CollectorStore, new: CollectorStore) -> Moved:
    return await Move(OURS, old, new, 0.0, lambda _: None).run()


async def held(store: CollectorStore) -> list[bytes]:
    return [bytes(body) for (body,) in await store.rows("SELECT body FROM held_event ORDER BY class, seq")]


async def test_a_moved_node_is_acknowledged_onward_and_asked_for_nothing(old, store):
    epoch = await filled(old)
    before, held_before = await standing(old), await held(old)
    assert await move(old, store) == Moved(152 + 7, 1)
    after = await standing(store)
    assert after.journals == before.journals
    assert after.missing == after.want == []
    assert await held(store) == held_before
    # Nobody sees it twice, and the old store takes nothing of it any more.
    assert await held(old) == []
    assert await old.settle([SOURCE]) == {}
    await keep(old, epoch.add(AUDIT))
    assert await refused(old) == {"moved": 1}
    # The tail that came unsealed to the old store is held by the new one once its seal comes.
    await keep(store, epoch.bodies()[-1], epoch.seal())
    assert (await standing(store)).journals[epoch.id]["audit"][0] == epoch.last[AUDIT]


async def test_a_node_that_has_moved_is_due_no_more_and_nothing_of_it_waits(old, store, clock):
    """A shard's worth of them would keep everybody whose name comes later from being settled, and alarm for ever."""
    epoch = await filled(old)
    epoch.add(AUDIT)
    await keep(old, epoch.add(AUDIT))
    await standing(old)
    await keep(old, epoch.add(STATE), event_class=STATE)
    await clock.advance(3600)
    assert await old.due() == [SOURCE]
    await move(old, store)
    assert await old.due() == []
    left = await old.work(lambda sql: figures(sql, now=clock.wall(), worst=10))
    assert (left.pending, left.lag, left.gaps, left.worst) == (0, 0.0, 0, ())


async def test_a_move_that_was_cut_short_goes_on(old, store, monkeypatch):
    monkeypatch.setattr("cloud_sync.collector_move_sql.PORTION", 20)
    await filled(old)
    copied: list[int] = []

    def cut(rows: int) -> None:
        copied.append(rows)
        if sum(copied) == 60:
            raise StoreError("cut", remedy="again")

    with pytest.raises(StoreError, match="cut"):
        await Move(OURS, old, store, 0.0, cut).run()
    assert await store.settle([SOURCE]) == {}
    copied.clear()
    await Move(OURS, old, store, 0.0, copied.append).run()
    assert copied[0] == 60
    assert len(await held(store)) == 152 + 7
    assert await store.rows("SELECT count(*) FROM event") == [(153 + 7,)]


async def test_what_the_new_store_took_in_meanwhile_is_neither_lost_nor_doubled(old, store):
    """The node was pointed to the new broker before its rows were there."""
    epoch = await filled(old)
    await keep(store, *epoch.bodies()[148:], epoch.add(AUDIT), epoch.seal())
    assert (await standing(store)).journals == {}
    await move(old, store)
    found = await standing(store)
    assert found.journals[epoch.id]["audit"] == (epoch.last[AUDIT], epoch.hashes[-1].hex())
    assert found.missing == []
    assert await store.rows("SELECT count(*) FROM held_event WHERE class = 'audit'") == [(epoch.last[AUDIT],)]


async def test_there_and_back_again(old, store):
    epoch = await filled(old)
    await move(old, store)
    await move(store, old)
    assert len(await held(old)) == 152 + 7
    assert await held(store) == []
    await keep(old, epoch.add(AUDIT), epoch.seal())
    assert (await standing(old)).journals[epoch.id]["audit"][0] == epoch.last[AUDIT]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE event SET body = (SELECT body FROM event WHERE seq = 8 AND prev <> digest LIMIT 1) WHERE seq = 7",
        "DELETE FROM event WHERE seq = 90",
        "UPDATE event SET digest = prev WHERE seq = 100",
        "UPDATE stream SET digest = (SELECT prev FROM event WHERE seq = 3 LIMIT 1) WHERE class = 'audit'",
    ],
)
async def test_a_chain_that_is_not_whole_stays_where_it_is(old, store, damage):
    """Damage in the old store is named by its row; the new store acknowledges nothing of it."""
    await filled(old)
    await old.work(lambda sql: sql.exec_driver_sql(damage).close())
    with pytest.raises(StoreCorrupt, match="audit"):
        await move(old, store)
    assert await store.settle([SOURCE]) == {}
    assert len(await held(old)) >= 150


async def test_nothing_is_signed_for_before_all_was_verified(old, store, monkeypatch):
    """The node was pointed to the new broker meanwhile: what it sends there would have the copied rows settled, and
    signed for, in the middle of the move. It is refused until the last row was looked at, and sent again.
    """
    monkeypatch.setattr("cloud_sync.collector_move_sql.PORTION", 20)
    epoch = await filled(old)
    later = [epoch.add(AUDIT), epoch.seal()]
    signed: list[object] = []
    copying = Move(OURS, old, store, 0.0, lambda _: None)
    verify = copying._verify

    async def busy(*told: Any) -> Moved:
        await keep(store, *later)
        signed.append(await store.settle([SOURCE]))
        verified = await verify(*told)
        signed.append(await store.settle([SOURCE]))
        return verified

    monkeypatch.setattr(copying, "_verify", busy)
    await copying.run()
    assert signed == [{}] * len(signed)
    assert len(signed) == 2 * 2
    await keep(store, *later)
    assert (await standing(store)).journals[epoch.id]["audit"][0] == epoch.last[AUDIT]


async def test_a_tail_without_a_seal_is_verified_too(old, store):
    """It is copied for a later seal to prove, and that one looks at hashes alone, not at bytes."""
    epoch = await filled(old)
    damage = f"UPDATE event SET body = x'7b7d' WHERE seq = {epoch.last[AUDIT]}"
    await old.work(lambda sql: sql.exec_driver_sql(damage).close())
    with pytest.raises(StoreCorrupt, match=f"audit {epoch.last[AUDIT]}"):
        await move(old, store)
    assert await store.settle([SOURCE]) == {}


async def test_a_seal_by_a_stranger_does_not_move(old, store, monkeypatch):
    await filled(old)
    monkeypatch.setattr("cloud_sync.collector_move_sql.sealed_by", lambda _node, _body: False)
    with pytest.raises(StoreCorrupt):
        await move(old, store)


async def test_purged_events_are_gone_from_the_old_store_alone(old, store):
    await filled(old)
    whole = Move(OURS, old, store, 0.0, lambda _: None)
    await whole.run()
    await whole.purge()
    assert await old.rows("SELECT count(*) FROM event") == [(0,)]
    assert len(await held(store)) == 152 + 7


def test_a_node_moves_within_one_consumer():
    with pytest.raises(ConfigError, match="two consumers"):
        same_consumer("cloud", "backup")


async def test_figures_tell_what_waits_and_what_lacks(store, clock):
    epoch = epoch_of(20)
    epoch.seal()
    bodies = epoch.bodies()
    await keep(store, *bodies[:3], *bodies[13:])
    await standing(store)
    await clock.advance(60)
    now = clock.wall()
    found = await store.work(lambda sql: figures(sql, now=now, worst=5), reads=True)
    assert (found.nodes, found.pending, found.gaps, found.nodes_with_gaps, found.missing) == (1, 12, 1, 1, 10)
    assert found.lag == pytest.approx(60)
    (one,) = found.worst
    assert (one.source, one.pending, one.missing) == (SOURCE, 12, 10)
    assert await store.work(lambda sql: node_figures(sql, SOURCE, now=now), reads=True) == one
    assert await store.work(lambda sql: node_figures(sql, "/nobody", now=now), reads=True) is None
    await keep(store, *bodies)
    await standing(store)
    found = await store.work(lambda sql: figures(sql, now=now, worst=5), reads=True)
    assert (found.numbers, found.pending, found.lag, found.missing, found.worst) == (22, 0, 0.0, 0, ())
