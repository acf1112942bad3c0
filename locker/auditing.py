"""An audit: two persons have signed, and a service badge looks behind every door and says what is there.

No network is needed once the command is here. It is kept with all that was found, so that a restart loses nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

import msgspec

from locker import announcing, compartment, contract, settling
from locker.announcing import Attempt, tell
from locker.clearing import require_quiet
from locker.collecting import Doors
from locker.compartment import CompartmentInput, LedgerState
from locker.contract import AuditOutcome, BlockCause, Cause, Found, Reason
from locker.latch import Hook, Reading
from locker.ledger import Audit, Ledger, Parcel
from locker.parcel import ParcelState
from locker.pickup_code import BUSY_RETRY, Refusal

AUDIT_S: Final = 4 * 3600.0
"""Running seconds for which a command is good: a walk along the largest cabinet takes one or two hours."""

_AT_REST: Final = frozenset({ParcelState.STORED, ParcelState.UNCONFIRMED, ParcelState.CLAIMED, ParcelState.RECALLED})
"""Nobody is at the parcel's door."""


def begin(ledger: Ledger, command: str, doors: Iterable[str]) -> None:
    """The command is here. An audit that is under way is over with it: it is begun anew."""
    _end(ledger)
    listed = sorted(doors)
    audit = Audit(command=command, until=ledger.running() + AUDIT_S, doors=dict.fromkeys(listed))
    ledger.begin_audit(audit)
    tell(ledger, contract.AuditBegun(command=command, doors=len(listed)))


def under_way(ledger: Ledger) -> Audit | None:
    audit = ledger.audit()
    return audit if audit is not None and ledger.running() < audit.until else None


def lapse(ledger: Ledger) -> bool:
    """End an audit whose time is over; returns whether there was one."""
    over = ledger.audit() is not None and under_way(ledger) is None
    if over:
        _end(ledger)
    return over


def left(audit: Audit) -> list[str]:
    """The doors that nobody has looked behind yet, by name."""
    return sorted(door for door, outcome in audit.doors.items() if outcome is None)


def open_next(
    ledger: Ledger, audit: Audit, by: str, *, after: list[str], doors: Doors, attempt: Attempt
) -> str | Refusal:
    """Announce the pulse of the next door; ``after``: doors that were tried in this visit, which come last."""
    waiting = left(audit)
    if not waiting:
        return Refusal(Reason.NOTHING_DUE)
    able = [door for door in waiting if doors.serviceable(door)]
    if not able:
        return Refusal(Reason.OUT_OF_SERVICE)
    at_rest = [door for door in able if _is_at_rest(ledger, door, doors.standing(door))]
    if not at_rest:
        return Refusal(Reason.BUSY, BUSY_RETRY)
    door = min(at_rest, key=lambda each: (each in after, each))
    attempt = msgspec.structs.replace(attempt, before=doors.standing(door))
    announcing.announce(ledger, door, attempt, Cause.AUDIT, cause_id=by)
    return door


def _is_at_rest(ledger: Ledger, door: str, hook: Hook) -> bool:
    """Whether no customer and no courier is there. A deposit that was never heard of again is one to look at."""
    last = ledger.unlocking(door)
    if last is not None and not last.ended:
        return False
    shut = hook is not Hook.OPEN
    return all(
        each.state in _AT_REST or (each.state is ParcelState.DEPOSITING and shut) for each in ledger.parcels_at(door)
    )


def reconcile(
    ledger: Ledger, audit: Audit, door: str, found: Found, parcel: str | None, *, by: str, reading: Reading
) -> Refusal | None:
    """Make the ledger what was seen behind the door that this badge has had open.

    ``parcel`` names the one that lies there where several are expected: the others are then missing. Raises
    ``VerificationError`` as ``require_quiet`` does where a door that is not shut, or a sensor, speaks against it.
    """
    last = ledger.unlocking(door)
    if last is None or last.cause is not Cause.AUDIT or last.cause_id != by or not last.opened:
        return Refusal(Reason.LOOK_FIRST)
    if audit.doors.get(door, AuditOutcome.AS_EXPECTED) is not None:
        return Refusal(Reason.NOTHING_DUE)
    expected = ledger.parcels_at(door)
    there = _there(expected, found, parcel)
    if there is None:
        return Refusal(Reason.NOT_HERE)
    require_quiet(ledger, door, reading if found is Found.EMPTY else msgspec.structs.replace(reading, item=None))
    gone = [] if found is Found.OTHER else [each for each in expected if each not in there]
    for each in gone:
        settling.remove(ledger, each, command=audit.command, by=by)
    outcome = _outcome(expected, gone, found)
    _settle(ledger, door, outcome, by)
    ledger.note_audited(door, outcome)
    tell(ledger, contract.AuditFound(door=door, command=audit.command, by=by, found=found, outcome=outcome))
    if not left(ledger.audit() or audit):
        _end(ledger)
    return None


def _there(expected: list[Parcel], found: Found, parcel: str | None) -> list[Parcel] | None:
    """Which of the expected were seen; None where the one that was named is none of them."""
    if parcel is not None:
        named = [each for each in expected if each.parcel == parcel]
        return named if named and found is Found.PARCEL else None
    return expected if found is Found.PARCEL else []


def _outcome(expected: list[Parcel], gone: list[Parcel], found: Found) -> AuditOutcome:
    if found is Found.OTHER or (found is Found.PARCEL and not expected):
        return AuditOutcome.UNEXPECTED
    return AuditOutcome.MISSING if gone else AuditOutcome.AS_EXPECTED


def _settle(ledger: Ledger, door: str, outcome: AuditOutcome, by: str) -> None:
    """The compartment, now that somebody has looked. What staff have taken out stays out."""
    if outcome is AuditOutcome.UNEXPECTED:
        settling.block(ledger, door, BlockCause.NOT_EMPTY, by=by)
        return
    row = ledger.compartment(door)
    full = bool(ledger.parcels_at(door))
    if row.cause is BlockCause.STAFF or row.state is (LedgerState.OCCUPIED if full else LedgerState.FREE):
        return
    seen = CompartmentInput.SEEN_FULL if full else CompartmentInput.SEEN_EMPTY
    if row.state is LedgerState.OCCUPIED:
        seen = CompartmentInput.EMPTY
    ledger.set_compartment(door, compartment.move(row.state, seen))
    tell(ledger, contract.CompartmentReleased(door=door, by=by))


def _end(ledger: Ledger) -> None:
    audit = ledger.audit()
    if audit is None:
        return
    counts = Counter(audit.doors.values())
    ledger.end_audit()
    done = contract.AuditDone(
        command=audit.command,
        as_expected=counts[AuditOutcome.AS_EXPECTED],
        missing=counts[AuditOutcome.MISSING],
        unexpected=counts[AuditOutcome.UNEXPECTED],
        left=counts[None],
    )
    tell(ledger, done)
