"""Nodes for the consumer's side to be tried on: real journals, sockets and cloud-sync, without hardware."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import time
from pathlib import Path
from typing import Any

from cloud_sync.client_mqtt import BrokerSettings, MqttBroker
from cloud_sync.collector import Node, load_nodes
from cloud_sync.pump import Pacing
from cloud_sync.service import CloudSync
from edge import link_socket
from edge.command_desk import CommandDesk
from edge.event import Draft, EventClass
from edge.identity import identify
from edge.inbox_sql import SqlInbox, create_inbox
from edge.journal import Limits
from edge.journal_open_sql import Place, open_journal
from edge.journal_read_sql import JournalReader
from edge.journal_upkeep_asyncio import Upkeep
from edge.keys import SigningKey
from edge.link_desk_sql import HeldIssuers, RoleFacts, RoleLinkDesk
from edge.nonce import NonceBook
from edge.schema_sql import create_journal
from tests.cloud_sync.rig import CONSUMER, TENANT, FastClock
from tests.edge.trust import DAY, ROOT, entry, issuers, seed

CONSUMER_KEY = SigningKey(seed(CONSUMER))
LIMITS = Limits(reserve_bytes=4096)


class LightNode:
    """One node. ``told`` is the witness: what the test has had it append, in order."""

    def __init__(self, home: Path, name: str) -> None:
        self.key = SigningKey(seed(name))
        self.identity = identify(TENANT, name, self.key.public)
        self.home = home / name
        self.home.mkdir()
        self.told: dict[EventClass, list[str]] = {each: [] for each in EventClass}
        self._clock = FastClock(5.0)
        self._rng = random.Random(name)
        self._tasks: list[asyncio.Task[None]] = []
        self._carrying: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self.identity.node

    def known(self) -> tuple[str, str, list[Any]]:
        return TENANT, self.name, [self.key.public]

    async def start(self) -> None:
        place = Place(self.home / "state.db")
        opened = open_journal(
            place,
            steps=(create_journal, create_inbox),
            rebuild=lambda _: None,
            consumers=(CONSUMER,),
            source=self.identity.source,
            clock=self._clock,
            random=self._rng.randbytes,
            sealer=self.key,
            limits=LIMITS,
        )
        self.journal = journal = opened.journal
        journal.start()
        now = int(time.time())
        ack = entry(name=CONSUMER, jwk=CONSUMER_KEY.public.jwk(), scopes=("ack",))
        trusted = issuers(type(ack)(**{**_members(ack), "not_before": now - DAY, "not_after": now + DAY}))
        self.desk = RoleLinkDesk(
            facts=RoleFacts(self.identity, "locker", "0.1.0", (CONSUMER,)),
            journal=journal,
            reader=JournalReader(place.database, self.identity.source, journal.session, self._clock),
            issuers=HeldIssuers(trusted, [ROOT.public], journal),
            commands=CommandDesk(
                identity=self.identity,
                session=journal.session,
                role_key=self.key,
                clock=self._clock,
                nonces=NonceBook(self._rng.randbytes),
                inbox=SqlInbox(journal),
                rules={},
                acts={},
                send=lambda _command, _result: None,
            ),
            clock=self._clock,
            serving=lambda: True,
        )
        server = link_socket.LinkServer(
            self.home / "role.sock", self.desk, uids=frozenset({os.getuid()}), clock=self._clock
        )
        journal.on_growth = server.wake
        ready = asyncio.Event()
        self._tasks = [
            asyncio.create_task(server.serve(ready.set)),
            asyncio.create_task(Upkeep(journal, place, LIMITS, self._clock, lambda: None).run()),
        ]
        await ready.wait()

    def carry(self, broker: BrokerSettings, pace: float = 1000.0) -> None:
        """Start cloud-sync to this broker."""
        sync = CloudSync(
            open_agent=lambda: link_socket.connect(self.home / "role.sock"),
            broker=MqttBroker(broker),
            pacing=Pacing(pace),
            clock=self._clock,
            random=lambda: self._rng.random() / 20,
            new_token=lambda: self._rng.randbytes(8).hex(),
        )
        self._carrying = asyncio.create_task(sync.run())

    async def stop_carrying(self) -> None:
        if self._carrying is not None:
            self._carrying.cancel()
            await asyncio.wait([self._carrying])
            self._carrying = None

    async def stop(self) -> None:
        await self.stop_carrying()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self.desk.close()
        await self.journal.close()

    async def tell(self, event_class: EventClass = EventClass.AUDIT, times: int = 1) -> None:
        """Have the journal append that many events, each with a number of its own."""
        drafts = []
        for _ in range(times):
            number = len(self.told[event_class]) + 1
            self.told[event_class].append(f"{self.name} {event_class.value} {number}")
            drafts.append(Draft(event_class, "test.told", f"subject-{number}", self.told[event_class][-1]))
        await asyncio.gather(*(self.journal.append(draft) for draft in drafts))

    def acknowledged(self, event_class: EventClass = EventClass.AUDIT) -> tuple[int, int]:
        """How far the consumer has signed, and the last number."""
        return self._query(
            """SELECT coalesce(min(seq), 0), (SELECT coalesce(max(seq), 0) FROM event WHERE class = ?1)
               FROM cursor WHERE class = ?1""",
            event_class.number,
        )[0]

    def settled(self) -> bool:
        """Whether every audit event is sealed and signed for."""
        acked, last = self.acknowledged()
        return acked == last > len(self.told[EventClass.AUDIT])

    def audit(self) -> list[bytes]:
        return [body for (body,) in self._query("SELECT body FROM event WHERE class = ?1 ORDER BY place", 0)]

    def _query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.home / "state.db")
        try:
            return connection.execute(sql, values).fetchall()
        finally:
            connection.close()


def _members(struct: Any) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def nodes_of(lights: list[LightNode]) -> dict[str, Node]:
    return load_nodes([each.known() for each in lights])
