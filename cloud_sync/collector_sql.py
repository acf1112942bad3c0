"""The collector's store: takes events in as unproven, settles what is held, and counts what it refused.

One thread of its own; each call is one transaction. Any number of workers, in processes of their own, may share a
store: every transaction locks the nodes it is about, taking in with others, settling alone. What tells SQLite and
PostgreSQL apart is behind ``Database``. SQLAlchemy Core keeps schema and connection; statements are text that both
understand, because building them anew cost more than running them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy import event, text

from cloud_sync.collector import Batch, Node, Standing, order_of_epochs
from cloud_sync.collector_refused_sql import count
from cloud_sync.collector_settle_sql import Settling
from cloud_sync.collector_streams_sql import EventWriter, Streams, load, moved_among, unknown_streams
from cloud_sync.presence import Presence, decode, encode, supersedes
from edge.errors import StoreError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from edge.clock import Clock

T = TypeVar("T")

MAX_RESULTS = 10_000
"""Answers to commands kept per node; the issuer keeps its own."""
MAX_DUE = 2000
"""Nodes named by one look at what is due; the next look names the following ones."""

_PRESENCE = text("SELECT payload FROM presence WHERE source = :source")
_EPOCHS = text("SELECT epoch, previous FROM epoch WHERE source = :source")
_KEEP_PRESENCE = text("""
    INSERT INTO presence (source, payload, heard) VALUES (:source, :payload, :heard)
    ON CONFLICT (source) DO UPDATE SET payload = excluded.payload, heard = excluded.heard""")
_KEEP_RESULT = text("""
    INSERT INTO result (source, id, token, heard) VALUES (:source, :id, :token, :heard)
    ON CONFLICT (source, id) DO UPDATE SET token = excluded.token, heard = excluded.heard""")
_BOUND_RESULTS = text("""
    DELETE FROM result WHERE source = :source AND heard < (
      SELECT heard FROM result WHERE source = :source ORDER BY heard DESC LIMIT 1 OFFSET :most)""")
_DUE = text("""
    SELECT source FROM (SELECT DISTINCT source FROM fresh
                        UNION SELECT DISTINCT source FROM wanted WHERE due <= :now) AS due
    ORDER BY source LIMIT :most""")


class Database(EventWriter, Protocol):
    """What a collector needs of its database beyond the SQL that both kinds understand."""

    place: str
    """Where it is, for messages: no password."""
    collisions: tuple[type[StoreError], ...]
    """Errors after which the same transaction may go through at once: another one stood in its way."""

    def engine(self) -> Engine: ...

    def prepare(self, engine: Engine) -> None:
        """See to it that the tables are those of this release. Raises ``StoreError`` when a person has to."""
        ...

    def migrate(self, engine: Engine) -> str:
        """Bring the tables to this release's, because a person has said so. Returns their version."""
        ...

    def lock(self, sql: Connection, sources: Sequence[str], alone: frozenset[str]) -> None:
        """Until the transaction's end, keep others from settling these nodes; from any work on those in ``alone``.

        ``sources`` are in order, and everybody keeps to it.
        """
        ...

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Turn the library's errors into ``StoreError`` and its kinds."""
        yield


