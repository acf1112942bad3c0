"""PostgreSQL as the tests start it: on loopback, on a port and a directory of its own, ended by its process id."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from agents.demo_broker import free_port

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "40",
    "shared_buffers": "32MB",
    "wal_level": "replica",
    "max_wal_senders": "4",
    "hot_standby": "on",
    "logging_collector": "off",
}
"""``fsync`` stays on unless a test says otherwise."""
START_S = 30.0


def programs() -> Path:
    """Where the distribution keeps them."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    assert found, "PostgreSQL is missing: apt-get install postgresql"
    return found[-1].parent


def _as_its_user() -> dict[str, object]:
    """It refuses to run as root."""
    if os.geteuid():
        return {}
    user = pwd.getpwnam("postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


class Postgres:
    """One server. ``standby_of``: begins as a streaming copy of that one, which it follows."""

    def __init__(self, *, fsync: bool = True, standby_of: Postgres | None = None, session: bool = False) -> None:
        # The name of the folder stands in the command's line: tests/conftest.py lets those of a session live on.
        self.folder = Path(tempfile.mkdtemp(prefix="lastmile-session-pg-" if session else "lastmile-pg-"))
        self.data = self.folder / "data"
        self.port = free_port()
        self._fsync = fsync
        self._primary = standby_of
        self._process: subprocess.Popen[bytes] | None = None
        if not os.geteuid():
            shutil.chown(self.folder, "postgres", "postgres")

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        if not self.data.exists():
            self._make()
        command = [programs() / "postgres", "-D", self.data, "-p", str(self.port), "-k", self.folder]
        settings = {**SETTINGS, "fsync": "on" if self._fsync else "off"}
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with (self.folder / "log").open("ab") as told:
            self._process = subprocess.Popen(command, stdout=told, stderr=told, cwd=self.folder, **_as_its_user())  # type: ignore[call-overload]
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.02)

    def kill(self) -> None:
        """As a power cut does it to a primary: at once."""
        if self._process is not None:
            # SIGQUIT: the server ends its own children at once and writes nothing; kill -9 would leave those behind.
            self._process.send_signal(3)
            self._process.wait(20)
            self._process = None

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, sql: str, database: str = "postgres") -> list[tuple[object, ...]]:
        with psycopg.connect(self.url(database), autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def promote(self) -> None:
        """Let a standby become the primary, and wait until it writes."""
        self.run("SELECT pg_promote(true, 20)")

    def _make(self) -> None:
        if self._primary is None:
            options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync"]
            self._run("initdb", "-D", str(self.data), *options)
        else:
            source = ["-h", "127.0.0.1", "-p", str(self._primary.port), "-U", "postgres"]
            self._run("pg_basebackup", "-D", str(self.data), *source, "-R", "-X", "stream", "-c", "fast", "--no-sync")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(  # type: ignore[call-overload]
            [programs() / program, *arguments], capture_output=True, cwd=self.folder, check=False, **_as_its_user()
        )
        assert done.returncode == 0, done.stderr.decode()

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            return self.run("SELECT 1") == [(1,)]
        return False


@contextlib.contextmanager
def postgres(*, fsync: bool = True, standby_of: Postgres | None = None, session: bool = False) -> Iterator[Postgres]:
    server = Postgres(fsync=fsync, standby_of=standby_of, session=session)
    try:
        server.start()
        yield server
    finally:
        server.remove()
