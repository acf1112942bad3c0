"""Sessions, revisions and what is forgotten: the desk with its real inbox, over restarts and without a clock."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.command import MAX_WAIT_S, Claims, Command, Kind, Rule, cosign, sign_command, sign_first
from edge.command_desk import CommandDesk, Ended, Take
from edge.errors import VerificationError
from edge.inbox_sql import KEPT_COMMANDS, KEPT_S, SqlInbox, create_inbox, create_revisions
from edge.journal_sql import SqlJournal, SqlTransaction
from edge.nonce import NonceBook
from edge.result import Result, Status, read_result
from edge.schema_sql import create_journal, migrate
from tests.edge.journal_rig import Store
from tests.edge.trust import DAY, HUB, NODE, ROLE, SECOND, entry, issuers

STEPS = (create_journal, create_inbox, create_revisions, lambda sql: sql.execute("CREATE TABLE acted (what TEXT)"))
_numbers = itertools.count(1)


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


RULES = {
    "hold": Rule(Kind.SAFE, "hold", Nothing),
    "expect": Rule(Kind.BOOKING, "expect", Nothing),
    "clear": Rule(Kind.BOOKING, "clear", Nothing, persons=2),
}
"""``hold`` stands for the safe direction, which a locker has not and every vehicle has."""


class Role:
    """A role whose acts are rows; ``refusal`` is what its own rules say."""

    def __init__(self, store: Store, journal: SqlJournal) -> None:
        self.store = store
        self.journal = journal
        self.inbox = SqlInbox(journal)
        self.refusal = ""
        self.passed = 0.0
        now = int(store.clock.wall())
        valid = {"not_before": now - DAY, "not_after": now + DAY}
        self.listed = issuers(entry(**valid), entry(name="second", jwk=SECOND.public.jwk(), **valid))
        self.desk = CommandDesk(
            identity=NODE,
            session=journal.session,
            role_key=ROLE,
            clock=store.clock,
            nonces=NonceBook(lambda size: next(_numbers).to_bytes(size, "big")),
            inbox=self.inbox,
            rules=RULES,
            acts=dict.fromkeys(RULES, self._act),
            send=lambda *_: None,
            passed=lambda: self.passed,
        )

    async def _act(self, command: Command, _: msgspec.Struct, take: Take, __: Ended) -> None:
        def work(transaction: SqlTransaction) -> None:
            if self.refusal:
                raise VerificationError(self.refusal, "no", remedy="none")
            transaction.sql.execute("INSERT INTO acted VALUES (?)", (command.claims.jti,))
            take(transaction, Status.DONE)

        await self.journal.write(work)

    async def acted(self) -> list[str]:
        return await self.journal.write(lambda t: [row[0] for row in t.sql.execute("SELECT what FROM acted")])

    async def offer(self, token: bytes) -> Result:
        ((jti, result),) = await self.desk.offer(token, self.listed)
        return read_result(result, ROLE.public, audience=NODE.audience, command_id=jti, issuer="hub")

    async def told(self, token: bytes) -> tuple[str, str]:
        result = await self.offer(token)
        return result.status.value, result.reason

    def said(self, name: str, **proof: Any) -> bytes:
        return sign_command(self.claims(name, **proof), HUB)

    def claims(self, name: str, **proof: Any) -> Claims:
        now = int(self.store.clock.wall())
        jti = f"019aa8f0-7c1e-7abc-8def-{next(_numbers):012x}"
        members: dict[str, Any] = {"iss": "hub", "aud": NODE.audience, "jti": jti, "iat": now, "args": {}}
        return Claims(**(members | {"name": name, "subject": "b1"} | proof))

    def holding(self) -> bytes:
        return self.said("hold", session=self.journal.session)

    def expecting(self, rev: int, lies_s: int = DAY) -> bytes:
        return self.said("expect", rev=rev, exp=int(self.store.clock.wall()) + lies_s)


class Lives:
    """The role over restarts on one file."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)
        self._open: list[SqlJournal] = []

    async def begin(self) -> Role:
        for journal in self._open:
            await journal.close()
        journal = self.store.open(STEPS).journal
        journal.start()
        self._open = [journal]
        return Role(self.store, journal)

    async def end(self) -> None:
        for journal in self._open:
            await journal.close()


