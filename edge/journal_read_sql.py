"""Reads the journal for cloud-sync and for people, on connections of its own: a reader never holds up the writer."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edge.clock import Clock
from edge.errors import ProtocolError
from edge.event import DROPPED, CloudEvent, Draft, EventClass, EventsDropped, Origin, Stamp, encode
from edge.journal import Gap
from edge.link import MAX_PULL_EVENTS, PULL_BYTES, JournalView
from edge.schema_sql import CLASS_NUMBERS


class Pulled(msgspec.Struct, frozen=True):
    """Event bytes in order of seq with thinned ranges in between, and the last seq that they cover."""

    bodies: tuple[bytes, ...]
    upto: int


class JournalReader:
    """One read-only connection; to be used from one thread at a time."""

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
        newest = self._connection.execute("SELECT max(no) FROM epoch").fetchone()[0]
        for number, epoch in self._connection.execute("SELECT no, id FROM epoch ORDER BY no").fetchall():
            classes = {each.value: self._span(number, kind) for each, kind in CLASS_NUMBERS.items()}
            if number == newest or any(acknowledged < last for acknowledged, last in classes.values()):
                found.append(JournalView(epoch, classes))
        return tuple(found)

    def _span(self, epoch_no: int, kind: int) -> tuple[int, int]:
        low, high = self._connection.execute(
            "SELECT coalesce(min(seq), 0), coalesce(max(seq), 0) FROM cursor WHERE epoch_no = ? AND class = ?",
            (epoch_no, kind),
        ).fetchone()
        last, gap = self._connection.execute(
            """SELECT (SELECT max(seq) FROM event WHERE epoch_no = :no AND class = :kind),
                      (SELECT max(last) FROM gap WHERE epoch_no = :no AND class = :kind)""",
            {"no": epoch_no, "kind": kind},
        ).fetchone()
        return low, max(high, last or 0, gap or 0)

    def pull(self, epoch: str, event_class: str, after: int, most: int) -> Pulled:
        """What follows ``after``. Raises ``ProtocolError`` for an epoch or class that this node does not have."""
        row = self._connection.execute("SELECT no FROM epoch WHERE id = ?", (epoch,)).fetchone()
        try:
            known = EventClass(event_class)
        except ValueError:
            row = None
        if row is None:
            raise ProtocolError(f"no journal {epoch!r}/{event_class!r}", remedy="ask again after a new HELLO")
        key = {"no": row[0], "kind": CLASS_NUMBERS[known], "after": after, "most": min(most, MAX_PULL_EVENTS)}
        rows = self._connection.execute(
            "SELECT seq, body FROM event WHERE epoch_no = :no AND class = :kind AND seq > :after ORDER BY seq LIMIT :most",
            key,
        ).fetchall()
        found = self._connection.execute(
            "SELECT first, last, count, reason FROM gap WHERE epoch_no = :no AND class = :kind AND last > :after"
            " ORDER BY first LIMIT :most",
            key,
        ).fetchall()
        gaps = [Gap(*row) for row in found]
        if len(rows) == key["most"]:
            # Ranges beyond the last row read here belong to a later pull.
            gaps = [gap for gap in gaps if gap.first < rows[-1][0]]
        items = [(seq, seq, body) for seq, body in rows]
        items += [(gap.first, gap.last, self._notice(gap, epoch, known)) for gap in gaps]
        return _packed(sorted(items), after)

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
        yield from self._connection.execute(
            """SELECT epoch.id, seq, body, hash FROM event JOIN epoch ON epoch.no = event.epoch_no
               WHERE class = 0 AND (:epoch = '' OR epoch.id = :epoch) AND seq > :after ORDER BY epoch_no, seq""",
            {"epoch": epoch, "after": after},
        )

    def tail(self, count: int) -> list[CloudEvent]:
        """The last ``count`` events of the newest epoch in order of their id, which is the order of time."""
        rows = self._connection.execute(
            "SELECT body FROM event WHERE epoch_no = (SELECT max(no) FROM epoch) ORDER BY seq DESC LIMIT ?",
            (3 * count,),
        )
        events = [msgspec.json.decode(body, type=CloudEvent) for (body,) in rows]
        return sorted(events, key=lambda event: event.id)[-count:]


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
