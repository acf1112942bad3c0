"""Moves a node from one collector's store to another's: nothing of it is lost, doubled, or asked for again.

Both stores stop taking in and acknowledging the node at once; the new one begins with it only after every row was
copied and verified over there: a store believes what it has taken in itself, and would sign for copied rows whose bytes
nobody has looked at. A move that was cut short is begun again and goes on where it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import text

from cloud_sync.collector import Node, sealed_by
from cloud_sync.collector_sql import CollectorStore
from cloud_sync.collector_streams_sql import Known, Stream, begin_stream, load
from edge.errors import ConfigError, StoreCorrupt
from edge.event import GENESIS, EventClass, link_hash

if TYPE_CHECKING:
    from sqlalchemy import Connection, TextClause

PORTION = 2000
"""Rows in one transaction: 1 MB of events, so that neither store holds up its workers for long."""

_MARK = text("INSERT INTO moved (source, done, at) VALUES (:source, 0, :at) ON CONFLICT DO NOTHING")
_NOTHING_DUE = (text("DELETE FROM fresh WHERE source = :source"), text("DELETE FROM wanted WHERE source = :source"))
"""Nobody settles the node here any more, so what is due would stay so, and keep out those that are due after it."""
_NOTHING_WAITS = text("UPDATE stream SET unproven = 0, pending = 0, waiting = NULL WHERE source = :source")
_DONE = text("UPDATE moved SET done = 1, at = :at WHERE source = :source")
_UNMARK = text("DELETE FROM moved WHERE source = :source")
_ROWS = text("""
    SELECT seq, digest, prev, start, event_id, type, subject, time, body FROM event
    WHERE stream = :stream AND (seq > :seq OR (seq = :seq AND digest > :digest)) ORDER BY seq, digest LIMIT :most""")
_HELD = text("SELECT count(*), coalesce(max(seq), 0) FROM event WHERE stream = :stream AND seq <= :seq")
_ADOPT = text("UPDATE stream SET seq = :seq, digest = :digest WHERE id = :id AND seq < :seq")
_TOUCH = text("INSERT INTO fresh (source, stream, bytes, at) VALUES (:source, :stream, 0, :at)")
_COPIED = {
    "epoch": ("source", "epoch", "previous", "cause", "last_seq", "kept_seq", "kept_hash"),
    "quarantine": ("source", "epoch", "class", "seq", "digest", "reason", "at", "body"),
    "presence": ("source", "payload", "heard"),
    "result": ("source", "id", "token", "heard"),
}
"""Tables that name the node by its source, and what of them goes with it. Counts of refusals stay with the store."""
_DROPPED = text("SELECT first, last, count, reason FROM dropped WHERE stream = :stream ORDER BY id")
_KEEP_DROPPED = text("""
    INSERT INTO dropped (stream, first, last, count, reason) VALUES (:stream, :first, :last, :count, :reason)
    ON CONFLICT DO NOTHING""")
_PURGE = text("""
    DELETE FROM event WHERE id IN (SELECT event.id FROM event JOIN stream ON stream.id = event.stream
                                   WHERE source = :source LIMIT :most)""")


class Moved(msgspec.Struct, frozen=True):
    """What is held over there now, all of it verified."""

    events: int
    seals: int


class Move:
    """One node. ``progress`` is told how many rows more are over there, or verified."""

    def __init__(
        self, node: Node, old: CollectorStore, new: CollectorStore, wall: float, progress: Callable[[int], None]
    ) -> None:
        self._node = node
        self._source = node.source
        self._old = old
        self._new = new
        self._wall = wall
        self._progress = progress

    async def run(self) -> Moved:
        """Raises ``StoreError``; then the node is kept by the old store still, stopped, and ``run`` may be repeated.

        ``StoreCorrupt`` names the row that is not what the chain says.
        """
        olds = await self._old.work(self._freeze)
        news = await self._new.work(lambda sql: self._begin(sql, olds))
        for key, stream in olds.items():
            await self._copy(stream, news[key].id)
        await self._copy_rest()
        moved = Moved(0, 0)
        for key, stream in olds.items():
            moved = await self._verify(stream, news[key].id, moved)
        await self._new.work(lambda sql: self._adopt(sql, olds, news))
        await self._old.work(self._finish)
        return moved

    async def purge(self) -> None:
        """Delete the events in the old store, once they have moved."""
        while await self._old.work(lambda sql: sql.execute(_PURGE, {"source": self._source, "most": PORTION}).rowcount):
            self._progress(0)

    def _freeze(self, sql: Connection) -> Known:
        """From here on the old store's workers refuse the node's events and sign nothing for it."""
        self._old.lock(sql, [self._source])
        self._close(sql)
        return load(sql, [self._source])[self._source]

    def _close(self, sql: Connection) -> None:
        sql.execute(_MARK, {"source": self._source, "at": self._wall})
        for statement in _NOTHING_DUE:
            sql.execute(statement, {"source": self._source})

    def _finish(self, sql: Connection) -> None:
        """The old store's figures do not speak of the node any more."""
        sql.execute(_NOTHING_WAITS, {"source": self._source})
        sql.execute(_DONE, {"source": self._source, "at": self._wall})

    def _begin(self, sql: Connection, olds: Known) -> Known:
        """From here on the new store's workers neither take in nor acknowledge, until ``_adopt``. What the node sends
        them meanwhile, because it was pointed to them already, it sends again.
        """
        self._new.lock(sql, [self._source])
        self._close(sql)
        news = load(sql, [self._source])[self._source]
        for key, stream in olds.items():
            if key not in news:
                news[key] = begin_stream(sql, stream.source, stream.epoch, stream.event_class, self._wall)
        return news

    async def _copy(self, stream: Stream, number: int) -> None:
        seq, digest = await self._there_already(stream, number), b"\xff" * 32
        while True:
            key = {"stream": stream.id, "seq": seq, "digest": digest, "most": PORTION}
            rows = await _read(self._old, _ROWS, key)
            if not rows:
                break
            values = [_values(number, row) for row in rows]
            await self._new.insert(values)
            self._progress(len(rows))
            seq, digest = rows[-1][0], bytes(rows[-1][1])
        ranges = await _read(self._old, _DROPPED, {"stream": stream.id})
        names = ("first", "last", "count", "reason")
        told = [{"stream": number, **dict(zip(names, row, strict=True))} for row in ranges]
        await _write(self._new, _KEEP_DROPPED, told)

    async def _there_already(self, stream: Stream, number: int) -> int:
        """The seq up to which a move that was cut short has copied; 0 when that cannot be told from counts."""
        count, last = await self._new.work(lambda sql: _held(sql, number, stream.cursor.seq), reads=True)
        ours, _ = await self._old.work(lambda sql: _held(sql, stream.id, last), reads=True)
        self._progress(count if count == ours else 0)
        return last if count == ours else 0

    async def _copy_rest(self) -> None:
        for table, columns in _COPIED.items():
            names = ", ".join(columns)
            read = text(f"SELECT {names} FROM {table} WHERE source = :source")
            rows = await _read(self._old, read, {"source": self._source})
            keep = text(
                f"INSERT INTO {table} ({names}) VALUES ({', '.join(f':{name}' for name in columns)})"
                " ON CONFLICT DO NOTHING"
            )
            await _write(self._new, keep, [dict(zip(columns, row, strict=True)) for row in rows])

    async def _verify(self, stream: Stream, number: int, moved: Moved) -> Moved:
        """Walk what is over there from the first row to the last, as if it had just come."""
        end = stream.cursor.seq
        ours, _ = await self._old.work(lambda sql: _held(sql, stream.id, end), reads=True)
        theirs, _ = await self._new.work(lambda sql: _held(sql, number, end), reads=True)
        if ours != theirs:
            raise self._broken(stream, end, f"{ours} rows here and {theirs} over there")
        walk = Walk(self._node, stream.event_class, end)
        key: dict[str, Any] = {"stream": number, "seq": 0, "digest": b"", "most": PORTION}
        while rows := await _read(self._new, _ROWS, key):
            for row in rows:
                if not walk.step(row[0], bytes(row[1]), bytes(row[2]), row[3] is not None, bytes(row[8])):
                    raise self._broken(stream, row[0], "not the row that the chain names")
            self._progress(len(rows))
            key |= {"seq": rows[-1][0], "digest": bytes(rows[-1][1])}
        if stream.event_class is EventClass.AUDIT and end and walk.digest != stream.cursor.digest:
            raise self._broken(stream, end, "the chain ends otherwise")
        return Moved(moved.events + theirs, moved.seals + walk.seals)

    def _broken(self, stream: Stream, seq: int, what: str) -> StoreCorrupt:
        place = f"{stream.source} {stream.epoch} {stream.event_class.value} {seq}"
        return StoreCorrupt(
            f"{place}: {what}", remedy="nothing was acknowledged over there; compare the two stores at that row"
        )

    def _adopt(self, sql: Connection, olds: Known, news: Known) -> None:
        """The new store's workers go on from where the old ones were."""
        self._new.lock(sql, [self._source])
        for key, stream in olds.items():
            place = {"id": news[key].id, "seq": stream.cursor.seq, "digest": stream.cursor.digest}
            sql.execute(_ADOPT, place)
            sql.execute(_TOUCH, {"source": self._source, "stream": news[key].id, "at": self._wall})
        sql.execute(_UNMARK, {"source": self._source})


