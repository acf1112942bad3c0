"""The desk behind the socket: numbers that rise, events as they are, acks and documents only with their signatures."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge import jose
from edge.acks import Ack, sign_ack
from edge.enrolment import check_renewal, vouch_for
from edge.errors import ProtocolError, StoreCorrupt, StoreError, VerificationError
from edge.event import decode
from edge.issuers import IssuersDocument, sign_issuers
from edge.journal_read_sql import JournalReader
from edge.journal_sql import SqlJournal
from edge.keys import SigningKey
from edge.link import (
    Events,
    Held,
    HeldAnswer,
    Hello,
    Link,
    LinkNumber,
    Offer,
    OfferAnswer,
    Pull,
    Vouch,
    Vouched,
    Welcome,
)
from edge.link_desk_sql import HeldIssuers, RoleFacts, RoleLinkDesk
from edge.result import Status, read_result
from tests.edge.journal_rig import Store, append, draft, header_lost, told
from tests.edge.test_command_desk import STEPS, Bench
from tests.edge.trust import HUB, NODE, NOW, ROLE, ROOT, STRANGER, entry, issuers


class Agent:
    """One life of a role agent, without its socket."""

    def __init__(self, store: Store, journal: SqlJournal) -> None:
        self.store = store
        self.journal = journal
        self.bench = Bench(store, journal)
        self.issuers = HeldIssuers(issuers(), [ROOT.public], journal)
        self.desk = RoleLinkDesk(
            facts=RoleFacts(NODE, "locker", "0.1.0", store.consumers),
            journal=journal,
            reader=JournalReader(store.place.database, NODE.source, journal.session, store.clock),
            issuers=self.issuers,
            commands=self.bench.desk,
            clock=store.clock,
            serving=lambda: True,
            vouch=lambda digest: vouch_for(digest, NODE, ROLE),
        )

    @classmethod
    async def begin(cls, store: Store) -> Agent:
        journal = store.open(STEPS).journal
        journal.start()
        agent = cls(store, journal)
        await agent.issuers.load()
        return agent

    async def end(self) -> None:
        self.desk.close()
        await self.journal.close()

    async def held(self, consumer: str = "hub", key: SigningKey = HUB, **changed: Any) -> HeldAnswer:
        with self.store.reader() as reader:
            *_, (epoch, seq, _, digest) = reader.audit()
        members: dict[str, Any] = {
            "iss": consumer,
            "aud": NODE.audience,
            "journals": {epoch: {"audit": (seq, digest.hex())}},
        }
        answer = await self.desk.answer(Held(1, consumer, sign_ack(Ack(**(members | changed)), key)))
        assert isinstance(answer, HeldAnswer)
        return answer

    async def offer(self, kind: str, token: bytes) -> OfferAnswer:
        answer = await self.desk.answer(Offer(1, kind, "open", token))
        assert isinstance(answer, OfferAnswer)
        return answer


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    (tmp_path / "node").mkdir()
    agent = await Agent.begin(Store(tmp_path / "node"))
    yield agent
    await agent.end()


async def test_hello_tells_who_this_is_and_what_there_is(agent: Agent) -> None:
    answer = await agent.desk.answer(Hello(7))
    assert isinstance(answer, Welcome)
    assert (answer.n, answer.tenant, answer.node, answer.instance) == (7, "acme", "acme_locker-7", ROLE.kid)
    assert (answer.session, answer.serving, answer.consumers) == (agent.journal.session, True, ("hub",))
    assert [view.epoch for view in answer.journals] == [agent.journal.head.epoch]


async def test_every_link_number_is_new_also_after_a_restart(agent: Agent) -> None:
    first = [await agent.desk.answer(Link(n)) for n in range(3)]
    after = await Agent.begin(agent.store)
    second = await after.desk.answer(Link(9))
    await after.end()
    numbers = [answer.link for answer in [*first, second] if isinstance(answer, LinkNumber)]
    assert numbers == [1, 2, 3, 4]


async def test_events_are_pulled_as_they_are(agent: Agent) -> None:
    await append(agent.journal, 1, 2, 3)
    answer = await agent.desk.answer(Pull(1, agent.journal.head.epoch, "audit", 1, 500))
    assert isinstance(answer, Events)
    assert ([told(decode(body)) for body in answer.bodies], answer.upto) == ([1, 2, 3], 4)
    with pytest.raises(ProtocolError):
        await agent.desk.answer(Pull(1, "unknown", "audit", 0, 500))


async def test_a_consumers_ack_moves_the_cursor_and_shows_that_the_consumer_is_in_reach(agent: Agent) -> None:
    await append(agent.journal, 1, 2)
    assert (await agent.held(key=STRANGER)).refused
    receipts = [agent.desk.receipt_at]
    answer = await agent.held()
    receipts.append(agent.desk.receipt_at)
    assert answer.refused == ""
    assert [each is not None for each in receipts] == [False, True]
    assert answer.journals[-1].classes["audit"] == (3, 3)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"key": STRANGER}, "unknown_key"),
        ({"aud": "acme_locker-8/x"}, "wrong_audience"),
        ({"iss": "cloud"}, "wrong_issuer"),
    ],
)
async def test_nobody_elses_ack_moves_anything(agent: Agent, changed: dict[str, Any], reason: str) -> None:
    await append(agent.journal, 1, 2)
    answer = await agent.held(**changed)
    assert answer.refused == reason
    assert answer.journals[-1].classes["audit"] == (0, 3)
    assert agent.desk.refused == {reason: 1}


async def test_an_ack_with_another_hash_moves_nothing(agent: Agent) -> None:
    await append(agent.journal, 1, 2)
    answer = await agent.held(journals={agent.journal.head.epoch: {"audit": (2, "00" * 32)}})
    assert answer.refused == "wrong_hash"
    assert answer.journals[-1].classes["audit"] == (0, 3)


async def test_what_is_wanted_and_there_is_told_to_cloud_sync(agent: Agent) -> None:
    await append(agent.journal, 1, 2)
    epoch = agent.journal.head.epoch
    asked = ((epoch, "audit", 1, 2), (epoch, "audit", 70, 80))
    assert (await agent.held(want=asked)).want == asked[:1]


async def test_two_deliveries_of_one_command_are_one_command(agent: Agent) -> None:
    jti, token = await agent.bench.opening()
    answers = await asyncio.gather(*(agent.offer("cmd", token) for _ in range(4)))
    assert agent.bench.moved == ["B7"]
    for answer in answers:
        ((command, result),) = answer.results
        read = read_result(result, ROLE.public, audience=NODE.audience, command_id=jti, issuer="hub")
        assert (command, read.status) == (jti, Status.ACCEPTED)


def document(version: int, *, root: SigningKey = ROOT) -> bytes:
    return sign_issuers(IssuersDocument(version, NOW, (entry(), entry(name="late", jwk=STRANGER.public.jwk()))), root)


async def test_a_newer_issuers_document_is_taken_and_kept(agent: Agent) -> None:
    assert (await agent.offer("issuers", document(5))).results == ()
    assert agent.issuers.now.version == 5
    after = await Agent.begin(agent.store)
    assert after.issuers.now.version == 5
    await after.end()


@pytest.mark.parametrize(
    ("token", "reason"),
    [(document(1), "not_newer"), (document(9, root=HUB), "unknown_key"), (b"x", "malformed")],
    ids=["old", "no root's", "noise"],
)
async def test_no_other_issuers_document_is_taken(agent: Agent, token: bytes, reason: str) -> None:
    await agent.offer("issuers", token)
    assert agent.issuers.now.version == 1
    assert agent.desk.refused == {reason: 1}


async def test_documents_that_overtake_each_other_leave_the_newest(agent: Agent) -> None:
    await asyncio.gather(*(agent.offer("issuers", document(version)) for version in (7, 6, 8, 5)))
    after = await Agent.begin(agent.store)
    assert (agent.issuers.now.version, after.issuers.now.version) == (8, 8)
    await after.end()


async def test_a_stored_document_that_the_present_roots_did_not_sign_is_left_alone(agent: Agent) -> None:
    await agent.offer("issuers", document(5))
    held = HeldIssuers(issuers(), [HUB.public], agent.journal)
    await held.load()
    assert held.now.version == 1


async def test_an_unknown_kind_of_offer_is_counted(agent: Agent) -> None:
    assert (await agent.offer("gossip", b"x")).results == ()
    assert agent.desk.refused == {"unknown_kind": 1}


async def test_damage_that_a_reader_meets_ends_the_journal_and_marks_the_file(agent: Agent) -> None:
    await append(agent.journal, *range(300))
    with contextlib.closing(sqlite3.connect(agent.store.place.database)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    header_lost(agent.store.place.database)
    reader = JournalReader(agent.store.place.database, NODE.source, "s", agent.store.clock)
    agent.desk._reader.close()
    agent.desk._reader = reader
    with pytest.raises(StoreCorrupt):
        await agent.desk.answer(Hello(1))
    assert agent.store.place.suspect.exists()
    with pytest.raises(StoreError):
        await agent.journal.append(draft(1))


async def test_the_role_key_vouches_for_a_certificate_request_and_says_nothing_else(agent: Agent) -> None:
    """Whatever words cloud-sync hands in, the signature is of a kind that the enrolment service alone reads."""
    digest = "d" * 43
    answer = await agent.desk.answer(Vouch(7, digest))
    assert isinstance(answer, Vouched)
    check_renewal(answer.proof.decode(), digest, NODE, ROLE.public)
    for kind in (jose.COMMAND, jose.RESULT, jose.ACK, jose.ISSUERS, jose.REPORTED, jose.ENROL):
        with pytest.raises(VerificationError) as refusal:
            jose.verify(answer.proof, kind, lambda _kid: ROLE.public)
        assert refusal.value.reason == "wrong_type"
    with pytest.raises(VerificationError):
        check_renewal(answer.proof.decode(), "e" * 43, NODE, ROLE.public)
