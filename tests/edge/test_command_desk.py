"""A command is done at most once whatever carries it, and its issuer hears the node's own word on what became of it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.command import Claims, Command, Kind, Rule, sign_command
from edge.command_desk import CommandDesk, Ended, Take
from edge.contract import CommandDecided
from edge.errors import StoreError, VerificationError
from edge.inbox_sql import SqlInbox, create_inbox
from edge.journal_sql import SqlJournal, SqlTransaction
from edge.keys import SigningKey
from edge.nonce import NonceBook
from edge.result import Result, Status, read_result
from edge.schema_sql import create_journal
from tests.edge.journal_rig import Store
from tests.edge.trust import HUB, NODE, NOW, ROLE, STRANGER, entry, issuers

STEPS = (create_journal, create_inbox, lambda sql: sql.execute("CREATE TABLE moved (door TEXT)"))
LISTED = issuers()
_numbers = itertools.count(1)


class Open(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    door: str


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


RULES = {"open": Rule(Kind.ACTUATION, "open", Open), "hold": Rule(Kind.SAFE, "hold", Nothing)}


def new_id() -> str:
    return f"019aa8f0-7c1e-7abc-8def-{next(_numbers):012x}"


class Bench:
    """One life of a role agent: a desk, and the hardware that it moves."""

    def __init__(self, store: Store, journal: SqlJournal) -> None:
        self.store = store
        self.journal = journal
        self.moved: list[str] = []
        self.sent: list[tuple[str, bytes]] = []
        self.endings: dict[str, Ended] = {}
        self.refusal: Exception | None = None
        self.inbox = SqlInbox(journal)
        self.desk = CommandDesk(
            identity=NODE,
            session=journal.session,
            role_key=ROLE,
            clock=store.clock,
            nonces=NonceBook(lambda size: next(_numbers).to_bytes(size, "big")),
            inbox=self.inbox,
            rules=RULES,
            acts={"open": self._open, "hold": self._open},
            send=lambda jti, result: self.sent.append((jti, result)),
        )

    async def _open(self, command: Command, _: msgspec.Struct, take: Take, ended: Ended) -> None:
        if self.refusal is not None:
            raise self.refusal

        def work(transaction: SqlTransaction) -> None:
            take(transaction)
            transaction.sql.execute("INSERT INTO moved VALUES (?)", (command.claims.subject,))

        await self.journal.write(work)
        self.moved.append(command.claims.subject)
        self.endings[command.claims.jti] = ended

    async def offer(self, token: bytes, listed: Any = LISTED) -> list[Result]:
        return [self.read(jti, result) for jti, result in await self.desk.offer(token, listed)]

    @staticmethod
    def read(jti: str, result: bytes) -> Result:
        return read_result(result, ROLE.public, audience=NODE.audience, command_id=jti, issuer="hub")

    async def nonce(self, subject: str = "B7", request: int = 1) -> str:
        (result,) = await self.offer(self.asking(subject, request))
        assert result.status is Status.DONE
        return str(result.data["nonce"])

    def asking(self, subject: str = "B7", request: int = 1) -> bytes:
        args = {"name": "open", "request": request}
        return sign(name="nonce", subject=subject, args=args, session=self.journal.session)

    async def opening(self, jti: str | None = None, subject: str = "B7", request: int = 1) -> tuple[str, bytes]:
        jti = jti or new_id()
        return jti, sign(jti=jti, subject=subject, nonce=await self.nonce(subject, request))

    def decided(self) -> list[tuple[str, str, str]]:
        """(command, status, reason) of every event, in order."""
        told = [event for event in self.store.events() if event.type == CommandDecided.TYPE]
        read = [msgspec.json.decode(event.data, type=CommandDecided) for event in told]
        return [(one.command, one.status, one.reason) for one in read]


def sign(key: SigningKey = HUB, **changed: Any) -> bytes:
    members: dict[str, Any] = {
        "iss": "hub",
        "aud": NODE.audience,
        "jti": new_id(),
        "iat": NOW,
        "name": "open",
        "subject": "B7",
        "args": {"door": "B7"},
    }
    return sign_command(Claims(**(members | changed)), key)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "node").mkdir()
    return Store(tmp_path / "node")


@pytest.fixture
async def bench(store: Store) -> AsyncIterator[Bench]:
    journal = store.open(STEPS).journal
    journal.start()
    bench = Bench(store, journal)
    yield bench
    await bench.journal.close()


async def reborn(bench: Bench) -> Bench:
    """The process after it."""
    await bench.journal.close()
    bench.journal = bench.store.open(STEPS).journal
    bench.journal.start()
    return Bench(bench.store, bench.journal)


async def test_a_command_is_accepted_done_and_answered_signed(bench: Bench) -> None:
    jti, token = await bench.opening()
    (accepted,) = await bench.offer(token)
    assert (accepted.status, bench.moved) == (Status.ACCEPTED, ["B7"])
    await bench.endings[jti](Status.DONE, "opened")
    ((sent, result),) = bench.sent
    assert sent == jti
    assert (bench.read(jti, result).status, bench.read(jti, result).reason) == (Status.DONE, "opened")
    assert bench.decided() == [(jti, "accepted", ""), (jti, "done", "opened")]


async def test_a_repeat_moves_nothing_and_hears_what_became_of_the_first(bench: Bench) -> None:
    jti, token = await bench.opening()
    first = await bench.offer(token)
    assert await bench.offer(token) == first
    await bench.endings[jti](Status.FAILED, "jammed")
    for _ in range(3):
        (again,) = await bench.offer(token)
        assert again.status is Status.FAILED
    assert bench.moved == ["B7"]
    assert len(bench.decided()) == 2


async def test_the_bytes_of_an_answer_are_the_same_each_time(bench: Bench) -> None:
    _, token = await bench.opening()
    assert await bench.desk.offer(token, LISTED) == await bench.desk.offer(token, LISTED)


async def test_a_repeat_is_answered_after_a_restart_too(bench: Bench) -> None:
    jti, token = await bench.opening()
    await bench.offer(token)
    await bench.endings[jti](Status.DONE, "")
    after = await reborn(bench)
    (again,) = await after.offer(token)
    assert (again.status, after.moved) == (Status.DONE, [])


async def test_a_repeat_is_answered_when_its_key_was_revoked_since(bench: Bench) -> None:
    jti, token = await bench.opening()
    await bench.offer(token)
    await bench.endings[jti](Status.DONE, "")
    (again,) = await bench.offer(token, issuers(entry(revoked=True)))
    assert again.status is Status.DONE


async def test_another_command_under_a_spent_id_is_rejected_and_learns_nothing(bench: Bench) -> None:
    jti, token = await bench.opening()
    await bench.offer(token)
    await bench.endings[jti](Status.DONE, "opened")
    _, other = await bench.opening(jti, "C1")
    (answer,) = await bench.offer(other)
    assert (answer.status, answer.reason) == (Status.REJECTED, "id_used")
    assert bench.moved == ["B7"]
    (again,) = await bench.offer(token)
    assert again.status is Status.DONE, "the first keeps its own answer"


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"not a token",
        sign(STRANGER),
        sign(aud="acme_locker-8/x"),
        sign(iss="somebody"),
        sign()[:-4],
    ],
    ids=["empty", "noise", "unlisted key", "another node", "another name", "cut short"],
)
async def test_what_is_no_command_for_us_is_counted_and_not_answered(bench: Bench, token: bytes) -> None:
    assert await bench.offer(token) == []
    assert sum(bench.desk.refused.values()) == 1
    assert (bench.moved, bench.decided()) == ([], [])


async def test_a_nonce_opens_once_and_for_its_door_alone(bench: Bench) -> None:
    nonce = await bench.nonce("B7")
    (wrong,) = await bench.offer(sign(subject="C1", nonce=nonce))
    (right,) = await bench.offer(sign(subject="B7", nonce=nonce))
    (spent,) = await bench.offer(sign(subject="B7", nonce=nonce))
    assert [wrong.reason, right.reason, spent.reason] == ["unknown_nonce", "", "unknown_nonce"]
    assert bench.moved == ["B7"]


async def test_a_newer_nonce_voids_the_older_and_a_minute_voids_both(bench: Bench) -> None:
    older, newer = await bench.nonce(request=1), await bench.nonce(request=2)
    (void,) = await bench.offer(sign(nonce=older))
    assert void.reason == "unknown_nonce"
    await bench.store.clock.advance(60.0)
    (late,) = await bench.offer(sign(nonce=newer))
    assert (late.status, late.reason) == (Status.REJECTED, "nonce_expired")
    assert bench.moved == []


async def test_no_nonce_outlives_its_run(bench: Bench) -> None:
    """A recorded command is worth nothing after a restart, whatever database is there."""
    _, token = await bench.opening()
    asking = bench.asking(request=2)
    after = await reborn(bench)
    (answer,) = await after.offer(token)
    assert (answer.reason, after.moved) == ("unknown_nonce", [])
    (asked,) = await after.offer(asking)
    assert asked.reason == "wrong_session"


async def test_a_request_for_a_nonce_costs_no_row_however_often_it_comes(bench: Bench) -> None:
    token = bench.asking()
    answers = [await bench.offer(token) for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert bench.decided() == []


async def test_a_rejected_command_is_kept_and_stays_rejected(bench: Bench) -> None:
    token = sign(nonce="x")
    for _ in range(3):
        (answer,) = await bench.offer(token)
        assert (answer.status, answer.reason) == (Status.REJECTED, "unknown_nonce")
    assert [status for _, status, _ in bench.decided()] == ["rejected"]


async def test_a_key_without_the_right_costs_no_row(bench: Bench) -> None:
    """Else a revoked key could fill the disk, one signed refusal after another."""
    listed = issuers(entry(scopes=("ack",)))
    for _ in range(3):
        (answer,) = await bench.offer(sign(nonce="x"), listed)
        assert answer.reason == "wrong_scope"
    assert bench.decided() == []
    assert bench.desk.refused == {"wrong_scope": 3}


async def test_a_command_that_does_not_exist_costs_no_row_whoever_signs_it(bench: Bench) -> None:
    for _ in range(3):
        (answer,) = await bench.offer(sign(name="dance", args={}))
        assert answer.reason == "unknown_command"
    assert bench.decided() == []


async def test_what_the_role_refuses_is_rejected_with_its_reason(bench: Bench) -> None:
    bench.refusal = VerificationError("busy", "another door is being opened", remedy="wait")
    jti, token = await bench.opening()
    (answer,) = await bench.offer(token)
    assert (answer.status, answer.reason) == (Status.REJECTED, "busy")
    assert bench.decided() == [(jti, "rejected", "busy")]


async def test_the_safe_direction_needs_no_nonce_and_is_done_once_all_the_same(bench: Bench) -> None:
    token = sign(name="hold", args={}, session=bench.journal.session)
    await bench.offer(token)
    await bench.offer(token)
    assert bench.moved == ["B7"]


async def test_after_a_crash_between_taking_and_outcome_it_is_unknown_and_not_done_again(bench: Bench) -> None:
    jti, token = await bench.opening()
    await bench.offer(token)
    after = await reborn(bench)
    (known,) = await after.inbox.unfinished()
    assert known.jti == jti

    async def outcome(_: str) -> Status:
        return Status.UNKNOWN

    await after.desk.recover(outcome)
    ((_, result),) = after.sent
    assert after.read(jti, result).status is Status.UNKNOWN
    (again,) = await after.offer(token)
    assert (again.status, after.moved) == (Status.UNKNOWN, [])
    assert after.decided() == [(jti, "accepted", ""), (jti, "unknown", "")]
    assert await after.inbox.unfinished() == []


async def test_an_outcome_is_told_once(bench: Bench) -> None:
    """The followed-up outcome and the recovered one may both arrive; the first is what happened."""
    jti, token = await bench.opening()
    await bench.offer(token)
    await bench.endings[jti](Status.DONE, "opened")
    await bench.endings[jti](Status.UNKNOWN, "")
    (again,) = await bench.offer(token)
    assert again.status is Status.DONE
    assert len(bench.decided()) == 2


async def test_what_the_store_did_not_take_was_not_done(bench: Bench) -> None:
    _, token = await bench.opening()
    await bench.journal.close()
    with pytest.raises(StoreError):
        await bench.offer(token)
    assert (bench.moved, bench.sent) == ([], [])
    bench.journal = bench.store.open(STEPS).journal
    bench.journal.start()
    assert bench.decided() == []
