"""Parcels are handed out: the verdict on what their customer shows, and the door whose pulse is then announced.

Whoever may collect one parcel of a compartment gets all that lie there: the door opens once, and shows them all.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edge.claims import refused
from locker import announcing, contract, dropping, parcel
from locker.announcing import Attempt, tell
from locker.commands import Release
from locker.contract import Cause, CodeUse, Reason
from locker.depositing import Placing
from locker.latch import Hook
from locker.ledger import HeldCode, Ledger, Parcel
from locker.parcel import ParcelInput, ParcelState
from locker.pickup_code import BUSY_RETRY, CodeHasher, CodeRecord, Grant, Now, Refusal, TypedCode, answer_to, judge

COLLECTABLE = (ParcelState.STORED, ParcelState.UNCONFIRMED)


class Doors(msgspec.Struct, frozen=True):
    """What the cabinet says of a door: whether it can be asked to open at all, and what its sensor reads now.

    ``placing`` finds one for what a customer has brought.
    """

    serviceable: Callable[[str], bool]
    standing: Callable[[str], Hook]
    placing: Placing


def judge_code(
    ledger: Ledger, typed: TypedCode | None, *, hasher: CodeHasher, doors: Doors, attempt: Attempt, confirm: bool
) -> str | Refusal:
    """The verdict on a typed code, with the attempt counted: a refusal, or the door whose pulse is now announced."""
    attempts = ledger.attempts()
    used: HeldCode | None = None

    def find(digest: bytes) -> CodeRecord | None:
        nonlocal used
        used = ledger.find_code(digest)
        return None if used is None else _record_for(ledger, used, doors)

    verdict = judge(
        typed, hasher=hasher, find=find, live=ledger.live_codes, attempts=attempts, now=now_of(ledger), confirm=confirm
    )
    if verdict.attempts is not attempts:
        ledger.save_attempts(verdict.attempts)
    if isinstance(verdict.answer, Refusal):
        ledger.tally("code", verdict.answer.reason.value)
        return verdict.answer
    booked = None if used is None or used.use is not CodeUse.DROP else ledger.booking(used.subject)
    if booked is not None:
        return dropping.take_in(ledger, booked, doors.placing, attempt)
    grant, delegate = verdict.answer, 0 if used is None else used.which
    accepted = contract.CodeAccepted(
        parcel=grant.parcel,
        door=grant.door,
        session=attempt.session,
        attempt=attempt.attempt,
        confirmed=grant.confirmed,
        delegate=delegate,
    )
    return release(ledger, grant, accepted, Cause.DELEGATE if delegate else Cause.CODE, doors=doors, attempt=attempt)


def _record_for(ledger: Ledger, used: HeldCode, doors: Doors) -> CodeRecord | None:
    if used.use is CodeUse.DROP:
        booked = ledger.booking(used.subject)
        return None if booked is None else dropping.record_of(ledger, booked)
    found = ledger.parcel(used.subject)
    return None if found is None else record_of(ledger, found, doors)


def now_of(ledger: Ledger) -> Now:
    return Now(wall=ledger.stamp.wall, trusted=ledger.stamp.trusted, running=ledger.running())


def record_of(ledger: Ledger, found: Parcel, doors: Doors) -> CodeRecord:
    """How things stand for whoever may collect ``found``."""
    return CodeRecord(found.parcel, found.door, _standing(ledger, found), found.expires, doors.serviceable(found.door))


def _standing(ledger: Ledger, found: Parcel) -> ParcelState:
    """The parcel's state; while it could be collected, that of whatever beside it says *busy* or *not sure*.

    One without a code of its own was brought for a courier: for a customer it does not lie here.
    """
    if found.state not in COLLECTABLE:
        return found.state
    if not found.coded:
        return ParcelState.WITHDRAWN
    states = {each.state for each in ledger.parcels_at(found.door)}
    for state in (ParcelState.DEPOSITING, ParcelState.RELEASING, ParcelState.UNCONFIRMED):
        if state in states:
            return state
    return found.state


def admit_release(
    ledger: Ledger, order: Release, jti: str, take: Callable[[Ledger], object], *, doors: Doors, attempt: Attempt
) -> str | Refusal:
    """An admitted command for a customer who stands here: ``take`` keeps it in the transaction of the first pulse.

    Being a new one it confirms, where the attempt before ended in doubt. Raises ``VerificationError``: ``not_here``,
    ``owes_return`` where something has to be given back first, or what a typed code would hear.
    """
    found = ledger.parcel(order.parcel)
    if found is None or found.door != order.door:
        raise refused("not_here", f"{order.parcel} does not lie behind {order.door}", "look where it is")
    grant = answer_to(record_of(ledger, found, doors), now_of(ledger), confirm=True)
    if isinstance(grant, Refusal):
        reason = Reason.NOT_HERE if grant.reason is Reason.NO_SUCH_CODE else grant.reason
        raise refused(reason.value, f"{order.parcel} is not handed out now", "tell the customer why")
    if dropping.owed(ledger, [each.parcel for each in ledger.parcels_at(order.door)]) is not None:
        raise refused("owes_return", f"{order.parcel} is handed out in exchange", "have the code typed at the locker")
    take(ledger)
    accepted = contract.ReleaseAccepted(
        parcel=grant.parcel,
        door=grant.door,
        session=attempt.session,
        attempt=attempt.attempt,
        command=jti,
        confirmed=grant.confirmed,
    )
    return release(ledger, grant, accepted, Cause.RELEASE, doors=doors, attempt=attempt, cause_id=jti)


def release(
    ledger: Ledger,
    grant: Grant,
    accepted: contract.Event,
    cause: Cause,
    *,
    doors: Doors,
    attempt: Attempt,
    cause_id: str = "",
) -> str | Refusal:
    """Move all that lie behind the granted door, tell what was accepted, announce the pulse; returns the door.

    What has to be given back for one of them comes first: its door opens, and ``next`` opens the granted one.
    """
    due = dropping.owed(ledger, [each.parcel for each in ledger.parcels_at(grant.door)])
    if due is not None:
        back, exchange = due
        return dropping.take_in(ledger, back, doors.placing, attempt, exchange=exchange)
    if not _move_all(ledger, grant):
        return Refusal(Reason.BUSY, BUSY_RETRY)
    tell(ledger, accepted)
    attempt = msgspec.structs.replace(attempt, before=doors.standing(grant.door))
    announcing.announce(ledger, grant.door, attempt, cause, parcel_id=grant.parcel, cause_id=cause_id)
    return grant.door


def _move_all(ledger: Ledger, grant: Grant) -> bool:
    """Whether the granted parcel was moved; of two racers one is too late."""
    moved = [
        each.parcel
        for each in ledger.parcels_at(grant.door)
        if each.state in COLLECTABLE
        and each.coded
        and ledger.move_parcel(each.parcel, each.state, parcel.move(each.state, ParcelInput.RELEASE))
    ]
    return grant.parcel in moved