@pytest.fixture
async def lives(tmp_path: Path) -> AsyncIterator[Lives]:
    (tmp_path / "node").mkdir()
    lives = Lives(tmp_path / "node")
    yield lives
    await lives.end()


async def test_the_safe_direction_waits_for_no_clock_and_knows_no_cap(lives: Lives) -> None:
    role = await lives.begin()
    lives.store.clock.trust(False)
    lives.store.clock.step_wall(-20 * 365 * DAY)
    tokens = [role.holding() for _ in range(24)]
    assert {await role.told(token) for token in tokens} == {("done", "")}
    assert len(await role.acted()) == 24


async def test_the_safe_direction_of_an_earlier_run_is_not_done_in_this_one(lives: Lives) -> None:
    role = await lives.begin()
    recorded = role.holding()
    role = await lives.begin()
    assert await role.told(recorded) == ("rejected", "wrong_session")
    assert await role.acted() == []


async def test_what_one_transaction_does_is_answered_as_done_and_needs_no_recovery(lives: Lives) -> None:
    role = await lives.begin()
    token = role.expecting(1)
    assert await role.told(token) == ("done", "")
    role = await lives.begin()
    assert await role.inbox.unfinished() == []
    assert await role.told(token) == ("done", "")
    assert len(await role.acted()) == 1


async def test_revisions_rise_for_each_booking_over_restarts(lives: Lives) -> None:
    role = await lives.begin()
    third, second = role.expecting(3), role.expecting(2)
    other = role.said("expect", subject="b2", rev=1, exp=int(lives.store.clock.wall()) + DAY)
    assert await role.told(third) == ("done", "")
    role = await lives.begin()
    assert await role.told(second) == ("rejected", "superseded")
    assert await role.told(role.expecting(3)) == ("rejected", "superseded")
    assert await role.told(other) == ("done", "")
    assert len(await role.acted()) == 2


async def test_what_the_role_refuses_has_no_effect_and_spends_its_revision(lives: Lives) -> None:
    role = await lives.begin()
    before = role.expecting(1)
    role.refusal = "not_now"
    refused = role.expecting(2)
    assert await role.told(refused) == ("rejected", "not_now")
    role.refusal = ""
    assert await role.told(before) == ("rejected", "superseded")
    assert await role.told(refused) == ("rejected", "not_now")
    assert await role.acted() == []


@pytest.mark.parametrize("proof", [{"rev": 1}, {"exp": 1}, {"rev": 0, "exp": 1}, {"rev": 1, "exp": 1, "nonce": "x"}])
async def test_a_booking_carries_its_revision_and_its_expiry_and_nothing_else(lives: Lives, proof: Any) -> None:
    role = await lives.begin()
    if "exp" in proof:
        proof = proof | {"exp": int(lives.store.clock.wall()) + DAY}
    answers = await role.desk.offer(role.said("expect", **proof), role.listed)
    assert await role.acted() == []
    for jti, answer in answers:
        result = read_result(answer, ROLE.public, audience=NODE.audience, command_id=jti, issuer="hub")
        assert (result.status, result.reason) == (Status.REJECTED, "bad_claims")


@pytest.mark.parametrize("numbers", [{"rev": 2**63}, {"rev": 1, "iat": 2**63 - 1, "exp": 2**63}])
async def test_a_number_that_no_database_holds_is_refused_and_holds_nothing_up(lives: Lives, numbers: Any) -> None:
    """A key that may book opens no door; it must not be able to end the link either, again and again."""
    role = await lives.begin()
    token = role.said("expect", **({"exp": int(lives.store.clock.wall()) + DAY} | numbers))
    assert await role.desk.offer(token, role.listed) == ()
    assert role.desk.refused == {"bad_claims": 1}
    assert await role.told(role.expecting(1)) == ("done", "")


async def test_a_booking_lies_with_a_broker_for_45_days_and_no_longer(lives: Lives) -> None:
    role = await lives.begin()
    assert await role.told(role.expecting(1, lies_s=MAX_WAIT_S + 1)) == ("rejected", "bad_claims")
    long, over = role.expecting(2, lies_s=MAX_WAIT_S), role.expecting(3, lies_s=MAX_WAIT_S - 2)
    lives.store.clock.step_wall(MAX_WAIT_S - 1)
    now = int(lives.store.clock.wall())
    role.listed = issuers(entry(not_before=0, not_after=now + DAY))
    assert await role.told(long) == ("done", "")
    assert await role.told(over) == ("rejected", "expired")


