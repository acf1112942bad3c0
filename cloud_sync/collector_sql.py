"""The collector's store on SQLite: takes events in as unproven, settles what is held, and counts what it refused.

One connection in one thread of its own; each call is one transaction. SQLAlchemy Core keeps schema and connection; the
statements go to the driver as they stand, because building them anew cost more than running them.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from cloud_sync.collector import Batch, Node, Standing, order_of_epochs
from cloud_sync.collector_refused_sql import count
from cloud_sync.collector_schema_sql import HELD_VIEW, metadata
from cloud_sync.collector_streams_sql import Streams
from cloud_sync.presence import Presence, decode, encode, supersedes
from edge.errors import StoreCorrupt, StoreError, StoreFull

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from edge.clock import Clock

T = TypeVar("T")

MAX_RESULTS = 10_000
"""Answers to commands kept per node; the issuer keeps its own."""


class CollectorStore:
    """``consumer`` is our name in the nodes' configs. Raises ``StoreError`` and its kinds; nothing was kept then."""

    def __init__(self, path: str, *, consumer: str, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._streams = Streams(consumer, clock)
        self._engine: Engine | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="collector-store")

    async def open(self) -> None:
        """Open or create the file and its tables."""
        await self._run(self._open)

    async def close(self) -> None:
        if self._engine is not None:
            await self._run(self._engine.dispose)
        self._thread.shutdown()

    async def take(self, batch: Batch) -> None:
        """Commit what came, events as unproven, and count what was refused."""
        await self._run(lambda: self._take(batch))

    async def settle(self, sources: Iterable[str]) -> dict[str, Standing]:
        """Move the cursors of these nodes as far as their rows prove, and say where they stand."""
        return await self._run(lambda: self._settle(tuple(sources)))

    async def rows(self, sql: str, **values: object) -> list[tuple[Any, ...]]:
        """Read, for the hub and for a person. ``sql`` is a literal of the caller's, ``values`` its parameters."""
        return await self._run(lambda: self._rows(sql, values))

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _open(self) -> None:
        engine = create_engine(
            f"sqlite:///{self._path}", poolclass=StaticPool, connect_args={"check_same_thread": False}
        )
        event.listen(engine, "connect", _tune)
        self._engine = engine
        with self._transaction() as sql:
            metadata.create_all(sql)
            sql.execute(text(HELD_VIEW))

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        if self._engine is None:
            raise StoreError("the collector's store is not open", remedy="open it first")
        whole = False
        try:
            with self._engine.begin() as sql:
                yield sql
            whole = True
        except DBAPIError as error:
            raise _told(error.orig, self._path) from error
        except sqlite3.Error as error:  # while rows were fetched by the driver itself
            raise _told(error, self._path) from error
        finally:
            if not whole:
                # What is remembered may be ahead of the file now; it is read again.
                self._streams.forget()

    def _take(self, batch: Batch) -> None:
        wall = self._clock.wall()
        with self._transaction() as sql:
            for node, intake in batch.events:
                self._streams.take_rows(sql, node, intake.rows, intake.refused)
                for gone in intake.gone:
                    self._streams.take_gone(sql, node, gone, intake.refused)
                count(sql, node.source, intake.refused, wall)
            count(sql, "", batch.strays, wall)
            for node, told in batch.presences.values():
                self._keep_presence(sql, node, told)
            for node, command_id, token in batch.results:
                self._keep_result(sql, node, command_id, token)

    def _settle(self, sources: Sequence[str]) -> dict[str, Standing]:
        with self._transaction() as sql:
            return {source: self._streams.settle(sql, source) for source in sources}

    def _keep_presence(self, sql: Connection, node: Node, told: Presence) -> None:
        """Keep it if it is the newer one."""
        kept = sql.exec_driver_sql("SELECT payload FROM presence WHERE source = ?", (node.source,)).scalar()
        if kept is not None:
            known = decode(kept)
            said = sql.exec_driver_sql("SELECT epoch, previous FROM epoch WHERE source = ?", (node.source,))
            if not supersedes(told, known, before=order_of_epochs(dict(tuple(row) for row in said), known.epoch)):
                return
        sql.exec_driver_sql(
            "INSERT OR REPLACE INTO presence (source, payload, heard) VALUES (?, ?, ?)",
            (node.source, encode(told), self._clock.wall()),
        )

    def _keep_result(self, sql: Connection, node: Node, command_id: str, token: bytes) -> None:
        sql.exec_driver_sql(
            "INSERT OR REPLACE INTO result (source, id, token, heard) VALUES (?, ?, ?, ?)",
            (node.source, command_id, token, self._clock.wall()),
        )
        sql.exec_driver_sql(
            """DELETE FROM result WHERE source = ?1 AND heard < (SELECT heard FROM result
               WHERE source = ?1 ORDER BY heard DESC LIMIT 1 OFFSET ?2)""",
            (node.source, MAX_RESULTS),
        )

    def _rows(self, sql: str, values: dict[str, object]) -> list[tuple[Any, ...]]:
        with self._transaction() as connection:
            return [tuple(row) for row in connection.execute(text(sql), values)]


def _tune(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    # FULL: a signed ack lets the node delete, so what it covers has to survive a power cut.
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "busy_timeout = 5000", "temp_store = MEMORY"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _told(error: BaseException | None, path: str) -> StoreError:
    what = str(error)
    if "full" in what:
        return StoreFull(f"{path}: {what}", remedy="free disk space; nothing was acknowledged, the nodes send it again")
    if "malformed" in what or "not a database" in what:
        return StoreCorrupt(f"{path}: {what}", remedy="put the file aside; the nodes send what was not acknowledged")
    return StoreError(f"{path}: {what}", remedy="check that the file can be written by this user")
