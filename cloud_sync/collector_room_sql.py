"""Bounds what nobody has proven yet: whoever can publish as a node fills that node's share of the disk, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.event import MAX_EVENT_BYTES

if TYPE_CHECKING:
    from sqlalchemy import Connection

MAX_UNPROVEN_BYTES = 32 * 1024 * 1024
"""Unproven rows of one node, looked at each time it is settled: a second's worth at 50,000 events/s of 400 bytes. Until
the next look as much again may come in; what is refused then the node sends again."""
MAX_RANGES = 2000
"""Thinned ranges of one stream above its cursor. Neighbouring ranges are one, so a node has as many as it kept rows."""
_ROW_BYTES = 256
"""What a row takes beside its body: two hashes, the index, and the words that are columns of their own."""
_PORTION = 4 * MAX_UNPROVEN_BYTES // MAX_EVENT_BYTES
"""Rows deleted by one statement."""


def row_bytes(body: bytes) -> int:
    """What an event counts towards ``MAX_UNPROVEN_BYTES``."""
    return len(body) + _ROW_BYTES


def unproven_bytes(sql: Connection, stream: int, above: int) -> int:
    """The same of all rows of a stream above its cursor."""
    found = sql.exec_driver_sql(
        "SELECT total(length(body) + ?) FROM event WHERE stream = ? AND seq > ?", (_ROW_BYTES, stream, above)
    )
    return int(found.scalar() or 0)


def drop_oldest(sql: Connection, source: str, excess: int) -> int:
    """Delete at least ``excess`` bytes of a node's unproven rows, and say how many rows that were.

    Those that came first go, as they do for one seq and for invented epochs: who filled the room once, and goes away,
    keeps no true row out. A true row that goes is sent again, because it was not acknowledged.
    """
    dropped = 0
    while excess > 0:
        rows = sql.exec_driver_sql(
            """SELECT event.id, length(body) + ? FROM event JOIN stream ON stream.id = event.stream
               WHERE source = ? AND event.seq > stream.seq ORDER BY event.id LIMIT ?""",
            (_ROW_BYTES, source, _PORTION),
        ).fetchall()
        if not rows:
            break
        going = []
        for number, size in rows:
            if excess <= 0:
                break
            going.append((number,))
            excess -= size
        sql.exec_driver_sql("DELETE FROM event WHERE id = ?", going)
        dropped += len(going)
    return dropped


def drop_oldest_ranges(sql: Connection, stream: int, above: int) -> None:
    """Keep the newest ``MAX_RANGES`` ranges that the cursor has not passed."""
    sql.exec_driver_sql(
        """DELETE FROM dropped WHERE rowid IN (SELECT rowid FROM dropped WHERE stream = ? AND last > ?
           ORDER BY rowid DESC LIMIT -1 OFFSET ?)""",
        (stream, above, MAX_RANGES),
    )
