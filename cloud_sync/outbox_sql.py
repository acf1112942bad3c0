"""The outbox's file: signed commands and what their nodes said of them, in SQLite, each change one transaction.

Several processes may use one file: every change reads the state it starts from within its own transaction.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import (
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert as insert_or
from sqlalchemy.schema import CreateIndex

from cloud_sync.outbox import FINAL, Entry, Input, State, after
from edge.clock import Clock
from edge.durable_sql import make_durable
from edge.errors import ConfigError, StoreCorrupt, StoreError, StoreFull
from edge.schema_sql import compiled, create, migrate

T = TypeVar("T")

KEEP_S = 90 * 86_400.0
"""How long what is final stays for people to ask about: twice the longest life of a command."""
MAX_ANSWERS = 16
"""Kept of one command. A node answers a repeat with the same bytes, which are kept once; a refusal for missing rights
is signed anew each time."""
BUSY_S = 10.0
"""Another process may be writing; each change takes milliseconds."""

metadata = MetaData()

command = Table(
    "command",
    metadata,
    Column("jti", Text, primary_key=True),
    Column("node", Text, nullable=False),
    Column("audience", Text, nullable=False),
    Column("issuer", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("rev", Integer, nullable=False),
    Column("made", Float, nullable=False),
    Column("until", Float, nullable=False),
    Column("token", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("final", Integer, nullable=False),
    Column("changed", Float, nullable=False),  # wall seconds
    Column("answer", LargeBinary),  # the node's word that brought it into its state
)
by_final = Index("command_final", command.c.final, command.c.audience, command.c.subject)

answer = Table(
    "answer",
    metadata,
    Column("jti", Text, ForeignKey("command.jti", ondelete="CASCADE"), primary_key=True),
    Column("token", LargeBinary, primary_key=True),
    Column("heard", Float, nullable=False),  # wall seconds
)

revision = Table(
    "revision",
    metadata,
    Column("node", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("rev", Integer, nullable=False),
)

_ENTRY = [each for each in command.c if each.name in Entry.__struct_fields__]
_KEEP = compiled(insert(command))
_FIND = compiled(select(*_ENTRY, command.c.state, command.c.answer).where(command.c.jti == bindparam("jti")))
_OPEN = compiled(
    select(*_ENTRY, command.c.state).where(command.c.final == literal_column("0")).order_by(command.c.made)
)
_LOWER = compiled(
    select(func.count()).where(
        command.c.final == literal_column("0"),
        command.c.audience == bindparam("audience"),
        command.c.subject == bindparam("subject"),
        # What has no revision is no booking.
        command.c.rev.between(literal_column("1"), bindparam("rev") - literal_column("1")),
    )
)
_SAME = compiled(
    select(command.c.jti).where(
        command.c.final == literal_column("0"),
        *(command.c[each] == bindparam(each) for each in ("audience", "name", "subject")),
    )
)
_NEWEST = compiled(
    select(*_ENTRY, command.c.state, command.c.answer)
    .order_by(command.c.made.desc())
    .limit(bindparam("most"))
    .offset(literal_column("0"))
)
_MOVE = compiled(
    update(command)
    .where(command.c.jti == bindparam("jti_"))
    .values({each: bindparam(each) for each in ("state", "final", "changed", "answer")})
)
_ANSWERS = compiled(select(answer.c.token).where(answer.c.jti == bindparam("jti")).order_by(answer.c.heard))
_ANSWERED = compiled(insert_or(answer).on_conflict_do_nothing())
_REVISED = compiled(
    select(revision.c.rev).where(*(revision.c[each] == bindparam(each) for each in ("node", "subject")))
)
_REVISE = compiled(
    insert_or(revision).on_conflict_do_update(
        index_elements=["node", "subject"], set_={"rev": insert_or(revision).excluded.rev}
    )
)
_FORGET = compiled(
    delete(command).where(command.c.final == literal_column("1"), command.c.changed < bindparam("before"))
)


class OutboxStore:
    """``cloud_sync.outbox_asyncio.Store`` on a file that this user alone can read.

    One connection in one thread of its own. Every method raises ``StoreError`` and its kinds; nothing was kept then.
    """

    def __init__(self, path: str, *, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outbox-store")

    async def open(self) -> None:
        """Open or create the file, and forget what has been final for ``KEEP_S``."""
        await self._run(self._open)

    async def close(self) -> None:
        """Close the file; a store that was never opened closes as well."""
        await self._run(self._close)
        self._thread.shutdown()

    async def keep(self, entry: Entry, *, alone: bool = False) -> None:
        """Commit a command before anybody may see its bytes. Raises ``StoreError`` also when its id is there.

        ``alone``: raises ``ConfigError`` while another command of this name for the same subject has no last word, also
        one that another process has kept since somebody looked.
        """
        await self._run(lambda: self._keep(entry, alone=alone))

    async def record(self, jti: str, happened: Input, token: bytes = b"") -> State:
        """Commit what happened, with the node's word where it is one, and return the state it leads to.

        Raises ``StoreError`` for a command that is not kept here.
        """
        return await self._run(lambda: self._record(jti, happened, token))

    async def find(self, jti: str) -> tuple[Entry, State, bytes] | None:
        """A command, its state and the node's word that brought it there (empty where none did)."""
        return await self._run(lambda: self._find(jti))

    async def pending(self) -> list[tuple[Entry, State]]:
        """All that is not final, the oldest first."""
        return await self._run(self._pending)

    async def is_next(self, entry: Entry) -> bool:
        """Whether no lower revision of the same booking is open."""
        return await self._run(lambda: self._is_next(entry))

    async def newest(self, most: int) -> list[tuple[Entry, State, bytes]]:
        """The newest commands, final or not."""
        return await self._run(lambda: self._newest(most))

    async def answers(self, jti: str) -> list[bytes]:
        """Every different word of the node on a command, in the order heard."""
        return await self._run(lambda: self._answers(jti))

    async def next_rev(self, node: str, subject: str) -> int:
        """A revision above every one before. It is used up even when nothing is signed with it.

        It is also no lower than the seconds since 1970, so that an issuer with another outbox, or one whose outbox was
        lost, does not begin below what the node has seen.
        """
        return await self._run(lambda: self._next_rev(node, subject))

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _open(self) -> None:
        path = Path(self._path)
        try:
            # Signed bytes that a node may still take lie in it.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise ConfigError(
                f"outbox {path}: {error.strerror}", remedy="name a file in a directory that this user can write"
            ) from error
        with _told_as(self._path):
            connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            self._connection = connection
            # A node may open a door for what was published, so what was published has to survive a power cut.
            make_durable(connection)
            connection.execute("PRAGMA foreign_keys = ON")
            migrate(connection, [_create])
            if self._clock.trusted():
                connection.execute(_FORGET, {"before": self._clock.wall() - KEEP_S})

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._opened()
        with _told_as(self._path):
            connection.execute("BEGIN IMMEDIATE")
            whole = False
            try:
                yield connection
                connection.execute("COMMIT")
                whole = True
            finally:
                if not whole and connection.in_transaction:
                    connection.execute("ROLLBACK")

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError("the outbox is not open", remedy="open it first")
        return self._connection

    def _keep(self, entry: Entry, *, alone: bool) -> None:
        row = {name: getattr(entry, name) for name in Entry.__struct_fields__}
        now = self._clock.wall()
        with self._transaction() as sql:
            place = {"audience": entry.audience, "name": entry.name, "subject": entry.subject}
            if alone and (same := sql.execute(_SAME, place).fetchone()) is not None:
                raise undecided(same[0], entry.name, entry.subject)
            sql.execute(_KEEP, row | {"state": State.SIGNED.value, "final": 0, "changed": now, "answer": None})

    def _record(self, jti: str, happened: Input, token: bytes) -> State:
        now = self._clock.wall()
        with self._transaction() as sql:
            row = sql.execute(_FIND, {"jti": jti}).fetchone()
            if row is None:
                raise StoreError(f"no command {jti} in {self._path}", remedy="ask with the outbox it was signed into")
            *_, state, word = row
            before = State(state)
            then = after(before, happened)
            if token and len(sql.execute(_ANSWERS, {"jti": jti}).fetchall()) < MAX_ANSWERS:
                sql.execute(_ANSWERED, {"jti": jti, "token": token, "heard": now})
            if then is not before:
                word = token or word
                sql.execute(
                    _MOVE,
                    {"jti_": jti, "state": then.value, "final": int(then in FINAL), "changed": now, "answer": word},
                )
            return then

    def _find(self, jti: str) -> tuple[Entry, State, bytes] | None:
        with _told_as(self._path), closing(self._opened().execute(_FIND, {"jti": jti})) as found:
            row = found.fetchone()
        return None if row is None else _with_word(row)

    def _pending(self) -> list[tuple[Entry, State]]:
        with _told_as(self._path):
            return [(Entry(*row[:-1]), State(row[-1])) for row in self._opened().execute(_OPEN)]

    def _is_next(self, entry: Entry) -> bool:
        if not entry.rev:
            return True
        with _told_as(self._path):
            place = {"audience": entry.audience, "subject": entry.subject, "rev": entry.rev}
            (lower,) = self._opened().execute(_LOWER, place).fetchone()
        return not lower

    def _newest(self, most: int) -> list[tuple[Entry, State, bytes]]:
        with _told_as(self._path):
            return [_with_word(row) for row in self._opened().execute(_NEWEST, {"most": most})]

    def _answers(self, jti: str) -> list[bytes]:
        with _told_as(self._path):
            return [token for (token,) in self._opened().execute(_ANSWERS, {"jti": jti})]

    def _next_rev(self, node: str, subject: str) -> int:
        with self._transaction() as sql:
            row = sql.execute(_REVISED, {"node": node, "subject": subject}).fetchone()
            rev = max(int(row[0]) + 1 if row else 1, int(self._clock.wall()))
            sql.execute(_REVISE, {"node": node, "subject": subject, "rev": rev})
            return rev