class CollectorStore:
    """``consumer`` is our name in the nodes' configs. Raises ``StoreError`` and its kinds; nothing was kept then."""

    TRIES = 5
    """For a transaction that another worker's stood in the way of."""

    def __init__(self, database: Database, *, consumer: str, clock: Clock) -> None:
        self._database = database
        self._consumer = consumer
        self._clock = clock
        self._engine: Engine | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="collector-store")
        self.lives = 0
        """Connections made to the database so far. After a new one it may be an older copy of what it was."""

    async def open(self) -> None:
        """Open the database, and bring its tables to this release's where that needs nobody's decision."""
        await self._run(self._open)

    async def close(self) -> None:
        if self._engine is not None:
            await self._run(self._engine.dispose)
        self._thread.shutdown()

    async def take(self, batch: Batch) -> None:
        """Commit what came, events as unproven, and count what was refused."""
        await self._run(lambda: self._take(batch))

    async def settle(self, sources: Iterable[str], *, ask_all: bool = False) -> dict[str, Standing]:
        """Move the cursors of these nodes as far as their rows prove, and say where they stand.

        ``ask_all``: want everything behind the cursors too, because the store may have lost what it had acknowledged.
        A node that another store keeps by now has no standing here.
        """
        return await self._run(lambda: self._settle(sorted(set(sources)), ask_all=ask_all))

    async def due(self) -> list[str]:
        """The nodes of which something has come, to whichever worker, and those to be asked for something now."""
        return [source for (source,) in await self.rows(_DUE.text, now=self._clock.wall(), most=MAX_DUE)]

    async def rows(self, sql: str, **values: object) -> list[tuple[Any, ...]]:
        """Read, for the hub and for a person. ``sql`` is a literal of the caller's, ``values`` its parameters."""
        return await self.work(lambda connection: _fetched(connection, sql, values), reads=True)

    async def work(self, task: Callable[[Connection], T], *, reads: bool = False) -> T:
        """Run ``task`` as one transaction."""

        def whole() -> T:
            with self._transaction(reads=reads) as sql:
                return task(sql)

        return await self._run(whole)

    async def insert(self, rows: list[tuple[Any, ...]]) -> None:
        """Keep rows as they are, unproven or not: for a move from another store."""
        await self.work(lambda sql: self._database.insert_events(sql, rows))

    def lock(self, sql: Connection, sources: Sequence[str]) -> None:
        """Within ``work``: keep every worker away from these nodes until its end."""
        self._database.lock(sql, sorted(sources), frozenset(sources))

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: self._patiently(work))

    def _patiently(self, work: Callable[[], T]) -> T:
        for _ in range(self.TRIES - 1):
            with contextlib.suppress(*self._database.collisions):
                return work()
        return work()

    def _open(self) -> None:
        if self._engine is None:
            self._engine = self._database.engine()
            event.listen(self._engine, "connect", self._connected)
        with self._database.telling():
            self._database.prepare(self._engine)

    def _connected(self, _connection: object, _record: object) -> None:
        self.lives += 1

    @contextmanager
    def _transaction(self, *, reads: bool = False) -> Iterator[Connection]:
        if self._engine is None:
            raise StoreError("the collector's store is not open", remedy="open it first")
        with self._database.telling(), self._engine.connect() as sql:
            sql.execution_options(reads=reads)
            with sql.begin():
                yield sql

    def _take(self, batch: Batch) -> None:
        sources = sorted(batch.sources())
        told = [*(node for node, _ in batch.presences.values()), *(one[0] for one in batch.results)]
        alone = frozenset(node.source for node in told)
        while True:
            with self._transaction() as sql:
                self._database.lock(sql, sources, alone)
                known = load(sql, sources)
                beginning = unknown_streams(known, batch.events)
                if beginning <= alone:
                    streams = Streams(sql, self._database, known, consumer=self._consumer, wall=self._clock.wall())
                    self._take_in(sql, streams, batch, moved_among(sql, sources))
                    return
            # A stream is begun by one worker alone.
            alone |= beginning

    def _take_in(self, sql: Connection, streams: Streams, batch: Batch, moved: frozenset[str]) -> None:
        refused: dict[str, list[str]] = defaultdict(list)
        refused[""] += batch.strays
        for node, intake in batch.events:
            words = refused[node.source]
            words += intake.refused
            if node.source in moved:
                words += ["moved"] * (len(intake.rows) + len(intake.gone))
                continue
            streams.take_rows(node, intake.rows, words)
            for gone in intake.gone:
                streams.take_gone(node, gone, words)
        for node, told in batch.presences.values():
            if node.source not in moved:
                self._keep_presence(sql, node, told)
                streams.touch(node.source)
        for node, command_id, token in batch.results:
            self._keep_result(sql, node, command_id, token)
        streams.finish()
        count(sql, refused, self._clock.wall())

    def _settle(self, sources: Sequence[str], *, ask_all: bool) -> dict[str, Standing]:
        if not sources:
            return {}
        wall = self._clock.wall()
        with self._transaction() as sql:
            self._database.lock(sql, sources, frozenset(sources))
            known = load(sql, sources)
            moved = moved_among(sql, sources)
            return {
                source: Settling(sql, source, known[source], wall).settle(ask_all=ask_all)
                for source in sources
                if source not in moved
            }

    def _keep_presence(self, sql: Connection, node: Node, told: Presence) -> None:
        """Keep it if it is the newer one."""
        kept = sql.execute(_PRESENCE, {"source": node.source}).scalar()
        if kept is not None:
            known = decode(bytes(kept))
            said = dict(tuple(row) for row in sql.execute(_EPOCHS, {"source": node.source}))
            if not supersedes(told, known, before=order_of_epochs(said, known.epoch)):
                return
        sql.execute(_KEEP_PRESENCE, {"source": node.source, "payload": encode(told), "heard": self._clock.wall()})

    def _keep_result(self, sql: Connection, node: Node, command_id: str, token: bytes) -> None:
        told = {"source": node.source, "id": command_id, "token": token, "heard": self._clock.wall()}
        sql.execute(_KEEP_RESULT, told)
        sql.execute(_BOUND_RESULTS, {"source": node.source, "most": MAX_RESULTS})


def _fetched(sql: Connection, statement: str, values: dict[str, object]) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in sql.execute(text(statement), values)]
