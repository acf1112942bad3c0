"""The outbox's file: what was kept is there after a kill at any line, and two processes do not tread on each other."""

from __future__ import annotations

import asyncio
import itertools
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloud_sync.outbox import Input, State
from cloud_sync.outbox_sql import KEEP_S, MAX_ANSWERS, OutboxStore
from edge.clock_sim import ManualClock
from edge.errors import ConfigError, StoreCorrupt, StoreError
from edge.result import Status
from tests.cloud_sync.outbox_rig import NODE, actuation, booking, store_at, word

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[OutboxStore]:
    store = store_at(tmp_path / "outbox.db")
    await store.open()
    yield store
    await store.close()


async def test_a_command_is_there_with_its_bytes_after_the_process_ends(tmp_path: Path) -> None:
    entry = booking()
    first = store_at(tmp_path / "outbox.db")
    await first.open()
    await first.keep(entry)
    await first.close()
    second = store_at(tmp_path / "outbox.db")
    await second.open()
    assert await second.pending() == [(entry, State.SIGNED)]
    await second.close()
    assert (tmp_path / "outbox.db").stat().st_mode & 0o077 == 0


async def test_of_two_that_sign_for_one_door_at_once_only_one_is_kept(store: OutboxStore, tmp_path: Path) -> None:
    """Both have looked before either had signed, and waited for the node's nonce meanwhile."""
    other = store_at(tmp_path / "outbox.db")
    await other.open()
    first, second = actuation(), actuation(nonce="n2")
    await store.keep(first, alone=True)
    with pytest.raises(ConfigError, match=rf"{first.jti} \(open A3\) has no outcome yet"):
        await other.keep(second, alone=True)
    await other.keep(actuation("B1"), alone=True)
    await store.record(first.jti, Input.DONE, word(first, Status.DONE))
    await other.keep(second, alone=True)
    await other.close()


async def test_the_nodes_words_are_kept_as_they_came_and_a_repeat_once(store: OutboxStore) -> None:
    entry = booking()
    await store.keep(entry)
    accepted, done = word(entry, Status.ACCEPTED), word(entry, Status.DONE, "taken")
    assert await store.record(entry.jti, Input.SENT) is State.SENT
    for _ in range(3):
        assert await store.record(entry.jti, Input.ACCEPTED, accepted) is State.ACCEPTED
    for _ in range(3):
        assert await store.record(entry.jti, Input.DONE, done) is State.DONE
    # A broker brings an old word again: the end stays, and so does the word for it.
    assert await store.record(entry.jti, Input.ACCEPTED, accepted) is State.DONE
    assert await store.answers(entry.jti) == [accepted, done]
    assert await store.find(entry.jti) == (entry, State.DONE, done)
    assert await store.pending() == []


async def test_a_node_that_signs_ever_new_words_fills_no_disk(store: OutboxStore) -> None:
    entry = booking()
    await store.keep(entry)
    for at in range(3 * MAX_ANSWERS):
        await store.record(entry.jti, Input.REJECTED, word(entry, Status.REJECTED, "wrong_scope", at=at))
    assert len(await store.answers(entry.jti)) == MAX_ANSWERS


async def test_no_second_command_under_one_id(store: OutboxStore) -> None:
    entry = booking()
    await store.keep(entry)
    with pytest.raises(StoreError):
        await store.keep(entry)
    with pytest.raises(StoreError, match="no command"):
        await store.record(booking().jti, Input.SENT)


async def test_revisions_rise_per_booking_over_restarts_and_between_two_processes(tmp_path: Path) -> None:
    clock = ManualClock()
    stores = [store_at(tmp_path / "outbox.db", clock) for _ in range(2)]
    for each in stores:
        await each.open()
    given = await asyncio.gather(*(stores[at % 2].next_rev(NODE, "booking-1") for at in range(40)))
    assert len(set(given)) == 40
    assert min(given) >= int(clock.wall())
    clock.step_wall(-86_400.0)
    assert await stores[0].next_rev(NODE, "booking-1") > max(given), "also after the clock was set back"
    assert await stores[0].next_rev(NODE, "booking-2") < max(given)
    for each in stores:
        await each.close()