async def test_without_a_clock_a_booking_expires_by_what_has_surely_passed(lives: Lives) -> None:
    role = await lives.begin()
    lives.store.clock.trust(False)
    early, late = role.expecting(1, lies_s=DAY), role.expecting(2, lies_s=3 * DAY)
    role.passed = lives.store.clock.wall() + 2 * DAY
    assert await role.told(early) == ("rejected", "expired")
    assert await role.told(late) == ("done", "")


async def test_a_broker_that_takes_a_signature_off_does_not_change_what_becomes_of_a_command(lives: Lives) -> None:
    """Before it is done it costs the command nothing, and afterwards nobody hears that it was refused."""
    role = await lives.begin()
    claims = role.claims("clear", rev=1, exp=int(lives.store.clock.wall()) + DAY)
    whole = cosign(sign_first(claims, HUB), SECOND)
    general = msgspec.json.decode(whole)
    alone = f"{general['signatures'][0]['protected']}.{general['payload']}.{general['signatures'][0]['signature']}"
    twice = msgspec.json.encode(general | {"signatures": general["signatures"][:1] * 2})
    assert await role.told(alone.encode()) == ("rejected", "wrong_persons")
    assert await role.told(twice) == ("rejected", "same_person")
    assert await role.acted() == []
    assert await role.told(whole) == ("done", "")
    for changed in (alone.encode(), twice, whole):
        assert await role.told(changed) == ("done", "")
    assert len(await role.acted()) == 1


# What is forgotten.


async def rows(role: Role, table: str) -> int:
    return await role.journal.write(lambda t: int(t.sql.execute(f"SELECT count(*) FROM {table}").fetchone()[0]))


async def crowd(role: Role, count: int, status: str = "done") -> None:
    """So many commands taken at this time."""
    at = role.store.clock.wall()
    row = "INSERT INTO command VALUES (?, '', 'open', '01', 'staff', ?, x'00', ?)"
    values = [(f"old-{next(_numbers)}", status, at) for _ in range(count)]

    def work(transaction: SqlTransaction) -> None:
        transaction.sql.executemany(row, values)

    await role.journal.write(work)


async def test_finished_commands_are_forgotten_only_when_old_and_beyond_what_is_kept_anyway(lives: Lives) -> None:
    role = await lives.begin()
    await crowd(role, 100)
    await crowd(role, 1, "accepted")
    now = lives.store.clock.wall()
    await role.inbox.forget_old(now + 10 * KEPT_S)
    assert await rows(role, "command") == 101
    lives.store.clock.step_wall(KEPT_S)
    await crowd(role, KEPT_COMMANDS)
    await role.inbox.forget_old(now + KEPT_S - 1)
    assert await rows(role, "command") == KEPT_COMMANDS + 101
    await role.inbox.forget_old(now + KEPT_S + 1)
    assert await rows(role, "command") == KEPT_COMMANDS + 1
    assert len(await role.inbox.unfinished()) == 1


async def test_a_booking_that_is_forgotten_has_expired_and_one_that_has_not_is_remembered(lives: Lives) -> None:
    """Whatever an earlier revision was signed with, it is over when its successor's is forgotten."""
    role = await lives.begin()
    oldest = role.expecting(1, lies_s=MAX_WAIT_S)
    assert await role.told(role.expecting(2, lies_s=60)) == ("done", "")
    now = lives.store.clock.wall()
    for later, remembered in ((MAX_WAIT_S - 1, 1), (MAX_WAIT_S + 1, 0)):
        await role.inbox.forget_old(now + later)
        assert await rows(role, "revision") == remembered
        lives.store.clock.trust(False)
        role.passed = now + later
        assert (await role.told(oldest))[1] in {"superseded", "expired"}
    assert len(await role.acted()) == 1


def test_the_step_that_brings_revisions_leaves_what_was_taken_before_alone(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "old.db", isolation_level=None)
    migrate(old, STEPS[:2])
    old.execute("INSERT INTO command VALUES ('j', 'd', 'open', '01', 'staff', 'done', x'00', 1.0)")
    migrate(old, STEPS[:3])
    migrate(old, STEPS[:3])
    assert old.execute("SELECT jti, status FROM command").fetchall() == [("j", "done")]
    assert old.execute("SELECT count(*) FROM revision").fetchone() == (0,)
    old.close()
