"""How a collector's nodes stand, in figures: read from the few rows per node that settling writes down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import text

from cloud_sync.wants import OPEN_END

if TYPE_CHECKING:
    from sqlalchemy import Connection

_TOTALS = text("""
    SELECT count(DISTINCT source), coalesce(sum(seq), 0), coalesce(sum(pending), 0), coalesce(sum(unproven), 0),
           min(waiting) FROM stream""")
_GAPS = text(
    "SELECT count(*), count(DISTINCT source), coalesce(sum(last - first + 1), 0) FROM wanted WHERE last < :open"
)
_QUARANTINE = text("SELECT count(*) FROM quarantine")
_REFUSED = text("SELECT reason, sum(count) FROM refused GROUP BY reason")
_WORST = text("""
    SELECT source, sum(pending), min(waiting), (SELECT coalesce(sum(last - first + 1), 0) FROM wanted
                                               WHERE wanted.source = stream.source AND last < :open) AS missing
    FROM stream WHERE pending > 0 OR source IN (SELECT source FROM wanted WHERE last < :open)
    GROUP BY source ORDER BY coalesce(min(waiting), :now), missing DESC, source LIMIT :most""")
_ONE = text("""
    SELECT source, sum(pending), min(waiting), (SELECT coalesce(sum(last - first + 1), 0) FROM wanted
                                               WHERE wanted.source = stream.source AND last < :open) AS missing
    FROM stream WHERE source = :source GROUP BY source""")


class NodeFigures(msgspec.Struct, frozen=True):
    """``pending``: rows above the cursors; ``lag``: seconds since rows wait and no cursor moved; ``missing``: events
    in known gaps.
    """

    source: str
    pending: int
    lag: float
    missing: int


class Figures(msgspec.Struct, frozen=True):
    """Of all nodes together. ``numbers``: the sum of all cursors; ``lag``: of the node that waits for longest."""

    nodes: int
    numbers: int
    pending: int
    unproven_bytes: int
    lag: float
    gaps: int
    nodes_with_gaps: int
    missing: int
    quarantined: int
    refused: dict[str, int]
    worst: tuple[NodeFigures, ...]


def figures(sql: Connection, *, now: float, worst: int) -> Figures:
    """``now``: wall seconds; ``worst``: how many nodes to name, those that wait for longest."""
    nodes, numbers, pending, unproven, waiting = sql.execute(_TOTALS).one()
    gaps, with_gaps, missing = sql.execute(_GAPS, {"open": OPEN_END}).one()
    rows = sql.execute(_WORST, {"open": OPEN_END, "now": now, "most": worst})
    return Figures(
        nodes=nodes,
        numbers=int(numbers),
        pending=int(pending),
        unproven_bytes=int(unproven),
        lag=_since(waiting, now),
        gaps=gaps,
        nodes_with_gaps=with_gaps,
        missing=int(missing),
        quarantined=int(sql.execute(_QUARANTINE).scalar() or 0),
        refused={reason: int(times) for reason, times in sql.execute(_REFUSED)},
        worst=tuple(_of_node(row, now) for row in rows),
    )


def node_figures(sql: Connection, source: str, *, now: float) -> NodeFigures | None:
    """Of one node; None when nothing of it has ever come."""
    row = sql.execute(_ONE, {"open": OPEN_END, "source": source}).one_or_none()
    return None if row is None else _of_node(row, now)


def _of_node(row: Sequence[Any], now: float) -> NodeFigures:
    source, pending, waiting, missing = row
    return NodeFigures(source, int(pending), _since(waiting, now), int(missing))


def _since(waiting: float | None, now: float) -> float:
    return 0.0 if waiting is None else max(0.0, now - waiting)
