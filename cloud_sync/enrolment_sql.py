"""What the enrolment service remembers, in one SQLite file: claims, role keys, certificates, and what happened.

The service and the command line use it side by side. Every transaction takes the file's write lock at its beginning,
so of two that want the same claim the second sees what the first has done.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
from sqlalchemy import Column, Float, Integer, MetaData, Table, Text

from cloud_sync.authority import Revocation
from cloud_sync.known_nodes import KnownKey
from edge.certificate import Certificate
from edge.durable_sql import make_durable
from edge.errors import StoreError
from edge.keys import VerifyKey
from edge.schema_sql import create, migrate, read_fact, write_fact

LOCK_S = 10.0
"""For another transaction to end; each takes milliseconds."""
REFUSALS_KEPT_S = 90 * 86_400.0
"""Refusals are counted, not listed; after so long the count is of no use."""

metadata = MetaData()
_TABLES = (
    Table(
        "claim",
        metadata,
        Column("digest", Text, primary_key=True),
        Column("node", Text, nullable=False),
        Column("made_at", Float, nullable=False),
        Column("expires_at", Float, nullable=False),
        Column("used_at", Float),
        Column("kid", Text),
        Column("thumbprint", Text),
    ),
    Table(
        "role_key",
        metadata,
        Column("kid", Text, primary_key=True),
        Column("node", Text, nullable=False, index=True),
        Column("jwk", Text, nullable=False),
        Column("since", Float, nullable=False),
        Column("until", Float),
    ),
    Table(
        "certificate",
        metadata,
        Column("serial", Text, primary_key=True),
        Column("node", Text, nullable=False, index=True),
        Column("thumbprint", Text, nullable=False),
        Column("pem", Text, nullable=False),
        Column("not_before", Float, nullable=False),
        Column("not_after", Float, nullable=False),
        Column("revoked_at", Float),
    ),
    Table(
        "happening",
        metadata,
        Column("no", Integer, primary_key=True),
        Column("at", Float, nullable=False),
        Column("what", Text, nullable=False),
        Column("node", Text, nullable=False),
        Column("detail", Text, nullable=False),
    ),
    Table(
        "refusal",
        metadata,
        Column("minute", Integer, primary_key=True),
        Column("reason", Text, primary_key=True),
        Column("node", Text, primary_key=True),
        Column("count", Integer, nullable=False),
    ),
    Table("fact", metadata, Column("name", Text, primary_key=True), Column("value", Text, nullable=False)),
)


class Claim(msgspec.Struct, frozen=True):
    """A claim as it is kept. ``kid`` and ``thumbprint``: the keys it was used for."""

    node: str
    expires_at: float
    used_at: float | None
    kid: str | None
    thumbprint: str | None


class Issued(msgspec.Struct, frozen=True):
    """A certificate that was given out."""

    serial: str
    node: str
    thumbprint: str
    pem: str
    not_before: float
    not_after: float
    revoked_at: float | None


class Happening(msgspec.Struct, frozen=True):
    at: float
    what: str
    node: str
    detail: str


class Register:
    """The file at ``path``; it is made when it is used for the first time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def transaction(self) -> Iterator[Records]:
        """All of it or nothing. Raises ``StoreError``."""
        try:
            with closing(self._connect()) as sql:
                sql.execute("BEGIN IMMEDIATE")
                try:
                    yield Records(sql)
                except BaseException:
                    sql.execute("ROLLBACK")
                    raise
                sql.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreError(
                f"{self._path}: {error}", remedy="look at the disk and the file's rights; nothing was given out"
            ) from error

    def _connect(self) -> sqlite3.Connection:
        fresh = not self._path.exists()
        sql = sqlite3.connect(self._path, timeout=LOCK_S, isolation_level=None)
        if fresh:
            self._path.chmod(0o600)
        # A claim that is used must stay used over a power cut.
        make_durable(sql)
        migrate(sql, (lambda connection: create(connection, _TABLES),))
        return sql


