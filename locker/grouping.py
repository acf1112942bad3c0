"""Several parcels of one customer in one visit: who has proved themself for one is handed the others, door by door."""

from __future__ import annotations

from typing import Final

from locker import contract
from locker.announcing import Attempt
from locker.booking import BookingState
from locker.collecting import Doors, now_of, record_of, release
from locker.contract import Cause, Reason
from locker.ledger import Ledger
from locker.parcel import ParcelState
from locker.pickup_code import Grant, Refusal, answer_to
from locker.settling import Closed

OWN: Final = frozenset({Cause.CODE, Cause.VOUCHER, Cause.RELEASE, Cause.GROUP})
"""Proofs that are the customer's own. Whoever was sent for one parcel is handed that one alone."""


def rest_of(ledger: Ledger, closed: Closed, doors: Doors) -> str:
    """The group of which the customer at the closed door has more parcels here, "" where there are none."""
    if closed.cause not in OWN or closed.parcel not in closed.collected:
        return ""
    # That of the parcel which was asked for: what lay beside it may be another's, and proves nothing of the rest.
    booked = ledger.booking(closed.parcel)
    return booked.group if booked is not None and booked.group and _waiting(ledger, booked.group, doors) else ""


def judge_next(ledger: Ledger, group: str, before: str, *, doors: Doors, attempt: Attempt) -> str | Refusal:
    """The next parcel of the group: the door whose pulse is now announced, or a refusal where none waits any more.

    ``before`` is the session in which the customer was handed the one before.
    """
    waiting = _waiting(ledger, group, doors)
    return _go_on(ledger, waiting[0], before, Cause.GROUP, doors, attempt) if waiting else Refusal(Reason.NOT_HERE)


def hand_out(ledger: Ledger, parcel: str, before: str, *, doors: Doors, attempt: Attempt) -> str | Refusal:
    """What is handed out in exchange, as ``judge_next``. Whoever was sent for it is led on to nothing else."""
    found = ledger.parcel(parcel)
    if found is None:
        return Refusal(Reason.NOT_HERE)
    answer = answer_to(record_of(ledger, found, doors), now_of(ledger), confirm=False)
    return answer if isinstance(answer, Refusal) else _go_on(ledger, answer, before, Cause.EXCHANGE, doors, attempt)


def _go_on(ledger: Ledger, grant: Grant, before: str, cause: Cause, doors: Doors, attempt: Attempt) -> str | Refusal:
    continued = contract.VisitContinued(
        parcel=grant.parcel, door=grant.door, session=attempt.session, attempt=attempt.attempt, before=before
    )
    return release(ledger, grant, continued, cause, doors=doors, attempt=attempt)


def _waiting(ledger: Ledger, group: str, doors: Doors) -> list[Grant]:
    """What could be handed out now, by door. What is in doubt is left to its own code, which confirms."""
    found = [
        parcel
        for booked in ledger.group(group)
        if booked.state is BookingState.STORED and (parcel := ledger.parcel(booked.booking)) is not None
    ]
    stored = sorted((each for each in found if each.state is ParcelState.STORED), key=lambda each: each.door)
    answers = [answer_to(record_of(ledger, each, doors), now_of(ledger), confirm=False) for each in stored]
    return [answer for answer in answers if isinstance(answer, Grant)]
