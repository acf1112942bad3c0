"""The node's side of a hostile broker: cloud-sync, the desk behind it, a journal on disk, and counted doors."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from agents import locker_downlink
from cloud_sync.ports import Broker, BrokerLost, Message
from cloud_sync.pump import Pacing
from cloud_sync.service import CloudSync
from edge.acks import Ack, sign_ack
from edge.clock_sim import ManualClock
from edge.command import Claims, sign_command
from edge.command_desk import CommandDesk
from edge.desired_sql import HeldDesired
from edge.event import Draft, EventClass
from edge.identifiers import uuid7
from edge.identity import identify
from edge.inbox_sql import SqlInbox
from edge.issuers import Entry, IssuersDocument, read_issuers, sign_issuers
from edge.journal import Limits
from edge.journal_open_sql import Place, open_journal
from edge.journal_read_sql import JournalReader
from edge.journal_sql import SqlJournal
from edge.keys import SigningKey
from edge.link import Answer, Hello, Request, Welcome
from edge.link_desk_sql import HeldIssuers, RoleFacts, RoleLinkDesk
from edge.nonce import NonceBook
from edge.result import Result, read_result
from locker.commands import COMMANDS
from locker.desired import read_wishes
from locker.ledger_sql import LOCKER_STEPS

ROOT, ROLE = SigningKey(b"0" * 32), SigningKey(b"r" * 32)
HUB, ARCHIVE, OUTSIDER = SigningKey(b"h" * 32), SigningKey(b"a" * 32), SigningKey(b"o" * 32)
CLERK, FAR, FORMER, LATE = (SigningKey(letter * 32) for letter in (b"c", b"w", b"q", b"l"))
STAFF, GUARD, TRAINEE = SigningKey(b"t" * 32), SigningKey(b"g" * 32), SigningKey(b"i" * 32)
SPARE = SigningKey(b"p" * 32)
NODE = identify("acme", "locker-7", ROLE.public)
CONSUMERS = ("hub", "archive")
TOPICS = f"lm/v1/{NODE.tenant}/{NODE.node}"
RULES = {name: COMMANDS[name] for name in ("open", "clear", "expect")}
DOORS = ("01", "02", "03", "04")
NOW = 1_800_000_000
DAY = 86_400
ALL = ("ack", "nonce", "open", "desired")


def _entry(key: SigningKey, name: str, scopes: Sequence[str], **changed: Any) -> Entry:
    members: dict[str, Any] = {"nodes": ("acme_*",), "not_before": NOW - DAY, "not_after": NOW + DAY}
    return Entry(name=name, jwk=key.public.jwk(), scopes=tuple(scopes), **(members | changed))


def document(version: int, root: SigningKey = ROOT, *, more: Sequence[Entry] = (), pardoned: bool = False) -> bytes:
    """The issuers as the operator lists them. Four keys stand under ``hub`` or ``staff`` and may do nothing here."""
    entries = (
        _entry(HUB, "hub", ("ack",)),
        _entry(ARCHIVE, "archive", ("ack",)),
        _entry(OUTSIDER, "outsider", ("ack",)),
        _entry(CLERK, "hub", ("badge",)),
        _entry(FAR, "hub", ALL, nodes=("acme_far*", "other_*", "acme_locker-70")),
        _entry(FORMER, "hub", ALL, revoked=not pardoned),
        _entry(LATE, "hub", ALL, not_after=NOW - 1),
        _entry(STAFF, "staff", ("nonce", "open", "clear", "book", "desired")),
        _entry(SPARE, "staff", ("clear",)),
        _entry(GUARD, "guard", ("nonce", "open", "clear")),
        _entry(TRAINEE, "trainee", ("nonce",)),
    )
    return sign_issuers(IssuersDocument(version, NOW, (*entries, *more)), root)


def listed(key: SigningKey, name: str, *scopes: str) -> Entry:
    return _entry(key, name, scopes)


class Doors:
    """Stands where the locker's service stands: opens whatever it is told to, in the transaction that takes it."""

    def __init__(self, journal: SqlJournal) -> None:
        self._journal = journal
        self.opened: list[str] = []
        self.cleared: list[str] = []
        self.booked: list[tuple[str, int]] = []

    async def clear(self, order: Any, _jti: str, take: Callable[[Any], object]) -> None:
        await self._journal.write(lambda transaction: take(SimpleNamespace(transaction=transaction)))
        self.cleared.append(order.door)

    async def book(self, booking: str, _order: Any, rev: int, take: Callable[[Any], object]) -> None:
        await self._journal.write(lambda transaction: take(SimpleNamespace(transaction=transaction)))
        self.booked.append((booking, rev))

    async def open_by_command(
        self, door: str, _jti: str, take: Callable[[Any], object], _ended: Callable[[Any], Awaitable[None]]
    ) -> None:
        await self._journal.write(lambda transaction: take(SimpleNamespace(transaction=transaction)))
        self.opened.append(door)