async def test_what_is_final_is_forgotten_in_the_end_and_what_is_not_never(tmp_path: Path) -> None:
    clock = ManualClock()
    old, pending = booking("booking-1"), booking("booking-2")
    for turn in range(2):
        store = store_at(tmp_path / "outbox.db", clock)
        await store.open()
        if turn == 0:
            await store.keep(old)
            await store.keep(pending)
            await store.record(old.jti, Input.DONE, word(old, Status.DONE))
            clock.step_wall(KEEP_S + 1)
        else:
            assert await store.find(old.jti) is None
            assert await store.answers(old.jti) == []
            assert await store.pending() == [(pending, State.SIGNED)]
        await store.close()


async def test_a_damaged_file_says_so_and_is_not_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "outbox.db").write_bytes(b"no database at all, however long it may be " * 100)
    store = store_at(tmp_path / "outbox.db")
    with pytest.raises(StoreCorrupt, match="look at the node"):
        await store.open()
    await store.close()
    nowhere = store_at(tmp_path / "nowhere" / "outbox.db")
    with pytest.raises(ConfigError, match="nowhere"):
        await nowhere.open()
    await nowhere.close()


# Killed.

CHILD = """
import asyncio, os, signal, sys, threading
from pathlib import Path
from cloud_sync import outbox, outbox_sql
from cloud_sync.outbox import Input
from edge.result import Status
from tests.cloud_sync.outbox_rig import booking, store_at, word

PATH, WATCHED = sys.argv[1], {outbox.__file__, outbox_sql.__file__}
entries = [booking()]

def trap(lines):
    left = lines
    def on_line(frame, event, arg):
        nonlocal left
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return on_line
    return lambda frame, event, arg: on_line if frame.f_code.co_filename in WATCHED else None

def told(what):
    os.write(1, (what + "\\n").encode())

async def live():
    store = store_at(Path(PATH))
    await store.open()
    for entry in entries:
        if await store.find(entry.jti) is None:
            await store.keep(entry)
            told(entry.jti + " signed")
        for happened, status in ((Input.SENT, None), (Input.ACCEPTED, Status.ACCEPTED), (Input.DONE, Status.DONE)):
            state = await store.record(entry.jti, happened, word(entry, status) if status else b"")
            told(entry.jti + " " + state.value)
    await store.close()

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        trace = trap(int(line))
        threading.settrace(trace)
        sys.settrace(trace)
        asyncio.run(live())
        os._exit(0)
    _, status = os.waitpid(child, 0)
    told("end %d" % os.waitstatus_to_exitcode(status))
"""

NEVER = 10**9

RANK = {state.value: rank for rank, state in enumerate((State.SIGNED, State.SENT, State.ACCEPTED, State.DONE))}


def killed_at(tmp_path: Path, step: int) -> int:
    """Lives that each end at a later line of the outbox's files, ``step`` lines apart; how many there were.

    What a life has said is there after it, and the next life goes on from there to the end.
    """
    path = tmp_path / "outbox.db"
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as lives:
        for line in itertools.count(step, step):
            for left_over in tmp_path.glob("outbox.db*"):
                left_over.unlink()
            end, said = one_life(lives, line)
            found = kept(path)
            assert set(said) <= set(found), (line, said)
            assert all(RANK[found[jti]] >= RANK[state] for jti, state in said.items()), (line, said)
            if end == 0:
                lives.communicate()
                return line // step
            assert end == -signal.SIGKILL
            assert one_life(lives, NEVER)[0] == 0
            assert set(kept(path).values()) == {"done"}, line
    raise AssertionError


def one_life(lives: subprocess.Popen[str], line: int) -> tuple[int, dict[str, str]]:
    """Exit status of a life that is killed at its ``line``-th line, and the last that it said of each command."""
    assert lives.stdin is not None
    assert lives.stdout is not None
    lives.stdin.write(f"{line}\n")
    lives.stdin.flush()
    said: dict[str, str] = {}
    for heard in lives.stdout:
        what, state = heard.split()
        if what == "end":
            return int(state), said
        said[what] = state
    raise AssertionError


def test_a_kill_at_any_moment_loses_nothing_that_was_said_to_be_kept(tmp_path: Path) -> None:
    assert killed_at(tmp_path, step=17) >= 10


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_kill_between_any_two_lines_loses_nothing_that_was_said_to_be_kept(tmp_path: Path) -> None:
    assert killed_at(tmp_path, step=1) > 150


def kept(path: Path) -> dict[str, str]:
    """What the file holds, by a connection of the test's own."""
    if not path.exists():
        return {}
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return {}
        return dict(connection.execute("SELECT jti, state FROM command"))
    finally:
        connection.close()
