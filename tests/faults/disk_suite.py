"""The disk that forgets, as the kernel and SQLite see it. Run by ``test_disk.py``, in a namespace that may mount it."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.errors import StoreError
from locker.sim_control_socket import SimControl
from tests.edge.journal_rig import Store, append, lived

ROOT = Path(__file__).parents[2]
MOUNTED = """
import asyncio, sys
from pathlib import Path
from tests.faults.disk import run_disk
asyncio.run(run_disk(Path(sys.argv[1]), Path(sys.argv[2]), 1))
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, SimControl]]:
    at, control = tmp_path / "disk", tmp_path / "control"
    at.mkdir()
    server = subprocess.Popen([sys.executable, "-c", MOUNTED, str(at), str(control)], cwd=ROOT)
    deadline = time.monotonic() + 10.0
    while not control.exists():
        assert server.poll() is None, "the disk could not be mounted"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with SimControl(control) as hand:
        yield at, hand
    server.send_signal(signal.SIGKILL)
    server.wait()
    subprocess.run(["umount", "-l", str(at)], check=True)


def test_sqlite_keeps_what_it_committed_through_a_power_cut_and_fails_as_on_a_bad_disk(disk):
    at, hand = disk
    database = sqlite3.connect(at / "a.db", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE t (x)")
    database.executemany("INSERT INTO t VALUES (?)", [(number,) for number in range(50)])
    database.execute("PRAGMA synchronous = OFF")
    database.execute("INSERT INTO t VALUES ('never synced')")
    hand.call("cut", survival=0.0)
    with pytest.raises(sqlite3.OperationalError):
        database.execute("INSERT INTO t VALUES ('on a disk that is gone')")
    database.close()
    again = sqlite3.connect(at / "a.db", isolation_level=None)
    assert again.execute("SELECT count(*) FROM t").fetchone() == (50,)
    assert again.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    hand.call("fail", call="sync", times=1)
    again.execute("PRAGMA synchronous = FULL")
    with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
        again.execute("INSERT INTO t VALUES ('not kept')")
    hand.call("fill")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        again.execute("INSERT INTO t VALUES (?)", (b"x" * 200_000,))
    hand.call("heal")
    again.execute("INSERT INTO t VALUES ('kept')")
    again.close()


def test_a_full_disk_says_so_also_in_its_figures(disk):
    at, hand = disk
    hand.call("fill")
    assert os.statvfs(at).f_bavail == 0
    with pytest.raises(OSError, match="No space left") as refused:
        (at / "more").write_bytes(b"x")
    assert refused.value.errno == errno.ENOSPC


def test_a_failed_sync_is_told_once_to_each_who_has_the_file_open(disk):
    at, hand = disk
    with (at / "a").open("wb") as ours, (at / "a").open("rb+") as theirs:
        ours.write(b"x")
        ours.flush()
        hand.call("fail", call="sync", times=1)
        for each in (ours, theirs):
            with pytest.raises(OSError, match="Input/output"):
                os.fsync(each.fileno())
            os.fsync(each.fileno())
    with (at / "a").open("rb+") as later:
        os.fsync(later.fileno())


async def test_nothing_is_committed_on_what_a_failed_sync_has_left_of_the_log(disk):
    """Two fail, the commit's and that of the log at the end, so the log stays; whoever opens it finds both commits."""
    at, hand = disk
    store = Store(at)
    with pytest.raises(StoreError):  # noqa: PT012  the failing commit ends the journal
        async with store.journal() as journal:
            await append(journal, 1)
            hand.call("fail", call="sync", times=2)
            await append(journal, 2)
    async with store.journal() as journal:
        found = store.told()
        assert found == [1, 2], "else the log was not what this is about"
        await append(journal, 3, 4)
        hand.call("cut", survival=0.0)
        with pytest.raises(StoreError):
            await append(journal, 5)
    await lived(store, 6)
    assert store.told() == [1, 2, 3, 4, 6]


async def test_nothing_is_committed_to_a_log_whose_name_may_be_lost(disk):
    """SQLite itself goes on when the sync of the directory fails: the log's name is gone after a power cut."""
    at, hand = disk
    store = Store(at)
    await lived(store, 1)
    hand.call("fail", call="names", times=2)
    with pytest.raises(StoreError, match="Input/output"):
        store.open()
    hand.call("heal")
    async with store.journal() as journal:
        await append(journal, 2)
        hand.call("cut", survival=0.0)
        with pytest.raises(StoreError):
            await append(journal, 3)
    await lived(store, 4)
    assert store.told() == [1, 2, 4]
