"""A node's store in a folder: opened, killed, copied and put back; and an honest reading of what is in it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edge.anchor_file import Anchor, write_anchor
from edge.clock_sim import ManualClock
from edge.event import (
    BEGUN,
    GENESIS,
    SEALED,
    CloudEvent,
    Draft,
    EventClass,
    JournalBegun,
    decode,
    link_hash,
    without_signature,
)
from edge.journal import Limits
from edge.journal_open_sql import Opened, Place, open_journal
from edge.journal_read_sql import JournalReader
from edge.journal_sql import SqlJournal
from edge.keys import SigningKey
from edge.schema_sql import Step, create_journal
from tests.edge.trust import NODE, ROLE

AUDIT, STATE, TELEMETRY = EventClass


def create_role(sql: sqlite3.Connection) -> None:
    sql.execute("CREATE TABLE role (door TEXT)")


STEPS: tuple[Step, ...] = (create_journal, create_role)
LIMITS = Limits(reserve_bytes=0)


class Told(msgspec.Struct, frozen=True):
    """Data of a test's event."""

    n: int


def draft(n: int, event_class: EventClass = AUDIT, subject: str = "door/1") -> Draft:
    return Draft(event_class, "test.happened", subject, Told(n))


class Store:
    """The files of one node, and whoever opens them."""

    def __init__(self, folder: Path, *, consumers: Sequence[str] = ("hub",), limits: Limits = LIMITS) -> None:
        self.folder = folder
        self.place = Place(folder / "state.db")
        self.consumers = tuple(consumers)
        self.limits = limits
        self.clock = ManualClock()
        self.role: SigningKey = ROLE
        self.rebuilt = 0
        self._random = random.Random(5)

    def open(self, steps: Sequence[Step] = STEPS) -> Opened:
        return open_journal(
            self.place,
            steps=steps,
            rebuild=self._rebuild,
            consumers=self.consumers,
            source=NODE.source,
            clock=self.clock,
            random=self._random.randbytes,
            sealer=self.role,
            limits=self.limits,
        )

    def open_and_close(self) -> Opened:
        opened = self.open()
        opened.journal._writer.close()
        return opened

    def _rebuild(self, connection: sqlite3.Connection) -> None:
        self.rebuilt += 1
        connection.execute("DELETE FROM role")
        connection.execute("INSERT INTO role VALUES ('from the copy')")

    @contextlib.asynccontextmanager
    async def journal(self) -> AsyncIterator[SqlJournal]:
        journal = self.open().journal
        journal.start()
        try:
            yield journal
        finally:
            await journal.close()

    @contextlib.contextmanager
    def reader(self) -> Any:
        reader = JournalReader(self.place.database, NODE.source, "reader", self.clock)
        try:
            yield reader
        finally:
            reader.close()

    def held_files(self) -> set[Path]:
        """Those of its files that this process has open."""
        held = {each.resolve() for each in Path("/proc/self/fd").iterdir()}
        return {path for path in held if path.is_relative_to(self.folder)}

    async def anchor(self, journal: SqlJournal) -> None:
        """What the upkeep does four times a second."""
        write_anchor(self.place.anchor, await journal.write(lambda t: Anchor(t.head.epoch, *t.head.last)))

    def copy(self, name: str) -> Path:
        """The database's files as they are now: what a kill leaves, or a backup takes."""
        target = self.folder.parent / name
        target.mkdir()
        for path in self.folder.glob("state.db*"):
            shutil.copy(path, target / path.name)
        return target

    def put_back(self, copy: Path) -> None:
        for path in self.folder.glob("state.db*"):
            path.unlink()
        for path in copy.iterdir():
            shutil.copy(path, self.folder / path.name)

    def events(self, epoch: str = "") -> list[CloudEvent]:
        """Every audit event, checked: numbers without a gap, chain, and seals by the role key."""
        with self.reader() as reader:
            rows = list(reader.audit(epoch))
        found: dict[str, list[CloudEvent]] = {}
        hashes: dict[str, bytes] = {}
        for name, seq, body, digest in rows:
            event = decode(body)
            before = hashes.get(name, GENESIS if seq == 1 else bytes.fromhex(event.prev))
            assert (event.seq, event.epoch, event.prev) == (seq, name, before.hex())
            assert link_hash(before, body) == digest
            assert seq == (found[name][-1].seq + 1 if name in found else seq)
            if event.type == SEALED:
                unsigned, signature = without_signature(body)
                assert self.role.public.verify(signature, unsigned)
            hashes[name] = digest
            found.setdefault(name, []).append(event)
        return [event for events in found.values() for event in events]

    def told(self) -> list[int]:
        """The numbers of the test's own audit events, in the order of the journal."""
        return [told(event) for event in self.events() if event.type == "test.happened"]


def told(event: CloudEvent) -> int:
    return msgspec.json.decode(event.data, type=Told).n


async def append(journal: SqlJournal, *numbers: int, event_class: EventClass = AUDIT, subject: str = "door/1") -> None:
    """Append and wait until all are durable; they share a transaction."""
    await asyncio.gather(*(journal.append(draft(n, event_class, subject)) for n in numbers))


def header_lost(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(100))


def begun(event: CloudEvent) -> JournalBegun:
    assert event.type == BEGUN
    return msgspec.json.decode(event.data, type=JournalBegun)


async def lived(store: Store, *numbers: int) -> str:
    """A run that appended ``numbers`` and wrote its anchor; returns the epoch."""
    async with store.journal() as journal:
        await append(journal, *numbers)
        for event_class in (STATE, TELEMETRY):
            await append(journal, *numbers, event_class=event_class)
        await store.anchor(journal)
        return journal.head.epoch


def begun_by(event: CloudEvent, cause: str) -> bool:
    return event.type == BEGUN and begun(event).cause == cause