class Records:
    """The rows, within one transaction."""

    def __init__(self, sql: sqlite3.Connection) -> None:
        self._sql = sql

    # Claims.

    def add_claim(self, digest: str, node: str, *, made_at: float, expires_at: float) -> None:
        """An earlier claim for the same name that nobody has used is void."""
        self.void_claims(node)
        self._sql.execute(
            "INSERT INTO claim (digest, node, made_at, expires_at) VALUES (?, ?, ?, ?)",
            (digest, node, made_at, expires_at),
        )

    def void_claims(self, node: str) -> None:
        self._sql.execute("DELETE FROM claim WHERE node = ? AND used_at IS NULL", (node,))

    def claim(self, digest: str) -> Claim | None:
        row = self._sql.execute(
            "SELECT node, expires_at, used_at, kid, thumbprint FROM claim WHERE digest = ?", (digest,)
        ).fetchone()
        return None if row is None else Claim(*row)

    def use_claim(self, digest: str, *, kid: str, thumbprint: str, at: float) -> bool:
        """False when it was used before."""
        done = self._sql.execute(
            "UPDATE claim SET used_at = ?, kid = ?, thumbprint = ? WHERE digest = ? AND used_at IS NULL",
            (at, kid, thumbprint, digest),
        )
        return done.rowcount == 1

    # Role keys.

    def add_key(self, node: str, key: VerifyKey, at: float) -> None:
        jwk = msgspec.json.encode(key.jwk()).decode()
        self._sql.execute("INSERT INTO role_key (kid, node, jwk, since) VALUES (?, ?, ?, ?)", (key.kid, node, jwk, at))

    def key_state(self, kid: str) -> tuple[str, float | None] | None:
        """The node that has or had this key, and until when."""
        row = self._sql.execute("SELECT node, until FROM role_key WHERE kid = ?", (kid,)).fetchone()
        return None if row is None else (row[0], row[1])

    def present_key(self, node: str) -> VerifyKey | None:
        row = self._sql.execute("SELECT jwk FROM role_key WHERE node = ? AND until IS NULL", (node,)).fetchone()
        return None if row is None else VerifyKey.parse(row[0].encode())

    def end_keys(self, node: str, at: float, *, but: str = "") -> int:
        done = self._sql.execute(
            "UPDATE role_key SET until = ? WHERE node = ? AND until IS NULL AND kid <> ?", (at, node, but)
        )
        return done.rowcount

    def role_keys(self) -> dict[str, list[KnownKey]]:
        """Of every node that was ever enrolled, the latest last."""
        found: dict[str, list[KnownKey]] = {}
        for node, jwk, since, until in self._sql.execute(
            "SELECT node, jwk, since, until FROM role_key ORDER BY node, since"
        ):
            found.setdefault(node, []).append(KnownKey(msgspec.json.decode(jwk), since, until))
        return found

    # Certificates.

    def add_certificate(self, said: Certificate, node: str, pem: str) -> None:
        self._sql.execute(
            "INSERT INTO certificate (serial, node, thumbprint, pem, not_before, not_after) VALUES (?, ?, ?, ?, ?, ?)",
            (said.serial, node, said.thumbprint, pem, said.not_before, said.not_after),
        )

    def certificates(self, node: str, *, valid_at: float | None = None) -> list[Issued]:
        """The node's, the latest last; with ``valid_at`` only those neither revoked nor expired then."""
        rows = self._sql.execute(
            """SELECT serial, node, thumbprint, pem, not_before, not_after, revoked_at FROM certificate
               WHERE node = ? AND (? IS NULL OR (revoked_at IS NULL AND not_after > ?)) ORDER BY not_after, rowid""",
            (node, valid_at, valid_at),
        )
        return [Issued(*row) for row in rows]

    def revoke_certificates(self, node: str, at: float) -> int:
        done = self._sql.execute(
            "UPDATE certificate SET revoked_at = ? WHERE node = ? AND revoked_at IS NULL", (at, node)
        )
        return done.rowcount

    def revocations(self, wall: float) -> list[Revocation]:
        """Of certificates that would still be valid; an expired one needs no revocation."""
        rows = self._sql.execute(
            "SELECT serial, revoked_at FROM certificate WHERE revoked_at IS NOT NULL AND not_after > ? ORDER BY serial",
            (wall,),
        )
        return [Revocation(*row) for row in rows]

    # The rest.

    def note(self, what: str, node: str, detail: str, at: float) -> None:
        self._sql.execute(
            "INSERT INTO happening (at, what, node, detail) VALUES (?, ?, ?, ?)", (at, what, node, detail)
        )

    def happenings(self, most: int) -> list[Happening]:
        """The last ones, oldest first."""
        rows = self._sql.execute("SELECT at, what, node, detail FROM happening ORDER BY no DESC LIMIT ?", (most,))
        return [Happening(*row) for row in rows][::-1]

    def count_refusal(self, reason: str, node: str, at: float) -> None:
        """One row a reason, node and minute, so that nobody can fill the disk by being refused."""
        self._sql.execute("DELETE FROM refusal WHERE minute < ?", ((at - REFUSALS_KEPT_S) // 60,))
        self._sql.execute(
            """INSERT INTO refusal (minute, reason, node, count) VALUES (?, ?, ?, 1)
               ON CONFLICT (minute, reason, node) DO UPDATE SET count = count + 1""",
            (at // 60, reason, node),
        )

    def refusals(self) -> list[tuple[float, str, str, int]]:
        """(minute's beginning, reason, node or "", count), oldest first."""
        rows = self._sql.execute("SELECT minute * 60.0, reason, node, count FROM refusal ORDER BY minute")
        return [(row[0], row[1], row[2], row[3]) for row in rows]

    def fact(self, name: str) -> float:
        """A number kept under ``name``, 0 when there is none."""
        return float(read_fact(self._sql, name) or 0)

    def set_fact(self, name: str, value: float) -> None:
        write_fact(self._sql, name, str(value))
