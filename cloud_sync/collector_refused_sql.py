"""What the collector does not take: counted by reason and minute, and kept where it contradicts a held row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

MAX_QUARANTINE = 1000
"""Rows kept per node for a person to look at; further ones are only counted."""

Place = tuple[str, str, str, int, bytes]
"""source, epoch, class, seq, digest"""

_COUNT = text("""
    INSERT INTO refused (source, reason, minute, count) VALUES (:source, :reason, :minute, :times)
    ON CONFLICT (source, reason, minute) DO UPDATE SET count = refused.count + excluded.count""")
_KEPT = text("SELECT count(*) FROM quarantine WHERE source = :source")
_KEEP = text("""
    INSERT INTO quarantine (source, epoch, class, seq, digest, reason, at, body)
    VALUES (:source, :epoch, :class, :seq, :digest, :reason, :at, :body) ON CONFLICT DO NOTHING""")
_BODY = text("SELECT body FROM event WHERE stream = :stream AND seq = :seq AND digest = :digest")
_DELETE = text("DELETE FROM event WHERE stream = :stream AND seq = :seq AND digest = :digest")


def count(sql: Connection, reasons: Mapping[str, Iterable[str]], wall: float) -> None:
    """One row per source, reason and minute, however many there are; source "" where no known node is named.

    Always in the same order: two workers that count the same things then wait for each other and do not block.
    """
    minute = int(wall // 60)
    rows = [
        {"source": source, "reason": reason, "minute": minute, "times": times}
        for source in sorted(reasons)
        for reason, times in sorted(Counter(reasons[source]).items())
    ]
    if rows:
        sql.execute(_COUNT, rows)


def quarantine(sql: Connection, place: Place, body: bytes, reason: str, wall: float) -> None:
    """Keep a row that contradicts what is held, as long as there is room for its node."""
    source, epoch, event_class, seq, digest = place
    kept = sql.execute(_KEPT, {"source": source}).scalar() or 0
    if kept < MAX_QUARANTINE:
        told = {"source": source, "epoch": epoch, "class": event_class, "seq": seq, "digest": digest}
        sql.execute(_KEEP, {**told, "reason": reason, "at": wall, "body": body})


def set_aside(sql: Connection, stream: int, place: Place, reason: str, wall: float) -> bool:
    """Move a stored row of the stream with the number ``stream`` into quarantine; whether it was there."""
    key = {"stream": stream, "seq": place[3], "digest": place[4]}
    body = sql.execute(_BODY, key).scalar()
    if body is None:
        return False
    quarantine(sql, place, bytes(body), reason, wall)
    sql.execute(_DELETE, key)
    return True
