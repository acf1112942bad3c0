"""What a broker's word may do to the journal through cloud-sync: little, and to audit nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from edge.contract import EventUnsendable
from edge.event import DROPPED, decode
from edge.journal_broker_sql import TOLD_EVERY_S
from edge.journal_keep_sql import delete_acknowledged
from edge.link import Events, HeldAnswer, Passed, Pull, Unsendable
from tests.edge.journal_rig import AUDIT, LIMITS, STATE, TELEMETRY, Store, append
from tests.edge.test_link_desk import Agent


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    (tmp_path / "node").mkdir()
    agent = await Agent.begin(Store(tmp_path / "node", consumers=("hub", "cloud")))
    for event_class in (AUDIT, STATE, TELEMETRY):
        await append(agent.journal, *range(1, 6), event_class=event_class)
    yield agent
    await agent.end()


async def passed(agent: Agent, name: str, upto: int, epoch: str = "") -> HeldAnswer:
    answer = await agent.desk.answer(Passed(1, epoch or agent.journal.head.epoch, name, upto))
    assert isinstance(answer, HeldAnswer)
    return answer


async def unsendable(agent: Agent, name: str, seq: int, reason: str = "too_large", epoch: str = "") -> HeldAnswer:
    answer = await agent.desk.answer(Unsendable(1, epoch or agent.journal.head.epoch, name, seq, reason))
    assert isinstance(answer, HeldAnswer)
    return answer


def acknowledged(answer: HeldAnswer, name: str) -> int:
    return answer.journals[-1].classes[name][0]


async def pulled(agent: Agent, name: str) -> list[bytes]:
    answer = await agent.desk.answer(Pull(1, agent.journal.head.epoch, name, 0, 500))
    assert isinstance(answer, Events)
    return list(answer.bodies)


async def test_a_puback_ends_nothing_unless_the_operator_lets_it(agent: Agent) -> None:
    for name in ("audit", "state", "telemetry"):
        answer = await passed(agent, name, 4)
        assert (answer.refused, acknowledged(answer, name)) == ("receipts_only", 0)


async def test_where_it_does_it_ends_state_and_telemetry_for_every_consumer_and_audit_never(agent: Agent) -> None:
    agent.desk._puback_ends = True
    for name in ("state", "telemetry"):
        answer = await passed(agent, name, 4)
        assert (answer.refused, acknowledged(answer, name)) == ("", 4)
        answer = await passed(agent, name, 2**40)
        assert acknowledged(answer, name) == 5  # what was never written cannot have been sent
        assert acknowledged(await passed(agent, name, 1), name) == 5
    answer = await passed(agent, "audit", 4)
    assert (answer.refused, acknowledged(answer, "audit")) == ("audit_needs_a_receipt", 0)
    assert (await passed(agent, "weather", 4)).refused == "unknown_epoch"
    assert (await passed(agent, "state", 4, "another")).refused == "unknown_epoch"
    assert await agent.journal.write(lambda transaction: delete_acknowledged(transaction, LIMITS)) == 10
    assert len(await pulled(agent, "audit")) == 6


async def test_an_event_that_cannot_be_sent_leaves_a_range_and_the_newest_state_stays_right(agent: Agent) -> None:
    assert (await unsendable(agent, "telemetry", 3)).refused == ""
    assert (await unsendable(agent, "state", 5)).refused == ""
    bodies = [decode(body) for body in await pulled(agent, "telemetry")]
    assert [(event.seq, event.type == DROPPED) for event in bodies] == [
        (1, False),
        (2, False),
        (0, True),
        (4, False),
        (5, False),
    ]
    gone = msgspec.json.decode(bodies[2].data)
    assert (gone["first"], gone["last"], gone["count"], gone["reason"]) == (3, 3, 1, "unsendable")
    rows = await agent.journal.write(lambda t: t.sql.execute("SELECT count(*) FROM newest_state").fetchone())
    assert rows == (0,)
    assert (await unsendable(agent, "telemetry", 3)).refused == "unknown_event"


async def test_an_audit_event_that_cannot_be_sent_is_kept_and_told(agent: Agent) -> None:
    before = await pulled(agent, "audit")
    assert (await unsendable(agent, "audit", 3)).refused == ""
    *same, told = await pulled(agent, "audit")
    assert same == before
    data = msgspec.json.decode(decode(told).data, type=EventUnsendable)
    expected = EventUnsendable(epoch=agent.journal.head.epoch, event_class="audit", seq=3, reason="too_large", count=1)
    assert data == expected


async def test_a_cloud_sync_that_lies_without_end_writes_one_event_a_minute(agent: Agent) -> None:
    before = len(await pulled(agent, "audit"))
    for _ in range(3):
        for seq in range(1, 101):
            await unsendable(agent, "audit", 1 + seq % 5, "x" * 60)
        await agent.store.clock.advance(TOLD_EVERY_S)
    told = (await pulled(agent, "audit"))[before:]
    events = [decode(body) for body in told]
    said = [
        msgspec.json.decode(each.data, type=EventUnsendable) for each in events if each.type == EventUnsendable.TYPE
    ]
    assert [each.count for each in said] == [1, 100, 100]
    assert {each.reason for each in said} == {"other"}
    assert [len(told) - len(said)] <= [2]  # seals
