"""The store's tables: the same on both databases, and a file of the first release is brought along."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from cloud_sync.collector_open_sql import database_at, open_store
from cloud_sync.collector_schema_sql import metadata
from cloud_sync.collector_sqlite_sql import STEPS
from edge.errors import ConfigError, StoreError
from tests.cloud_sync.collector_rig import epoch_of, keep, standing
from tests.cloud_sync.rig import CONSUMER
from tests.peers.stores import migrate

OLD = Path(__file__).parent / "collector-first-release.sql"
"""A store that the first release wrote: 22 audit events held, 3 without their seal, a thinned range, a presence."""
OLD_EPOCH = "01a3185c-5000-7aaa-8aaa-aaaaaaaaaaaa"
OLD_HASH = "f60ebd7e77775a8c4d33801ed686075180926f530d9f3de20bb57a822eaf78b0"


async def test_the_steps_lead_to_the_tables_that_the_code_knows(store, place):
    database = database_at(place)
    engine = database.engine()
    with engine.connect() as sql:
        told = compare_metadata(MigrationContext.configure(sql), metadata)
        assert [each for each in told if "alembic_version" not in repr(each)] == []
        assert {name for name in inspect(sql).get_table_names() if name != "alembic_version"} == set(metadata.tables)
        assert inspect(sql).get_view_names() == ["held_event"]
    engine.dispose()


def test_migrating_twice_changes_nothing(postgres_server):
    postgres_server.run("CREATE DATABASE twice")
    migrate(postgres_server.url("twice"))
    migrate(postgres_server.url("twice"))
    assert postgres_server.run("SELECT version_num FROM alembic_version", "twice") == [("r0001",)]
    postgres_server.run("DROP DATABASE twice")


async def test_a_database_without_its_tables_names_the_command(postgres_server, clock):
    postgres_server.run("CREATE DATABASE bare")
    store = open_store(postgres_server.url("bare"), consumer=CONSUMER, clock=clock)
    with pytest.raises(StoreError, match="lastmile collector migrate"):
        await store.open()
    await store.close()
    postgres_server.run("DROP DATABASE bare")


async def test_a_database_that_is_away_is_named_without_its_password(clock):
    store = open_store("postgresql://somebody:secret@127.0.0.1:1/events", consumer=CONSUMER, clock=clock)
    with pytest.raises(StoreError) as told:
        await store.open()
    assert "127.0.0.1" in str(told.value)
    assert "secret" not in str(told.value)
    await store.close()


@pytest.mark.parametrize("place", ["mysql://a/b", "postgresql://h:port/events"])
def test_what_is_no_database_is_said(place):
    with pytest.raises(ConfigError, match="postgresql://user@host:port/name"):
        database_at(place)


async def test_a_file_of_the_first_release_is_brought_along(tmp_path, clock):
    """Opened twice: what was held is held, and what waited for its seal is settled once it comes."""
    path = tmp_path / "old.db"
    connection = sqlite3.connect(path)
    connection.executescript(OLD.read_text())
    before = connection.execute("SELECT source, epoch, class, seq, body FROM held_event ORDER BY class, seq").fetchall()
    assert connection.execute("PRAGMA user_version").fetchone() == (0,)
    connection.close()
    for _ in range(2):
        store = open_store(str(path), consumer=CONSUMER, clock=clock)
        await store.open()
        assert await store.rows("PRAGMA user_version") == [(len(STEPS),)]
        found = await store.rows("SELECT source, epoch, class, seq, body FROM held_event ORDER BY class, seq")
        assert found == before
        assert (await standing(store)).journals == {OLD_EPOCH: {"audit": (22, OLD_HASH), "state": (7, None)}}
        assert await store.rows("SELECT first, last, count, reason FROM dropped") == [(2, 6, 5, "space")]
        await store.close()


async def test_a_file_of_a_later_release_is_left_alone(tmp_path, clock):
    path = tmp_path / "later.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    store = open_store(str(path), consumer=CONSUMER, clock=clock)
    with pytest.raises(StoreError, match="install the release that wrote it"):
        await store.open()
    await store.close()


async def test_two_workers_see_each_others_rows_and_one_of_them_acknowledges(store, place, clock):
    """What one has taken in and not settled, because it died say, the other finds."""
    other = open_store(place, consumer=CONSUMER, clock=clock)
    await other.open()
    epoch = epoch_of(5)
    bodies = [*epoch.bodies(), epoch.seal()]
    await keep(store, *bodies[::2])
    assert await other.due() == ["/lm/v1/acme/acme_l1"]
    assert (await standing(other)).missing
    await keep(other, *bodies[1::2])
    first = await standing(store)
    assert first.fresh
    assert first.journals[epoch.id]["audit"][0] == 7
    second = await standing(other)
    assert not second.fresh
    assert second.journals == first.journals
    assert await store.due() == await other.due() == []
    await other.close()
