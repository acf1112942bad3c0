"""Opens a node's database: rebuilds a damaged one, migrates an old one, and notices one that went back in time.

Every way in which the file may not be the one this node last wrote (restored, rolled back, cloned, rebuilt) ends in a
new epoch, so that no number is ever given to two different events.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from edge.anchor_file import Anchor, read_anchor
from edge.clock import Clock
from edge.durable_sql import make_durable
from edge.errors import StoreError, StoreFull
from edge.event import SEALED
from edge.identifiers import Randomness
from edge.journal import Head, Limits, Need, Sealer
from edge.journal_log_file import LOG_BYTES
from edge.journal_place_file import Place
from edge.journal_salvage_sql import rebuild_database
from edge.journal_sql import SqlJournal
from edge.journal_writer_sql import REBUILT, Item, Writer, store_error
from edge.reserve_file import Reserve
from edge.schema_sql import AUDIT, CLASS_NUMBERS, Step, last_seq, migrate, place, read_fact

__all__ = ["Opened", "Place", "open_journal"]

_SEAL_MARK = f'"type":"{SEALED}"'.encode()
_UNUSABLE = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_NOMEM,
}
"""Result codes that speak of rights, space or the disk; all others that opening can end with mean damage."""


class Opened(msgspec.Struct, frozen=True):
    """What opening found. ``quarantined`` is the damaged file set aside, None for a sound one."""

    journal: SqlJournal
    quarantined: Path | None


def open_journal(  # noqa: PLR0913  everything it touches is handed in
    files: Place,
    *,
    steps: Sequence[Step],
    rebuild: Callable[[sqlite3.Connection], None],
    consumers: Sequence[str],
    source: str,
    clock: Clock,
    random: Randomness,
    sealer: Sealer,
    limits: Limits,
) -> Opened:
    """Open or make the database and return its journal, not yet started.

    ``steps`` are the role's migrations; ``rebuild`` fills the role's own tables of a fresh database from its ledger
    copies, and may be called again after a crash. Raises ``StoreError`` when the directory cannot be used, the disk is
    full, or a newer release has written the database.
    """
    try:
        connection, quarantined = _open_sound(files, steps, rebuild)
    except sqlite3.Error as error:
        raise _unusable(files.database, error) from error
    except OSError as error:
        raise StoreError(f"{files.database}: {error.strerror}", remedy="look at the disk; nothing was lost") from error
    with _closed_on_failure(connection):
        try:
            _follow_consumers(connection, consumers)
            anchor = read_anchor(files.anchor)
            cause = _new_epoch_cause(connection, anchor, instance=sealer.kid)
            head = read_head(connection, clock)
        except sqlite3.Error as error:
            raise _unusable(files.database, error) from error
        reserve = Reserve(files.reserve, limits.reserve_bytes)
        reserve.hold()
        writer = Writer(
            connection,
            head=head,
            source=source,
            session=random(12).hex(),
            clock=clock,
            random=random,
            sealer=sealer,
            reserve=reserve,
            consumers=consumers,
        )
        if cause:
            _begin_epoch(writer, anchor, cause)
    return Opened(SqlJournal(writer, clock, files.suspect), quarantined)


@contextlib.contextmanager
def _closed_on_failure(connection: sqlite3.Connection) -> Iterator[None]:
    """Whatever ends the block early leaves no open database behind: who tries again finds it free."""
    with contextlib.ExitStack() as unless_well:
        unless_well.callback(connection.close)
        yield
        unless_well.pop_all()


def _open_sound(
    files: Place, steps: Sequence[Step], rebuild: Callable[[sqlite3.Connection], None]
) -> tuple[sqlite3.Connection, Path | None]:
    """A connection to a database that can be read, and where a damaged one was put."""
    files.finish_exchange()
    suspect = files.suspect.exists() and files.database.exists()
    connection = None if suspect else _open(files.database, steps)
    if connection is not None:
        with _closed_on_failure(connection):
            if files.remains() and connection.execute("SELECT 1 FROM epoch").fetchone() is None:
                # The database was lost: the role knows from elsewhere what its tables held.
                rebuild(connection)
        return connection, None
    aside = rebuild_database(files, steps, rebuild)
    connection = _open(files.database, steps)
    if connection is None:
        raise StoreError(f"{files.database} cannot be rebuilt", remedy="look at the disk; the old file lies beside it")
    return connection, aside


def _open(path: Path, steps: Sequence[Step]) -> sqlite3.Connection | None:
    """The writer thread's connection; None when the file is damaged where a start looks."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        with _closed_on_failure(connection):
            make_durable(connection)
            # Checkpoints run beside the writer (edge.journal_upkeep_asyncio); this bound holds if they are late.
            connection.execute("PRAGMA wal_autocheckpoint = 8000")
            connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
            migrate(connection, steps)
            # Touches the pages that a start needs anyway, so that damage there shows now.
            read_head(connection, None)
    except sqlite3.DatabaseError as error:
        if _code(error) not in _UNUSABLE:
            return None
        raise
    return connection


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF


