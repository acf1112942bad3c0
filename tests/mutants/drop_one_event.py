"""The first opening of every run is kept in the ledger and left out of the journal before it is numbered."""

from __future__ import annotations

from edge.event import Draft
from edge.journal_sql import SqlTransaction
from locker.contract import DoorOpened


def apply() -> None:
    append = SqlTransaction.append
    dropped: list[Draft] = []

    def forgetful(transaction: SqlTransaction, draft: Draft) -> None:
        if draft.type == DoorOpened.TYPE and not dropped:
            dropped.append(draft)
        else:
            append(transaction, draft)

    SqlTransaction.append = forgetful  # type: ignore[assignment,method-assign]
