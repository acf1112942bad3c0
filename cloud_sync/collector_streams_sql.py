"""Where each node stands in the collector's tables: rows come in as unproven, and settling moves the cursors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from cloud_sync.collector import Gone, Node, Row, Standing, begun_by
from cloud_sync.collector_refused_sql import count, quarantine, set_aside
from cloud_sync.collector_room_sql import (
    MAX_UNPROVEN_BYTES,
    drop_oldest,
    drop_oldest_ranges,
    row_bytes,
    unproven_bytes,
)
from cloud_sync.settling import Candidate, Cursor, Settled, settle_audit, settle_plain
from edge.event import GENESIS, EventClass

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from edge.clock import Clock

HORIZON = 100_000
"""Rows above the cursor that are taken in before a seal has moved it: bounds what a forger can make us keep. A node
seals every 64; whatever is refused here it sends again."""
GONE_HORIZON = 1_000_000_000
"""Numbers above the cursor to which a thinned range may reach: what 100 events a second are in 115 days. A range is
nobody's signed word, and the cursor may follow it."""
MAX_UNPROVEN = 16
"""Epochs of one node without a held event. The one not heard of for longest makes room: a forger blocks no true one."""
MAX_RIVALS = 4
"""Rows for one seq that wait for a seal; the oldest makes room."""
SETTLE_ROWS = 50_000
"""Rows looked at in one go; what is left follows at once."""

