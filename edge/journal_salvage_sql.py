"""Makes a new database of what can still be read of a damaged one."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from edge.errors import ProtocolError
from edge.event import decode
from edge.journal import Gap, merge_gaps
from edge.journal_place_file import Place
from edge.journal_writer_sql import REBUILT
from edge.schema_sql import STATE, TELEMETRY, Step, epoch_no_of, migrate, place, write_fact

_KEYS = {
    "epoch": ("no",),
    "newest_state": ("subject",),
    "gap": ("epoch_no", "class", "first"),
    "cursor": ("consumer", "epoch_no", "class"),
    "fact": ("name",),
}
"""The journal's small tables and what orders them."""

_TYPES = {"INTEGER": int, "TEXT": str}
_BEHIND_ALL = (1 << 63) - 1
_STRIDE = 64
"""Rows stepped over where nothing can be read; doubled until something can."""
_FORWARDS = "SELECT place, body, hash FROM event WHERE place > ? ORDER BY place"
_BACKWARDS = "SELECT place, body, hash FROM event WHERE place > ? AND place < ? ORDER BY place DESC"


def rebuild_database(files: Place, steps: Sequence[Step], rebuild: Callable[[sqlite3.Connection], None]) -> Path:
    """Make a new database of the damaged one and exchange them; returns where the damaged one lies now.

    Events, cursors and facts are taken over unchanged as far as they can be read; state and telemetry that is gone is
    noted as such. ``rebuild`` fills the role's own tables. The damaged file is not touched until the new one is whole.
    """
    with closing(sqlite3.connect(files.rebuilt, isolation_level=None)) as fresh:
        # Nothing of it counts before it is whole and synced.
        fresh.execute("PRAGMA journal_mode = MEMORY")
        fresh.execute("PRAGMA synchronous = OFF")
        migrate(fresh, steps)
        with closing(sqlite3.connect(f"file:{files.database}?mode=ro", uri=True, isolation_level=None)) as old:
            # Without it SQLite reads nothing at all of a file that is shorter than its header says.
            old.execute("PRAGMA writable_schema = ON")
            _salvage(fresh, old)
        rebuild(fresh)
        write_fact(fresh, REBUILT, "1")
    with files.rebuilt.open("rb+") as file:
        os.fsync(file.fileno())
    return files.exchange()


def _salvage(fresh: sqlite3.Connection, old: sqlite3.Connection) -> None:
    fresh.execute("BEGIN IMMEDIATE")
    for table, keys in _KEYS.items():
        types = [_TYPES[column[2]] for column in fresh.execute(f"PRAGMA table_info({table})")]
        marks = ", ".join("?" * len(types))
        # From both ends, because damage sits somewhere in between.
        for order in (", ".join(keys), ", ".join(f"{key} DESC" for key in keys)):
            rows = _Readable(old, f"SELECT * FROM {table} ORDER BY {order}")
            fitting = (row for row in rows if all(map(isinstance, row, types)))
            fresh.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", fitting)
    events = (row for row in _events(old) if isinstance(row[1], bytes) and isinstance(row[2], bytes | None))
    fresh.executemany("INSERT OR IGNORE INTO event (place, body, hash) VALUES (?, ?, ?)", events)
    _name_epochs(fresh)
    for (number,) in fresh.execute("SELECT no FROM epoch").fetchall():
        for kind in (STATE, TELEMETRY):
            _note_holes(fresh, number, kind)
    fresh.execute("COMMIT")


class _Readable:
    """The rows of a query up to the first that cannot be read; ``broken`` says whether there was one."""

    def __init__(self, connection: sqlite3.Connection, query: str, *values: int) -> None:
        self._rows = self._read(connection, query, values)
        self.broken = False

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self._rows

    def _read(self, connection: sqlite3.Connection, query: str, values: tuple[int, ...]) -> Iterator[tuple[Any, ...]]:
        try:
            yield from connection.execute(query, values)
        except sqlite3.DatabaseError:
            self.broken = True


def _events(old: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """Every event that can be read: up to the damage, then from behind it back to it, and on from there."""
    at = -1
    while True:
        rows = _Readable(old, _FORWARDS, at)
        for row in rows:
            at = row[0]
            yield row
        behind = _behind(old, at) if rows.broken else None
        if behind is None:
            return
        yield from _Readable(old, _BACKWARDS, at, behind)
        at = behind - 1


def _behind(old: sqlite3.Connection, at: int) -> int | None:
    """A place behind the damage that follows ``at``, from which it can be read on; None when there is none."""
    stride = _STRIDE
    while at + stride < _BEHIND_ALL:
        rows = _Readable(old, f"{_FORWARDS} LIMIT 1", at + stride)
        for row in rows:
            return int(row[0])
        if not rows.broken:
            return at + stride + 1
        stride *= 2
    return None


def _name_epochs(fresh: sqlite3.Connection) -> None:
    """An epoch whose own row is lost is named by its events."""
    number = 0
    while found := fresh.execute(f"{_FORWARDS} LIMIT 1", (place(number + 1, 0) - 1,)).fetchone():
        number = epoch_no_of(found[0])
        if fresh.execute("SELECT 1 FROM epoch WHERE no = ?", (number,)).fetchone() is None:
            name = _epoch_of(found[1]) or f"unnamed-{number}"
            fresh.execute(
                "INSERT OR IGNORE INTO epoch (no, id, previous, instance) VALUES (?, ?, '', '')", (number, name)
            )


def _epoch_of(body: bytes) -> str:
    try:
        return decode(body).epoch
    except ProtocolError:
        return ""


def _note_holes(fresh: sqlite3.Connection, number: int, kind: int) -> None:
    """Tell numbers that nobody has and that are gone from those that were never given."""
    (held,) = fresh.execute(
        "SELECT coalesce(min(seq), 0) FROM cursor WHERE epoch_no = ? AND class = ?", (number, kind)
    ).fetchone()
    base = place(number, kind)
    missing = fresh.execute(
        """SELECT before + 1 - :base, place - 1 - :base FROM
           (SELECT place, lag(place, 1, :start) OVER (ORDER BY place) AS before
            FROM event WHERE place > :start AND place < :end) WHERE place > before + 1""",
        {"base": base, "start": base + held, "end": place(number, kind + 1)},
    ).fetchall()
    known = [
        Gap(*row)
        for row in fresh.execute(
            "SELECT first, last, count, reason FROM gap WHERE epoch_no = ? AND class = ? ORDER BY first", (number, kind)
        )
    ]
    holes = [hole for first, last in missing for hole in _without(first, last, known)]
    if holes:
        fresh.execute("DELETE FROM gap WHERE epoch_no = ? AND class = ?", (number, kind))
        fresh.executemany(
            "INSERT INTO gap (epoch_no, class, first, last, count, reason) VALUES (?, ?, ?, ?, ?, ?)",
            [(number, kind, gap.first, gap.last, gap.count, gap.reason) for gap in merge_gaps([*known, *holes])],
        )


def _without(first: int, last: int, known: Sequence[Gap]) -> Iterator[Gap]:
    """What of the numbers ``first`` to ``last`` is in none of the ``known`` gaps."""
    for gap in known:
        if gap.last < first or gap.first > last:
            continue
        if first < gap.first:
            yield Gap(first, gap.first - 1, gap.first - first, "damaged")
        first = gap.last + 1
    if first <= last:
        yield Gap(first, last, last - first + 1, "damaged")
