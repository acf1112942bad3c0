"""The consumer's store of a world: a SQLite file, or a PostgreSQL of its own whose processes can be killed as well."""

from __future__ import annotations

import os
import pwd
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NoReturn, Protocol

import psycopg

from edge.atomic_file import sync_directory
from tests.faults import linux
from tests.peers.postgres import postgres, programs
from tests.peers.stores import migrate

LOCK_S = 0.5
"""Whoever reads a store beside a process that has just died may not take its locks, and has to come again."""
CONNECT_S = 2
NAME, KEPT = "collector", "kept"
"""Databases: the collector's, and a copy of it."""
USER = "postgres"
SETTINGS = {
    "listen_addresses": "",
    "max_connections": "20",
    "shared_buffers": "8MB",
    "logging_collector": "off",
}
"""Reached by its socket alone: so a network that loses packets is not between it and the collector."""


class AwayError(Exception):
    """The store cannot be read now: it is being restarted, or its disk fails."""


class Store(Protocol):
    """``database`` is what the collector's configuration names."""

    database: str

    def reading(self) -> Any:
        """A context with something that executes SQL, all of it in one snapshot. Raises ``AwayError``."""

    def copy(self) -> None:
        """Keep what it holds now, for ``restore``. The collector stands still or is away."""

    def restore(self) -> bool:
        """Put the copy in its place, if there is one. The collector is away."""


class SqliteStore:
    """``folder`` holds nothing else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "collector.db"
        self.database = str(self._file)
        self._copy: dict[str, bytes] = {}

    @contextmanager
    def reading(self) -> Iterator[Any]:
        try:
            with closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True, timeout=LOCK_S)) as sql:
                sql.execute("BEGIN")
                yield sql
        except sqlite3.Error as error:
            raise AwayError(str(error)) from error

    def copy(self) -> None:
        self._copy = self._copy or copied(self._folder)

    def restore(self) -> bool:
        if self._copy:
            put_back(self._folder, self._copy)
        return bool(self._copy)


class PostgresStore:
    """``folder`` is made of a ``template`` by ``make_template``; ``run_postgres`` serves it."""

    def __init__(self, folder: Path, template: Path) -> None:
        # Its user has to write there. The copy is as private as it was.
        subprocess.run(["cp", "--archive", template, folder], check=True)
        self.folder = folder
        self.database = self._url(NAME)
        self._copied = False

    def _url(self, name: str) -> str:
        return f"postgresql://{USER}@/{name}?host={self.folder}"

    @contextmanager
    def reading(self) -> Iterator[Any]:
        try:
            with psycopg.connect(self.database, connect_timeout=CONNECT_S) as sql:
                sql.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                yield sql
        except psycopg.Error as error:
            raise AwayError(str(error)) from error

    def answers(self) -> bool:
        try:
            self._run("SELECT 1")
        except psycopg.Error:
            return False
        return True

    def copy(self) -> None:
        if self._copied:
            return
        self._run(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{NAME}'")
        self._run(f"CREATE DATABASE {KEPT} TEMPLATE {NAME}")
        self._copied = True

    def restore(self) -> bool:
        if self._copied:
            self._run(f"DROP DATABASE {NAME} WITH (FORCE)")
            self._run(f"CREATE DATABASE {NAME} TEMPLATE {KEPT}")
        return self._copied

    def _run(self, sql: str) -> None:
        with psycopg.connect(self._url("postgres"), autocommit=True, connect_timeout=CONNECT_S) as connection:
            connection.execute(sql.encode())


def make_template(folder: Path) -> Path:
    """A PostgreSQL at rest, with the tables of this release, to be copied for each world."""
    with postgres(fsync=False) as server:
        server.run(f"CREATE DATABASE {NAME}")
        migrate(server.url(NAME))
        server.run("CHECKPOINT")
        server.kill()
        subprocess.run(["cp", "--archive", server.data, folder], check=True)
    return folder


def run_postgres(folder: str) -> NoReturn:
    """Become it. It ends with whoever has forked us; its own processes end with it."""
    if os.geteuid() == 0:
        # It refuses to be root.
        user = pwd.getpwnam(USER)
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        linux.end_with_parent()
    os.chdir(folder)
    command = [str(programs() / "postgres"), "-D", folder, "-k", folder]
    for name, value in SETTINGS.items():
        command += ["-c", f"{name}={value}"]
    os.execv(command[0], command)


def server_processes(pid: int) -> list[int]:
    """Those that the server ``pid`` has started; the newest, which serve clients, last."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def serves_client(pid: int) -> bool:
    """Whether ``pid`` is a server process with the collector at its other end; its title says so."""
    try:
        return f"{USER} {NAME}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def end(pids: list[int]) -> None:
    """Kill -9. Who is gone is gone."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def copied(place: Path) -> dict[str, bytes]:
    """The files of a store whose process is gone or stands still. Companions that only a process needs stay out."""
    return {path.name: path.read_bytes() for path in sorted(place.iterdir()) if not path.name.endswith("-shm")}


def put_back(place: Path, files: dict[str, bytes]) -> None:
    for path in place.iterdir():
        path.unlink()
    for name, content in files.items():
        (place / name).write_bytes(content)
        descriptor = os.open(place / name, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    sync_directory(place)
