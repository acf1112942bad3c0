"""Fixtures: a place for a collector's store on either database. Tests that use them hold on both."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_sync.collector_open_sql import postgres_at
from tests.peers.postgres import Postgres, postgres

POSTGRES = pytest.param("postgres", marks=pytest.mark.xdist_group("postgres"))
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """One for all tests of a worker. What is on its disk is nobody's after the tests, so it does not wait for it."""
    with postgres(fsync=False, session=True) as server:
        server.run("CREATE DATABASE migrated")
        migrate(server.url("migrated"))
        yield server


def migrate(url: str) -> None:
    database = postgres_at(url)
    engine = database.engine()
    database.migrate(engine)
    engine.dispose()


@pytest.fixture(params=["sqlite", POSTGRES])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A file that is not there yet, or an empty database with the tables of this release."""
    if request.param == "sqlite":
        yield str(tmp_path / "collector.db")
        return
    server: Postgres = request.getfixturevalue("postgres_server")
    name = f"test_{next(_numbers)}"
    server.run(f"CREATE DATABASE {name} TEMPLATE migrated")
    yield server.url(name)
    server.run(f"DROP DATABASE {name} WITH (FORCE)")