def undecided(jti: str, name: str, subject: str) -> ConfigError:
    """Why no second command of this name is signed for ``subject``."""
    return ConfigError(
        f"the command {jti} ({name} {subject}) has no outcome yet",
        remedy=f"ask for it before you sign another: lastmile command result {jti}",
    )


def _create(connection: sqlite3.Connection) -> None:
    create(connection, (command, answer, revision))
    connection.execute(compiled(CreateIndex(by_final)))


def _with_word(row: tuple[object, ...]) -> tuple[Entry, State, bytes]:
    *members, state, word = row
    return Entry(*members), State(state), word if isinstance(word, bytes) else b""  # type: ignore[arg-type]


@contextmanager
def _told_as(path: str) -> Iterator[None]:
    """Turn the driver's errors into ours."""
    try:
        yield
    except sqlite3.Error as error:
        what = f"{path}: {error}"
        code = getattr(error, "sqlite_errorcode", None)  # the driver's own complaints have none
        if code == sqlite3.SQLITE_FULL:
            raise StoreFull(what, remedy="free disk space; nothing was signed for, nothing was sent") from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise StoreCorrupt(
                what, remedy="put the file aside and look at the node for what was done; sign nothing again before"
            ) from error
        raise StoreError(what, remedy="check that this user can write the file, and that its disk works") from error
