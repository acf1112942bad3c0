"""Moves the cursors of one node as far as its rows prove, and says what may be acknowledged and what lacks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sqlalchemy import text

from cloud_sync.collector import Standing, begun_by, is_epoch
from cloud_sync.collector_refused_sql import count, set_aside
from cloud_sync.collector_room_sql import MAX_UNPROVEN_BYTES, drop_oldest, drop_oldest_ranges, unproven
from cloud_sync.collector_streams_sql import Known, Stream, proven
from cloud_sync.presence import decode
from cloud_sync.settling import Candidate, Settled, settle_audit, settle_plain
from cloud_sync.wants import MAX_WANTED, OPEN_END, Gap, Planned, plan
from edge.acks import MAX_JOURNALS
from edge.errors import ProtocolError
from edge.event import EventClass

if TYPE_CHECKING:
    from sqlalchemy import Connection

MAX_RIVALS = 4
"""Rows for one seq that wait for a seal; the oldest makes room."""
SETTLE_ROWS = 50_000
"""Rows looked at in one go; what is left follows at once."""

_AUDIT, _STATE = EventClass.AUDIT.value, EventClass.STATE.value

_CANDIDATES = text(
    "SELECT seq, digest, prev, start FROM event WHERE stream = :stream AND seq > :seq ORDER BY seq LIMIT :n"
)
_ROWS = text("SELECT seq, digest FROM event WHERE stream = :stream AND seq > :seq ORDER BY seq, id LIMIT :n")
_RANGES = text("SELECT first, last FROM dropped WHERE stream = :stream AND last > :seq ORDER BY first LIMIT :n")
_THIN = text("""
    DELETE FROM event WHERE id IN (
      SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY seq ORDER BY id DESC) AS place
                      FROM event WHERE stream = :stream AND seq > :seq) AS ranked WHERE place > :most)""")
_SKIP = text("DELETE FROM event WHERE stream = :stream AND seq BETWEEN :first AND :last")
_KEEP = text("""
    UPDATE stream SET seq = :seq, digest = :digest, heard = :heard, reach = :reach, unproven = :unproven,
      pending = :pending, waiting = :waiting WHERE id = :id""")
_NO_LONGER_FRESH = text("DELETE FROM fresh WHERE source = :source")
_ENDS = text("SELECT previous, kept_seq, kept_hash FROM epoch WHERE source = :source")
_BEGINNING = text("SELECT body FROM event WHERE stream = :stream AND seq = 1")
_LEARN = text("""
    INSERT INTO epoch (source, epoch, previous, cause, last_seq, kept_seq, kept_hash)
    VALUES (:source, :epoch, :previous, :cause, :last, :kept_seq, :kept_hash) ON CONFLICT DO NOTHING""")
_LAST = text("SELECT max(seq) FROM event WHERE stream = :stream")
_PRESENCE = text("SELECT payload FROM presence WHERE source = :source")
_WANTED = text("SELECT epoch, class, first, last, due, pause, since FROM wanted WHERE source = :source")
_UNWANT = text("DELETE FROM wanted WHERE source = :source AND epoch = :epoch AND class = :class AND first = :first")
_WANT = text("""
    INSERT INTO wanted (source, epoch, class, first, last, due, pause, since)
    VALUES (:source, :epoch, :class, :first, :last, :due, :pause, :since)
    ON CONFLICT (source, epoch, class, first)
    DO UPDATE SET last = excluded.last, due = excluded.due, pause = excluded.pause""")


class Settling:
    """One node in one transaction that holds its lock alone."""

    def __init__(self, sql: Connection, source: str, known: Known, wall: float) -> None:
        self._sql = sql
        self._source = source
        self._known = known
        self._wall = wall
        self._refused: list[str] = []
        self._ends = {epoch: (seq, bytes(link)) for epoch, seq, link in sql.execute(_ENDS, {"source": source})}
        """By epoch that is over: where a later epoch's sealed first event says that its chain ends."""
        told = sql.execute(_PRESENCE, {"source": source}).scalar()
        self._present = _epoch_of(bytes(told)) if told is not None else ""
        """The epoch that the node is in, as its presence says; "" where none has come."""
        self._wanted = {
            (epoch, name, first): Planned(*rest)
            for epoch, name, first, *rest in sql.execute(_WANTED, {"source": source})
        }

    def settle(self, *, ask_all: bool) -> Standing:
        """``ask_all``: the store may have lost what it had acknowledged, so ask for all that follows its cursors."""
        standing = Standing(fresh=bool(self._sql.execute(_NO_LONGER_FRESH, {"source": self._source}).rowcount))
        self._recall_gaps()
        looked: dict[int, Stream] = {}
        while dirty := [stream for stream in self._known.values() if stream.dirty]:
            for stream in dirty:
                stream.dirty = False
                looked[stream.id] = stream
                # A forger can invent epochs: the rows of such a one stay unproven, whatever their class.
                if stream.event_class is EventClass.AUDIT or proven(self._known, stream.epoch):
                    standing.alarms += self._settle_stream(stream)
        for stream in looked.values():
            self._keep(stream)
        self._bound(list(looked.values()))
        self._tell(standing)
        standing.want = self._plan(standing)
        if ask_all:
            standing.want = [*self._all_that_follows(standing), *standing.want][:MAX_WANTED]
        count(self._sql, {self._source: self._refused}, self._wall)
        return standing

    def _recall_gaps(self) -> None:
        gaps: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
        for (epoch, name, first), planned in sorted(self._wanted.items()):
            gaps[epoch, name].append((first, planned.last))
        for key, stream in self._known.items():
            stream.missing = [gap for gap in gaps[key] if gap[1] != OPEN_END]

    def _settle_stream(self, stream: Stream) -> int:
        before = stream.cursor
        settled = self._audit(stream) if stream.event_class is EventClass.AUDIT else self._plain(stream)
        stream.cursor, stream.missing, stream.reach = settled.cursor, settled.missing, settled.reach
        for reason, rows in (("not_in_chain", settled.rivals), ("forked", settled.forked)):
            for seq, digest in rows:
                place = (stream.source, stream.epoch, stream.event_class.value, seq, digest)
                if set_aside(self._sql, stream.id, place, reason, self._wall):
                    self._refused.append(reason)
        if settled.skipped:
            first, last = settled.skipped
            self._sql.execute(_SKIP, {"stream": stream.id, "first": first, "last": last})
        if before.seq == 0 < settled.cursor.seq and stream.event_class is EventClass.AUDIT:
            self._touch(stream.epoch)
            self._learn_epoch(stream)
        return len(settled.rivals) + len(settled.forked)

    def _audit(self, stream: Stream) -> Settled:
        end = self._ends.get(stream.epoch, (0, b""))
        key = {"stream": stream.id, "seq": stream.cursor.seq, "n": SETTLE_ROWS}
        rows = self._sql.execute(_CANDIDATES, key).cursor.fetchall()
        settled = settle_audit(
            stream.cursor,
            [
                Candidate(seq, digest, prev, start is not None or (seq, digest) == end, start or 0)
                for seq, digest, prev, start in rows
            ],
        )
        stream.dirty = len(rows) == SETTLE_ROWS and settled.cursor.seq > stream.cursor.seq
        if len(rows) > len({row[0] for row in rows}):
            self._sql.execute(_THIN, {"stream": stream.id, "seq": settled.cursor.seq, "most": MAX_RIVALS})
        return settled

    def _plain(self, stream: Stream) -> Settled:
        key = {"stream": stream.id, "seq": stream.cursor.seq, "n": SETTLE_ROWS}
        rows = self._sql.execute(_ROWS, key).cursor.fetchall()
        gone = [(first, last) for first, last in self._sql.execute(_RANGES, key)]
        # Once a held event says that another epoch followed, no row is added to this one any more.
        settled = settle_plain(stream.cursor, rows, gone, ended=stream.epoch in self._ends)
        stream.dirty = SETTLE_ROWS in (len(rows), len(gone)) and settled.cursor.seq > stream.cursor.seq
        return settled

    def _touch(self, epoch: str) -> None:
        """Have all classes of ``epoch`` looked at again."""
        for (other, _), stream in self._known.items():
            stream.dirty = stream.dirty or other == epoch

    def _learn_epoch(self, stream: Stream) -> None:
        """Note what the epoch's first event, held now, says of the one before; that one may settle further by it."""
        body = self._sql.execute(_BEGINNING, {"stream": stream.id}).scalar()
        begun = begun_by(bytes(body)) if body is not None else None
        if begun is None:
            return
        kept = bytes.fromhex(begun.kept_hash)
        told = {"source": stream.source, "epoch": stream.epoch, "previous": begun.previous, "cause": begun.cause}
        self._sql.execute(_LEARN, {**told, "last": begun.last_seq, "kept_seq": begun.kept_seq, "kept_hash": kept})
        self._ends[begun.previous] = (begun.kept_seq, kept)
        self._touch(begun.previous)

    def _keep(self, stream: Stream) -> None:
        """Write down where the stream stands."""
        before = stream.pending
        stream.pending, stream.unproven = unproven(self._sql, stream.id, stream.cursor.seq)
        if not stream.pending:
            stream.waiting = None
        elif stream.waiting is None or stream.pending < before:
            stream.waiting = self._wall
        drop_oldest_ranges(self._sql, stream.id, stream.cursor.seq)
        self._update(stream)

    def _update(self, stream: Stream) -> None:
        told = {"seq": stream.cursor.seq, "digest": stream.cursor.digest, "heard": stream.heard, "reach": stream.reach}
        size = {"unproven": stream.unproven, "pending": stream.pending, "waiting": stream.waiting}
        self._sql.execute(_KEEP, {**told, **size, "id": stream.id})

    def _bound(self, looked: list[Stream]) -> None:
        excess = sum(stream.unproven for stream in self._known.values()) - MAX_UNPROVEN_BYTES
        if excess <= 0 or not looked:
            return
        dropped = drop_oldest(self._sql, self._source, excess)
        self._refused += ["made_room"] * dropped
        for stream in self._known.values():
            stream.pending, stream.unproven = unproven(self._sql, stream.id, stream.cursor.seq)
            self._update(stream)

    def _tell(self, standing: Standing) -> None:
        for (epoch, name), stream in self._known.items():
            if proven(self._known, epoch) and stream.cursor.seq:
                at = (stream.cursor.seq, stream.cursor.digest.hex() if name == _AUDIT else None)
                standing.journals.setdefault(epoch, {})[name] = at
            standing.missing += [(epoch, name, *gap) for gap in stream.missing]
        standing.missing += self._missing_ends()
        # A forger can invent epochs; what is proven is asked for first.
        standing.missing.sort(key=lambda gap: gap[0] not in standing.journals)

    def _missing_ends(self) -> Iterator[Gap]:
        """What lacks behind the last row of an ended epoch: no later row of its own shows it, the next epoch's first
        does. And what of the present epoch has not even begun to come: the node's presence names it. Telemetry is not
        asked for so: a node may have none.

        So a consumer finds out what it lost, in a restored copy say, after it had signed for it.
        """
        for epoch, (end, _) in self._ends.items():
            stream = self._known.get((epoch, _AUDIT))
            last = self._last_seq(stream) if stream and end else 0
            if last < end:
                yield epoch, _AUDIT, last + 1, end
        for name in (_AUDIT, _STATE) if self._present else ():
            if (self._present, name) not in self._known:
                yield self._present, name, 1, OPEN_END

    def _last_seq(self, stream: Stream) -> int:
        return max(self._sql.execute(_LAST, {"stream": stream.id}).scalar() or 0, stream.cursor.seq)

    def _plan(self, standing: Standing) -> list[Gap]:
        """Keep the plan of what to ask for, and say what is due."""
        planned, due = plan(self._wanted, standing.missing, self._wall)
        for epoch, name, first in self._wanted.keys() - planned.keys():
            self._sql.execute(_UNWANT, {"source": self._source, "epoch": epoch, "class": name, "first": first})
        for (epoch, name, first), each in planned.items():
            if each != self._wanted.get((epoch, name, first)):
                place = {"source": self._source, "epoch": epoch, "class": name, "first": first, "last": each.last}
                self._sql.execute(_WANT, {**place, "due": each.due, "pause": each.pause, "since": each.since})
        return due

    def _all_that_follows(self, standing: Standing) -> list[Gap]:
        return [
            (epoch, name, max(stream.cursor.seq, stream.reach) + 1, OPEN_END)
            for (epoch, name), stream in self._known.items()
            if epoch in [self._present, *list(standing.journals)[-MAX_JOURNALS:]]
        ]


def _epoch_of(presence: bytes) -> str:
    """The epoch that a presence names; "" when it names none that an ack could ask for. Nobody has signed it."""
    try:
        epoch = decode(presence).epoch
    except ProtocolError:
        return ""
    return epoch if is_epoch(epoch) else ""
