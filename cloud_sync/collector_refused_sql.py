"""What the collector does not take: counted by reason and minute, and kept where it contradicts a held row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Connection

MAX_QUARANTINE = 1000
"""Rows kept per node for a person to look at; further ones are only counted."""

Place = tuple[str, str, str, int, bytes]
"""source, epoch, class, seq, digest"""


def count(sql: Connection, source: str, reasons: Iterable[str], wall: float) -> None:
    """One row per reason and minute, however many there are. ``source`` is "" where no known node is named."""
    minute = int(wall // 60)
    for reason, times in Counter(reasons).items():
        sql.exec_driver_sql(
            """INSERT INTO refused (source, reason, minute, count) VALUES (?, ?, ?, ?)
               ON CONFLICT DO UPDATE SET count = count + excluded.count""",
            (source, reason, minute, times),
        )


def quarantine(sql: Connection, place: Place, body: bytes, reason: str, wall: float) -> None:
    """Keep a row that contradicts what is held, as long as there is room for its node."""
    kept = sql.exec_driver_sql("SELECT count(*) FROM quarantine WHERE source = ?", (place[0],)).scalar() or 0
    if kept < MAX_QUARANTINE:
        sql.exec_driver_sql(
            """INSERT OR IGNORE INTO quarantine (source, epoch, class, seq, digest, reason, at, body)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
            (*place, reason, wall, body),
        )


def set_aside(
    sql: Connection, stream: tuple[int, str, str, str], seq: int, digest: bytes, reason: str, wall: float
) -> None:
    """Move a stored row into quarantine. ``stream``: id, source, epoch, class."""
    number, *place = stream
    key = (number, seq, digest)
    body = sql.exec_driver_sql("SELECT body FROM event WHERE stream = ? AND seq = ? AND digest = ?", key).scalar()
    if body is None:
        return
    quarantine(sql, (place[0], place[1], place[2], seq, digest), body, reason, wall)
    sql.exec_driver_sql("DELETE FROM event WHERE stream = ? AND seq = ? AND digest = ?", key)
    count(sql, place[0], (reason,), wall)
