"""Which kind of database a configuration names: a path is a SQLite file, a URL is PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import ArgumentError

from cloud_sync.collector_sql import CollectorStore, Database
from cloud_sync.collector_sqlite_sql import SqliteDatabase
from edge.errors import ConfigError

if TYPE_CHECKING:
    from cloud_sync.collector_postgres_sql import PostgresDatabase
    from edge.clock import Clock


def open_store(place: str, *, consumer: str, clock: Clock) -> CollectorStore:
    """The store at ``place``, not opened yet. Raises ``ConfigError`` for what is no place of one."""
    return CollectorStore(database_at(place), consumer=consumer, clock=clock)


def database_at(place: str) -> Database:
    """The kind of database that ``place`` names."""
    return postgres_at(place) if is_url(place) else SqliteDatabase(place)


def is_url(place: str) -> bool:
    return "://" in place


def postgres_at(url: str) -> PostgresDatabase:
    """Raises ``ConfigError`` where the extra is not installed, or the URL is of another kind."""
    if not url.startswith(("postgresql://", "postgres://")):
        raise ConfigError(
            f"database {url.partition('://')[0]}://...", remedy="name a file, or postgresql://user@host:port/name"
        )
    try:
        from cloud_sync.collector_postgres_sql import PostgresDatabase
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"a collector on PostgreSQL needs {error.name}, which is not installed",
            remedy="install lastmile-edge[postgresql]",
        ) from error
    try:
        return PostgresDatabase(url.replace("postgres://", "postgresql://", 1))
    except (ArgumentError, ValueError) as error:
        raise ConfigError(
            "the database's URL cannot be read", remedy="write postgresql://user@host:port/name"
        ) from error
