"""One node and its consumers, made of the product's own parts: real journal, real socket, cloud-sync and collectors.

Only the broker and the clock are ours. A kill leaves the files as they are at that moment and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any

from cloud_sync.collector import load_nodes
from cloud_sync.collector_asyncio import Collector
from cloud_sync.collector_open_sql import open_store
from cloud_sync.collector_sql import CollectorStore
from cloud_sync.pump import Pacing
from cloud_sync.service import CloudSync
from edge import link_socket
from edge.acks import sign_ack
from edge.clock import Clock
from edge.command_desk import CommandDesk
from edge.event import Draft
from edge.inbox_sql import SqlInbox, create_inbox
from edge.journal import Limits
from edge.journal_keep_sql import thin
from edge.journal_open_sql import Place, open_journal
from edge.journal_read_sql import JournalReader
from edge.journal_sql import SqlJournal
from edge.journal_upkeep_asyncio import Upkeep
from edge.keys import SigningKey
from edge.link_desk_sql import HeldIssuers, RoleFacts, RoleLinkDesk
from edge.nonce import NonceBook
from edge.schema_sql import create_journal
from tests.conservation.faulty_broker import FaultyBroker
from tests.conservation.quiet import QuietLoop
from tests.edge.trust import NODE, ROLE, ROOT, entry, issuers, seed

CONSUMERS = ("cloud", "backup")
KEYS = {name: SigningKey(seed(name)) for name in CONSUMERS}
TRUSTED = issuers(
    *(entry(name=name, jwk=key.public.jwk(), scopes=("ack",)) for name, key in KEYS.items()),
)
LIMITS = Limits(reserve_bytes=4096)
NOTHING_KEPT = Limits(max_bytes=1, reserve_bytes=4096)
"""Under these every thinnable row has to go."""

Files = dict[str, bytes]


class Tasks:
    """Background work that must not end by itself."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    def require_alive(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()
                raise AssertionError(f"{task.get_coro()} ended by itself")

    async def cancel(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class RoleAgent:
    """The process with the journal. Each life has a directory of its own, filled with what the one before left."""

    def __init__(self, home: Path, socket: Path, clock: Clock, rng: random.Random) -> None:
        self.home = home
        self._socket = socket
        self._clock = clock
        self._rng = rng
        self._lives = 0
        self._tasks = Tasks()
        self.alive = False
        self.directory = home
        self.journal: SqlJournal

    @property
    def database(self) -> Path:
        return self.directory / "state.db"

    async def start(self, files: Files | None = None) -> None:
        self._lives += 1
        self.directory = self.home / f"life-{self._lives}"
        write_files(self.directory, files or {})
        place = Place(self.database)
        opened = open_journal(
            place,
            steps=(create_journal, create_inbox),
            rebuild=lambda _: None,
            consumers=CONSUMERS,
            source=NODE.source,
            clock=self._clock,
            random=self._rng.randbytes,
            sealer=ROLE,
            limits=LIMITS,
        )
        assert opened.quarantined is None, "a sound file was taken for a damaged one"
        self.journal = opened.journal
        self.journal.start()
        self.alive = True
        _loop().watch(self._writing)
        await self._serve(place)

    async def _serve(self, place: Place) -> None:
        journal, clock = self.journal, self._clock
        held = HeldIssuers(TRUSTED, [ROOT.public], journal)
        await held.load()
        self.desk = RoleLinkDesk(
            facts=RoleFacts(NODE, "locker", "0.1.0", CONSUMERS),
            journal=journal,
            reader=JournalReader(place.database, NODE.source, journal.session, clock),
            issuers=held,
            commands=self._commands(),
            clock=clock,
            serving=lambda: True,
        )
        server = link_socket.LinkServer(self._socket, self.desk, uids=frozenset({os.getuid()}), clock=clock)
        journal.on_growth = server.wake
        ready = asyncio.Event()
        self._tasks.start(server.serve(ready.set))
        self._tasks.start(Upkeep(journal, place, LIMITS, clock, lambda: None).run())
        await ready.wait()

    def _commands(self) -> CommandDesk:
        return CommandDesk(
            identity=NODE,
            session=self.journal.session,
            role_key=ROLE,
            clock=self._clock,
            nonces=NonceBook(self._rng.randbytes),
            inbox=SqlInbox(self.journal),
            rules={},
            acts={},
            send=lambda _command, _result: None,
        )

    def _writing(self) -> bool:
        return bool(self.journal._writing)  # nothing public says that the writer thread is at work

    def require_alive(self) -> None:
        self._tasks.require_alive()

    async def thin(self) -> None:
        while await self.journal.write(lambda transaction: thin(transaction, NOTHING_KEPT)):
            pass

    async def kill(self, unheard: Iterable[Draft] = (), turns: int = 0) -> tuple[Files, int]:
        """Die ``turns`` turns of the loop after ``unheard`` were handed in: the files, and how many were told kept."""
        answers = [self.journal.append(draft) for draft in unheard]
        for _ in range(turns):
            await asyncio.sleep(0)
        told = sum(answer.done() and answer.exception() is None for answer in answers)
        files = self.files()
        self.alive = False
        await self._tasks.cancel()
        await asyncio.gather(*answers, return_exceptions=True)
        await self._end()
        return files, told

    async def stop(self) -> None:
        self.alive = False
        await self._tasks.cancel()
        await self._end()

    def files(self) -> Files:
        return read_files(self.directory)

    async def _end(self) -> None:
        self.desk.close()
        await self.journal.close()
        _loop().unwatch(self._writing)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return query(self.database, sql)


class Consumer:
    """A collector and its file."""

    def __init__(self, name: str, home: Path, broker: FaultyBroker, clock: Clock, rng: random.Random) -> None:
        self.name = name
        self.running = False
        self._directory = home / name
        self._broker = broker
        self._clock = clock
        self._rng = rng
        self._tasks = Tasks()
        self.store: CollectorStore

    @property
    def database(self) -> Path:
        return self._directory / "collector.db"

    async def start(self) -> None:
        self._directory.mkdir(exist_ok=True)
        self.store = open_store(str(self.database), consumer=self.name, clock=self._clock)
        await self.store.open()
        collector = Collector(
            consumer=self.name,
            client_id=f"collector-{self.name}",
            nodes=load_nodes([(NODE.tenant, NODE.node, [ROLE.public])]),
            broker=self._broker.door(f"collector-{self.name}"),
            store=self.store,
            sign=lambda ack: sign_ack(ack, KEYS[self.name]),
            clock=self._clock,
            random=lambda: self._rng.random() / 20,
            new_token=lambda: self._rng.randbytes(8).hex(),
        )
        self._tasks.start(collector.run())
        self.running = True

    def require_alive(self) -> None:
        self._tasks.require_alive()

    async def stop(self) -> None:
        if self.running:
            self.running = False
            await self._tasks.cancel()
            await self.store.close()

    def copy(self) -> Files:
        return read_files(self._directory)

    async def go_back_to(self, files: Files) -> None:
        """Put an older copy of the file in its place and start again."""
        await self.stop()
        shutil.rmtree(self._directory)
        write_files(self._directory, files)
        await self.start()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return query(self.database, sql)


class Carrier:
    """cloud-sync, which may die at any time and keeps nothing."""

    def __init__(self, socket: Path, broker: FaultyBroker, clock: Clock, rng: random.Random) -> None:
        self._socket = socket
        self._broker = broker
        self._clock = clock
        self._rng = rng
        self._tasks = Tasks()
        self.sync: CloudSync

    async def start(self) -> None:
        self.sync = CloudSync(
            open_agent=lambda: link_socket.connect(self._socket),
            broker=self._broker.door(NODE.node),
            pacing=Pacing(),
            clock=self._clock,
            random=lambda: self._rng.random() / 20,
            new_token=lambda: self._rng.randbytes(8).hex(),
        )
        self._tasks.start(self.sync.run())

    def require_alive(self) -> None:
        self._tasks.require_alive()

    async def stop(self) -> None:
        await self._tasks.cancel()


def read_files(directory: Path) -> Files:
    """What a kill would leave. The database goes before its log: only the log may be growing at this moment."""
    names = sorted(path.name for path in directory.iterdir() if not path.name.endswith("-shm"))
    return {name: (directory / name).read_bytes() for name in names}


def write_files(directory: Path, files: Files) -> None:
    directory.mkdir()
    for name, content in files.items():
        (directory / name).write_bytes(content)


def query(database: Path, sql: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(database)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def _loop() -> QuietLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, QuietLoop)
    return loop
