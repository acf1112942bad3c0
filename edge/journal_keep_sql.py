"""What becomes of events after they are written: acknowledged, kept for a while, thinned when space is short.

Each function is work for ``SqlJournal.write`` and runs in the writer thread, in small portions, so that no pickup
waits behind a large deletion.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from edge.acks import Ack
from edge.event import EventClass
from edge.journal import Gap, Limits, merge_gaps
from edge.journal_sql import SqlJournal, SqlTransaction
from edge.schema_sql import CLASS_NUMBERS

PORTION = 500
"""Rows deleted in one transaction: about a millisecond, so a caller behind it does not notice."""
THIN_TO = 0.9
"""Thinning goes on until the database is back at this share of its limit, so that it does not run at every event."""

_AUDIT = CLASS_NUMBERS[EventClass.AUDIT]


class Acknowledged(msgspec.Struct, frozen=True):
    """``refused`` is "" or one reason word: unknown_epoch, ahead_of_us, wrong_hash. ``want`` are the ranges worth
    sending.
    """

    refused: str
    want: tuple[tuple[str, str, int, int], ...] = ()


def apply_ack(
    journal: SqlJournal, transaction: SqlTransaction, consumer: str, ack: Ack, consumers: Sequence[str]
) -> Acknowledged:
    """Move ``consumer``'s cursors to what it says it holds; all of them or, if anything in the ack is wrong, none.

    An ack above the last seq of the newest epoch proves that our file is an older copy: a new epoch begins.
    """
    moves = []
    for epoch, classes in ack.journals.items():
        number = _epoch_number(transaction.sql, epoch)
        if number is None:
            return Acknowledged("unknown_epoch")
        for name, (seq, claimed) in classes.items():
            kind = CLASS_NUMBERS[EventClass(name)]
            refused, behind = _judge(journal, transaction.sql, number, kind, seq, claimed)
            if behind:
                journal.begin_epoch(transaction, cause="rolled_back", last_seq=seq, consumers=consumers)
            if refused:
                return Acknowledged(refused)
            moves.append((seq, consumer, number, kind, seq))
    transaction.sql.executemany(
        "UPDATE cursor SET seq = ? WHERE consumer = ? AND epoch_no = ? AND class = ? AND seq < ?", moves
    )
    return Acknowledged("", tuple(wanted for wanted in ack.want if _exists(transaction.sql, wanted)))


def _epoch_number(sql: sqlite3.Connection, epoch: str) -> int | None:
    row = sql.execute("SELECT no FROM epoch WHERE id = ?", (epoch,)).fetchone()
    return None if row is None else int(row[0])


def _judge(
    journal: SqlJournal, sql: sqlite3.Connection, number: int, kind: int, seq: int, claimed: str | None
) -> tuple[str, bool]:
    """("" or why the cursor may not stand at ``seq``, whether that proves our own file to be an older copy)."""
    newest = number == journal.head.epoch_no
    if newest:
        last = journal.head.last[_class(kind)]
    else:
        last = sql.execute(
            """SELECT max(coalesce((SELECT max(seq) FROM event WHERE epoch_no = :no AND class = :kind), 0),
                          coalesce((SELECT max(last) FROM gap WHERE epoch_no = :no AND class = :kind), 0),
                          coalesce((SELECT max(seq) FROM cursor WHERE epoch_no = :no AND class = :kind), 0))""",
            {"no": number, "kind": kind},
        ).fetchone()[0]
    if seq > last:
        return "ahead_of_us", newest
    if kind != _AUDIT or seq == 0:
        return "", False
    row = sql.execute(
        "SELECT hash FROM event WHERE epoch_no = ? AND class = ? AND seq = ?", (number, kind, seq)
    ).fetchone()
    if row is None:
        # Deleted long after every consumer held it: an old ack on its way, which moves nothing.
        return "", False
    return ("" if row[0].hex() == claimed else "wrong_hash"), False


def _class(kind: int) -> EventClass:
    return next(each for each, number in CLASS_NUMBERS.items() if number == kind)


def _exists(sql: sqlite3.Connection, wanted: tuple[str, str, int, int]) -> bool:
    epoch, name, first, last = wanted
    return (
        sql.execute(
            """SELECT 1 FROM event JOIN epoch ON epoch.no = epoch_no
               WHERE epoch.id = ? AND class = ? AND seq BETWEEN ? AND ? LIMIT 1""",
            (epoch, CLASS_NUMBERS[EventClass(name)], first, last),
        ).fetchone()
        is not None
    )


def used_bytes(sql: sqlite3.Connection) -> int:
    """Bytes of the database that hold something."""
    pages, free, size = (
        sql.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def delete_acknowledged(transaction: SqlTransaction, limits: Limits) -> int:
    """Delete a portion of what every consumer holds; audit only after its time, unless space is short. Returns rows."""
    sql = transaction.sql
    deleted = 0
    for number, kind, held in sql.execute(
        "SELECT epoch_no, class, min(seq) FROM cursor GROUP BY epoch_no, class"
    ).fetchall():
        if kind == _AUDIT:
            deleted += _delete_old_audit(transaction, limits, number, held)
        else:
            deleted += sql.execute(
                """DELETE FROM event WHERE epoch_no = :no AND class = :kind AND seq IN
                   (SELECT seq FROM event WHERE epoch_no = :no AND class = :kind AND seq <= :held ORDER BY seq LIMIT :most)""",
                {"no": number, "kind": kind, "held": held, "most": PORTION},
            ).rowcount
            sql.execute("DELETE FROM gap WHERE epoch_no = ? AND class = ? AND last <= ?", (number, kind, held))
    return deleted


def _delete_old_audit(transaction: SqlTransaction, limits: Limits, epoch_no: int, held: int) -> int:
    """Acknowledged audit older than its time; the newest row always stays, because the chain goes on from its hash."""
    sql = transaction.sql
    if not transaction.stamp.trusted:
        return 0
    crowded = used_bytes(sql) > limits.max_bytes
    rows = sql.execute(
        """SELECT seq, body FROM event WHERE epoch_no = :no AND class = 0 AND seq <= :held
           AND seq < (SELECT max(seq) FROM event WHERE epoch_no = :no AND class = 0) ORDER BY seq LIMIT :most""",
        {"no": epoch_no, "held": held, "most": PORTION},
    ).fetchall()
    oldest_kept = datetime.fromtimestamp(transaction.stamp.wall - limits.audit_s, UTC)
    last = 0
    for seq, body in rows:
        if not crowded and msgspec.json.decode(body, type=_Dated).time > oldest_kept:
            break
        last = seq
    return sql.execute("DELETE FROM event WHERE epoch_no = ? AND class = 0 AND seq <= ?", (epoch_no, last)).rowcount


class _Dated(msgspec.Struct):
    time: datetime


def thin(transaction: SqlTransaction, limits: Limits) -> int:
    """When the database is over its limit, give up a portion of telemetry, oldest first, then of superseded state.

    What goes is remembered as a gap, so that consumers can tell it from a loss. Audit is never touched. Returns rows.
    """
    sql = transaction.sql
    if used_bytes(sql) <= limits.max_bytes:
        return 0
    telemetry = sql.execute(
        "SELECT epoch_no, seq FROM event WHERE class = 2 ORDER BY epoch_no, seq LIMIT ?", (PORTION,)
    ).fetchall()
    if telemetry:
        return _give_up(sql, 2, telemetry)
    state = sql.execute(
        """SELECT epoch_no, seq FROM event WHERE class = 1 AND NOT EXISTS
           (SELECT 1 FROM newest_state AS n WHERE n.epoch_no = event.epoch_no AND n.seq = event.seq)
           ORDER BY epoch_no, seq LIMIT ?""",
        (PORTION,),
    ).fetchall()
    return _give_up(sql, 1, state)


def _give_up(sql: sqlite3.Connection, kind: int, rows: list[tuple[int, int]]) -> int:
    sql.executemany(
        "DELETE FROM event WHERE class = ? AND epoch_no = ? AND seq = ?", [(kind, number, seq) for number, seq in rows]
    )
    for number in {number for number, _ in rows}:
        fresh = [Gap(seq, seq, 1, "space") for owner, seq in rows if owner == number]
        # Only the neighbours can merge: the whole list of a long outage is not read for each portion.
        near = sql.execute(
            "SELECT first, last, count, reason FROM gap WHERE epoch_no = ? AND class = ? AND last >= ? AND first <= ?",
            (number, kind, fresh[0].first - 1, fresh[-1].last + 1),
        ).fetchall()
        sql.executemany(
            "DELETE FROM gap WHERE epoch_no = ? AND class = ? AND first = ?", [(number, kind, row[0]) for row in near]
        )
        merged = merge_gaps([*(Gap(*row) for row in near), *fresh])
        sql.executemany(
            "INSERT INTO gap (epoch_no, class, first, last, count, reason) VALUES (?, ?, ?, ?, ?, ?)",
            [(number, kind, gap.first, gap.last, gap.count, gap.reason) for gap in merged],
        )
    return len(rows)


def next_link(transaction: SqlTransaction, epoch: str) -> int:
    """The next link number of ``epoch``: higher than every one before, also after a crash."""
    name = f"link/{epoch}"
    transaction.sql.execute(
        """INSERT INTO fact (name, value) VALUES (?, '1')
           ON CONFLICT (name) DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT)""",
        (name,),
    )
    return int(transaction.sql.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()[0])
