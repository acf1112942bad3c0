"""Bounds what nobody has proven yet: whoever can publish as a node fills that node's share of the disk, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

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

_UNPROVEN = text(
    "SELECT count(*), coalesce(sum(length(body) + :extra), 0) FROM event WHERE stream = :stream AND seq > :above"
)
_OLDEST = text("""
    SELECT event.id, length(body) + :extra FROM event JOIN stream ON stream.id = event.stream
    WHERE source = :source AND event.seq > stream.seq ORDER BY event.id LIMIT :most""")
_DELETE = text("DELETE FROM event WHERE id = :id")
_DELETE_RANGES = text("""
    DELETE FROM dropped WHERE stream = :stream AND last > :above AND id <= coalesce(
      (SELECT id FROM dropped WHERE stream = :stream AND last > :above ORDER BY id DESC LIMIT 1 OFFSET :most), 0)""")


def row_bytes(body: bytes) -> int:
    """What an event counts towards ``MAX_UNPROVEN_BYTES``."""
    return len(body) + _ROW_BYTES


def unproven(sql: Connection, stream: int, above: int) -> tuple[int, int]:
    """How many rows a stream has above its cursor, and their bytes as ``row_bytes`` counts them."""
    rows, size = sql.execute(_UNPROVEN, {"extra": _ROW_BYTES, "stream": stream, "above": above}).one()
    return int(rows), int(size)


def drop_oldest(sql: Connection, source: str, excess: int) -> int:
    """Delete at least ``excess`` bytes of a node's unproven rows, and say how many rows that were. The cursors that
    are written down have to be the present ones.

    Those that came first go, as they do for one seq and for invented epochs: who filled the room once, and goes away,
    keeps no true row out. A true row that goes is sent again, because it was not acknowledged.
    """
    dropped = 0
    while excess > 0:
        rows = sql.execute(_OLDEST, {"extra": _ROW_BYTES, "source": source, "most": _PORTION}).fetchall()
        if not rows:
            break
        going = []
        for number, size in rows:
            if excess <= 0:
                break
            going.append({"id": number})
            excess -= size
        sql.execute(_DELETE, going)
        dropped += len(going)
    return dropped


def drop_oldest_ranges(sql: Connection, stream: int, above: int) -> None:
    """Keep the newest ``MAX_RANGES`` ranges that the cursor has not passed."""
    sql.execute(_DELETE_RANGES, {"stream": stream, "above": above, "most": MAX_RANGES})