_INSERT = """INSERT OR IGNORE INTO event (stream, seq, digest, prev, start, event_id, type, subject, time, body)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

_THIN = """DELETE FROM event WHERE id IN (
             SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY seq ORDER BY id DESC) AS place
                             FROM event WHERE stream = ? AND seq > ?) WHERE place > ?)"""


class Stream(msgspec.Struct):
    """One class of one epoch of one node.

    ``dirty``: something came since it was settled. ``reach``: how far rows and thinned ranges go without a gap.
    ``unproven``: bytes of the rows above the cursor, as ``row_bytes`` counts them.
    """

    id: int
    source: str
    epoch: str
    event_class: EventClass
    cursor: Cursor
    heard: float
    dirty: bool = True
    missing: list[tuple[int, int]] = []
    reach: int = 0
    unproven: int = 0


Known = dict[tuple[str, EventClass], Stream]


class Streams:
    """Works within the caller's transaction. After one that failed, ``forget`` what is remembered."""

    def __init__(self, consumer: str, clock: Clock) -> None:
        self._consumer = consumer
        self._clock = clock
        self._known: dict[str, Known] = {}

    def forget(self) -> None:
        self._known.clear()

    def take_rows(self, sql: Connection, node: Node, rows: Sequence[Row], refused: list[str]) -> None:
        """Keep rows as unproven; ``refused`` gets a word for each that is not kept."""
        source, fresh, stream = node.source, list[tuple[Any, ...]](), None
        room = 2 * MAX_UNPROVEN_BYTES - sum(each.unproven for each in self._of(sql, source).values())
        for row in rows:
            if stream is None or stream.epoch != row.epoch or stream.event_class is not row.event_class:
                stream = self._stream(sql, source, row.epoch, row.event_class)
            size = row_bytes(row.body)
            if row.seq <= stream.cursor.seq:
                word = self._against_held(sql, stream, row)
            elif row.seq > max(stream.cursor.seq, stream.reach) + HORIZON and not row.seal:
                word = "too_far"
            elif size > room:
                word = "no_room"
            else:
                word = ""
                fresh.append(self._values(stream, row))
                stream.unproven += size
                room -= size
            if word:
                refused.append(word)
        if fresh:
            sql.exec_driver_sql(_INSERT, fresh)

    def take_gone(self, sql: Connection, node: Node, gone: Gone, refused: list[str]) -> None:
        """Keep the node's word on a thinned range."""
        stream = self._stream(sql, node.source, gone.epoch, gone.event_class)
        if gone.last <= stream.cursor.seq:
            return
        reach = max(stream.cursor.seq, stream.reach)
        if gone.first > reach + HORIZON or gone.last > stream.cursor.seq + GONE_HORIZON:
            refused.append("too_far")
            return
        if gone.first <= reach + 1:
            stream.reach = max(reach, gone.last)
        sql.exec_driver_sql(
            """INSERT INTO dropped (stream, first, last, count, reason) VALUES (?, ?, ?, ?, ?)
               ON CONFLICT DO UPDATE SET last = excluded.last, count = excluded.count, reason = excluded.reason
               WHERE excluded.last > last""",
            (stream.id, gone.first, gone.last, gone.count, gone.reason),
        )

    def settle(self, sql: Connection, source: str) -> Standing:
        """Move the node's cursors as far as its rows prove."""
        known = self._of(sql, source)
        standing = Standing()
        while dirty := [stream for stream in known.values() if stream.dirty]:
            for stream in dirty:
                stream.dirty = False
                # A forger can invent epochs: the rows of such a one stay unproven, whatever their class.
                if stream.event_class is EventClass.AUDIT or _proven(known, stream.epoch):
                    standing.alarms += self._settle_stream(sql, stream, known)
                stream.unproven = unproven_bytes(sql, stream.id, stream.cursor.seq)
                drop_oldest_ranges(sql, stream.id, stream.cursor.seq)
        self._bound(sql, source, known)
        for (epoch, event_class), stream in known.items():
            if _proven(known, epoch) and stream.cursor.seq:
                audit = event_class is EventClass.AUDIT
                at = (stream.cursor.seq, stream.cursor.digest.hex() if audit else None)
                standing.journals.setdefault(epoch, {})[event_class.value] = at
            standing.missing += [(epoch, event_class.value, *gap) for gap in stream.missing]
        standing.missing += _missing_ends(sql, source, known)
        # A forger can invent epochs; what is proven is asked for first.
        standing.missing.sort(key=lambda gap: gap[0] not in standing.journals)
        return standing

    def _bound(self, sql: Connection, source: str, known: Known) -> None:
        excess = sum(stream.unproven for stream in known.values()) - MAX_UNPROVEN_BYTES
        if excess <= 0:
            return
        dropped = drop_oldest(sql, source, excess)
        count(sql, source, ["made_room"] * dropped, self._clock.wall())
        for stream in known.values():
            stream.unproven = unproven_bytes(sql, stream.id, stream.cursor.seq)

    def _values(self, stream: Stream, row: Row) -> tuple[Any, ...]:
        start = None if row.starts is None else row.starts.get(self._consumer, 0)
        told = (row.event_id, row.type, row.subject, row.time, row.body)
        return (stream.id, row.seq, row.digest, row.prev, start, *told)

    def _against_held(self, sql: Connection, stream: Stream, row: Row) -> str:
        """A row at or below the cursor is held already, or a rival of a held one, or was said to be thinned."""
        found = sql.exec_driver_sql(
            "SELECT digest FROM event WHERE stream = ? AND seq = ?", (stream.id, row.seq)
        ).scalar()
        if found is None and stream.event_class is not EventClass.AUDIT:
            # A row wins over a range, also over one that was a lie.
            sql.exec_driver_sql(_INSERT, self._values(stream, row))
        if found is None or found == row.digest:
            return ""
        place = (stream.source, stream.epoch, stream.event_class.value, row.seq, row.digest)
        quarantine(sql, place, row.body, "conflict", self._clock.wall())
        return "conflict"

    def _stream(self, sql: Connection, source: str, epoch: str, event_class: EventClass) -> Stream:
        known = self._of(sql, source)
        stream = known.get((epoch, event_class))
        if stream is None:
            if not any(other == epoch for other, _ in known):
                _make_room(sql, known)
            stream = self._new_stream(sql, source, epoch, event_class)
            known[epoch, event_class] = stream
        stream.heard = self._clock.wall()
        stream.dirty = True
        return stream

    def _of(self, sql: Connection, source: str) -> Known:
        if source not in self._known:
            rows = sql.exec_driver_sql(
                "SELECT id, epoch, class, seq, digest, heard FROM stream WHERE source = ? ORDER BY id", (source,)
            )
            self._known[source] = {
                (epoch, EventClass(name)): Stream(number, source, epoch, EventClass(name), Cursor(seq, digest), heard)
                for number, epoch, name, seq, digest, heard in rows
            }
        return self._known[source]

    def _new_stream(self, sql: Connection, source: str, epoch: str, event_class: EventClass) -> Stream:
        cursor = Cursor(0, GENESIS if event_class is EventClass.AUDIT else b"")
        heard = self._clock.wall()
        made = sql.exec_driver_sql(
            "INSERT INTO stream (source, epoch, class, seq, digest, heard) VALUES (?, ?, ?, ?, ?, ?)",
            (source, epoch, event_class.value, cursor.seq, cursor.digest, heard),
        )
        return Stream(made.lastrowid, source, epoch, event_class, cursor, heard)

    def _settle_stream(self, sql: Connection, stream: Stream, known: Known) -> int:
        before = stream.cursor
        settled = self._audit(sql, stream) if stream.event_class is EventClass.AUDIT else _plain(sql, stream)
        stream.cursor, stream.missing, stream.reach = settled.cursor, settled.missing, settled.reach
        place = (stream.id, stream.source, stream.epoch, stream.event_class.value)
        for reason, rows in (("not_in_chain", settled.rivals), ("forked", settled.forked)):
            for seq, digest in rows:
                set_aside(sql, place, seq, digest, reason, self._clock.wall())
        if settled.skipped:
            sql.exec_driver_sql(
                "DELETE FROM event WHERE stream = ? AND seq BETWEEN ? AND ?", (stream.id, *settled.skipped)
            )
        if settled.cursor.seq > before.seq:
            sql.exec_driver_sql(
                "UPDATE stream SET seq = ?, digest = ?, heard = ? WHERE id = ?",
                (settled.cursor.seq, settled.cursor.digest, stream.heard, stream.id),
            )
            if before.seq == 0 and stream.event_class is EventClass.AUDIT:
                _touch(known, stream.epoch)
                _learn_epoch(sql, stream, known)
        return len(settled.rivals) + len(settled.forked)

    def _audit(self, sql: Connection, stream: Stream) -> Settled:
        end = _chain_end(sql, stream)
        rows = sql.exec_driver_sql(
            "SELECT seq, digest, prev, start FROM event WHERE stream = ? AND seq > ? ORDER BY seq LIMIT ?",
            (stream.id, stream.cursor.seq, SETTLE_ROWS),
        ).cursor.fetchall()
        settled = settle_audit(
            stream.cursor,
            [
                Candidate(seq, digest, prev, start is not None or (seq, digest) == end, start or 0)
                for seq, digest, prev, start in rows
            ],
        )
        stream.dirty = len(rows) == SETTLE_ROWS and settled.cursor.seq > stream.cursor.seq
        if len(rows) > len({row[0] for row in rows}):
            sql.exec_driver_sql(_THIN, (stream.id, settled.cursor.seq, MAX_RIVALS))
        return settled