class Walk:
    """The rows of one stream in order of seq. For audit each up to ``end``, which is the cursor, has to join the one
    before; above it, where rows may be anybody's, each has to be what its own columns say.
    """

    def __init__(self, node: Node, event_class: EventClass, end: int) -> None:
        self._node = node
        self._chained = event_class is EventClass.AUDIT
        self._end = end
        self.seq = 0
        self.digest = GENESIS
        self.seals = 0

    def step(self, seq: int, digest: bytes, prev: bytes, seal: bool, body: bytes) -> bool:  # noqa: FBT001  columns of a row
        """Whether this is the row that belongs here. A share that begins in the middle begins with any row."""
        if self._chained:
            fine = link_hash(prev, body) == digest and (not seal or sealed_by(self._node, body))
        else:
            fine = hashlib.sha256(body).digest() == digest
        if seq > self._end:
            return fine
        if self._chained:
            fine = fine and ((seq == self.seq + 1 and prev == self.digest) or (self.seq == 0 < seq - 1))
        else:
            fine = fine and seq > self.seq
        self.seq, self.digest = seq, digest
        self.seals += seal
        return fine


async def _read(store: CollectorStore, statement: TextClause, values: dict[str, Any]) -> Sequence[Sequence[Any]]:
    return await store.work(lambda sql: sql.execute(statement, values).fetchall(), reads=True)


