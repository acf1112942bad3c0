"""Opens a node's database: quarantines a damaged one, migrates an old one, and notices one that went back in time.

Every way in which the file may not be the one this node last wrote (restored, rolled back, cloned, rebuilt) ends in a
new epoch, so that no number is ever given to two different events.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from edge.anchor_file import Anchor, read_anchor
from edge.clock import Clock
from edge.errors import StoreError
from edge.event import GENESIS, SEALED, EventClass
from edge.identifiers import Randomness
from edge.journal import Head, Limits, Sealer
from edge.journal_sql import SqlJournal
from edge.reserve_file import Reserve
from edge.schema_sql import CLASS_NUMBERS, Step, migrate

_AUDIT = CLASS_NUMBERS[EventClass.AUDIT]
_SALVAGED = ("epoch", "event", "newest_state", "gap", "cursor", "fact")
_SEAL_MARK = f'"type":"{SEALED}"'.encode()


class Place(msgspec.Struct, frozen=True):
    """The files of one node's store."""

    database: Path

    @property
    def anchor(self) -> Path:
        return self.database.with_suffix(".anchor")

    @property
    def reserve(self) -> Path:
        return self.database.with_suffix(".reserve")

    @property
    def suspect(self) -> Path:
        """Stands while the database is known to be damaged, so that the next start looks at every page."""
        return self.database.with_suffix(".suspect")


class Opened(msgspec.Struct, frozen=True):
    """What opening found. ``quarantined`` is the damaged file set aside, None for a sound one."""

    journal: SqlJournal
    quarantined: Path | None