def _plain(sql: Connection, stream: Stream) -> Settled:
    key = (stream.id, stream.cursor.seq, SETTLE_ROWS)
    rows = sql.exec_driver_sql(
        "SELECT seq, digest FROM event WHERE stream = ? AND seq > ? ORDER BY seq, id LIMIT ?", key
    ).cursor.fetchall()
    gone = sql.exec_driver_sql(
        "SELECT first, last FROM dropped WHERE stream = ? AND last > ? ORDER BY first LIMIT ?", key
    ).fetchall()
    settled = settle_plain(stream.cursor, rows, [(a, b) for a, b in gone], ended=_ended(sql, stream))
    stream.dirty = SETTLE_ROWS in (len(rows), len(gone)) and settled.cursor.seq > stream.cursor.seq
    return settled


def _proven(known: Known, epoch: str) -> bool:
    """Whether a seal has made any of the epoch's audit events held; before, nothing of it is acknowledged."""
    audit = known.get((epoch, EventClass.AUDIT))
    return audit is not None and audit.cursor.seq > 0


def _touch(known: Known, epoch: str) -> None:
    """Have all classes of ``epoch`` looked at again."""
    for (other, _), stream in known.items():
        stream.dirty = stream.dirty or other == epoch


def _ended(sql: Connection, stream: Stream) -> bool:
    """Whether a held event says that another epoch followed: no row is added to this one any more."""
    key = (stream.source, stream.epoch)
    return sql.exec_driver_sql("SELECT 1 FROM epoch WHERE source = ? AND previous = ?", key).scalar() is not None


