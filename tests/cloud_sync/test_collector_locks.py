"""Two workers that ask for the same nodes wait for one another in turn, never each for the other."""

from __future__ import annotations

import asyncio

from cloud_sync.collector_open_sql import postgres_at
from cloud_sync.collector_postgres_sql import _key
from tests.cloud_sync.broker_rig import until

LOW, HIGH = sorted(("/lm/v1/acme/acme_one", "/lm/v1/acme/acme_two"), key=_key)
GRANTED = "SELECT granted, count(*) FROM pg_locks WHERE locktype = 'advisory' GROUP BY granted"


async def test_locks_of_both_kinds_are_asked_for_in_one_order(postgres_server):
    """A presence of one node and events of another come in one batch: what is to be had alone comes not first."""
    database = postgres_at(postgres_server.url("migrated"))
    first, second = database.engine(), database.engine()

    def ask() -> None:
        with second.begin() as sql:
            database.lock(sql, [LOW, HIGH], frozenset([HIGH]))

    with first.begin() as sql:
        database.lock(sql, [LOW], frozenset([LOW]))
        asking = asyncio.create_task(asyncio.to_thread(ask))
        await until(lambda: dict(postgres_server.run(GRANTED)).get(False) == 1)
        assert dict(postgres_server.run(GRANTED)) == {True: 1, False: 1}
    await asking
    first.dispose()
    second.dispose()
