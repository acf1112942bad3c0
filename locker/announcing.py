"""What a door is opened for, and the pulses that are announced before they are given.

Each function is one transaction's work, committed before anything moves.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from edge.errors import VerificationError
from locker import contract
from locker.contract import Cause, Event, draft
from locker.latch import Hook
from locker.ledger import Ledger, Unlocking


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt about to be made: random ids, and what the sensor reads before it."""

    attempt: str
    session: str
    before: Hook


class Purpose(enum.Enum):
    """What a door is opened for, and so what its opening, its failing and its closing mean."""

    RELEASE = "release"
    """A parcel is handed out."""
    DEPOSIT = "deposit"
    """A parcel is put in."""
    LOOK = "look"
    """Somebody looks inside; no parcel is meant to change hands."""
    TAKE_BACK = "take_back"
    """A courier takes out what is not for its customer."""


BY_COMMAND: Final = frozenset({Cause.COMMAND, Cause.RELEASE})
"""Causes whose ``cause_id`` is a command that waits for the outcome."""

PURPOSES: Final[dict[Cause, Purpose]] = {
    Cause.CODE: Purpose.RELEASE,
    Cause.DELEGATE: Purpose.RELEASE,
    Cause.VOUCHER: Purpose.RELEASE,
    Cause.GROUP: Purpose.RELEASE,
    Cause.EXCHANGE: Purpose.RELEASE,
    Cause.RELEASE: Purpose.RELEASE,
    Cause.COURIER: Purpose.DEPOSIT,
    Cause.DROP: Purpose.DEPOSIT,
    Cause.COMMAND: Purpose.LOOK,
    Cause.RECALL: Purpose.TAKE_BACK,
    Cause.SERVICE: Purpose.LOOK,
    Cause.CLEANING: Purpose.LOOK,
    Cause.AUDIT: Purpose.LOOK,
}
"""Every cause has one."""


REMOTE_CAPS = ((60.0, 3), (86_400.0, 20))
"""At most so many doors opened by commands in so many running seconds, whoever signs: 3 a minute, 20 a day."""


def tell(ledger: Ledger, event: Event) -> None:
    ledger.append(draft(event))


def charge_remote_opening(ledger: Ledger) -> None:
    """Count one more door opened by a command. Raises ``VerificationError`` (``capped``) when that is too many."""
    for seconds, most in REMOTE_CAPS:
        if ledger.remote_openings(seconds) >= most:
            raise VerificationError(
                "capped", f"{most} doors were opened in {seconds:.0f} s", remedy="go there, or wait"
            )
    ledger.note_remote_opening()


def announce(
    ledger: Ledger, door: str, attempt: Attempt, cause: Cause, *, parcel_id: str = "", cause_id: str = ""
) -> None:
    """Commit the first pulse of an attempt: from here on it may have happened."""
    unlocking = Unlocking(
        door=door,
        attempt=attempt.attempt,
        session=attempt.session,
        cause=cause,
        before=attempt.before.value,
        parcel=parcel_id,
        cause_id=cause_id,
    )
    ledger.begin_unlocking(unlocking)
    tell(ledger, _requested(unlocking))


def announce_again(ledger: Ledger, door: str, attempt: str, pulses: int) -> None:
    """Commit a further pulse of ``attempt``, unless it has got its outcome by now."""
    unlocking = ledger.unlocking(door)
    if unlocking is None or unlocking.attempt != attempt or unlocking.ended:
        return
    ledger.count_pulse(attempt, pulses)
    tell(ledger, _requested(msgspec.structs.replace(unlocking, pulses=pulses)))


def _requested(unlocking: Unlocking) -> Event:
    return contract.UnlockRequested(
        door=unlocking.door,
        attempt=unlocking.attempt,
        pulse=unlocking.pulses,
        session=unlocking.session,
        cause=unlocking.cause,
        before=unlocking.before,  # type: ignore[arg-type]  # Hook's own words, kept as text
        parcel=unlocking.parcel,
        cause_id=unlocking.cause_id,
    )
