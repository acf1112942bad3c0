"""Reads the journal for cloud-sync and for people, on connections of its own: a reader never holds up the writer."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from edge.clock import Clock
from edge.errors import ProtocolError
from edge.event import DROPPED, CloudEvent, Draft, EventClass, EventsDropped, Origin, Stamp, decode, encode
from edge.journal import Gap
from edge.journal_writer_sql import store_error
from edge.link import MAX_PULL_EVENTS, PULL_BYTES, JournalView
from edge.schema_sql import AUDIT, CLASS_NUMBERS, SEQ_MASK, last_seq, place

AUDIT_ROWS = 1000
"""Rows read at a time by a walk through the whole chain: an open read keeps the write-ahead log from being cut back."""


class Pulled(msgspec.Struct, frozen=True):
    """Event bytes in order of seq with thinned ranges in between, and the last seq that they cover."""

    bodies: tuple[bytes, ...]
    upto: int


class JournalReader:
    """One read-only connection; to be used from one thread at a time.

    Every method raises ``StoreError`` when the file cannot be read, ``StoreCorrupt`` when it is damaged.
    """

    def __init__(self, database: Path, source: str, session: str, clock: Clock) -> None:
        self._connection = sqlite3.connect(
            f"file:{database}?mode=ro", uri=True, isolation_level=None, check_same_thread=False, timeout=5.0
        )
        self._source = source
        self._session = session
        self._clock = clock

    def close(self) -> None:
        self._connection.close()

    def views(self) -> tuple[JournalView, ...]:
        """Every epoch that still has something, oldest first: per class what all consumers hold, and the last seq."""
        found = []
        with self._snapshot() as sql:
            epochs = sql.execute("SELECT no, id FROM epoch ORDER BY no").fetchall()
            for number, epoch in epochs:
                classes = {each.value: _span(sql, number, kind) for each, kind in CLASS_NUMBERS.items()}
                if number == epochs[-1][0] or any(acknowledged < last for acknowledged, last in classes.values()):
                    found.append(JournalView(epoch, classes))
        return tuple(found)

    def pull(self, epoch: str, event_class: str, after: int, most: int) -> Pulled:
        """What follows ``after``. Raises ``ProtocolError`` for an epoch or class that this node does not have."""
        after, most = min(max(after, 0), SEQ_MASK), min(max(most, 1), MAX_PULL_EVENTS)
        with self._snapshot() as sql:
            row = sql.execute("SELECT no FROM epoch WHERE id = ?", (epoch,)).fetchone()
            try:
                known = EventClass(event_class)
            except ValueError:
                row = None
            if row is None:
                raise ProtocolError(f"no journal {epoch!r}/{event_class!r}", remedy="ask again after a new HELLO")
            number, kind = row[0], CLASS_NUMBERS[known]
            base = place(number, kind)
            rows, full = _at_most_a_packet(
                most,
                sql.execute(
                    "SELECT place, body FROM event WHERE place > ? AND place < ? ORDER BY place LIMIT ?",
                    (base + after, place(number, kind + 1), most),
                ),
            )
            gaps = [
                Gap(*gap)
                for gap in sql.execute(
                    "SELECT first, last, count, reason FROM gap WHERE epoch_no = ? AND class = ? AND last > ?"
                    " ORDER BY first LIMIT ?",
                    (number, kind, after, most),
                )
            ]
            held, _ = _span(sql, number, kind)
        gaps = [*_freed(after, held, rows, gaps, base), *gaps] if kind != AUDIT else gaps
        items = [(at - base, at - base, body) for at, body in rows]
        items += [(gap.first, gap.last, self._notice(gap, epoch, known)) for gap in gaps]
        # Where a list was cut short, what lies beyond its end belongs to a later pull.
        end = min(
            rows[-1][0] - base if full else SEQ_MASK,
            gaps[-1].last if len(gaps) >= most else SEQ_MASK,
        )
        return _packed([item for item in sorted(items) if item[0] <= end], after)

    def _notice(self, gap: Gap, epoch: str, event_class: EventClass) -> bytes:
        """A thinned range as an event without a number. Its id names the range, so that a repeat is a repeat."""
        return encode(
            Draft(event_class, DROPPED, "journal", EventsDropped(event_class.value, *msgspec.structs.astuple(gap))),
            origin=Origin(self._source, epoch, self._session),
            stamp=Stamp(self._clock.wall(), self._clock.mono(), self._clock.trusted()),
            event_id=f"{epoch}.{event_class.value}.{gap.first}-{gap.last}",
            seq=0,
            prev=None,
        )

    def audit(self, epoch: str = "", after: int = 0) -> Iterator[tuple[str, int, bytes, bytes]]:
        """(epoch, seq, body, hash) of every audit event kept, oldest epoch first; of one epoch where it is named."""
        with self._snapshot() as sql:
            epochs = sql.execute("SELECT no, id FROM epoch WHERE ? IN ('', id) ORDER BY no", (epoch,)).fetchall()
        for number, name in epochs:
            base, at = place(number, AUDIT), place(number, AUDIT, after)
            while rows := self._audit_rows(at, place(number, AUDIT + 1)):
                yield from ((name, seq_at - base, body, digest) for seq_at, body, digest in rows)
                at = rows[-1][0]

    def _audit_rows(self, after: int, end: int) -> list[tuple[int, bytes, bytes]]:
        with self._snapshot() as sql:
            return sql.execute(
                "SELECT place, body, hash FROM event WHERE place > ? AND place < ? ORDER BY place LIMIT ?",
                (after, end, AUDIT_ROWS),
            ).fetchall()

    def tail(self, count: int) -> list[CloudEvent]:
        """The last ``count`` events of the newest epoch in order of their id, which is the order of time."""
        with self._snapshot() as sql:
            number = sql.execute("SELECT coalesce(max(no), 0) FROM epoch").fetchone()[0]
            bodies = [
                body
                for kind in CLASS_NUMBERS.values()
                for (body,) in sql.execute(
                    "SELECT body FROM event WHERE place > ? AND place < ? ORDER BY place DESC LIMIT ?",
                    (place(number, kind), place(number, kind + 1), count),
                )
            ]
        return sorted(map(decode, bodies), key=lambda event: event.id)[-count:]

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        """One moment of the database for all that is read within."""
        sql = self._connection
        try:
            sql.execute("BEGIN")
            try:
                yield sql
            finally:
                if sql.in_transaction:
                    sql.execute("COMMIT")
        except sqlite3.Error as error:
            raise store_error(error) from error


def _at_most_a_packet(most: int, found: Iterable[tuple[int, bytes]]) -> tuple[list[tuple[int, bytes]], bool]:
    """The rows up to the one that a packet has no room for, and whether more may follow: those are not even read."""
    rows: list[tuple[int, bytes]] = []
    size = 0
    for row in found:
        rows.append(row)
        size += len(row[1])
        if size > PULL_BYTES:
            return rows, True
    return rows, len(rows) == most


def _span(sql: sqlite3.Connection, number: int, kind: int) -> tuple[int, int]:
    (low,) = sql.execute(
        "SELECT coalesce(min(seq), 0) FROM cursor WHERE epoch_no = ? AND class = ?", (number, kind)
    ).fetchone()
    return low, last_seq(sql, number, kind)


def _freed(after: int, held: int, rows: list[tuple[int, bytes]], gaps: list[Gap], base: int) -> list[Gap]:
    """What was deleted because every consumer had signed for it, and is asked for all the same.

    Whoever asks has lost it afterwards, in a restored copy say: told so, it knows its loss and can go on behind it.
    """
    there = [*(at - base for at, _ in rows[:1]), *(gap.first for gap in gaps[:1]), held + 1]
    last = min(there) - 1
    return [Gap(after + 1, last, last - after, "acknowledged")] if last > after else []


def _packed(items: list[tuple[int, int, bytes]], after: int) -> Pulled:
    """As many of the (first, last, bytes) as one packet holds, in their order."""
    bodies: list[bytes] = []
    size, upto = 0, after
    for _, last, body in items:
        size += len(body) + 5
        if size > PULL_BYTES and bodies:
            break
        bodies.append(body)
        upto = max(upto, last)
    return Pulled(tuple(bodies), upto)