class Terms:
    """Stands where the locker's terms stand: what a document has asked for, by the locker's own rules."""

    def __init__(self) -> None:
        self.now: dict[str, Any] = {}

    def refusals(self, body: Any) -> Any:
        return read_wishes(body, DOORS)[1]

    def apply(self, body: Any) -> Any:
        self.now = dict(body)
        return body


class _Agent:
    """cloud-sync's end of the local socket, without the socket."""

    def __init__(self, desk: RoleLinkDesk) -> None:
        self._desk = desk
        self.asked: list[Request] = []

    async def ask(self, make: Callable[[int], Request]) -> Answer:
        request = make(1)
        self.asked.append(request)
        return await self._desk.answer(request)


class _Delivery:
    """A connection that has these messages and then is gone."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = list(messages)
        self.acknowledged: list[Message] = []

    async def next_messages(self, most: int) -> list[Message]:
        if not self._messages:
            raise BrokerLost("nothing more to come", remedy="none")
        return [self._messages.pop(0)]

    def ack(self, message: Message) -> None:
        self.acknowledged.append(message)


class Street:
    """One locker with some events in its journal, two consumers, and whatever the broker makes it hear."""

    def __init__(self, database: Path, journal: SqlJournal, clock: ManualClock) -> None:
        self.clock = clock
        self.journal = journal
        self._database = database
        self.doors = Doors(journal)
        self.issuers = HeldIssuers(read_issuers(document(2), [ROOT.public], held_version=0), [ROOT.public], journal)
        self.terms = Terms()
        self.reported: list[bytes] = []
        self.desk = self._desk()
        self.agent = _Agent(self.desk)
        self.sync = CloudSync(
            open_agent=cast("Any", None),
            broker=cast("Broker", None),
            pacing=Pacing(),
            clock=clock,
            random=lambda: 0.5,
            new_token=lambda: "token",
        )
        self._request = 0

    def _desk(self) -> RoleLinkDesk:
        reader = JournalReader(self._database, NODE.source, self.journal.session, self.clock)
        commands = CommandDesk(
            identity=NODE,
            session=self.journal.session,
            role_key=ROLE,
            clock=self.clock,
            nonces=NonceBook(os.urandom),
            inbox=SqlInbox(self.journal),
            rules=RULES,
            acts={
                "open": self._open_door,
                "clear": locker_downlink._clear(cast("Any", self.doors)),
                "expect": locker_downlink._book(cast("Any", self.doors)),
            },
            send=lambda *_: None,
        )
        return RoleLinkDesk(
            facts=RoleFacts(NODE, "locker", "0.1.0", CONSUMERS),
            journal=self.journal,
            reader=reader,
            issuers=self.issuers,
            commands=commands,
            clock=self.clock,
            serving=lambda: True,
            desired=HeldDesired(
                identity=NODE,
                software="1",
                role_key=ROLE,
                journal=self.journal,
                clock=self.clock,
                subject=self.terms,
                issuers=lambda: self.issuers.now,
                push=self.reported.append,
            ),
        )

    async def _open_door(self, *wanted: Any) -> None:
        """What the locker's agent does; looked up at each use, so that a removal reaches it."""
        await locker_downlink._open_door(cast("Any", self.doors))(*wanted)

    async def greet(self) -> None:
        welcome = await self.agent.ask(Hello)
        held = self.sync._agent
        held._link, held.welcome = cast("Any", self.agent), cast("Welcome", welcome)
        held.there.set()

    # What the broker does.

    async def hears(self, topic: str, payload: bytes, *, retain: bool = False) -> list[tuple[str, bytes]]:
        """Deliver one message as cloud-sync reads it; what it publishes in answer as (command id, signed result)."""
        message = Message(topic, payload, 1, retain, 1)
        delivery = _Delivery([message])
        with contextlib.suppress(BrokerLost):
            await self.sync._read_inbox(cast("Any", delivery))
        assert delivery.acknowledged == [message]
        answers = [(out.name, out.payload) for out in self.sync._outgoing._queue]
        self.sync._outgoing._queue.clear()
        return answers

    async def hears_ack(self, token: bytes, consumer: str = "hub") -> None:
        await self.hears(f"{TOPICS}/ack/{consumer}", token)

    async def hears_command(self, token: bytes, issuer: str = "staff", name: str = "open") -> list[Result]:
        answers = await self.hears(f"{TOPICS}/cmd/{name}", token)
        return [
            read_result(payload, ROLE.public, audience=NODE.audience, command_id=jti, issuer=issuer)
            for jti, payload in answers
        ]

    # What its people do.

    def claims(self, name: str = "open", door: str = "01", iss: str = "staff", **changed: Any) -> Claims:
        args = {"door": door} if name == "open" else {"name": "open", "request": self._next_request()}
        members: dict[str, Any] = {
            "iss": iss,
            "aud": NODE.audience,
            "jti": uuid7(self.clock.wall(), os.urandom(10)),
            "iat": int(self.clock.wall()),
            "name": name,
            "subject": door,
            "args": args,
        }
        return Claims(**(members | changed))

    def _next_request(self) -> int:
        self._request += 1
        return self._request

    def nonce_request(self, door: str = "01", key: SigningKey = STAFF, iss: str = "staff", **changed: Any) -> bytes:
        session = {"session": self.journal.session}
        return sign_command(self.claims("nonce", door, iss, **(session | changed)), key)

    async def nonce(self, door: str = "01", key: SigningKey = STAFF, iss: str = "staff") -> str:
        """A nonce from the node, "" where it gives none."""
        answers = await self.hears_command(self.nonce_request(door, key, iss), iss, "nonce")
        return answers[0].data.get("nonce", "") if answers else ""

    async def open(self, door: str = "01", key: SigningKey = STAFF, iss: str = "staff") -> None:
        """The two steps of whoever has ``key``."""
        nonce = await self.nonce(door, key, iss)
        await self.hears_command(sign_command(self.claims(door=door, iss=iss, nonce=nonce or "none"), key), iss)

    # What is there.

    async def journals(self, upto: int | None = None) -> dict[str, Any]:
        """What an honest consumer that holds the audit up to ``upto`` (None: all) would acknowledge."""
        with contextlib.closing(JournalReader(self._database, NODE.source, "", self.clock)) as reader:
            rows = [(seq, digest) for epoch, seq, _, digest in reader.audit() if epoch == self.epoch]
        seq, digest = rows[-1] if upto is None else rows[upto - 1]
        return {self.epoch: {"audit": (seq, digest.hex())}}

    def ack(self, journals: dict[str, Any], key: SigningKey = HUB, iss: str = "hub", aud: str = NODE.audience) -> bytes:
        return sign_ack(Ack(iss, aud, journals), key)

    @property
    def epoch(self) -> str:
        """The epoch in which the story began."""
        with contextlib.closing(self._look()) as sql:
            return str(sql.execute("SELECT id FROM epoch ORDER BY no LIMIT 1").fetchone()[0])

    def epochs(self) -> int:
        with contextlib.closing(self._look()) as sql:
            return int(sql.execute("SELECT count(*) FROM epoch").fetchone()[0])

    def cursors(self) -> dict[tuple[str, int], int]:
        """By consumer and class, of the epoch in which the story began; as another process sees them."""
        with contextlib.closing(self._look()) as sql:
            rows = sql.execute("SELECT consumer, class, seq FROM cursor WHERE epoch_no = (SELECT min(no) FROM epoch)")
            return {(consumer, kind): seq for consumer, kind, seq in rows}

    def _look(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)


