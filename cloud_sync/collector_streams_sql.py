"""Where each node stands in the collector's tables, and rows that come in as unproven.

Nothing is remembered from one transaction to the next: another worker of the same consumer may have moved it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from sqlalchemy import bindparam, text

from cloud_sync.collector import Gone, Intake, Node, Row
from cloud_sync.collector_refused_sql import quarantine
from cloud_sync.collector_room_sql import MAX_UNPROVEN_BYTES, row_bytes
from cloud_sync.settling import Cursor
from edge.event import GENESIS, EventClass

if TYPE_CHECKING:
    from sqlalchemy import Connection

HORIZON = 100_000
"""Rows above the cursor that are taken in before a seal has moved it: bounds what a forger can make us keep. A node
seals every 64; whatever is refused here it sends again."""
GONE_HORIZON = 1_000_000_000
"""Numbers above the cursor to which a thinned range may reach: what 100 events a second are in 115 days. A range is
nobody's signed word, and the cursor may follow it."""
MAX_UNPROVEN = 16
"""Epochs of one node without a held event. The one not heard of for longest makes room: a forger blocks no true one."""
_ASKED_AT_ONCE = 500
"""Numbers of held rows looked up by one statement."""

_CLASSES = {each.value: each for each in EventClass}


class Stream(msgspec.Struct):
    """One class of one epoch of one node, as its row in the table ``stream`` has it.

    ``came``: bytes that came since it was settled; ``dirty``: to be settled in this transaction; ``missing``: gaps.
    """

    id: int
    source: str
    epoch: str
    event_class: EventClass
    cursor: Cursor
    heard: float
    reach: int = 0
    unproven: int = 0
    pending: int = 0
    waiting: float | None = None
    came: int = 0
    dirty: bool = False
    missing: list[tuple[int, int]] = []


Known = dict[tuple[str, str], Stream]
"""A node's streams by epoch and class, in the order in which they began."""


class EventWriter(Protocol):
    """How a database takes many rows at once; one that is there already is left alone."""

    def insert_events(self, sql: Connection, rows: list[tuple[Any, ...]]) -> None:
        """(stream, seq, digest, prev, start, event_id, type, subject, time, body) each."""
        ...


_STREAMS = text("""
    SELECT id, source, epoch, class, seq, digest, heard, reach, unproven, pending, waiting
    FROM stream WHERE source IN :sources ORDER BY id""").bindparams(bindparam("sources", expanding=True))
_FRESH = text("""
    SELECT source, stream, sum(bytes), max(at) FROM fresh WHERE source IN :sources GROUP BY source, stream
""").bindparams(bindparam("sources", expanding=True))
_MOVED = text("SELECT source FROM moved WHERE source IN :sources").bindparams(bindparam("sources", expanding=True))
_TOUCH = text("INSERT INTO fresh (source, stream, bytes, at) VALUES (:source, :stream, :bytes, :at)")
_BEGIN = text("""
    INSERT INTO stream (source, epoch, class, seq, digest, heard)
    VALUES (:source, :epoch, :class, 0, :digest, :heard) RETURNING id""")
_DIGESTS = text("SELECT seq, digest FROM event WHERE stream = :stream AND seq IN :seqs").bindparams(
    bindparam("seqs", expanding=True)
)
_GONE = text("""
    INSERT INTO dropped (stream, first, last, count, reason) VALUES (:stream, :first, :last, :count, :reason)
    ON CONFLICT (stream, first) DO UPDATE SET last = excluded.last, count = excluded.count, reason = excluded.reason
    WHERE excluded.last > dropped.last""")
_REACH = text("UPDATE stream SET reach = :reach WHERE id = :id AND reach < :reach")
_FORGET = [
    text("DELETE FROM event WHERE stream = :stream"),
    text("DELETE FROM dropped WHERE stream = :stream"),
    text("DELETE FROM fresh WHERE stream = :stream"),
    text("DELETE FROM stream WHERE id = :stream"),
]


