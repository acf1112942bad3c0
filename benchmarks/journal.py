"""What the journal costs: durable events beside raw SQLite, appends beside a reader, bytes on the disk, and starting.

Baseline and ours alternate within one run and the medians of their ratios are told, because the disk's and the
machine's speed change from minute to minute. The events are a locker's own, of the audit class: numbered, chained and
sealed. The reader is a process of its own behind the real local socket, as cloud-sync is.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks._report import Figure, report
from edge.command_desk import CommandDesk
from edge.event import Draft
from edge.identity import identify
from edge.inbox_sql import SqlInbox, create_inbox
from edge.issuers import Issuers, IssuersDocument
from edge.journal import Limits
from edge.journal_open_sql import open_journal
from edge.journal_place_file import Place
from edge.journal_read_sql import JournalReader
from edge.journal_sql import SqlJournal
from edge.journal_upkeep_asyncio import Upkeep, checkpoint
from edge.keys import SigningKey
from edge.link import Events, Hello, Pull
from edge.link_desk_sql import HeldIssuers, RoleFacts, RoleLinkDesk
from edge.link_socket import LinkServer, connect
from edge.nonce import NonceBook
from edge.schema_sql import create_journal, place
from edge.system_clock import SystemClock
from locker.contract import DoorOpened, draft

ROLE = SigningKey.generate(os.urandom)
NODE = identify("acme", "locker-7", ROLE.public)
EVENT: Draft = draft(DoorOpened(door="17", attempt="019aa8f0-7c1e-7abc-8def-0123456789ab"))
ROW_BYTES = 536
"""This event when it is encoded, and its hash; the baseline writes rows of that size."""
GOALS = {1: 0.60, 200: 0.55, 1000: 0.55}
READY_ROWS = 1_000_000


def open_store(folder: Path) -> SqlJournal:
    return open_journal(
        Place(folder / "state.db"),
        steps=(create_journal, create_inbox),
        rebuild=lambda _: None,
        consumers=("hub",),
        source=NODE.source,
        clock=SystemClock(),
        random=os.urandom,
        sealer=ROLE,
        limits=Limits(reserve_bytes=0),
    ).journal


@contextlib.asynccontextmanager
async def started(folder: Path) -> AsyncIterator[SqlJournal]:
    journal = open_store(folder)
    journal.start()
    try:
        yield journal
    finally:
        await journal.close()


class RawTable:
    """The least that a program must do to keep rows: one prepared statement, one transaction a batch."""

    def __init__(self, folder: Path) -> None:
        self._sql = sqlite3.connect(folder / "raw.db", isolation_level=None)
        self._sql.execute("PRAGMA journal_mode = WAL")
        self._sql.execute("PRAGMA synchronous = FULL")
        self._sql.execute("CREATE TABLE event (seq INTEGER PRIMARY KEY, body BLOB NOT NULL)")
        self._body = os.urandom(ROW_BYTES)
        self._seq = 0

    def write(self, batch: int, rounds: int) -> float:
        """Rows a second."""
        began = time.perf_counter()
        for _ in range(rounds):
            self._sql.execute("BEGIN IMMEDIATE")
            rows = [(self._seq + n, self._body) for n in range(1, batch + 1)]
            self._sql.executemany("INSERT INTO event VALUES (?, ?)", rows)
            self._sql.execute("COMMIT")
            self._seq += batch
        return batch * rounds / (time.perf_counter() - began)

    def close(self) -> None:
        self._sql.close()


async def append_by(journal: SqlJournal, callers: int, rounds: int) -> float:
    """Events a second, each awaited by its caller before that one appends its next."""

    async def caller() -> None:
        for _ in range(rounds):
            await journal.append(EVENT)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return callers * rounds / (time.perf_counter() - began)


async def throughput(folder: Path, *, repeats: int) -> list[Figure]:
    figures = []
    raw = RawTable(folder)
    async with started(folder) as journal:
        for callers, goal in GOALS.items():
            rounds = {1: 150, 200: 20, 1000: 6}[callers]
            ours, base = [], []
            for _ in range(repeats):
                base.append(raw.write(callers, rounds))
                ours.append(await append_by(journal, callers, rounds))
                await asyncio.to_thread(checkpoint, folder / "state.db")
            ratio = statistics.median(one / other for one, other in zip(ours, base, strict=True))
            name = f"durable events, {callers} waiting"
            value, baseline = statistics.median(ours), statistics.median(base)
            figures.append(Figure(name, value, "events/s", baseline, ratio, goal, at_least=True))
    raw.close()
    return figures


async def latencies(journal: SqlJournal, count: int) -> list[float]:
    """Milliseconds of lone appends, 2 ms apart."""
    took = []
    for _ in range(count):
        began = time.perf_counter()
        await journal.append(EVENT)
        took.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.002)
    return took


def p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


async def beside_a_reader(folder: Path, *, repeats: int, count: int) -> Figure:
    async with started(folder) as journal:
        for _ in range(20):
            await append_by(journal, 1000, 1)
        alone, beside = [], []
        async with upkeep(folder, journal), served(folder, journal) as socket:
            for _ in range(repeats):
                alone += await latencies(journal, count)
                async with pulling(socket, journal.head.epoch):
                    beside += await latencies(journal, count)
    value, base = p99(beside), p99(alone)
    return Figure("append p99 beside pulls at full speed", value, "ms", base, value / base, 1.5)


@contextlib.asynccontextmanager
async def upkeep(folder: Path, journal: SqlJournal) -> AsyncIterator[None]:
    """What an agent runs beside: without it the reader would search an ever longer log."""
    work = Upkeep(journal, Place(folder / "state.db"), Limits(reserve_bytes=0), SystemClock(), lambda: None)
    task = asyncio.create_task(work.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@contextlib.asynccontextmanager
async def served(folder: Path, journal: SqlJournal) -> AsyncIterator[Path]:
    """The role agent's end of the local socket."""
    clock = SystemClock()
    desk = RoleLinkDesk(
        facts=RoleFacts(NODE, "locker", "0", ("hub",)),
        journal=journal,
        reader=JournalReader(folder / "state.db", NODE.source, journal.session, clock),
        issuers=HeldIssuers(Issuers(IssuersDocument(1, 0, ())), [ROLE.public], journal),
        commands=CommandDesk(
            identity=NODE,
            session=journal.session,
            role_key=ROLE,
            clock=clock,
            nonces=NonceBook(os.urandom),
            inbox=SqlInbox(journal),
            rules={},
            acts={},
            send=lambda *_: None,
        ),
        clock=clock,
        serving=lambda: True,
    )
    server = LinkServer(folder / "role.sock", desk, uids=frozenset({os.getuid()}), clock=clock)
    ready = asyncio.Event()
    task = asyncio.create_task(server.serve(ready.set))
    await ready.wait()
    try:
        yield folder / "role.sock"
    finally:
        task.cancel()
        await asyncio.wait([task])
        desk.close()


