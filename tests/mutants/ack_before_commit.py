"""The collector signs for what it has taken in while its transaction is still open; once a second it commits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cloud_sync.collector_sql import CollectorStore

COMMIT_EVERY_S = 1.0


def apply() -> None:
    opened: dict[str, Any] = {}

    @contextmanager
    def late(store: CollectorStore, **_: bool) -> Iterator[Any]:
        assert store._engine is not None
        now = time.monotonic()
        if "sql" not in opened:
            sql = store._engine.connect()
            sql.execution_options(reads=False)
            opened.update(sql=sql, since=0.0)
        yield opened["sql"]
        if now - opened["since"] >= COMMIT_EVERY_S:
            opened["sql"].commit()
            opened["since"] = now

    CollectorStore._transaction = late  # type: ignore[assignment,method-assign]