def open_journal(
    place: Place,
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
    copies. Raises ``StoreError`` when the directory cannot be used.
    """
    connection, quarantined = _open_sound(place, steps)
    if quarantined is not None:
        _salvage(connection, quarantined)
        rebuild(connection)
    _follow_consumers(connection, consumers)
    anchor = read_anchor(place.anchor)
    cause = _new_epoch_cause(connection, anchor, instance=sealer.kid, quarantined=quarantined is not None)
    reserve = Reserve(place.reserve, limits.reserve_bytes)
    reserve.hold()
    journal = SqlJournal(
        connection,
        head=read_head(connection, clock),
        source=source,
        session=random(12).hex(),
        clock=clock,
        random=random,
        sealer=sealer,
        reserve=reserve,
    )
    if cause:
        journal.begin_epoch_now(cause=cause, last_seq=_known_last(journal.head, anchor, cause), consumers=consumers)
    place.suspect.unlink(missing_ok=True)
    return Opened(journal, quarantined)


def _open_sound(place: Place, steps: Sequence[Step]) -> tuple[sqlite3.Connection, Path | None]:
    path = place.database
    try:
        return _open(path, steps, thorough=place.suspect.exists()), None
    except sqlite3.OperationalError as error:
        raise StoreError(
            f"cannot open {path}: {error}", remedy="check that its directory exists and is ours"
        ) from error
    except sqlite3.DatabaseError:
        aside = _set_aside(path)
        return _open(path, steps, thorough=False), aside


def _open(path: Path, steps: Sequence[Step], *, thorough: bool) -> sqlite3.Connection:
    """A connection of the writer thread. ``thorough`` reads every page first: minutes on a large file, so only on
    suspicion.
    """
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        # Checkpoints run on the reader's side (edge.journal_keep_sql); this bound only holds if that task is late.
        connection.execute("PRAGMA wal_autocheckpoint = 8000")
        if thorough and connection.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("integrity check failed")
        migrate(connection, steps)
        # Touches the pages that a start needs anyway, so that damage there shows now.
        read_head(connection, None)
    except BaseException:
        connection.close()
        raise
    return connection


def _set_aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_suffix(f".quarantined-{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm"):
        companion = Path(f"{path}{suffix}")
        if companion.exists():
            companion.rename(f"{aside}{suffix}")
    path.rename(aside)
    return aside


def _salvage(connection: sqlite3.Connection, aside: Path) -> None:
    """Bring over every row that can still be read, unchanged; from both ends, because damage sits in the middle."""
    with sqlite3.connect(f"file:{aside}?mode=ro", uri=True, isolation_level=None) as old:
        connection.execute("BEGIN IMMEDIATE")
        for table in _SALVAGED:
            width = len(connection.execute(f"PRAGMA table_info({table})").fetchall())
            marks = ", ".join("?" * width)
            for direction in ("ASC", "DESC"):
                connection.executemany(
                    f"INSERT OR IGNORE INTO {table} VALUES ({marks})", _readable(old, table, direction, width)
                )
        connection.execute("COMMIT")
    old.close()


def _readable(old: sqlite3.Connection, table: str, direction: str, width: int) -> Iterator[tuple[object, ...]]:
    order = ", ".join(f"{column} {direction}" for column in range(1, min(width, 3) + 1))
    try:
        for row in old.execute(f"SELECT * FROM {table} ORDER BY {order}"):
            if len(row) == width:
                yield row
    except sqlite3.DatabaseError:
        return


def _follow_consumers(connection: sqlite3.Connection, consumers: Sequence[str]) -> None:
    """A consumer new in the configuration begins after what is there now; one taken out of it frees its rows."""
    known = {name for (name,) in connection.execute("SELECT DISTINCT consumer FROM cursor")}
    connection.execute("BEGIN IMMEDIATE")
    for gone in known - set(consumers):
        connection.execute("DELETE FROM cursor WHERE consumer = ?", (gone,))
    for fresh in set(consumers) - known:
        for (number,) in connection.execute("SELECT no FROM epoch").fetchall():
            for kind in CLASS_NUMBERS.values():
                last = last_seq(connection, number, kind)
                connection.execute(
                    "INSERT INTO cursor (consumer, epoch_no, class, starts, seq) VALUES (?, ?, ?, ?, ?)",
                    (fresh, number, kind, last + 1, last),
                )
    connection.execute("COMMIT")


def last_seq(connection: sqlite3.Connection, epoch_no: int, kind: int) -> int:
    """The highest seq ever given in an epoch and class, whether its row is still there or not."""
    (last,) = connection.execute(
        """SELECT max(coalesce((SELECT max(seq) FROM event WHERE epoch_no = :no AND class = :kind), 0),
                      coalesce((SELECT max(last) FROM gap WHERE epoch_no = :no AND class = :kind), 0),
                      coalesce((SELECT max(seq) FROM cursor WHERE epoch_no = :no AND class = :kind), 0))""",
        {"no": epoch_no, "kind": kind},
    ).fetchone()
    return int(last)


def read_head(connection: sqlite3.Connection, clock: Clock | None) -> Head:
    """Where the newest epoch ends; an empty head when there is none yet."""
    newest = connection.execute("SELECT no, id FROM epoch ORDER BY no DESC LIMIT 1").fetchone()
    if newest is None:
        return Head("", 0, {})
    number, epoch = newest
    starts = dict(
        connection.execute("SELECT consumer, starts FROM cursor WHERE epoch_no = ? AND class = ?", (number, _AUDIT))
    )
    head = Head(epoch, number, starts)
    head.last = {each: last_seq(connection, number, kind) for each, kind in CLASS_NUMBERS.items()}
    rows = connection.execute(
        "SELECT seq, body, hash FROM event WHERE epoch_no = ? AND class = ? ORDER BY seq DESC", (number, _AUDIT)
    )
    for index, (seq, body, digest) in enumerate(rows):
        if index == 0:
            head.hash = digest
        if _SEAL_MARK in body:
            head.first_unsealed = seq + 1
            break
    else:
        head.hash = head.hash or GENESIS
    if head.unsealed and clock is not None:
        head.unsealed_since = clock.mono()
    return head


def _new_epoch_cause(connection: sqlite3.Connection, anchor: Anchor | None, *, instance: str, quarantined: bool) -> str:
    """Why a new epoch has to begin now; "" when this is the file we last wrote."""
    if quarantined:
        return "quarantined"
    newest = connection.execute("SELECT id, instance, no FROM epoch ORDER BY no DESC LIMIT 1").fetchone()
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
    return "rolled_back" if anchor.audit_seq > last_seq(connection, number, _AUDIT) else ""


def _known_last(head: Head, anchor: Anchor | None, cause: str) -> int | None:
    """The last seq of the epoch before, where it can be known: not when the file that had it is gone or too old."""
    if cause == "new":
        return 0
    if cause == "cloned":
        return head.last[EventClass.AUDIT]
    return None