@contextlib.asynccontextmanager
async def pulling(socket: Path, epoch: str) -> AsyncIterator[None]:
    """Another process pulls the whole journal, again and again."""
    arguments = [str(Path(__file__)), "--pull", str(socket), epoch]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    await process.stdout.readline()
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def pull_for_ever(socket: str, epoch: str) -> None:
    client = await connect(socket)
    await client.ask(Hello)
    after, told = 0, False
    while True:
        answer = await client.ask(lambda n, at=after: Pull(n, epoch, "audit", at, 500))  # type: ignore[misc]
        if not told:
            print("pulling", flush=True)
            told = True
        after = answer.upto if isinstance(answer, Events) and answer.upto > after else 0


async def bytes_written(folder: Path) -> Figure:
    """All that the process has the kernel write for batches of 200: log, its way into the database, and the end."""
    async with started(folder) as journal:
        await append_by(journal, 200, 5)
        before, events = _written(), 200 * 100
        for _ in range(20):
            await append_by(journal, 200, 5)
            await asyncio.to_thread(checkpoint, folder / "state.db")
    sql = sqlite3.connect(folder / "state.db")
    sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    sql.close()
    return Figure("bytes written per event, batches of 200", (_written() - before) / events, "B", None, None, 1024.0)


def _written() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


async def ready(folder: Path) -> Figure:
    """From opening to the first durable event, with a million unacknowledged ones in the file."""
    async with started(folder) as journal:
        number = journal.head.epoch_no
    sql = sqlite3.connect(folder / "state.db", isolation_level=None)
    sql.execute("PRAGMA synchronous = OFF")
    for kind in (0, 1, 2):
        sql.execute(
            """WITH RECURSIVE n(seq) AS (SELECT 2 UNION ALL SELECT seq + 1 FROM n WHERE seq < ?)
               INSERT INTO event (place, body, hash) SELECT ? + seq, randomblob(150), randomblob(32) FROM n""",
            (READY_ROWS // 3 + 2, place(number, kind)),
        )
    sql.close()
    async with started(folder) as journal:
        await append_by(journal, 200, 1)
    began = time.perf_counter()
    async with started(folder) as journal:
        await journal.append(EVENT)
        value = time.perf_counter() - began
    return Figure("ready with a million events", value, "s", None, None, 2.0)


def in_folder(measure: Callable[[Path], Awaitable[Figure | list[Figure]]]) -> list[Figure]:
    """Measure on a real disk, not in a memory file system."""

    async def measured(folder: Path) -> list[Figure]:
        found = await measure(folder)
        return found if isinstance(found, list) else [found]

    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        return asyncio.run(measured(Path(folder)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under 50 s")
    parser.add_argument("--json", action="store_true", help="no table")
    parser.add_argument("--pull", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.pull:
        asyncio.run(pull_for_ever(*arguments.pull))
        return
    repeats = 7 if arguments.quick else 31
    figures = [
        *in_folder(lambda folder: throughput(folder, repeats=repeats)),
        *in_folder(lambda folder: beside_a_reader(folder, repeats=4 if arguments.quick else 12, count=150)),
        *in_folder(bytes_written),
        *in_folder(ready),
    ]
    report(figures, arguments)


if __name__ == "__main__":
    main()