def _make_room(sql: Connection, known: Known) -> None:
    unproven = {epoch: stream.heard for (epoch, _), stream in known.items() if not _proven(known, epoch)}
    if len(unproven) < MAX_UNPROVEN:
        return
    oldest = min(unproven, key=lambda epoch: unproven[epoch])
    for key in [key for key in known if key[0] == oldest]:
        number = known.pop(key).id
        sql.exec_driver_sql("DELETE FROM event WHERE stream = ?", (number,))
        sql.exec_driver_sql("DELETE FROM dropped WHERE stream = ?", (number,))
        sql.exec_driver_sql("DELETE FROM stream WHERE id = ?", (number,))


def _chain_end(sql: Connection, stream: Stream) -> tuple[int, bytes]:
    """Where a later epoch's sealed first event says that this chain ends; (0, b"") when none does."""
    found = sql.exec_driver_sql(
        "SELECT kept_seq, kept_hash FROM epoch WHERE source = ? AND previous = ?", (stream.source, stream.epoch)
    ).fetchone()
    return (found[0], found[1]) if found else (0, b"")


def _missing_ends(sql: Connection, source: str, known: Known) -> Iterator[tuple[str, str, int, int]]:
    """What lacks behind the last row of an ended epoch: no later row of its own shows it, the next epoch's first does.

    So a consumer finds out what it lost, in a restored copy say, after it had signed for it.
    """
    ends = sql.exec_driver_sql("SELECT previous, kept_seq FROM epoch WHERE source = ? AND kept_seq > 0", (source,))
    for epoch, end in ends.fetchall():
        stream = known.get((epoch, EventClass.AUDIT))
        last = 0 if stream is None else _last_seq(sql, stream)
        if last < end:
            yield epoch, EventClass.AUDIT.value, last + 1, end


def _last_seq(sql: Connection, stream: Stream) -> int:
    found = sql.exec_driver_sql("SELECT max(seq) FROM event WHERE stream = ?", (stream.id,)).scalar() or 0
    return max(found, stream.cursor.seq)


def _learn_epoch(sql: Connection, stream: Stream, known: Known) -> None:
    """Note what the epoch's first event, held now, says of the one before; that one may settle further by it."""
    body = sql.exec_driver_sql("SELECT body FROM event WHERE stream = ? AND seq = 1", (stream.id,)).scalar()
    begun = begun_by(body) if body is not None else None
    if begun is None:
        return
    end = (begun.last_seq, begun.kept_seq, bytes.fromhex(begun.kept_hash))
    sql.exec_driver_sql(
        "INSERT OR IGNORE INTO epoch VALUES (?, ?, ?, ?, ?, ?, ?)",
        (stream.source, stream.epoch, begun.previous, begun.cause, *end),
    )
    _touch(known, begun.previous)
