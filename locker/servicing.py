"""What a service badge may do with doors and compartments: never anything behind which a parcel is known to lie."""

from __future__ import annotations

from typing import Final

import msgspec

from locker import announcing, compartment, contract, settling
from locker.announcing import Attempt, tell
from locker.clearing import clear, require_quiet
from locker.collecting import Doors
from locker.commands import Clear
from locker.compartment import CompartmentInput, LedgerState
from locker.contract import BlockCause, Cause, Reason
from locker.latch import Reading
from locker.ledger import Ledger
from locker.pickup_code import Refusal

REASONS: Final = {
    "busy": Reason.BUSY,
    "door_open": Reason.DOOR_OPEN,
    "item_seen": Reason.ITEM_SEEN,
    "parcel_inside": Reason.PARCEL_INSIDE,
    "nothing_to_clear": Reason.NOTHING_DUE,
}
"""What a person at the kiosk hears where ``locker.clearing`` refuses."""


def open_empty(ledger: Ledger, door: str, by: str, cause: Cause, *, doors: Doors, attempt: Attempt) -> str | Refusal:
    """Announce the pulse of a door without a parcel behind it, to be looked into or cleaned."""
    if ledger.parcels_at(door):
        return Refusal(Reason.PARCEL_INSIDE)
    if not doors.serviceable(door):
        return Refusal(Reason.OUT_OF_SERVICE)
    attempt = msgspec.structs.replace(attempt, before=doors.standing(door))
    announcing.announce(ledger, door, attempt, cause, cause_id=by)
    return door


def take_out(ledger: Ledger, door: str, by: str) -> Refusal | None:
    """Offer the compartment no more; a parcel inside can still be collected. One that is not offered as it is stays
    so for the reason that it has: only a look ends that.
    """
    if ledger.compartment(door).state not in {LedgerState.FREE, LedgerState.OCCUPIED}:
        return Refusal(Reason.NOTHING_DUE)
    settling.block(ledger, door, BlockCause.STAFF, by=by)
    return None


def put_back(ledger: Ledger, door: str, by: str, reading: Reading) -> Refusal | None:
    """Offer a compartment again that staff had taken out. Raises ``VerificationError`` as ``require_quiet`` does."""
    row = ledger.compartment(door)
    if row.cause is not BlockCause.STAFF:
        return Refusal(Reason.NOTHING_DUE)
    full = bool(ledger.parcels_at(door))
    require_quiet(ledger, door, msgspec.structs.replace(reading, item=None) if full else reading)
    seen = CompartmentInput.SEEN_FULL if full else CompartmentInput.SEEN_EMPTY
    ledger.set_compartment(door, compartment.move(row.state, seen))
    tell(ledger, contract.CompartmentReleased(door=door, by=by))
    return None


def clear_seen(ledger: Ledger, door: str, by: str, reading: Reading) -> Refusal | None:
    """Offer a compartment again into which this badge has looked. Raises ``VerificationError`` as ``clear`` does.

    Who has not had the door open cannot know that it is empty, nor that it works; for that there are two persons.
    """
    last = ledger.unlocking(door)
    looked = last is not None and last.cause in {Cause.SERVICE, Cause.CLEANING} and last.opened and last.cause_id == by
    if ledger.parcels_at(door):
        return Refusal(Reason.PARCEL_INSIDE)
    if not looked:
        return Refusal(Reason.LOOK_FIRST)
    clear(ledger, Clear(door), reading, by=by)
    return None


def to_look_at(ledger: Ledger) -> list[tuple[str, str]]:
    """The compartments that are not offered until somebody has looked, each with why: a block's cause, ``blocked``
    where a former release did not keep it, or ``unknown``.
    """
    blocked = LedgerState.BLOCKED
    rows = [row for row in ledger.compartments() if row.state in {blocked, LedgerState.UNKNOWN}]
    return sorted((row.door, row.cause.value if row.cause else row.state.value) for row in rows)