def load(sql: Connection, sources: Sequence[str]) -> dict[str, Known]:
    """The streams of these nodes, as they stand now."""
    known: dict[str, Known] = {source: {} for source in sources}
    by_id: dict[int, Stream] = {}
    if not sources:
        return known  # only strays came
    for number, source, epoch, name, seq, digest, heard, *rest in sql.execute(_STREAMS, {"sources": sources}):
        stream = Stream(number, source, epoch, _CLASSES[name], Cursor(seq, bytes(digest)), heard, *rest)
        known[source][epoch, name] = by_id[number] = stream
    for _, number, size, at in sql.execute(_FRESH, {"sources": sources}):
        if number in by_id:
            by_id[number].came, by_id[number].dirty = int(size), True
            by_id[number].heard = max(by_id[number].heard, at)
    return known


def moved_among(sql: Connection, sources: Sequence[str]) -> frozenset[str]:
    """Those of the nodes that another store keeps by now."""
    if not sources:
        return frozenset()
    return frozenset(source for (source,) in sql.execute(_MOVED, {"sources": sources}))


def unknown_streams(known: Mapping[str, Known], events: Iterable[tuple[Node, Intake]]) -> frozenset[str]:
    """The nodes of which a stream has to be begun first."""
    return frozenset(
        node.source
        for node, intake in events
        if any((item.epoch, item.event_class.value) not in known[node.source] for item in _firsts(intake))
    )


def _firsts(intake: Intake) -> Iterable[Row | Gone]:
    """One item of each run of the same stream."""
    before: Row | Gone | None = None
    for items in (intake.rows, intake.gone):
        for item in items:
            if before is None or before.epoch != item.epoch or before.event_class is not item.event_class:
                before = item
                yield item


