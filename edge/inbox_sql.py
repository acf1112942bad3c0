"""The inbox: every command this node has taken; so one is done at most once, and a repeat hears what became of it."""

from __future__ import annotations

import sqlite3

from sqlalchemy import Column, Float, LargeBinary, MetaData, Table, Text

from edge.command import Command
from edge.command_desk import Known
from edge.event import Draft
from edge.journal_sql import SqlJournal, SqlTransaction
from edge.result import Status
from edge.schema_sql import create

_metadata = MetaData()

_command = Table(
    "command",
    _metadata,
    Column("jti", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("issuer", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("result", LargeBinary, nullable=False),
    Column("at", Float, nullable=False),
)


_SELECT = "SELECT jti, digest, issuer, name, subject, result FROM command"


def create_inbox(connection: sqlite3.Connection) -> None:
    """The step that introduces the inbox."""
    create(connection, (_command,))


class SqlInbox:
    """``edge.command_desk.Inbox`` on the node's journal."""

    def __init__(self, journal: SqlJournal) -> None:
        self._journal = journal

    async def find(self, jti: str) -> Known | None:
        return await self._journal.write(lambda transaction: _find(transaction, jti))

    async def reject(self, command: Command, result: bytes, event: Draft) -> None:
        await self._journal.write(lambda transaction: _insert(transaction, command, Status.REJECTED, result, event))

    def take(self, transaction: SqlTransaction, command: Command, result: bytes, event: Draft) -> None:
        _insert(transaction, command, Status.ACCEPTED, result, event)

    async def finish(self, jti: str, status: Status, result: bytes, event: Draft) -> None:
        def work(transaction: SqlTransaction) -> None:
            ended = transaction.sql.execute(
                "UPDATE command SET status = ?, result = ? WHERE jti = ? AND status = ?",
                (status.value, result, jti, Status.ACCEPTED.value),
            )
            if ended.rowcount:
                transaction.append(event)

        await self._journal.write(work)

    async def unfinished(self) -> list[Known]:
        return await self._journal.write(
            lambda transaction: [
                Known(*row) for row in transaction.sql.execute(f"{_SELECT} WHERE status = ?", (Status.ACCEPTED.value,))
            ]
        )


def _find(transaction: SqlTransaction, jti: str) -> Known | None:
    row = transaction.sql.execute(f"{_SELECT} WHERE jti = ?", (jti,)).fetchone()
    return None if row is None else Known(*row)


def _insert(transaction: SqlTransaction, command: Command, status: Status, result: bytes, event: Draft) -> None:
    claims = command.claims
    row = (claims.jti, command.digest, claims.name, claims.subject, claims.iss, status.value, result)
    transaction.sql.execute("INSERT INTO command VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, transaction.stamp.wall))
    transaction.append(event)
