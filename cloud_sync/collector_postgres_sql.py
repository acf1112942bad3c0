"""A collector's store in PostgreSQL: for several workers, on several machines. Nothing else here knows psycopg.

Each node has an advisory lock: taking in shares it, settling has it alone. Locks and rows are always asked for in the
same order, and end with the transaction, so a worker that dies holds nobody up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psycopg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from edge.errors import ConfigError, StoreError, StoreFull

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

MIGRATIONS = Path(__file__).parent / "migrations"
CONNECT_S = 10
"""Seconds for a connection to come about."""

# Both kinds by one statement, row by row: two of them would have two workers wait for each other.
_LOCK = text("""
    SELECT count(CASE WHEN alone THEN CAST(pg_advisory_xact_lock(k) AS text)
                      ELSE CAST(pg_advisory_xact_lock_shared(k) AS text) END)
    FROM unnest(CAST(:keys AS bigint[]), CAST(:alone AS boolean[])) AS each (k, alone)""")
# %b: in the binary form; as text every byte of a body would be three. -1 stands for null, so that a list without any
# number has a type.
_INSERT = """
    INSERT INTO event (stream, seq, digest, prev, start, event_id, type, subject, time, body)
    SELECT stream, seq, digest, prev, nullif(start, -1), event_id, type, subject, time, body
    FROM unnest(%b::bigint[], %b::bigint[], %b::bytea[], %b::bytea[], %b::bigint[],
                %b::text[], %b::text[], %b::text[], %b::text[], %b::bytea[])
      AS row (stream, seq, digest, prev, start, event_id, type, subject, time, body)
    ON CONFLICT DO NOTHING"""

_DEADLOCK, _SERIALIZATION = "40P01", "40001"
_READ_ONLY = "25006"
_DISK_FULL = "53100"


class Collision(StoreError):
    """Two transactions stood in each other's way and this one gave way; it is tried again."""


class PostgresDatabase:
    """``cloud_sync.collector_sql.Database``. ``url``: postgresql://user@host:port/name, with several hosts
    ``postgresql://user@/name?host=a:5432&host=b:5432&target_session_attrs=read-write``.
    """

    collisions: tuple[type[StoreError], ...] = (Collision,)

    def __init__(self, url: str) -> None:
        self._url = make_url(url).set(drivername="postgresql+psycopg")
        self.place = self._url.render_as_string(hide_password=True)

    def engine(self) -> Engine:
        # Asked first whether it lives: a connection that a fail-over has cut is made anew without an error.
        return create_engine(
            self._url,
            poolclass=QueuePool,
            pool_size=1,
            max_overflow=0,
            pool_pre_ping=True,
            connect_args={"connect_timeout": CONNECT_S, "application_name": "lastmile-collector"},
        )

    def prepare(self, engine: Engine) -> None:
        """Only looks: several workers start at once, and a schema is moved by a person, once."""
        with engine.connect() as sql:
            there = MigrationContext.configure(sql).get_current_revision()
        if there != head():
            raise StoreError(
                f"{self.place}: the schema is {there or 'not there yet'}, this release needs {head()}",
                remedy="run `lastmile collector migrate` with this release, once, while the workers are stopped",
            )

    def migrate(self, engine: Engine) -> str:
        """Bring the schema to this release's. Returns the revision."""
        with self.telling(), engine.begin() as sql:
            config = _config()
            config.attributes["connection"] = sql
            command.upgrade(config, "head")
        return head()

    def lock(self, sql: Connection, sources: Sequence[str], alone: frozenset[str]) -> None:
        asked = sorted((_key(source), source in alone) for source in {*sources, *alone})
        if asked:
            keys, alones = zip(*asked, strict=True)
            sql.execute(_LOCK, {"keys": list(keys), "alone": list(alones)})

    def insert_events(self, sql: Connection, rows: list[tuple[Any, ...]]) -> None:
        columns = [list(column) for column in zip(*sorted(rows, key=lambda row: row[:3]), strict=True)]
        columns[4] = [-1 if start is None else start for start in columns[4]]
        cast("Any", sql.connection.driver_connection).execute(_INSERT, columns)

    @contextmanager
    def telling(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise self._told(error.orig) from error
        except psycopg.Error as error:
            raise self._told(error) from error

    def _told(self, error: BaseException | None) -> StoreError:
        code = getattr(error, "sqlstate", None)
        what = f"{self.place}: {str(error).strip().splitlines()[0] if str(error).strip() else code}"
        if code in (_DEADLOCK, _SERIALIZATION):
            return Collision(what, remedy="tried again by itself")
        if code == _DISK_FULL:
            return StoreFull(what, remedy="free disk space; nothing was acknowledged, the nodes send it again")
        if code == _READ_ONLY:
            return StoreError(what, remedy="name the primary, or all hosts with target_session_attrs=read-write")
        return StoreError(what, remedy="look at the database and the way to it; nothing was acknowledged")


def _key(source: str) -> int:
    """The number of a node's lock. Two nodes that share one by chance only wait for each other."""
    return int.from_bytes(hashlib.sha256(b"lastmile " + source.encode()).digest()[:8], "big", signed=True)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def head() -> str:
    """The revision that this release needs."""
    found = ScriptDirectory.from_config(_config()).get_current_head()
    if found is None:
        raise ConfigError(f"no migrations in {MIGRATIONS}", remedy="install the package whole")
    return found
