"""What a broker's answers may do to the journal, by cloud-sync's word alone: little, and to audit nothing."""

from __future__ import annotations

import math

from edge.contract import EventUnsendable
from edge.event import Draft, EventClass
from edge.journal_keep_sql import epoch_number, give_up
from edge.journal_writer_sql import SqlTransaction
from edge.link import Passed, Unsendable
from edge.schema_sql import AUDIT, CLASS_NUMBERS, STATE, last_seq, place

TOLD_EVERY_S = 60.0
"""Running seconds between two events about what cannot be sent: a cloud-sync that lies must not fill the journal."""
REASONS = frozenset({"too_large", "payload_invalid", "connection_lost"})
"""The words a consumer may find in the journal; whatever else cloud-sync says is "other"."""

_CLASSES = {each.value: number for each, number in CLASS_NUMBERS.items()}


def apply_puback(transaction: SqlTransaction, passed: Passed) -> str:
    """End state or telemetry that the broker has taken, for every consumer. "" or the reason word of a refusal."""
    sql = transaction.sql
    number, kind = epoch_number(sql, passed.epoch), _CLASSES.get(passed.event_class)
    if number is None or kind is None:
        return "unknown_epoch"
    if kind == AUDIT:
        return "audit_needs_a_receipt"
    upto = min(passed.upto, last_seq(sql, number, kind))
    sql.execute("UPDATE cursor SET seq = ? WHERE epoch_no = ? AND class = ? AND seq < ?", (upto, number, kind, upto))
    return ""


class UnsendableBook:
    """Events that no broker takes as they are: told in audit, at most once a minute, and never a hole in audit."""

    def __init__(self) -> None:
        self._told_at = -math.inf
        self._untold = 0

    def note(self, transaction: SqlTransaction, told: Unsendable) -> str:
        """Give a row of state or telemetry up, keep one of audit, and tell. "" or the reason word of a refusal."""
        sql, mono = transaction.sql, transaction.stamp.mono
        number, kind = epoch_number(sql, told.epoch), _CLASSES.get(told.event_class)
        if number is None or kind is None:
            return "unknown_epoch"
        at = place(number, kind, told.seq)
        if sql.execute("SELECT 1 FROM event WHERE place = ?", (at,)).fetchone() is None:
            return "unknown_event"
        if kind != AUDIT:
            give_up(sql, number, kind, [at], "unsendable")
        if kind == STATE:
            sql.execute("DELETE FROM newest_state WHERE place = ?", (at,))
        self._untold += 1
        if mono - self._told_at >= TOLD_EVERY_S:
            reason = told.reason if told.reason in REASONS else "other"
            transaction.append(_event(told, reason, self._untold))
            self._told_at, self._untold = mono, 0
        return ""


def _event(told: Unsendable, reason: str, count: int) -> Draft:
    event = EventUnsendable(
        epoch=told.epoch,
        event_class=EventClass(told.event_class).value,
        seq=told.seq,
        reason=reason,
        count=count,
    )
    return Draft(event.CLASS, event.TYPE, "journal", event)
