"""What becomes of events after they are written: acknowledged, kept for a while, thinned when space is short.

Each function is work for ``SqlJournal.write`` and runs in the writer thread, in small portions, so that no pickup
waits behind a large deletion.
"""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime

import msgspec

from edge.acks import Ack
from edge.event import EventClass
from edge.journal import Gap, Limits, merge_gaps
from edge.journal_writer_sql import SqlTransaction
from edge.schema_sql import (
    AUDIT,
    CLASS_NUMBERS,
    STATE,
    TELEMETRY,
    last_seq,
    place,
    read_fact,
    write_fact,
)

PORTION = 500
"""Rows deleted in one transaction: about a millisecond, so a caller behind it does not notice."""

_FORKED = "forked/"
"""With an epoch's id: a consumer holds another history of it than we do."""


class Acknowledged(msgspec.Struct, frozen=True):
    """``refused`` is "" or one reason word: unknown_epoch, ahead_of_us, wrong_hash. ``want`` are the ranges worth
    sending.
    """

    refused: str
    want: tuple[tuple[str, str, int, int], ...] = ()


def apply_ack(transaction: SqlTransaction, consumer: str, ack: Ack) -> Acknowledged:
    """Move ``consumer``'s cursors to what it says it holds; none if it does not fit the newest epoch's audit chain.

    An ack that does not fit an epoch which this run found in the file proves that the file is an older copy: a new
    epoch begins. Of the old one the consumer then holds more than we know, or another history; what of it is the same
    still counts. Only audit proves anything: state and telemetry carry no signature, so a broker can make a consumer
    count further than we ever did.
    """
    sql, moves, known = transaction.sql, [], False
    for epoch, classes in ack.journals.items():
        number = epoch_number(sql, epoch)
        if number is None:
            continue  # of a file that is lost: nothing of it can be freed here
        known = True
        for name, (seq, claimed) in classes.items():
            kind = CLASS_NUMBERS[EventClass(name)]
            upto = min(seq, last_seq(sql, number, kind))
            wrong = _doubt(sql, number, seq, claimed) if kind == AUDIT else ""
            if wrong and number == transaction.head.epoch_no:
                _part_from_history(transaction, seq)
                return Acknowledged(wrong)
            if wrong == "wrong_hash" or (wrong and read_fact(sql, _FORKED + epoch) is not None):
                continue  # another history of an epoch that is over: nothing of it can be freed, and the others stand
            # Ahead of an epoch that is over: the file went back before anything was added, so what we have, it has.
            moves.append((upto, consumer, number, kind, upto))
    if ack.journals and not known:
        return Acknowledged("unknown_epoch")
    sql.executemany("UPDATE cursor SET seq = ? WHERE consumer = ? AND epoch_no = ? AND class = ? AND seq < ?", moves)
    return Acknowledged("", tuple(wanted for wanted in ack.want if _exists(sql, wanted)))


def _part_from_history(transaction: SqlTransaction, last: int | None) -> None:
    """Begin a new epoch, unless this run began the present one itself: that cannot have been rolled back."""
    head = transaction.head
    if head.inherited:
        write_fact(transaction.sql, _FORKED + head.epoch, "1")
        transaction.begin_epoch("rolled_back", previous=head.epoch, last_seq=last)


def epoch_number(sql: sqlite3.Connection, epoch: str) -> int | None:
    row = sql.execute("SELECT no FROM epoch WHERE id = ?", (epoch,)).fetchone()
    return None if row is None else int(row[0])


def _doubt(sql: sqlite3.Connection, number: int, seq: int, claimed: str | None) -> str:
    """Why the audit cursor may not stand at ``seq``; "" when it may."""
    if seq > last_seq(sql, number, AUDIT):
        return "ahead_of_us"
    if seq == 0:
        return ""
    row = sql.execute("SELECT hash FROM event WHERE place = ?", (place(number, AUDIT, seq),)).fetchone()
    # A row that is gone was deleted long after every consumer held it: an old ack on its way, which moves nothing.
    return "" if row is None or row[0].hex() == claimed else "wrong_hash"


