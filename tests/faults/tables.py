"""What node and collector have on their disks about each other, read from outside."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from edge.schema_sql import CLASS_NUMBERS, last_seq
from tests.faults.store import LOCK_S, Store

Place = tuple[str, str]
"""epoch, class"""


class Tables(msgspec.Struct):
    """``cursors``: what the node thinks the collector holds. ``held``: what it holds. Both may grow meanwhile."""

    last: dict[Place, int] = {}
    """The highest number the node ever gave."""
    cursors: dict[Place, int] = {}
    causes: list[str] = []
    """Why each epoch began, as the collector was told."""
    held: dict[Place, int] = {}
    audit: dict[tuple[str, int], bytes] = {}
    """Bodies that the collector calls held."""
    rows: dict[tuple[str, str, int], int] = {}
    """How many rows the collector has under one number."""
    dropped: dict[Place, list[tuple[int, int]]] = {}
    quarantined: set[tuple[str, int]] = set()
    presence: dict[str, Any] = {}
    epoch: str = ""
    """The node's newest."""


def read_tables(node: Path, store: Store) -> Tables:
    """The node first: what it thinks is held, the collector held before.

    Raises ``sqlite3.Error`` while the one is away, and ``AwayError`` while the other is.
    """
    found = Tables()
    with closing(sqlite3.connect(f"file:{node}?mode=ro", uri=True, timeout=LOCK_S)) as sql:
        sql.execute("BEGIN")
        names = {number: name.value for name, number in CLASS_NUMBERS.items()}
        for number, epoch in sql.execute("SELECT no, id FROM epoch ORDER BY no").fetchall():
            found.epoch = epoch
            for kind, name in names.items():
                found.last[epoch, name] = last_seq(sql, number, kind)
        query = "SELECT epoch.id, class, seq FROM cursor JOIN epoch ON epoch.no = epoch_no"
        found.cursors = {(epoch, names[kind]): seq for epoch, kind, seq in sql.execute(query)}
    with store.reading() as sql:
        _read_collector(sql, found)
    return found


def _read_collector(sql: Any, found: Tables) -> None:
    found.held = {(e, c): seq for e, c, seq in sql.execute("SELECT epoch, class, seq FROM stream")}
    query = "SELECT epoch, seq, body FROM held_event WHERE class = 'audit'"
    found.audit = {(epoch, seq): body for epoch, seq, body in sql.execute(query)}
    query = """SELECT epoch, class, event.seq, count(*) FROM event JOIN stream ON stream.id = stream
               WHERE event.seq <= stream.seq GROUP BY 1, 2, 3"""
    found.rows = {(e, c, seq): count for e, c, seq, count in sql.execute(query)}
    for epoch, name, first, last in sql.execute(
        "SELECT epoch, class, first, last FROM dropped JOIN stream ON stream.id = stream"
    ):
        found.dropped.setdefault((epoch, name), []).append((first, last))
    found.quarantined = set(sql.execute("SELECT epoch, seq FROM quarantine"))
    found.causes = [cause for (cause,) in sql.execute("SELECT cause FROM epoch ORDER BY epoch")]
    row = sql.execute("SELECT payload FROM presence").fetchone()
    found.presence = msgspec.json.decode(row[0]) if row else {}
