"""The inbox: every command this node has taken; so one is done at most once, and a repeat hears what became of it."""

from __future__ import annotations

import hashlib
import sqlite3

from sqlalchemy import Column, Float, Integer, LargeBinary, MetaData, Table, Text

from edge.command import MAX_WAIT_S, Claims, Command
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

revision_table = Table(
    "revision",
    _metadata,
    # The first 16 bytes of the SHA-256 of the subject: the copies of a ledger hold thousands of them.
    Column("subject", LargeBinary, primary_key=True),
    Column("rev", Integer, nullable=False),
    # Wall seconds: whatever was signed before the revision above has expired by then.
    Column("until", Integer, nullable=False),
    sqlite_with_rowid=False,
)
"""The highest revision seen of each booking. A role's ledger copies hold it too: no rebuilt database goes back."""

KEPT_COMMANDS = 5_000
"""Commands remembered at least, whatever the clock says: a quarter of a year of a busy locker, and 5 MB."""
KEPT_S = 60 * 86_400.0
"""So long the answer to a finished command is remembered: no command may lie with a broker for longer than 45 days."""

_SELECT = "SELECT jti, digest, issuer, name, subject, result FROM command"


def create_inbox(connection: sqlite3.Connection) -> None:
    """The step that introduces the inbox."""
    create(connection, (_command,))


def create_revisions(connection: sqlite3.Connection) -> None:
    """The step that introduces the revisions of bookings."""
    create(connection, (revision_table,))


class SqlInbox:
    """``edge.command_desk.Inbox`` on the node's journal."""

    def __init__(self, journal: SqlJournal) -> None:
        self._journal = journal

    async def find(self, jti: str) -> Known | None:
        return await self._journal.write(lambda transaction: _find(transaction, jti))

    async def held_rev(self, subject: str) -> int:
        return await self._journal.write(lambda transaction: _held_rev(transaction, subject))

    async def reject(self, command: Command, result: bytes, event: Draft, *, seen: bool) -> None:
        def work(transaction: SqlTransaction) -> None:
            _insert(transaction, command, Status.REJECTED, result, event)
            if seen:
                _raise_rev(transaction, command.claims)

        await self._journal.write(work)

    def take(self, transaction: SqlTransaction, command: Command, status: Status, result: bytes, event: Draft) -> None:
        _insert(transaction, command, status, result, event)
        _raise_rev(transaction, command.claims)

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

    async def forget_old(self, passed: float) -> None:
        """Drop what can have no effect when it comes again. ``passed``: wall seconds that have surely gone by.

        A command that moves something is refused for its nonce, which its own run of the agent alone knew; a booking
        has expired before its revision is dropped, and until then that refuses it. What has no outcome yet stays.
        """

        def work(transaction: SqlTransaction) -> None:
            transaction.sql.execute("DELETE FROM revision WHERE until < ?", (int(passed),))
            transaction.sql.execute(
                f"""DELETE FROM command WHERE at < ? AND status <> ? AND rowid <=
                    (SELECT rowid FROM command ORDER BY rowid DESC LIMIT 1 OFFSET {KEPT_COMMANDS})""",
                (passed - KEPT_S, Status.ACCEPTED.value),
            )

        await self._journal.write(work)


def _held_rev(transaction: SqlTransaction, subject: str) -> int:
    row = transaction.sql.execute("SELECT rev FROM revision WHERE subject = ?", (_name(subject),)).fetchone()
    return 0 if row is None else int(row[0])


def _name(subject: str) -> bytes:
    return hashlib.sha256(subject.encode()).digest()[:16]


def _raise_rev(transaction: SqlTransaction, claims: Claims) -> None:
    """A booking's revision is spent with the command that carried it, in the same transaction."""
    if claims.rev is not None:
        transaction.sql.execute(
            """INSERT INTO revision VALUES (?1, ?2, ?3) ON CONFLICT (subject)
               DO UPDATE SET rev = max(rev, ?2), until = max(until, ?3)""",
            (_name(claims.subject), claims.rev, claims.iat + MAX_WAIT_S),
        )


def _find(transaction: SqlTransaction, jti: str) -> Known | None:
    row = transaction.sql.execute(f"{_SELECT} WHERE jti = ?", (jti,)).fetchone()
    return None if row is None else Known(*row)


def _insert(transaction: SqlTransaction, command: Command, status: Status, result: bytes, event: Draft) -> None:
    claims = command.claims
    row = (claims.jti, command.digest, claims.name, claims.subject, claims.iss, status.value, result)
    transaction.sql.execute("INSERT INTO command VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, transaction.stamp.wall))
    transaction.append(event)
