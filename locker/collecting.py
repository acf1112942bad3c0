"""A parcel is handed out: the verdict on what its customer shows, and the door whose pulse is then announced."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from locker import contract, parcel
from locker.contract import Cause
from locker.latch import Hook
from locker.ledger import Ledger
from locker.parcel import ParcelInput, ParcelState
from locker.pickup_code import BUSY_RETRY, CodeHasher, CodeRecord, Grant, Now, Refusal, TypedCode, judge
from locker.settling import Attempt, announce, tell


def judge_code(
    ledger: Ledger,
    typed: TypedCode | None,
    *,
    hasher: CodeHasher,
    serviceable: Callable[[str], bool],
    before: Callable[[str], Hook],
    attempt: Attempt,
    confirm: bool,
) -> str | Refusal:
    """The verdict on a typed code, with the attempt counted: a refusal, or the door whose pulse is now announced."""
    attempts = ledger.attempts()
    now = Now(wall=ledger.stamp.wall, trusted=ledger.stamp.trusted, running=ledger.running())

    def find(digest: bytes) -> CodeRecord | None:
        found = ledger.find_code(digest)
        if found is None:
            return None
        return CodeRecord(found.parcel, found.door, found.state, found.expires, serviceable(found.door))

    verdict = judge(typed, hasher=hasher, find=find, attempts=attempts, now=now, confirm=confirm)
    if verdict.attempts is not attempts:
        ledger.save_attempts(verdict.attempts)
    if isinstance(verdict.answer, Refusal):
        ledger.tally("code", verdict.answer.reason.value)
        return verdict.answer
    return _release(ledger, verdict.answer, msgspec.structs.replace(attempt, before=before(verdict.answer.door)))


def _release(ledger: Ledger, grant: Grant, attempt: Attempt) -> str | Refusal:
    before = ParcelState.UNCONFIRMED if grant.confirmed else ParcelState.STORED
    if not ledger.move_parcel(grant.parcel, before, parcel.move(before, ParcelInput.RELEASE)):
        return Refusal(contract.Reason.BUSY, BUSY_RETRY)
    accepted = contract.CodeAccepted(
        parcel=grant.parcel,
        door=grant.door,
        session=attempt.session,
        attempt=attempt.attempt,
        confirmed=grant.confirmed,
    )
    tell(ledger, accepted)
    announce(ledger, grant.door, attempt, Cause.CODE, parcel_id=grant.parcel)
    return grant.door