def _unusable(path: Path, error: sqlite3.Error) -> StoreError:
    told = store_error(error)
    if isinstance(told, StoreFull):
        return told
    return StoreError(f"cannot open {path}: {error}", remedy="check that its directory exists and is ours")


def _follow_consumers(connection: sqlite3.Connection, consumers: Sequence[str]) -> None:
    """A consumer new in the configuration begins after what is there now; one taken out of it frees its rows.

    In a rebuilt database a cursor may have been lost: then that consumer is sent everything again.
    """
    known = {name for (name,) in connection.execute("SELECT DISTINCT consumer FROM cursor")}
    lost = read_fact(connection, REBUILT) is not None
    epochs = [number for (number,) in connection.execute("SELECT no FROM epoch")]
    connection.execute("BEGIN IMMEDIATE")
    for name in consumers:
        for number in epochs:
            for kind in CLASS_NUMBERS.values():
                last = 0 if lost or name in known else last_seq(connection, number, kind)
                connection.execute(
                    "INSERT OR IGNORE INTO cursor (consumer, epoch_no, class, starts, seq) VALUES (?, ?, ?, ?, ?)",
                    (name, number, kind, last + 1, last),
                )
    # Last, because until here these cursors may be all that remembers which numbers were given.
    for gone in known - set(consumers):
        connection.execute("DELETE FROM cursor WHERE consumer = ?", (gone,))
    connection.execute("COMMIT")


def read_head(connection: sqlite3.Connection, clock: Clock | None) -> Head:
    """Where the newest epoch ends; an empty head when there is none yet."""
    newest = connection.execute("SELECT no, id FROM epoch ORDER BY no DESC LIMIT 1").fetchone()
    if newest is None:
        return Head("", 0, {})
    number, epoch = newest
    starts = dict(
        connection.execute("SELECT consumer, starts FROM cursor WHERE epoch_no = ? AND class = ?", (number, AUDIT))
    )
    head = Head(epoch, number, starts)
    head.last = [last_seq(connection, number, kind) for kind in CLASS_NUMBERS.values()]
    # The newest audit row is never deleted, so its hash is the chain's; where damage took it, the one before is.
    base, head.last[AUDIT] = place(number, AUDIT), 0
    for at, body, digest in connection.execute(
        "SELECT place, body, hash FROM event WHERE place > ? AND place < ? ORDER BY place DESC",
        (base, place(number, AUDIT + 1)),
    ):
        if not head.last[AUDIT]:
            head.last[AUDIT], head.hash = at - base, digest
        if _SEAL_MARK in body:
            head.first_unsealed = at - base + 1
            break
    if head.unsealed and clock is not None:
        head.unsealed_since = clock.mono()
    return head


def _new_epoch_cause(connection: sqlite3.Connection, anchor: Anchor | None, *, instance: str) -> str:
    """Why a new epoch has to begin now; "" when this is the file we last wrote."""
    newest = connection.execute("SELECT id, instance, no FROM epoch ORDER BY no DESC LIMIT 1").fetchone()
    if read_fact(connection, REBUILT) is not None:
        return "quarantined"
    if newest is None:
        return "new" if anchor is None else "lost"
    epoch, written_by, number = newest
    if written_by != instance:
        return "cloned"
    if anchor is None:
        # The anchor is written after the first commit; a crash before it leaves a short journal without one.
        return ""
    if anchor.epoch != epoch:
        known = connection.execute("SELECT 1 FROM epoch WHERE id = ?", (anchor.epoch,)).fetchone()
        return "" if known else "restored"
    ahead = [at > last_seq(connection, number, kind) for kind, at in enumerate(anchor.last)]
    return "rolled_back" if any(ahead) else ""


def _begin_epoch(writer: Writer, anchor: Anchor | None, cause: str) -> None:
    """Before the journal starts, in the caller's thread. Raises ``StoreError`` when the disk does not take it."""
    head = writer.head
    previous = head.epoch or (anchor.epoch if anchor else "")
    # How far an epoch had come can be known only where its file is still whole.
    last = {"new": 0, "cloned": head.audit}.get(cause)
    item = Item(
        lambda transaction: transaction.begin_epoch(cause, previous=previous, last_seq=last), None, Need.COLLECTION
    )
    writer.write([item])
    if item.error is not None:
        raise item.error