def _open(database: Path, clock: ManualClock) -> SqlJournal:
    opened = open_journal(
        Place(database),
        steps=LOCKER_STEPS,
        rebuild=lambda _: None,
        consumers=CONSUMERS,
        source=NODE.source,
        clock=clock,
        random=os.urandom,
        sealer=ROLE,
        limits=Limits(reserve_bytes=0),
    )
    opened.journal.start()
    return opened.journal


async def _some_events(database: Path, clock: ManualClock) -> None:
    """An earlier run leaves sealed events behind, so that the epoch is one that this run found in the file."""
    journal = _open(database, clock)
    for n in range(4):
        await journal.append(Draft(EventClass.AUDIT, "locker.door.opened", "01", {"n": n}))
        await journal.append(Draft(EventClass.STATE, "locker.door.state", "01", {"n": n}))
    await clock.advance(5)
    await journal.seal_if_due()
    await journal.close()


@contextlib.asynccontextmanager
async def street(folder: Path) -> AsyncIterator[Street]:
    clock = ManualClock(NOW)
    await _some_events(folder / "state.db", clock)
    journal = _open(folder / "state.db", clock)
    whole = Street(folder / "state.db", journal, clock)
    try:
        await whole.greet()
        yield whole
    finally:
        whole.desk.close()
        await journal.close()
