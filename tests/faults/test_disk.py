"""The disk that forgets: what was synced survives a power cut, and what was not may not."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

from tests.faults.disk import BLOCK, Directory, File

ROOT = Path(__file__).parents[2]


def test_a_synced_block_survives_and_one_that_was_not_is_gone():
    file = File(2, 0o600)
    file.put(0, b"a" * BLOCK)
    file.sync()
    file.put(0, b"b" * BLOCK)
    file.put(BLOCK, b"c")
    file.cut(lambda: False)
    assert bytes(file.data) == b"a" * BLOCK


def test_blocks_that_were_not_synced_survive_each_by_itself():
    file, coin = File(2, 0o600), random.Random(3)
    file.put(0, b"x" * (BLOCK * 20))
    file.cut(lambda: coin.random() < 0.5)
    kinds = {bytes(file.data[at : at + BLOCK]) for at in range(0, len(file.data), BLOCK)}
    assert kinds == {b"x" * BLOCK, bytes(BLOCK)}


def test_what_a_failed_sync_should_have_written_no_later_one_writes():
    file = File(2, 0o600)
    file.put(0, b"lost")
    file.lose_sync(1)
    file.put(BLOCK, b"later")
    file.sync()
    file.cut(lambda: False)
    assert bytes(file.data[:4]) == bytes(4)
    assert bytes(file.data[BLOCK:]) == b"later"


def test_names_reach_the_disk_in_their_order_or_with_a_sync():
    directory = Directory(1, 0o700)
    directory.change({"a.new": 2})
    directory.change({"a.new": None, "a": 2})
    directory.change({"b": 3})
    directory.cut(2)
    assert directory.names == {"a": 2}
    directory.change({"c": 4})
    directory.sync()
    directory.cut(0)
    assert directory.names == {"a": 2, "c": 4}


def test_as_the_kernel_and_sqlite_see_it():
    """Mounted where nobody else sees it, by root or by whoever may be root of a namespace of its own."""
    wanted = "the tests of the disk need root, or unprivileged user namespaces and a /dev/fuse open to all (mode 0666)"
    apart = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--user", "--map-root-user"]
    pytest_here = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/faults/disk_suite.py"]
    done = subprocess.run([*apart, *pytest_here], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\nIf they could not begin: {wanted}."