class Streams:
    """Takes in what came, within a transaction that holds the locks of ``known``'s nodes."""

    def __init__(
        self, sql: Connection, writer: EventWriter, known: Mapping[str, Known], *, consumer: str, wall: float
    ) -> None:
        self._sql = sql
        self._writer = writer
        self._known = known
        self._consumer = consumer
        self._wall = wall
        self._fresh: list[tuple[Any, ...]] = []
        self._came: dict[tuple[str, int], int] = defaultdict(int)

    def take_rows(self, node: Node, rows: Sequence[Row], refused: list[str]) -> None:
        """Keep rows as unproven; ``refused`` gets a word for each that is not kept."""
        known, stream, held = self._known[node.source], None, defaultdict[int, list[Row]](list)
        room = 2 * MAX_UNPROVEN_BYTES - sum(each.unproven + each.came for each in known.values())
        consumer, fresh = self._consumer, self._fresh
        for row in rows:
            if stream is None or stream.epoch != row.epoch or stream.event_class is not row.event_class:
                stream = self._stream(node.source, row.epoch, row.event_class)
                cursor, far = stream.cursor.seq, max(stream.cursor.seq, stream.reach) + HORIZON
            size = row_bytes(row.body)
            if row.seq <= cursor:
                held[stream.id].append(row)
            elif row.seq > far and not row.seal:
                refused.append("too_far")
            elif size > room:
                refused.append("no_room")
            else:
                fresh.append(_values(stream.id, row, consumer))
                stream.came += size
                self._came[node.source, stream.id] += size
                room -= size
        for stream in [each for each in known.values() if each.id in held]:
            refused += self._against_held(stream, held[stream.id])

    def take_gone(self, node: Node, gone: Gone, refused: list[str]) -> None:
        """Keep the node's word on a thinned range."""
        stream = self._stream(node.source, gone.epoch, gone.event_class)
        if gone.last <= stream.cursor.seq:
            return
        reach = max(stream.cursor.seq, stream.reach)
        if gone.first > reach + HORIZON or gone.last > stream.cursor.seq + GONE_HORIZON:
            refused.append("too_far")
            return
        if gone.first <= reach + 1 and gone.last > stream.reach:
            stream.reach = gone.last
            self._sql.execute(_REACH, {"reach": gone.last, "id": stream.id})
        told = {"first": gone.first, "last": gone.last, "count": gone.count, "reason": gone.reason}
        self._sql.execute(_GONE, {"stream": stream.id, **told})

    def touch(self, source: str) -> None:
        """Have the node looked at by whoever settles next."""
        self._came[source, 0] += 0

    def finish(self) -> None:
        """Write what was collected."""
        if self._fresh:
            self._writer.insert_events(self._sql, self._fresh)
        if self._came:
            rows = [
                {"source": source, "stream": number, "bytes": size, "at": self._wall}
                for (source, number), size in self._came.items()
            ]
            self._sql.execute(_TOUCH, rows)

    def _against_held(self, stream: Stream, rows: Sequence[Row]) -> list[str]:
        """A row at or below the cursor is held already, or a rival of a held one, or was said to be thinned."""
        held: dict[int, bytes] = {}
        for at in range(0, len(rows), _ASKED_AT_ONCE):
            seqs = [row.seq for row in rows[at : at + _ASKED_AT_ONCE]]
            held |= dict(tuple(each) for each in self._sql.execute(_DIGESTS, {"stream": stream.id, "seqs": seqs}))
        conflicts = []
        for row in rows:
            found = held.get(row.seq)
            if found is None and stream.event_class is not EventClass.AUDIT:
                # A row wins over a range, also over one that was a lie.
                self._fresh.append(_values(stream.id, row, self._consumer))
            if found is None or bytes(found) == row.digest:
                continue
            place = (stream.source, stream.epoch, stream.event_class.value, row.seq, row.digest)
            quarantine(self._sql, place, row.body, "conflict", self._wall)
            conflicts.append("conflict")
        return conflicts

    def _stream(self, source: str, epoch: str, event_class: EventClass) -> Stream:
        known = self._known[source]
        stream = known.get((epoch, event_class.value))
        if stream is None:
            if not any(other == epoch for other, _ in known):
                _make_room(self._sql, known)
            stream = begin_stream(self._sql, source, epoch, event_class, self._wall)
            known[epoch, event_class.value] = stream
        stream.heard = self._wall
        self._came[source, stream.id] += 0
        return stream


def _values(stream: int, row: Row, consumer: str) -> tuple[Any, ...]:
    start = None if row.starts is None else row.starts.get(consumer, 0)
    return (stream, row.seq, row.digest, row.prev, start, row.event_id, row.type, row.subject, row.time, row.body)


def begin_stream(sql: Connection, source: str, epoch: str, event_class: EventClass, wall: float) -> Stream:
    """A stream without anything; its node has to be locked for this transaction alone."""
    cursor = Cursor(0, GENESIS if event_class is EventClass.AUDIT else b"")
    told = {"source": source, "epoch": epoch, "class": event_class.value, "digest": cursor.digest, "heard": wall}
    return Stream(int(sql.execute(_BEGIN, told).scalar_one()), source, epoch, event_class, cursor, wall)


def proven(known: Known, epoch: str) -> bool:
    """Whether a seal has made any of the epoch's audit events held; before, nothing of it is acknowledged."""
    audit = known.get((epoch, EventClass.AUDIT.value))
    return audit is not None and audit.cursor.seq > 0


def _make_room(sql: Connection, known: Known) -> None:
    unproven = {epoch: stream.heard for (epoch, _), stream in known.items() if not proven(known, epoch)}
    if len(unproven) < MAX_UNPROVEN:
        return
    oldest = min(unproven, key=lambda epoch: unproven[epoch])
    for key in [key for key in known if key[0] == oldest]:
        number = known.pop(key).id
        for statement in _FORGET:
            sql.execute(statement, {"stream": number})