def _exists(sql: sqlite3.Connection, wanted: tuple[str, str, int, int]) -> bool:
    epoch, name, first, last = wanted
    number, kind = epoch_number(sql, epoch), CLASS_NUMBERS[EventClass(name)]
    end = 0 if number is None else last_seq(sql, number, kind)
    if number is None or first > end:
        return False
    if kind != AUDIT:
        return True  # a row, or the word that it was thinned, or deleted because everybody held it
    low, high = place(number, kind, first), place(number, kind, min(last, end))
    return sql.execute("SELECT 1 FROM event WHERE place BETWEEN ? AND ? LIMIT 1", (low, high)).fetchone() is not None


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
        if kind == AUDIT:
            deleted += _delete_old_audit(transaction, limits, number, held)
            continue
        low, high = place(number, kind), place(number, kind, held)
        deleted += sql.execute(
            """DELETE FROM event WHERE place IN
               (SELECT place FROM event WHERE place > ? AND place <= ? ORDER BY place LIMIT ?)""",
            (low, high, PORTION),
        ).rowcount
        sql.execute("DELETE FROM gap WHERE epoch_no = ? AND class = ? AND last <= ?", (number, kind, held))
        if kind == STATE:
            sql.execute("DELETE FROM newest_state WHERE place > ? AND place <= ?", (low, high))
    return deleted


def _delete_old_audit(transaction: SqlTransaction, limits: Limits, number: int, held: int) -> int:
    """Acknowledged audit older than its time; the newest row always stays, because the chain goes on from its hash."""
    sql, stamp = transaction.sql, transaction.stamp
    crowded = used_bytes(sql) > limits.max_bytes
    if not crowded and not stamp.trusted:
        return 0
    base = place(number, AUDIT)
    newest = last_seq(sql, number, AUDIT)
    oldest_kept = datetime.fromtimestamp(stamp.wall - limits.audit_s, UTC)
    last = base
    for at, body in sql.execute(
        "SELECT place, body FROM event WHERE place > ? AND place <= ? ORDER BY place LIMIT ?",
        (base, base + min(held, newest - 1), PORTION),
    ):
        if not crowded and msgspec.json.decode(body, type=_Dated).time > oldest_kept:
            break
        last = at
    return sql.execute("DELETE FROM event WHERE place > ? AND place <= ?", (base, last)).rowcount


class _Dated(msgspec.Struct):
    time: datetime


def thin(transaction: SqlTransaction, limits: Limits) -> int:
    """When the database is over its limit, give up a portion of telemetry, oldest first, then of superseded state.

    What goes is remembered as a gap, so that consumers can tell it from a loss. Audit is never touched. Returns rows.
    """
    sql = transaction.sql
    if used_bytes(sql) <= limits.max_bytes:
        return 0
    numbers = [number for (number,) in sql.execute("SELECT no FROM epoch ORDER BY no")]
    for kind, superseded in (
        (TELEMETRY, ""),
        (STATE, "AND place NOT IN (SELECT place FROM newest_state)"),
    ):
        for number in numbers:
            rows = sql.execute(
                f"SELECT place FROM event WHERE place > ? AND place < ? {superseded} ORDER BY place LIMIT ?",
                (place(number, kind), place(number, kind + 1), PORTION),
            ).fetchall()
            if rows:
                return give_up(sql, number, kind, [at for (at,) in rows], "space")
    return 0


def give_up(sql: sqlite3.Connection, number: int, kind: int, places: list[int], reason: str) -> int:
    """Delete rows of state or telemetry, in rising order, and remember them as ranges. Returns how many."""
    sql.executemany("DELETE FROM event WHERE place = ?", [(at,) for at in places])
    base = place(number, kind)
    fresh = [Gap(at - base, at - base, 1, reason) for at in places]
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
    return len(places)


def next_link(transaction: SqlTransaction, epoch: str) -> int:
    """The next link number of ``epoch``: higher than every one before, also after a crash."""
    name = f"link/{epoch}"
    transaction.sql.execute(
        """INSERT INTO fact (name, value) VALUES (?, '1')
           ON CONFLICT (name) DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT)""",
        (name,),
    )
    return int(transaction.sql.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()[0])