async def _write(store: CollectorStore, statement: TextClause, rows: list[dict[str, Any]]) -> int:
    return await store.work(lambda sql: sql.execute(statement, rows).rowcount if rows else 0)


def _held(sql: Connection, stream: int, seq: int) -> tuple[int, int]:
    count, last = sql.execute(_HELD, {"stream": stream, "seq": seq}).one()
    return int(count), int(last)


def _values(stream: int, row: Sequence[Any]) -> tuple[Any, ...]:
    seq, digest, prev, start, *told, body = row
    return (stream, seq, bytes(digest), bytes(prev), start, *told, bytes(body))


def count_rows(sql: Connection, sources: Sequence[str]) -> Iterator[tuple[str, int]]:
    """How many rows a move of each node has to copy and to verify."""
    statement = text("""
        SELECT count(*) FROM event JOIN stream ON stream.id = event.stream WHERE source = :source""")
    for source in sources:
        yield source, int(sql.execute(statement, {"source": source}).scalar() or 0)


def same_consumer(old: str, new: str) -> None:
    """Raises ``ConfigError`` when the two stores are not of one consumer: a node tells them apart by their name."""
    if old != new:
        raise ConfigError(
            f"the stores are of two consumers, {old} and {new}",
            remedy="name the same consumer in both files; its nodes have kept its cursors under that name",
        )
