"""A clock that was caught stepping is trusted again on the word of two persons, also back in time, and no other way."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge import command
from edge.clock_sim import ManualClock
from edge.command import Claims, Command
from edge.command_desk import CommandDesk
from edge.floored_clock import STEP_S, FlooredClock
from edge.inbox_sql import SqlInbox, create_inbox, create_revisions
from edge.journal_sql import SqlJournal
from edge.keys import SigningKey
from edge.nonce import NonceBook
from edge.result import Result, read_result
from edge.schema_sql import create_journal
from edge.time_command import TIME_RULES, SetTime
from edge.time_floor_sql import resume_time, set_time
from tests.edge.journal_rig import Store
from tests.edge.trust import DAY, HUB, NODE, ROLE, SECOND, entry, issuers

STEPS = (create_journal, create_inbox, create_revisions)
SCOPES = ("nonce", "time")
_numbers = itertools.count(1)


class Node:
    """One run in one boot of a node."""

    def __init__(self, store: Store, journal: SqlJournal, boot: str) -> None:
        self.machine: ManualClock = store.clock
        self.journal = journal
        self.clock = FlooredClock(self.machine, boot)
        self._request = 0
        far = {"not_before": 0, "not_after": int(self.machine.wall()) + 4000 * DAY}
        self.listed = issuers(
            entry(scopes=SCOPES, **far), entry(name="second", jwk=SECOND.public.jwk(), scopes=SCOPES, **far)
        )
        self.desk = CommandDesk(
            identity=NODE,
            session=journal.session,
            role_key=ROLE,
            clock=self.clock,
            nonces=NonceBook(lambda size: next(_numbers).to_bytes(size, "big")),
            inbox=SqlInbox(journal),
            rules=TIME_RULES,
            acts={"time": set_time(journal, self.clock)},
            send=lambda *_: None,
        )

    async def _hears(self, token: bytes) -> Result:
        ((jti, result),) = await self.desk.offer(token, self.listed)
        return read_result(result, ROLE.public, audience=NODE.audience, command_id=jti, issuer="hub")

    def _claims(self, name: str, subject: str, args: dict[str, Any], **proof: Any) -> Claims:
        jti = f"019aa8f0-7c1e-7abc-8def-{next(_numbers):012x}"
        return Claims(iss="hub", aud=NODE.audience, jti=jti, iat=1, name=name, subject=subject, args=args, **proof)

    async def says(self, wall: float, *, second: SigningKey | None = SECOND, subject: str = "clock") -> tuple[str, str]:
        self._request += 1
        wanted = {"name": "time", "request": self._request}
        asked = self._claims("nonce", subject, wanted, session=self.journal.session)
        nonce = str((await self._hears(command.sign_command(asked, HUB))).data["nonce"])
        claims = self._claims("time", subject, {"wall": wall}, nonce=nonce)
        token = command.sign_command(claims, HUB)
        if second is not None:
            token = command.cosign(command.sign_first(claims, HUB), second)
        result = await self._hears(token)
        return result.status.value, result.reason


@pytest.fixture
async def store(tmp_path: Path) -> Store:
    (tmp_path / "node").mkdir()
    return Store(tmp_path / "node")


@pytest.fixture
async def node(store: Store) -> AsyncIterator[Node]:
    journal = store.open(STEPS).journal
    journal.start()
    node = Node(store, journal, "boot-1")
    await resume_time(journal, node.clock)
    yield node
    await journal.close()


async def fooled(node: Node) -> float:
    """A time server has set the clock a year ahead, and then it was mended; returns what time it really is."""
    right = node.machine.wall()
    assert node.clock.trusted()
    node.machine.step_wall(365 * DAY)
    assert not node.clock.trusted()
    node.machine.step_wall(-365 * DAY)
    assert not node.clock.trusted()
    return right


async def test_two_persons_make_the_clock_trusted_again(node: Node) -> None:
    right = await fooled(node)
    assert await node.says(right) == ("done", "")
    assert node.clock.trusted()
    assert node.clock.wall() == right


async def test_it_may_lower_the_floor_and_that_outlives_the_process(store: Store, node: Node) -> None:
    node.machine.step_wall(365 * DAY)
    node.clock.resume(node.clock.righted(node.machine.wall()))
    assert node.clock.trusted(), "the wrong year was believed"
    node.machine.step_wall(-365 * DAY)
    right = node.machine.wall()
    assert await node.says(right) == ("done", "")
    assert node.clock.memory.floor == right
    again = Node(store, node.journal, "boot-2")
    await resume_time(node.journal, again.clock)
    assert again.clock.trusted()
    assert again.clock.memory.floor == right


async def test_one_person_alone_changes_nothing(node: Node) -> None:
    right = await fooled(node)
    assert await node.says(right, second=None) == ("rejected", "wrong_persons")
    assert not node.clock.trusted()


async def test_what_the_machines_own_clock_contradicts_is_refused_and_changes_nothing(node: Node) -> None:
    right = await fooled(node)
    for wrong in (right + STEP_S + 1, right - STEP_S - 1):
        assert await node.says(wrong) == ("rejected", "clock_disagrees")
    assert await node.says(right, subject="door") == ("rejected", "bad_args")
    assert not node.clock.trusted()


async def test_the_clock_is_righted_also_when_whoever_offered_the_command_is_cut_off(node: Node) -> None:
    """The command is spent then, and the node answers a repeat with done."""
    right = await fooled(node)
    claims = node._claims("time", "clock", {"wall": right})

    async def ended(*_: object) -> None:
        raise AssertionError

    act = set_time(node.journal, node.clock)(Command(claims, ("k",), ""), SetTime(right), lambda *_: None, ended)
    offered = asyncio.ensure_future(act)
    await asyncio.sleep(0)
    offered.cancel()
    await asyncio.wait([offered])
    await node.journal.write(lambda _: None)
    assert offered.cancelled()
    assert node.clock.trusted()


async def test_the_next_step_is_caught_again(node: Node) -> None:
    await node.says(await fooled(node))
    node.machine.step_wall(2 * STEP_S)
    assert not node.clock.trusted()
