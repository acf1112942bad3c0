"""A desired document is in force whole or not at all, over restarts; and the node's own word says which."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge import desired_sql
from edge.desired_sql import MAX_REFUSED, HeldDesired
from edge.document import Desired, RefusedMember, Reported, read_reported, sign_desired
from edge.errors import StoreFull, VerificationError
from edge.issuers import Issuers
from edge.journal_sql import SqlJournal
from edge.keys import SigningKey
from tests.edge.journal_rig import Store
from tests.edge.trust import DAY, HUB, NODE, ROLE, STRANGER, entry, issuers


class Role:
    """Has what is not called ``wiring``."""

    def __init__(self) -> None:
        self.applied: list[dict[str, Any]] = []
        self.impossible = {"wiring"}

    def refusals(self, body: Mapping[str, Any]) -> tuple[RefusedMember, ...]:
        return tuple(RefusedMember(name, "unknown_member") for name in body if name in self.impossible)

    def apply(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        self.applied.append({name: value for name, value in body.items() if name not in self.impossible})
        return self.applied[-1]


class Node:
    """One life of a node."""

    def __init__(self, store: Store, journal: SqlJournal) -> None:
        self.store = store
        self.journal = journal
        self.role = Role()
        self.published: list[bytes] = []
        now = int(store.clock.wall())
        self.listed: Issuers = issuers(entry(not_before=now - DAY, not_after=now + DAY), version=7)
        self.desired = HeldDesired(
            identity=NODE,
            software="1.0",
            role_key=ROLE,
            journal=journal,
            clock=store.clock,
            subject=self.role,
            issuers=lambda: self.listed,
            push=self.published.append,
        )

    @classmethod
    async def begin(cls, store: Store) -> Node:
        journal = store.open().journal
        journal.start()
        node = cls(store, journal)
        await node.desired.load()
        return node

    def reported(self) -> Reported:
        return read_reported(self.published[-1], ROLE.public, audience=NODE.audience)

    async def refusal(self, token: bytes) -> str:
        with pytest.raises(VerificationError) as caught:
            await self.desired.offer(token)
        return caught.value.reason

    def told(self) -> list[tuple[str, int]]:
        found = [event for event in self.store.events() if event.type.startswith("node.desired.")]
        return [(event.type.rsplit(".")[-1], int(msgspec.json.decode(event.data)["version"])) for event in found]


def signed(version: int, body: dict[str, Any], key: SigningKey = HUB, **changed: Any) -> bytes:
    members: dict[str, Any] = {"iss": "hub", "aud": NODE.audience, "issued_at": 1, "version": version, "body": body}
    return sign_desired(Desired(**(members | changed)), key)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    (tmp_path / "node").mkdir()
    node = await Node.begin(Store(tmp_path / "node"))
    yield node
    await node.journal.close()


async def test_a_newer_document_is_applied_kept_and_reported(node: Node) -> None:
    await node.desired.offer(signed(4, {"hold_hours": 1}))
    assert node.role.applied == [{"hold_hours": 1}]
    said = node.reported()
    assert (said.desired_version, said.issuers_version, said.applied) == (4, 7, {"hold_hours": 1})
    assert (said.refused_version, said.refused, said.software) == (0, (), "1.0")
    assert node.told() == [("applied", 4)]


async def test_after_a_restart_it_is_in_force_and_only_a_newer_one_replaces_it(node: Node) -> None:
    await node.desired.offer(signed(4, {"hold_hours": 1}))
    after = await Node.begin(node.store)
    assert after.role.applied == [{"hold_hours": 1}]
    assert await after.refusal(signed(4, {"hold_hours": 9})) == "not_newer"
    assert await after.refusal(signed(3, {"hold_hours": 9})) == "not_newer"
    await after.desired.offer(signed(5, {}))
    assert after.role.applied[-1] == {}
    await after.journal.close()


async def test_what_the_node_reports_rises_over_restarts(node: Node) -> None:
    await node.desired.report()
    await node.desired.report()
    after = await Node.begin(node.store)
    await after.desired.report()
    said = [read_reported(each, ROLE.public, audience=NODE.audience).version for each in node.published]
    first = int(node.store.clock.wall())
    assert [*said, after.reported().version] == [first, first + 1, first + 2]
    await after.journal.close()


async def test_a_document_with_one_bad_member_changes_nothing_and_is_refused_by_name(node: Node) -> None:
    await node.desired.offer(signed(4, {"hold_hours": 1}))
    await node.desired.offer(signed(5, {"hold_hours": 2, "wiring": {}}))
    assert node.role.applied == [{"hold_hours": 1}]
    said = node.reported()
    assert (said.desired_version, said.applied) == (4, {"hold_hours": 1})
    assert (said.refused_version, said.refused) == (5, (RefusedMember("wiring", "unknown_member"),))
    assert node.told() == [("applied", 4), ("refused", 5)]
    await node.desired.offer(signed(6, {"hold_hours": 3}))
    assert (node.reported().refused_version, node.reported().refused) == (0, ())


async def test_the_same_bytes_at_every_connection_are_no_news(node: Node) -> None:
    good, bad = signed(4, {"hold_hours": 1}), signed(5, {"wiring": {}})
    for _ in range(3):
        await node.desired.offer(good)
        await node.desired.offer(bad)
    after = await Node.begin(node.store)
    await after.desired.offer(good)
    assert len(node.published) == 2
    assert after.published == []
    assert node.told() == [("applied", 4), ("refused", 5)]
    await after.journal.close()


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (signed(9, {}, STRANGER), "unknown_key"),
        (signed(9, {}, iss="somebody"), "wrong_issuer"),
        (signed(9, {}, aud="acme_locker-8/x"), "wrong_audience"),
        (signed(0, {}), "bad_claims"),
        (b"noise", "malformed"),
    ],
)
async def test_what_is_not_signed_for_this_node_changes_nothing_and_is_not_told(
    node: Node, token: bytes, reason: str
) -> None:
    assert await node.refusal(token) == reason
    assert (node.role.applied, node.published, node.told()) == ([], [], [])


async def test_a_key_without_the_scope_changes_nothing(node: Node) -> None:
    now = int(node.store.clock.wall())
    node.listed = issuers(entry(not_before=now - DAY, not_after=now + DAY, scopes=("open",)))
    assert await node.refusal(signed(9, {})) == "wrong_scope"


async def test_what_the_configuration_has_made_impossible_since_is_left_out_and_reported(node: Node) -> None:
    await node.desired.offer(signed(4, {"hold_hours": 1, "door": "12"}))
    after = Node(node.store, node.journal)
    after.role.impossible = {"door"}
    await after.desired.load()
    await after.desired.report()
    said = after.reported()
    assert after.role.applied == [{"hold_hours": 1}]
    assert (said.desired_version, said.applied) == (4, {"hold_hours": 1})
    assert said.refused == (RefusedMember("door", "unknown_member"),)


@pytest.mark.parametrize("body", [{"hold_hours": 1}, {"wiring": {}}])
async def test_a_document_that_was_kept_and_not_reported_is_reported_when_it_comes_again(
    node: Node, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk was full in between: whoever offered it hears of no answer, and offers it again."""
    await node.desired.report()

    def full(*_: object) -> int:
        raise StoreFull("the disk is full", remedy="none")

    monkeypatch.setattr(desired_sql, "_next_version", full)
    token = signed(4, body)
    with pytest.raises(StoreFull):
        await node.desired.offer(token)
    monkeypatch.undo()
    await node.desired.offer(token)
    await node.desired.offer(token)
    said = node.reported()
    assert (said.desired_version, said.refused_version) in {(4, 0), (0, 4)}
    assert len(node.published) == 2
    assert len(node.told()) == 1


async def test_a_document_of_nothing_but_strange_members_is_refused_in_a_word_that_can_be_signed(node: Node) -> None:
    node.role.impossible = {f"member-{number}" for number in range(500)}
    await node.desired.offer(signed(4, dict.fromkeys(node.role.impossible, 1)))
    assert node.reported().refused_version == 4
    assert len(node.reported().refused) == MAX_REFUSED


async def test_who_connects_hears_the_last_word_again(node: Node) -> None:
    node.desired.report_again()
    assert node.published == []
    await node.desired.report()
    node.desired.report_again()
    assert node.published == [node.published[0]] * 2
