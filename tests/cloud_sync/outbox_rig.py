"""An issuer with its outbox, and a scripted node that signs real answers, both on a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cloud_sync.client_mqtt import BrokerSettings, MqttBroker, MqttConnection
from cloud_sync.collector import Node, load_nodes
from cloud_sync.outbox import Entry, Outcome, entry_of
from cloud_sync.outbox_asyncio import Outbox
from cloud_sync.outbox_sql import OutboxStore
from cloud_sync.ports import BrokerLost, Will
from cloud_sync.presence import Presence, encode
from cloud_sync.topics import Kind, NodeTopics, parse
from edge import jose
from edge.claims import claims_as
from edge.clock import Clock
from edge.clock_sim import ManualClock
from edge.command import Claims, sign_command
from edge.identifiers import uuid7
from edge.keys import SigningKey
from edge.result import Result, Status, sign_result

TENANT, NODE = "acme", "acme_l1"
ROLE, HUB, FORGER = SigningKey(b"r" * 32), SigningKey(b"h" * 32), SigningKey(b"f" * 32)
SECOND = SigningKey(b"s" * 32)
SIGNERS = {key.kid: key.public for key in (HUB, SECOND)}
NODES: Mapping[str, Node] = load_nodes([(TENANT, NODE, [ROLE.public])])
AUDIENCE = NODES[NODE].audience
TOPICS = NodeTopics(TENANT, NODE)
EPOCH = uuid7(1_800_000_000.0, bytes(10))
DAY = 86_400
_ids = itertools.count(1)


class QuickClock:
    """``edge.clock.Clock`` at a hundred times the pace: minutes of waiting on a real broker pass in a second."""

    PACE = 100.0

    def wall(self) -> float:
        return time.time()

    def mono(self) -> float:
        return time.monotonic() * self.PACE

    def trusted(self) -> bool:
        return True

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0.0) / self.PACE)


def new_id(wall: float = 1_800_000_000.0) -> str:
    return uuid7(wall, next(_ids).to_bytes(10, "big"))


def claims(name: str = "expect", subject: str = "booking-1", **changed: Any) -> Claims:
    """A booking command, or with ``nonce`` in place of ``rev`` and ``exp`` an actuation."""
    wall = int(changed.pop("iat", time.time()))
    members: dict[str, Any] = {
        "iss": "hub",
        "aud": AUDIENCE,
        "jti": new_id(wall),
        "iat": wall,
        "name": name,
        "subject": subject,
        "args": {},
    }
    members |= {} if "nonce" in changed else {"rev": 1, "exp": wall + 30 * DAY}
    return Claims(**(members | changed))


def booking(subject: str = "booking-1", rev: int = 1, **changed: Any) -> Entry:
    said = claims(subject=subject, rev=rev, **changed)
    return entry_of(said, sign_command(said, HUB))


def actuation(door: str = "A3", nonce: str = "n1", **changed: Any) -> Entry:
    said = claims("open", door, nonce=nonce, **changed)
    return entry_of(said, sign_command(said, HUB))


def word(
    entry: Entry, status: Status, reason: str = "", key: SigningKey = ROLE, at: int = 1_800_000_000, **changed: Any
) -> bytes:
    members: dict[str, Any] = {"iss": entry.audience, "aud": entry.issuer, "id": entry.jti}
    return sign_result(Result(**(members | changed), status=status, iat=at, reason=reason), key)


def presence(link: int = 1, *, online: bool = True, session: str = "s1", epoch: str = EPOCH) -> Presence:
    return Presence(online, online, link, session, epoch, "locker", "1", datetime(2027, 1, 1, tzinfo=UTC))


class ScriptedNode:
    """Takes commands as a node does: once each, answered again with the recorded words; what it did is ``effects``."""

    def __init__(self) -> None:
        self.effects: list[str] = []
        """Ids of what was done, as the witness of the test."""
        self.heard: list[tuple[str, bytes]] = []
        """(command's name, bytes) of every delivery."""
        self.silent = False
        self.nonces: set[str] = set()
        """Given out and not used."""
        self.session = "s1"
        self.broker_has = "s1"
        """The session that its presence names; another than ``session`` after a restart that the broker missed."""
        self.sees_no_end = False
        """Accepts, and does not say how it ended."""
        self.signers: list[tuple[str, ...]] = []
        """Who signed each command, the first of them first."""
        self._answers: dict[str, list[bytes]] = {}
        self._revs: dict[str, int] = {}
        self._link = 0
        self._connection: MqttConnection | None = None
        self._task: asyncio.Task[None] | None = None

    async def connect(self, settings: BrokerSettings) -> None:
        self._link += 1
        will = Will(TOPICS.presence, encode(presence(self._link, online=False)))
        self._connection = await MqttBroker(settings).connect(will)
        await self._connection.subscribe(TOPICS.inward())
        await self.appear()
        self._task = asyncio.create_task(self._serve(self._connection))

    async def appear(self) -> None:
        await self._say(TOPICS.presence, encode(presence(self._link, session=self.broker_has)), retain=True)

    async def leave(self) -> None:
        """Off, as after a power cut; a broker that is gone is no reason to fail."""
        if self._connection is not None and self._task is not None:
            with contextlib.suppress(BrokerLost):
                await self._say(TOPICS.presence, encode(presence(self._link, online=False)), retain=True)
            await self._connection.close()
            await self._task
            self._connection = None

    async def say(self, jti: str, token: bytes) -> None:
        await self._say(TOPICS.result(jti), token)

    async def _say(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        assert self._connection is not None
        await (await self._connection.send(topic, payload, retain=retain))

    async def _serve(self, connection: MqttConnection) -> None:
        with contextlib.suppress(BrokerLost):
            while True:
                (message,) = await connection.next_messages(1)
                if parse(message.topic).kind is not Kind.COMMAND:
                    connection.ack(message)  # its own presence, which a real one looks at
                    continue
                # As the real one: taken and committed first, acknowledged then.
                answers = self._take(message.topic, message.payload)
                connection.ack(message)
                for jti, token in answers:
                    await (await connection.send(TOPICS.result(jti), token))

    def _take(self, topic: str, token: bytes) -> list[tuple[str, bytes]]:
        self.heard.append((topic.rpartition("/")[2], token))
        if self.silent:
            return []
        signed = jose.verify_all(token, jose.COMMAND, lambda kid: SIGNERS[kid])
        self.signers.append(tuple(each.kid for each in signed))
        said = claims_as(signed[0].claims, Claims)
        assert said.aud == AUDIENCE
        if said.name == "nonce":
            return [(said.jti, self._nonce(said, entry_of(said, token)))]
        if said.jti not in self._answers:
            self._answers[said.jti] = self._do(said, entry_of(said, token))
        return [(said.jti, answer) for answer in self._answers[said.jti]]

    def _nonce(self, said: Claims, entry: Entry) -> bytes:
        if said.session != self.session:
            return word(entry, Status.REJECTED, "wrong_session")
        nonce = f"nonce-{len(self.heard)}"
        self.nonces.add(nonce)
        return word(entry, Status.DONE, data={"nonce": nonce})

    def _do(self, said: Claims, entry: Entry) -> list[bytes]:
        if said.nonce is not None and said.nonce not in self.nonces:
            return [word(entry, Status.REJECTED, "unknown_nonce")]
        if said.rev is not None and said.rev <= self._revs.get(said.subject, 0):
            return [word(entry, Status.REJECTED, "superseded")]
        self.nonces.discard(said.nonce or "")
        self._revs[said.subject] = said.rev or 0
        self.effects.append(said.jti)
        end = [] if self.sees_no_end else [word(entry, Status.DONE, "taken")]
        return [word(entry, Status.ACCEPTED), *end]

    def finish(self, jti: str, token: bytes) -> None:
        """From now on it knows how the command ended."""
        self._answers[jti] = [token]


class Bench:
    """An issuer's outbox at work; what it told is kept."""

    def __init__(self, outbox: Outbox, store: OutboxStore) -> None:
        self.outbox = outbox
        self.store = store
        self.told: list[Outcome] = []

    async def states(self) -> dict[str, str]:
        return {entry.jti: state.value for entry, state, _ in await self.store.newest(1000)}


@contextlib.asynccontextmanager
async def at_work(path: Path, settings: BrokerSettings, clock: Clock | None = None) -> AsyncIterator[Bench]:
    """One life of an issuer's process; the end is as sudden as a kill, nothing is said to the broker."""
    clock = QuickClock() if clock is None else clock
    store = OutboxStore(str(path), clock=clock)
    await store.open()
    told: list[Outcome] = []
    outbox = Outbox(
        nodes=NODES, broker=MqttBroker(settings), store=store, clock=clock, random=lambda: 0.5, tell=told.append
    )
    bench = Bench(outbox, store)
    bench.told = told
    task = asyncio.create_task(outbox.run())
    try:
        yield bench
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await store.close()


def store_at(path: Path, clock: Clock | None = None) -> OutboxStore:
    return OutboxStore(str(path), clock=clock or ManualClock())
